"""The PRM's training job on the tiny model: it learns, resumes to the same bytes, and refuses."""

import dataclasses
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import load_file

from prm import config as settings
from prm.errors import ConfigError, TrainingError
from prm.records import Evidence, LabelledSolution, StepLabel, Verdict
from prm.scoring.encoding import Encoder
from prm.scoring.spec import load_spec
from prm.store import StoreWriter, read_json
from prm.training import train_prm
from prm.training.callbacks import LogWriter
from prm.training.prm_data import read_examples
from prm.training.run_folder import newest_checkpoint
from prm.training.train_prm import TrainPRMConfig, main
from tests.tiny import tiny_model_folder, tiny_problem, tiny_solution, tiny_tokenizer

CHECKOUT = Path(__file__).parents[1]


def labelled(problem, steps, good, sample):
    """A solution whose every step was tried: all rollouts succeed, or none."""
    last = len(steps) - 1
    labels = []
    for i in range(len(steps)):
        trials = 1 if i == last else 8
        kind = "verdict" if i == last else "rollouts"
        evidence = (Evidence(kind, good * trials, trials, "tiny"),)
        hard = True if good else (False if i == 0 else None)
        labels.append(StepLabel(i, good * trials, trials, float(good), None, hard, evidence))
    return LabelledSolution(
        solution=tiny_solution(problem, steps, sample),
        labels=tuple(labels),
        first_error={},
        verdict=Verdict("right" if good else "wrong", "tiny"),
        labeler="test",
        stop_reason="test",
    )


def solutions(problem, number):
    """A right and a wrong solution, and the right one again."""
    right = [f"Step 1: {number} + 1 = {number + 1}", f"Answer: {number + 1}"]
    wrong = [f"Step 1: {number} + 1 = {number + 5}", f"Answer: {number + 5}"]
    return [
        labelled(problem, right, True, 0),
        labelled(problem, wrong, False, 1),
        labelled(problem, right, True, 2),
    ]


def stored(folder, rows):
    with StoreWriter(folder, job="test", config={}, config_hash="0") as writer:
        writer.append("all", rows)
    return str(folder)


@pytest.fixture(scope="module")
def material(tmp_path_factory):
    """Eight problems with right and wrong solutions, and the tiny model, as settings."""
    folder = tmp_path_factory.mktemp("train_prm")
    problems = [tiny_problem(n, (n, 1)) for n in range(8)]
    rows = [row for n, problem in enumerate(problems) for row in solutions(problem, n)]
    return TrainPRMConfig(
        labelled=stored(folder / "labelled", rows),
        problems=stored(folder / "problems", problems),
        output=str(folder / "run"),
        model=str(tiny_model_folder(folder / "model")),
        learning_rate=1e-2,
        head_learning_rate=1e-2,
        warmup_steps=2,
        max_steps=24,
        dtype="float32",
        device="cpu",
        checkpoint_steps=8,
        logging_steps=4,
        report_to="none",
    )


def changed(material, folder, **changes):
    return dataclasses.replace(material, output=str(folder), **changes)


def written(config):
    """The settings as a file."""
    path = Path(config.output).with_suffix(".yaml")
    path.write_text(json.dumps(settings.resolved(config)))
    return str(path)


def train(config):
    main(["--config", written(config)])
    return Path(config.output)


@pytest.fixture(scope="module")
def trained(material):
    """The output folder of an undisturbed run."""
    return train(material)


def log(folder):
    """The log without the clock."""
    lines = (Path(folder) / "training_log.jsonl").read_text().splitlines()
    return [{k: v for k, v in json.loads(line).items() if k != "seconds"} for line in lines]


def made(folder):
    """The bytes of what training makes."""
    names = ("adapter/adapter_model.safetensors", "head.safetensors", "golden.json")
    return {name: (Path(folder) / name).read_bytes() for name in (*names, "prm_spec.json")}


def same_run(folder, other):
    assert log(folder) == log(other)
    assert made(folder) == made(other)
    done, expected = read_json(folder / "DONE"), read_json(other / "DONE")
    assert {**done, "seconds_of_last_start": 0} == {**expected, "seconds_of_last_start": 0}


def golden_scores(folder):
    """Final scores of right and of wrong solutions."""
    rows = json.loads((folder / "golden.json").read_text())
    ends = [("= " + str(int(row["problem"].split()[1]) + 1), row) for row in rows]
    right = [row["scores"] for text, row in ends if row["steps"][0].endswith(text)]
    wrong = [row["scores"] for text, row in ends if not row["steps"][0].endswith(text)]
    assert right
    assert wrong
    return right, wrong


