"""Run all jobs of a folder of settings in their order, each in a process of its own.

    python -m data_gen.pipeline --configs configs/quickstart --output runs/quickstart
    python -m data_gen.pipeline --configs configs/quickstart --output runs/smoke --smoke

The folder has a YAML file for each job, ``pipeline.yaml`` (training seeds) and, for ``--smoke``,
``smoke.yaml`` (what is smaller in the short form). The same jobs run on a cluster one by one:
see slurm/. Starting again goes on where it stopped, also after a kill.
"""

from __future__ import annotations

import argparse
import ctypes
import dataclasses
import hashlib
import json
import os
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import yaml  # type: ignore[import-untyped]

from data_gen.console import say
from prm.config import run as with_messages
from prm.errors import ConfigError
from prm.store import read_json, write_json

_STATE = "pipeline.json"
_PR_SET_PDEATHSIG = 1  # from linux/prctl.h


@dataclasses.dataclass(frozen=True)
class Job:
    """A process to run; ``overrides`` are the key of its smaller settings in smoke.yaml."""

    name: str
    module: tuple[str, ...]
    config: str
    arguments: tuple[str, ...]
    reads: tuple[Path, ...] = ()
    """Files beside its settings that decide what it does."""
    is_always_run: bool = False

    def command(self, configs: Path, smaller: dict[str, Any]) -> list[str]:
        """The whole command line."""
        words = [sys.executable, "-m", *self.module, "--config", str(configs / self.config)]
        for key, value in smaller.get(self.config.removesuffix(".yaml"), {}).items():
            words += [f"--{key}", value if isinstance(value, str) else json.dumps(value)]
        return [*words, *self.arguments]


def main(argv: list[str] | None = None) -> None:
    """Run the pipeline."""
    options = _options(argv)
    with_messages(lambda: _run(options), "pipeline")


def _options(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m data_gen.pipeline",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--configs", type=Path, required=True, help="folder with the settings")
    parser.add_argument("--output", type=Path, required=True, help="folder for all outputs")
    parser.add_argument("--smoke", action="store_true", help="the short form (smoke.yaml)")
    parser.add_argument("--until", metavar="JOB", help="stop after this job, e.g. select")
    return parser.parse_args(argv)


def _run(options: argparse.Namespace) -> None:
    settings = _read_yaml(options.configs / "pipeline.yaml")
    smaller = _read_yaml(options.configs / "smoke.yaml") if options.smoke else {}
    jobs = plan(options.output, settings, options.configs)
    if options.until and options.until not in {job.name for job in jobs}:
        raise ConfigError(f"--until {options.until}: the jobs are {[job.name for job in jobs]}")
    begun, mark = time.monotonic(), ""
    for number, job in enumerate(jobs, 1):
        command = job.command(options.configs, smaller)
        mark = _mark(mark, command, [options.configs / job.config, *job.reads])
        _do(job, command, mark, options, f"[{number}/{len(jobs)}]")
        if job.name == options.until:
            break
    say(f"pipeline: {time.monotonic() - begun:.0f} s in this start -> {options.output}")


