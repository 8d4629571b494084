"""Train a LoRA process reward model.

    python -m prm.training.train_prm --config configs/quickstart/train_prm.yaml
    accelerate launch --config_file configs/accelerate/ddp.yaml -m prm.training.train_prm --config F

Reads labelled solutions; writes into the output folder:

    adapter/              the LoRA adapter
    head.safetensors      the step head, float32
    prm_spec.json         what the scorer predicts and how it reads text
    golden.json           scores of a few training solutions in float32: publishing checks them
    config.json           settings, their hash, hashes of the inputs
    training_log.jsonl    {"step": 20, "epoch": 0.4, "loss": 0.31, "seconds": 12.5}
    checkpoints/          the newest two; a restart goes on from the last whole one
    DONE                  counts and cost; its presence means that there is nothing left to do
"""

from __future__ import annotations

import dataclasses
import time
from pathlib import Path
from typing import Any, Literal

import torch
from peft import LoraConfig, get_peft_model, get_peft_model_state_dict, set_peft_model_state_dict
from rich.console import Console
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import Trainer, TrainingArguments, set_seed

from prm import config as settings
from prm.device import choose_dtype
from prm.errors import ConfigError, TrainingError
from prm.generation.embedded import resolve_model
from prm.libraries import load_tokenizer, quieten_libraries
from prm.scoring.encoding import Encoder
from prm.scoring.model import StepScoringModel, load_backbone, load_head, save_head
from prm.scoring.prefix_tree import PADDING, TreeBatch
from prm.scoring.scorer import Scorer
from prm.scoring.spec import Head, ScorerSpec, Target
from prm.store import content_hash, write_json
from prm.training.callbacks import LogWriter
from prm.training.loss import binomial_loss, language_loss, tokens_of
from prm.training.prm_data import Collator, Labels, PRMData, read_examples
from prm.training.run_folder import check_precision, check_world_size, guard, leave, train

COMMAND = "python -m prm.training.train_prm"
_NUM_GOLDEN = 5
_TARGETS: dict[Labels, Target] = {
    "counts": "success_rate",
    "hard": "other",
    "posterior": "prefix_correct",
}
_TREE_FIELDS = tuple(field.name for field in dataclasses.fields(TreeBatch))


@dataclasses.dataclass(frozen=True)
class TrainPRMConfig:
    """Settings of `prm.training.train_prm`."""

    labelled: str = settings.operational("runs/quickstart/labels")
    """Store of labelled solutions."""
    problems: str = settings.operational("runs/quickstart/problems")
    """Store of their problems."""
    output: str = settings.operational("runs/quickstart/prm")
    """Folder of everything that the run makes."""
    model: str = "embedded"
    """Base model: a folder, a hub id, or "embedded"."""
    splits: list[str] = dataclasses.field(default_factory=lambda: ["train"])
    """Train on the solutions of these splits."""
    head: Head = "likelihood"
    """linear or likelihood: see prm/scoring/spec.py."""
    labels: Labels = "counts"
    """counts: successes of trials; hard: whether the labeler calls the prefix good; posterior: the
    labeler's chance that it is right, weighted by how sure that is."""
    language_weight: float = 0.3
    """Weight of the language-model loss on good steps (likelihood head); 0 = off."""
    template: str = "Problem: {problem}\n"
    """Text before the first step."""
    separator: str = "\n"
    """Text after every step."""
    max_tokens: int = 2048
    """Longer solutions are skipped and counted."""
    lora_rank: int = 16
    """Rank of the adapters on all linear layers but the vocabulary's."""
    lora_alpha: int = 32
    """The adapters' output is scaled by alpha / rank."""
    learning_rate: float = 5e-4
    """Of the adapters; falls linearly to 0 after the warm-up."""
    head_learning_rate: float = 2e-3
    """Of the step head."""
    warmup_steps: int = 10
    """Steps of rising learning rate."""
    problems_per_step: int = 4
    """Problems (with all their solutions) a process and forward pass."""
    gradient_accumulation: int = 1
    """Forward passes a step."""
    row_tokens: int = 128
    """Problems are packed into rows of this many tokens."""
    epochs: float = 2.0
    """Passes over the problems."""
    max_steps: int | None = None
    """Steps at most; null = as many as the epochs have."""
    gradient_clip: float = 1.0
    """Largest norm of the gradient."""
    dtype: str | None = None
    """Number format of the base; null = what the hardware does well. Adapters: float32."""
    seed: int = 0
    """Seeds the adapters and the order of the problems."""
    device: Literal["cpu"] | None = settings.operational(None)
    """cpu = leave a GPU unused."""
    expected_world_size: int | None = settings.operational(None)
    """Number of processes that the launcher must bring up; null = any."""
    checkpoint_steps: int = settings.operational(50)
    """Steps between checkpoints."""
    logging_steps: int = settings.operational(5)
    """Steps between lines of the log."""
    report_to: Literal["none", "wandb"] = settings.operational("wandb")
    """wandb runs offline, into the output folder, where there is no API key."""

    def __post_init__(self) -> None:
        """Refuse settings that contradict each other."""
        if self.head == "linear" and self.language_weight:
            raise ConfigError("language_weight needs head: likelihood; set it to 0 for linear")


