# Everything a developer does, from a machine with Debian 12, git, make and Python 3.11. `make help` lists it.
#
# Stamps under build/stamps say what is up to date, so that a second run of any target starts at once.
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

VENV     := .venv
BIN      := $(VENV)/bin
STAMPS   := build/stamps
NATIVE   := src/aliquot/_native
TEST     ?= tests
SUITE    ?= numba-cuda
ARGS     ?=
export ALIQUOT_PYTHON := $(CURDIR)/$(BIN)/python

NATIVE_SOURCES := $(shell find CMakeLists.txt native src/aliquot/catalog/data src/aliquot/limits/layout.* -type f \
                    -not -name '*.md' -not -name '*.pyc' 2>/dev/null)
CLANG_FORMATTED = $(shell git ls-files --cached --others --exclude-standard 'native/*.cpp' 'native/*.hpp' 'native/*.h' \
                    'native/*.c' 'tests/*.cpp' 'tests/*.hpp' 'tests/*.c')

.PHONY: help
help: ## Say what each target does
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' Makefile

.PHONY: run
run: ready ## Two CUDA programs side by side on one simulated card, and a third that asks for too much
	@$(BIN)/python scripts/demo.py $(ARGS)

.PHONY: test
test: ready ## All tests; TEST=path and ARGS=... narrow them
	@$(BIN)/python -m pytest $(TEST) $(ARGS)

.PHONY: bench
bench: ready ## All benchmarks, their figures to out/bench/*.json
	@$(BIN)/aliquot bench --all --json out/bench $(ARGS)

.PHONY: conformance
conformance: ready ## A suite of others on the simulated card: SUITE=numba-cuda (default) or cupy; resumed unless ARGS=--fresh
	@$(BIN)/python -m conformance $(SUITE) --json \
	    out/conformance/$(SUITE)$(if $(findstring --compare,$(ARGS)),-compared).json $(ARGS)

.PHONY: lint
lint: ready ## Style, types, layers, native analysis; warnings are errors
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright --warnings
	$(BIN)/lint-imports
	@$(if $(CLANG_FORMATTED),$(BIN)/clang-format --dry-run -Werror $(CLANG_FORMATTED))
	$(BIN)/python scripts/run_clang_tidy.py

.PHONY: format
format: $(STAMPS)/python ## Put all code into the project's form
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	@$(if $(CLANG_FORMATTED),$(BIN)/clang-format -i $(CLANG_FORMATTED))

.PHONY: test-asan
test-asan: ready ## The native fuzzers and a part of the tests under address and undefined-behaviour sanitizers
	@scripts/setup.sh compiler
	@$(BIN)/python scripts/test_asan.py $(ARGS)

.PHONY: soak
soak: ready ## Random driver calls by 16 processes with kills, ten minutes, on the sanitized build
	@scripts/setup.sh compiler
	@$(BIN)/python scripts/test_asan.py --soak $(ARGS)

.PHONY: gpu-check
gpu-check: ## On a machine with a card: build with what is installed there, test, measure; no network
	@python3 scripts/gpu_check.py $(ARGS)

.PHONY: wheel
wheel: $(STAMPS)/python ## The wheel, into dist/
	$(BIN)/uv build --wheel --out-dir dist --no-build-isolation --python $(BIN)/python

.PHONY: clean
clean: ## Remove what was built; the Python environment stays (make distclean removes it too)
	rm -rf build dist out $(NATIVE)

.PHONY: distclean
distclean: clean ## Remove everything that make made
	rm -rf $(VENV)

.PHONY: native
native: $(STAMPS)/native ## The native part only

.PHONY: ready
ready: $(STAMPS)/python $(STAMPS)/native $(STAMPS)/package

$(STAMPS)/python: requirements/bootstrap.lock requirements/dev.lock scripts/setup.sh
	@scripts/setup.sh python $(VENV)
	@mkdir -p $(@D) && touch $@

$(STAMPS)/package: pyproject.toml $(STAMPS)/python
	@$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation \
	    --config-settings editable.mode=inplace --config-settings wheel.cmake=false --editable .
	@mkdir -p $(@D) && touch $@

$(STAMPS)/native: $(NATIVE_SOURCES) $(STAMPS)/python
	@scripts/build_native.sh build/native $(NATIVE)
	@mkdir -p $(@D) && touch $@
