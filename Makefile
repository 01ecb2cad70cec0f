# Two commands do everything on a fresh machine: `make demo` and `make test`.
BIN := .venv/bin
PYTHON ?= python3.11
export PYTHON
# Without byte code on disk, every process compiles every library again.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help setup demo demo-real test test-quick families faults mutations check format pins bench-setup clean

help:  ## show this help
	@grep -E '^[a-z-]+:.*##' Makefile | sed 's/:.*##/\t/' | expand -t 14

setup:  ## build both environments from the pinned files
	@deployments/environments/install

demo: setup  ## set up and run the embedded recipe: the whole night, on two CPU cores
	@$(BIN)/retune run --recipe embedded

demo-real: setup  ## the whole night on a real model of 135 million parameters, in half an hour on two CPU cores
	@$(BIN)/retune model get smollm2-135m-instruct
	@$(BIN)/retune run --recipe smollm2-135m-cpu

test: setup  ## set up and run all tests, a file at a time on each of two cores
	@$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder

test-quick: setup  ## the tests that take no model and no minute
	@$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder -m "not slow and not e2e and not gpu"

families: setup  ## train every model family, take every method through a night; in CI when pins change
	@$(BIN)/python -m pytest -m "families"

faults: setup  ## kill trainings and a vLLM, take memory away; in CI when pins change
	@$(BIN)/python -m pytest -m "faults"

mutations: setup  ## make 60 small mutations of the code, and count those that a quick test catches (an hour)
	@rm -f .retune/mutations.json
	@$(BIN)/python -m tests.mutations.run --out .retune/mutations.json

check: setup  ## format, lint, types, import rules, layout
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports --no-logo
	@$(BIN)/python -m pytest -q tests/test_layout.py

format: setup  ## format, and fix what lint can fix
	@$(BIN)/ruff format .
	@$(BIN)/ruff check --fix .

pins: setup  ## resolve the pinned requirements again
	@deployments/environments/compile

bench-setup: setup  ## build the environments of the peers that the benchmarks compare with
	@deployments/environments/install-peers

clean:  ## remove environments and all state
	rm -rf .venv .venv-vllm .venv-bench-* .retune
