# Every target makes what it needs. A machine needs only make and Python 3.11 or newer. If the checkout cannot be
# written, put the environment elsewhere: make test VENV=/somewhere
VENV  ?= .venv
PY    := $(VENV)/bin/python
BENCH := $(VENV)/bench
READY := $(VENV)/.ready
$(if $(filter-out 1,$(words $(VENV))),$(error VENV is a path without spaces, not "$(VENV)"))

# How the programs in tests/ start.
PROGRAM = PYTHONPATH=tests $(PY) -m

# Each Python is run before it is chosen, because a version manager's shim can exist and still fail. 3.15 is tried too,
# though it is newer than any that we know. Debian and Ubuntu have ensurepip in a separate package.
RUNS   := import ensurepip, sys, venv; sys.exit(sys.version_info < (3, 11))
PYTHON ?= $(shell for p in python3 python3.14 python3.13 python3.12 python3.11 python3.15 python; do \
	$$p -c '$(RUNS)' 2>/dev/null && { echo $$p; break; }; done)
NEEDED := reactor needs Python 3.11 or newer, with venv (Debian, Ubuntu: apt install python3-venv)
UNFIT   = $(NEEDED)$(if $(PYTHON),; $(PYTHON) is not that, on PATH (or make PYTHON=…))

# The tools' caches lie in the environment, not in the checkout; or in TMPDIR, if the environment is not ours to write.
CACHE := $(if $(shell test -d $(VENV) && ! test -w $(VENV) && echo $(VENV)), \
	$(or $(TMPDIR),/tmp)/reactor-cache-$(shell id -u),$(abspath $(VENV))/.cache)
CACHE := $(strip $(CACHE))
export RUFF_CACHE_DIR := $(CACHE)/ruff
export MYPY_CACHE_DIR := $(CACHE)/mypy
export HYPOTHESIS_STORAGE_DIRECTORY := $(CACHE)/hypothesis
export UV_SYSTEM_CERTS ?= true

.DEFAULT_GOAL := help
.PHONY: help demo test test-api test-kills test-as-worker test-browser test-pooler test-matrix test-large plans fuzz \
	steady torture mutants bare bench migrate run check deploy-check lock clean

help: ## Show this help
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: $(READY) ## Watch mints become images: own PostgreSQL, sandbox provider, nothing to set up
	@$(PY) -m reactor demo $(ARGS)

# Of the tests, what has targets of its own.
APART := kills test_plans.py test_plans_listings.py test_large.py test_large_growth.py test_large_page.py \
	test_large_vacuum.py pgbouncer browser openapi

test: $(READY) ## Run the tests, or ARGS=tests/test_x.py, on an embedded PostgreSQL (or DATABASE_URL, if set)
	@$(PY) -m pytest -o cache_dir="$(CACHE)/pytest" $(or $(ARGS),-n 4 --no-loadscope-reorder $(APART:%=--ignore tests/%))

test-kills: $(READY) ## Kill, freeze and cut off workers at every failpoint, and a short torture (2 minutes)
	@$(PY) -m pytest -o cache_dir="$(CACHE)/pytest" $(or $(ARGS),-n 2 --no-loadscope-reorder tests/kills)

test-api: $(VENV)/.api ## Test the API with made-up requests, by its OpenAPI document
	@$(PY) -m pytest -o cache_dir="$(CACHE)/pytest" -p schemathesis.pytest.plugin $(or $(ARGS),tests/openapi)

test-pooler: $(READY) ## Test poolers with a real PgBouncer, which root installs if it is missing, and TLS of PostgreSQL
	@tests/pgbouncer/install.sh
	@REACTOR_SERVERS="$(CACHE)/servers" $(PY) -m pytest -o cache_dir="$(CACHE)/pytest" $(or $(ARGS),tests/pgbouncer)