@pytest.mark.parametrize(
    ("head", "labels", "target"),
    [("likelihood", "counts", "success_rate"), ("linear", "hard", "other")],
)
def test_the_loss_falls_and_right_is_told_from_wrong(material, tmp_path, head, labels, target):
    config = changed(
        material,
        tmp_path / "run",
        head=head,
        labels=labels,
        language_weight=0.3 if head == "likelihood" else 0.0,
        head_learning_rate=5e-2,
        max_steps=120,
        logging_steps=20,
    )
    folder = train(config)
    losses = [row["loss"] for row in log(folder)]
    assert len(losses) == 6
    assert losses[-1] < 0.5 * losses[0]
    right, wrong = golden_scores(folder)
    assert min(min(scores) for scores in right) > 0.6
    assert max(max(scores) for scores in wrong) < 0.4
    assert (load_spec(folder).head, load_spec(folder).target) == (head, target)


def test_the_log_has_a_line_each_few_steps(trained):
    assert [row["step"] for row in log(trained)] == [4, 8, 12, 16, 20, 24]
    assert [row["epoch"] for row in log(trained)] == [2.0, 4.0, 6.0, 8.0, 10.0, 12.0]


def test_the_run_leaves_what_it_promises(trained, material):
    names = {path.name for path in trained.iterdir()}
    assert {"adapter", "head.safetensors", "prm_spec.json", "golden.json", "config.json",
            "training_log.jsonl", "checkpoints", "tokenizer", "DONE"} <= names  # fmt: skip
    config = read_json(trained / "config.json")
    assert config["config"] == settings.resolved(material)
    assert config["config_hash"] == settings.fingerprint(material)
    spec = load_spec(trained)
    assert (spec.base_model, spec.head, spec.target) == (
        material.model, "likelihood", "success_rate",
    )  # fmt: skip
    assert not list(trained.glob("adapter/*.bin"))
    checkpoints = {path.name for path in (trained / "checkpoints").iterdir()}
    assert checkpoints == {"checkpoint-16", "checkpoint-24"}


def test_done_accounts_for_every_solution_and_token(trained, material):
    done = read_json(trained / "DONE")
    assert (done["solutions"], done["skipped"]) == (16, {"repeated_solution": 8})
    assert (done["problems"], done["steps"], done["processes"]) == (8, 24, 1)
    # 24 steps of 4 problems are 12 passes over all 8, each tree's tokens once a pass.
    encoder = Encoder(tiny_tokenizer(), load_spec(trained))
    data = read_examples(
        material.labelled, material.problems, encoder, splits=["train"], labels="counts"
    )
    assert done["tokens"] == 12 * sum(len(example) for example in data.examples)


def test_only_adapters_and_head_were_trained(trained, material):
    adapter = load_file(trained / "adapter" / "adapter_model.safetensors")
    assert adapter
    assert all("lora_" in name for name in adapter)
    assert all(value.dtype is torch.float32 for value in adapter.values())
    # B begins as zeros: what is not zero was learnt.
    assert all(value.abs().sum() > 0 for name, value in adapter.items() if "lora_B" in name)


def test_the_same_settings_give_the_same_bytes_elsewhere(trained, material, tmp_path):
    same_run(train(changed(material, tmp_path / "again")), trained)


def test_another_seed_gives_another_run(trained, material, tmp_path):
    folder = train(changed(material, tmp_path / "seed", seed=1))
    assert log(folder) != log(trained)


class Crash(Exception):
    """What ends a run in its middle."""


def test_a_run_that_failed_in_its_middle_is_finished_to_the_same_bytes(
    trained, material, tmp_path, monkeypatch
):
    """Fails in step 13: goes on from checkpoint 8, the log's line of step 12 is written anew."""
    config = changed(material, tmp_path / "run")
    step = train_prm.PRMTrainer.training_step

    def fail_at_13(self, *args, **kwargs):
        if self.state.global_step == 12:
            raise Crash
        return step(self, *args, **kwargs)

    monkeypatch.setattr(train_prm.PRMTrainer, "training_step", fail_at_13)
    with pytest.raises(Crash):
        train(config)
    folder = Path(config.output)
    assert [row["step"] for row in log(folder)] == [4, 8, 12]
    assert newest_checkpoint(folder / "checkpoints").endswith("checkpoint-8")
    assert not (folder / "DONE").exists()
    monkeypatch.undo()
    same_run(train(config), trained)


