"""Solutions step by step, each step coloured by its score, beside the exact truth."""

from __future__ import annotations

from collections.abc import Sequence

from prm.report.data import ReportData, ScoredSolution, ScoredStep
from prm.report.elements import badge, details, note
from prm.report.markup import Html, join, tag
from prm.report.wording import count, fixed

NUM_COLOURS = 10
FILTERS = {"all": "All", "right": "Right", "wrong": "Wrong", "disagrees": "Scorer ≠ truth"}
VERDICTS = {True: ("right", "✓ right"), False: ("wrong", "✗ wrong"), None: ("unknown", "? open")}


def solutions_section(data: ReportData) -> Html | None:
    """The colour scale, the filter buttons and one card a solution."""
    if not data.solutions:
        return None
    cards = (_card(solution, data.threshold) for solution in data.solutions)
    return join(
        note(
            "Each step carries the scorer's number and its colour. ",
            tag("span", "▲ first error", class_="flag"),
            " marks the step that is wrong first by the exact truth; the scorer names the first "
            f"step under {fixed(data.threshold)}. Steps count from 1 here, from 0 in the files.",
        ),
        _scale(),
        _filters(data.solutions, data.threshold),
        tag("div", *cards, id="solution-list", class_="cards"),
        tag("p", tag("button", "", type="button", id="show-more"), class_="script-only more"),
    )


def colour(score: float) -> str:
    """The CSS class of a score: q0 (surely wrong) to q9 (surely right)."""
    return f"q{min(int(score * NUM_COLOURS), NUM_COLOURS - 1)}"


def _scale() -> Html:
    swatches = (
        tag("li", f"{index / NUM_COLOURS:.1f}", class_=f"q{index}") for index in range(NUM_COLOURS)
    )
    words = tag("span", "wrong"), tag("ol", *swatches), tag("span", "right")
    return tag("div", *words, class_="scale", role="img", aria_label="Colours from 0.0 to 1.0")


def _filters(solutions: Sequence[ScoredSolution], threshold: float) -> Html:
    counts = {
        "all": len(solutions),
        "right": sum(solution.is_right is True for solution in solutions),
        "wrong": sum(solution.is_right is False for solution in solutions),
        "disagrees": sum(solution.disagrees(threshold) for solution in solutions),
    }
    buttons = (
        tag(
            "button",
            f"{text} ",
            tag("span", count(counts[key])),
            type="button",
            data_filter=key,
            aria_pressed="true" if key == "all" else "false",
        )
        for key, text in FILTERS.items()
    )
    status = tag("span", "", id="shown", role="status")
    return tag("div", *buttons, status, class_="filters script-only")


def _card(solution: ScoredSolution, threshold: float) -> Html:
    verdict, verdict_text = VERDICTS[solution.is_right]
    disagrees = solution.disagrees(threshold)
    mark = badge("≠ scorer and truth", "disagrees") if disagrees else Html("")
    steps = (
        _step(step, solution.has_truth and index == solution.first_error)
        for index, step in enumerate(solution.steps)
    )
    critique = (
        details("What the critic writes", tag("pre", solution.critique))
        if solution.critique is not None
        else Html("")
    )
    return tag(
        "article",
        tag("header", tag("h3", solution.statement), badge(verdict_text, verdict), mark),
        tag("ol", *steps, class_="steps"),
        tag("p", _answers(solution), class_="facts"),
        tag("p", _judgement(solution, threshold), class_="facts"),
        critique,
        class_="solution",
        data_verdict=verdict,
        data_disagrees="true" if disagrees else "false",
    )


def _step(step: ScoredStep, is_first_error: bool) -> Html:
    flag = tag("span", "▲ first error", class_="flag") if is_first_error else Html("")
    return tag(
        "li",
        tag("span", step.text.strip("\n"), class_="text"),
        flag,
        tag("span", fixed(step.score), class_="score"),
        class_=colour(step.score) + (" first-error" if is_first_error else ""),
    )


def _answers(solution: ScoredSolution) -> Html:
    answer = "no answer" if solution.final_answer is None else solution.final_answer
    scores = (
        join(" · ", name, " ", tag("b", fixed(score)))
        for name, score in solution.aggregates.items()
    )
    return join(
        "Answer ", tag("b", answer), ", reference ", tag("b", solution.reference_answer), *scores
    )


def _judgement(solution: ScoredSolution, threshold: float) -> str:
    if not solution.steps:
        return "No steps."
    scorer = f"Scorer: {_place(solution.named_error(threshold))}."
    if not solution.has_truth:
        return f"{scorer} Truth of the steps: not known."
    return f"{scorer} Truth: {_place(solution.first_error)}."


def _place(first_error: int | None) -> str:
    return "no error" if first_error is None else f"first error in step {first_error + 1}"