class PRMTrainer(Trainer):
    """transformers' Trainer with our loss, two learning rates, and small checkpoints."""

    def __init__(self, *, config: TrainPRMConfig, **kwargs: Any) -> None:
        """``kwargs`` go to Trainer."""
        super().__init__(**kwargs)
        self.config = config
        self.scoring: StepScoringModel = kwargs["model"]
        self.model_accepts_loss_kwargs = False

    def compute_loss(
        self,
        model: nn.Module,
        inputs: dict[str, Tensor],
        return_outputs: bool = False,
        num_items_in_batch: Any = None,
    ) -> Any:
        """Binomial loss of the steps, and the language-model loss of good ones."""
        del num_items_in_batch
        batch = TreeBatch(**{name: inputs[name] for name in _TREE_FIELDS})
        num_tokens = (inputs["node_of_BU"] > PADDING).sum()
        # Of all processes, and kept in the checkpoints: a restart goes on counting.
        self.state.num_input_tokens_seen += int(self.accelerator.gather(num_tokens).sum())
        output = model(batch)
        loss = binomial_loss(
            output.logits_BN, inputs["successes"], inputs["trials"], inputs["weights"]
        )
        if output.token_logprob_BU is not None and self.config.language_weight:
            counts = tokens_of(inputs["good"], batch.node_of_BU)
            loss = loss + self.config.language_weight * language_loss(
                output.token_logprob_BU, counts
            )
        return (loss, output) if return_outputs else loss

    def create_optimizer(self, model: Any = None) -> torch.optim.Optimizer:
        """AdamW over what is trainable, the head with a rate of its own."""
        del model
        backbone = self.scoring.backbone
        groups = [
            {
                "params": [p for p in backbone.parameters() if p.requires_grad],
                "lr": self.config.learning_rate,
            },
            {"params": list(self.scoring.head.parameters()), "lr": self.config.head_learning_rate},
        ]
        self.optimizer = torch.optim.AdamW(groups, weight_decay=0.0)
        return self.optimizer

    def _save(self, output_dir: str | None = None, state_dict: Any = None) -> None:
        """Write only what is trained: adapter and head."""
        del state_dict
        folder = Path(output_dir or str(self.args.output_dir))
        folder.mkdir(parents=True, exist_ok=True)
        save_file(get_peft_model_state_dict(self.scoring.backbone), folder / "adapter.safetensors")
        save_head(self.scoring.head, folder)

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        del model
        folder = Path(resume_from_checkpoint)
        set_peft_model_state_dict(self.scoring.backbone, load_file(folder / "adapter.safetensors"))
        load_head(self.scoring.head, folder)


def main(argv: list[str] | None = None) -> None:
    """Train, or go on with training, and save."""
    config = settings.parse(TrainPRMConfig, COMMAND, __doc__, argv)
    quieten_libraries()
    begun, output, console = time.monotonic(), Path(config.output), Console(stderr=True)
    arguments = _arguments(config)
    check_precision()
    check_world_size(config.expected_world_size, arguments.world_size)
    is_main = arguments.process_index == 0
    console.quiet = not is_main
    inputs = {name: content_hash(getattr(config, name)) for name in ("labelled", "problems")}
    guard(config, inputs, output, is_main)
    if (output / "DONE").exists():
        console.print(f"{output}: already finished; delete the folder to train anew")
        return
    set_seed(config.seed)
    base = resolve_model(config.model)
    tokenizer = load_tokenizer(base)
    spec = _spec(config)
    data = read_examples(
        config.labelled,
        config.problems,
        Encoder(tokenizer, spec),
        splits=config.splits,
        labels=config.labels,
    )
    console.print(f"train_prm: {data.summary}; {len(data.examples)} problems")
    trainer = _trainer(config, arguments, data, base, spec)
    _check_whole(trainer)
    console.print(_plan(trainer))
    train(trainer, output / "checkpoints")
    if is_main:
        _save(trainer, tokenizer, spec, output, data)
        _finish(trainer, output, data, time.monotonic() - begun)
        console.print(f"train_prm: finished after {trainer.state.global_step} steps -> {output}")
    trainer.accelerator.wait_for_everyone()
    leave(arguments.world_size)