@pytest.mark.parametrize("state", [None, '{"global_step": 24, "log_hi'])
def test_a_run_killed_while_it_wrote_a_checkpoint_goes_on_from_the_one_before(
    trained, material, tmp_path, state
):
    folder = Path(shutil.copytree(trained, tmp_path / "run"))
    for name in ("DONE", "golden.json", "prm_spec.json", "head.safetensors"):
        (folder / name).unlink()
    shutil.rmtree(folder / "adapter")
    half = folder / "checkpoints" / "checkpoint-24" / "trainer_state.json"
    half.unlink()
    if state:
        half.write_text(state)
    with (folder / "training_log.jsonl").open("a") as file:
        file.write('{"step": 28, "ep')
    assert newest_checkpoint(folder / "checkpoints").endswith("checkpoint-16")
    same_run(train(changed(material, folder)), trained)


def start(config, *launcher, module="prm.training.train_prm", **environment):
    """The job in a process group of its own."""
    return subprocess.Popen(
        [sys.executable, *launcher, "-m", module, "--config", written(config)],
        cwd=CHECKOUT,
        env={**os.environ, "PYTHONPATH": str(CHECKOUT), **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def test_a_run_killed_with_sigkill_is_finished_to_the_same_bytes(material, tmp_path):
    config = changed(material, tmp_path / "run", max_steps=80)
    whole = train(changed(material, tmp_path / "whole", max_steps=80))
    process = start(config)
    folder = Path(config.output)
    while not (folder / "checkpoints/checkpoint-16/trainer_state.json").exists():
        assert process.poll() is None, process.communicate()[0]
        time.sleep(0.005)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    assert not (folder / "DONE").exists()
    same_run(train(config), whole)


@pytest.mark.usefixtures("trained")
def test_a_second_start_has_nothing_to_do(material, capsys):
    folder = Path(material.output)
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    train(material)
    assert "already finished" in capsys.readouterr().err
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*")} == before


@pytest.mark.usefixtures("trained")
@pytest.mark.parametrize(
    "change", [{"learning_rate": 2e-2}, {"seed": 5}, {"max_steps": 25}, {"labels": "hard"}]
)
def test_other_settings_do_not_continue_a_run(material, change):
    with pytest.raises(TrainingError, match=r"other settings or inputs .*config\.json"):
        train(dataclasses.replace(material, **change))


@pytest.mark.usefixtures("trained")
def test_other_data_do_not_continue_a_run(material, tmp_path):
    problem = tiny_problem(0, (0, 1))
    rows = stored(tmp_path / "labelled", solutions(problem, 0))
    with pytest.raises(TrainingError, match="other settings or inputs"):
        train(dataclasses.replace(material, labelled=rows))


@pytest.mark.usefixtures("trained")
def test_where_and_how_a_run_is_watched_is_free(material, capsys):
    train(dataclasses.replace(material, logging_steps=2, checkpoint_steps=3, device=None))
    assert "already finished" in capsys.readouterr().err


def test_one_process_where_two_are_expected_is_refused(material, tmp_path):
    config = changed(material, tmp_path / "run", expected_world_size=2)
    with pytest.raises(TrainingError, match="expected_world_size is 2, but 1 processes"):
        train(config)
    assert not Path(config.output).exists()


def test_a_loss_that_is_no_number_ends_the_run(material, tmp_path):
    with pytest.raises(TrainingError, match="the loss is (nan|inf)"):
        train(changed(material, tmp_path / "run", learning_rate=1e30, head_learning_rate=1e30,
                      gradient_clip=0.0))  # fmt: skip
    assert not (tmp_path / "run" / "DONE").exists()


def test_a_linear_head_has_no_language_loss(material):
    with pytest.raises(ConfigError, match="language_weight needs head: likelihood"):
        dataclasses.replace(material, head="linear")


def test_long_solutions_are_counted_and_not_cut(material, tmp_path):
    with pytest.raises(TrainingError, match="no labelled solution .*'too_long': 24"):
        train(changed(material, tmp_path / "run", max_tokens=20))


def test_the_log_of_a_second_start_goes_on_where_the_checkpoint_was(tmp_path):
    rows = [{"step": s, "epoch": 0.1, "loss": 1.0, "seconds": 2.5 * s} for s in (5, 10, 15)]
    path = tmp_path / "training_log.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows) + '{"step": 20, "los')
    state = SimpleNamespace(global_step=10, is_world_process_zero=True, epoch=0.2)
    writer = LogWriter(tmp_path, "none", {})
    writer.on_train_begin(None, state, None)
    assert [json.loads(line)["step"] for line in path.read_text().splitlines()] == [5, 10]
    state.global_step = 15
    writer.on_log(None, state, None, logs={"loss": "0.5"})
    last = json.loads(path.read_text().splitlines()[-1])
    assert (last["step"], last["loss"]) == (15, 0.5)
    assert last["seconds"] >= 25.0  # the time of the earlier start is kept


def test_wandb_writes_into_the_output_folder_without_a_key(material, tmp_path):
    config = changed(material, tmp_path / "run", max_steps=4, report_to="wandb")
    path = written(config)
    environment = {k: v for k, v in os.environ.items() if not k.startswith("WANDB")}
    done = subprocess.run(
        [sys.executable, "-m", "prm.training.train_prm", "--config", path],
        cwd=CHECKOUT,
        env={**environment, "HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "wandb:" not in done.stdout + done.stderr
    assert "Warning" not in done.stderr
    assert list((tmp_path / "run" / "wandb").glob("offline-run-*/run-*.wandb"))


LAUNCHER = (
    *("-m", "accelerate.commands.launch", "--config_file", "configs/accelerate/ddp_cpu.yaml"),
    *("--main_process_port", "0"),
)


def launch(config, *words, environment=None):
    """``accelerate launch`` with two processes on the CPU."""
    done = subprocess.run(
        [sys.executable, *LAUNCHER, *words, "--config", written(config)],
        cwd=CHECKOUT,
        env={
            **os.environ,
            "PYTHONPATH": str(CHECKOUT),
            "OMP_NUM_THREADS": "1",
            **(environment or {}),
        },
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    return done.returncode, done.stdout + done.stderr


def test_two_processes_train_one_model(material, tmp_path):
    """Each rank has its own problems; gradients and weights are the same on both."""
    config = changed(
        material, tmp_path / "run", max_steps=4, problems_per_step=2, expected_world_size=2
    )
    code, output = launch(
        config,
        str(CHECKOUT / "tests" / "train_prm_probe.py"),
        str(tmp_path),
        environment={"ACCELERATE_USE_CPU": "true"},
    )
    assert code == 0, output
    first, second = [read_json(tmp_path / f"rank-{rank}.json") for rank in (0, 1)]
    assert (first["rank"], second["rank"]) == (0, 1)
    assert first["world_size"] == second["world_size"] == 2
    assert len(first["problems"]) == len(second["problems"]) == 4
    assert all(a != b for a, b in zip(first["problems"], second["problems"], strict=True))
    assert first["gradients"] == second["gradients"]
    assert len(set(first["gradients"])) == 4
    assert first["weights"] == second["weights"]
    done = read_json(tmp_path / "run" / "DONE")
    assert (done["processes"], done["steps"]) == (2, 4)
    # 4 steps of 2 problems on each of 2 ranks: every problem twice.
    assert done["tokens"] == sum(first["tokens"]) + sum(second["tokens"])
    names = {path.name for path in (tmp_path / "run").iterdir()}
    assert {"adapter", "head.safetensors", "golden.json", "DONE"} <= names


def test_a_launcher_that_brings_up_fewer_processes_is_refused(material, tmp_path):
    """With --cpu accelerate starts one process where its configuration says two, silently."""
    config = changed(material, tmp_path / "run", expected_world_size=2)
    code, output = launch(config, "--cpu", "-m", "prm.training.train_prm")
    assert code != 0
    assert "TrainingError: expected_world_size is 2, but 1 processes train together" in output
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_a_launcher_that_would_autocast_is_refused(material, tmp_path, monkeypatch, precision):
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", precision)
    with pytest.raises(TrainingError, match=f"mixed_precision: {precision}"):
        train(changed(material, tmp_path / "run"))
    assert not (tmp_path / "run").exists()


def test_a_run_killed_behind_its_last_checkpoint_is_only_saved(trained, material, tmp_path):
    """All steps are done, but nothing is saved: they are not trained again."""
    folder = Path(shutil.copytree(trained, tmp_path / "run"))
    for name in ("DONE", "golden.json", "prm_spec.json", "head.safetensors"):
        (folder / name).unlink()
    shutil.rmtree(folder / "adapter")
    before = (folder / "training_log.jsonl").read_bytes()
    same_run(train(changed(material, folder)), trained)
    assert (folder / "training_log.jsonl").read_bytes() == before
