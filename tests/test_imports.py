"""What an import costs, each in a fresh process: a user pays for what they use and no more."""

import subprocess
import sys
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).parents[1]
FOR_TRAINING = {"accelerate", "datasets", "peft", "trl", "wandb"}
FOR_SERVERS = {"openai", "vllm"}
FOR_MODELS = {"numpy", "safetensors", "torch", "transformers"}


def loaded_by(module: str) -> set[str]:
    """The modules in memory after the import, that were not there before it."""
    program = (
        "import sys; before = set(sys.modules); "
        f"import {module}; print(*sorted(set(sys.modules) - before))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=CHECKOUT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return set(done.stdout.split())


def packages(modules: set[str]) -> set[str]:
    return {name.partition(".")[0] for name in modules}


@pytest.mark.parametrize(
    ("module", "absent"),
    [
        ("prm", FOR_MODELS | FOR_TRAINING | FOR_SERVERS),
        ("prm.search", FOR_MODELS | FOR_TRAINING | FOR_SERVERS),
        ("prm.aggregate", FOR_MODELS | FOR_TRAINING | FOR_SERVERS),
        ("prm.steps", FOR_MODELS | FOR_TRAINING | FOR_SERVERS),
        ("prm.records", FOR_MODELS | FOR_TRAINING | FOR_SERVERS),
        ("prm.verifiers", FOR_MODELS | FOR_TRAINING | FOR_SERVERS),
        ("prm.scoring", FOR_TRAINING | FOR_SERVERS),
        ("prm.generation", FOR_TRAINING | FOR_SERVERS),
    ],
)
def test_an_import_loads_nothing_heavier_than_it_needs(module, absent):
    assert packages(loaded_by(module)) & absent == set()


@pytest.mark.parametrize(
    "module", ["prm", "prm.search", "prm.aggregate", "prm.steps", "prm.verifiers"]
)
def test_these_need_the_standard_library_only(module):
    # Multiprocessing's other name for the main module.
    others = packages(loaded_by(module)) - set(sys.stdlib_module_names) - {"__mp_main__"}
    assert others == {"prm"}


def test_search_loads_only_the_words_of_the_domain():
    ours = {name for name in loaded_by("prm.search") if name.startswith("prm.")}
    allowed = {"prm.aggregate", "prm.errors", "prm.protocols", "prm.records"}
    assert {name for name in ours if not name.startswith("prm.search")} <= allowed


def test_the_measure_sees_what_a_module_loads():
    assert "torch" in packages(loaded_by("prm.device"))
