"""Axes of the charts: scales, ticks, and the frame that a chart is drawn in."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

from prm.report.markup import Html, join, tag

NICE_STEPS = (1.0, 2.0, 2.5, 5.0, 10.0)


@dataclass(frozen=True, slots=True)
class Axis:
    """Maps values to [0, 1]. ``ticks`` are (value, text)."""

    label: str
    low: float
    high: float
    ticks: tuple[tuple[float, str], ...]
    is_log2: bool = False

    def place(self, value: float) -> float:
        """Where the value lies: 0 at the low end, 1 at the high end."""
        low, high = self.low, self.high
        if self.is_log2:
            value, low, high = math.log2(value), math.log2(low), math.log2(high)
        return (value - low) / (high - low)


def linear_axis(label: str, values: Iterable[float], *, as_percent: bool = False) -> Axis:
    """An axis over the finite values, widened to round ticks; a percent axis stays in [0, 1]."""
    finite = [value for value in values if math.isfinite(value)] or [0.0, 1.0]
    low, high = min(finite), max(finite)
    if low == high:
        margin = abs(low) * 0.1 or 0.1
        low, high = low - margin, high + margin
    if as_percent:
        low, high = max(low, 0.0), min(high, 1.0)
    step = _nice_step((high - low) / 4)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    ticks = [round(index * step, 10) for index in range(first, last + 1)]
    texts = (f"{100 * tick:g}%" if as_percent else f"{tick:,g}" for tick in ticks)
    return Axis(label, ticks[0], ticks[-1], tuple(zip(ticks, texts, strict=True)))


def log2_axis(label: str, values: Iterable[int]) -> Axis:
    """A base-2 logarithmic axis with a tick at each of the values, which are 1 or more."""
    ticks = sorted(set(values)) or [1, 2]
    low, high = (ticks[0], ticks[-1]) if len(ticks) > 1 else (ticks[0] / 2, ticks[0] * 2)
    return Axis(label, low, high, tuple((tick, f"{tick:,}") for tick in ticks), is_log2=True)


def _nice_step(rough: float) -> float:
    """The smallest round number that is no less than the rough step."""
    unit = 10.0 ** math.floor(math.log10(rough))
    return next(step * unit for step in NICE_STEPS if step * unit >= rough * (1 - 1e-9))


@dataclass(frozen=True, slots=True)
class Size:
    """Size of a drawing and its margins, in the units of its viewBox."""

    width: float
    height: float
    left: float = 52
    right: float = 22
    top: float = 14
    bottom: float = 44


@dataclass(frozen=True, slots=True)
class Frame:
    """A drawing area with two axes."""

    size: Size
    x_axis: Axis
    y_axis: Axis

    @property
    def x_end(self) -> float:
        """The right edge of the plot."""
        return self.size.width - self.size.right

    @property
    def y_end(self) -> float:
        """The lower edge of the plot."""
        return self.size.height - self.size.bottom

    def x(self, value: float) -> float:
        """Horizontal place of a value of the x axis."""
        return self.size.left + self.x_axis.place(value) * (self.x_end - self.size.left)

    def y(self, value: float) -> float:
        """Vertical place of a value of the y axis."""
        return self.y_end - self.y_axis.place(value) * (self.y_end - self.size.top)


def draw_axes(frame: Frame) -> Html:
    """Grid lines, ticks with their texts, and the axis labels."""
    size = frame.size
    parts = []
    for value, text in frame.y_axis.ticks:
        y = frame.y(value)
        parts.append(tag("line", class_="grid", x1=size.left, x2=frame.x_end, y1=y, y2=y))
        parts.append(tag("text", text, class_="tick end", x=size.left - 8, y=y + 4))
    for value, text in frame.x_axis.ticks:
        x, y = frame.x(value), frame.y_end
        parts.append(tag("line", class_="axis", x1=x, x2=x, y1=y, y2=y + 5))
        parts.append(tag("text", text, class_="tick middle", x=x, y=y + 18))
    y = frame.y_end
    parts.append(tag("line", class_="axis", x1=size.left, x2=frame.x_end, y1=y, y2=y))
    middle_x, middle_y = (size.left + frame.x_end) / 2, (size.top + frame.y_end) / 2
    parts.append(
        tag("text", frame.x_axis.label, class_="label middle", x=middle_x, y=size.height - 6)
    )
    turn = f"rotate(-90 12 {middle_y:g})"
    parts.append(
        tag("text", frame.y_axis.label, class_="label middle", x=12, y=middle_y, transform=turn)
    )
    return tag("g", join(*parts), class_="axes", aria_hidden="true")


def drawing(size: Size, label: str, *parts: str) -> Html:
    """The SVG element around a chart; ``label`` is what a screen reader says of it."""
    box = f"0 0 {size.width:g} {size.height:g}"
    return tag("svg", *parts, viewBox=box, role="img", aria_label=label, class_="chart")
