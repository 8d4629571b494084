"""Checks of mathematical answers a second, beside math-verify called in the same process.

    python -m benchmarks.bench_verifiers_math [--quick] [--data DIR]

Each round has pairs that no round before it had, half of them equal; every way gets the same ones,
in turns, warm, with the cache off:

- math-verify: ``verify(parse(reference), parse(answer))`` here, its alarms off;
- one worker, all workers: `check_math_many` on pairs that need algebra, through the pool;
- arithmetic: `check_math_many` on pairs that need none (plain numbers, fractions, units).

The hit rate of the cache is measured apart: over eight samples a problem whose answers repeat as
models' answers do, or with ``--data`` over the published ones of `multi_sample/gsm8k_models`.
"""

from __future__ import annotations

import argparse
import gzip
import json
import logging
import os
import random
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from math_verify import parse, verify
from rich.console import Console
from rich.table import Table

from prm.verifiers.extract import extract_final_answer
from prm.verifiers.math import MathPool, check_math_many

GOAL = 0.7
"""Checks/s of one worker in those of math-verify in-process, at least."""
Pair = tuple[str, str]
Check = Callable[[list[Pair]], int]


def main() -> int:
    """Measure, print the tables and the target; 1 when it is short."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="fewer rounds")
    parser.add_argument("--data", type=Path, help="folder of the real data sets (docs/data.md)")
    options = parser.parse_args()
    logging.getLogger("math_verify").setLevel(logging.ERROR)
    rounds = 5 if options.quick else 25
    with MathPool(workers=1, cache_size=0) as one, MathPool(cache_size=0) as many:
        ways = make_ways(one, many)
        rates = time_ways(ways, rounds, size=40 if options.quick else 100)
    console = Console()
    console.print(make_table(rates, os.cpu_count() or 1))
    items = real_items(options.data) if options.data else sampled_items()
    console.print(f"hit rate of the cache over {len(items)} answers: {hit_rate(items):.2f}")
    return report(console, ratio(rates, "one worker"))


def make_ways(one: MathPool, many: MathPool) -> dict[str, tuple[Check, bool]]:
    """Each way, and whether its pairs need algebra; all return how many were right."""

    def in_process(pairs: list[Pair]) -> int:
        return sum(
            verify(
                parse(f"${reference}$", parsing_timeout=None),
                parse(f"${answer}$", parsing_timeout=None),
                timeout_seconds=None,
            )
            for answer, reference in pairs
        )

    def pooled(pool: MathPool) -> Check:
        return lambda pairs: sum(one.label is True for one in check_math_many(pairs, pool=pool))

    return {
        "math-verify": (in_process, True),
        "one worker": (pooled(one), True),
        "all workers": (pooled(many), True),
        "arithmetic": (pooled(one), False),
    }


def time_ways(
    ways: dict[str, tuple[Check, bool]], rounds: int, size: int
) -> dict[str, list[float]]:
    """Checks a second of each way in each round; the first round only warms up."""
    rates: dict[str, list[float]] = {name: [] for name in ways}
    rng = random.Random(5)
    for turn in range(rounds + 1):
        pairs = {needs: make_pairs(rng, size, needs_algebra=needs) for needs in (True, False)}
        for name, (check, needs) in ways.items():
            begin = time.perf_counter()
            num_right = check(pairs[needs])
            seconds = time.perf_counter() - begin
            if num_right != size // 2:
                raise SystemExit(f"{name}: {num_right} of {size} are right, not the half")
            if turn:
                rates[name].append(size / seconds)
    return rates


def make_pairs(rng: random.Random, size: int, *, needs_algebra: bool) -> list[Pair]:
    """(answer, reference); every other one is equal."""
    kinds = ALGEBRA if needs_algebra else ARITHMETIC
    pairs = []
    for index in range(size):
        a, b, c = (rng.randrange(2, 10**4) for _ in range(3))
        reference, answer = kinds[index // 2 % len(kinds)](a, b, c)
        pairs.append((answer if index % 2 else f"{answer}+{c + 1}", reference))
    return pairs


ALGEBRA: list[Callable[[int, int, int], Pair]] = [
    lambda a, b, _: (rf"{a}\sqrt{{{b}}}", rf"\sqrt{{{b}}}\cdot {a}"),
    lambda a, b, c: (f"(x+{a})({b}x+{c})", f"{b}x^2+{c + a * b}x+{a * c}"),
    lambda a, b, _: (rf"\frac{{{a}\pi}}{{{b}}}", rf"\frac{{{a}}}{{{b}}}\pi"),
    lambda a, b, c: (rf"{a}+{b}\sqrt{{{c}}}", rf"{b}\sqrt{{{c}}}+{a}"),
    lambda a, b, c: (rf"\frac{{{a}x+{b}}}{{{c}}}", rf"\frac{{{b}+{a}x}}{{{c}}}"),
]
ARITHMETIC: list[Callable[[int, int, int], Pair]] = [
    lambda a, b, _: (f"{a}.{b}", f"{a}{b}/10^{{{len(str(b))}}}"),
    lambda a, b, c: (f"{a * b + c}", f"{a} \\cdot {b}+{c}"),
    lambda a, b, c: (rf"\frac{{{a + c}}}{{{b}}}", f"{a}/{b}+{c}/{b}"),
]


def sampled_items() -> list[Pair]:
    """Eight answers a problem: most the same, some slips."""
    rng = random.Random(7)
    items = []
    for problem in range(500):
        for _ in range(8):
            slip = rng.choice([0, 0, 0, 0, 1, -1, 10])
            items.append((str(problem * 7 + slip), str(problem * 7)))
    return items


def real_items(folder: Path) -> list[tuple[str | None, str]]:
    """The answers that models gave, with their references."""

    def rows() -> Iterator[tuple[str | None, str]]:
        path = folder / "multi_sample" / "gsm8k_models" / "gsm8k_models.jsonl.gz"
        with gzip.open(path, "rt", encoding="utf-8") as file:
            for row in map(json.loads, file):
                for one in row["candidates"]:
                    yield extract_final_answer(one["text"]), row["answer"]

    return list(rows())


def hit_rate(items: list[Pair] | list[tuple[str | None, str]]) -> float:
    """The share of the answers whose verdict was there already."""
    with MathPool() as pool:
        check_math_many(list(items), pool=pool)
        return pool.cache.hit_rate


def ratio(rates: dict[str, list[float]], name: str) -> float:
    """The median over the rounds of this way's rate in that round's math-verify."""
    pairs = zip(rates[name], rates["math-verify"], strict=True)
    return statistics.median(mine / theirs for mine, theirs in pairs)


def make_table(rates: dict[str, list[float]], workers: int) -> Table:
    """One row a way."""
    table = Table("way", "checks/s, median", "lowest", "highest", "x math-verify")
    for name, values in rates.items():
        label = f"{name} ({workers})" if name == "all workers" else name
        numbers = [statistics.median(values), min(values), max(values)]
        table.add_row(label, *(f"{one:.0f}" for one in numbers), f"{ratio(rates, name):.2f}")
    return table


def report(console: Console, value: float) -> int:
    """Print the line of the target; 0 when it is met."""
    word = "met" if value >= GOAL else "short"
    console.print(
        f"bench-verifiers math_pool: {value:.2f} of math-verify in-process, per worker "
        f"(goal {GOAL}): {word}",
        highlight=False,
        soft_wrap=True,
    )
    return 0 if word == "met" else 1


if __name__ == "__main__":
    sys.exit(main())
