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
export Q

# uv from PATH when there is one, else our own copy in .uv/
UV := $(shell command -v uv 2>/dev/null || echo .uv/bin/uv)
RUN := $(UV) run --no-sync
CHECK_PYTHON := $(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	|| { echo "Python 3.11 or newer is needed (make PYTHON=/path/to/python3)"; exit 1; }
# Plans, tags, releases and tells with Python alone: a job that does no more need not set up everything.
DELIVERY := { $(CHECK_PYTHON); } && UV="$(UV)" PYTHONPATH=packages/delivery/src $(PYTHON) -m handler_delivery

.PHONY: help
help: ## List the targets
	@grep -hE '^[a-z0-9-]+:.*## ' $(MAKEFILE_LIST) | sort | awk -F ':.*## ' '{printf "  %-14s %s\n", $$1, $$2}'

.uv/bin/uv:
	@$(CHECK_PYTHON)
	@echo "installing uv $(UV_VERSION) into .uv/"
	@$(PYTHON) -m venv .uv >/dev/null 2>&1 || { $(PYTHON) -m pip install --quiet --target .uv/lib "uv==$(UV_VERSION)" && mkdir -p .uv/bin && ln -sf ../lib/bin/uv .uv/bin/uv; }
	@test -x .uv/bin/uv || .uv/bin/pip install --quiet --disable-pip-version-check "uv==$(UV_VERSION)"

# The voice of local-inference and of the tests. Nothing else needs it, so setup goes on without.
.PHONY: flite
flite:
	@if command -v flite >/dev/null; then exit 0; fi; \
	if [ $$(id -u) = 0 ]; then as_root=; elif sudo -n true 2>/dev/null; then as_root="sudo -n"; else as_root=false; fi; \
	if command -v apt-get >/dev/null && [ "$$as_root" != false ]; then \
		echo "installing flite"; \
		install() { $$as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends flite >/dev/null 2>&1; }; \
		if install || { $$as_root apt-get update -qq >/dev/null 2>&1 && install; }; then exit 0; fi; \
	fi; \
	echo "speech needs flite, everything else works without: apt-get install flite, or brew install flite"

.PHONY: setup
setup: $(filter .uv/bin/uv,$(UV)) flite ## Fill .venv with every member and the tools
	@$(UV) sync --quiet --locked --all-packages --all-extras
	@.venv/bin/python -m compileall -q packages services

.PHONY: proto
proto: setup ## Generate the code of the wire contract
	@$(RUN) python scripts/proto.py

.PHONY: format
format: setup ## Format and fix what can be fixed
	@$(RUN) ruff check --fix --quiet . ; $(RUN) ruff format --quiet .

.PHONY: lint
lint: setup contract lint-ci pipelines-check ## Ruff, pyright, the lock file, the wire contract, the workflows, the pipelines
	@$(UV) lock --quiet --check
	@$(RUN) ruff check --quiet .
	@$(RUN) ruff format --quiet --check .
	@$(RUN) pyright --warnings

.PHONY: contract
contract: setup ## The wire contract: its style, the generated code, no breaking change
	@$(RUN) buf lint proto
	@$(RUN) python scripts/proto.py --check
	@$(RUN) python scripts/proto_breaking.py

.PHONY: manifests
manifests: setup ## Render every overlay, validate and cross-check deploy/
	@$(RUN) delivery manifests

# Their SDK needs an older protobuf than we have: uv makes it an environment of its own, out of the script's lock file.
COMPILE_PIPELINES := $(UV) run --quiet --locked --python .venv/bin/python --script deploy/pipelines/kubeflow/compile.py

.PHONY: pipelines
pipelines: setup ## Compile the Kubeflow pipelines of deploy/pipelines/kubeflow
	@$(COMPILE_PIPELINES)

.PHONY: pipelines-check
pipelines-check: setup
	@$(COMPILE_PIPELINES) --check

DOCKERFILES := $(wildcard images/*Dockerfile bench/Dockerfile services/*/Dockerfile)

.PHONY: lint-ci
lint-ci: setup ## The workflows, Renovate's configuration, the Dockerfiles
	@$(RUN) actionlint .gitea/workflows/*.yaml
	@$(RUN) zizmor --offline --quiet --no-progress --persona pedantic .gitea/workflows/*.yaml
	@$(RUN) check-jsonschema --builtin-schema vendor.github-workflows .gitea/workflows/*.yaml
	@$(RUN) check-jsonschema --builtin-schema vendor.renovate renovate.json
	@$(if $(DOCKERFILES),$(RUN) hadolint $(DOCKERFILES))

.PHONY: milvus
milvus: setup
	@$(UV) sync --quiet --locked --all-packages --all-extras --group milvus

DEMO_QUESTION := Which subject carries a user's chat message, and how long is it kept?

.PHONY: demo
demo: export QUESTION = $(or $(Q),$(DEMO_QUESTION))
demo: setup ## Run the local stack, ask it a question about this repository, and stay up for more until Ctrl-C
	@$(RUN) handlers up --ask "$$QUESTION" --stay $(UP)

.PHONY: ask
ask: setup ## Ask one question: make ask Q="Which subject carries a user's chat message?"
	@test -n "$$Q" || { echo 'make ask Q="your question"' >&2; exit 2; }
	@$(RUN) handlers up --ask "$$Q" $(UP)

.PHONY: test
test: milvus ## All tests, against real servers, with the coverage floor
	@rm -f .coverage .coverage.*
	@$(RUN) coverage run -m pytest -q $(PYTEST)
	@$(RUN) coverage combine --quiet
	@$(RUN) coverage report --fail-under=95 --include='packages/handler-base/*' --format=total >/dev/null \
		|| { $(RUN) coverage report --include='packages/handler-base/*'; exit 1; }
	@echo "coverage of handler-base: $$($(RUN) coverage report --include='packages/handler-base/*' --format=total) %"

.PHONY: test-fast
test-fast: setup ## The tests without the large real parts
	@$(RUN) pytest -q -m 'not slow' $(PYTEST)

.PHONY: test-3-13
test-3-13: setup ## The tests once more on Python 3.13, where that interpreter is present
	@export PATH="$$PATH:$$(echo $${PYENV_ROOT:-$$HOME/.pyenv}/versions/3.13*/bin)"; \
	if $(UV) python find --quiet 3.13 >/dev/null 2>&1; then \
		UV_PROJECT_ENVIRONMENT=.venv-3.13 $(UV) sync --quiet --locked --all-packages --all-extras --python 3.13 && \
		UV_PROJECT_ENVIRONMENT=.venv-3.13 $(UV) run --no-sync --python 3.13 pytest -q -m 'not slow'; \
	else echo "Python 3.13 is not here; skipped"; fi

