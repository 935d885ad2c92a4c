# Everything a user or CI runs. The virtual environment is made on first use and kept while pyproject.toml is unchanged.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
CONFIG ?= configs/default.yaml
PORT ?= 8000
TESTS ?= tests
# `WORKERS="-n 2 --dist loadscope --no-loadscope-reorder"` runs two files at a time (tests/conftest.py).
WORKERS ?=
VLLM_ENV ?= .venv-vllm
VLLM_GPUS ?= 0
VLLM_TESTS ?= tests/vllm

.PHONY: serve test test-vllm check bench books faults tails votes soak batch build clean

$(VENV)/installed: pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(None if (3, 11) <= sys.version_info < (3, 14) else "Python 3.11 to 3.13 is needed, this is " + sys.version.split()[0])'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check --editable .
	touch $@

$(VENV)/installed-test: $(VENV)/installed
	$(BIN)/pip install --quiet --disable-pip-version-check --editable '.[test]'
	touch $@

serve: $(VENV)/installed
	exec $(BIN)/orchestrator serve --config $(CONFIG) --port $(PORT)

test: $(VENV)/installed-test
	$(BIN)/python -m pytest $(WORKERS) $(TESTS)

# vLLM itself behind the endpoint: on the CPU, by a build that is installed into VLLM_ENV and kept there; or by an interpreter
# that has it, `make test-vllm VLLM_PYTHON=/opt/vllm/bin/python VLLM_GPUS=1`.
test-vllm: $(VENV)/installed-test
ifdef VLLM_PYTHON
	VLLM_PYTHON=$(VLLM_PYTHON) VLLM_GPUS=$(VLLM_GPUS) $(BIN)/python -m pytest $(VLLM_TESTS)
else
	$(BIN)/python -m tests.vllm.environment $(VLLM_ENV)
	VLLM_PYTHON=$(abspath $(VLLM_ENV))/bin/python VLLM_GPUS=$(VLLM_GPUS) $(BIN)/python -m pytest $(VLLM_TESTS)
endif

check: $(VENV)/installed-test
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

bench: $(VENV)/installed-test
	$(BIN)/python -m bench

books: $(VENV)/installed-test
	$(BIN)/python -m bench.books

faults: $(VENV)/installed-test
	$(BIN)/python -m bench.faults $(TIMES)

tails: $(VENV)/installed-test
	$(BIN)/python -m bench.tails

votes: $(VENV)/installed-test
	$(BIN)/python -m bench.votes $(DATA)

soak: $(VENV)/installed-test
	$(BIN)/python -m bench.soak

batch: $(VENV)/installed-test
	$(BIN)/python -m bench.batch

build: $(VENV)/installed-test
	$(BIN)/python -m build --outdir dist .

clean:
	rm -rf $(VENV) .venv-vllm dist build .pytest_cache .mypy_cache .ruff_cache .hypothesis
