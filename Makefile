# A newcomer needs two commands: `make demo` and `make test`. Both set up what they need
# in .venv, with uv where it is on the PATH and with pip where it is not.

PYTHON ?= python3
VENV ?= .venv
ARGS ?=
PYTHONS ?= 3.11 3.12 3.13 3.14

BIN := $(VENV)/bin
UV := $(shell command -v uv 2>/dev/null)
INSTALL := $(if $(UV),uv pip install --quiet --python $(BIN)/python,$(BIN)/python -m pip install --quiet)
WHEEL := $(if $(UV),uv build --quiet --wheel --out-dir dist,$(BIN)/python -m pip wheel --quiet --no-deps --wheel-dir dist .)
SOURCES := $(wildcard perf tests tools benchmarks examples setup.py)

.DEFAULT_GOAL := help
.PHONY: help demo test test-all-pythons test-tunix test-wheel test-without-faces \
	check check-static docs-check public-names coverage bench format clean

help: ## show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-18s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: $(VENV)/.core ## train a small policy with GRPO and show where its steps went
	$(BIN)/rlperf demo $(ARGS)

test: $(VENV)/.test ## run the tests; ARGS="-k name" runs some of them
	$(BIN)/python -m pytest -n auto --dist loadfile $(ARGS)

test-all-pythons: ## run the tests on every supported Python at hand
	@for version in $(PYTHONS); do \
		python=; \
		for candidate in python$$version $(HOME)/.pyenv/versions/$$version.*/bin/python; do \
			if $$candidate -c '' 2>/dev/null; then python=$$candidate; break; fi; \
		done; \
		if [ -z "$$python" ]; then echo "Python $$version: not at hand, skipped"; continue; fi; \
		$(MAKE) test PYTHON=$$python VENV=.venv-$$version || exit 1; \
	done

test-tunix: ## train with google-tunix on this package; installs a hundred packages
	$(MAKE) .venv-tunix/.test .venv-tunix/.tunix VENV=.venv-tunix
	.venv-tunix/bin/python -m pytest tests/adapters tests/test_metrics_logger.py -m tunix $(ARGS)

test-wheel: $(VENV)/.test ## build the wheel and run the demo from it, away from the sources
	rm -rf dist && $(WHEEL)
	$(MAKE) --always-make .venv-wheel/.python VENV=.venv-wheel
	$(subst $(BIN),.venv-wheel/bin,$(INSTALL)) dist/*.whl
	rlperf=$(CURDIR)/.venv-wheel/bin/rlperf; traces=$$(mktemp -d); trap 'rm -r "$$traces"' EXIT; \
	cd "$$traces" && "$$rlperf" demo --steps 2 --trace-dir "$$traces"

test-without-faces: $(VENV)/.test ## delete perf/compat in a copy, run all other tests
	$(BIN)/python -m pytest -s -m without_faces tests/compat

check: check-static test ## all that a change must pass: check-static and test

check-static: $(VENV)/.test $(VENV)/.check ## format, lint, types, changelog fragments
	$(BIN)/ruff format --check
	$(BIN)/ruff check
	$(BIN)/mypy $(SOURCES)
	$(BIN)/towncrier build --draft --version next > /dev/null

docs-check: $(VENV)/.test ## run the examples in README and docs, follow their links
	$(BIN)/python -m tools.check_docs

public-names: $(VENV)/.test ## rewrite the lists of public names, to be read as a diff
	$(BIN)/python -m tests.test_public_names --update
	$(BIN)/python -m tests.compat.test_public_names --update

coverage: $(VENV)/.test ## run the tests and list the lines they did not reach
	$(BIN)/coverage erase
	$(BIN)/coverage run -m pytest $(ARGS)
	$(BIN)/coverage combine --quiet
	$(BIN)/coverage report

bench: $(VENV)/.$(if $(PEERS),peers,bench) ## measure costs; PEERS=1 compares, google-tunix too
	$(BIN)/python -m benchmarks $(if $(PEERS),--peers) $(ARGS)

format: $(VENV)/.check ## rewrite the sources in the project's format
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

clean: ## remove environments, builds and caches
	rm -rf .venv .venv-* build dist htmlcov .coverage* .hypothesis .mypy_cache .pytest_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# An environment is made once; each set of dependencies is installed again, and what is
# compiled is compiled again, when what describes them has changed.
BUILT_FROM := pyproject.toml setup.py perf/_record/_hot.c perf/_write/_wire.c

$(VENV)/.python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
		echo "rlperf needs Python 3.11 or newer, and '$(PYTHON)' is none: name one with make PYTHON=/path/to/python3.12" >&2; \
		exit 1; }
	$(if $(UV),uv venv --quiet --seed --clear --python "$$($(PYTHON) -c 'import sys; print(sys.executable)')",$(PYTHON) -m venv --clear) $(VENV)
	@touch $@

$(VENV)/.core: $(BUILT_FROM) $(VENV)/.python
	$(INSTALL) --editable .
	@touch $@

$(VENV)/.%: $(BUILT_FROM) $(VENV)/.python
	$(INSTALL) --editable '.[$*]'
	@touch $@