# What builds and runs images, and what their tests use, from Debian where one of them is missing; a Docker engine does
# without.
IMAGE_TOOLS := $(if $(filter docker,$(ENGINE)),,buildah podman runc conmon mmdebstrap skopeo docker-registry patchelf)

.PHONY: image-tools
image-tools:
	@missing=; for tool in $(IMAGE_TOOLS); do command -v $$tool >/dev/null || missing="$$missing $$tool"; done; \
	if [ -z "$$missing" ]; then exit 0; fi; \
	command -v apt-get >/dev/null || { echo "please install$$missing" >&2; exit 1; }; \
	as_root=$$([ $$(id -u) = 0 ] || echo sudo); echo "installing$$missing"; \
	$$as_root apt-get update -qq && \
	$$as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $$missing debian-archive-keyring >/dev/null

.PHONY: images
images: setup image-tools ## Build, start and check every image, or SERVICES="a b", into dist/images/; ENGINE=docker with Docker
	@$(RUN) delivery images $(IMAGES) $(SERVICES)

.PHONY: push
push: setup image-tools ## Send images to a registry: make push REGISTRY=git.example.com/ai TAGS="1.2.3" [SERVICES="a b"]
	@test -n "$(REGISTRY)" -a -n "$(TAGS)" || { echo 'make push REGISTRY=host/owner TAGS="1.2.3"' >&2; exit 2; }
	@$(RUN) delivery push --registry "$(REGISTRY)" $(addprefix --tag=,$(TAGS)) $(SERVICES)

# Each side of the comparison has only what it ships with: development tools cost start-up time, too.
.PHONY: bench-environments
bench-environments: setup
	@UV_PROJECT_ENVIRONMENT=.cache/bench/handler $(UV) sync --quiet --locked --python .venv/bin/python \
		--no-default-groups --package chat-handler
	@for service in pipeline-bridge stt-module tts-module voice-assistant; do \
		UV_PROJECT_ENVIRONMENT=.cache/bench/$$service $(UV) sync --quiet --locked --python .venv/bin/python \
			--no-default-groups --package $$service; \
	done
	@UV_PROJECT_ENVIRONMENT=.cache/bench/peer $(UV) sync --quiet --locked --python .venv/bin/python --only-group bench

.PHONY: bench
bench: bench-environments ## chat-handler beside FastStream + httpx, in one run; rewrites the table of bench/README.md
	@$(RUN) python bench/run.py

.PHONY: budgets
budgets: IMAGE_TOOLS += skopeo docker-registry
budgets: bench-environments image-tools ## The budgets of docs/architecture.md and of the images, with pass or fail
	@$(RUN) delivery images --no-check --no-debug
	@$(RUN) python bench/budgets.py
	@$(RUN) python bench/images.py

.PHONY: affected
affected: ## The services whose image a change decides: make affected BASE=main~3
	@$(DELIVERY) affected $${BASE:+--base "$$BASE"}

.PHONY: tag
tag: ## The tag of the images of this commit
	@$(DELIVERY) tag

.PHONY: release
release: ## Version, changelog, commit, tag, push: make release DRY_RUN=true
	@$(DELIVERY) release

.PHONY: wheels
wheels: $(filter .uv/bin/uv,$(UV)) ## Build the wheels of the shared packages into dist/wheels/
	@$(DELIVERY) wheels

.PHONY: publish
publish: $(filter .uv/bin/uv,$(UV)) ## Upload dist/wheels/: make publish UPLOAD=https://git.example.com/api/packages/owner/pypi
	@$(DELIVERY) publish $${UPLOAD:+--upload "$$UPLOAD"}

.PHONY: notify
notify: ## Tell ntfy how a run ended: NEEDS, NTFY_URL, NTFY_TOPIC
	@$(DELIVERY) notify

.PHONY: clean
clean: ## Remove everything that was set up or left behind
	@# buildah leaves images mounted, some more than once
	@while mounted=$$(awk -v below='$(CURDIR)/.cache/' 'index($$2, below) == 1 {print $$2}' /proc/mounts 2>/dev/null | sort -u) \
		&& [ -n "$$mounted" ]; do umount --lazy $$mounted; done
	rm -rf .venv .venv-3.13 .uv .cache .local dist .coverage* .pytest_cache .ruff_cache .hypothesis
