"""Write training critiques from labelled solutions: `python -m data_gen.critiques --config F`.

In: a store of `LabelledSolution` and one of `Problem`. Out: a store of `Critique` and, beside it,
the dialect they are written in (``critic.json``).

The teacher is the labels: no model, and no knowledge of the subject. A step labelled right is
restated; the first step labelled wrong is replaced by what a right solution says at that place:
the next step of a continuation that reached the right answer, or of another right solution with
the same steps before it. Every solution that gives no critique is counted under its reason:

    could_not_tell             no step is wrong and the final answer could not be checked
    no_error_but_wrong_answer  every step is labelled right, yet the answer is wrong
    undecided_label            a step at or before the first error has no label
    no_right_alternative       nothing right is known to stand in the wrong step's place
    contradiction              the alternative is the very step that is labelled wrong
    bad_work                   a step cannot stand in a critique's line (more than one line, say)
    no_steps                   nothing to judge
    duplicate                  the same problem and steps came before
    other_split                a problem of another split
    balanced_away              dropped so that classes and positions are balanced
"""

from __future__ import annotations

import dataclasses
import random
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence

from rich.console import Console

from data_gen.arithmetic import is_held_out
from prm import config as settings
from prm.critic.dialect import Dialect
from prm.critic.parse import render
from prm.errors import ConfigError, RecordError
from prm.evaluation.step_truth import operand_pairs
from prm.records import Critique, LabelledSolution, Problem, Split
from prm.steps import split_steps
from prm.store import StoreWriter, content_hash, read_records, unique

COMMAND = "python -m data_gen.critiques"
NUM_THIRDS = 3


@dataclasses.dataclass(frozen=True)
class CritiquesConfig:
    """Settings of the job."""

    labelled: str = settings.operational("runs/quickstart/labels")
    """Store of labelled solutions."""
    problems: str = settings.operational("runs/quickstart/problems")
    """Store of their problems."""
    output: str = settings.operational("runs/quickstart/critiques")
    """Folder of the critiques."""
    dialect: str | None = None
    """A critic.json; the short dialect without one."""
    split: Split = "train"
    """Solutions of problems of this split only."""
    right_share: float = 0.5
    """Share of critiques without an error, after everything else was dropped."""
    max_position_share: float = 0.5
    """Of the critiques with an error, the share whose first error lies in the same third of the
    solution; 1 = no limit. It gives way where the material has fewer thirds."""
    hold_out_pairs: bool = True
    """Skip critiques that write a held-out operand pair (arithmetic problems only)."""
    seed: int = 0
    """Draws what balancing keeps."""
    batch_size: int = settings.operational(1000)
    """Critiques written at once."""

    def __post_init__(self) -> None:
        """Refuse shares that no data could have."""
        if not 0 < self.right_share < 1:
            raise ConfigError(f"right_share is {self.right_share}, should lie between 0 and 1")
        if not 0 < self.max_position_share <= 1:
            raise ConfigError(
                f"max_position_share is {self.max_position_share}, should be in (0, 1]"
            )


@dataclasses.dataclass(frozen=True)
class Written:
    """A critique and the third of the solution in which its first error lies (None = no error)."""

    critique: Critique
    third: int | None


def main(config: CritiquesConfig) -> str:
    """Write the store; returns its counts in words."""
    dialect = Dialect.load(config.dialect) if config.dialect else Dialect()
    writer = StoreWriter(
        config.output,
        job="critiques",
        config=settings.resolved(config),
        config_hash=settings.fingerprint(config),
        inputs={
            "labelled": content_hash(config.labelled),
            "problems": content_hash(config.problems),
        },
    )
    with writer:
        if not writer.is_done:
            dialect.save(config.output)
            _write(writer, config, dialect)
        return writer.summary()


def _write(writer: StoreWriter, config: CritiquesConfig, dialect: Dialect) -> None:
    problems = {p.id: p for p in unique(read_records(config.problems, Problem), config.problems)}
    labelled = unique(read_records(config.labelled, LabelledSolution), config.labelled)
    written, skipped = write_critiques(labelled, problems, config.split, dialect)
    if config.hold_out_pairs:
        clean = [row for row in written if not _writes_held_out(row.critique)]
        skipped["held_out_pair"] = len(written) - len(clean)
        written = clean
    kept = balance(written, config.right_share, config.max_position_share, config.seed)
    skipped["balanced_away"] += len(written) - len(kept)
    writer.notes = {
        "first_error_by_third": {
            "none" if third is None else str(third): count
            for third, count in Counter(row.third for row in kept).items()
        }
    }
    if not writer.has("skipped"):
        writer.append("skipped", [], num_in=skipped.total(), skipped=+skipped)
    for begin in range(0, len(kept), config.batch_size):
        name = f"rows-{begin}"
        if not writer.has(name):
            batch = kept[begin : begin + config.batch_size]
            writer.append(name, [row.critique for row in batch])


def _writes_held_out(critique: Critique) -> bool:
    """Whether it restates a step with a pair that is kept out of training."""
    return any(map(is_held_out, operand_pairs(critique.text.split("\n"))))


def write_critiques(
    labelled: Sequence[LabelledSolution],
    problems: dict[str, Problem],
    split: Split,
    dialect: Dialect,
) -> tuple[list[Written], Counter[str]]:
    """A critique for each solution that allows one, in order, and the reasons of the others.

    Raises:
        RecordError: a solution's problem is not among the problems.
    """
    by_problem: dict[str, list[LabelledSolution]] = defaultdict(list)
    for row in labelled:
        by_problem[row.solution.problem_id].append(row)
    written, skipped = [], Counter[str]()
    seen: set[tuple[str, tuple[str, ...]]] = set()
    for row in labelled:
        key = (row.solution.problem_id, row.solution.steps)
        if key[0] not in problems:
            raise RecordError(f"solution {row.id!r}: its problem is not in the problems' store")
        if problems[key[0]].split != split:
            skipped["other_split"] += 1
        elif key in seen:
            skipped["duplicate"] += 1
        else:
            seen.add(key)
            result = write_critique(row, by_problem[key[0]], dialect)
            if isinstance(result, str):
                skipped[result] += 1
            else:
                written.append(result)
    return written, skipped


