# Everything a newcomer needs is `make demo` and `make test`; everything else is for those who work on metergate.
SHELL := /bin/sh
PY := .venv/bin/python
.DEFAULT_GOAL := help

.PHONY: help demo test lint servers nats peers bench soak lock clean

help: ## this list
	@sed -n 's/^\([a-z-]*\):.*## /  make \1\t/p' $(MAKEFILE_LIST)

demo: .venv/.run ## simulated meters, gateway, store and API on this machine
	@.venv/bin/metergate demo $(ARGS)

test: .venv/.dev servers nats peers lint ## linters, types, import law and all tests (real servers included)
	@$(PY) -m pytest -m "not soak and not fault and not real" -n 2 --dist worksteal $(ARGS)
	@$(PY) -m pytest -m "not soak and not alone and (fault or real)" -n 2 --dist worksteal $(ARGS)
	@$(PY) -m pytest -m "alone and not soak" $(ARGS)

lint: .venv/.dev ## ruff, mypy and the import law
	@$(PY) -m ruff check .
	@$(PY) -m ruff format --check .
	@$(PY) -m mypy
	@.venv/bin/lint-imports --no-logo

servers: ## the real servers that the tests need
	@sh scripts/servers

nats: .nats/.made ## the NATS server that the tests need

peers: .peers/.made ## DLMS implementations by others, for the tests and benchmarks

bench: .venv/.dev peers ## the bars of the budget table
	@.venv/bin/metergate bench $(ARGS)

soak: .venv/.dev servers nats ## the long tests: kill storms, fuzzing
	@$(PY) -m pytest -m soak --timeout=0 $(ARGS)

lock: ## write the requirements files anew from pyproject.toml
	@sh scripts/lock

clean: ## remove the environment and caches
	@rm -rf .venv .peers .nats .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache

.venv/.run: requirements.txt pyproject.toml scripts/environment
	@sh scripts/environment requirements.txt
	@touch $@

.venv/.dev: requirements.txt requirements-dev.txt pyproject.toml scripts/environment
	@sh scripts/environment requirements-dev.txt
	@touch $@ .venv/.run

.peers/.made: requirements-peers.txt scripts/environment
	@sh scripts/environment requirements-peers.txt .peers
	@touch $@

.nats/.made: requirements-nats.txt scripts/environment
	@sh scripts/environment requirements-nats.txt .nats --require-hashes --no-deps
	@touch $@
