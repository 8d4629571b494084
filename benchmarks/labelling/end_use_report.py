"""First-error F1 of PRMs that were trained on different labels: the table and its intervals."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping, Sequence

from benchmarks.labelling.pooled import Drawn
from benchmarks.table import Target, finish, show
from prm.evaluation.bootstrap import StatisticInterval, bootstrap_statistic
from prm.evaluation.step_metrics import best_threshold, first_error_f1, first_error_of

OURS = "Bayes"
MAX_SECONDS = 600.0
"""A PRM trains no longer than this."""
NUM_RESAMPLES = 1000


@dataclasses.dataclass(frozen=True)
class Row:
    """One PRM: what it was trained on, and its scores of the test solutions, by their ids."""

    name: str
    seed: str
    solutions: int
    distinct: int
    """Of the solutions: many are the same, word for word, and are trained on once."""
    tokens: int
    label_accuracy: float
    seconds: float
    scores: dict[str, list[float]]


@dataclasses.dataclass(frozen=True)
class Judged:
    """A test solution: its first error, and where the PRM of each row sees it."""

    truth: int | None
    places: tuple[int | None, ...]


Group = list[Judged]
"""The solutions of one problem: what the bootstrap draws."""


def report(rows: Sequence[Row], test: Drawn) -> None:
    """The table, and a line a target; exits with 1 when one is short."""
    groups, names = judge(rows, test), list(dict.fromkeys(row.name for row in rows))
    lines = []
    for name in names:
        mine = [index for index, row in enumerate(rows) if row.name == name]
        whole = _interval(groups, functools.partial(mean_f1, indices=mine))
        each = [mean_f1(groups, [index]) for index in mine]
        lines.append(
            [
                name,
                " ".join(f"{rows[i].solutions}/{rows[i].distinct}" for i in mine),
                f"{sum(rows[index].tokens for index in mine) / len(mine):,.0f}",
                " ".join(f"{rows[index].label_accuracy:.2f}" for index in mine),
                " ".join("-" if one is None else f"{one:.3f}" for one in each),
                f"{whole.value:.3f} [{whole.low:.3f}, {whole.high:.3f}]",
            ]
        )
    columns = (
        "labels of",
        "solutions/distinct",
        "tokens",
        "labels right",
        "F1 by seed",
        "mean F1 [95%]",
    )
    show(f"PRMs: first-error F1 on {len(test.solutions)} test solutions", columns, lines)
    finish("bench-labelling-end-use", targets(rows, groups))


def judge(rows: Sequence[Row], test: Drawn) -> list[Group]:
    """The test solutions by problem, with the places that every PRM names."""
    truth = dict(zip((one.id for one in test.solutions), test.first_errors(), strict=True))
    half_of = {problem.id: index % 2 for index, problem in enumerate(test.problems)}
    halves = {one.id: half_of[one.problem_id] for one in test.solutions}
    said = [predict(row.scores, truth, halves) for row in rows]
    groups: dict[str, Group] = {}
    for one in test.solutions:
        judged = Judged(truth[one.id], tuple(places[one.id] for places in said))
        groups.setdefault(one.problem_id, []).append(judged)
    return list(groups.values())


def predict(
    scores: Mapping[str, Sequence[float]],
    truth: Mapping[str, int | None],
    halves: Mapping[str, int],
) -> dict[str, int | None]:
    """The first error of each solution, with the threshold that is best on the other half."""
    found: dict[str, int | None] = {}
    for half in (0, 1):
        others = [name for name in truth if halves[name] != half]
        chosen = best_threshold([scores[name] for name in others], [truth[name] for name in others])
        for name in truth:
            if halves[name] == half:
                found[name] = first_error_of(scores[name], chosen.threshold)
    return found


def mean_f1(groups: Sequence[Group], indices: Sequence[int]) -> float | None:
    """The mean F1 of some PRMs; None where it is undefined."""
    solutions = [one for group in groups for one in group]
    truth = [one.truth for one in solutions]
    values = []
    for index in indices:
        f1 = first_error_f1([one.places[index] for one in solutions], truth).f1
        if f1 is None:
            return None
        values.append(f1)
    return sum(values) / len(values)


def gain(groups: Sequence[Group], ours: Sequence[int], theirs: Sequence[int]) -> float | None:
    """Our mean F1 minus theirs, on the same problems."""
    a, b = mean_f1(groups, ours), mean_f1(groups, theirs)
    return None if a is None or b is None else a - b


def targets(rows: Sequence[Row], groups: Sequence[Group]) -> list[Target]:
    """Ours is better than each of the others; and no training took too long."""
    by_name: dict[str, list[int]] = {}
    for index, row in enumerate(rows):
        by_name.setdefault(row.name, []).append(index)
    ours, found = by_name.pop(OURS), []
    for name, theirs in by_name.items():
        one = _interval(groups, functools.partial(gain, ours=ours, theirs=theirs))
        reached = f"{one.value:+.3f} [{one.low:+.3f}, {one.high:+.3f}]"
        found.append(Target(f"F1 of {OURS} minus {name}", reached, "above 0", one.low > 0))
    slowest = max(row.seconds for row in rows)
    limit = f"{MAX_SECONDS:.0f} s"
    found.append(Target("longest training", f"{slowest:.0f} s", limit, slowest <= MAX_SECONDS))
    return found


def _interval(
    groups: Sequence[Group], statistic: functools.partial[float | None]
) -> StatisticInterval:
    return bootstrap_statistic(groups, statistic, num_resamples=NUM_RESAMPLES)
