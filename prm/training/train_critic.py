"""Train a LoRA critic: `accelerate launch --config_file A -m prm.training.train_critic --config F`.

Also runs without a launcher: `python -m prm.training.train_critic --config F`.

In: critiques with their labelled solutions and problems. Out, in the output folder:

    merged/             the base with the adapter in it: safetensors and tokenizer
    adapter/            the LoRA adapter alone
    critic.json         the dialect: with merged/ all that `Critic.from_pretrained` needs
    config.json         the settings, their hash and the hashes of the inputs
    training_log.jsonl  {"step": 20, "epoch": 0.4, "loss": 0.31, "seconds": 12.5}
    checkpoints/        the newest few; a restart goes on from the last whole one
    DONE                counts and cost; its presence means that there is nothing left to do
"""

from __future__ import annotations

import dataclasses
import time
from pathlib import Path
from typing import Any, Literal

import torch
from datasets import Dataset
from peft import LoraConfig, PeftModel
from rich.console import Console
from transformers import AutoModelForCausalLM, AutoTokenizer, set_seed
from trl.trainer.sft_config import SFTConfig
from trl.trainer.sft_trainer import SFTTrainer

from prm import config as settings
from prm.critic.dialect import Dialect
from prm.device import choose_dtype
from prm.errors import ConfigError, TrainingError
from prm.generation.embedded import resolve_model
from prm.libraries import load_tokenizer, quieten_libraries
from prm.store import content_hash, write_json
from prm.training.callbacks import LearningCheck, LogWriter
from prm.training.critic_data import (
    CriticData,
    check_rows,
    check_same_prompts,
    encode_all,
    read_examples,
)
from prm.training.run_folder import (
    check_precision,
    check_world_size,
    guard,
    leave,
    train,
)

COMMAND = "python -m prm.training.train_critic"


@dataclasses.dataclass(frozen=True)
class TrainCriticConfig:
    """Settings of the job."""

    critiques: str = settings.operational("runs/quickstart/critiques")
    """Store of critiques, with the critic.json that data_gen.critiques leaves there."""
    labelled: str = settings.operational("runs/quickstart/labels")
    """Store of the labelled solutions that they judge."""
    problems: str = settings.operational("runs/quickstart/problems")
    """Store of their problems."""
    model: str = "embedded"
    """Base model: a folder, a hub id, or "embedded"."""
    output: str = settings.operational("runs/quickstart/critic")
    """Folder of everything that the run makes."""
    lora_rank: int = 16
    """Rank of the adapters; they sit on all linear layers but the head."""
    lora_alpha: int = 32
    """The adapters' output is scaled by alpha / rank."""
    learning_rate: float = 5e-4
    """Peak; falls linearly to 0 after the warm-up."""
    warmup_steps: int = 10
    """Steps of rising learning rate."""
    batch_size: int = 8
    """Rows a process and forward pass."""
    gradient_accumulation: int = 1
    """Forward passes a step."""
    epochs: float = 1.0
    """Passes over the rows; unused when max_steps is set."""
    max_steps: int | None = None
    """Steps at most; null = as many as the epochs have."""
    max_length: int = 1024
    """Longer rows are skipped and counted, never cut."""
    gradient_clip: float = 1.0
    """Largest norm of the gradient; 0 = off."""
    gradient_checkpointing: bool = False
    """Less memory for about a third more time."""
    dtype: str | None = None
    """Number format of the base; null = what the hardware does well. Adapters: float32."""
    merged_dtype: str | None = None
    """Number format of merged/; null = that of the base in training."""
    seed: int = 0
    """Seeds the adapters and the order of the rows."""
    device: Literal["cpu"] | None = settings.operational(None)
    """cpu = leave a GPU unused."""
    expected_world_size: int | None = settings.operational(None)
    """Number of processes that the launcher must bring up; null = any."""
    checkpoint_steps: int = settings.operational(100)
    """Steps between checkpoints."""
    logging_steps: int = settings.operational(10)
    """Steps between lines of the log."""
    report_to: Literal["none", "wandb"] = settings.operational("wandb")
    """wandb runs offline, into the output folder, where there is no API key."""

    def __post_init__(self) -> None:
        """Refuse settings that no run could have."""
        for name in ("lora_rank", "batch_size", "gradient_accumulation", "checkpoint_steps"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} is {getattr(self, name)}, should be 1 or more")
        if self.max_steps is not None and self.max_steps < 1:
            raise ConfigError(f"max_steps is {self.max_steps}, should be 1 or more, or null")


class _Trainer(SFTTrainer):
    """The trainer of trl without its model cards: ours are written when a model is published."""

    def create_model_card(self, *_args: Any, **_kwargs: Any) -> None:
        """Write nothing."""


def main(config: TrainCriticConfig) -> None:
    """Train, or go on with training, and save."""
    quieten_libraries()
    begun = time.monotonic()
    output, console = Path(config.output), Console(stderr=True)
    arguments = _arguments(config)
    check_precision()
    check_world_size(config.expected_world_size, arguments.world_size)
    is_main = arguments.process_index == 0

    def say(text: str) -> None:
        if is_main:
            console.print(text, markup=False, soft_wrap=True)

    stores = ("critiques", "labelled", "problems")
    guard(config, {name: content_hash(getattr(config, name)) for name in stores}, output, is_main)
    if (output / "DONE").exists():
        say(f"{output}: already finished; delete the folder to train anew")
        return
    set_seed(config.seed)
    dialect = Dialect.load(config.critiques)
    tokenizer = load_tokenizer(resolve_model(config.model))
    data = _prepare(config, dialect, tokenizer, output, arguments)
    say(f"critiques: {data.summary}")
    trainer = _trainer(config, arguments, data, tokenizer)
    say(_plan(trainer))
    train(trainer, output / "checkpoints")
    trainer.save_model(str(output / "adapter"))
    trainer.accelerator.wait_for_everyone()
    if is_main:
        _save(
            config,
            output,
            dialect,
            choose_dtype(config.merged_dtype or config.dtype, arguments.device),
        )
        _finish(output, data, trainer, time.monotonic() - begun)
        say(f"{output}: finished after {trainer.state.global_step} steps")
    trainer.accelerator.wait_for_everyone()
    leave(arguments.world_size)


