"""How numbers read in a report, so that each kind of number reads the same everywhere.

Shares are percentages with one decimal, differences of shares are points, and scores, AUC, F1
and errors of calibration are plain numbers with three decimals. Brackets hold 95% intervals.
"""

from __future__ import annotations

from typing import Literal

from prm.report.data import Difference, Estimate

ABSENT = "\u2013"
MINUS = "\u2212"

Reading = Literal["better", "worse", "no difference shown"]


def percent(share: float | None) -> str:
    """0.8312 reads 83.1%."""
    return ABSENT if share is None else f"{100 * share:.1f}%"


def percent_estimate(estimate: Estimate | None) -> str:
    """0.831 with its interval reads 83.1% [80.0%, 86.2%]."""
    if estimate is None:
        return ABSENT
    return f"{percent(estimate.value)} [{percent(estimate.low)}, {percent(estimate.high)}]"


def fixed(value: float | None) -> str:
    """0.8312 reads 0.831."""
    return ABSENT if value is None else f"{value:.3f}"


def fixed_estimate(estimate: Estimate | None) -> str:
    """0.831 with its interval reads 0.831 [0.800, 0.862]."""
    if estimate is None:
        return ABSENT
    return f"{fixed(estimate.value)} [{fixed(estimate.low)}, {fixed(estimate.high)}]"


def points(share: float) -> str:
    """A difference of shares in percentage points: 0.062 reads +6.2."""
    text = f"{100 * share:+.1f}"
    return {"+0.0": "0.0", "-0.0": "0.0"}.get(text, text).replace("-", MINUS)


def count(number: float | None) -> str:
    """1234567 reads 1,234,567."""
    return ABSENT if number is None else f"{number:,.0f}"


def plural(number: int, noun: str) -> str:
    """1 step, 2 steps."""
    return f"{count(number)} {noun}{'' if number == 1 else 's'}"


def shorten(text: str, length: int) -> str:
    """The text, or its beginning and an ellipsis where it is longer than ``length``."""
    return text if len(text) <= length else text[: length - 1].rstrip() + "\u2026"


def duration(seconds: float) -> str:
    """41.3 s, 12 min 05 s, 3 h 07 min."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    return f"{minutes // 60} h {minutes % 60:02d} min"


def short_duration(seconds: float) -> str:
    """41 s, 45 min, 3.1 h."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def reading(difference: Difference) -> Reading:
    """What may be said of a difference: only an interval without 0 says which is better."""
    if difference.low > 0:
        return "better"
    return "worse" if difference.high < 0 else "no difference shown"


def points_interval(difference: Difference) -> str:
    """+6.2 [+2.1, +10.4]."""
    interval = f"[{points(difference.low)}, {points(difference.high)}]"
    return f"{points(difference.difference)} {interval}"


def sentence(difference: Difference) -> str:
    """The difference in plain words."""
    a, b, word = difference.a, difference.b, reading(difference)
    numbers = f"{points_interval(difference)} points"
    if word == "no difference shown":
        return f"{a} against {b}: no difference shown ({numbers})."
    return f"{a} is {word} than {b} ({numbers})."
