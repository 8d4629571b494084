"""What both training jobs do with their output folder and their launcher."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

from transformers import TrainerState

from prm import config as settings
from prm.errors import TrainingError
from prm.store import write_json


def check_world_size(expected: int | None, actual: int) -> None:
    """Compare the processes that the launcher started with those that train together.

    Raises:
        TrainingError: they differ, so that each process would train a model of its own, or
            ``expected`` is another number.
    """
    launched = int(os.environ.get("WORLD_SIZE", "1"))
    if launched != actual:
        raise TrainingError(
            f"the launcher started {launched} processes (WORLD_SIZE), {actual} train together: "
            "start the job with `accelerate launch` and one configuration on every node"
        )
    if expected not in (None, actual):
        raise TrainingError(
            f"expected_world_size is {expected}, but {actual} processes train together: "
            "correct the launcher's configuration or the setting"
        )


def newest_checkpoint(folder: Path) -> str | None:
    """The last checkpoint that was written to its end; its state file comes last."""
    steps = [
        int(path.parent.name.rpartition("-")[2])
        for path in folder.glob("checkpoint-*/trainer_state.json")
        if _is_whole(path)
    ]
    return str(folder / f"checkpoint-{max(steps)}") if steps else None


def check_precision() -> None:
    """Refuse a launcher that would autocast: adapters and heads are trained in float32.

    Raises:
        TrainingError: its configuration says mixed_precision.
    """
    precision = os.environ.get("ACCELERATE_MIXED_PRECISION", "no")
    if precision != "no":
        raise TrainingError(
            f'the launcher sets mixed_precision: {precision}; set it to "no" in the accelerate '
            "configuration and choose the base's format by the job's own setting dtype"
        )


def train(trainer: Any, checkpoints: Path) -> None:
    """Train from the newest checkpoint; one of a finished run is only loaded, not trained on."""
    newest = newest_checkpoint(checkpoints)
    if newest is not None:
        state = TrainerState.load_from_json(f"{newest}/trainer_state.json")
        if state.global_step >= state.max_steps:
            trainer._load_from_checkpoint(newest)
            trainer.state = state
            return
    trainer.train(resume_from_checkpoint=newest)


def leave(num_processes: int) -> None:
    """End a process of several at once, after all have met; a process of one goes on.

    gloo's threads now and then abort an interpreter that is shutting down ("terminate called
    without an active exception"), which would turn a finished run into a failed one.
    """
    if num_processes > 1:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(0)


def _is_whole(path: Path) -> bool:
    try:
        json.loads(path.read_text(encoding="utf-8"))
    except ValueError:  # of a run that was killed while it wrote
        return False
    return True


def guard(config: Any, inputs: dict[str, str], output: Path, is_main: bool) -> None:
    """Refuse a folder that other settings or inputs began; note ours.

    Raises:
        TrainingError: the folder belongs to another run.
    """
    mine = {"config_hash": settings.fingerprint(config), "inputs": inputs}
    path = output / "config.json"
    if path.exists():
        old = json.loads(path.read_text(encoding="utf-8"))
        if {key: old.get(key) for key in mine} != mine:
            raise TrainingError(
                f"{output} was begun with other settings or inputs (see {path}); choose another "
                "output folder, or delete this one"
            )
    elif is_main:
        write_json(path, {**mine, "config": settings.resolved(config)})