def plan(output: Path, settings: dict[str, Any], configs: Path) -> list[Job]:
    """The jobs in their order, with the folders that they share."""
    at = {name: str(output / name) for name in ("problems", "solutions", "labels", "critiques")}
    seeds = settings.get("seeds", [0])
    prms = {
        f"prm-{seed}" if i else "prm": str(output / f"prm-{seed}") for i, seed in enumerate(seeds)
    }
    data = ("--problems", at["problems"])
    published = {name: str(output / "published" / name) for name in (*prms, "critic")}
    evaluate = (
        *data,
        "--solutions", at["solutions"],
        "--labelled", at["labels"],
        "--output", str(output / "evaluation"),
        "--prms", json.dumps([published[name] for name in prms]),
        "--critic", published["critic"],
    )  # fmt: skip
    committed = configs / "choice.json"
    choice = ("--choice", str(committed)) if committed.exists() else ()
    train = [
        Job(
            f"train_prm-{seed}",
            ("prm.training.train_prm",),
            "train_prm.yaml",
            (*data, "--labelled", at["labels"], "--output", folder, "--seed", str(seed)),
        )
        for seed, folder in zip(seeds, prms.values(), strict=True)
    ]
    return [
        Job("problems", ("data_gen.problems",), "problems.yaml", ("--output", at["problems"])),
        Job("sample", ("data_gen.sample",), "sample.yaml", (*data, "--output", at["solutions"])),
        Job(
            "label",
            ("data_gen.label",),
            "label.yaml",
            (*data, "--solutions", at["solutions"], "--output", at["labels"]),
        ),
        Job(
            "critiques",
            ("data_gen.critiques",),
            "critiques.yaml",
            (*data, "--labelled", at["labels"], "--output", at["critiques"]),
        ),
        *train,
        Job(
            "train_critic",
            ("prm.training.train_critic",),
            "train_critic.yaml",
            (
                *data,
                *("--labelled", at["labels"], "--critiques", at["critiques"]),
                *("--output", str(output / "critic")),
            ),
        ),
        Job(
            "publish",
            ("prm.cli", "publish"),
            "publish.yaml",
            (
                *("--prms", json.dumps(prms), "--critic", str(output / "critic")),
                *("--output", str(output / "published")),
            ),
        ),
        Job(
            "select", ("prm.cli", "evaluate"), "evaluate.yaml", (*evaluate, "--split", "selection")
        ),
        Job(
            "test",
            ("prm.cli", "evaluate"),
            "evaluate.yaml",
            (*evaluate, *choice, "--split", "test"),
            reads=(committed,) if choice else (),
        ),
        Job(
            "report",
            ("prm.cli", "report"),
            "report.yaml",
            ("--run", str(output)),
            is_always_run=True,  # so that a second start shows the table and the paths again
        ),
    ]


def _do(job: Job, command: list[str], mark: str, options: argparse.Namespace, number: str) -> None:
    """Run a job unless it is done; note its time and memory."""
    path = options.output / _STATE
    state = read_json(path) if path.exists() else {"jobs": {}}
    known = state["jobs"].get(job.name, {})
    if known.get("mark") == mark and known.get("done") and not job.is_always_run:
        say(f"{number} {job.name}: done already")
        return
    say(f"{number} {job.name}: {shlex.join(command[1:])}")
    begun = time.monotonic()
    code, peak = _wait(command)
    seconds = (
        time.monotonic() - begun + (known.get("seconds", 0) if known.get("mark") == mark else 0)
    )
    state["jobs"][job.name] = {
        "mark": mark,
        "done": code == 0,
        "seconds": round(seconds, 1),
        "peak_memory_mb": round(peak),
    }
    write_json(path, state)
    if code:
        again = shlex.join([Path(sys.executable).name, "-m", "data_gen.pipeline", *sys.argv[1:]])
        raise ConfigError(
            f"job {job.name} ended with exit code {code}; its message stands above. Mend it and "
            f"start again, finished work is kept: {again}"
        )


def _mark(before: str, command: list[str], files: list[Path]) -> str:
    """A hash of what is run, of its settings, and of the jobs before it."""
    digest = hashlib.sha256(f"{before} {command[1:]}".encode())
    for path in files:
        digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


def _wait(command: list[str]) -> tuple[int, float]:
    """Exit code and peak memory in MB of a process."""
    environment = {"HF_HUB_DISABLE_PROGRESS_BARS": "1"} | os.environ
    process = subprocess.Popen(command, env=environment, preexec_fn=_die_with_parent)
    try:
        _, status, usage = os.wait4(process.pid, 0)
    except BaseException:
        process.kill()
        raise
    process.returncode = os.waitstatus_to_exitcode(status)
    per_mb = 1024 if sys.platform != "darwin" else 1024 * 1024
    return process.returncode, usage.ru_maxrss / per_mb


def _die_with_parent() -> None:
    """Let a job end when the pipeline is killed (Linux); a second start would meet it."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def _read_yaml(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise ConfigError(
            f"{path}: no such file; --configs should be a folder such as configs/quickstart"
        )
    values: dict[str, Any] = yaml.safe_load(path.read_text()) or {}
    return values


if __name__ == "__main__":
    main()