test-browser: $(VENV)/.browser ## Test the page in Chromium, which root installs if it or curl is missing; screenshots in the cache
	@tests/browser/install.sh
	@REACTOR_SCREENSHOTS="$(CACHE)/screenshots" $(PY) -m pytest -o cache_dir="$(CACHE)/pytest" $(or $(ARGS),-n 2 tests/browser)

test-matrix: $(READY) ## Test migrations and statements on PostgreSQL 14 to 18 (ARGS="14 16", ARGS="--quick 14")
	@$(PROGRAM) matrix --cache "$(CACHE)/servers" $(ARGS)

test-large: $(READY) ## Migrate a million rows beside writers, and measure statements and the page in more (8 minutes)
	@$(PY) -m pytest -o cache_dir="$(CACHE)/pytest" $(or $(ARGS),tests/test_large*.py)

# Every file whose tests run workers; without those about settings of the superuser, or about triggers and databases that
# a worker's role cannot reach.
ENGINE := adoption announcer bad_input bell checks database detour dispatcher echoing_provider encodings gate gate_image \
	gate_store leases listener look_back lost_purchases metrics one_author otel roles seeds settler strange_tables \
	tokens worker

test-as-worker: $(READY) ## Run the tests of the engine with workers that have a worker's role and no more
	@REACTOR_TESTS_AS_WORKER=1 $(PY) -m pytest -o cache_dir="$(CACHE)/pytest" $(or $(ARGS),-n 4 --no-loadscope-reorder \
		$(ENGINE:%=tests/test_%.py))

plans: $(READY) ## Count what the statements read in big tables
	@$(PY) -m pytest -o cache_dir="$(CACHE)/pytest" tests/test_plans*.py

# Allow bytecode files, because a run starts a hundred programs, and each would compile reactor again.
test test-kills: export PYTHONDONTWRITEBYTECODE :=

fuzz: $(READY) ## Try made-up prompts, rows and answers: a worker, then the adapter (ARGS="--seconds 300 --seed 7")
	@$(PROGRAM) fuzz $(ARGS)
	@REACTOR_FUZZ=100 $(PY) -m pytest -o cache_dir="$(CACHE)/pytest" --timeout 0 --hypothesis-seed=random tests/test_provider_fuzz.py

torture: $(READY) ## Kill, stop and restart under 10,000 tokens, and audit every write and purchase (20 minutes)
	@$(PROGRAM) torture $(ARGS)

steady: $(READY) ## Run the tests twenty times, ten of them beside busy loops, until one is red
	@$(PROGRAM) steady $(ARGS)

mutants: $(READY) ## Take each guard out and see its test fail (ARGS="part of a guard's name" for fewer)
	@$(PROGRAM) mutants $(ARGS)

bare: ## Run demo and tests in a bare Debian with a newer Python, as root and as a user (needs root, debootstrap)
	@tests/bare/run.sh $(or $(BARE),/var/tmp/reactor-bare) $(ARGS)

bench: $(BENCH)/.ready ## Measure us, the floor and the peers on a fresh PostgreSQL: table, JSON, picture
	@PYTHONPATH=tests $(BENCH)/bin/python -m bench $(ARGS)

migrate: $(READY) ## Create or complete the tables in DATABASE_URL
	@$(PY) -m reactor migrate $(ARGS)

run: $(READY) ## Run the reactor (settings from the environment or .env)
	@$(PY) -m reactor run $(ARGS)

check: $(READY) ## Lint, types, import layers
	@$(PY) -m ruff format --check .
	@$(PY) -m ruff check .
	@$(PY) -m mypy
	@$(PY) -c "from importlinter.cli import lint_imports_command as c; c()" --cache-dir "$(CACHE)/import-linter"

deploy-check: $(VENV)/.manifests ## Check the files in deploy/ with systemd-analyze, hadolint, docker compose, promtool and schemas
	@$(PROGRAM) manifests

