"""The pieces that the sections are made of: tables, figures, folded parts, small print."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from prm.report.markup import Html, tag


def table(
    caption: str,
    header: Sequence[str],
    rows: Sequence[Sequence[str]],
    *,
    left: Collection[int] = (0,),
    marked: Collection[int] = (),
    foot: Sequence[str] | None = None,
    is_narrow: bool = False,
) -> Html:
    """A table; ``left`` are the columns of words, ``marked`` the rows that stand out."""
    head = (
        tag("th", text, scope="col", class_=None if i in left else "number")
        for i, text in enumerate(header)
    )
    body = (
        tag("tr", *_cells(row, left), class_="marked" if i in marked else None)
        for i, row in enumerate(rows)
    )
    inner = tag(
        "table",
        tag("thead", tag("tr", *head)) if header else Html(""),
        tag("tbody", *body),
        tag("tfoot", tag("tr", *_cells(foot, left))) if foot else Html(""),
        aria_label=caption,
    )
    # The box scrolls on a narrow screen, so it must be reachable by keyboard.
    box = tag("div", inner, class_="scroll", tabindex="0", role="group", aria_label=caption)
    title = tag("p", caption, class_="caption")
    return tag("div", title, box, class_="table narrow-table" if is_narrow else "table")


def _cells(row: Sequence[str], left: Collection[int]) -> list[Html]:
    """The cells of a row, the first of them its heading."""
    classes = [None if i in left else "number" for i in range(len(row))]
    heading = tag("th", row[0], scope="row", class_=classes[0])
    return [heading, *(tag("td", row[i], class_=classes[i]) for i in range(1, len(row)))]


def details(summary: str, *content: str, class_: str | None = None) -> Html:
    """A part that stays folded until it is asked for."""
    return tag("details", tag("summary", summary), *content, class_=class_)


def figure(title: str, chart: str, *below: str, numbers: str | None = None) -> Html:
    """A chart with its title; ``numbers`` is the table that says the same."""
    folded = details("The numbers of this chart", numbers) if numbers else Html("")
    return tag("figure", tag("figcaption", title), chart, *below, folded)


def grid(*items: str, class_: str = "grid-2") -> Html:
    """Items side by side where there is room."""
    return tag("div", *items, class_=class_)


def note(*text: str) -> Html:
    """A paragraph of small print."""
    return tag("p", *text, class_="note")


def absent(what: str) -> Html:
    """The line that stands for what a run did not measure."""
    return tag("p", f"{what}: not measured in this run.", class_="absent")


def badge(text: str, kind: str) -> Html:
    """A word in a coloured pill."""
    return tag("span", text, class_=f"badge {kind}")
