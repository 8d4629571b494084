"""A consensus as tables of text."""

from __future__ import annotations

import io
from collections.abc import Sequence

from rich.console import Console, Group
from rich.table import Table
from rich.text import Text

from data_gen.labelers.agreement import Agreement, Pair
from data_gen.labelers.dawid_skene import SOURCES_NEEDED, TOGETHER_NEEDED, SourceError
from prm.evaluation.bootstrap import Interval

_WIDTH = 110


def as_text(pairs: Sequence[Pair], errors: Sequence[SourceError]) -> str:
    """The agreement of every two sources, then the error of each."""
    console = Console(file=io.StringIO(), width=_WIDTH, highlight=False)
    with console.capture() as capture:
        console.print(Group(_pairs(pairs), Text(), _errors(pairs, errors)))
    return "\n".join(line.rstrip() for line in capture.get().rstrip().splitlines())


def _pairs(pairs: Sequence[Pair]) -> Table:
    table = _table("sources", "both say", "same place", "kappa", "same verdict", "kappa")
    for one in pairs:
        cells = [f"{one.first}, {one.second}", str(one.num)]
        for agreement in (one.on_place, one.on_verdict):
            cells += [_share(agreement), _kappa(agreement)]
        table.add_row(*cells)
    return table


def _errors(pairs: Sequence[Pair], errors: Sequence[SourceError]) -> Table | Text:
    if all(one.error is None for one in errors):
        return Text(_not_identifiable(pairs))
    table = _table("source", "says", "estimated error", "right", "hit", "miss")
    for one in errors:
        parts = [_number(value) for value in (one.right, one.hit, one.miss)]
        table.add_row(one.source, str(one.num), _interval(one.error), *parts)
    return table


def _not_identifiable(pairs: Sequence[Pair]) -> str:
    """What can be said of errors without a third source."""
    lines = [
        f"The error of each source cannot be told: that takes {TOGETHER_NEEDED} solutions of which "
        f"{SOURCES_NEEDED} sources speak. Where two differ, one at least is wrong:"
    ]
    for one in pairs:
        if one.on_place is not None and one.least_errors is not None:
            high = 1 - one.on_place.share.low
            low = 1 - one.on_place.share.high
            lines.append(
                f"  errors of {one.first} and {one.second} sum to at least {one.least_errors:.2f} "
                f"({low:.2f}-{high:.2f}), so one of them errs in at least "
                f"{one.least_errors / 2:.2f}"
            )
    return "\n".join(lines)


def _table(first: str, *others: str) -> Table:
    table = Table(box=None, pad_edge=False)
    table.add_column(first, no_wrap=True)
    for name in others:
        table.add_column(name, justify="right")
    return table


def _share(agreement: Agreement | None) -> str:
    return "-" if agreement is None else _interval(agreement.share)


def _kappa(agreement: Agreement | None) -> str:
    return "-" if agreement is None else _number(agreement.kappa)


def _interval(value: Interval | None) -> str:
    return "-" if value is None else f"{value.mean:.2f} ({value.low:.2f}-{value.high:.2f})"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"
