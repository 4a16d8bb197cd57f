# The two commands of the README (`make ask`, `make test`) and what a developer needs beside them.
# Everything runs in .venv, which is made by the first command that needs it.
SHELL := /bin/bash
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: setup ask test test-fast test-editors check format clean
.PHONY: bench bench-cli bench-engine bench-index bench-retrieval bench-context bench-editors

setup: $(STAMP)

$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --disable-pip-version-check -q -c constraints.txt -e '.[dev]'
	touch $@

# make ask Q="Where is a request retried?" DIR=/path/to/repo [MODEL=file.gguf]
DIR ?= .
ask: $(STAMP)
	@$(BIN)/lsp-assist ask $(if $(MODEL),--model '$(MODEL)') --dir '$(subst ','\'',$(DIR))' -- '$(subst ','\'',$(Q))'

test: $(STAMP)
	$(BIN)/python -m pytest -n auto

test-fast: $(STAMP)
	$(BIN)/python -m pytest -m 'not slow' -n 2

test-editors: $(STAMP)
	$(BIN)/python -m pytest -n auto tests/editors

check: $(STAMP)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/python -m pytest -n auto

format: $(STAMP)
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: bench-cli bench-engine bench-index bench-retrieval bench-context bench-editors

bench-cli: $(STAMP)
	$(BIN)/python -m tests.bench.cli

bench-engine: $(STAMP)
	$(BIN)/python -m tests.bench.engine

bench-context: $(STAMP)
	$(BIN)/python -m tests.bench.context

# Compares with universal-ctags, which must be there.
bench-index: $(STAMP)
	$(BIN)/python -m tests.bench.index

bench-retrieval: $(STAMP)
	$(BIN)/python -m tests.bench.retrieval

bench-editors: $(STAMP)
	$(BIN)/python -m tests.bench.editors

clean:
	rm -rf $(VENV) build dist
