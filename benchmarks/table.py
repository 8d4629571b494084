"""What every benchmark prints: a table, then a line a target; and how it ends."""

from __future__ import annotations

import dataclasses
import os
import statistics
from collections.abc import Sequence

from rich.console import Console
from rich.table import Table

console = Console(highlight=False, soft_wrap=True)
if not console.is_terminal:
    console.width = 110


@dataclasses.dataclass(frozen=True, slots=True)
class Target:
    """One goal of a benchmark: what was reached, in words, and whether that is enough."""

    name: str
    reached: str
    goal: str
    is_met: bool


@dataclasses.dataclass(frozen=True, slots=True)
class Middle:
    """The median of repeated measurements, with the smallest and the largest.

    The two enclose the true median with probability 1 - 2 ** (1 - count): 94% for five.
    """

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Middle:
        """Of at least one value."""
        return cls(statistics.median(values), min(values), max(values))

    def show(self, spec: str = ".2f") -> str:
        """``0.91 (0.88-0.93)``."""
        return f"{self.median:{spec}} ({self.low:{spec}}-{self.high:{spec}})"


def is_quick() -> bool:
    """Whether the short form is asked for: QUICK=1 in the environment."""
    return os.environ.get("QUICK", "") not in ("", "0")


def say(text: str) -> None:
    """Print a line, at once also into a file: a benchmark takes minutes."""
    console.print(text, markup=False)
    console.file.flush()


def show(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print a table; all columns but the first are numbers."""
    table = Table(title=title, title_justify="left", title_style="", box=None, pad_edge=False)
    for number, column in enumerate(columns):
        table.add_column(column, justify="right" if number else "left", no_wrap=not number)
    for row in rows:
        table.add_row(*row)
    console.print(table)
    say("")


def finish(benchmark: str, targets: Sequence[Target]) -> None:
    """Print a line a target.

    Raises:
        SystemExit: with 1, when one is short.
    """
    for one in targets:
        end = "met" if one.is_met else "SHORT"
        say(f"{benchmark} {one.name}: {one.reached} (goal {one.goal}): {end}")
    if not all(one.is_met for one in targets):
        raise SystemExit(1)
