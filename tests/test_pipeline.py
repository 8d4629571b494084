"""The whole pipeline, each job in a process of its own, on a model of a few kilobytes.

The tiny model is taught to add (and to slip now and then) in a few seconds, so that its samples
are right and wrong solutions and everything behind them has something to work on. Two runs in
fresh folders give the same numbers; so does one whose every job was killed in its middle.
"""

import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
import yaml

from data_gen import pipeline
from prm.critic import Critic
from prm.evaluation.evaluate import read_evaluation
from prm.records import LabelledSolution
from prm.scoring import Scorer
from prm.scoring.spec import load_spec
from prm.store import read_json, read_manifests, read_records
from tests.tiny import tiny_model, tiny_tokenizer

CHECKOUT = Path(__file__).parents[1]
JOBS = (
    "problems", "sample", "label", "critiques", "train_prm-0", "train_critic",
    "publish", "select", "test", "report",
)  # fmt: skip
HIGH = 5  # operands from 1 to 5
TIME_LIMIT = 900  # seconds for a whole run, on a machine that is busy with other things


def written_solution(source, slips=0.2):
    """A problem and a solution as the few-digit adder writes them; each sum may be off by one."""
    a, b, c = (source.randint(1, HIGH) for _ in range(3))
    x = a + b + (source.random() < slips)
    y = x + c + (source.random() < slips)
    return (
        f"Problem: Calculate {a} + {b} + {c}.\n"
        f"Step 1: {a} + {b} = {x}\nStep 2: {x} + {c} = {y}\nAnswer: {y}\n\n"
    )


def taught_model_folder(folder, num_steps=500):
    """The tiny model after it has read some thousand solutions."""
    tokenizer, source = tiny_tokenizer(), random.Random(0)
    model = tiny_model(tokenizer).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=4e-3)
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.1, num_steps)
    for _ in range(num_steps):
        texts = [written_solution(source) for _ in range(32)]
        batch = tokenizer(texts, padding=True, return_tensors="pt")
        labels = batch["input_ids"].masked_fill(batch["attention_mask"] == 0, -100)
        model(**batch, labels=labels).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        schedule.step()
    model.eval().save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return str(folder)


def settings_of(folder, model):
    """A folder of settings like configs/quickstart, smaller."""
    folder.mkdir()
    prompt = folder.with_name("plain.yaml")
    plain = {"name": "plain", "version": 1, "about": "the problem", "kind": "text"}
    prompt.write_text(yaml.safe_dump({**plain, "text": "Problem: {problem}\n"}))
    generator = {"model": model, "dtype": "float32", "device": "cpu"}
    training = {
        "model": model, "dtype": "float32", "device": "cpu", "report_to": "none",
        "warmup_steps": 2, "checkpoint_steps": 4, "logging_steps": 4, "seed": 0,
    }  # fmt: skip
    files = {
        "pipeline": {"seeds": [0]},
        "problems": {
            "sizes": {"train": 12, "selection": 8, "test": 8},
            "num_operands": [3], "low": 1, "high": HIGH, "operators": ["+"], "seed": 0,
        },
        "sample": {
            "generator": generator, "strategies": {str(prompt): 1}, "problems_per_batch": 7,
            "sampling": {"n": 4, "temperature": 0.9, "max_tokens": 64, "stop": ["\n\n"]},
        },
        "label": {
            "splits": ["train", "selection"], "exhaustive_splits": ["selection"],
            "completer": generator, "strategy": str(prompt), "problems_per_batch": 5,
            "sampling": {"temperature": 0.9, "max_tokens": 56, "stop": ["\n\n"]},
            "math_shepherd": {"num_rollouts": 6},
        },
        "critiques": {"split": "train", "max_position_share": 1.0, "batch_size": 1},
        "train_prm": {**training, "max_steps": 24, "head_learning_rate": 0.02},
        "train_critic": {**training, "max_steps": 24, "batch_size": 4, "learning_rate": 5e-3},
        "publish": {},
        "evaluate": {"ns": [1, 2, 4], "min_trials": 6, "dtype": "float32"},
        "report": {"title": "Tiny", "command": "make tiny"},
    }  # fmt: skip
    for name, values in files.items():
        (folder / f"{name}.yaml").write_text(yaml.safe_dump(values))
    return folder


