import dataclasses
import json
import os
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from prm import config as settings
from prm.critic import Critic, Dialect
from prm.errors import ConfigError, RecordError, TooLongError, TrainingError
from prm.records import Critique, Problem
from prm.store import StoreWriter, read_records
from prm.training import train_critic
from prm.training.callbacks import LearningCheck
from prm.training.critic_data import (
    IGNORED,
    CriticData,
    Example,
    Row,
    check_rows,
    check_same_prompts,
    encode,
    encode_all,
    read_examples,
)
from prm.training.run_folder import check_world_size, newest_checkpoint
from prm.training.train_critic import (
    TrainCriticConfig,
    main,
)
from tests.tiny import tiny_labelled, tiny_model_folder, tiny_problem, tiny_tokenizer

DIALECT = Dialect()
EXAMPLE = Example(
    "p/0#0",
    DIALECT.prompt("Calculate 1 + 2.", ["Step 1: 1 + 2 = 4", "Answer: 4"]),
    "1: 1 + 2 = 3, wrong\nFirst error: 1",
    (False,),
)


def store(folder, rows):
    with StoreWriter(folder, job="test", config={}, config_hash="0") as writer:
        writer.append("all", rows)
    return str(folder)


@pytest.fixture(scope="module")
def material(tmp_path_factory):
    """Eight copy tasks and the tiny model, as settings."""
    folder = tmp_path_factory.mktemp("critic")
    problems = [tiny_problem(n, (n, 1)) for n in range(8)]
    labelled = [tiny_labelled(p, [f"Answer: {n}"], None) for n, p in enumerate(problems)]
    critiques = [
        Critique(
            id=row.id,
            problem_id=row.solution.problem_id,
            text=f"1: {row.solution.steps[0]}, correct\nFirst error: none",
            status="ok",
            verdicts=(True,),
            first_error=None,
            author="test",
        )
        for row in labelled
    ]
    config = TrainCriticConfig(
        critiques=store(folder / "critiques", critiques),
        labelled=store(folder / "labelled", labelled),
        problems=store(folder / "problems", problems),
        model=str(tiny_model_folder(folder / "model")),
        output=str(folder / "run"),
        learning_rate=1e-2,
        warmup_steps=2,
        batch_size=4,
        max_steps=24,
        dtype="float32",
        device="cpu",
        checkpoint_steps=10,
        logging_steps=4,
        report_to="none",
    )
    DIALECT.save(config.critiques)
    return config


@pytest.fixture(scope="module")
def trained(material):
    """The output folder of a run to the end."""
    main(material)
    return Path(material.output)


def log(folder):
    return [json.loads(line) for line in (folder / "training_log.jsonl").read_text().splitlines()]


def test_loss_falls(trained):
    losses = [row["loss"] for row in log(trained)]
    assert [row["step"] for row in log(trained)] == [4, 8, 12, 16, 20, 24]
    assert losses[-1] < 0.5 * losses[0]


def test_run_leaves_what_it_promises(trained, material):
    names = {path.name for path in trained.iterdir()}
    assert {"merged", "adapter", "critic.json", "config.json", "DONE", "checkpoints"} <= names
    done = json.loads((trained / "DONE").read_text())
    assert (done["rows"], done["steps"], done["skipped"]) == (8, 24, {})
    assert json.loads((trained / "config.json").read_text())["config"] == settings.resolved(
        material
    )
    assert not list(trained.glob("adapter/*.bin"))


def logprobs(model, ids):
    with torch.no_grad():
        return model(torch.tensor([ids])).logits.log_softmax(-1)


# peft asks transformers under an old name.
@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")
def test_saved_model_is_the_one_that_was_trained(material, tmp_path):
    """Adapter and merged model, read from the disk, against the model in memory."""
    config = dataclasses.replace(material, output=str(tmp_path), max_steps=6)
    arguments = train_critic._arguments(config)
    tokenizer = AutoTokenizer.from_pretrained(config.model)
    data = train_critic._prepare(config, DIALECT, tokenizer, tmp_path, arguments)
    trainer = train_critic._trainer(config, arguments, data, tokenizer)
    ids = data.rows[0].input_ids
    untrained = logprobs(trainer.model, ids)
    trainer.train()
    in_memory = logprobs(trainer.model.eval(), ids)
    trainer.save_model(str(tmp_path / "adapter"))
    train_critic._save(config, tmp_path, DIALECT, torch.float32)
    base = AutoModelForCausalLM.from_pretrained(material.model, dtype=torch.float32)
    reloaded = logprobs(PeftModel.from_pretrained(base, tmp_path / "adapter").eval(), ids)
    merged = AutoModelForCausalLM.from_pretrained(tmp_path / "merged", dtype=torch.float32)
    torch.testing.assert_close(reloaded, in_memory, atol=1e-5, rtol=0)
    torch.testing.assert_close(logprobs(merged, ids), in_memory, atol=1e-4, rtol=0)
    assert (untrained - in_memory).abs().max() > 0.1


