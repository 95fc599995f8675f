# The front door. `make help` lists what there is; `make` alone serves the example.
#
# Every target does the set-up that it needs, and is quick when there is nothing to do.
#   PYTHON=/path/to/python  the Python to build with (default: the newest >= 3.13 found)
#   VENV=.venv              where the environment lies
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.ONESHELL:
.DEFAULT_GOAL := serve

VENV ?= .venv
BUILD ?= build
HOST ?= 127.0.0.1
PORT ?= 8000
WORKERS ?= $(shell nproc)

PY := $(VENV)/bin/python
export PATH := $(abspath $(VENV))/bin:$(PATH)
PIP := $(PY) -m pip --disable-pip-version-check --quiet
SOURCES := $(shell find src include python meson.build meson.options pyproject.toml \
	-type f -not -name '*.pyc')
C_SOURCES := $(shell find src include tests/c fuzz -name '*.[ch]' 2>/dev/null)

-include tools/pythons.mk

##@ Run
serve: build $(VENV)/.example  ## serve the FastAPI example on every core, in one process
	exec $(VENV)/bin/atoll serve main:app --app-dir examples/fastapi_app \
		--host $(HOST) --port $(PORT) --workers $(WORKERS)

doctor: build  ## what of this environment imports in an interpreter, and how
	$(VENV)/bin/atoll doctor

##@ Build
setup: $(VENV)/.ready  ## the environment, without building

$(VENV)/.ready: pyproject.toml tools/find-python tools/system-packages tools/requirements
	@tools/system-packages build
	python=$$(PYTHON='$(PYTHON)' tools/find-python)
	# One whose making was cut off has no pip yet.
	$(PY) -m pip --version > /dev/null 2>&1 || "$$python" -m venv $(VENV)
	$(PY) -c 'import sys; sys.exit(sys.version_info < (3, 13))' || {
		echo "$(VENV) is of $$($(PY) -V): remove it, or name another with VENV=" >&2
		exit 1
	}
	echo "environment: $$($(PY) -VV) in $(VENV)"
	$(PY) tools/requirements build run > $(VENV)/requirements.txt
	echo "installing what the build needs"
	$(PIP) install -r $(VENV)/requirements.txt
	touch $@

$(VENV)/.example: pyproject.toml $(VENV)/.ready
	@echo "installing what the example needs"
	$(PIP) install $$($(PY) tools/requirements example)
	touch $@

$(VENV)/.test: pyproject.toml $(VENV)/.ready
	@tools/system-packages check
	$(PY) tools/requirements example test lint > $(VENV)/requirements-test.txt
	echo "installing what the tests need"
	$(PIP) install -r $(VENV)/requirements-test.txt
	touch $@ $(VENV)/.example

build: $(VENV)/.built  ## compile and install the package into the environment

$(VENV)/.built: $(SOURCES) $(VENV)/.ready
	@echo "building atoll"
	$(PIP) install --no-build-isolation --no-deps --force-reinstall \
		-Cbuild-dir=$(BUILD)/package -Csetup-args=-Dwerror=true .
	touch $@

wheel: $(VENV)/.ready  ## a wheel for this Python, in dist/
	$(PIP) wheel --no-build-isolation --no-deps -w dist .
	ls dist

##@ Test
test: build lint test-c asan tsan test-py  ## everything that must pass before a change lands

test-py: build $(VENV)/.test  ## the Python tests (ARGS="-k name" for some of them)
	$(PY) -m pytest -m "not slow" $(ARGS)

test-all: build $(VENV)/.test  ## the Python tests, the slow ones included
	$(PY) -m pytest $(ARGS)

test-c: $(BUILD)/c/build.ninja  ## the C tests, with failing allocations
	$(VENV)/bin/meson test -C $(BUILD)/c --print-errorlogs --no-suite slow

asan: $(BUILD)/asan/build.ninja  ## the C tests under AddressSanitizer and UBSan
	ASAN_OPTIONS=detect_leaks=1 UBSAN_OPTIONS=halt_on_error=1 \
		$(VENV)/bin/meson test -C $(BUILD)/asan --print-errorlogs

