"""What is watched while the critic trains: that it learns what it should, and the log."""

from __future__ import annotations

import json
import math
import netrc
import os
import time
from pathlib import Path
from typing import Any

import torch
from transformers import TrainerCallback
from typing_extensions import override

from prm.errors import TrainingError


class LearningCheck(TrainerCallback):
    """Stops a run in which anything but the adapters learns, or the adapters do not."""

    def __init__(self) -> None:
        """Start with nothing noted."""
        self._begin: tuple[float, float] | None = None
        self._is_done = False

    @override
    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Only adapters may be trainable."""
        names = [name for name, p in kwargs["model"].named_parameters() if p.requires_grad]
        others = [name for name in names if "lora_" not in name]
        if others or not names:
            raise TrainingError(
                f"{len(names)} parameters are trainable, among them {others[:3]}: "
                "only the adapters (lora_) should be, and there must be some"
            )

    @override
    def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Note the weights before the first step of this start."""
        if self._begin is None:
            self._begin = _checksums(kwargs["model"])

    @override
    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """After the first step with a learning rate above 0, compare."""
        # The learning rate of the warm-up's first step is 0.
        if self._is_done or self._begin is None or state.global_step < 2:
            return
        self._is_done = True
        base, adapters = _checksums(kwargs["model"])
        if base != self._begin[0]:
            raise TrainingError("the base's weights changed; only the adapters should learn")
        if adapters == self._begin[1]:
            raise TrainingError(
                "the adapters did not change in the first steps: is learning_rate 0, or is every "
                "label masked?"
            )


class LogWriter(TrainerCallback):
    """Writes ``training_log.jsonl``, and the same to wandb where that is asked for."""

    def __init__(self, output: Path, report_to: str, config: dict[str, Any]) -> None:
        """``report_to`` is ``wandb`` or ``none``; ``config`` is shown there."""
        self._output = output
        self._path = output / "training_log.jsonl"
        self._report_to = report_to
        self._config = config
        self._run: Any = None
        self._begun = 0.0

    @override
    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Cut what a killed run logged behind its last checkpoint, then go on."""
        if not state.is_world_process_zero:
            return
        text = self._path.read_text() if self._path.exists() else ""
        rows = [json.loads(line) for line in text[: text.rfind("\n") + 1].splitlines()]
        rows = [row for row in rows if row["step"] <= state.global_step]
        self._path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        self._begun = time.monotonic() - (rows[-1]["seconds"] if rows else 0.0)
        if self._report_to == "wandb":
            self._run = _start_wandb(self._output, self._config)

    @override
    def on_log(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Write a line; a loss that is no number ends the run."""
        logs = kwargs.get("logs") or {}
        if "loss" not in logs:
            return
        loss = float(logs["loss"])
        if not math.isfinite(loss):
            raise TrainingError(f"the loss is {loss} at step {state.global_step}: lower the rate")
        if state.is_world_process_zero:
            row = {
                "step": state.global_step,
                "epoch": round(state.epoch or 0.0, 4),
                "loss": loss,
                "seconds": round(time.monotonic() - self._begun, 2),
            }
            with self._path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(row) + "\n")
            if self._run is not None:
                self._run.log({"loss": loss, "epoch": row["epoch"]}, step=state.global_step)

    @override
    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Close the wandb run."""
        if self._run is not None:
            self._run.finish()


def _checksums(model: Any) -> tuple[float, float]:
    """Sums over the frozen and over the trainable parameters of this process."""
    sums = {False: 0.0, True: 0.0}
    with torch.no_grad():
        for parameter in model.parameters():
            # A sharded parameter (DTensor) keeps its part of the numbers in a local tensor.
            local = parameter.to_local() if hasattr(parameter, "to_local") else parameter
            sums[parameter.requires_grad] += float(local.double().abs().sum())
    return sums[False], sums[True]


def _start_wandb(output: Path, config: dict[str, Any]) -> Any:
    """A run in the output folder; offline where there is no key, or as WANDB_MODE says."""
    import wandb

    settings = wandb.Settings(silent=True, console="off")
    if "WANDB_MODE" not in os.environ and not _has_wandb_key():
        settings.mode = "offline"
    return wandb.init(
        project="stepwise-prm",
        name=output.name,
        dir=str(output),
        config=config,
        settings=settings,
    )


def _has_wandb_key() -> bool:
    """Whether there is a key in the environment, or one that ``wandb login`` left."""
    try:
        known = netrc.netrc().hosts
    except (OSError, netrc.NetrcParseError):
        known = {}
    return "WANDB_API_KEY" in os.environ or "api.wandb.ai" in known
