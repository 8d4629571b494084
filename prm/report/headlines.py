"""The four figures that a reader should see first."""

from __future__ import annotations

from prm.report.data import ReportData
from prm.report.markup import Html, tag
from prm.report.methods import find_difference, last_point, our_method
from prm.report.stages import total_seconds, total_tokens
from prm.report.wording import (
    ABSENT,
    count,
    fixed,
    percent,
    plural,
    points,
    reading,
    short_duration,
)

UNMEASURED = "not measured in this run"


def headlines(data: ReportData) -> Html:
    """Accuracy, gain over the first reference, first-error F1, and what the run took."""
    cards = _accuracy(data), _gain(data), _first_error(data), _cost(data)
    return tag("ul", *cards, class_="headlines")


def _card(label: str, value: str = ABSENT, small: str = UNMEASURED) -> Html:
    return tag(
        "li",
        tag("span", label, class_="what"),
        tag("strong", value, class_="figure"),
        tag("span", small, class_="small"),
    )


def _accuracy(data: ReportData) -> Html:
    best = our_method(data)
    if best is None:
        return _card("Accuracy, best of ours")
    point = last_point(best)
    interval = f"95% interval {percent(point.low)} to {percent(point.high)}"
    return _card(f"Accuracy, {best.name}, N = {point.n}", percent(point.accuracy), interval)


def _gain(data: ReportData) -> Html:
    best = our_method(data)
    reference = data.references[0] if data.references else "the reference"
    label = f"Points against {reference}"
    difference = find_difference(data, best.name, reference) if best else None
    if difference is None:
        return _card(label)
    interval = f"{points(difference.low)} to {points(difference.high)}"
    return _card(label, points(difference.difference), f"{reading(difference)}: {interval}")


def _first_error(data: ReportData) -> Html:
    row = data.step_metrics[0].rows[0] if data.step_metrics and data.step_metrics[0].rows else None
    if row is None or row.first_error_f1 is None:
        return _card("First-error F1")
    f1 = row.first_error_f1
    interval = f"95% interval {fixed(f1.low)} to {fixed(f1.high)}"
    return _card(f"First-error F1, {row.scorer}", fixed(f1.value), interval)


def _cost(data: ReportData) -> Html:
    if not data.stages:
        return _card("The whole run")
    small = f"{count(total_tokens(data.stages))} tokens, {plural(len(data.stages), 'stage')}"
    return _card("The whole run", short_duration(total_seconds(data.stages)), small)
