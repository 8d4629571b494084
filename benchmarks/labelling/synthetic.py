"""Labelers on synthetic policies: rollout tokens at equal accuracy, and how honest they are.

    python -m benchmarks.labelling.synthetic [--world module:function] [--seed N] [--quick]
        [--cells TEXT] [--processes N] [--output DIR]

``function(seed)`` gives a list of worlds (`benchmarks.labelling.worlds.World`). Each world is
one cell: it lives in a process of its own (`benchmarks.labelling.serving`). A finished cell is
kept in the output folder; a run that was stopped goes on, and one cell is run anew when the code
that made it has changed.
"""

from __future__ import annotations

import argparse
import multiprocessing
import time
from collections.abc import Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from pathlib import Path

from benchmarks.labelling import cells
from benchmarks.labelling.baselines import all_baselines, our_sweep
from benchmarks.labelling.comparison import Comparison, compare
from benchmarks.labelling.kept import Kept
from benchmarks.labelling.report import (
    abstention_targets,
    calibration_targets,
    ratio_targets,
    show_all,
    show_fixed,
    show_ratios,
    show_sureness,
)
from benchmarks.labelling.serving import ServedWorlds
from benchmarks.table import finish, is_quick, say
from data_gen.labelers.bayes import BayesLabeler
from prm.errors import ConfigError

_served: ServedWorlds | None = None
"""The worlds of a worker process."""


def main() -> None:
    """Run what is missing, print the tables and the targets; exit with 1 when one is short."""
    options = _options()
    started = time.perf_counter()
    with ServedWorlds(options.world, options.seed) as served:
        names = served.names
    chosen = [index for index, name in enumerate(names) if options.cells in name]
    if not chosen:
        raise ConfigError(f"--cells {options.cells!r}: no cell of that name in {names}")
    kept = Kept(options.output, options.world, options.seed)
    comparisons = run_cells(options, names, chosen, kept)
    say(f"{len(chosen)} cells in {(time.perf_counter() - started) / 60:.1f} minutes")
    show_ratios(comparisons)
    show_fixed(comparisons)
    show_sureness(comparisons)
    show_all(comparisons)
    finish(
        "bench-labelling",
        [
            *ratio_targets(comparisons),
            *calibration_targets(comparisons, cells.base_names()),
            *abstention_targets(comparisons, cells.hopeless_names()),
        ],
    )


def run_cells(
    options: argparse.Namespace, names: Sequence[str], chosen: Sequence[int], kept: Kept
) -> list[Comparison]:
    """The comparison of each chosen cell, in order; those that are kept are not run again."""
    found = {index: kept.load(names[index]) for index in chosen}
    missing = [index for index in chosen if found[index] is None]
    if len(missing) < len(chosen):
        say(f"{len(chosen) - len(missing)} cells are kept in {kept.folder}")
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(
        min(options.processes, max(1, len(missing))),
        context,
        initializer=_open,
        initargs=(options.world, options.seed),
    ) as workers:
        running: dict[Future[tuple[Comparison, float]], int] = {
            workers.submit(_run_cell, index): index for index in missing
        }
        for number, done in enumerate(as_completed(running), 1):
            comparison, seconds = done.result()
            found[running[done]] = comparison
            kept.save(comparison)
            say(f"{number}/{len(missing)} {comparison.name}: {seconds:.0f} s")
    return [comparison for comparison in found.values() if comparison is not None]


def _open(world: str, seed: int) -> None:
    """Start the process of the worlds beside this worker."""
    global _served
    _served = ServedWorlds(world, seed)


def _run_cell(index: int) -> tuple[Comparison, float]:
    assert _served is not None
    served, started = _served, time.perf_counter()
    pool = served.solutions(index)
    comparison = compare(
        pool,
        lambda: served.rollouts(index, pool),
        lambda: served.first_errors(index),
        name=served.names[index],
        baselines=all_baselines,
        sweep=our_sweep(),
        default=BayesLabeler(),
    )
    return comparison, time.perf_counter() - started


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--world", help="module:function, function(seed) -> list[World]")
    parser.add_argument("--seed", type=int, default=2026)
    parser.add_argument("--cells", default="", help="only cells whose name contains this")
    parser.add_argument("--quick", action="store_true", default=is_quick(), help="a few cells")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--output", type=Path, help="folder of the finished cells")
    options = parser.parse_args()
    options.world = options.world or (cells.QUICK if options.quick else cells.ALL)
    name = "quick" if options.world == cells.QUICK else f"seed{options.seed}"
    options.output = options.output or Path("runs/bench-labelling") / name
    return options


if __name__ == "__main__":
    main()
