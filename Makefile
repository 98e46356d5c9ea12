# `make run` and `make test` do everything on a machine that has Python 3.11 or later and nothing else.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
TORCH  ?= torch
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest

.PHONY: help run test test-torch test-long bench api lint type format clean

help:  ## what can be made
	@sed -n 's/^\([a-z-]*\):.*  ## /  make \1\t/p' $(MAKEFILE_LIST) | expand -t 18

$(VENV)/installed: pyproject.toml
	@echo "Installing noderun into $(VENV): torch with its GPU libraries is large, expect about 3 minutes and 6 GB." >&2
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --editable . '$(TORCH)'
	@touch $@

$(VENV)/installed-dev: $(VENV)/installed
	@echo "Adding what lint, types and tests need." >&2
	$(BIN)/python -m pip install --quiet --editable '.[dev]'
	@touch $@

run: $(VENV)/installed  ## install, train the default experiment (an ODE-Net on 4,000 digits), show its table
	$(BIN)/noderun train

test: $(VENV)/installed-dev lint type  ## lint, types and the fast proofs
	$(PYTEST) -n 2 --dist worksteal

test-torch:  ## the same with another torch, in .venv-VERSION: make test-torch VERSION=2.11.0
	@test -n "$(VERSION)" || { echo "which torch? make test-torch VERSION=2.11.0" >&2; exit 2; }
	$(MAKE) test VENV=.venv-$(VERSION) TORCH=torch==$(VERSION)

test-long: $(VENV)/installed-dev  ## the slow proofs
	$(PYTEST) -m long

bench: $(VENV)/installed-dev  ## this engine beside its peers (about 10 minutes); docs/performance.md gets its numbers
	$(BIN)/python -m pip install --quiet --editable '.[bench]'
	$(BIN)/noderun bench hydra.run.dir=outputs/bench/make
	sed -i.before -e '/^<!-- bench -->$$/,/^<!-- end of bench -->$$/{//!d;}' \
		-e '/^<!-- bench -->$$/r outputs/bench/make/tables.md' docs/performance.md
	rm docs/performance.md.before
	cp outputs/bench/make/figures/* docs/figures/performance/

api: $(VENV)/installed  ## docs/api.md out of the docstrings
	$(BIN)/python docs/make_api.py

lint: $(VENV)/installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

type: $(VENV)/installed-dev
	$(BIN)/mypy

format: $(VENV)/installed-dev  ## let ruff lay out the code
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:  ## remove caches and builds, keep runs and the environment
	rm -rf build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis
