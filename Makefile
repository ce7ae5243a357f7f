# Two commands do everything on a fresh Debian 12 (root, git, make): `make demo` and `make test`.
SHELL := /bin/bash
PYTHON_BIN := .venv/bin

.PHONY: help setup demo test check format sim fuzz mutants bench-null bench-faults bench-recovery chaos power-loss replay clean

help:  ## Say what the commands do
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

setup:  ## Install Debian packages and the virtual environment .venv
	@.ci/setup

demo: setup  ## Serve RUBiS from a one-machine cell of real virtual machines, under load; report in var/demo
	$(PYTHON_BIN)/spare demo

test: setup  ## All tests: real virtual machines, databases, namespaces, simulation (under 20 minutes after set-up)
	@.ci/test

check: setup  ## Lint, types, import contracts and fast tests (under two minutes)
	$(PYTHON_BIN)/ruff check .
	$(PYTHON_BIN)/ruff format --check .
	$(PYTHON_BIN)/mypy
	$(PYTHON_BIN)/lint-imports
	$(PYTHON_BIN)/python -m pytest -q -n 2 -m "not vm and not netns and not disk and not db and not browser and not slow"

format: setup  ## Format and sort imports
	$(PYTHON_BIN)/ruff check --fix .
	$(PYTHON_BIN)/ruff format .

SEEDS ?= 2000
sim: setup  ## Simulate the whole cell: make sim SEEDS=2000
	$(PYTHON_BIN)/python -m tests.simulation --seeds $(SEEDS)

fuzz: setup  ## 1,000,000 mutations per parser and 10,000 over each live port
	$(PYTHON_BIN)/python -m tests.fuzz

mutants: setup  ## Mutation testing of the cores, up to two hours, resumable; results in var/mutants
	$(PYTHON_BIN)/python -m tests.mutation

bench-null: setup  ## Cost of replication alone; report in var/bench/null
	$(PYTHON_BIN)/spare bench null

bench-faults: setup  ## How long clients wait when something fails; report and pictures in var/bench/faults
	$(PYTHON_BIN)/spare bench faults

bench-recovery: setup  ## What clients notice of proactive recoveries; report and pictures in var/bench/recovery
	$(PYTHON_BIN)/spare bench recovery

SCHEDULES ?= standard pairs
chaos: setup  ## Faults under load on real virtual machines: make chaos SCHEDULES="quick standard pairs"; reports in var/chaos
	for schedule in $(SCHEDULES); do $(PYTHON_BIN)/spare chaos $$schedule --directory var/chaos/$$schedule || exit 1; done

DRIVER ?= libvirt
power-loss: setup  ## Power cuts of whole cells: make power-loss DRIVER=subprocess; report in var/power-loss
	$(PYTHON_BIN)/python -m tests.power_loss --driver $(DRIVER)

replay: setup  ## Record 5,000 requests live from virtual machines, execute them again in a fresh one; report in var/replay
	$(PYTHON_BIN)/python -m benchmarks.machine_replay

clean:  ## Remove what was built; running cells stay
	rm -rf var .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
