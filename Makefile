# One command from a fresh clone to a result; `make help` lists them.
#
# What has been done is remembered by stamps inside the environment: delete .venv and
# everything is made again; change constraints.txt and the packages follow.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DELETE_ON_ERROR:
.DEFAULT_GOAL := help

PYTHON ?= python3
VENV ?= .venv
ROWS ?= 400000
RANKS ?= 2
OUT ?= build/demo
SECONDS_LEFT ?= 900

BIN := $(abspath $(VENV))/bin
STAMP := $(abspath $(VENV))/.stamp
FRONT := $(shell find labextension -path '*/node_modules' -prune -o -path '*/lib' -prune \
	-o -type f -print 2>/dev/null)

# The environment's programs come first: its mpirun, its jupyter, and node where it has one.
export PATH := $(BIN):$(PATH)

# Tests run side by side, by units (tests/scheduling.py). Those that start ranks, a browser or hosts
# mostly wait, so there may be more of them than cores.
PARALLEL ?= -n auto --dist loadfile
WAITING ?= -n 3 --dist loadfile
LONG := ranks or slow or browser or drill
LONGER := drill or notebook
UNIT := tests/unit eai_notebook README.md docs

comma := ,
say = @printf '\033[1m==> %s\033[0m\n' $(1)

.PHONY: help
help: ## list the commands
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "make %-12s %s\n", $$1, $$2}'

# ------------------------------------------------------------------------------- use it

.PHONY: demo
demo: setup ## train Wide & Deep on 2 ranks, headless; results in build/demo
	$(call say,"the demo: $(ROWS) rows on $(RANKS) ranks")
	@eai-notebook demo --out $(OUT) --rows $(ROWS) -n $(RANKS)

# ipyparallel brings a launcher of clusters of its own, which would be taken for ours: see tools/jupyter.
.PHONY: lab
lab: setup ## open JupyterLab on the tutorials
	JUPYTER_CONFIG_PATH=$(abspath tools/jupyter):$$JUPYTER_CONFIG_PATH \
		jupyter lab $(if $(filter 0,$(shell id -u)),--allow-root) --notebook-dir=notebooks \
		--LabApp.default_url=/lab/tree/01_quickstart.ipynb $(LAB)

.PHONY: notebooks
notebooks: setup ## run all worked notebooks at full size; results in build/notebooks
	$(call say,"the worked notebooks")
	@python tools/notebooks.py build/notebooks $(NOTEBOOKS)

.PHONY: setup
setup: $(STAMP)/packages $(STAMP)/front $(STAMP)/horovod ## everything the two above need

# ------------------------------------------------------------------------------ work on it

.PHONY: test
test: setup chromium jupyterhub sshd lint ## what every change must pass, in a browser and on hosts, too
	$(call say,"tests without ranks")
	pytest $(PARALLEL) -m 'not ($(LONG))' $(UNIT) $(PYTEST)
	$(call say,"tests with ranks$(comma) in a browser and on hosts")
	pytest $(WAITING) -m '($(LONG)) and not ($(LONGER))' $(UNIT) tests/browser tests/hosts $(PYTEST)

.PHONY: drills
drills: setup sshd ## faults in real groups, on this machine and on hosts
	$(call say,"drills")
	pytest $(WAITING) -m drill tests/drills tests/hosts tests/unit $(PYTEST)

.PHONY: examples
examples: setup ## the worked notebooks, on little data
	$(call say,"the worked notebooks on little data")
	pytest $(WAITING) -m notebook tests/unit/test_notebooks.py $(PYTEST)

.PHONY: clusters
clusters: setup sshd slurm kubernetes ## groups in a real Slurm of three nodes, and a Kubernetes of two
	$(call say,"tests with Slurm and Kubernetes")
	pytest tests/clusters $(PYTEST)

.PHONY: clusters-short
clusters-short: setup sshd ## those of them that every change must pass, where this machine can have such clusters
	$(call say,"tests with Slurm and Kubernetes without faults")
	@python tools/clusters_short.py --seconds $(SECONDS_LEFT) $(PYTEST)

.PHONY: quick
quick: setup ## the tests without ranks, on all cores
	pytest $(PARALLEL) -m 'not ($(LONG))' $(UNIT) $(PYTEST)

.PHONY: coverage
coverage: setup ## the same tests with the share of lines that they run; details in build/coverage
	pytest $(PARALLEL) -m 'not ($(LONG))' --cov=eai_notebook --cov-report=term:skip-covered \
		--cov-report=html:build/coverage $(UNIT) $(PYTEST)

.PHONY: docs
docs: $(STAMP)/packages ## build the site into build/site; every broken link is an error
	$(call say,"the site")
	NO_MKDOCS_2_WARNING=1 mkdocs build --strict --quiet
	@echo "build/site/index.html"

.PHONY: front-ends
front-ends: setup chromium ## browser tests on other JupyterLabs, Notebook 7 and kernels
	@tools/front-ends $(PAIRS)

.PHONY: lint
lint: $(STAMP)/packages $(STAMP)/front ## ruff, mypy, and the front end's own checks
	$(call say,"lint")
	ruff check .
	ruff format --check .
	mypy
	@$(MAKE) --no-print-directory front-lint

.PHONY: front-lint
front-lint: $(STAMP)/front
	cd labextension && npm run --silent lint:check

.PHONY: wheel
wheel: $(STAMP)/packages $(STAMP)/front ## build the sdist and, from it, the wheel into dist/
	rm -rf dist
	python -m build --no-isolation --outdir dist

.PHONY: front
front: $(STAMP)/packages $(STAMP)/front ## build the JupyterLab panel and the live chart

.PHONY: chromium jupyterhub sshd slurm kubernetes
chromium:
	@tools/chromium

jupyterhub: $(STAMP)/packages
	@tools/jupyterhub

sshd:
	@tools/sshd

slurm:
	@tools/slurm

kubernetes:
	@tools/kubernetes

.PHONY: constraints
constraints: ## pin the newest packages that fit together, with hashes (needs uv)
	tools/pin new

.PHONY: clean
clean: ## remove what was built, keep the environment
	rm -rf build dist eai_notebook/labextension labextension/lib
	rm -f $(STAMP)/front

.PHONY: distclean
distclean: clean ## remove the environment too
	rm -rf $(VENV) labextension/node_modules

# --------------------------------------------------------------------------------- steps

$(STAMP)/packages: constraints.txt pyproject.toml tools/make-venv
	$(call say,"Python packages")
	@tools/make-venv $(VENV) $(PYTHON)
	@mkdir -p $(STAMP) && touch $@

$(STAMP)/horovod: $(STAMP)/packages
	$(call say,"Horovod")
	@eai-notebook install-horovod
	@touch $@

# An install of the package replaces the link to the panel, so the link is made after it.
$(STAMP)/front: $(STAMP)/packages $(FRONT) tools/build-front
	$(call say,"JupyterLab panel and live chart")
	@tools/build-front $(VENV)
	@touch $@
