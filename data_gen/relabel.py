"""Read labels anew from the evidence that they keep: no model, no rollouts.

    python -m data_gen.relabel --labels runs/x/labels --output runs/x/hard --reading hard
    python -m data_gen.relabel --labels S --output S2 --reading progress --threshold 0.8

Counts, opinions and the verdict stay as they are. The readings:

    hard       a step is right while more than the threshold of its rollouts reach the answer;
               0 = any success (Math-Shepherd, OmegaPRM)
    soft       the same, and success_rate is the plain share of the counts, whoever labelled
    progress   a step is right while it keeps at least the threshold of the success rate before it
               (0.8 as in GenPRM, arXiv 2504.00891)
    posterior  one posterior a solution over the first error, learned over the whole store (bayes)
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Literal

from data_gen.console import batches, finish, say
from data_gen.label_summary import summarise, summary_lines
from data_gen.labelers.bayes import redecode
from data_gen.labelers.reading import first_error_of, relative_progress, soft, with_hard
from prm.config import fingerprint, operational, parse, resolved, run
from prm.errors import ConfigError
from prm.records import LabelledSolution
from prm.store import StoreWriter, content_hash, read_records, unique

COMMAND = "python -m data_gen.relabel"
Reading = Literal["hard", "soft", "progress", "posterior"]
_DEFAULTS = {"hard": 0.0, "soft": 0.0, "progress": 0.8}


@dataclasses.dataclass(frozen=True)
class RelabelConfig:
    """Settings of `data_gen.relabel`."""

    labels: str = operational("runs/quickstart/labels")
    """Store of labelled solutions."""
    output: str = operational("runs/quickstart/relabelled")
    """Folder of the store."""
    reading: Reading = "hard"
    """How the evidence is read."""
    threshold: float | None = None
    """Of the readings hard and soft (null = 0) and progress (null = 0.8)."""
    batch_size: int = 1000
    """Solutions written at once; batches are numbered, so a store is finished with the same."""

    def __post_init__(self) -> None:
        """Refuse a threshold that means nothing."""
        if self.threshold is not None and self.reading == "posterior":
            raise ConfigError("threshold: the reading posterior has none")
        if self.threshold is not None and not 0 <= self.threshold < 1:
            raise ConfigError(f"threshold is {self.threshold}, should be at least 0 and below 1")
        if self.batch_size < 1:
            raise ConfigError(f"batch_size is {self.batch_size}, should be 1 or more")


def main(argv: list[str] | None = None) -> None:
    """Run the job."""
    config = parse(RelabelConfig, COMMAND, __doc__, argv)
    labelled = unique(read_records(config.labels, LabelledSolution), config.labels)
    writer = StoreWriter(
        config.output,
        job="relabel",
        config=resolved(config),
        config_hash=fingerprint(config),
        inputs={"labels": content_hash(config.labels)},
    )
    with writer:
        if not writer.is_done:
            _write(writer, read_anew(labelled, config.reading, config.threshold), config.batch_size)
    finish("relabel", writer)
    for line in summary_lines(writer.notes):
        say(f"  {line}")


def read_anew(
    labelled: Sequence[LabelledSolution], reading: Reading, threshold: float | None = None
) -> list[LabelledSolution]:
    """The same solutions and evidence with other labels, in order."""
    if reading == "posterior":
        return redecode(labelled)
    limit = _DEFAULTS[reading] if threshold is None else threshold
    read = by_progress if reading == "progress" else with_hard
    rows = []
    for one in labelled:
        new = read(one, limit)
        rates = soft(one) if reading == "soft" else [label.success_rate for label in one.labels]
        labels = tuple(
            # A threshold knows no probability.
            dataclasses.replace(label, success_rate=rate, prefix_correct=None)
            for label, rate in zip(new.labels, rates, strict=True)
        )
        rows.append(dataclasses.replace(new, labels=labels, decoder=f"{reading}/{limit:g}"))
    return rows


def by_progress(labelled: LabelledSolution, threshold: float) -> LabelledSolution:
    """Hard labels by relative progress: the first step below the threshold is the first error.

    Behind a step of unknown progress nothing is known.
    """
    hard: list[bool | None] = []
    for ratio in relative_progress(labelled):
        is_open = not hard or hard[-1] is True
        hard.append(None if not is_open or ratio is None else ratio >= threshold)
    first_error = first_error_of(hard)
    reason = "budget" if labelled.stop_reason == "budget" else "undecided"
    if first_error:
        reason = "all_steps_good" if "none" in first_error else "first_error_found"
    labels = tuple(
        dataclasses.replace(label, hard=value)
        for label, value in zip(labelled.labels, hard, strict=True)
    )
    return dataclasses.replace(
        labelled,
        labels=labels,
        first_error=first_error,
        stop_reason=reason if labels else "no_steps",
    )


def _write(writer: StoreWriter, rows: Sequence[LabelledSolution], size: int) -> None:
    for index, batch in enumerate(batches(rows, size)):
        if not writer.has(f"batch-{index}"):
            writer.append(f"batch-{index}", batch)
    writer.notes["summary"] = summarise(rows, {}, 0)


if __name__ == "__main__":
    run(main, COMMAND)
