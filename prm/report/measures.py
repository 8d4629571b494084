"""How good the scorer, its calibration, its labels, its training and the critic are."""

from __future__ import annotations

from collections.abc import Sequence

from prm.report.axes import Size, linear_axis
from prm.report.charts import (
    Line,
    Point,
    bar_chart,
    histogram,
    legend,
    line_chart,
    reliability_diagram,
)
from prm.report.data import LabelStatistics, ReportData, StepMetrics, TrainingRun
from prm.report.elements import absent, figure, grid, note, table
from prm.report.markup import Html, join, tag
from prm.report.wording import (
    count,
    fixed,
    fixed_estimate,
    percent,
    percent_estimate,
    plural,
)

SMALL = Size(440, 290)
SQUARE = Size(400, 380)
NUM_SHADES = 6


def step_metrics_section(data: ReportData) -> Html | None:
    """One table a set of solutions, all scorers in it."""
    if not data.step_metrics:
        return None
    small_print = note(
        "Step AUC: the chance that a right step scores above a wrong one. First-error F1: the "
        "harmonic mean of the two accuracies, exact place on wrong solutions and silence on "
        "right ones. Brackets are 95% intervals."
    )
    return join(*(_step_metrics_table(metrics) for metrics in data.step_metrics), small_print)


def _step_metrics_table(metrics: StepMetrics) -> Html:
    rows = [
        [
            row.scorer,
            fixed_estimate(row.step_auc),
            fixed_estimate(row.first_error_f1),
            percent(row.accuracy_wrong),
            percent(row.accuracy_right),
        ]
        for row in metrics.rows
    ]
    header = ["Scorer", "Step AUC", "First-error F1", "Accuracy on wrong", "Accuracy on right"]
    caption = f"{metrics.title} ({plural(metrics.num_solutions, 'solution')})"
    return table(caption, header, rows, marked=(0,))


def reliability_section(data: ReportData) -> Html | None:
    """The reliability diagram of the scorer."""
    reliability = data.reliability
    if reliability is None or not reliability.bins:
        return None
    label = (
        f"Reliability diagram of {reliability.scorer}; expected calibration error "
        f"{fixed(reliability.ece)}"
    )
    rows = [
        [fixed(b.mean_score), percent(b.observed_rate), count(b.count)] for b in reliability.bins
    ]
    numbers = table("Bins", ["Mean score", "Observed rate", "Steps"], rows, left=())
    text = tag(
        "div",
        tag("p", tag("strong", fixed(reliability.ece)), class_="figure"),
        tag("p", "expected calibration error"),
        note(
            f"{reliability.scorer} against its target, {reliability.target}. On the dashed "
            "diagonal a score of 0.8 is true in 80.0% of the cases; a line from each point to the "
            "diagonal shows how far it is off. Larger points hold more steps."
        ),
    )
    chart = reliability_diagram(reliability.bins, SQUARE, label)
    return grid(figure("What was true against what was said", chart, numbers=numbers), text)


def labels_section(data: ReportData) -> Html | None:
    """What was labelled, at what cost, and how right the labels are."""
    labels = data.labels
    if labels is None:
        return None
    charts = [chart for chart in (_success_rates(labels), _tokens(labels)) if chart]
    return join(_label_facts(labels), _first_errors(labels), grid(*charts) if charts else "")


def _label_facts(labels: LabelStatistics) -> Html:
    rows = [
        ["Labelled solutions", count(labels.num_solutions)],
        ["Steps", count(labels.num_steps)],
        ["Undecided steps (masked)", count(labels.num_undecided)],
        ["Hard labels that agree with the exact truth", percent_estimate(labels.accuracy)],
        ["Right labels in 1,000 tokens", fixed(labels.right_labels_per_1000_tokens)],
    ]
    return table("What was labelled", [], rows, is_narrow=True)


