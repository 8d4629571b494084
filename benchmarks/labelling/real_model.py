"""Labelers on a real small model: the same table as on synthetic policies, on a pool of rollouts.

    python -m benchmarks.labelling.real_model --pool DIR

`benchmarks.labelling.pool` draws the pool. Every method draws from the same rollouts, without
replacement and in the same order; solutions that share a prefix share its rollouts, for every
method. Each seed of the pool is a row, and all of them together one more.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from benchmarks.labelling.baselines import all_baselines, our_sweep
from benchmarks.labelling.comparison import Comparison, compare
from benchmarks.labelling.pooled import Drawn, PooledRollouts, describe, read_pool
from benchmarks.labelling.report import (
    GOALS,
    calibration_targets,
    ratio_targets,
    show_fixed,
    show_ratios,
    show_sureness,
)
from benchmarks.table import Target, finish, say, show
from data_gen.labelers.bayes import BayesLabeler

TOGETHER = "all seeds"
MIN_WRONG = 500


def main(argv: Sequence[str] | None = None) -> None:
    """Run all methods on the pool; exit with 1 when a target is short."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.labelling.real_model")
    parser.add_argument("--pool", type=Path, required=True, help="what benchmarks...pool wrote")
    pool = read_pool(parser.parse_args(argv).pool)
    for line in describe(pool):
        say(line)
    seeds = {name: drawn for name, drawn in pool.items() if drawn.rollouts}
    together = join(list(seeds.values()))
    comparisons = [run(name, drawn) for name, drawn in [*seeds.items(), (TOGETHER, together)]]
    show_ratios(comparisons, "pool")
    show_fixed(comparisons, "pool")
    show_sureness(comparisons, "pool")
    show_bins(comparisons[-1])
    show_short(comparisons)
    finish("bench-labelling-real", targets(comparisons))


def join(parts: Sequence[Drawn]) -> Drawn:
    """All of them as one pool; they have no problem in common."""
    joined = parts[0]
    for part in parts[1:]:
        joined = joined.join(part)
    return joined


def run(name: str, drawn: Drawn) -> Comparison:
    """All methods on one pool; solutions with a wrong answer stand first.

    A rollout of a shared prefix is charged to the first of the solutions that share it. So
    whatever any method buys for a prefix of a wrong solution is on the bill of the wrong ones.
    """
    rows = zip(drawn.labels, drawn.solutions, drawn.first_errors(), strict=True)
    ordered = sorted(rows, key=lambda row: row[0] is not False)
    return compare(
        [solution for _, solution, _ in ordered],
        lambda: PooledRollouts(drawn),
        lambda: [error for _, _, error in ordered],
        name=name,
        baselines=all_baselines,
        sweep=our_sweep(),
        default=BayesLabeler(),
    )


def show_bins(comparison: Comparison) -> None:
    """How right our labeler is by how sure it is."""
    rows = [
        [f"{belief:.2f}", f"{accuracy:.2f}", str(count)]
        for belief, accuracy, count in comparison.fixed.bins
    ]
    show(f"Wrong answers by belief, {comparison.name}", ("mean belief", "accuracy", "count"), rows)


def show_short(comparisons: Sequence[Comparison]) -> None:
    """Requests that the pool could not serve whole: a method that needs more has had no more."""
    columns = ("pool", "ours, default", *(one.baseline for one in comparisons[0].against[:4]))
    rows = [
        [
            one.name,
            str(one.fixed.wrong.num_short),
            *(str(a.point.num_short) for a in one.against[:4]),
        ]
        for one in comparisons
    ]
    show("Requests that found the pool of a prefix empty", columns, rows)


def targets(comparisons: Sequence[Comparison]) -> list[Target]:
    """The goals of the synthetic worlds, on all seeds together, and enough solutions."""
    *seeds, together = comparisons
    wrong = together.num_wrong
    enough = Target(
        "wrong solutions",
        f"{wrong} over {len(seeds)} seeds",
        f"{MIN_WRONG} over 3",
        wrong >= MIN_WRONG and len(seeds) >= 3,
    )
    return [enough, *ratio_targets([together], GOALS), *calibration_targets([together], [])]


if __name__ == "__main__":
    main()
