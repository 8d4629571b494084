"""The charts of a report, as inline SVG without any script.

Lines differ by colour (their kind), and within a kind by dashes and markers: never by colour
alone. Every marker, band and bar has a ``<title>``, which browsers show as a tooltip.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from prm.report.axes import Axis, Frame, Size, draw_axes, drawing, linear_axis
from prm.report.data import Bin, ReliabilityBin
from prm.report.markup import Html, join, tag
from prm.report.wording import count, fixed, percent, plural, shorten

DASHES = (None, "7 4", "2 3", "10 3 2 3", "4 2")
MARKERS = ("circle", "square", "diamond", "triangle", "cross")
MAX_MARKERS = 40
LABEL_GAP = 17.0


@dataclass(frozen=True, slots=True)
class Point:
    """A point of a line; ``low`` and ``high`` bound its band."""

    x: float
    y: float
    tip: str
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True, slots=True)
class Line:
    """A line of a chart. ``role`` is a CSS class, ``variant`` picks dashes and marker."""

    name: str
    points: tuple[Point, ...]
    role: str
    variant: int = 0
    has_band: bool = False
    is_strong: bool = False
    end_label: str | None = None


def line_chart(lines: Sequence[Line], x_axis: Axis, y_axis: Axis, size: Size, label: str) -> Html:
    """Lines with their bands. Lines with an ``end_label`` are named at their right ends."""
    frame = Frame(size, x_axis, y_axis)
    bands = [_band(line, frame) for line in lines if line.has_band]
    drawn = [_line(line, frame) for line in lines]
    labels = _end_labels([line for line in lines if line.end_label], frame)
    return drawing(size, label, draw_axes(frame), *bands, *drawn, labels)


def legend(lines: Sequence[Line]) -> Html:
    """The names of the lines beside a piece of each."""
    return tag(
        "ul", join(*(tag("li", _sample(line), line.name) for line in lines)), class_="legend"
    )


def _sample(line: Line) -> Html:
    dash = DASHES[line.variant % len(DASHES)]
    stroke = tag("path", d="M1 7H33", class_="stroke", stroke_dasharray=dash)
    group = tag("g", stroke, _marker(line.variant, 17, 7), class_=f"line {line.role}")
    return tag("svg", group, viewBox="0 0 34 14", aria_hidden="true")


def _is_drawable(point: Point) -> bool:
    return math.isfinite(point.x) and math.isfinite(point.y)


def _band(line: Line, frame: Frame) -> Html:
    points = [p for p in line.points if _is_drawable(p)]
    edges = [(p.x, p.low) for p in points] + [(p.x, p.high) for p in reversed(points)]
    corners = " ".join(
        f"{frame.x(x):.1f},{frame.y(y):.1f}" for x, y in edges if y is not None and math.isfinite(y)
    )
    title = tag("title", f"{line.name}: 95% band")
    return tag("polygon", title, points=corners, class_=f"band {line.role}", data_name=line.name)


def _line(line: Line, frame: Frame) -> Html:
    """The stroke and its markers; a long line keeps its stroke only, and the last marker."""
    points = [p for p in line.points if _is_drawable(p)]
    path = "M" + "L".join(f"{frame.x(p.x):.1f} {frame.y(p.y):.1f}" for p in points)
    stroke = tag(
        "path",
        tag("title", line.name),
        d=path if points else None,
        class_="stroke",
        stroke_dasharray=DASHES[line.variant % len(DASHES)],
    )
    marked = points if len(points) <= MAX_MARKERS else points[-1:]
    markers = (_marker(line.variant, frame.x(p.x), frame.y(p.y), p.tip) for p in marked)
    strong = " strong" if line.is_strong else ""
    return tag("g", stroke, *markers, class_=f"line {line.role}{strong}", data_name=line.name)


def _marker(variant: int, x: float, y: float, tip: str = "") -> Html:
    shape = MARKERS[variant % len(MARKERS)]
    title = tag("title", tip) if tip else Html("")
    if shape == "circle":
        return tag("circle", title, cx=x, cy=y, r=3.6, class_="marker")
    outline = {
        "square": "m-3.3 -3.3h6.6v6.6h-6.6z",
        "diamond": "m0 -4.8l4.8 4.8l-4.8 4.8l-4.8 -4.8z",
        "triangle": "m0 -4.6l4.4 7.8h-8.8z",
        "cross": "m-1.3 -4.4h2.6v3.1h3.1v2.6h-3.1v3.1h-2.6v-3.1h-3.1v-2.6h3.1z",
    }[shape]
    return tag("path", title, d=f"M{x:.1f} {y:.1f}{outline}", class_="marker")


def _end_labels(lines: Sequence[Line], frame: Frame) -> Html:
    """Names at the right, moved apart so that none covers another, tied to their lines."""
    ends = [(frame.y(p.y), line) for line in lines for p in line.points[-1:] if _is_drawable(p)]
    ends.sort(key=lambda end: (end[0], end[1].name))
    places = spread([y for y, _ in ends], LABEL_GAP, frame.size.top, frame.y_end)
    parts = []
    for (y, line), place in zip(ends, places, strict=True):
        x = frame.x_end
        tie = f"M{x + 7:.1f} {y:.1f}L{x + 22:.1f} {place:.1f}"
        text = tag("text", line.end_label or "", x=x + 27, y=place + 4, class_="end-label")
        strong = " strong" if line.is_strong else ""
        ends_at = tag("path", d=tie, class_="tie")
        name = tag("title", line.name)
        parts.append(tag("g", name, ends_at, text, class_=f"line {line.role}{strong}"))
    return tag("g", *parts)


def spread(places: Sequence[float], gap: float, low: float, high: float) -> list[float]:
    """Ascending places moved as little as a simple rule can, at least ``gap`` apart."""
    moved: list[float] = []
    for place in places:
        moved.append(max(place, moved[-1] + gap if moved else low))
    ceiling = high
    for index in reversed(range(len(moved))):
        moved[index] = min(moved[index], ceiling)
        ceiling = moved[index] - gap
    return moved


def reliability_diagram(bins: Sequence[ReliabilityBin], size: Size, label: str) -> Html:
    """Observed rate against mean score, the area of a point showing its count."""
    axis = [0.0, 1.0]
    frame = Frame(
        size,
        linear_axis("Mean score", axis),
        linear_axis("Observed rate", axis, as_percent=True),
    )
    diagonal = f"M{frame.x(0):.1f} {frame.y(0):.1f}L{frame.x(1):.1f} {frame.y(1):.1f}"
    parts = [tag("path", tag("title", "Perfect calibration"), d=diagonal, class_="diagonal")]
    largest = max((b.count for b in bins), default=1) or 1
    for b in bins:
        x, y = frame.x(b.mean_score), frame.y(b.observed_rate)
        gap = f"M{x:.1f} {frame.y(b.mean_score):.1f}V{y:.1f}"
        tip = (
            f"Mean score {fixed(b.mean_score)}, observed {percent(b.observed_rate)}, "
            f"{plural(b.count, 'step')}"
        )
        radius = 3 + 9 * math.sqrt(b.count / largest)
        parts.append(tag("path", d=gap, class_="gap"))
        parts.append(tag("circle", tag("title", tip), cx=x, cy=y, r=radius, class_="dot"))
    return drawing(size, label, draw_axes(frame), *parts)


def histogram(bins: Sequence[Bin], x_label: str, y_label: str, size: Size, label: str) -> Html:
    """One bar for each bin, its count above it."""
    x_axis = linear_axis(x_label, [edge for b in bins for edge in (b.low, b.high)], as_percent=True)
    frame = Frame(size, x_axis, linear_axis(y_label, [0, *(b.count for b in bins)]))
    parts = []
    for b in bins:
        x, y = frame.x(b.low), frame.y(b.count)
        width = max(frame.x(b.high) - x - 2, 1)
        tip = f"{percent(b.low)} to {percent(b.high)}: {count(b.count)}"
        height = frame.y_end - y
        bar = tag("rect", tag("title", tip), x=x + 1, y=y, width=width, height=height, class_="bar")
        number = tag("text", count(b.count), x=x + 1 + width / 2, y=y - 4, class_="tick middle")
        parts += [bar, number]
    return drawing(size, label, draw_axes(frame), *parts)


def bar_chart(items: Sequence[tuple[str, int]], label: str, width: float = 440) -> Html:
    """Horizontal bars, each with its name above it and its value at its end."""
    size = Size(width, 46 * len(items) + 8)
    largest = max((value for _, value in items), default=1) or 1
    parts = []
    for index, (name, value) in enumerate(items):
        y, length = 46 * index, max(value / largest * (width - 110), 1)
        tip = tag("title", f"{name}: {count(value)}")
        parts.append(tag("rect", tip, x=0, y=y + 20, width=length, height=20, class_="bar"))
        parts.append(tag("text", shorten(name, 48), x=0, y=y + 14, class_="tick"))
        parts.append(tag("text", count(value), x=length + 8, y=y + 35, class_="tick"))
    return drawing(size, label, *parts)
