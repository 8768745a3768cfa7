# Needs Python 3.11+ and make; everything else is set up here. `make help` lists the targets.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

PYTHON ?= python3
UV_VERSION ?= 0.13.9
# Start-up and memory of every service stand on byte code; see docs/decisions/0005-start-up.md
export UV_COMPILE_BYTECODE := 1
unexport PYTHONDONTWRITEBYTECODE
unexport VIRTUAL_ENV

# uv from PATH when there is one, else our own copy in .uv/
UV := $(shell command -v uv 2>/dev/null || echo .uv/bin/uv)
RUN := $(UV) run --no-sync

.PHONY: help
help: ## List the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sort | awk -F ':.*## ' '{printf "  %-14s %s\n", $$1, $$2}'

.uv/bin/uv:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Python 3.11 or newer is needed (make PYTHON=/path/to/python3)"; exit 1; }
	@echo "installing uv $(UV_VERSION) into .uv/"
	@$(PYTHON) -m venv .uv >/dev/null 2>&1 || { $(PYTHON) -m pip install --quiet --target .uv/lib "uv==$(UV_VERSION)" && mkdir -p .uv/bin && ln -sf ../lib/bin/uv .uv/bin/uv; }
	@test -x .uv/bin/uv || .uv/bin/pip install --quiet --disable-pip-version-check "uv==$(UV_VERSION)"

.PHONY: setup
setup: $(filter .uv/bin/uv,$(UV)) ## Fill .venv with every member and the tools
	@$(UV) sync --quiet --locked --all-packages --all-extras
	@.venv/bin/python -m compileall -q packages services

.PHONY: proto
proto: setup ## Generate the code of the wire contract
	@$(RUN) python scripts/proto.py

.PHONY: format
format: setup ## Format and fix what can be fixed
	@$(RUN) ruff check --fix --quiet . ; $(RUN) ruff format --quiet .
