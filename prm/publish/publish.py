"""Publish a trained PRM, and a critic: folders that describe themselves.

    prm publish --config configs/quickstart/publish.yaml

A PRM's folder: ``config.json``, ``model.safetensors`` (merged, float32), tokenizer,
``head.safetensors``, ``prm_spec.json``, ``adapter/``, ``golden.json`` and ``README.md`` (the
model card). Before it counts as published, it is loaded as a user would load it and must give the
trainer's own scores to 1e-5.
"""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from prm import config as settings
from prm.errors import ConfigError, SpecError
from prm.generation.embedded import resolve_model
from prm.publish.card import critic_card, prm_card
from prm.scoring.model import HEAD_FILE
from prm.scoring.scorer import Scorer
from prm.scoring.spec import load_spec
from prm.store import read_json, write_json

TOLERANCE = 1e-5


@dataclasses.dataclass(frozen=True)
class PublishConfig:
    """Settings of `prm publish`."""

    prms: dict[str, str]
    """Name of the published folder and the training run that it is made from."""
    critic: str | None = settings.operational(None)
    """The critic's training run, or null."""
    output: str = settings.operational("runs/quickstart/published")
    """Folder of the published folders."""


def publish(config: PublishConfig) -> list[str]:
    """Publish what is not published yet; returns a line for each folder."""
    lines = []
    for name, run in config.prms.items():
        folder = Path(config.output) / name
        if is_published(folder, run):
            lines.append(f"{folder}: published already")
            continue
        with _atomic(folder) as made:
            error = _publish_prm(Path(run), made)
        lines.append(f"{folder}: loads, and gives the trainer's scores to {error:.1e}")
    if config.critic:
        folder = Path(config.output) / "critic"
        if is_published(folder, config.critic):
            lines.append(f"{folder}: published already")
        else:
            with _atomic(folder) as made:
                _publish_critic(Path(config.critic), made)
            lines.append(f"{folder}: critic")
    return lines


def is_published(folder: Path, run: str) -> bool:
    """Whether the folder was made from this very run."""
    source = folder / "source.json"
    return source.is_file() and read_json(source) == _source(Path(run))


def verify(folder: Path) -> float:
    """The largest difference between the folder's scores and the trainer's.

    Raises:
        SpecError: it is larger than 1e-5: the folder would not score as it was trained.
    """
    golden: list[dict[str, Any]] = json.loads((folder / "golden.json").read_text())
    scorer = Scorer.from_pretrained(folder, device="cpu", dtype="float32")
    found = scorer.score_batch([(row["problem"], row["steps"]) for row in golden])
    errors: list[float] = [
        abs(a - b)
        for row, scores in zip(golden, found, strict=True)
        for a, b in zip(row["scores"], scores, strict=True)
    ]
    if not all(error <= TOLERANCE for error in errors):  # also where one is NaN
        raise SpecError(f"{folder}: scores differ from the trainer's by {max(errors):.2e}")
    return max(errors)


def _publish_prm(run: Path, folder: Path) -> float:
    _check_done(run)
    spec = load_spec(run)
    base = _trained_base(spec.base_model, read_json(run / "DONE")["dtype"])
    _merge(base, run / "adapter", folder)
    AutoTokenizer.from_pretrained(run / "tokenizer").save_pretrained(folder)
    for name in (HEAD_FILE, "golden.json"):
        shutil.copy(run / name, folder / name)
    shutil.copytree(run / "adapter", folder / "adapter")
    spec.save(folder)
    error = verify(folder)
    write_json(folder / "source.json", _source(run))
    (folder / "README.md").write_text(prm_card(spec, run, error), encoding="utf-8")
    return error


def _publish_critic(run: Path, folder: Path) -> None:
    _check_done(run)
    shutil.copytree(run / "merged", folder, dirs_exist_ok=True)
    shutil.copytree(run / "adapter", folder / "adapter")
    shutil.copy(run / "critic.json", folder / "critic.json")
    write_json(folder / "source.json", _source(run))
    (folder / "README.md").write_text(critic_card(run), encoding="utf-8")


def _trained_base(name: str, dtype: str) -> Any:
    """The base with the weights that training saw (rounded to its format), in float32."""
    number = getattr(torch, dtype.removeprefix("torch."))
    return AutoModelForCausalLM.from_pretrained(resolve_model(name), dtype=number).float()  # type: ignore[no-untyped-call]


def _merge(base: Any, adapter: Path, folder: Path) -> None:
    try:
        from peft import PeftModel
    except ImportError as error:
        raise ConfigError(
            "publishing merges an adapter with peft: pip install 'stepwise-prm[train]'"
        ) from error
    merged = PeftModel.from_pretrained(base, str(adapter)).merge_and_unload(safe_merge=True)
    merged.save_pretrained(folder)


def _check_done(run: Path) -> None:
    if not (run / "DONE").is_file():
        raise ConfigError(f"{run}: this training run is not finished (no DONE); run it to its end")


def _source(run: Path) -> dict[str, Any]:
    return {"run": run.name, "config": read_json(run / "config.json"), "done": _done(run)}


def _done(run: Path) -> dict[str, Any]:
    """The run's facts but the time it took."""
    facts = read_json(run / "DONE")
    return {name: value for name, value in facts.items() if "seconds" not in name}


@contextmanager
def _atomic(folder: Path) -> Iterator[Path]:
    """A folder to fill, which takes the name ``folder`` when it is whole."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    for left in folder.parent.glob(f".{folder.name}-*"):
        shutil.rmtree(left)  # of a run that was killed
    made = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    try:
        yield made
        made.chmod(0o755)
        if folder.exists():
            shutil.rmtree(folder)
        os.replace(made, folder)
    finally:
        shutil.rmtree(made, ignore_errors=True)
