// A plain call of a recurrent module: what makes it one, and the call of the kernel.
#include "bindings/plain_rnn.h"

#include <cstring>
#include <memory>

#include "bindings/reader.h"
#include "bindings/register.h"
#include "cpu/rnn/rnn.h"

namespace py = pybind11;

namespace seqfast::bindings {
namespace {

bool allowed = true;

// Names that are looked up at each call.
struct Names {
    PyObject* attributes = PyUnicode_InternFromString("__dict__");
    PyObject* parameters = PyUnicode_InternFromString("_parameters");
    PyObject* training = PyUnicode_InternFromString("training");
    PyObject* hidden_size = PyUnicode_InternFromString("hidden_size");
    PyObject* batch_first = PyUnicode_InternFromString("batch_first");
    PyObject* all_weights = PyUnicode_InternFromString("_all_weights");
    PyObject* flat_weights = PyUnicode_InternFromString("_flat_weights");
    PyObject* bidirectional = PyUnicode_InternFromString("bidirectional");
    PyObject* weights[4] = {
        PyUnicode_InternFromString("weight_ih"), PyUnicode_InternFromString("weight_hh"),
        PyUnicode_InternFromString("bias_ih"), PyUnicode_InternFromString("bias_hh")};
};
const Names& names() {
    static const Names all;
    return all;
}

bool dtype_of(dlpack::DataType from, DType& to) {
    if (from.lanes != 1) return false;
    if (from.code == dlpack::kBfloat && from.bits == 16) return to = DType::bfloat16, true;
    if (from.code != dlpack::kFloat) return false;
    switch (from.bits) {
        case 16:
            return to = DType::float16, true;
        case 32:
            return to = DType::float32, true;
        case 64:
            return to = DType::float64, true;
        default:
            return false;
    }
}

bool is_same(dlpack::DataType a, dlpack::DataType b) {
    return a.code == b.code && a.bits == b.bits && a.lanes == b.lanes;
}

// Of the object itself, else of its class; borrowed, or nullptr.
PyObject* attribute(PyObject* object, PyObject* attributes, PyObject* name) {
    PyObject* found = PyDict_GetItemWithError(attributes, name);
    return found ? found : _PyType_Lookup(Py_TYPE(object), name);
}

bool is_equal(PyObject* a, PyObject* b) {
    if (a == b) return true;
    if (PyUnicode_CheckExact(a) && PyUnicode_CheckExact(b)) return PyUnicode_Compare(a, b) == 0;
    if (!PyFloat_CheckExact(a) && !PyLong_CheckExact(a)) return false;
    if (!PyFloat_CheckExact(b) && !PyLong_CheckExact(b)) return false;
    return PyObject_RichCompareBool(a, b, Py_EQ) == 1;
}

// Kept by each thread, as calls are short and fresh pages cost more than they hold.
char* scratch(size_t size) {
    constexpr size_t kMost = 16 << 20;
    thread_local std::unique_ptr<char[]> kept;
    thread_local size_t kept_size = 0;
    if (size > kMost) return nullptr;
    if (size > kept_size) {
        kept.reset(new (std::nothrow) char[size]);
        kept_size = kept ? size : 0;
    }
    return kept.get();
}

void ignore_error(void*, const char*, const char*) {}

TorchAllocator allocator_of(const py::tuple& fields) {
    const auto address = [&](size_t k) {
        return reinterpret_cast<void*>(fields[k].cast<Address>());
    };
    TorchAllocator found{};
    found.empty = reinterpret_cast<decltype(found.empty)>(address(0));
    found.address = reinterpret_cast<decltype(found.address)>(address(1));
    found.release = reinterpret_cast<decltype(found.release)>(address(2));
    found.to_object = reinterpret_cast<decltype(found.to_object)>(address(3));
    const auto dtypes = fields[4].cast<py::tuple>();
    for (size_t k = 0; k < 4; ++k) found.dtypes[k] = dtypes[k].cast<int32_t>();
    return found;
}

template <class Seen>
bool is_contiguous(const Seen& seen) {
    int64_t stride = 1;
    for (int d = seen.dimensions - 1; d >= 0; --d) {
        if (seen.shape[d] != 1 && seen.strides[d] != stride) return false;
        stride *= seen.shape[d];
    }
    return true;
}

}  // namespace

PlainRnn::PlainRnn(const py::capsule& api, const py::object& allocator, const py::tuple& types,
                   const py::object& is_negated, const py::object& threads, const py::tuple& quiet,
                   const py::tuple& levels, const py::handle& options, const py::dict& always,
                   const py::dict& training)
    : api_(static_cast<const dlpack::ExchangeApi*>(
          PyCapsule_GetPointer(api.ptr(), dlpack::kApiName))),
      is_negated_(is_negated),
      threads_(threads),
      options_(read<RnnOptions>(options)) {
    if (!api_) throw py::error_already_set();
    if (api_->version.major != dlpack::kMajor || !api_->look)
        throw py::value_error("PlainRnn: api must be of DLPack 1 and look at tensors");
    if (!allocator.is_none()) allocator_ = allocator_of(allocator.cast<py::tuple>());
    for (const py::handle type : types)
        types_.push_back(reinterpret_cast<PyTypeObject*>(type.inc_ref().ptr()));
    for (const py::handle each : quiet) {
        const auto pair = py::reinterpret_borrow<py::tuple>(each);
        quiet_.emplace_back(pair[0], pair[1]);
    }
    for (const py::handle each : levels) levels_.push_back(each.cast<py::tuple>());
    const auto take = [](const py::dict& from, Wanted& to) {
        for (const auto& [name, value] : from) {
            PyObject* interned = name.inc_ref().ptr();
            PyUnicode_InternInPlace(&interned);
            to.emplace_back(py::reinterpret_steal<py::str>(interned),
                            py::reinterpret_borrow<py::object>(value));
        }
    };
    take(always, always_);
    take(training, training_);
}

bool PlainRnn::has_cell_state() const { return traits_of(options_.cell).has_cell_state; }
int PlainRnn::gates() const { return traits_of(options_.cell).gates; }

bool PlainRnn::is_quiet(bool grad) const {
    for (size_t k = 0; k < quiet_.size(); ++k) {
        const auto& [function, otherwise] = quiet_[k];
        // The first question is whether gradients are wanted.
        const py::handle wanted = k == 0 && grad ? py::handle(Py_True) : py::handle(otherwise);
        PyObject* found = PyObject_CallNoArgs(function.ptr());
        if (!found) throw py::error_already_set();
        Py_DECREF(found);  // True, None and small numbers outlive it
        if (found != wanted.ptr()) return false;
    }
    for (const py::tuple& level : levels_) {
        PyObject* found = PyDict_GetItemWithError(PyTuple_GET_ITEM(level.ptr(), 0),
                                                  PyTuple_GET_ITEM(level.ptr(), 1));
        if (found != PyTuple_GET_ITEM(level.ptr(), 2)) return false;
    }
    return true;
}

bool PlainRnn::is_plain_module(PyObject* module, PyObject* attributes) const {
    const auto fits = [&](const Wanted& wanted) {
        for (const auto& [name, value] : wanted) {
            PyObject* found = attribute(module, attributes, name.ptr());
            if (!found || !is_equal(found, value.ptr())) return false;
        }
        return true;
    };
    if (!fits(always_)) return false;
    return attribute(module, attributes, names().training) == Py_False || fits(training_);
}

bool PlainRnn::look(PyObject* tensor, Seen& to, dlpack::DataType& dtype) const {
    bool known = false;
    for (const PyTypeObject* type : types_) known = known || Py_TYPE(tensor) == type;
    if (!known) return false;
    dlpack::Tensor seen;
    if (api_->look(tensor, &seen) != 0) {
        PyErr_Clear();
        return false;
    }
    if (seen.device.type != dlpack::kCpu || seen.dimensions > 3 || !seen.data) return false;
    if (dtype.bits && !is_same(dtype, seen.dtype)) return false;
    dtype = seen.dtype;
    // The one thing that an address does not tell.
    PyObject* negated = PyObject_CallOneArg(is_negated_.ptr(), tensor);
    if (!negated) throw py::error_already_set();
    Py_DECREF(negated);
    if (negated != Py_False) return false;
    to.data = static_cast<const char*>(seen.data) + seen.byte_offset;
    to.dimensions = seen.dimensions;
    for (int d = 0; d < seen.dimensions; ++d) {
        to.shape[d] = seen.shape[d];
        to.strides[d] = seen.strides[d];
        if (to.shape[d] == 0) return false;
    }
    return true;
}

bool PlainRnn::look_at_states(PyObject* hx, bool contiguous, Seen (&to)[2],
                              dlpack::DataType& dtype) const {
    const auto fits = [&](PyObject* state, Seen& seen) {
        return look(state, seen, dtype) && (!contiguous || is_contiguous(seen));
    };
    to[0] = to[1] = Seen{};
    if (hx == Py_None) return true;
    if (!has_cell_state()) return fits(hx, to[0]);
    if (!PyTuple_CheckExact(hx) || PyTuple_GET_SIZE(hx) != 2) return false;
    for (int k = 0; k < 2; ++k) {
        if (!fits(PyTuple_GET_ITEM(hx, k), to[k])) return false;
    }
    return true;
}

bool PlainRnn::look_at_weights(PyObject* parameters, PyObject* const (&names)[4], bool contiguous,
                               RnnWeights& to, int64_t input_size, int64_t& hidden_size,
                               dlpack::DataType& dtype) const {
    const void* data[4] = {};
    for (int k = 0; k < 4; ++k) {
        if (!names[k]) continue;
        PyObject* weight = PyDict_GetItemWithError(parameters, names[k]);
        if (!weight) return false;
        if (weight == Py_None && k >= 2) continue;
        Seen seen;
        if (!look(weight, seen, dtype) || (contiguous && !is_contiguous(seen))) return false;
        if (seen.dimensions != (k < 2 ? 2 : 1) || seen.shape[0] % gates()) return false;
        const int64_t units = seen.shape[0] / gates();
        if (hidden_size && units != hidden_size) return false;
        hidden_size = units;
        if (k < 2 && seen.shape[1] != (k ? units : input_size)) return false;
        data[k] = seen.data;
    }
    to = {};
    to.weight_ih = data[0];
    to.weight_hh = data[1];
    to.bias_ih = data[2];
    to.bias_hh = data[3];
    return true;
}

py::object PlainRnn::make(dlpack::DataType dtype, const int64_t* shape, int dimensions,
                          void*& data) const {
    DType kind{};
    if (allocator_ && dtype_of(dtype, kind)) {
        PyObject* const result = allocator_->make(kind, shape, dimensions, data);
        if (!result && PyErr_Occurred()) throw py::error_already_set();
        return py::reinterpret_steal<py::object>(result);
    }
    dlpack::Tensor prototype{};
    prototype.device = {dlpack::kCpu, 0};
    prototype.dtype = dtype;
    prototype.dimensions = dimensions;
    prototype.shape = const_cast<int64_t*>(shape);
    dlpack::ManagedTensor* made = nullptr;
    void* object = nullptr;
    if (api_->allocate(&prototype, &made, nullptr, &ignore_error) != 0) return {};
    data = static_cast<char*>(made->tensor.data) + made->tensor.byte_offset;
    if (api_->to_object(made, &object) != 0) throw py::error_already_set();
    return py::reinterpret_steal<py::object>(static_cast<PyObject*>(object));
}

bool PlainRnn::run(RnnForwardArgs& args) const {
    const RnnSizes& sizes = args.sizes;
    const double work =
        2.0 * gates() * static_cast<double>(sizes.steps * sizes.batch) *
        static_cast<double>(sizes.hidden_size * (sizes.input_size + sizes.hidden_size));
    args.sizes.threads = 1;
    if (work > 4e5) args.sizes.threads = py::cast<int>(threads_());
    args.workspace_size = cpu::rnn_workspace_size(args);
    args.workspace = scratch(args.workspace_size);
    if (!args.workspace) return false;
    if (work < 1e6) {  // a few microseconds: to hand the GIL over would take longer
        cpu::rnn_forward(args);
    } else {
        py::gil_scoped_release release;
        cpu::rnn_forward(args);
    }
    return true;
}

bool PlainRnn::look_at_step(PyObject* parameters, PyObject* input, PyObject* hx, bool contiguous,
                            Step& to) const {
    Seen& x = to.input;
    if (!look(input, x, to.dtype) || (x.dimensions != 1 && x.dimensions != 2) ||
        !look_at_states(hx, contiguous, to.states, to.dtype) ||
        !look_at_weights(parameters, names().weights, contiguous, to.weights, to.input_size(),
                         to.hidden_size, to.dtype))
        return false;
    for (const Seen& state : to.states) {
        if (!state.data) continue;
        if (state.dimensions != x.dimensions) return false;
        if (state.shape[x.dimensions - 1] != to.hidden_size) return false;
        if (to.batched() && state.shape[0] != to.batch()) return false;
    }
    return true;
}

py::object PlainRnn::weights_to_train(const py::handle& module, const py::handle& input,
                                      const py::handle& hx) const {
    PyObject** place = _PyObject_GetDictPtr(module.ptr());
    if (!allowed || !place || !*place || !is_quiet(true) || !is_plain_module(module.ptr(), *place))
        return py::none();
    PyObject* parameters = PyDict_GetItemWithError(*place, names().parameters);
    Step step;
    if (!parameters || !PyDict_CheckExact(parameters) ||
        !look_at_step(parameters, input.ptr(), hx.ptr(), false, step) || !step.batched())
        return py::none();
    // In 16 bits torch rounds every number between the gates, and the kernels do not.
    DType dtype;
    if (!dtype_of(step.dtype, dtype) || step.dtype.bits < 32) return py::none();
    py::tuple weights(4);
    for (int k = 0; k < 4; ++k) {
        PyObject* weight = PyDict_GetItemWithError(parameters, names().weights[k]);
        weights[static_cast<size_t>(k)] = py::reinterpret_borrow<py::object>(weight);
    }
    return weights;
}

py::object PlainRnn::cell(const py::handle& module, const py::handle& input,
                          const py::handle& hx) const {
    PyObject** place = _PyObject_GetDictPtr(module.ptr());
    if (!allowed || !place || !*place || !is_quiet(false) || !is_plain_module(module.ptr(), *place))
        return py::none();
    PyObject* parameters = PyDict_GetItemWithError(*place, names().parameters);
    Step given;
    if (!parameters || !PyDict_CheckExact(parameters) ||
        !look_at_step(parameters, input.ptr(), hx.ptr(), true, given))
        return py::none();
    const Seen& x = given.input;
    const Seen(&states)[2] = given.states;
    const dlpack::DataType dtype = given.dtype;
    const bool batched = given.batched();
    RnnForwardArgs args{};
    RnnSizes& sizes = args.sizes;
    sizes.steps = sizes.directions = 1;
    sizes.batch = given.batch();
    sizes.input_size = given.input_size();
    sizes.hidden_size = given.hidden_size;
    args.weights[0] = given.weights;
    if (sizes.input_size > 1 && x.strides[x.dimensions - 1] != 1) return py::none();
    if (!dtype_of(dtype, sizes.dtype)) return py::none();
    const int64_t row = batched && sizes.batch > 1 ? x.strides[0] : sizes.input_size;
    if (row <= 0) return py::none();
    args.options = options_;
    args.input = {x.data, row * sizes.batch, row};
    args.hidden = states[0].data;
    args.cell = states[1].data;
    const int64_t shape[2] = {sizes.batch, sizes.hidden_size};
    const int64_t* const outer = batched ? shape : shape + 1;
    void *hidden_n = nullptr, *cell_n = nullptr;
    const py::object hidden = make(dtype, outer, x.dimensions, hidden_n);
    if (!hidden) return py::none();
    py::object cell;
    if (has_cell_state()) {
        cell = make(dtype, outer, x.dimensions, cell_n);
        if (!cell) return py::none();
    }
    // After one step the output is the state.
    args.output = args.hidden_n = hidden_n;
    args.cell_n = cell_n;
    if (!run(args)) return py::none();
    if (!cell) return hidden;
    return py::reinterpret_steal<py::object>(PyTuple_Pack(2, hidden.ptr(), cell.ptr()));
}

py::object PlainRnn::layer(const py::handle& module, const py::handle& input,
                           const py::handle& hx) const {
    PyObject** place = _PyObject_GetDictPtr(module.ptr());
    if (!allowed || !place || !*place || !is_quiet(false) || !is_plain_module(module.ptr(), *place))
        return py::none();
    PyObject* attributes = *place;
    const Names& name = names();
    PyObject* parameters = PyDict_GetItemWithError(attributes, name.parameters);
    PyObject* every = PyDict_GetItemWithError(attributes, name.all_weights);
    if (!parameters || !PyDict_CheckExact(parameters) || !every || !PyList_CheckExact(every) ||
        PyDict_GetItemWithError(attributes, name.flat_weights))
        return py::none();
    const bool both = attribute(module.ptr(), attributes, name.bidirectional) == Py_True;
    const bool batch_first = attribute(module.ptr(), attributes, name.batch_first) == Py_True;
    dlpack::DataType dtype{};
    Seen x, states[2];
    if (!look(input.ptr(), x, dtype) || x.dimensions != 3 ||
        !look_at_states(hx.ptr(), true, states, dtype))
        return py::none();
    const int time = batch_first ? 1 : 0;
    RnnForwardArgs args{};
    RnnSizes& sizes = args.sizes;
    sizes.steps = x.shape[time];
    sizes.batch = x.shape[1 - time];
    sizes.input_size = x.shape[2];
    sizes.directions = both ? 2 : 1;
    // Results are of one layout, with the steps outside.
    if (batch_first && sizes.steps > 1 && sizes.batch > 1) return py::none();
    const int64_t row = sizes.batch > 1 ? x.strides[1 - time] : sizes.input_size;
    const int64_t step = sizes.steps > 1 ? x.strides[time] : row * sizes.batch;
    if (row <= 0 || step <= 0 || (sizes.input_size > 1 && x.strides[2] != 1)) return py::none();
    const Py_ssize_t rows = PyList_GET_SIZE(every);
    const int64_t layers = rows / sizes.directions;
    if (rows == 0 || rows % sizes.directions) return py::none();

    std::vector<RnnWeights> weights(static_cast<size_t>(rows));
    int64_t hidden_size = 0;
    for (Py_ssize_t r = 0; r < rows; ++r) {
        PyObject* list = PyList_GET_ITEM(every, r);
        if (!PyList_CheckExact(list)) return py::none();
        const Py_ssize_t count = PyList_GET_SIZE(list);
        if (count != 2 && count != 4) return py::none();
        PyObject* of[4] = {};
        for (Py_ssize_t k = 0; k < count; ++k) of[k] = PyList_GET_ITEM(list, k);
        const int64_t width =
            r < sizes.directions ? sizes.input_size : sizes.directions * hidden_size;
        if (!look_at_weights(parameters, of, true, weights[static_cast<size_t>(r)], width,
                             hidden_size, dtype))
            return py::none();
    }
    // A tuple of sizes has states of another form.
    PyObject* size = attribute(module.ptr(), attributes, name.hidden_size);
    if (!size || !PyLong_CheckExact(size)) return py::none();
    sizes.hidden_size = hidden_size;
    if (!dtype_of(dtype, sizes.dtype)) return py::none();
    for (const Seen& state : states) {
        if (state.data && (state.dimensions != 3 || state.shape[0] != rows ||
                           state.shape[1] != sizes.batch || state.shape[2] != hidden_size))
            return py::none();
    }

    const int64_t width = sizes.directions * hidden_size;
    const int64_t output_shape[3] = {x.shape[0], x.shape[1], width};
    const int64_t state_shape[3] = {rows, sizes.batch, hidden_size};
    std::vector<py::object> outputs;
    void *hidden_n = nullptr, *cell_n = nullptr;
    const py::object hidden = make(dtype, state_shape, 3, hidden_n);
    if (!hidden) return py::none();
    py::object cell;
    if (has_cell_state()) {
        cell = make(dtype, state_shape, 3, cell_n);
        if (!cell) return py::none();
    }
    args.options = options_;
    args.input = {x.data, step, row};
    const int64_t state_bytes = sizes.directions * sizes.batch * hidden_size * (dtype.bits / 8);
    const auto part = [&](auto* base, int64_t l) {
        using Byte = std::conditional_t<std::is_const_v<std::remove_pointer_t<decltype(base)>>,
                                        const char, char>;
        return base ? static_cast<decltype(base)>(static_cast<Byte*>(base) + l * state_bytes)
                    : nullptr;
    };
    for (int64_t l = 0; l < layers; ++l) {
        for (int64_t d = 0; d < sizes.directions; ++d)
            args.weights[d] = weights[static_cast<size_t>(l * sizes.directions + d)];
        args.hidden = part(states[0].data, l);
        args.cell = part(states[1].data, l);
        args.hidden_n = part(hidden_n, l);
        args.cell_n = part(cell_n, l);
        py::object output = make(dtype, output_shape, 3, args.output);
        if (!output) return py::none();
        args.options.layer = static_cast<int>(l);
        if (!run(args)) return py::none();
        args.input = {args.output, sizes.batch * width, width};
        sizes.input_size = width;
        outputs.push_back(std::move(output));
    }
    py::object found =
        cell ? py::reinterpret_steal<py::object>(PyTuple_Pack(2, hidden.ptr(), cell.ptr()))
             : hidden;
    return py::reinterpret_steal<py::object>(PyTuple_Pack(2, outputs.back().ptr(), found.ptr()));
}

void register_plain_rnn(py::module_& module) {
    py::class_<PlainRnn>(module, "PlainRnn")
        .def(py::init<const py::capsule&, const py::object&, const py::tuple&, const py::object&,
                      const py::object&, const py::tuple&, const py::tuple&, const py::handle&,
                      const py::dict&, const py::dict&>())
        .def("cell", &PlainRnn::cell)
        .def("weights_to_train", &PlainRnn::weights_to_train)
        .def("layer", &PlainRnn::layer);
    module.def("allow_plain_calls", [](bool allow) { allowed = allow; });
}

}  // namespace seqfast::bindings