class Started:
    """The pipeline in a process group of its own, one thread a process, its output in a file."""

    def __init__(self, configs, output, *words):
        # A pipe that nobody reads would fill and stop the process.
        self.log = output.with_name(f"{output.name}.log")
        command = [sys.executable, "-m", "data_gen.pipeline", "--configs", str(configs)]
        with self.log.open("w") as file:
            self.process = subprocess.Popen(
                [*command, "--output", str(output), *words],
                cwd=CHECKOUT,
                env={**os.environ, "OMP_NUM_THREADS": "1"},
                stdout=file,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def ended(self):
        """The exit code and what was said."""
        try:
            self.process.wait(TIME_LIMIT)
        finally:
            self.kill()
        return self.process.returncode, self.log.read_text()

    def finished(self):
        """What a run that ended well has said."""
        code, said = self.ended()
        assert code == 0, said
        return said

    def kill(self):
        """End all processes of the group, if there still are any."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


@pytest.fixture(scope="module")
def configs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pipeline")
    return settings_of(folder / "configs", taught_model_folder(folder / "model"))


@pytest.fixture(scope="module")
def runs(configs, tmp_path_factory):
    """Two undisturbed runs in fresh folders, and what the first one said."""
    folder = tmp_path_factory.mktemp("runs")
    outputs = [folder / "first", folder / "second"]
    started = [Started(configs, output) for output in outputs]
    said = [one.finished() for one in started]
    return *outputs, said[0]


def numbers(output):
    """All measured numbers; only the clock is left out."""
    evaluation = read_json(output / "evaluation" / "evaluation.json")
    evaluation.pop("seconds")
    return {
        "evaluation": evaluation,
        "choice": read_json(output / "evaluation" / "choice.json"),
    }


def contents(output):
    """The bytes of all records, and of what was trained."""
    files = sorted((*output.glob("*/shard-*.jsonl"), output / "prm-0/head.safetensors"))
    files += [output / "prm-0/adapter/adapter_model.safetensors", output / "prm-0/golden.json"]
    files += [output / "critic/adapter/adapter_model.safetensors"]
    return {str(path.relative_to(output)): path.read_bytes() for path in files}


@pytest.mark.slow
def test_the_pipeline_ends_with_a_report_and_published_folders(runs):
    output, _, said = runs
    state = read_json(output / "pipeline.json")["jobs"]
    assert tuple(state) == JOBS
    assert all(job["done"] for job in state.values())
    assert "Traceback" not in said
    assert f"published: {output / 'published'}" in said
    page = (output / "report.html").read_text()
    assert page.startswith("<!doctype html>")
    assert "Tiny" in page
    suffixes = {path.suffix for path in (output / "published").rglob("*") if path.is_file()}
    assert suffixes <= {".safetensors", ".json", ".md", ".jinja"}


@pytest.mark.slow
def test_the_published_folders_can_be_used(runs):
    output, *_ = runs
    scorer = Scorer.from_pretrained(output / "published" / "prm", device="cpu")
    scores = scorer.score("Calculate 1 + 2 + 3.", ["Step 1: 1 + 2 = 3", "Step 2: 3 + 3 = 6"])
    assert len(scores) == 2
    assert all(0 < score < 1 for score in scores)
    critic = Critic.from_pretrained(output / "published" / "critic", device="cpu")
    assert critic.critique("Calculate 1 + 2 + 3.", ["Step 1: 1 + 2 = 3"]).text


@pytest.mark.slow
def test_the_run_had_something_to_learn(runs):
    """Right and wrong steps among the labels, and a calibration: no run of empty numbers."""
    output, *_ = runs
    rows = list(read_records(output / "labels", LabelledSolution))
    hard = {label.hard for row in rows for label in row.labels}
    assert {True, False} <= hard
    assert {row.verdict.status for row in rows} >= {"right", "wrong"}
    evaluation = read_evaluation(output / "evaluation" / "evaluation.json")
    assert evaluation.reliability is not None
    assert evaluation.num_problems == 8
    by_name = {method.name: method.points[-1].accuracy for method in evaluation.methods}
    assert 0 < by_name["random sample"] < 1
    (row,) = [r for r in evaluation.step_metrics[0].rows if r.scorer == "PRM"]
    assert row.step_auc is not None
    log = (output / "prm-0" / "training_log.jsonl").read_text().splitlines()
    losses = [json.loads(line)["loss"] for line in log]
    assert losses[-1] < losses[0]


@pytest.mark.slow
def test_every_store_accounts_for_its_rows(runs):
    output, *_ = runs
    for name in ("problems", "solutions", "labels", "critiques"):
        (manifest,) = read_manifests(output / name)
        assert manifest["state"] == "done"
        assert manifest["in"] == manifest["out"] + sum(manifest["skipped"].values())
        assert manifest["out"] > 0


@pytest.mark.slow
def test_the_measured_numbers_stand_in_card_and_spec(runs):
    output, *_ = runs
    evaluation = read_evaluation(output / "evaluation" / "evaluation.json")
    card = (output / "published" / "prm" / "README.md").read_text()
    assert "Not measured yet." not in card
    for method in evaluation.methods:
        last = method.points[-1]
        line = f"| {method.name} | {last.accuracy:.3f} | {last.low:.3f} to {last.high:.3f} |"
        assert line in card
    assert f"Calibration error (ECE): {evaluation.reliability.ece:.3f}." in card
    spec = load_spec(output / "published" / "prm")
    choice = read_json(output / "evaluation" / "choice.json")
    assert (spec.aggregate, spec.chosen_on) == (choice["aggregate"], "selection")
    assert spec.threshold == pytest.approx(min(1.0, choice["thresholds"][0]), abs=1e-6)


@pytest.mark.slow
def test_two_runs_in_fresh_folders_give_the_same_numbers(runs):
    first, second, _ = runs
    assert numbers(first) == numbers(second)
    assert contents(first) == contents(second)


@pytest.mark.slow
def test_a_second_start_keeps_what_is_done(configs, runs):
    output, *_ = runs
    before = contents(output), numbers(output)
    said = Started(configs, output).finished()
    for job in JOBS[:-1]:
        assert f"{job}: done already" in said
    assert (contents(output), numbers(output)) == before


# Where each job is in its middle: what it has written by then.
MIDDLE = {
    "problems": "problems/shard-00000-of-00001.jsonl",
    "sample": "solutions/shard-00000-of-00001.journal",
    "label": "labels/shard-00000-of-00001.journal",
    "critiques": "critiques/shard-00000-of-00001.journal",
    "train_prm-0": "prm-0/checkpoints/checkpoint-*/trainer_state.json",
    "train_critic": "critic/checkpoints/checkpoint-*/trainer_state.json",
    "publish": "published/.prm-*",
    "select": "evaluation/scores/selection-prm-0.json",
    "test": "evaluation/scores/test-prm-0.json",
    "report": "report.html",
}


def killed_in(job, configs, output):
    """Start the pipeline and kill all its processes while ``job`` is in its middle."""
    started, limit = Started(configs, output), time.monotonic() + TIME_LIMIT
    try:
        while not list(output.glob(MIDDLE[job])):
            assert started.process.poll() is None, started.log.read_text()
            assert time.monotonic() < limit, started.log.read_text()
            time.sleep(0.001)
    finally:
        started.kill()
    state = output / "pipeline.json"
    jobs = read_json(state)["jobs"] if state.exists() else {}
    assert not jobs.get(job, {}).get("done"), f"{job} ended before it was killed"


@pytest.mark.slow
def test_a_run_whose_every_job_was_killed_gives_the_same_numbers(configs, runs, tmp_path):
    first, *_ = runs
    output = tmp_path / "killed"
    for job in JOBS:
        killed_in(job, configs, output)
    said = Started(configs, output).finished()
    assert "Traceback" not in said
    assert numbers(output) == numbers(first)
    assert contents(output) == contents(first)
    assert (output / "report.html").is_file()
    cards = [(run / "published/prm/README.md").read_text() for run in (output, first)]
    assert cards[0].partition("<details>")[0] == cards[1].partition("<details>")[0]


# What it says when something is wrong. These take no model.


def ended(words, capsys):
    with pytest.raises(SystemExit) as end:
        pipeline.main([str(word) for word in words])
    return end.value.code, capsys.readouterr().err


@pytest.fixture
def small(tmp_path):
    """Settings that are never run to their end."""
    return settings_of(tmp_path / "configs", "nowhere")


def test_a_folder_without_settings_is_named(tmp_path, capsys):
    words = ["--configs", tmp_path / "nowhere", "--output", tmp_path / "out"]
    code, message = ended(words, capsys)
    assert code == 1
    assert message.startswith("pipeline: ConfigError: ")
    assert "nowhere/pipeline.yaml: no such file" in message
    assert not (tmp_path / "out").exists()


def test_an_unknown_job_is_named_with_those_that_exist(small, tmp_path, capsys):
    words = ["--configs", small, "--output", tmp_path / "out", "--until", "tset"]
    code, message = ended(words, capsys)
    assert code == 1
    assert f"--until tset: the jobs are {list(JOBS)}" in message


@pytest.mark.parametrize("words", [[], ["--configs", "x"], ["--colour", "red"]])
def test_wrong_words_end_with_the_usage(words, capsys):
    code, message = ended(words, capsys)
    assert code == 2
    assert "usage: python -m data_gen.pipeline" in message


def test_a_job_that_fails_ends_the_pipeline_with_how_to_go_on(small, tmp_path):
    (small / "problems.yaml").write_text("colour: red\n")
    code, said = Started(small, tmp_path / "out").ended()
    assert code == 1
    assert "colour" in said
    assert "job problems ended with exit code 2" in said
    assert f"-m data_gen.pipeline --configs {small} --output {tmp_path / 'out'}" in said
    assert "Traceback" not in said
    assert not read_json(tmp_path / "out" / "pipeline.json")["jobs"]["problems"]["done"]
    # Mended, the same command goes on.
    (small / "problems.yaml").write_text("sizes: {train: 2}\n")
    said = Started(small, tmp_path / "out", "--until", "problems").finished()
    assert "in 2 = out 2 + skipped 0" in said
    assert "done already" in Started(small, tmp_path / "out", "--until", "problems").finished()


def test_changed_settings_run_the_job_again(small, tmp_path):
    """The store refuses to mix: what was made with other settings is not added to."""
    Started(small, tmp_path / "out", "--until", "problems").finished()
    (small / "problems.yaml").write_text("sizes: {train: 2}\n")
    code, said = Started(small, tmp_path / "out", "--until", "problems").ended()
    assert code == 1
    assert "was written with another config_hash" in said
    assert "Traceback" not in said


def test_the_short_form_changes_a_jobs_command(small, tmp_path):
    jobs = {job.name: job for job in pipeline.plan(tmp_path, {"seeds": [0]}, small)}
    smaller = {"sample": {"sampling.n": 2}, "problems": {"sizes": {"train": 3}}}
    command = jobs["sample"].command(small, smaller)
    assert command[command.index("--sampling.n") + 1] == "2"
    command = jobs["problems"].command(small, smaller)
    assert json.loads(command[command.index("--sizes") + 1]) == {"train": 3}
    assert "--sampling.n" not in jobs["label"].command(small, smaller)


def test_each_seed_has_its_folder_and_its_name(small, tmp_path):
    jobs = {job.name: job for job in pipeline.plan(tmp_path, {"seeds": [3, 5]}, small)}
    assert [name for name in jobs if name.startswith("train_prm")] == ["train_prm-3", "train_prm-5"]
    arguments = jobs["publish"].arguments
    prms = json.loads(arguments[arguments.index("--prms") + 1])
    assert prms == {"prm": str(tmp_path / "prm-3"), "prm-5": str(tmp_path / "prm-5")}
    arguments = jobs["select"].arguments
    assert json.loads(arguments[arguments.index("--prms") + 1]) == [
        str(tmp_path / "published" / "prm"), str(tmp_path / "published" / "prm-5"),
    ]  # fmt: skip


def test_a_committed_choice_is_used_on_test_and_decides_whether_it_is_done(small, tmp_path):
    def test_job():
        (job,) = [j for j in pipeline.plan(tmp_path, {}, small) if j.name == "test"]
        return job

    assert "--choice" not in test_job().arguments
    (small / "choice.json").write_text("{}")
    job = test_job()
    assert job.arguments[job.arguments.index("--choice") + 1] == str(small / "choice.json")
    assert job.reads == (small / "choice.json",)
