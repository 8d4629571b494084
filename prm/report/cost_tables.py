"""What a run cost, as tables on a terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table

from prm.prices import Price, in_dollars

if TYPE_CHECKING:
    from prm.report.cost import RunCost


def show(cost: RunCost, prices: dict[str, Price]) -> None:
    """What came out, what was spent on it, what that is for one, and what is missing."""
    console = Console(highlight=False, width=max(100, Console().width))
    for line in _outcome(cost):
        console.print(line, markup=False)
    console.print(_spent(cost))
    console.print(_for_one(cost, prices))
    for note in cost.notes:
        console.print(f"  {note}", markup=False)


def _outcome(cost: RunCost) -> list[str]:
    counts = cost.counts
    return [
        cost.run,
        f"  {counts['solutions']:,} solutions: {counts['right']:,} right answers, "
        f"{counts['wrong']:,} wrong, {counts['could_not_tell']:,} could not tell",
        f"  {counts['labelled']:,} labelled steps, {counts['undecided']:,} undecided",
    ]


def _spent(cost: RunCost) -> Table:
    table = Table(title="spent")
    table.add_column("on")
    for column in ("tokens read", "of them cached", "tokens written", "request-seconds", "billed"):
        table.add_column(column, justify="right")
    for kind, ledger in cost.spent.items():
        table.add_row(
            kind,
            f"{ledger.prompt_tokens:,}",
            f"{ledger.cached_tokens:,}",
            f"{ledger.generated_tokens:,}",
            f"{ledger.seconds:,.0f}",
            in_dollars(ledger.dollars),
        )
    return table


def _for_one(cost: RunCost, prices: dict[str, Price]) -> Table:
    table = Table(title="for one of each, as billed and what the same tokens cost at other prices")
    table.add_column("")
    table.add_column("at the price of")
    for column in cost.divided(0.0):
        table.add_column(column, justify="right")
    for kind, amounts in cost.amounts(prices).items():
        table.add_section()
        for row, (name, amount) in enumerate(amounts.items()):
            cells = (_cell(name, value) for value in cost.divided(amount).values())
            table.add_row("" if row else kind, name, *cells)
    return table


def _cell(name: str, value: float | None) -> str:
    if value is None:
        return "-"
    if name == "tokens":
        return f"{value:,.0f}" if value >= 100 else f"{value:.1f}"
    return in_dollars(value)
