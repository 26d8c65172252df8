# Every target sets up what is missing first. `make help` lists them.
PYTHON := .venv/bin/python
SHELL := /bin/bash

.DEFAULT_GOAL := help
.PHONY: help setup setup-tests demo up down test test-full test-contract test-clients lint bench

help: ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-13s %s\n", $$1, $$2}'

setup: ## interpreter, locked packages, PostGIS: installs what is missing
	@.ci/setup

setup-tests: setup ## the same, and a browser for the tests of the upload page
	@.ci/setup tests

demo: setup ## the whole system with demonstration upstreams and data; Ctrl-C ends it
	@exec $(PYTHON) -m tests.demo

up: setup ## the whole system with your sources (FEDERATOR_SOURCES_DIR); Ctrl-C ends it
	@exec $(PYTHON) -m api up

down: ## stop a system that runs in another terminal, and the private database
	@if [ -x $(PYTHON) ]; then $(PYTHON) -m api down; else echo "nothing to stop: not set up yet"; fi

lint: setup ## ruff, mypy --strict, import layers
	$(PYTHON) -m ruff check .
	$(PYTHON) -m ruff format --check .
	$(PYTHON) -m mypy
	.venv/bin/lint-imports

test: setup-tests lint ## lint, then all tests (real PostgreSQL, loopback only)
	$(PYTHON) -m pytest -n 4 --dist loadfile --no-loadscope-reorder

test-full: setup-tests lint ## all tests at the size that the documentation names (about twice as long)
	FEDERATOR_TEST_FULL=1 $(PYTHON) -m pytest -n 4 --dist loadfile --no-loadscope-reorder --timeout=600

test-contract: setup ## judges from outside: stac-api-validator, schemathesis, schemas, clients (a part of `make test`)
	FEDERATOR_TEST_FULL=1 $(PYTHON) -m pytest -n 2 --dist loadfile --timeout=600 tests/contract

test-clients: setup-tests ## map clients (a part of `make test`), with QGIS, which is installed (500 MB)
	@.ci/setup clients
	FEDERATOR_TEST_FULL=1 $(PYTHON) -m pytest -n 2 --dist loadfile tests/map_clients tests/api/test_what_map_clients_ask.py

bench: setup ## measure against the peers in the same run (figures: benchmarks/RESULTS.md)
	$(PYTHON) -m benchmarks
