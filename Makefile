# finetune-operator. `make help` lists the targets; each is one command that can be typed by hand as well.
.DEFAULT_GOAL := help

# uv of a pinned version, in a per-user cache; everything else comes from uv.lock into .venv.
UV_VERSION := 0.13.9
CACHE := $(or $(FINETUNE_CACHE),$(HOME)/.cache/finetune-operator)
UV := $(CACHE)/uv@$(UV_VERSION)/bin/uv
SYNCED := .venv/.synced
PYTHON := .venv/bin/python

.PHONY: help setup cluster-up cluster-down images

help: ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  \1|\2/p' $(MAKEFILE_LIST) | awk -F'|' '{printf "%-16s %s\n", $$1, $$2}'

setup: $(SYNCED) ## uv and the locked Python environment in .venv

cluster-up: $(SYNCED) ## a real Kubernetes on this machine, with our images and chart; does only what is missing
	$(PYTHON) -m e2e.cluster up

cluster-down: $(SYNCED) ## stop and remove the cluster; built tools and images stay in the cache
	$(PYTHON) -m e2e.cluster down

images: $(SYNCED) ## build the images; REGISTRY=host/team TAG=0.1.0 pushes them for a cluster of your own
	$(PYTHON) -m e2e.images --registry "$(REGISTRY)" --tag "$(TAG)"

$(SYNCED): pyproject.toml uv.lock | $(UV)
	$(UV) sync --frozen --all-extras --quiet
	@touch $@

$(UV):
	@python3 -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "Python 3.11 or newer with its venv module is needed (Debian: apt-get install python3-venv)"; exit 1; }
	rm -rf $(@D:/bin=) && python3 -m venv $(@D:/bin=)
	$(@D:/bin=)/bin/pip install --quiet --disable-pip-version-check uv==$(UV_VERSION)
