"""Export labelled solutions: to TRL's stepwise supervision, or whole, as Parquet or JSON lines.

    python -m data_gen.export --labels runs/qwq/labels --problems runs/qwq/problems --format trl
    python -c "import datasets; print(datasets.load_dataset('runs/export'))"

- ``trl``: ``{"prompt", "completions", "labels"}``. That format cannot mask a step, so a solution is
  cut behind its first error, and before the first step without a hard label.
- ``parquet``, ``jsonl``: solutions, labels, and every piece of evidence as a nested column; not how
  a solution was sampled, nor a verdict's reason and detail (`data_gen.export_rows` has the list).

Writes OUTPUT/{train,validation,test}.{jsonl,parquet}, selection as validation: the names that
`datasets` looks for. OUTPUT/export.json has the counts.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any, Literal

from data_gen.console import say
from data_gen.export_rows import features, trl_row, whole_row
from data_gen.public_sets import import_datasets
from prm.config import operational, parse, resolved, run
from prm.errors import ConfigError, RecordError
from prm.records import LabelledSolution, Problem, Split
from prm.store import content_hash, read_records, read_unique, unique, write_json

COMMAND = "python -m data_gen.export"
_FILES: dict[Split, str] = {"train": "train", "selection": "validation", "test": "test"}


@dataclasses.dataclass(frozen=True)
class ExportConfig:
    """Settings of `data_gen.export`."""

    labels: str = operational("runs/quickstart/labels")
    """Store of labelled solutions."""
    problems: str = operational("runs/quickstart/problems")
    """Store of their problems."""
    output: str = operational("runs/export")
    """Folder of the files; those of an earlier export are replaced, others refused."""
    format: Literal["trl", "parquet", "jsonl"] = "trl"
    """trl: stepwise supervision in JSON lines; parquet, jsonl: all labels with their evidence."""
    splits: list[Split] = dataclasses.field(default_factory=lambda: ["train", "selection", "test"])
    """Which to write; the others are skipped and counted."""

    def __post_init__(self) -> None:
        """Check the splits.

        Raises:
            ConfigError: there are none.
        """
        if not self.splits:
            raise ConfigError("splits: name at least one")


@dataclasses.dataclass
class Counts:
    """What became of the solutions, and of the steps of those that are written."""

    num_in: int = 0
    out: Counter[str] = dataclasses.field(default_factory=Counter)
    skipped: Counter[str] = dataclasses.field(default_factory=Counter)
    steps: Counter[str] = dataclasses.field(default_factory=Counter)

    def plain(self) -> dict[str, int | dict[str, int]]:
        """As JSON values."""
        return {
            "in": self.num_in,
            "out": dict(self.out),
            "skipped": dict(self.skipped),
            "steps": dict(self.steps),
        }

    @property
    def summary(self) -> str:
        """In words."""
        reasons = ", ".join(f"{n} {reason}" for reason, n in sorted(self.skipped.items()))
        return (
            f"in {self.num_in} = out {self.out.total()} {dict(self.out)} + skipped "
            f"{self.skipped.total()}" + (f" ({reasons})" if reasons else "")
        )


def main(argv: list[str] | None = None) -> None:
    """Run the job."""
    config = parse(ExportConfig, COMMAND, __doc__, argv)
    datasets = import_datasets() if config.format == "parquet" else None
    output = Path(config.output)
    _refuse_others(output)
    output.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=output) as folder:
        counts = write_lines(config, Path(folder))
        if datasets is not None:
            _to_parquet(datasets, Path(folder))
        record = {
            "config": resolved(config),
            "inputs": {name: content_hash(name) for name in (config.labels, config.problems)},
            **counts.plain(),
        }
        # Before the files, which are known as an export's by it.
        write_json(output / "export.json", record)
        _replace(Path(folder), output)
    say(f"export: {counts.summary} -> {output}")
    if counts.steps:
        say(f"  steps: {dict(counts.steps)}")


def write_lines(config: ExportConfig, folder: Path) -> Counts:
    """A JSON lines file for each split that has rows, and the counts.

    Raises:
        RecordError: a solution whose problem is not there.
    """
    problems = {one.id: one for one in unique(read_records(config.problems, Problem), "problems")}
    counts = Counts()
    with contextlib.ExitStack() as files:
        opened: dict[str, IO[str]] = {}
        for one in read_unique(config.labels, LabelledSolution):
            counts.num_in += 1
            problem = _problem_of(one, problems, config)
            row = _row(config, one, problem, counts)
            if row is None:
                continue
            name = _FILES[problem.split]
            if name not in opened:
                path = folder / f"{name}.jsonl"
                opened[name] = files.enter_context(path.open("w", encoding="utf-8"))
            opened[name].write(json.dumps(row, ensure_ascii=False) + "\n")
            counts.out[name] += 1
    return counts


def _problem_of(
    one: LabelledSolution, problems: dict[str, Problem], config: ExportConfig
) -> Problem:
    problem = problems.get(one.solution.problem_id)
    if problem is None:
        raise RecordError(
            f"{config.labels}: {one.id!r} is of problem {one.solution.problem_id!r}, which is not "
            f"in {config.problems}; give the problems that the solutions were made from"
        )
    return problem


def _row(
    config: ExportConfig, one: LabelledSolution, problem: Problem, counts: Counts
) -> dict[str, Any] | None:
    """The row to write, or None, counted."""
    if problem.split not in config.splits:
        counts.skipped["other_split"] += 1
        return None
    if config.format != "trl":
        return whole_row(one, problem)
    row, left_out = trl_row(one, problem)
    if not row["completions"]:
        counts.skipped["no_hard_label"] += 1
        return None
    counts.steps["written"] += len(row["completions"])
    counts.steps.update(left_out)
    return row


def _to_parquet(datasets: Any, folder: Path) -> None:
    """Make each JSON lines file of the folder a Parquet file, by way of the disk."""
    columns = features(datasets)
    for path in list(_data_files(folder)):
        # Not with the reader of JSON in `datasets`: it takes texts that look like times for times.
        rows = datasets.Dataset.from_generator(
            _lines,
            features=columns,
            gen_kwargs={"path": str(path)},
            cache_dir=str(folder / "cache"),
        )
        rows.to_parquet(path.with_suffix(".parquet"))
        path.unlink()


def _lines(path: str) -> Iterator[dict[str, Any]]:
    with open(path, encoding="utf-8") as file:
        yield from map(json.loads, file)


def _refuse_others(output: Path) -> None:
    """Refuse a folder with files that an export would replace but none has made.

    Raises:
        ConfigError: there are some.
    """
    found = [path.name for path in _data_files(output)]
    if found and not (output / "export.json").exists():
        raise ConfigError(
            f"output: {output} holds {', '.join(found)}, of no earlier export (there is no "
            "export.json): choose another folder, or move them away"
        )


def _replace(folder: Path, output: Path) -> None:
    """Put the new files in the place of all of an earlier export."""
    for old in _data_files(output):
        old.unlink()
    for new in _data_files(folder):
        os.replace(new, output / new.name)


def _data_files(folder: Path) -> Iterator[Path]:
    for name in _FILES.values():
        for suffix in (".jsonl", ".parquet"):
            if (path := folder / f"{name}{suffix}").exists():
                yield path


if __name__ == "__main__":
    run(main, COMMAND)
