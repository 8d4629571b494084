"""The summary of sampling as tables that fit 100 columns."""

from __future__ import annotations

from rich import box
from rich.console import Console
from rich.table import Table

from data_gen.sample_summary import RefinementSummary, StrategySummary, Summary
from prm.prices import in_dollars

_NAME_WIDTH = 26
_CHANGES = ("right -> right", "right -> wrong", "wrong -> right", "wrong -> wrong")


def show_summary(summary: Summary, console: Console) -> None:
    """Print what sampling brought."""
    for table in tables(summary):
        console.print(table)
    rest = summary.num_unsampled_problems
    unsampled = f"; {rest:,} more have no solution here" if rest else ""
    for line in (
        f"{summary.num_problems:,} problems, pass@N {summary.pass_at_n:.3f}{unsampled}",
        f"intervals: {summary.interval}",
    ):
        console.print(f"  {line}", markup=False)


def tables(summary: Summary) -> list[Table]:
    """Answers, cost and, where there was any, refinement."""
    rows = (*summary.strategies, summary.total)
    found = [_answers(rows), _cost(rows)]
    return [*found, _refinement(summary.refinements)] if summary.refinements else found


def _table(title: str, *columns: str) -> Table:
    table = Table(title=title, box=box.SIMPLE_HEAD)
    table.add_column("strategy", max_width=_NAME_WIDTH, overflow="fold")
    for column in columns:
        table.add_column(column, justify="right", no_wrap=True)
    return table


def _answers(rows: tuple[StrategySummary, ...]) -> Table:
    table = _table(
        "answers; alone = problems that nothing else solves: what pass@N gains by it",
        *("samples", "right (95%)", "could not\ntell", "distinct\na problem", "solved", "alone"),
    )
    for row in rows:
        share = row.accuracy
        _add(
            table,
            row,
            f"{row.num_samples:,}",
            f"{share.value:.3f} ({share.low:.3f}-{share.high:.3f})",
            f"{row.num_could_not_tell:,}",
            f"{row.distinct_answers:.2f}",
            f"{row.num_solved:,}",
            "" if row is rows[-1] else f"{row.num_solved_alone:,}",
        )
    return table


def _cost(rows: tuple[StrategySummary, ...]) -> Table:
    table = _table(
        "cost; tokens and dollars of a right answer count all that was read and written",
        *("tokens\na sample", "cut off", "loops\nstopped", "tokens\nsaved"),
        *("tokens a\nright answer", "dollars a\nright answer"),
    )
    for row in rows:
        per_right = row.tokens_per_right
        _add(
            table,
            row,
            f"{row.mean_tokens:,.0f}",
            f"{row.num_cut_off:,}",
            f"{row.num_loops:,}",
            f"{row.saved_tokens:,}",
            "-" if per_right is None else f"{per_right:,.0f}",
            "-" if row.dollars_per_right is None else in_dollars(row.dollars_per_right),
        )
    return table


def _refinement(rows: tuple[RefinementSummary, ...]) -> Table:
    table = _table(
        "refinement: the answer before -> after",
        *(change.replace(" -> ", "\n-> ") for change in _CHANGES),
        "could not\ntell one",
        "no parent",
    )
    for row in rows:
        rest = sum(row.changes.values()) - sum(row.changes.get(change, 0) for change in _CHANGES)
        counts = (*(row.changes.get(change, 0) for change in _CHANGES), rest)
        table.add_row(
            _name(row.strategy, row.round),
            *(f"{count:,}" for count in (*counts, row.num_without_parent)),
        )
    return table


def _add(table: Table, row: StrategySummary, *cells: str) -> None:
    if row.strategy == "all":
        table.add_section()
    table.add_row(_name(row.strategy, row.round), *cells)


def _name(strategy: str, number: int) -> str:
    return f"{strategy} round {number}" if number else strategy
