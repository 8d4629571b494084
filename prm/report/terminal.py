"""The results as tables on a terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table

from prm.report.data import Estimate, StepMetrics

if TYPE_CHECKING:
    from prm.evaluation.evaluate import Evaluation
    from prm.evaluation.methods import Choice


def show_choice(choice: Choice, folder: str) -> None:
    """What was fixed on the selection split."""
    thresholds = ", ".join(f"{threshold:.3f}" for threshold in choice.thresholds)
    Console(soft_wrap=True, highlight=False).print(
        f"evaluate: on {choice.split} chosen: {choice.method} "
        f"(accuracy {choice.accuracy[choice.method]:.3f}, "
        f"majority {choice.accuracy['majority']:.3f}), rival {choice.rival} "
        f"({choice.accuracy[choice.rival]:.3f}), thresholds {thresholds} -> {folder}"
    )


def show_evaluation(evaluation: Evaluation) -> None:
    """Methods, differences and step metrics."""
    console = Console(highlight=False, width=max(100, Console().width))
    console.print(_methods(evaluation))
    for difference in evaluation.differences:
        sure = difference.low > 0 or difference.high < 0
        console.print(
            f"  {difference.a} minus {difference.b}: {difference.difference:+.3f} "
            f"({difference.low:+.3f} to {difference.high:+.3f})"
            + ("" if sure else ": no difference shown"),
            markup=False,
        )
    if len(evaluation.methods_by_seed) > 1:
        chosen = evaluation.choice["method"]
        each = (f"{by[chosen]:.3f}" for by in evaluation.methods_by_seed.values())
        console.print(f"  the chosen method by training seed: {', '.join(each)}")
    if evaluation.gap_closed is not None:
        console.print(
            f"  share of the gap from majority to pass@n closed: {evaluation.gap_closed:.2f}"
        )
    for table in evaluation.step_metrics:
        console.print(_steps(table))
    _show_rest(console, evaluation)


def _show_rest(console: Console, evaluation: Evaluation) -> None:
    if evaluation.critic:
        rate = evaluation.critic.parse_rate
        console.print(f"  critic: parsed {rate.value:.3f} ({rate.low:.3f} to {rate.high:.3f})")
    if evaluation.reliability:
        console.print(
            f"  calibration error against {evaluation.reliability.target}: "
            f"{evaluation.reliability.ece:.3f}"
        )
    if evaluation.labels and evaluation.labels.accuracy:
        console.print(
            f"  labels: {_estimate(evaluation.labels.accuracy)} right against exact truth, "
            f"{evaluation.labels.right_labels_per_1000_tokens:.1f} right labels per 1,000 tokens"
        )


def _methods(evaluation: Evaluation) -> Table:
    ns = [point.n for point in evaluation.methods[0].points]
    table = Table(
        title=f"{evaluation.num_problems} {evaluation.split} problems; * = chosen on selection"
    )
    table.add_column("method")
    for n in ns:
        table.add_column(f"n={n}", justify="right")
    table.add_column(f"95% at n={ns[-1]}", justify="right")
    table.add_column("tokens/problem", justify="right")
    marked = {evaluation.chosen, *evaluation.references[1:]}
    for method in evaluation.methods:
        last = method.points[-1]
        table.add_row(
            method.name + (" *" if method.name in marked else ""),
            *(f"{point.accuracy:.3f}" for point in method.points),
            f"{last.low:.3f} to {last.high:.3f}",
            f"{method.tokens_per_problem:.0f}",
        )
    return table


def _steps(metrics: StepMetrics) -> Table:
    table = Table(title=f"{metrics.title}: {metrics.num_solutions} solutions")
    for column in ("scorer", "step AUC", "first-error F1", "on wrong", "on right"):
        table.add_column(column, justify="left" if column == "scorer" else "right")
    for row in metrics.rows:
        table.add_row(
            row.scorer,
            _estimate(row.step_auc),
            _estimate(row.first_error_f1),
            _share(row.accuracy_wrong),
            _share(row.accuracy_right),
        )
    return table


def _estimate(value: Estimate | None) -> str:
    return "-" if value is None else f"{value.value:.3f} ({value.low:.3f}-{value.high:.3f})"


def _share(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"
