# `make` alone prints the targets.
.DEFAULT_GOAL := help
.PHONY: help setup test test-farm test-hosts test-browser test-nfs lint format demo farm flower bench reference man lock test-lowest test-all-pythons clean

# A figure each; the others in the directory are their helpers.
BENCHMARKS = $(shell grep -l '^if __name__ == "__main__"' benchmarks/*.py)

help: ## print this
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-18s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: ## make .venv with the `stager` command (PYTHON=... chooses the interpreter)
	@scripts/setup

test: setup ## style, types, import contract and tests
	@scripts/system-packages
	@scripts/check lint types imports tests

test-farm: setup ## a farm under kill -9 of workers, server and Redis, backups, growth: some minutes
	@.venv/bin/python -m pytest tests/campaign

test-browser: setup ## the page in Chromium: some minutes
	@scripts/system-packages browser
	@.venv/bin/python -m pytest tests/browser

test-hosts: setup ## jobs on nodes with a cache of their own, or without a share: a minute
	@scripts/system-packages hosts
	@.venv/bin/python -m pytest tests/hosts

test-nfs: setup ## tests of several hosts that share a real NFS mount (as root)
	@scripts/system-packages nfs
	@.venv/bin/python -m pytest tests/nfs

lint: setup ## style, types and import contract
	@scripts/check lint types imports

format: setup ## put the code into its one style
	@.venv/bin/ruff check --fix-only --quiet . || true
	@.venv/bin/ruff format .

demo: setup ## run the main job, end to end, on this machine
	@.venv/bin/python demo/run.py

farm: setup ## run a farm on this machine and the main job through it, until Ctrl-C
	@.venv/bin/python demo/run.py --farm --stay

flower: setup ## run the dashboard of the configured Redis's workers (FLOWER_PASSWORD_FILE: who may look)
	@scripts/flower

bench: ## measure, with peers beside it (BENCHMARKS=... chooses the scripts)
	@scripts/system-packages bench
	@scripts/setup build/venv-bench requirements/bench.txt
	@set -e; for script in $(BENCHMARKS); do echo "== $$script"; build/venv-bench/bin/python $$script; done

reference: setup ## write the pages of docs/reference that are read off the code
	@.venv/bin/python scripts/reference.py

man: setup ## write manual pages of all commands into build/man
	@.venv/bin/python scripts/man.py

lock: ## write requirements/*.txt anew from pyproject.toml
	@scripts/lock

test-lowest: setup ## the tests with the oldest dependencies that are allowed
	@scripts/test-lowest

test-all-pythons: ## the tests with every supported Python on this machine
	@scripts/test-pythons

clean: ## delete what the targets above made
	@rm -rf .venv build dist .mypy_cache .pytest_cache .ruff_cache .hypothesis .import_linter_cache .demo