def _spec(config: TrainPRMConfig) -> ScorerSpec:
    return ScorerSpec(
        base_model=config.model,
        template=config.template,
        separator=config.separator,
        head=config.head,
        target=_TARGETS[config.labels],
        max_tokens=config.max_tokens,
    )


def _arguments(config: TrainPRMConfig) -> TrainingArguments:
    return TrainingArguments(
        output_dir=str(Path(config.output) / "checkpoints"),
        per_device_train_batch_size=config.problems_per_step,
        gradient_accumulation_steps=config.gradient_accumulation,
        learning_rate=config.learning_rate,
        lr_scheduler_type="linear",
        warmup_steps=config.warmup_steps,
        max_grad_norm=config.gradient_clip,
        num_train_epochs=config.epochs,
        max_steps=-1 if config.max_steps is None else config.max_steps,
        remove_unused_columns=False,
        label_names=[],
        # The base is loaded in its number format; adapters and head stay in float32.
        bf16=False,
        use_cpu=config.device == "cpu",
        dataloader_pin_memory=False,
        logging_steps=config.logging_steps,
        logging_nan_inf_filter=False,
        save_steps=config.checkpoint_steps,
        save_total_limit=2,
        report_to="none",
        seed=config.seed,
        # With language_weight 0 the vocabulary's part of the graph still takes part.
        ddp_find_unused_parameters=False,
    )


def _trainer(
    config: TrainPRMConfig, arguments: TrainingArguments, data: PRMData, base: str, spec: ScorerSpec
) -> PRMTrainer:
    backbone = load_backbone(base, choose_dtype(config.dtype, arguments.device), arguments.device)
    lora = LoraConfig(
        r=config.lora_rank,
        lora_alpha=config.lora_alpha,
        lora_dropout=0.0,
        target_modules="all-linear",
        task_type="CAUSAL_LM",
    )
    model = StepScoringModel(get_peft_model(backbone, lora), spec)
    return PRMTrainer(
        config=config,
        model=model.to(arguments.device),
        args=arguments,
        train_dataset=data.examples,
        data_collator=Collator(config.row_tokens),
        callbacks=[LogWriter(Path(config.output), config.report_to, settings.resolved(config))],
    )


def _check_whole(trainer: PRMTrainer) -> None:
    """Each process must hold all parameters: what is saved is read from one of them.

    Raises:
        TrainingError: the launcher shards the model.
    """
    if trainer.is_fsdp_enabled or trainer.is_deepspeed_enabled:
        raise TrainingError(
            "PRM training does not support FSDP and DeepSpeed yet: use configs/accelerate/ddp.yaml"
        )


def _plan(trainer: PRMTrainer) -> str:
    trainable = sum(p.numel() for p in trainer.scoring.parameters() if p.requires_grad)
    return (
        f"train_prm: {trainable / 1e6:.2f}M parameters in float32 on a base in "
        f"{str(trainer.scoring.backbone.dtype).removeprefix('torch.')}, {trainer.args.device}, "
        f"{trainer.args.world_size} process(es)"
    )


def _save(
    trainer: PRMTrainer, tokenizer: Any, spec: ScorerSpec, output: Path, data: PRMData
) -> None:
    """Write what publishing needs, and scores that the published folder must give again."""
    # On the CPU, where publishing checks them: another device sums in another order.
    model = trainer.scoring.float().cpu()
    model.backbone.set_attn_implementation("eager")
    model.backbone.save_pretrained(output / "adapter")
    save_head(model.head, output)
    tokenizer.save_pretrained(output / "tokenizer")
    spec.save(output)
    write_json(output / "golden.json", _golden(Scorer(model, tokenizer, spec), data))


def _golden(scorer: Scorer, data: PRMData) -> list[dict[str, Any]]:
    """Problems, steps and their float32 scores by the trained model."""
    items = data.texts[:_NUM_GOLDEN]
    scores = scorer.score_batch(items)
    return [
        {"problem": problem, "steps": list(steps), "scores": one}
        for (problem, steps), one in zip(items, scores, strict=True)
    ]


def _finish(trainer: PRMTrainer, output: Path, data: PRMData, seconds: float) -> None:
    write_json(
        output / "DONE",
        {
            "solutions": data.num_out,
            "skipped": dict(data.skipped),
            "problems": len(data.examples),
            "tokens": trainer.state.num_input_tokens_seen,
            "steps": trainer.state.global_step,
            "processes": trainer.args.world_size,
            "dtype": str(choose_dtype(trainer.config.dtype, trainer.args.device)),
            "seconds_of_last_start": round(seconds, 1),
        },
    )


if __name__ == "__main__":
    settings.run(main, COMMAND)