tsan: $(BUILD)/tsan/build.ninja  ## the C tests under ThreadSanitizer
	TSAN_OPTIONS=halt_on_error=1:suppressions=$(CURDIR)/tests/c/tsan.supp \
		setarch -R $(VENV)/bin/meson test -C $(BUILD)/tsan --print-errorlogs

# The Python-free parts with their tests, as a debug build of their own.
PART_OPTIONS := -Dpython_module=false -Ddevelopment=true -Dtests=true -Dwerror=true \
	-Dbuildtype=debugoptimized -Db_ndebug=false
$(BUILD)/c/build.ninja: $(VENV)/.ready
	$(VENV)/bin/meson setup $(BUILD)/c $(PART_OPTIONS)
$(BUILD)/asan/build.ninja: $(VENV)/.ready
	$(VENV)/bin/meson setup $(BUILD)/asan $(PART_OPTIONS) \
		-Db_sanitize=address,undefined -Db_lundef=false
$(BUILD)/tsan/build.ninja: $(VENV)/.ready
	$(VENV)/bin/meson setup $(BUILD)/tsan $(PART_OPTIONS) \
		-Db_sanitize=thread -Db_lundef=false

aarch64: $(BUILD)/aarch64/build.ninja  ## the C tests on the other processor, by qemu
	$(VENV)/bin/meson test -C $(BUILD)/aarch64 --print-errorlogs -t 6
$(BUILD)/aarch64/build.ninja: $(VENV)/.ready
	@tools/system-packages aarch64
	$(VENV)/bin/meson setup $(BUILD)/aarch64 --cross-file tools/aarch64.ini $(PART_OPTIONS)

lint: build $(VENV)/.test  ## style, types, the order of the house, names in documents
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy python/atoll tests/typing
	$(PY) -m mypy.stubtest --concise atoll._atoll
	! test -x $(VENV)/bin/pyright || $(VENV)/bin/pyright --pythonpath $(PY) tests/typing
	$(PY) tools/check_house.py
	$(PY) tools/check_names.py
	$(PY) tools/check_globals.py $(BUILD)/package

tidy:  ## clang: thread-safety of every C function, clang-tidy (needs clang)
	@tools/clang-checks $(BUILD)

fmt: $(VENV)/.test  ## format C and Python
	$(VENV)/bin/ruff check --fix-only --quiet . || true
	$(VENV)/bin/ruff format --quiet .
	clang-format -i $(C_SOURCES)

fuzz:  ## each fuzz target for SECONDS_EACH=60 (needs clang)
	tools/fuzz $(BUILD) $${SECONDS_EACH:-60}

##@ Measure
bench: build $(VENV)/.test  ## the benchmarks, each against its peers (ARGS for one)
	@tools/system-packages bench
	$(PIP) install $$($(PY) tools/requirements bench)
	tools/bench $(PY) $(ARGS)

suites: build $(VENV)/.test  ## packages' own tests, run inside interpreters; writes docs/suites.md
	$(PY) tools/suites.py $(ARGS)

cpython-suites:  ## CPython 3.14's own suites of interpreters, against atoll's interface
	tools/pythons build 3.14
	tools/pythons run 3.14 -- python tools/cpython_suites $(ARGS)

compat: build $(VENV)/.test  ## the matrix of packages; writes docs/compat.md
	$(PY) tools/compat.py $(ARGS)

##@ Else
clean:  ## remove what was built; the environment stays
	rm -rf $(BUILD) dist $(VENV)/.built

help:  ## this list
	@awk 'BEGIN {FS = ":.*##"} /^##@/ {printf "\n%s\n", substr($$0, 5)} \
		/^[a-zA-Z0-9_.-]+:.*##/ {printf "  make %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: serve doctor setup build wheel test test-py test-all test-c asan tsan aarch64 lint tidy \
	fmt fuzz bench suites cpython-suites compat clean help
