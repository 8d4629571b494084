"""Write report.html for a run, and the measured numbers into the published model cards.

prm report --config configs/quickstart/report.yaml --run runs/quickstart
"""

from __future__ import annotations

import dataclasses
import datetime
import json
import os
import platform
import subprocess
from pathlib import Path
from typing import Any

from rich.console import Console

from prm.evaluation.evaluate import Evaluation, read_evaluation
from prm.publish.card import EXAMPLE, apply_choice, critic_results, with_results
from prm.report.data import Published, ReportData, RunFacts, Stage, TrainingPoint, TrainingRun
from prm.report.html import write_report
from prm.report.terminal import show_evaluation
from prm.scoring.spec import load_spec
from prm.store import read_json, read_manifests

_STORES = {
    "problems": ("problems", "problems"),
    "sample": ("solutions", "solutions"),
    "label": ("labels", "solutions"),
    "critiques": ("critiques", "solutions"),
}


@dataclasses.dataclass(frozen=True)
class ReportConfig:
    """Settings of `prm report`."""

    run: str
    """Folder of the run, as data_gen.pipeline leaves it."""
    title: str = "Process reward model: quickstart"
    """Headline of the report."""
    command: str = "make quickstart"
    """The command that makes the run, for the reader."""


def run(config: ReportConfig) -> None:
    """Write the report, complete the model cards, show the tables."""
    folder = Path(config.run)
    evaluation = read_evaluation(folder / "evaluation" / "evaluation.json")
    # In the order of the training seeds: prm, prm-1, prm-2.
    found = folder.glob("published/prm*/README.md")
    for seed, card in enumerate(sorted(found, key=lambda path: (len(str(path)), path))):
        _complete(card, evaluation, seed)
    critic = folder / "published" / "critic" / "README.md"
    if critic.exists():
        critic.write_text(critic_results(critic.read_text("utf-8"), evaluation), "utf-8")
    path = folder / "report.html"
    write_report(_data(config, folder, evaluation), path)
    show_evaluation(evaluation)
    console = Console(highlight=False, soft_wrap=True)
    _show_stages(console, _stages(folder))
    console.print(f"report:    {path.resolve()}")
    console.print(f"published: {(folder / 'published').resolve()}")


def _complete(card: Path, evaluation: Evaluation, seed: int) -> None:
    """Write aggregate and threshold into the spec, and the numbers into the card."""
    spec = apply_choice(load_spec(card.parent), evaluation.choice, seed)
    spec.save(card.parent)
    card.write_text(with_results(spec, card.read_text(encoding="utf-8"), evaluation, seed), "utf-8")


def _data(config: ReportConfig, folder: Path, evaluation: Evaluation) -> ReportData:
    return ReportData(
        title=config.title,
        run=_facts(config, folder),
        methods=evaluation.methods,
        differences=evaluation.differences,
        references=evaluation.references,
        chosen=evaluation.chosen,
        solutions=evaluation.solutions,
        threshold=evaluation.threshold,
        step_metrics=evaluation.step_metrics,
        reliability=evaluation.reliability,
        labels=evaluation.labels,
        training=_training(folder),
        critic=evaluation.critic,
        stages=_stages(folder),
        published=Published(
            str(folder / "published"), EXAMPLE.format(folder=folder / "published" / "prm")
        ),
        configs=_configs(folder),
    )


def _facts(config: ReportConfig, folder: Path) -> RunFacts:
    import torch

    done = read_json(next(iter(sorted(folder.glob("prm-*/DONE")))))
    return RunFacts(
        command=config.command,
        date=datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC"),
        cpu=_cpu(),
        cores=len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 0,
        dtype=done["dtype"].removeprefix("torch."),
        torch_version=torch.__version__,
        commit=_commit(),
    )


def _cpu() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def _commit() -> str:
    found = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"],
        capture_output=True,
        text=True,
        check=False,
        cwd=Path(__file__).parent,
    )
    return found.stdout.strip() or "not a git checkout"


def _stages(folder: Path) -> tuple[Stage, ...]:
    """What each job did, from its manifest and the pipeline's clock."""
    jobs: dict[str, Any] = read_json(folder / "pipeline.json")["jobs"]
    return tuple(_stage(folder, name, facts) for name, facts in jobs.items() if facts["done"])


def _stage(folder: Path, name: str, facts: dict[str, Any]) -> Stage:
    num_in = num_out = tokens = 0
    skipped: dict[str, int] = {}
    unit = ""
    if name in _STORES:
        store, unit = _STORES[name]
        for manifest in read_manifests(folder / store):
            num_in += manifest["in"]
            num_out += manifest["out"]
            tokens += manifest["ledger"]["prompt_tokens"] + manifest["ledger"]["generated_tokens"]
            for reason, count in manifest["skipped"].items():
                skipped[reason] = skipped.get(reason, 0) + count
    elif name.startswith("train_"):
        done = read_json(folder / name.removeprefix("train_") / "DONE")
        num_out, skipped = done.get("solutions", done.get("rows", 0)), done["skipped"]
        num_in = num_out + sum(skipped.values())
        tokens, unit = done["tokens"], "solutions"
    elif name in ("select", "test"):
        tokens = _scored_tokens(folder, "selection" if name == "select" else "test")
    return Stage(
        name=name,
        seconds=facts["seconds"],
        num_in=num_in,
        num_out=num_out,
        unit=unit,
        skipped=skipped,
        tokens=tokens or None,
        tokens_per_second=tokens / facts["seconds"] if tokens and facts["seconds"] else None,
        peak_memory_mb=facts["peak_memory_mb"],
    )


def _scored_tokens(folder: Path, split: str) -> int:
    files = folder.glob(f"evaluation/scores/{split}-*.json")
    return sum(read_json(path).get("tokens", 0) for path in files)


def _show_stages(console: Console, stages: tuple[Stage, ...]) -> None:
    for stage in stages:
        tokens = (
            f"{stage.tokens:>9,} tokens {stage.tokens_per_second:>6.0f}/s" if stage.tokens else ""
        )
        memory = f"{(stage.peak_memory_mb or 0) / 1024:.1f} GB"
        console.print(f"  {stage.name:<14} {stage.seconds:>7.1f} s  {memory:>7}  {tokens}")
    total = sum(stage.seconds for stage in stages)
    console.print(f"  {'all jobs':<14} {total:>7.1f} s")


def _training(folder: Path) -> tuple[TrainingRun, ...]:
    runs = []
    for log in sorted(folder.glob("*/training_log.jsonl")):
        rows = [json.loads(line) for line in log.read_text().splitlines()]
        name = log.parent.name
        points = tuple(TrainingPoint(row["step"], row["epoch"], row["loss"]) for row in rows)
        runs.append(TrainingRun(name, "critic" if name == "critic" else "PRM", points))
    return tuple(runs)


def _configs(folder: Path) -> dict[str, str]:
    """The resolved settings of each job, as text."""
    found = {}
    for path in sorted((*folder.glob("*/shard-00000-of-*.json"), *folder.glob("*/config.json"))):
        found[path.parent.name] = json.dumps(read_json(path)["config"], indent=2)
    return found
