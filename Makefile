# `make demo` and `make check` need python3 (3.11 or newer) and nothing else. PYTHON=python3.12 picks another interpreter.
PYTHON ?= python3
VENV ?= .venv
SECONDS ?= 600
ARGS ?=
# Tests run in so many processes, a file's tests in one of them. The suite's time is meant for two cores.
WORKERS ?= 2
BIN := $(VENV)/bin
VERSION := $(shell $(PYTHON) -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null)
READY := $(VENV)/.ready-$(VERSION)
LOCK := $(BIN)/uv pip compile pyproject.toml --all-extras --group dev --group raft --group bench --universal --python-version 3.11 --generate-hashes \
	--no-emit-index-url --no-emit-find-links --custom-compile-command 'make lock' --quiet

.DEFAULT_GOAL := help
BASE_PYTHON ?= 3.12
.PHONY: help demo test test-deploy wheels check fmt soak netns lock style types imports coverage locked bench bench-docs

help: ## what can be made
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 12

demo: $(READY) ## replicas order a text and lose the token holder, a marketplace sells and loses two more; both agree
	@$(BIN)/ringcast demo

test: $(READY) ## every test but the soak
	$(BIN)/python -m pytest -m 'not soak' --ignore tests/deploy --numprocesses $(WORKERS) --dist loadfile

check: style types imports locked test coverage ## what CI runs: style, types, imports, lock, tests, coverage of the core

fmt: $(READY) ## format the code and mend what ruff can mend
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

soak: $(READY) ## seeds of the simulators, then real replicas under lasting faults, for SECONDS=600 each
	$(BIN)/ringcast simulate --seconds $(SECONDS)
	$(BIN)/ringcast simulate --raft --seconds $(SECONDS)
	RINGCAST_SOAK_SECONDS=$(SECONDS) $(BIN)/python -m pytest -s -m soak tests/processes

wheels: $(READY) ## what an image is built from, for BASE_PYTHON=3.12
	@.ci/wheels $(BASE_PYTHON) $(BIN)/uv $(BIN)/python

test-deploy: $(READY) ## the dashboard in a browser, the image, docker-compose and k8s; installs browser and engine if need be (Debian, root)
	@.ci/browser
	@PYTHON=$(BIN)/python .ci/engine $(BIN)/python -m pytest tests/deploy $(ARGS)

netns: ## what the partition tests need (Debian, root); without it they are skipped
	@.ci/netns

lock: $(READY) ## compile requirements.lock anew, keeping the pins that still fit
	@$(LOCK) --output-file requirements.lock

style: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(READY)
	$(BIN)/mypy

imports: $(READY)
	$(BIN)/lint-imports

coverage: $(READY)
	@mkdir -p .coverage
	$(BIN)/coverage run -m pytest -q -p no:cacheprovider -m 'not soak and not slow' $(wildcard tests/sequencer tests/rules)
	$(BIN)/coverage report

# The present pins are the preferred ones, so a newer release of anything does not fail this; a changed pyproject.toml does.
locked: $(READY)
	@mkdir -p .cache && cp requirements.lock .cache/requirements.lock
	@$(LOCK) --output-file .cache/requirements.lock
	@cmp -s requirements.lock .cache/requirements.lock || \
		{ echo 'requirements.lock does not follow from pyproject.toml; run: make lock' >&2; exit 1; }

bench: $(READY) ## measure this machine, with other systems in the same run; ARGS='--quick' for a look
	@bench/install-peers.sh
	$(BIN)/ringcast bench bus --out bench/results $(ARGS)
	$(BIN)/ringcast bench products --out bench/results/products $(ARGS)

bench-docs: $(READY) ## the same, about 40 minutes: writes the files that docs/performance.md shows
	@bench/install-peers.sh
	$(BIN)/ringcast bench bus --out docs/performance --name bus $(ARGS)

$(READY): requirements.lock pyproject.toml
	@test -n '$(VERSION)' || { echo '$(PYTHON) was not found; install Python 3.11 or newer, or say PYTHON=/path/to/python3.12' >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo '$(PYTHON) is Python $(VERSION); Ringcast needs 3.11 or newer: say PYTHON=/path/to/python3.12' >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || \
		{ echo '$(PYTHON) cannot make a virtual environment; on Debian or Ubuntu: apt-get install python3-venv' >&2; exit 1; }
	@$(BIN)/python -c 'import sys; sys.exit("%d.%d" % sys.version_info[:2] != "$(VERSION)")' 2>/dev/null || \
		$(PYTHON) -m venv --clear $(VENV)
	@echo 'installing what requirements.lock names into $(VENV) ...'
	@$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --require-hashes -r requirements.lock
	@$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@
