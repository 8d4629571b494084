"""How often each way of choosing an answer is right, and at what cost."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from prm.report.axes import Axis, Size, linear_axis, log2_axis
from prm.report.charts import Line, Point, legend, line_chart
from prm.report.data import Difference, MethodCurve, MethodKind, MethodPoint, ReportData
from prm.report.elements import absent, badge, figure, grid, note, table
from prm.report.markup import Html, join, tag
from prm.report.wording import (
    ABSENT,
    count,
    percent,
    points_interval,
    reading,
    sentence,
    shorten,
)

KINDS: dict[MethodKind, str] = {
    "ours": "Ours: step scores of the PRM",
    "critic": "Critic",
    "rival": "Rivals: no training",
    "baseline": "Baselines",
    "bound": "Bounds",
}
LABEL_LENGTH = 26
WIDE = Size(900, 460, right=270)
NARROW = Size(380, 340)
PANEL = Size(380, 260)


def methods_section(data: ReportData) -> Html | None:
    """The chart of all methods, one panel a kind, the table, and the differences in words."""
    curves = [curve for curve in data.methods if curve.points]
    if not curves:
        return None
    return join(
        _main_figure(data, curves),
        _panels(curves),
        _results_table(data, curves),
        _differences(data.differences),
    )


def last_point(curve: MethodCurve) -> MethodPoint:
    """The point with the largest n."""
    return max(curve.points, key=lambda point: point.n)


def our_method(data: ReportData) -> MethodCurve | None:
    """The chosen method, or else the one of kind "ours" that is most often right."""
    ours = [curve for curve in data.methods if curve.kind == "ours" and curve.points]
    ours = [curve for curve in ours if curve.name == data.chosen] or ours
    return max(ours, key=lambda curve: last_point(curve).accuracy, default=None)


def find_difference(data: ReportData, a: str, b: str) -> Difference | None:
    """The measured difference between two methods, if there is one."""
    return next((d for d in data.differences if (d.a, d.b) == (a, b)), None)


def _main_figure(data: ReportData, curves: Sequence[MethodCurve]) -> Html:
    best = our_method(data)
    strong = {*data.references, *([best.name] if best else [])}
    x_axis, y_axis = _axes(curves)
    variants = _variants(curves)
    # Strong lines are drawn last, so that they lie on top.
    ordered = sorted(curves, key=lambda curve: curve.name in strong)
    lines = [_line(c, variants[c.name], is_strong=c.name in strong) for c in ordered]
    label = (
        f"Accuracy of {len(curves)} methods against the number of solutions a problem; "
        "the table of numbers follows"
    )
    ends = {
        c.name: f"{shorten(c.name, LABEL_LENGTH)}  {percent(last_point(c).accuracy)}"
        for c in curves
    }
    named = [replace(line, end_label=ends[line.name]) for line in lines]
    wide = line_chart(named, x_axis, y_axis, WIDE, label)
    narrow = line_chart(lines, x_axis, y_axis, NARROW, label)
    return figure(
        "Accuracy against the number of solutions a problem",
        tag("div", wide, class_="wide"),
        tag("div", narrow, legend(lines), class_="narrow"),
        note(
            "Bands are 95% intervals. Here they are drawn for our method and for the methods "
            "that it is compared with; the panels below show every band."
        ),
        numbers=_points_table(curves),
    )


def _panels(curves: Sequence[MethodCurve]) -> Html:
    """One small chart a kind, with all other methods in grey behind."""
    x_axis, y_axis = _axes(curves)
    variants = _variants(curves)
    panels = []
    for kind, title in KINDS.items():
        own = [_line(c, variants[c.name]) for c in curves if c.kind == kind]
        others = [
            replace(_line(c, 0), role="context", has_band=False) for c in curves if c.kind != kind
        ]
        if own:
            label = f"{title}: accuracy against the number of solutions a problem, with 95% bands"
            chart = line_chart([*others, *own], x_axis, y_axis, PANEL, label)
            panels.append(figure(title, chart, legend(own)))
    return grid(*panels, class_="grid-3")


def _axes(curves: Sequence[MethodCurve]) -> tuple[Axis, Axis]:
    points = [point for curve in curves for point in curve.points]
    bounds = [bound for point in points for bound in (point.low, point.high)]
    return (
        log2_axis("Solutions a problem (N)", (point.n for point in points)),
        linear_axis("Accuracy", bounds, as_percent=True),
    )


def _variants(curves: Sequence[MethodCurve]) -> dict[str, int]:
    """The place of each method within its kind, which picks its dashes and marker."""
    seen: dict[str, int] = {}
    variants = {}
    for curve in curves:
        variants[curve.name] = seen.get(curve.kind, 0)
        seen[curve.kind] = variants[curve.name] + 1
    return variants


def _line(curve: MethodCurve, variant: int, *, is_strong: bool | None = None) -> Line:
    """The line of a method. In the main chart (``is_strong`` given) only strong ones have bands."""
    points = tuple(
        Point(p.n, p.accuracy, f"{curve.name}, N = {p.n}: {_interval(p)}", p.low, p.high)
        for p in sorted(curve.points, key=lambda point: point.n)
    )
    return Line(
        name=curve.name,
        points=points,
        role=f"kind-{curve.kind}",
        variant=variant,
        has_band=is_strong is not False,
        is_strong=is_strong is True,
    )


def _interval(point: MethodPoint) -> str:
    return f"{percent(point.accuracy)} [{percent(point.low)}, {percent(point.high)}]"


def _points_table(curves: Sequence[MethodCurve]) -> Html:
    sizes = sorted({point.n for curve in curves for point in curve.points})
    rows = []
    for curve in curves:
        by_n = {point.n: _interval(point) for point in curve.points}
        rows.append([curve.name, *(by_n.get(n, ABSENT) for n in sizes)])
    return table("Accuracy by N", ["Method", *(f"N = {n}" for n in sizes)], rows)


def _results_table(data: ReportData, curves: Sequence[MethodCurve]) -> Html:
    best = our_method(data)
    ordered = sorted(curves, key=lambda c: (-last_point(c).accuracy, c.name))
    rows = [_results_row(data, curve, is_best=curve is best) for curve in ordered]
    header = ["Method", "Kind", "Accuracy [95%]", "N", "Tokens a problem"]
    header += [f"Points against {name}" for name in data.references]
    shown = table(
        "Every method at its largest N, the most accurate first",
        header,
        rows,
        left=(0, 1),
        marked=[i for i, curve in enumerate(ordered) if curve is best],
    )
    picked = (
        " Our method was chosen on other problems, before these numbers were seen."
        if best and best.name == data.chosen
        else " The best of ours is picked from this very table, which flatters it a little."
    )
    return join(
        shown,
        note(
            f"{ABSENT} = not measured. A difference is called one only where its interval "
            f"excludes 0.{picked if best else ''}"
        ),
    )


def _results_row(data: ReportData, curve: MethodCurve, *, is_best: bool) -> list[str]:
    point = last_point(curve)
    words = "★ chosen before" if curve.name == data.chosen else "★ best of ours"
    mark = join(" ", badge(words, "best")) if is_best else Html("")
    against = (find_difference(data, curve.name, name) for name in data.references)
    return [
        join(curve.name, mark),
        curve.kind,
        _interval(point),
        str(point.n),
        count(curve.tokens_per_problem),
        *(_difference_cell(difference) for difference in against),
    ]


def _difference_cell(difference: Difference | None) -> str:
    if difference is None:
        return ABSENT
    word = reading(difference)
    small = tag("span", word, class_=f"reading {word.split()[0]}")
    return join(points_interval(difference), " ", small)


def _differences(differences: Sequence[Difference]) -> Html:
    heading = tag("h3", "Differences in words")
    if not differences:
        return join(heading, absent("Differences"))
    lines = (tag("li", sentence(d), class_=f"reading {reading(d).split()[0]}") for d in differences)
    return join(heading, tag("ul", *lines, class_="differences"))
