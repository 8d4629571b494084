"""Publishing: the folder scores as the trained model did, or it does not exist."""

import dataclasses
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from prm import cli
from prm.errors import ConfigError, SpecError
from prm.evaluation.evaluate import Evaluation
from prm.publish import publish as module
from prm.publish.card import apply_choice, with_results
from prm.publish.publish import PublishConfig, publish, verify
from prm.records import Evidence, LabelledSolution, StepLabel, Verdict
from prm.report.data import Estimate, MethodCurve, MethodPoint, StepMetrics, StepMetricsRow
from prm.scoring import Scorer
from prm.scoring.model import StepScoringModel, load_head
from prm.scoring.spec import load_spec
from prm.store import StoreWriter
from prm.training import train_prm
from tests.tiny import tiny_model_folder, tiny_problem, tiny_solution

CHECKOUT = Path(__file__).parents[1]
# peft asks transformers under an old name; our commands silence it.
pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")

PROBLEM = "Calculate 2 + 1."
STEPS = ["Step 1: 2 + 1 = 3", "Answer: 3"]


def labelled(problem, number):
    """One right solution: every step was tried four times, three times with success."""
    solution = tiny_solution(problem, [f"Step 1: {number} + 1 = {number + 1}", "Answer: 3"])
    evidence = (Evidence("rollouts", 3, 4, "tiny"),)
    labels = tuple(StepLabel(i, 3, 4, 0.75, None, True, evidence) for i in range(2))
    return LabelledSolution(solution, labels, {}, Verdict("right", "tiny"), "test", "test")


def stored(folder, rows):
    with StoreWriter(folder, job="test", config={}, config_hash="0") as writer:
        writer.append("all", rows)
    return str(folder)


def trained_run(folder, **changes):
    """A finished training run. Its scores are not saturated: that would hide differences."""
    problems = [tiny_problem(n, (n, 1)) for n in range(4)]
    rows = [labelled(problem, n) for n, problem in enumerate(problems)]
    config = train_prm.TrainPRMConfig(
        labelled=stored(folder / "labelled", rows),
        problems=stored(folder / "problems", problems),
        output=str(folder / "run"),
        model=str(tiny_model_folder(folder / "model")),
        head="linear",
        language_weight=0.0,
        learning_rate=3e-3,
        head_learning_rate=3e-2,
        warmup_steps=1,
        problems_per_step=2,
        max_steps=6,
        dtype="float32",
        device="cpu",
        report_to="none",
    )
    config = dataclasses.replace(config, **changes)
    path = folder / "train_prm.yaml"
    path.write_text(json.dumps(dataclasses.asdict(config)))
    train_prm.main(["--config", str(path)])
    return Path(config.output)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return trained_run(tmp_path_factory.mktemp("publish"))


def settings_for(run, output):
    return PublishConfig(prms={"prm": str(run)}, output=str(output))


@pytest.fixture(scope="module")
def published(run, tmp_path_factory):
    """The published folder; tests that change it take a copy."""
    output = tmp_path_factory.mktemp("published")
    (line,) = publish(settings_for(run, output))
    assert "loads, and gives the trainer's scores" in line
    return output / "prm"


@pytest.fixture
def copy(published, tmp_path):
    return Path(shutil.copytree(published, tmp_path / "copy"))


def load(folder):
    return Scorer.from_pretrained(folder, device="cpu", dtype="float32")


def unmerged(run, *, with_adapter=True):
    """The trained model as the run has it: base, adapter, head."""
    spec = load_spec(run)
    model = AutoModelForCausalLM.from_pretrained(spec.base_model, dtype=torch.float32)
    if with_adapter:
        model = PeftModel.from_pretrained(model, str(run / "adapter"))
    scoring = StepScoringModel(model, spec)
    load_head(scoring.head, run)
    return Scorer(scoring, AutoTokenizer.from_pretrained(run / "tokenizer"), spec)


def largest_difference(a, b):
    return max(abs(x - y) for x, y in zip(a, b, strict=True))


def test_the_folder_scores_as_the_trained_model_did(run, published):
    """Also on texts that are not among the golden ones."""
    found = load(published).score(PROBLEM, [*STEPS, "Answer: 99"])
    trained = unmerged(run).score(PROBLEM, [*STEPS, "Answer: 99"])
    assert all(0.02 < score < 0.98 for score in trained)
    assert largest_difference(found, trained) < 1e-5
    # Without the adapter the scores are others: it is in the published weights.
    untrained = unmerged(run, with_adapter=False).score(PROBLEM, [*STEPS, "Answer: 99"])
    assert largest_difference(found, untrained) > 1e-3