def write_critique(
    row: LabelledSolution, siblings: Iterable[LabelledSolution], dialect: Dialect
) -> Written | str:
    """The critique that the labels allow, or the reason why there is none.

    ``siblings`` are solutions of the same problem.

    Raises:
        RecordError: the solution has another number of labels than of steps.
    """
    steps = row.solution.steps
    if len(row.labels) != len(steps):
        raise RecordError(f"{row.id!r}: {len(row.labels)} labels for {len(steps)} steps")
    first_error = next((t for t, label in enumerate(row.labels) if label.hard is False), None)
    if reason := _reason_to_skip(row, first_error):
        return reason
    work = [dialect.work_of(step) for step in steps[:first_error]]
    if first_error is not None:
        alternative = _alternative(row, first_error, siblings, dialect)
        if alternative is None:
            return "no_right_alternative"
        if alternative == dialect.work_of(steps[first_error]):
            return "contradiction"
        work.append(alternative)
    if any(dialect.work_fault(text) for text in work):
        return "bad_work"
    third = None if first_error is None else first_error * NUM_THIRDS // len(steps)
    return Written(_critique(row, work, first_error, dialect), third)


def _reason_to_skip(row: LabelledSolution, first_error: int | None) -> str | None:
    """Why the labels of a solution say too little for a critique."""
    if not row.labels:
        return "no_steps"
    judged = row.labels[:first_error]
    if any(label.hard is None for label in judged):
        return "undecided_label"
    if first_error is not None or row.verdict.label is True:
        return None
    return "no_error_but_wrong_answer" if row.verdict.label is False else "could_not_tell"


def _alternative(
    row: LabelledSolution, step: int, siblings: Iterable[LabelledSolution], dialect: Dialect
) -> str | None:
    """What right solutions say in the place of the step: their commonest text, ties by order.

    If any of them says what the step says, that is the answer: the label contradicts it.
    """
    texts: list[str] = []
    if step > 0:
        for evidence in row.labels[step - 1].evidence:
            texts.extend(split_steps(evidence.right_continuation or "")[:1])
    texts = texts or [
        other.solution.steps[step] for other in siblings if _is_right_at(other, row, step)
    ]
    work = Counter(dialect.work_of(text) for text in texts)
    if (own := dialect.work_of(row.solution.steps[step])) in work:
        return own
    return work.most_common(1)[0][0] if work else None


def _is_right_at(other: LabelledSolution, row: LabelledSolution, step: int) -> bool:
    """Whether the other solution shares the steps before, and is right there and in the end."""
    return (
        other.verdict.label is True
        and len(other.solution.steps) > step
        and _stripped(other, step) == _stripped(row, step)
        and all(label.hard is not False for label in other.labels[: step + 1])
    )


def _stripped(row: LabelledSolution, num_steps: int) -> list[str]:
    return [text.strip() for text in row.solution.steps[:num_steps]]


def _critique(
    row: LabelledSolution, work: Sequence[str], first_error: int | None, dialect: Dialect
) -> Critique:
    return Critique(
        id=row.id,
        problem_id=row.solution.problem_id,
        text=render(work, first_error, dialect),
        status="ok",
        verdicts=tuple(step != first_error for step in range(len(work))),
        first_error=first_error,
        author="labels",
        agrees_with_labels=True,
    )


def balance(
    written: Sequence[Written], right_share: float, max_position_share: float, seed: int
) -> list[Written]:
    """Drop critiques at random until the shares are as wished; the order stays.

    The most that the shares allow is kept. Within the wrong ones, thirds are filled evenly.
    """
    by_third: dict[int | None, list[Written]] = defaultdict(list)
    for row in written:
        by_third[row.third].append(row)
    right = by_third.pop(None, [])
    available = {third: len(rows) for third, rows in sorted(by_third.items(), key=str)}
    odds = right_share / (1 - right_share)
    num_wrong = min(_most_wrong(available, max_position_share), round(len(right) / odds))
    num_right = min(len(right), round(num_wrong * odds))
    source = random.Random(seed)
    kept = source.sample(right, num_right)
    for third, count in _fill_evenly(available, num_wrong).items():
        kept.extend(source.sample(by_third[third], count))
    ids = {row.critique.id for row in kept}
    return [row for row in written if row.critique.id in ids]


def _most_wrong(available: dict[int | None, int], max_share: float) -> int:
    """How many critiques can be kept with no third above its share."""
    if not available:
        return 0
    share = max(max_share, 1 / len(available))
    total = sum(available.values())
    while total and total > sum(min(n, round(share * total)) for n in available.values()):
        total -= 1
    return total


def _fill_evenly(available: dict[int | None, int], total: int) -> dict[int | None, int]:
    """Take one of each third in turn until there are ``total``."""
    taken = dict.fromkeys(available, 0)
    while sum(taken.values()) < total:
        third = min((t for t in available if taken[t] < available[t]), key=lambda t: taken[t])
        taken[third] += 1
    return taken


def _command() -> None:
    counts = main(settings.parse(CritiquesConfig, COMMAND, __doc__))
    Console().print(counts, markup=False, soft_wrap=True)


if __name__ == "__main__":
    settings.run(_command, COMMAND)
