# The verbs of the project; each does its own set-up. `make help` lists them.
PYTHON ?= python3
LOGS ?=
PORT ?= 3000
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
# The local S3 server is on loopback; a proxy must not be asked for it.
export NO_PROXY := 127.0.0.1,localhost
# Without byte code, each of hundreds of processes would compile what it runs, and pytest its tests, again.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help setup demo dev test test-faults crash-table month fortnight lint format bench lock clean

help: ## This list.
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/\t/' | expand -t 10

setup: $(READY) ## Install everything into .venv, from the hash-pinned lock.

$(READY): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "pathstats needs Python 3.11 or newer; say which with make PYTHON=...")'
	@echo "setting up $(VENV): a few minutes the first time"
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes --no-deps -r requirements.lock
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-build-isolation --no-deps -e .
	@touch $@

demo: $(READY) ## The whole way of an event on sample traffic, or on your files: make demo LOGS="a.log b.log".
	@$(BIN)/pathstats demo $(foreach file,$(LOGS),--logs $(file))

dev: $(READY) ## Dagster's UI on http://127.0.0.1:3000, with its daemon and the local S3 server.
	@$(BIN)/pathstats dev --port $(PORT)

# A worker more than the two cores of CI: tests wait for the disk, for servers and for Dagster's daemon. Files begin in
# the order of tests/conftest.py, the longest first.
test: $(READY) ## All tests.
	@$(BIN)/pytest -q -n 3 --dist loadfile --no-loadscope-reorder

test-faults: $(READY) ## The long tests: kills and faults by the hundred; all that there are with FULL=1.
	@$(BIN)/pytest -q -n 3 --dist loadfile --no-loadscope-reorder -m faults

crash-table: $(READY) ## A day killed at every boundary of its life, and 500 pairs of them, as a table.
	@cd tests && ../$(BIN)/python -m faults.crash_table --pairs 250
	@cd tests && ../$(BIN)/python -m faults.crash_table --pairs 250 --multipart

month: $(READY) ## A simulated month of a million events a day, with kills; plots it.
	@cd tests && ../$(BIN)/python -m faults.month --plot ../docs/images/month.png

fortnight: $(READY) ## Fourteen simulated days under the real daemon, as a table of what ran when.
	@cd tests && ../$(BIN)/python -m faults.fortnight

lint: $(READY) ## Format, lint, types, import layers, the Dockerfile.
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports
	@$(BIN)/hadolint deploy/Dockerfile

format: $(READY) ## Rewrite the code in the house's format.
	@$(BIN)/ruff format .
	@$(BIN)/ruff check --fix .

$(VENV)/.bench-ready: $(READY) requirements-bench.lock
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes --no-deps -r requirements-bench.lock
	@touch $@

bench: $(VENV)/.bench-ready ## Compare with peers, in one process run; prints ratios.
	@$(BIN)/python -m benchmarks

lock: ## Resolve the lock anew (needs uv).
	uv pip compile pyproject.toml --extra local --extra postgres --extra dev --universal --python-version 3.11 \
		--generate-hashes --no-emit-index-url --no-annotate --no-header -q -o requirements.lock
	uv pip compile pyproject.toml --extra postgres --extra build -c requirements.lock --universal --python-version 3.11 \
		--generate-hashes --no-emit-index-url --no-annotate --no-header -q -o requirements-image.lock
	uv pip compile pyproject.toml --extra bench -c requirements.lock --universal --python-version 3.11 \
		--generate-hashes --no-emit-index-url --no-annotate --no-header -q -o requirements-bench.lock

clean: ## Remove the environment and all local state, the local servers' objects and messages too.
	@test ! -x $(BIN)/pathstats || $(BIN)/pathstats s3 stop || true
	@test ! -x $(BIN)/pathstats || $(BIN)/pathstats queue stop || true
	rm -rf $(VENV) .pathstats .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis dist
