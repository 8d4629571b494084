"""The command ``prm``: what is done with trained models.

    prm publish  --config F     make self-describing folders of training runs
    prm evaluate --config F     measure them: first --split selection, then --split test
    prm report   --config F     report.html, a table, and the numbers into the model cards
    prm cost     RUN            tokens and dollars for each solution, labelled step, right answer

``prm VERB --help`` explains every setting.
"""

from __future__ import annotations

import sys
from collections.abc import Callable

from prm import config as settings
from prm.libraries import quieten_libraries


def main(argv: list[str] | None = None) -> None:
    """Run a verb; an error of ours ends with exit code 1 and its message, without a traceback."""
    words = sys.argv[1:] if argv is None else argv
    verbs: dict[str, Callable[[list[str]], None]] = {
        "publish": _publish,
        "evaluate": _evaluate,
        "report": _report,
        "cost": _cost,
    }
    if not words or words[0] in ("-h", "--help"):
        sys.stdout.write(f"{__doc__}\n")
        return
    if words[0] not in verbs:
        sys.stderr.write(f"prm: unknown verb {words[0]!r}; there are {', '.join(verbs)}\n")
        raise SystemExit(2)
    if "--help" not in words:
        quieten_libraries()
    settings.run(lambda: verbs[words[0]](words[1:]), f"prm {words[0]}")


def _publish(argv: list[str]) -> None:
    from prm.publish import publish

    config = settings.parse(publish.PublishConfig, "prm publish", publish.__doc__, argv)
    for line in publish.publish(config):
        sys.stdout.write(f"publish: {line}\n")


def _evaluate(argv: list[str]) -> None:
    from prm.evaluation import evaluate
    from prm.report.terminal import show_choice, show_evaluation

    config = settings.parse(evaluate.EvaluateConfig, "prm evaluate", evaluate.__doc__, argv)
    result = evaluate.run(config)
    if isinstance(result, evaluate.Evaluation):
        show_evaluation(result)
    else:
        show_choice(result, config.output)


def _report(argv: list[str]) -> None:
    from prm.report import job

    config = settings.parse(job.ReportConfig, "prm report", job.__doc__, argv)
    job.run(config)


def _cost(argv: list[str]) -> None:
    from prm.report import cost

    config = settings.parse(
        cost.CostConfig, "prm cost", cost.__doc__, argv, positional=("run",), flags=("json",)
    )
    cost.run(config)


if __name__ == "__main__":
    main()
