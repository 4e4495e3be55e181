# make demo   set up and run the main job          make test    set up and pass the tests
# make check  tests, format, lint, types, import contracts

PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
# The small CPU build of torch on x86-64; PyPI's own is several GB of CUDA. Empty: whatever pip is configured for.
TORCH_INDEX ?= https://download.pytorch.org/whl/cpu
ARGS ?=

.DEFAULT_GOAL := help
.PHONY: help demo test static check docs clean

help:
	@sed -n '1,2s/^# //p' Makefile

$(VENV)/ready: pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit("Understudy needs Python 3.10 or later; try make PYTHON=python3.11 ..." if sys.version_info < (3, 10) else 0)'
	@echo "setting up $(VENV) (once, a minute or two)"
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check --upgrade pip
	@if [ "$$(uname -m)" = x86_64 ] && [ -n "$(TORCH_INDEX)" ] && ! $(BIN)/python -c 'import torch' 2>/dev/null; then \
	  $(BIN)/pip install --quiet --disable-pip-version-check --retries 0 --timeout 10 \
	    --index-url $(TORCH_INDEX) torch==2.13.0 2>/dev/null \
	  || echo "no CPU build of torch at $(TORCH_INDEX); taking the default one"; fi
	$(BIN)/pip install --quiet --disable-pip-version-check --editable '.[train,demo,camera,bench,dev]'
	@touch $@

demo: $(VENV)/ready
	@$(BIN)/understudy demo $(ARGS)

test: $(VENV)/ready
	$(BIN)/python -m pytest $(ARGS)

static: $(VENV)/ready
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

check: test static

docs: $(VENV)/ready
	$(BIN)/python -m docs.make_configuration > docs/configuration.md

clean:
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
