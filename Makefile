# Targets for people and for CI. Only Python 3.11 or newer and make are assumed.
# `make` alone lists them.

# The first that works: a version manager's shim is found for versions it does not have.
PYTHON ?= $(shell for name in python3 python3.13 python3.12 python3.11 python; do \
  "$$name" -c 'import ensurepip, sys, venv; sys.exit(sys.version_info < (3, 11))' 2>/dev/null \
  && { echo "$$name"; break; }; done)
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
# What the containers' images install, each with the versions of requirements.lock.
IMAGE_EXTRAS := build setup trader risk recorder api backup

.PHONY: help install run test lint format bench docs dashboards panels pictures lock clean
.DEFAULT_GOAL := help

help: ## list the targets
	@grep -hE '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## (.*)/  make \1\t\2/' | expand -t 18

install: $(INSTALLED) ## make .venv with everything in it, as requirements.lock says
$(INSTALLED): requirements.lock pyproject.toml
	@test -n '$(PYTHON)' || { echo 'Python 3.11 or newer with venv is needed' \
	  '(Debian, Ubuntu: apt install python3-venv), or make install PYTHON=/path/to/python'; exit 1; }
	@echo 'installing into $(VENV), a minute or two'
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install -q --disable-pip-version-check --no-deps --require-hashes -r requirements.lock
	@$(BIN)/python -m pip install -q --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $(INSTALLED)

run: install ## start the desk with the paper strategy, until Ctrl-C
	@$(BIN)/desk up --demo

lint: install ## check style, types and who may import whom
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

test: lint ## lint, and run every test on real NATS and PostgreSQL
	$(BIN)/pytest -n 2 --dist loadgroup

format: install ## put the code into shape
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: install ## measure against bare libraries; also writes bench.json
	$(BIN)/python -m tests.bench

docs: install ## write the tables and schemas of the docs from the code
	$(BIN)/python docs/generate.py
	$(BIN)/python docs/strategy_forms.py
	$(BIN)/python -m services.shared.asyncapi
	$(BIN)/python -m services.api.openapi

dashboards: install ## write Grafana's dashboards from their code
	$(BIN)/python -m grafana.generate

panels: install ## every panel of the dashboards on a million trades: rows and milliseconds
	$(BIN)/python -m tests.bench panels

pictures: install ## take the pictures of the docs from the real thing
	$(BIN)/python docs/pictures/make.py
	$(BIN)/python docs/pictures/console.py

lock: install ## renew requirements.lock from pyproject.toml
	$(BIN)/uv pip compile --universal --python-version 3.11 --all-extras --generate-hashes \
	  --no-emit-index-url --no-header --upgrade -q -o requirements.lock pyproject.toml
	for extra in $(IMAGE_EXTRAS); do also=; [ $$extra != api ] || also='--extra cli'; \
	  $(BIN)/uv pip compile --universal --python-version 3.11 --extra $$extra $$also \
	  --constraints requirements.lock --generate-hashes --no-emit-index-url --no-header --no-annotate \
	  -q -o deploy/requirements/$$extra.lock pyproject.toml || exit 1; done
	@! grep -nE 'https?://|--index' requirements.lock deploy/requirements/*.lock

clean: ## remove .venv and what tools left; never the desk's data
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache bench.json