def _arguments(config: TrainCriticConfig) -> SFTConfig:
    return SFTConfig(
        output_dir=str(Path(config.output) / "checkpoints"),
        per_device_train_batch_size=config.batch_size,
        gradient_accumulation_steps=config.gradient_accumulation,
        learning_rate=config.learning_rate,
        lr_scheduler_type="linear",
        warmup_steps=config.warmup_steps,
        weight_decay=0.0,
        max_grad_norm=config.gradient_clip,
        num_train_epochs=config.epochs,
        max_steps=-1 if config.max_steps is None else config.max_steps,
        # The rows come with labels and are not touched again.
        dataset_kwargs={"skip_prepare_dataset": True},
        max_length=None,
        activation_checkpointing=config.gradient_checkpointing,
        # The base is loaded in its number format; the adapters stay in float32.
        bf16=False,
        fp16=False,
        use_cpu=config.device == "cpu",
        dataloader_pin_memory=False,
        logging_steps=config.logging_steps,
        logging_nan_inf_filter=False,
        save_steps=config.checkpoint_steps,
        save_total_limit=2,
        report_to="none",
        seed=config.seed,
        ddp_find_unused_parameters=False,
    )


def _prepare(
    config: TrainCriticConfig, dialect: Dialect, tokenizer: Any, output: Path, arguments: SFTConfig
) -> CriticData:
    """Read, encode and check the rows; the tokenizer goes where the critic will read it."""
    examples, skipped = read_examples(config.critiques, config.labelled, config.problems, dialect)
    data = encode_all(examples, skipped, tokenizer, config.max_length)
    check_rows(data, tokenizer, config.max_length, dialect)
    with arguments.main_process_first(local=False):
        if arguments.process_index == 0:
            tokenizer.save_pretrained(output / "merged")
        check_same_prompts(data, AutoTokenizer.from_pretrained(output / "merged"))
    return data


def _trainer(
    config: TrainCriticConfig, arguments: SFTConfig, data: CriticData, tokenizer: Any
) -> Any:
    model = AutoModelForCausalLM.from_pretrained(
        resolve_model(config.model),
        dtype=choose_dtype(config.dtype, arguments.device),
        # On a CPU the fused attention's backward pass is slower than the plain one.
        attn_implementation="eager" if arguments.device.type == "cpu" else "sdpa",
    )
    positions = getattr(model.config, "max_position_embeddings", None)
    longest = max(len(row.input_ids) for row in data.rows)
    if positions is not None and longest > positions:
        raise TrainingError(
            f"a row has {longest} tokens, the model {positions} positions: lower max_length"
        )
    columns = {
        "input_ids": [row.input_ids for row in data.rows],
        "labels": [row.labels for row in data.rows],
    }
    trainer: Any = _Trainer(
        model=model,
        args=arguments,
        train_dataset=Dataset.from_dict(columns),
        processing_class=tokenizer,
        peft_config=LoraConfig(
            r=config.lora_rank,
            lora_alpha=config.lora_alpha,
            lora_dropout=0.0,
            target_modules="all-linear",
            task_type="CAUSAL_LM",
        ),
        callbacks=[
            LearningCheck(),
            LogWriter(Path(config.output), config.report_to, settings.resolved(config)),
        ],
    )
    if trainer.train_dataset["input_ids"][:] != columns["input_ids"]:
        raise TrainingError("the trainer changed the rows; this version of trl cannot be used")
    return trainer


def _plan(trainer: Any) -> str:
    trainable = sum(p.numel() for p in trainer.model.parameters() if p.requires_grad)
    return (
        f"training {trainable / 1e6:.2f}M adapter parameters in float32 on a base in "
        f"{str(trainer.model.dtype).removeprefix('torch.')}, {trainer.args.device}, "
        f"{trainer.args.world_size} process(es)"
    )


def _save(config: TrainCriticConfig, output: Path, dialect: Dialect, dtype: torch.dtype) -> None:
    """Merge the saved adapter into a fresh base: what is published is what was on the disk."""
    (output / "adapter" / "training_args.bin").unlink(missing_ok=True)
    base = AutoModelForCausalLM.from_pretrained(resolve_model(config.model), dtype=dtype)
    peft_model = PeftModel.from_pretrained(base, str(output / "adapter"))
    merged = peft_model.merge_and_unload(safe_merge=True)
    merged.save_pretrained(output / "merged")
    dialect.save(output)


def _finish(output: Path, data: CriticData, trainer: Any, seconds: float) -> None:
    write_json(
        output / "DONE",
        {
            "rows": len(data.rows),
            "skipped": dict(data.skipped),
            "tokens": round(
                sum(len(row.input_ids) for row in data.rows) * (trainer.state.epoch or 0.0)
            ),
            "steps": trainer.state.global_step,
            "dtype": str(trainer.model.dtype),
            "epochs": round(trainer.state.epoch or 0.0, 4),
            "processes": trainer.args.world_size,
            "seconds_of_last_start": round(seconds, 1),
        },
    )


if __name__ == "__main__":
    settings.run(lambda: main(settings.parse(TrainCriticConfig, COMMAND, __doc__)), COMMAND)