def test_trained_folder_is_a_critic(trained):
    critic = Critic.from_pretrained(trained, device="cpu", dtype="float32")
    critique = critic.critique("Calculate 3 + 1.", ["Answer: 3"])
    assert critique.author == "run"
    assert critique.usage.generated_tokens > 0


def test_second_start_has_nothing_to_do(trained, material, capsys):
    before = (trained / "merged" / "model.safetensors").stat().st_mtime_ns
    main(material)
    assert "already finished" in capsys.readouterr().err
    assert (trained / "merged" / "model.safetensors").stat().st_mtime_ns == before


def test_resumed_run_equals_the_uninterrupted_one(trained, material, tmp_path):
    """Killed while it wrote checkpoint 24: goes on from 20, to the same bytes."""
    output = tmp_path / "resumed"
    shutil.copytree(trained, output)
    for gone in ("adapter", "merged"):
        shutil.rmtree(output / gone)
    for name in ("DONE", "critic.json", "checkpoints/checkpoint-24/trainer_state.json"):
        (output / name).unlink()
    assert newest_checkpoint(output / "checkpoints").endswith("checkpoint-20")
    main(dataclasses.replace(material, output=str(output)))
    for name in ("adapter/adapter_model.safetensors", "merged/model.safetensors"):
        mine, whole = load_file(output / name), load_file(trained / name)
        assert all(torch.equal(mine[key], whole[key]) for key in whole)
    without_time = [{k: v for k, v in row.items() if k != "seconds"} for row in log(trained)]
    assert [{k: v for k, v in row.items() if k != "seconds"} for row in log(output)] == without_time


@pytest.mark.usefixtures("trained")
def test_other_settings_do_not_continue_a_run(material):
    with pytest.raises(TrainingError, match="other settings"):
        main(dataclasses.replace(material, learning_rate=2e-2))


def test_rate_of_zero_is_noticed(material, tmp_path):
    config = dataclasses.replace(material, output=str(tmp_path), learning_rate=0.0, max_steps=3)
    with pytest.raises(TrainingError, match="adapters did not change"):
        main(config)


def test_long_rows_are_counted_not_cut(material, tmp_path):
    with pytest.raises(TrainingError, match=r"in 8 = out 0 \+ skipped 8 \(8 too_long\)"):
        main(dataclasses.replace(material, output=str(tmp_path), max_length=20))


@pytest.mark.slow
def test_wandb_writes_offline_without_an_account(material, tmp_path):
    """In a process of its own: nothing of wandb reaches the screen, the run lies in the folder."""
    config = dataclasses.replace(
        material, output=str(tmp_path / "run"), max_steps=4, report_to="wandb"
    )
    environment = {k: v for k, v in os.environ.items() if not k.startswith("WANDB")}
    result = run_job(config, tmp_path, [sys.executable], {**environment, "HOME": str(tmp_path)})
    assert result.returncode == 0, result.stderr
    assert "wandb:" not in result.stdout + result.stderr
    assert "Warning" not in result.stderr
    assert list((tmp_path / "run" / "wandb").glob("offline-run-*/run-*.wandb"))


@pytest.mark.slow
def test_two_processes_train_one_model(material, tmp_path):
    config = dataclasses.replace(
        material, output=str(tmp_path / "run"), max_steps=4, batch_size=2, expected_world_size=2
    )
    launcher = [sys.executable, "-m", "accelerate.commands.launch"]
    launcher += ["--config_file", "configs/accelerate/ddp_cpu.yaml", "--main_process_port", "0"]
    environment = {**os.environ, "ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1"}
    result = run_job(config, tmp_path, launcher, environment)
    assert result.returncode == 0, result.stderr
    done = json.loads((tmp_path / "run" / "DONE").read_text())
    assert (done["processes"], done["steps"], done["epochs"]) == (2, 4, 2.0)


def run_job(config, folder, launcher, environment):
    path = folder / "settings.yaml"
    path.write_text(json.dumps(settings.resolved(config)))
    return subprocess.run(
        [*launcher, "-m", "prm.training.train_critic", "--config", str(path)],
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def test_world_size_must_be_what_the_launcher_started(monkeypatch):
    check_world_size(None, 1)
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(TrainingError, match="started 2 processes"):
        check_world_size(None, 1)
    check_world_size(2, 2)
    with pytest.raises(TrainingError, match="expected_world_size is 4"):
        check_world_size(4, 2)


def data_of(row):
    return CriticData([EXAMPLE], [row], Counter())


def test_row_is_prompt_and_learnt_critique():
    tokenizer = tiny_tokenizer()
    row = encode(EXAMPLE, tokenizer, 512)
    check_rows(data_of(row), tokenizer, 512, DIALECT)
    learnt = [label for label in row.labels if label != IGNORED]
    assert tokenizer.decode(learnt) == EXAMPLE.critique + "</s>"
    assert row.prompt_ids == tokenizer(EXAMPLE.prompt)["input_ids"]
    with pytest.raises(TooLongError):
        encode(EXAMPLE, tokenizer, len(row.input_ids) - 1)
    assert encode(EXAMPLE, tokenizer, len(row.input_ids)) == row


def damaged(kind):
    row = encode(EXAMPLE, tiny_tokenizer(), 512)
    ids, labels, border = row.input_ids, row.labels, len(row.prompt_ids)
    if kind == "cut":
        return Row("x", ids[:-1], labels[:-1])
    if kind == "masked":
        return Row("x", ids, [IGNORED] * len(ids))
    if kind == "shifted":
        return Row("x", ids, [*labels[1:], labels[-1]])
    return Row("x", ids, [IGNORED] * (border - 1) + ids[border - 1 :])


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("cut", "end-of-text"),
        ("masked", "end-of-text"),
        ("shifted", "end-of-text"),
        ("too much", "learnt tokens read"),
    ],
)
def test_damaged_row_is_refused(kind, message):
    with pytest.raises(TrainingError, match=message):
        check_rows(data_of(damaged(kind)), tiny_tokenizer(), 512, DIALECT)


def test_row_beyond_the_limit_is_refused():
    row = encode(EXAMPLE, tiny_tokenizer(), 512)
    with pytest.raises(TrainingError, match="never cut"):
        check_rows(data_of(row), tiny_tokenizer(), 20, DIALECT)


def test_verdict_of_several_tokens_is_refused():
    """A tokenizer without the words as single tokens spells them letter by letter."""
    tokenizer = tiny_tokenizer(words=())
    data = encode_all([EXAMPLE], Counter(), tokenizer, 512)
    with pytest.raises(TrainingError, match="each verdict must be one token"):
        check_rows(data, tokenizer, 512, DIALECT)


def test_token_across_the_border_is_refused():
    """This tokenizer reads the prompt's last newline and the critique's first letters as one."""
    tokenizer = tiny_tokenizer(words=(" correct", " wrong", "\n1:"))
    data = encode_all([EXAMPLE], Counter(), tokenizer, 512)
    with pytest.raises(TrainingError, match="merge into one token"):
        check_rows(data, tokenizer, 512, DIALECT)


def test_other_tokenizer_at_inference_is_refused():
    data = encode_all([EXAMPLE], Counter(), tiny_tokenizer(), 512)
    check_same_prompts(data, tiny_tokenizer())
    with pytest.raises(TrainingError, match="differently"):
        check_same_prompts(data, tiny_tokenizer(words=("Calc",)))


def test_only_adapters_may_learn():
    """The check that runs before the first step, on a model whose layers are all trainable."""
    model = torch.nn.Linear(2, 2)
    with pytest.raises(TrainingError, match="2 parameters are trainable"):
        LearningCheck().on_train_begin(None, None, None, model=model)
    with pytest.raises(TrainingError, match="0 parameters"):
        LearningCheck().on_train_begin(None, None, None, model=model.requires_grad_(False))


def test_critiques_that_could_not_be_read_are_not_trained_on(material, tmp_path):
    critiques = list(read_records(material.critiques, Critique))
    critiques[0] = dataclasses.replace(critiques[0], status="bad_line")
    critiques[1] = dataclasses.replace(critiques[1], agrees_with_labels=False)
    examples, skipped = read_examples(
        store(tmp_path / "c", critiques), material.labelled, material.problems, DIALECT
    )
    assert skipped == {"could_not_tell": 1, "disagrees_with_labels": 1}
    assert [example.id for example in examples] == [critique.id for critique in critiques[2:]]
    assert examples[0].prompt == "Problem: Calculate 2 + 1.\nAnswer: 2\nCheck:\n"
    problems = store(tmp_path / "p", list(read_records(material.problems, Problem))[:2])
    with pytest.raises(RecordError, match="not stored"):
        read_examples(material.critiques, material.labelled, problems, DIALECT)


@pytest.mark.parametrize("change", [{"batch_size": 0}, {"max_steps": 0}])
def test_settings_that_no_run_has_are_refused(material, change):
    with pytest.raises(ConfigError, match=next(iter(change))):
        dataclasses.replace(material, **change)


@pytest.mark.parametrize(("name", "rate"), [("quickstart", 5e-4), ("qwq", 1e-4)])
def test_settings_files_load(name, rate):
    config = settings.load(TrainCriticConfig, f"configs/{name}/train_critic.yaml")
    assert config.learning_rate == rate