def test_golden_scores_are_those_of_the_trained_model(run, published):
    golden = json.loads((published / "golden.json").read_text())
    assert golden == json.loads((run / "golden.json").read_text())
    assert len(golden) == 4
    for row in golden:
        found = unmerged(run).score(row["problem"], row["steps"])
        assert largest_difference(found, row["scores"]) < 1e-5
    assert verify(published) < 1e-5


def test_a_run_on_a_bfloat16_base_is_published_with_its_rounded_weights(tmp_path):
    run = trained_run(tmp_path, dtype="bfloat16")
    publish(settings_for(run, tmp_path / "out"))
    folder = tmp_path / "out" / "prm"
    assert verify(folder) < 1e-5
    name = "model.embed_tokens.weight"
    original = load_file(load_spec(run).base_model + "/model.safetensors")[name]
    found = load_file(folder / "model.safetensors")[name]
    assert found.dtype is torch.float32
    assert torch.equal(found, original.bfloat16().float())
    assert not torch.equal(found, original)


def test_a_likelihood_head_is_published_whole(tmp_path):
    run = trained_run(
        tmp_path, head="likelihood", language_weight=0.3, head_learning_rate=0.2, max_steps=12
    )
    publish(settings_for(run, tmp_path / "out"))
    found = load(tmp_path / "out" / "prm").score(PROBLEM, STEPS)
    trained = unmerged(run).score(PROBLEM, STEPS)
    assert all(0.01 < score < 0.99 for score in trained)
    assert largest_difference(found, trained) < 1e-5


