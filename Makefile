# `make run` and `make test` need Python 3.11 or later and install everything else themselves.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
TORCH  ?= torch
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest

.PHONY: help run test test-fast test-torch test-gpu test-long test-slurm bench bench-gpu api lint type format clean

help:  ## list these targets
	@sed -n 's/^\([a-z-]*\):.*  ## /  make \1\t/p' $(MAKEFILE_LIST) | expand -t 18

$(VENV)/installed: pyproject.toml
	@echo "Installing noderun into $(VENV): torch with its GPU libraries is large; expect about 3 minutes and 6 GB." >&2
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --editable . '$(TORCH)'
	@touch $@

$(VENV)/installed-dev: $(VENV)/installed
	@echo "Installing the tools for lint, type checks and tests." >&2
	$(BIN)/python -m pip install --quiet --editable '.[dev]'
	@touch $@

run: $(VENV)/installed  ## install, train the default experiment (an ODE-Net on 4,000 digits) and show its table
	$(BIN)/noderun train

test: $(VENV)/installed-dev  ## lint, type checks and the fast tests, side by side
	$(MAKE) --no-print-directory -j 2 lint type test-fast

test-fast: $(VENV)/installed-dev
	$(PYTEST) -n 2 --dist worksteal

test-torch:  ## `make test` with another torch release, in .venv-VERSION: make test-torch VERSION=2.11.0
	@test -n "$(VERSION)" || { echo "Name a torch release: make test-torch VERSION=2.11.0" >&2; exit 2; }
	$(MAKE) test VENV=.venv-$(VERSION) TORCH=torch==$(VERSION)

test-gpu: $(VENV)/installed-dev  ## the tests that need a GPU, skipped with their reason without one
	$(PYTEST) -m cuda

test-long: $(VENV)/installed-dev  ## the slow tests
	$(PYTEST) -m long

test-slurm: $(VENV)/installed-dev  ## sweeps on a Slurm cluster of this machine, started and stopped here (as root, with slurm-wlm and munge)
	$(PYTEST) -m slurm tests/slurm

bench: $(VENV)/installed-dev  ## benchmark against torchdiffeq, torchode and diffrax (about 10 minutes) and update docs/performance.md
	$(BIN)/python -m pip install --quiet --editable '.[bench]'
	$(BIN)/noderun bench hydra.run.dir=outputs/bench/make
	sed -i.before -e '/^<!-- bench -->$$/,/^<!-- end of bench -->$$/{//!d;}' \
		-e '/^<!-- bench -->$$/r outputs/bench/make/tables.md' docs/performance.md
	rm docs/performance.md.before
	cp outputs/bench/make/figures/* docs/figures/performance/

bench-gpu: $(VENV)/installed-dev  ## the same of one GPU (about 5 minutes), into the page's section "On a GPU"
	$(BIN)/python -m pip install --quiet --editable '.[bench]'
	$(BIN)/noderun bench suite=gpu device=cuda hydra.run.dir=outputs/bench/gpu
	sed -i.before -e '/^<!-- bench-gpu -->$$/,/^<!-- end of bench-gpu -->$$/{//!d;}' \
		-e '/^<!-- bench-gpu -->$$/r outputs/bench/gpu/tables.md' docs/performance.md
	rm docs/performance.md.before

api: $(VENV)/installed  ## write docs/api.md from the docstrings
	$(BIN)/python docs/make_api.py

lint: $(VENV)/installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

type: $(VENV)/installed-dev
	$(BIN)/mypy

format: $(VENV)/installed-dev  ## format the code with ruff
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:  ## remove caches and builds; keep runs and the environment
	rm -rf build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis
