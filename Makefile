# `make` lists what there is to do. Everything runs in .venv, which is made on the way.

PYTHON ?= python3
BIN := .venv/bin
BENCHMARKS ?= training together curves latency http_curves checkpointing footprint reads diagnosis learning_rate short_jobs queue_depth load_while_training

.DEFAULT_GOAL := help
.PHONY: help demo serve test chaos check bench chromium

help: ## this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "make %-7s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: .venv/.made ## two real jobs compared, and a study that finds a learning rate; everything is stopped again
	$(BIN)/python examples/demo.py

serve: .venv/.made ## run the service until Ctrl-C
	@$(BIN)/trainbox serve

test: .venv/.made chromium ## all tests, or those that ARGS names: make test ARGS="tests/test_plan.py -x"
	$(BIN)/python -m pytest --numprocesses 3 --dist loadfile --no-loadscope-reorder $(ARGS)

chromium:
	@command -v chromium > /dev/null || { test "$$(id -u)" = 0 && command -v apt-get > /dev/null && apt-get -qq update \
		&& apt-get -qq install -y --no-install-recommends chromium > /dev/null; } \
		|| echo "THE PAGE WILL NOT BE TESTED: install Debian's package chromium"

chaos: .venv/.made ## the long tests that kill processes, some minutes
	$(BIN)/python -m pytest -m chaos $(ARGS)

check: .venv/.made ## format, lint and types
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

bench: .venv/.made ## how fast it is, on this machine
	for name in $(BENCHMARKS); do echo "benchmarks.$$name"; $(BIN)/python -m benchmarks.$$name || exit 1; done

.venv/.made: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	@touch $@
