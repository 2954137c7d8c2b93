# Everything runs in .venv, which each target makes on first use. Needed beforehand: Python >= 3.11 and make.

.DEFAULT_GOAL := help
SHELL := /bin/bash

# The first interpreter that starts and is new enough (a shim on the PATH may do neither).
PYTHON ?= $(shell for p in python3.11 python3 python3.12 python3.13; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && { command -v $$p; break; }; done)
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
READY_PEERS := $(VENV)/.ready-peers
# One exact version, for two reasons: the CPU build satisfies it, and a range would pull gigabytes of CUDA.
TORCH := torch==2.13.0
KILLS ?= 30
# Tests start hundreds of processes, each of which would otherwise compile the whole library.
unexport PYTHONDONTWRITEBYTECODE
# What a bench is given, e.g. make bench ARGS="--quick".
ARGS ?=

.PHONY: help
help: ## Show this list
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 10

$(READY): pyproject.toml
	@test -n "$(PYTHON)" || { echo "no Python >= 3.11 on the PATH; say make PYTHON=/path/to/python3.11"; exit 1; }
	test -x $(BIN)/python || "$(PYTHON)" -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check "$(TORCH)"
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	@touch $@

$(READY_PEERS): $(READY)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[ray-tune]'
	@touch $@

.PHONY: venv
venv: $(READY) ## Make the virtual environment

.PHONY: lint
lint: $(READY) ## Style, types and layers
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

.PHONY: test
test: $(READY) ## Lint, and every test but the long chaos runs
	$(BIN)/python tests/halves.py --beside "make --no-print-directory lint" "ray or s3" tests

.PHONY: chaos
chaos: $(READY) ## Kill workers and drivers KILLS times (30) and compare bit for bit
	$(BIN)/python -m pytest -m "chaos or soak" --kills $(KILLS) --timeout 3600

.PHONY: demo
demo: $(READY) ## A sweep that is killed twice and loses nothing
	$(BIN)/tunekit demo

.PHONY: bench
bench: $(READY) $(READY_PEERS) ## Side by side with Ray Tune and bare Ray
	$(BIN)/python benchmarks/sweeps.py $(ARGS)

.PHONY: format
format: $(READY) ## Let ruff rewrite what it can
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
