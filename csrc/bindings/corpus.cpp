// Words of a text: buffers in, arrays out, the GIL released.
#include "cpu/corpus/corpus.h"

#include <pybind11/numpy.h>
#include <pybind11/stl.h>

#include <memory>

#include "bindings/reader.h"
#include "bindings/register.h"

namespace py = pybind11;

namespace seqfast::bindings {
namespace {

using cpu::WordReader;

std::unique_ptr<WordReader> make_reader(const std::vector<std::string>& known,
                                        const py::handle& from) {
    const auto args = read<WordReaderArgs>(from);
    return std::make_unique<WordReader>(known, args.frozen, args.max_types, args.threads,
                                        args.part_bytes);
}

py::object to_str(std::string_view word) {
    // Words that Python gave may hold lone surrogates.
    PyObject* text =
        PyUnicode_DecodeUTF8(word.data(), static_cast<Py_ssize_t>(word.size()), "surrogatepass");
    if (!text) throw py::error_already_set();
    return py::reinterpret_steal<py::object>(text);
}

py::list words(WordReader& reader, const py::array_t<int64_t, py::array::c_style>& numbers) {
    const int64_t types = reader.types();
    const int64_t* number = numbers.data();
    py::list list(numbers.size());
    for (py::ssize_t i = 0; i < numbers.size(); ++i) {
        if (number[i] < 0 || number[i] >= types) throw py::index_error("corpus: no such word");
        list[static_cast<size_t>(i)] = to_str(reader.word(number[i]));
    }
    return list;
}

py::array_t<int32_t> take(WordReader& reader) {
    auto ids = std::make_unique<cpu::IdArray>(reader.take());
    const py::capsule owner(ids.get(),
                            [](void* array) { delete static_cast<cpu::IdArray*>(array); });
    const cpu::IdArray& array = *ids.release();
    return py::array_t<int32_t>(array.size(), array.data(), owner);
}

py::array_t<int64_t> counts(WordReader& reader) {
    py::array_t<int64_t> counts(reader.types());
    reader.counts(counts.mutable_data());
    return counts;
}

py::array_t<int64_t> offsets(const WordReader& reader) {
    const std::vector<int64_t> offsets = reader.offsets();
    return py::array_t<int64_t>(static_cast<py::ssize_t>(offsets.size()), offsets.data());
}

int64_t renumber(WordReader& reader, Address ids, int64_t size, Address numbers) {
    return reader.renumber(reinterpret_cast<int32_t*>(ids), size,
                           reinterpret_cast<const int32_t*>(numbers));
}

py::memoryview space(WordReader& reader, size_t size) {
    return py::memoryview::from_memory(reader.space(size), static_cast<py::ssize_t>(size));
}

uint64_t fingerprint(Address data, size_t bytes) {
    return cpu::fingerprint(reinterpret_cast<const void*>(data), bytes);
}

}  // namespace

void register_corpus(py::module_& module) {
    const auto free = py::call_guard<py::gil_scoped_release>();
    py::class_<WordReader>(module, "WordReader")
        .def(py::init(&make_reader), py::arg("known"), py::arg("args"))
        .def("space", space, py::arg("size"))
        .def("feed", &WordReader::feed, py::arg("size"), free)
        .def("end", &WordReader::end, free)
        .def_property_readonly("full", &WordReader::full)
        .def_property_readonly("unread", &WordReader::unread)
        .def_property_readonly("raw_words", &WordReader::raw_words)
        .def_property_readonly("raw_sentences", &WordReader::raw_sentences)
        .def_property_readonly("invalid_bytes", &WordReader::invalid_bytes)
        .def_property_readonly("pending", &WordReader::pending)
        .def_property_readonly("types", &WordReader::types)
        .def("counts", counts)
        .def("words", words, py::arg("numbers"))
        .def(
            "prune",
            [](WordReader& reader, Address keep) {
                reader.prune(reinterpret_cast<const bool*>(keep));
            },
            py::arg("keep"), free)
        .def("take", take)
        .def("renumber", renumber, py::arg("ids"), py::arg("size"), py::arg("numbers"), free)
        .def("offsets", offsets);
    module.def("fingerprint", fingerprint, py::arg("data"), py::arg("bytes"), free);
}

}  // namespace seqfast::bindings
