"""The wheel without extras, in a new environment, scores: what a user of the library gets."""

import json
import subprocess
import sys
import venv
from pathlib import Path

import pytest

from prm.scoring import Scorer, ScorerSpec
from prm.scoring.model import StepHead, save_head
from tests.tiny import tiny_model, tiny_model_folder, tiny_tokenizer

CHECKOUT = Path(__file__).parents[2]
CONSTRAINTS = CHECKOUT / "configs" / "constraints.txt"
PROBLEM, STEPS = "Calculate 1 + 2.", ["Step 1: 1 + 2 = 3", "Answer: 3"]
NOT_IN_BASE = ("accelerate", "datasets", "jsonargparse", "peft", "trl", "wandb")


def run(*command: str | Path, cwd: Path) -> str:
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def tiny_scorer_folder(folder: Path) -> Path:
    """A scorer with random weights, as `prm publish` lays one out."""
    tiny_model_folder(folder)
    width = tiny_model(tiny_tokenizer()).config.hidden_size
    save_head(StepHead(width, likelihood=True), folder)
    ScorerSpec(base_model="tiny", head="likelihood").save(folder)
    return folder


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    run(sys.executable, "-m", "pip", "wheel", "--no-deps", "-w", folder, CHECKOUT, cwd=folder)
    (path,) = folder.glob("stepwise_prm-*.whl")
    return path


@pytest.fixture(scope="module")
def python(wheel, tmp_path_factory) -> Path:
    """The interpreter of a new environment that has the wheel and its base requirements."""
    folder = tmp_path_factory.mktemp("environment")
    venv.create(folder, with_pip=True)
    python = folder / "bin" / "python"
    torch = next(line for line in CONSTRAINTS.read_text().split() if line.startswith("torch=="))
    # torch first and alone, as the Makefile does.
    run(python, "-m", "pip", "install", "--quiet", torch, cwd=folder)
    run(python, "-m", "pip", "install", "--quiet", "-c", CONSTRAINTS, wheel, cwd=folder)
    return python


@pytest.mark.slow
def test_the_wheel_holds_what_the_packages_need(wheel, tmp_path):
    run(sys.executable, "-m", "zipfile", "-e", wheel, tmp_path, cwd=tmp_path)
    for package in ("prm", "data_gen"):
        kept = {
            path.relative_to(CHECKOUT)
            for path in (CHECKOUT / package).rglob("*")
            if path.is_file() and "__pycache__" not in path.parts
        }
        packed = {path.relative_to(tmp_path) for path in (tmp_path / package).rglob("*.*")}
        assert kept == packed
    assert not (tmp_path / "tests").exists()


@pytest.mark.slow
def test_the_base_installation_has_no_extra(python, tmp_path):
    rows = json.loads(run(python, "-m", "pip", "list", "--format=json", cwd=tmp_path))
    installed = {row["name"].lower() for row in rows}
    assert {"stepwise-prm", "torch", "transformers", "safetensors"} <= installed
    assert installed.isdisjoint(NOT_IN_BASE)


@pytest.mark.slow
def test_the_base_installation_scores(python, tmp_path):
    folder = tiny_scorer_folder(tmp_path / "scorer")
    # In another folder than the checkout: the installed package is what is imported.
    script = CHECKOUT / "tests" / "integration" / "base_score.py"
    scores = json.loads(run(python, script, folder, cwd=tmp_path).splitlines()[-1])
    assert len(scores) == 2
    assert all(0.0 <= score <= 1.0 for score in scores)
    here = Scorer.from_pretrained(folder, device="cpu").score(PROBLEM, STEPS)
    assert scores == pytest.approx(here, abs=1e-5)


@pytest.mark.slow
def test_a_job_without_its_extra_names_it(python, tmp_path):
    command = [python, "-m", "data_gen.problems", "--help"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert "pip install 'stepwise-prm[" in done.stderr