PIN := -m uv pip compile --universal --generate-hashes --no-emit-index-url --no-header --upgrade
lock: $(READY) ## Pin the dependencies anew, with hashes
	@$(PY) $(PIN) pyproject.toml --extra demo --group dev -o requirements.lock
	@$(PY) $(PIN) pyproject.toml --extra demo --group bench --constraint requirements.lock --no-annotate \
		-o tests/bench/requirements.lock
	@$(PY) $(PIN) --group manifests --constraint requirements.lock --no-annotate -o tests/manifests/requirements.lock
	@$(PY) $(PIN) --group api --constraint requirements.lock --no-annotate -o tests/openapi/requirements.lock
	@$(PY) $(PIN) --group browser --constraint requirements.lock --no-annotate -o tests/browser/requirements.lock

clean: ## Remove the virtual environment, and what the tools keep
	@rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis

# The environment that uv fills, by its Python.
INTO = $(PY)

# pip installs uv, which fills the environment in seconds and compiles bytecode. All packages are pinned by hash. uv
# runs without a cache if its folder cannot be written, as in a home that does not exist.
UV = { d=$$($(PY) -m uv cache dir 2>/dev/null) && mkdir -p "$$d" 2>/dev/null && test -w "$$d" || export UV_NO_CACHE=true; } && \
	$(PY) -m uv pip install --quiet --python $(INTO)

$(READY): requirements.lock pyproject.toml
	@{ "$(PYTHON)" -c '$(RUNS)'; } 2>/dev/null || { echo "$(UNFIT)" >&2; exit 2; }
	@rm -rf $(VENV) 2>/dev/null; mkdir -p $(VENV) 2>/dev/null || { \
		echo "$(VENV) cannot be written; make the environment elsewhere: make … VENV=/somewhere" >&2; exit 2; }
	@echo "Making $(VENV), once: the packages come from PyPI, which may take a minute …"
	@"$(PYTHON)" -m venv $(VENV)
	@awk '/^[a-z]/ { uv = /^uv==/ } uv' requirements.lock > $(VENV)/uv.txt
	@{ $(PY) -m pip install -qq --disable-pip-version-check --require-hashes -r $(VENV)/uv.txt && \
		$(UV) --compile-bytecode --require-hashes -r requirements.lock && \
		$(UV) --no-deps --no-build-isolation -e .; } || { \
		echo "The line above names a package that does not install on $$($(PY) -V); another Python: make PYTHON=…" >&2; exit 2; }
	@touch $@

# `make bench` has an environment of its own, with what a worker needs, and the peers. A package of the tests would
# change the figures: httpx is quicker where sniffio is.
$(BENCH)/.ready: private INTO = $(BENCH)/bin/python
$(BENCH)/.ready: $(READY) tests/bench/requirements.lock
	@echo "Making $(BENCH), with the peers …"
	@$(PY) -m uv venv --quiet --clear $(BENCH)
	@$(UV) --compile-bytecode --require-hashes -r tests/bench/requirements.lock
	@$(UV) --no-deps --no-build-isolation -e .
	@touch $@

# The tools of `make deploy-check` likewise.
$(VENV)/.manifests: $(READY) tests/manifests/requirements.lock
	@echo "Adding the tools for deploy/ to $(VENV) …"
	@$(UV) --compile-bytecode --require-hashes -r tests/manifests/requirements.lock
	@touch $@

# What `make test-api` needs likewise.
$(VENV)/.api: $(READY) tests/openapi/requirements.lock
	@echo "Adding schemathesis to $(VENV) …"
	@$(UV) --compile-bytecode --require-hashes -r tests/openapi/requirements.lock
	@touch $@

# The tools of `make test-browser` likewise.
$(VENV)/.browser: $(READY) tests/browser/requirements.lock
	@echo "Adding Playwright to $(VENV) …"
	@$(UV) --compile-bytecode --require-hashes -r tests/browser/requirements.lock
	@touch $@
