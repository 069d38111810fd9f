# Every target makes what it needs; a machine with Python >= 3.11 and make is enough.
VENV  ?= .venv
BIN   := $(VENV)/bin
READY := $(VENV)/.ready
RUNS  := import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))
# Chosen by running it: a version manager's shim can exist and still fail.
PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11; do \
	$$p -c '$(RUNS)' 2>/dev/null && { echo $$p; break; }; done)
UNFIT = $(if $(PYTHON),; $(PYTHON) is none of them, on PATH (or make PYTHON=…))
UV_VERSION := 0.13.9
export UV_SYSTEM_CERTS ?= true

.DEFAULT_GOAL := help
.PHONY: help demo test steady torture mutants bench migrate run check lock clean

help: ## Show this help
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: $(READY) ## Watch mints become images: own PostgreSQL, sandbox provider, nothing to set up
	@$(BIN)/reactor demo $(ARGS)

test: $(READY) ## Run the tests, or ARGS=tests/test_x.py, on an embedded PostgreSQL (or DATABASE_URL, if set)
	@$(BIN)/python -m pytest $(or $(ARGS),-n 4 --dist loadgroup --no-loadscope-reorder)

torture: $(READY) ## Kill, stop and restart under 10,000 tokens, and audit every write and purchase (20 minutes)
	@PYTHONPATH=tests $(BIN)/python -m torture $(ARGS)

steady: $(READY) ## Run the tests twenty times, ten of them beside busy loops, until one is red
	@$(BIN)/python tests/steady.py $(ARGS)

mutants: $(READY) ## Take each guard out and see its test fail
	@$(BIN)/python -m tests.mutants

bench: $(VENV)/.bench ## Measure us, the floor and the peers on a fresh PostgreSQL: table, JSON, picture
	@$(BIN)/python -m tests.bench $(ARGS)

migrate: $(READY) ## Create or complete the tables in DATABASE_URL
	@$(BIN)/reactor migrate $(ARGS)

run: $(READY) ## Run the reactor (settings from the environment or .env)
	@$(BIN)/reactor run $(ARGS)

check: $(READY) ## Lint, types, import layers
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports

lock: $(READY) ## Pin the dependencies anew, with hashes
	@$(BIN)/uv pip compile pyproject.toml --extra demo --group dev --universal --generate-hashes \
		--no-emit-index-url --no-header --upgrade -o requirements.lock

clean: ## Remove the virtual environment and caches
	@rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .import_linter_cache

# uv fills the environment in seconds and compiles bytecode; where it cannot be had, pip does the same.
$(READY): requirements.lock pyproject.toml
	@{ $(PYTHON) -c '$(RUNS)'; } 2>/dev/null || { echo "reactor needs Python 3.11, 3.12 or 3.13$(UNFIT)" >&2; exit 2; }
	@echo "Making $(VENV) …"
	@rm -rf $(VENV)
	@$(PYTHON) -m venv --without-pip $(VENV)
	@if $(PYTHON) -m pip --python $(BIN)/python install --quiet --disable-pip-version-check uv==$(UV_VERSION) 2>/dev/null; then \
		$(BIN)/uv pip install --quiet --python $(BIN)/python --compile-bytecode --require-hashes -r requirements.lock && \
		$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation -e .; \
	else \
		$(PYTHON) -m venv --upgrade-deps $(VENV) && \
		$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock && \
		$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .; \
	fi
	@touch $@

# What is measured beside us is nobody else's burden: only `make bench` installs it.
$(VENV)/.bench: $(READY)
	@echo "Adding the peers to $(VENV) …"
	@if test -x $(BIN)/uv; then \
		$(BIN)/uv pip install --quiet --python $(BIN)/python --compile-bytecode -c requirements.lock --group bench; \
	else \
		$(BIN)/python -m pip install --quiet --disable-pip-version-check --group bench; \
	fi
	@touch $@