def _first_errors(labels: LabelStatistics) -> Html:
    """A table whose cells are shaded by their share of the row."""
    if not labels.first_error:
        return absent("Places of the first error")
    longest = max(row.num_steps for row in labels.first_error)
    rows = []
    for row in labels.first_error:
        total = sum(row.by_step) + row.none
        cells = [_shaded(number, total) for number in row.by_step]
        empty = [""] * (longest - row.num_steps)
        rows.append(
            [plural(row.num_steps, "step"), *cells, *empty, _shaded(row.none, total), count(total)]
        )
    places = [f"Step {index + 1}" for index in range(longest)]
    header = ["Solutions with", *places, "No error", "All"]
    return table("Where the first error is, by number of steps", header, rows)


def _shaded(number: int, total: int) -> Html:
    share = number / total if total else 0.0
    shade = min(int(share * NUM_SHADES), NUM_SHADES - 1)
    return tag("span", count(number), class_=f"shade h{shade}", title=percent(share))


def _success_rates(labels: LabelStatistics) -> Html | None:
    if not labels.success_rates:
        return None
    chart = histogram(
        labels.success_rates, "Success rate", "Steps", SMALL, "Histogram of success rates of steps"
    )
    rows = [
        [f"{percent(b.low)} to {percent(b.high)}", count(b.count)] for b in labels.success_rates
    ]
    numbers = table("Success rates", ["Success rate", "Steps"], rows)
    return figure("Success rates of the steps", chart, numbers=numbers)


def _tokens(labels: LabelStatistics) -> Html | None:
    if not labels.tokens_by_kind:
        return None
    items = list(labels.tokens_by_kind.items())
    numbers = table("Tokens", ["Evidence", "Tokens"], [[kind, count(n)] for kind, n in items])
    chart = bar_chart(items, "Tokens spent by kind of evidence")
    return figure("Tokens by kind of evidence", chart, numbers=numbers)


def training_section(data: ReportData) -> Html | None:
    """For each kind of run the loss, and each held-out metric, over the steps of training."""
    runs = [run for run in data.training if run.points]
    if not runs:
        return None
    charts = []
    for kind in dict.fromkeys(run.kind for run in runs):
        own = [run for run in runs if run.kind == kind]
        names = dict.fromkeys(name for run in own for p in run.points for name in p.metrics)
        charts += [_curve(kind, "Loss", own), *(_curve(kind, name, own) for name in names)]
    return grid(*charts)


def _curve(kind: str, name: str, runs: Sequence[TrainingRun]) -> Html:
    lines, rows = [], []
    for index, run in enumerate(runs):
        points = []
        for p in run.points:
            value = p.loss if name == "Loss" else p.metrics.get(name)
            if value is not None:
                tip = f"{run.name}, step {p.step}, epoch {p.epoch:.2f}: {fixed(value)}"
                points.append(Point(p.step, value, tip))
                rows.append([run.name, count(p.step), f"{p.epoch:.2f}", fixed(value)])
        lines.append(Line(run.name, tuple(points), f"run-{index % 5}", index))
    drawn = [point for line in lines for point in line.points]
    x_axis = linear_axis("Optimizer step", [0, *(point.x for point in drawn)])
    y_axis = linear_axis(name, [point.y for point in drawn])
    title = f"{name}, {kind}"
    chart = line_chart(lines, x_axis, y_axis, SMALL, f"{title} over optimizer steps")
    numbers = table(title, ["Run", "Step", "Epoch", name], rows)
    return figure(title, chart, legend(lines), numbers=numbers)


def critic_section(data: ReportData) -> Html | None:
    """How often the critic's text could be read."""
    critic = data.critic
    if critic is None:
        return None
    total = sum(critic.statuses.values())
    rows = [
        [status, count(number), percent(number / total if total else None)]
        for status, number in critic.statuses.items()
    ]
    header, foot = ["Status", "Critiques", "Share"], ["all", count(total), ""]
    shown = table("Critiques by status", header, rows, foot=foot, is_narrow=True)
    lead = tag(
        "p",
        "The critic's text could be read in ",
        tag("strong", percent_estimate(critic.parse_rate)),
        " of the cases (Wilson interval). Text that cannot be read gives no judgement.",
    )
    return join(lead, shown)
