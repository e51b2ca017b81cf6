# Everything a newcomer types. Each target sets up what it needs.
PYTHON ?= python3
BIN := .venv/bin
WORKSPACE ?= .yanshan
TESTS ?=

# Every step is a process of its own: without bytecode each pays seconds more for its imports.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: help setup demo test test-slow test-containers check bench images lock clean

help: ## this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 18

setup: .venv/.ready ## .venv with everything, pinned and hashed

.venv/.ready: pyproject.toml images/constraints.txt
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@command -v uv >/dev/null || test -x $(BIN)/uv || $(BIN)/python -m pip install --quiet uv
	@PATH="$$PATH:$(CURDIR)/$(BIN)" uv pip install --quiet --python $(BIN)/python --require-hashes -r images/constraints.txt
	@PATH="$$PATH:$(CURDIR)/$(BIN)" uv pip install --quiet --python $(BIN)/python --no-deps --editable .
	@touch $@

demo: .venv/.ready ## two nights on the sample data: 5 to 17 minutes on 2 cores, no server
	@$(BIN)/yanshan demo --workspace $(WORKSPACE)

test: .venv/.ready ## unit and integration tests
	$(BIN)/python -m pytest -n 2 --dist loadfile -m "not containers and not slow" $(TESTS)

test-slow: .venv/.ready ## the long tests
	$(BIN)/python -m pytest -m slow $(TESTS)

test-containers: .venv/.ready ## the smoke DAG in real containers; needs root and a Docker engine that can be started
	$(BIN)/python -m pytest -m containers tests/containers $(TESTS)

check: .venv/.ready ## lint, format, types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy components pipelines

bench: .venv/.ready ## every benchmark, each against a named peer in the same run
	@for file in tests/benchmarks/bench_*.py; do echo "== $$file"; PYTHONPATH=. $(BIN)/python $$file || exit 1; done

images: ## container images, with plain Docker
	images/build.sh

lock: .venv/.ready ## pin again after a change of pyproject.toml
	PATH="$$PATH:$(CURDIR)/$(BIN)" images/lock.sh

clean: ## remove the workspace and the caches; .venv stays
	rm -rf $(WORKSPACE) .pytest_cache .ruff_cache .mypy_cache
