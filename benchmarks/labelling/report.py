"""The tables and the targets of a comparison of labelers."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np

from benchmarks.labelling.comparison import Against, Comparison, Point, geometric_mean
from benchmarks.table import Target, show

COLUMNS = 4
"""Baselines side by side in a table."""
GOALS = {
    "Math-Shepherd K=16, best threshold": 15.0,
    "OmegaPRM K=16, best threshold": 4.0,
    "Math-Shepherd K=16, our decoder": 6.0,
    "sequential test, best rates": 3.5,
}
"""Times fewer tokens than each, at least."""


def show_ratios(comparisons: Sequence[Comparison], unit: str = "cell") -> None:
    """Accuracy of each baseline and how many times fewer tokens ours takes there."""
    names = list(dict.fromkeys(one.baseline for c in comparisons for one in c.against))
    for at in range(0, len(names), COLUMNS):
        part = names[at : at + COLUMNS]
        title = (
            "Rollout tokens at equal accuracy on wrong answers: accuracy of the baseline, "
            "tokens in those of ours [95%];\nin brackets: right less than half of the time, "
            "not counted; 0 = its accuracy is not reached"
        )
        rows = [[c.name, *(_ratio(_find(c, name)) for name in part)] for c in comparisons]
        show(title, [unit, *part], rows)


def show_fixed(comparisons: Sequence[Comparison], unit: str = "cell") -> None:
    """Our labeler as it is by default."""
    columns = (unit, "wrong", "accuracy [95%]", "belief", "tokens", "per correct", "all", "tokens")
    rows = []
    for one in comparisons:
        fixed, (low, high) = one.fixed, one.fixed.interval
        rows.append(
            [
                one.name,
                f"{one.num_wrong}/{one.num_solutions}",
                f"{fixed.wrong.accuracy:.3f} [{low:.3f}-{high:.3f}]",
                f"{fixed.wrong.mean_belief:.3f}",
                f"{fixed.wrong.tokens:,.0f}",
                f"{fixed.tokens_per_correct:,.0f}",
                f"{fixed.all_solutions.accuracy:.3f}",
                f"{fixed.all_solutions.tokens:,.0f}",
            ]
        )
    show("Our labeler at its default price: wrong answers, then all solutions", columns, rows)


def show_sureness(comparisons: Sequence[Comparison], unit: str = "cell") -> None:
    """How much of what it says is sure, and how right that is; what hides behind right answers."""
    columns = (unit, "> .5", "right", "> .8", "right", "hidden found", "false alarms")
    rows = []
    for one in comparisons:
        above = [_optional(value) for bound in ("0.5", "0.8") for value in one.fixed.above[bound]]
        hidden = [_optional(one.fixed.hidden_recall), _optional(one.fixed.false_alarms)]
        rows.append([one.name, *above, *hidden])
    title = (
        "Share of wrong answers with a belief above a bound, and how many of those are right;\n"
        "right answers with an error, and without one, that are said to have one"
    )
    show(title, columns, rows)


def show_all(comparisons: Sequence[Comparison]) -> None:
    """The same on all solutions: right answers, whose verdicts come with them, have their price."""
    names = list(dict.fromkeys(one.baseline for c in comparisons for one in c.against))
    rows = []
    for name in names:
        found = [one for c in comparisons if (one := _find(c, name)) and one.is_counted]
        values = np.array([one.all_ratio for one in found])
        if len(values):
            row = (geometric_mean(values), np.median(values), values.min())
            rows.append([name, str(len(values)), *(_times(float(one)) for one in row)])
    title = "All solutions, right answers too: tokens in ours at equal accuracy, over counted cells"
    show(title, ("baseline", "cells", "geometric mean", "median", "worst"), rows)


def ratio_targets(
    comparisons: Sequence[Comparison], goals: dict[str, float] = GOALS
) -> list[Target]:
    """The geometric mean over the counted cells for each goal, and the worst cell of them all."""
    targets, counted = [], []
    for name, goal in goals.items():
        found = [(c.name, _find(c, name)) for c in comparisons]
        cells = [(cell, one) for cell, one in found if one is not None and one.is_counted]
        counted += [(one.ratio.value, f"{cell}, {name}") for cell, one in cells]
        targets.append(_mean_target(name, [one for _, one in cells], goal))
    value, where = min(counted, default=(0.0, "no cell is counted"))
    worst = Target("worst cell", f"{value:.2f}x ({where})", "1x", value >= 1.0)
    return [*targets, worst]


def calibration_targets(comparisons: Sequence[Comparison], base: Collection[str]) -> list[Target]:
    """Mean belief minus accuracy on wrong answers: the cell where it is farthest from 0."""
    targets = []
    for name, limit, is_base in (("base cells", 0.05, True), ("other cells", 0.10, False)):
        gaps = [(_gap(c.fixed.wrong), c.name) for c in comparisons if (c.name in base) == is_base]
        if not gaps:
            continue
        gap, cell = max(gaps, key=lambda one: abs(one[0]))
        reached = f"{gap:+.3f} at worst ({cell}), {len(gaps)} cells"
        targets.append(
            Target(f"calibration, {name}", reached, f"within {limit:.2f}", abs(gap) <= limit)
        )
    return targets


def abstention_targets(
    comparisons: Sequence[Comparison], hopeless: Collection[str]
) -> list[Target]:
    """Where rollouts cannot tell, wrong places that are named with a belief above .8 are few."""
    shares = []
    for one in comparisons:
        if one.name in hopeless:
            share, right = one.fixed.above["0.8"]
            shares.append((share * (1.0 - (right or 0.0)), one.name))
    if not shares:
        return []
    share, cell = max(shares)
    text = f"{share:.3f} of wrong answers at worst ({cell})"
    return [Target("sure and wrong, hopeless cells", text, "at most 0.05", share <= 0.05)]


def _mean_target(name: str, cells: Sequence[Against], goal: float) -> Target:
    if not cells:
        return Target(name, "no cell is counted", f"{goal:g}x", False)
    values = np.array([one.ratio.value for one in cells])
    low, high = np.quantile(
        geometric_mean(np.array([one.ratio.resampled for one in cells])), [0.025, 0.975]
    )
    reached = values[values > 0]
    text = f"{geometric_mean(values):.2f}x ({low:.2f}-{high:.2f}) over {len(cells)} cells"
    if len(reached) < len(cells):
        only = f", {geometric_mean(reached):.2f}x over the others" if len(reached) else ""
        text += f", {len(cells) - len(reached)} not reached{only}"
    return Target(name, text, f"{goal:g}x", bool(geometric_mean(values) >= goal))


def _find(comparison: Comparison, baseline: str) -> Against | None:
    return next((one for one in comparison.against if one.baseline == baseline), None)


def _gap(point: Point) -> float:
    return point.mean_belief - point.accuracy


def _ratio(one: Against | None) -> str:
    if one is None:
        return "-"
    ratio = one.ratio
    low, high = _times(ratio.low), _times(ratio.high)
    text = f"{one.point.accuracy:.2f}  {_times(ratio.value)} [{low}-{high}]"
    return text if one.is_counted else f"({text})"


def _times(value: float) -> str:
    return f"{value:.1f}" if value < 9.95 else f"{value:.0f}"


def _optional(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"
