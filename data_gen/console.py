"""What the jobs tell the user: lines, progress bars, and the closing count."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TypeVar

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from prm.prices import in_dollars
from prm.store import StoreWriter

T = TypeVar("T")
console = Console(highlight=False, soft_wrap=True)
if not console.is_terminal:
    console.width = 100  # a log file: our tables need 100 columns, rich would take 80


def say(text: str) -> None:
    """Print a line."""
    console.print(text, markup=False)


def progress(items: Sequence[T], what: str) -> Iterator[T]:
    """The items one by one, with a bar on a terminal and ten lines elsewhere."""
    if not console.is_terminal:
        yield from _lines(items, what)
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console) as bar:
        yield from bar.track(items, description=what)


def _lines(items: Sequence[T], what: str) -> Iterator[T]:
    every = max(1, len(items) // 10)
    for number, item in enumerate(items, 1):
        yield item
        if number % every == 0 or number == len(items):
            say(f"{what}: {number}/{len(items)}")


def batches(items: Iterable[T], size: int) -> list[list[T]]:
    """The items in lists of ``size``, the last one shorter."""
    whole = list(items)
    return [whole[begin : begin + size] for begin in range(0, len(whole), size)]


def finish(job: str, writer: StoreWriter) -> None:
    """The closing line of a job: conservation, tokens, where the output lies."""
    cost = writer.ledger
    dollars = f", {in_dollars(cost.dollars)}" if cost.dollars else ""
    spent = (
        f"; {cost.prompt_tokens:,} tokens read, {cost.generated_tokens:,} written "
        f"in {cost.seconds:.0f} s{dollars}"
        if cost.tokens
        else ""
    )
    say(f"{job}: {writer.summary()}{spent} -> {writer.folder}")
