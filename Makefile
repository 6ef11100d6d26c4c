# finetune-operator. `make help` lists the targets; each is one command that can be typed by hand as well.
.DEFAULT_GOAL := help

# uv of a pinned version, in a per-user cache; everything else comes from uv.lock into .venv.
UV_VERSION := 0.13.9
CACHE := $(or $(FINETUNE_CACHE),$(HOME)/.cache/finetune-operator)
UV := $(CACHE)/uv@$(UV_VERSION)/bin/uv
SYNCED := .venv/.synced
PYTHON := .venv/bin/python

.PHONY: help setup demo test test-fast nightly lint generate verify images cluster-up cluster-down e2e bench

help: ## list the targets
	@sed -n 's/^\([a-z0-9-]*\):.*## \(.*\)/  \1|\2/p' $(MAKEFILE_LIST) | awk -F'|' '{printf "%-16s %s\n", $$1, $$2}'

setup: $(SYNCED) ## uv and the locked Python environment in .venv

demo: cluster-up ## one fine-tuning job on a real cluster, from kubectl apply to the published model
	$(PYTHON) -m e2e.demo

test: $(SYNCED) ## all layers of tests this machine allows; says what it skipped and why
	$(PYTHON) -m e2e.everything

test-fast: $(SYNCED) ## what needs no cluster and no programs, in about two minutes
	$(PYTHON) -m pytest tests -q -m "not (slow or programs or apiserver or nightly) and not cluster" -n 2

PREEMPTIONS ?= 100
KILLS ?= 500
SEED ?= $(shell date +%j)
nightly: $(SYNCED) ## make test with every cell and at length; stops and kills at random: PREEMPTIONS=100 KILLS=500 SEED=1
	@echo "PREEMPTIONS=$(PREEMPTIONS) KILLS=$(KILLS) SEED=$(SEED)"
	PREEMPTIONS=$(PREEMPTIONS) KILLS=$(KILLS) SEED=$(SEED) $(PYTHON) -m e2e.everything --nightly

lint: $(SYNCED) ## style, types, layers
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/mypy
	.venv/bin/lint-imports

generate: $(SYNCED) ## write the CRDs, the chart's copies of them and the reference pages
	$(PYTHON) -m finetune_api.crdgen crds helm/finetune-operator/files/crds
	$(PYTHON) docs/reference/generate.py

verify: generate ## generated files are what the types say, the lock is in step
	git diff --exit-code -- crds helm/finetune-operator/files docs/reference
	$(UV) lock --check

e2e: cluster-up ## the story of the demo with every claim asserted, on the real cluster
	$(PYTHON) -m pytest e2e/scenarios -q -p no:randomly --deselect "e2e/scenarios/test_story.py::test_the_story_holds[brief]"

bench: $(SYNCED) ## the control plane at scale; rewrites bench/RESULTS.md
	$(PYTHON) -m bench

cluster-up: $(SYNCED) ## a real Kubernetes on this machine, with our images and chart; does only what is missing
	$(PYTHON) -m e2e.cluster up

cluster-down: $(SYNCED) ## stop and remove the cluster; built tools and images stay in the cache
	$(PYTHON) -m e2e.cluster down

images: $(SYNCED) ## build the images; REGISTRY=host/team TAG=0.1.0 pushes them for a cluster of your own
	$(PYTHON) -m e2e.images --registry "$(REGISTRY)" --tag "$(TAG)"

$(SYNCED): pyproject.toml uv.lock | $(UV)
	$(UV) sync --frozen --all-extras --compile-bytecode --quiet
	@touch $@

$(UV):
	@python3 -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "Python 3.11 or newer with its venv module is needed (Debian: apt-get install python3-venv)"; exit 1; }
	rm -rf $(@D:/bin=) && python3 -m venv $(@D:/bin=)
	$(@D:/bin=)/bin/pip install --quiet --disable-pip-version-check uv==$(UV_VERSION)
