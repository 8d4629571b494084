"""Import step labels that people or other pipelines made: problems and labelled solutions.

    python -m data_gen.importers --config configs/qwq/importers.yaml
    python -m data_gen.importers --format processbench --sources '[Qwen/ProcessBench:gsm8k]'
    python -m data_gen.importers --format mr_gsm8k --sources '[MR-GSM8K.json]' --output runs/mr

Writes two stores, OUTPUT/problems and OUTPUT/labels, which training and evaluation read like those
of our own labelers. What several annotators say of one solution becomes one record. The rows are
read twice: first to find the solutions that occur more than once, so that only these wait in
memory.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterator
from typing import Literal

from data_gen.console import finish, progress, say
from data_gen.importing.batches import Batch, Batches, Reader, count_repeats
from data_gen.importing.formats import FORMATS
from data_gen.importing.imported import Options
from data_gen.importing.merging import DISAGREEMENT
from data_gen.importing.sources import inputs_of
from data_gen.public_sets import statement_hash
from prm.config import fingerprint, operational, parse, resolved, run
from prm.errors import ConfigError
from prm.records import Problem
from prm.store import StoreWriter, content_hash, read_records

COMMAND = "python -m data_gen.importers"


@dataclasses.dataclass(frozen=True)
class ImportersConfig:
    """Settings of `data_gen.importers`."""

    sources: list[str] = dataclasses.field(default_factory=list)
    """Files (.jsonl, .jsonl.gz, .parquet, .json), folders of them, or org/set:split on the hub."""
    format: str = ""
    """What the rows are: prm800k, math_shepherd, processbench, mr_gsm8k, trl_stepwise, math_aps, or
    step_labels (docs/data.md)."""
    output: str = operational("runs/imported")
    """Folder of the two stores, problems and labels."""
    hub_config: str = ""
    """Configuration of the sets on the hub; empty = the only one."""
    name: str = ""
    """Source of the problems and beginning of their ids; empty = the format, or what the row says
    (step_labels)."""
    split: Literal["auto", "train", "selection", "test", "by_hash"] = "auto"
    """Of all problems; by_hash: train and selection, by hash of the id. auto: test for sets that
    are there to measure on (processbench, mr_gsm8k, step_labels), else by_hash."""
    selection_share: float = 0.05
    """by_hash: the share of the problems that become selection problems."""
    exclude: list[str] = dataclasses.field(default_factory=list)
    """Stores of problems whose test problems must not come in. PRM800K has 4,500 of MATH's test
    problems in its training part."""
    verifier: str = "math"
    """Recorded in the problems; the verdicts of final answers are the set's own."""
    reading: Options = dataclasses.field(default_factory=Options)
    """Neutral ratings, alternatives, rates: how labels are read."""
    on_bad_row: Literal["error", "skip"] = "error"
    """Stop at a row that is not of the format, or skip and count it."""
    rows_per_batch: int = 2000
    """Rows that are read and written together."""

    def __post_init__(self) -> None:
        """Check what can be checked without reading anything.

        Raises:
            ConfigError: no source, an unknown format, or a setting that it lacks.
        """
        if self.format not in FORMATS:
            raise ConfigError(f"format should be one of {list(FORMATS)}, not {self.format!r}")
        if not self.sources:
            raise ConfigError("sources: name at least one file, folder, or org/set:split")
        if self.format == "trl_stepwise" and not self.reading.made_by:
            raise ConfigError(
                "reading.made_by: rows of trl_stepwise do not tell who made the labels; give "
                "human, judge, program or rollouts"
            )
        if not 0 <= self.selection_share <= 1 or self.rows_per_batch < 1:
            raise ConfigError("selection_share should be from 0 to 1, rows_per_batch at least 1")


def main(argv: list[str] | None = None) -> None:
    """Run the job."""
    config = parse(ImportersConfig, COMMAND, __doc__, argv)
    inputs = inputs_of(config.sources, config.hub_config)
    inputs |= {store: content_hash(store) for store in config.exclude}
    reader = Reader(
        config.sources,
        config.hub_config,
        FORMATS[config.format].read_row,
        config.reading,
        skips_bad_rows=config.on_bad_row == "skip",
        name=config.name,
    )
    # Before a store is begun: a bad row is found here, and can be mended or skipped.
    num_rows, repeats = count_repeats(reader)
    say(f"importers: {num_rows:,} rows; {len(repeats):,} solutions occur more than once")
    writers = [
        StoreWriter(
            f"{config.output}/{store}",
            job=f"importers/{store}",
            config=resolved(config),
            config_hash=fingerprint(config),
            inputs=inputs,
        )
        for store in ("problems", "labels")
    ]
    problems, labels = writers
    with problems, labels:
        if not (problems.is_done and labels.is_done):
            made = _batches(config, reader, repeats)
            # One more than the rows fill: what still waits when all are read.
            for index in progress(range(-(-num_rows // config.rows_per_batch) + 1), "importers"):
                _write(f"batch-{index}", next(made), problems, labels)
    finish("importers: problems", problems)
    finish("importers: labels", labels)
    for name, number in sorted(labels.notes.items()):
        say(f"  {name}: {number:,}")


def _batches(config: ImportersConfig, reader: Reader, repeats: dict[int, int]) -> Iterator[Batch]:
    split = config.split
    if split == "auto":
        split = "test" if FORMATS[config.format].is_test else "by_hash"
    excluded = _statements(config.exclude)
    made = Batches(reader, repeats, excluded, split, config.selection_share, config.verifier)
    return made.batches(config.rows_per_batch)


def _write(name: str, batch: Batch, problems: StoreWriter, labels: StoreWriter) -> None:
    """Write what is not written already: a job that was stopped makes all batches again."""
    if not problems.has(name):
        num_in = len(batch.problems) + batch.skipped_problems.total()
        problems.append(name, batch.problems, num_in=num_in, skipped=batch.skipped_problems)
    if not labels.has(name):
        notes = Counter(labels.notes)
        notes["rows read"] += batch.num_rows
        notes["solutions on which annotators disagree"] += sum(
            one.stop_reason == DISAGREEMENT for one in batch.labelled
        )
        labels.notes = dict(notes)
        num_in = len(batch.labelled) + batch.skipped.total()
        labels.append(name, batch.labelled, num_in=num_in, skipped=batch.skipped)


def _statements(stores: list[str]) -> frozenset[str]:
    """Hashes of the statements of all test problems of the stores."""
    return frozenset(
        statement_hash(one.statement)
        for store in stores
        for one in read_records(store, Problem)
        if one.split == "test"
    )


if __name__ == "__main__":
    run(main, COMMAND)