@pytest.mark.parametrize("change", [0.01, float("nan")])
def test_a_changed_weight_is_found(copy, change):
    tensors = load_file(copy / "model.safetensors")
    tensors["model.layers.1.mlp.up_proj.weight"] += change
    save_file(tensors, copy / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(SpecError, match="scores differ from the trainer's"):
        verify(copy)


def test_a_changed_head_or_template_is_found(copy):
    spec = load_spec(copy)
    dataclasses.replace(spec, template="Q: {problem}\n").save(copy)
    with pytest.raises(SpecError, match="scores differ"):
        verify(copy)
    spec.save(copy)
    assert verify(copy) < 1e-5
    head = load_file(copy / "head.safetensors")
    head["linear.bias"] += 0.001
    save_file(head, copy / "head.safetensors")
    with pytest.raises(SpecError, match="scores differ"):
        verify(copy)


def test_what_would_not_score_as_trained_is_not_published(run, tmp_path):
    broken = Path(shutil.copytree(run, tmp_path / "run"))
    golden = json.loads((broken / "golden.json").read_text())
    golden[0]["scores"][0] += 0.01
    (broken / "golden.json").write_text(json.dumps(golden))
    with pytest.raises(SpecError, match="scores differ from the trainer's by 1.00e-02"):
        publish(settings_for(broken, tmp_path / "out"))
    assert list((tmp_path / "out").iterdir()) == []


def test_the_folder_holds_safetensors_only(published):
    suffixes = {path.suffix for path in published.rglob("*") if path.is_file()}
    assert suffixes <= {".safetensors", ".json", ".md", ".jinja"}
    names = {path.name for path in published.iterdir()}
    assert {"config.json", "model.safetensors", "head.safetensors", "prm_spec.json",
            "tokenizer.json", "golden.json", "README.md", "adapter"} <= names  # fmt: skip
    tensors = load_file(published / "model.safetensors")
    assert all(value.dtype is torch.float32 for value in tensors.values())
    assert not any("lora" in name for name in tensors)


def test_the_folder_can_be_read_by_others(published):
    """It is made in a temporary folder, which only its owner could read."""
    assert published.stat().st_mode & 0o777 == 0o755


def test_an_unfinished_run_is_refused(run, tmp_path, capsys):
    half = Path(shutil.copytree(run, tmp_path / "half"))
    (half / "DONE").unlink()
    with pytest.raises(ConfigError, match="half: this training run is not finished"):
        publish(settings_for(half, tmp_path / "out"))
    assert not (tmp_path / "out" / "prm").exists()
    words = ["--prms", json.dumps({"prm": str(half)}), "--output", str(tmp_path / "out")]
    with pytest.raises(SystemExit) as end:
        cli.main(["publish", *words])
    assert end.value.code == 1
    assert capsys.readouterr().err.startswith("prm publish: ConfigError: ")


def states(folder):
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*")}


def test_publishing_again_does_nothing(run, published):
    before = states(published)
    (line,) = publish(settings_for(run, published.parent))
    assert line == f"{published}: published already"
    assert states(published) == before


def test_another_run_takes_the_name(run, tmp_path):
    publish(settings_for(run, tmp_path / "out"))
    other = trained_run(tmp_path, seed=1)
    (line,) = publish(settings_for(other, tmp_path / "out"))
    assert "published already" not in line
    golden = (tmp_path / "out" / "prm" / "golden.json").read_text()
    assert golden == (other / "golden.json").read_text() != (run / "golden.json").read_text()


def test_publishing_that_fails_leaves_the_folder_of_before(run, tmp_path, monkeypatch):
    publish(settings_for(run, tmp_path / "out"))
    folder = tmp_path / "out" / "prm"
    before = states(folder)
    (folder / "source.json").rename(folder / "old.json")  # as if it were of another run
    before = states(folder)

    def interrupt(_):
        raise KeyboardInterrupt

    monkeypatch.setattr(module, "verify", interrupt)
    with pytest.raises(KeyboardInterrupt):
        publish(settings_for(run, tmp_path / "out"))
    assert states(folder) == before
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["prm"]


def test_publishing_that_is_killed_leaves_no_half_folder(run, tmp_path):
    output = tmp_path / "out"
    words = ["--prms", json.dumps({"prm": str(run)}), "--output", str(output)]
    process = subprocess.Popen(
        [sys.executable, "-m", "prm.cli", "publish", *words],
        cwd=CHECKOUT,
        env={**os.environ, "PYTHONPATH": str(CHECKOUT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    while not list(output.glob(".prm-*")):
        assert process.poll() is None, process.communicate()[0]
        time.sleep(0.001)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    assert not (output / "prm").exists()
    assert list(output.glob(".prm-*"))
    (line,) = publish(settings_for(run, output))
    assert "gives the trainer's scores" in line
    assert [path.name for path in output.iterdir()] == ["prm"]
    assert verify(output / "prm") < 1e-5


def test_the_card_says_what_is_known(run, published):
    card = (published / "README.md").read_text()
    assert "- A score predicts: `success_rate`." in card
    assert "- Trained on 4 solutions of 4 problems in 6 steps; " in card
    assert f"base_model: {load_spec(run).base_model}" in card
    assert "Not measured yet." in card
    assert '"learning_rate": 0.003' in card


def measured(accuracy):
    """Results with numbers that can be found again."""
    points = (MethodPoint(1, 0.5, 0.4, 0.6), MethodPoint(8, accuracy, accuracy - 0.1, 0.99))
    row = StepMetricsRow("PRM", Estimate(0.8125, 0.7, 0.9), None, None, None)
    choice = {"method": "best_of_n:prm-prod", "aggregate": "prod", "split": "selection",
              "thresholds": [0.9, 0.31]}  # fmt: skip
    return Evaluation(
        split="test", num_problems=17, num_samples=8, choice=choice,
        methods=(MethodCurve("best-of-n by PRM (prod)", "ours", points),),
        methods_by_seed={
            "0": {"best_of_n:prm-prod": 0.111}, "1": {"best_of_n:prm-prod": accuracy + 0.02},
        },
        differences=(), chosen="best-of-n by PRM (prod)",
        references=("majority vote",), gap_closed=None, threshold=0.31,
        step_metrics=(StepMetrics("All problems", 17, (row,)),), reliability=None, labels=None,
        critic=None, solutions=(), tokens={}, seconds={},
    )  # fmt: skip


def test_measured_numbers_take_their_place_in_the_card(published):
    card = (published / "README.md").read_text()
    spec = apply_choice(load_spec(published), measured(0.625).choice, seed=1)
    assert (spec.aggregate, spec.threshold, spec.chosen_on) == ("prod", 0.31, "selection")
    first = with_results(spec, card, measured(0.625), seed=1)
    assert "| best-of-n by PRM (prod) | 0.625 | 0.525 to 0.990 |" in first
    assert "On 17 held-out problems, 8 samples each" in first
    assert "aggregate `prod` and threshold 0.310 were chosen on the `selection` split" in first
    assert "| PRM | all problems | 0.812 | not defined |" in first
    assert "averages over 2 training seed(s); this one's best-of-n by PRM (prod): 0.645" in first
    assert "Not measured yet." not in first
    # Measured again, the new numbers replace the old ones; the rest of the card stays.
    second = with_results(spec, first, measured(0.75), seed=1)
    assert "| best-of-n by PRM (prod) | 0.750 |" in second
    assert "0.625" not in second
    before, after = card.split("Not measured yet.")
    assert second.startswith(before.removesuffix("\n\n"))
    assert second.endswith(after.lstrip())
