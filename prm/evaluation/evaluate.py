"""Evaluate scorers on a split: first ``selection`` to choose, then ``test`` with that choice.

    prm evaluate --config configs/quickstart/evaluate.yaml --split selection
    prm evaluate --config configs/quickstart/evaluate.yaml --split test

On the selection split the method, the aggregate and the thresholds are fixed and written to
``choice.json``. The test split is scored with them once; without a choice it is refused.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from prm import config as settings
from prm.aggregate import AGGREGATES, aggregate
from prm.errors import ConfigError, RecordError
from prm.evaluation import methods as m
from prm.evaluation import step_report
from prm.evaluation.bootstrap import interval, paired_difference, wilson
from prm.evaluation.curves import Curves
from prm.evaluation.samples import ProblemSamples, read_samples
from prm.evaluation.score_files import SplitScores, critic_scores, model_key, prm_scores
from prm.evaluation.step_metrics import UNREADABLE
from prm.records import Critique, LabelledSolution, Problem, build
from prm.report.data import (
    CriticStatistics,
    Difference,
    Estimate,
    LabelStatistics,
    MethodCurve,
    MethodKind,
    MethodPoint,
    Reliability,
    ScoredSolution,
    ScoredStep,
    StepMetrics,
)
from prm.scoring.spec import load_spec
from prm.store import read_json, read_records, write_json
from prm.verifiers import Verifiers

_NUM_SHOWN = 60


@dataclasses.dataclass(frozen=True)
class EvaluateConfig:
    """Settings of `prm evaluate`."""

    prms: list[str]
    """Published PRM folders, one for each training seed."""
    critic: str | None = None
    """Published critic folder, or null."""
    problems: str = settings.operational("runs/quickstart/problems")
    """Store of problems."""
    solutions: str = settings.operational("runs/quickstart/solutions")
    """Store of solutions."""
    labelled: str | None = settings.operational("runs/quickstart/labels")
    """Store of labels: for label accuracy, calibration and the logistic control; or null."""
    output: str = settings.operational("runs/quickstart/evaluation")
    """Folder of the results."""
    split: Literal["selection", "test"] = "test"
    """selection: choose and write choice.json. test: measure with that choice."""
    choice: str | None = settings.operational(None)
    """A choice to take on test as it is (one thresholds entry a PRM); null = the one in the output
    folder, which must have been made for these very models."""
    ns: list[int] = dataclasses.field(default_factory=lambda: [1, 2, 4, 8])
    """Numbers of samples to measure at; the largest decides."""
    min_trials: int = 6
    """Calibration counts steps that were tried at least so often."""
    verifiers: dict[str, dict[str, Any]] = dataclasses.field(default_factory=dict)
    """Settings of the verifiers that judge the answers, by name."""
    dtype: str | None = None
    """Number format of scorer and critic; null = what the hardware does well."""


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """What `prm evaluate` writes as ``evaluation.json``; the parts are those of the report."""

    split: str
    num_problems: int
    num_samples: int
    choice: dict[str, Any]
    methods: tuple[MethodCurve, ...]
    methods_by_seed: dict[str, dict[str, float]]
    differences: tuple[Difference, ...]
    chosen: str
    references: tuple[str, ...]
    gap_closed: float | None
    threshold: float
    step_metrics: tuple[StepMetrics, ...]
    reliability: Reliability | None
    labels: LabelStatistics | None
    critic: CriticStatistics | None
    solutions: tuple[ScoredSolution, ...]
    tokens: dict[str, int]
    seconds: dict[str, float]


@dataclasses.dataclass(frozen=True)
class _Scored:
    """A split with the scores of everything that is compared."""

    samples: list[ProblemSamples]
    prms: list[SplitScores]
    critic: SplitScores | None
    critiques: dict[str, Critique]
    labelled: list[LabelledSolution]
    problems: dict[str, Problem]

    def curves(self, ns: Sequence[int]) -> list[Curves]:
        """One for each training seed."""
        critic = self.critic.scores if self.critic else None
        return [m.curves_of(self.samples, one.scores, critic, ns) for one in self.prms]

    @property
    def has_truth(self) -> bool:
        """Whether exact step truth is known for all problems."""
        return all(group.has_truth for group in self.samples)


def run(config: EvaluateConfig) -> Evaluation | m.Choice:
    """Score the split; choose on selection, measure on test."""
    scored = _score(config)
    output = Path(config.output)
    if config.split == "selection":
        choice = _choose(config, scored)
        write_json(output / "choice.json", dataclasses.asdict(choice))
        return choice
    choice = read_choice(config)
    evaluation = _measure(config, scored, choice)
    write_json(output / "evaluation.json", dataclasses.asdict(evaluation))
    return evaluation


def read_choice(config: EvaluateConfig) -> m.Choice:
    """The choice that was made on the selection split.

    Raises:
        ConfigError: there is none yet.
    """
    path = Path(config.choice or Path(config.output) / "choice.json")
    if not path.is_file():
        raise ConfigError(
            f"{path}: nothing was chosen yet; run `prm evaluate` with `--split selection` first: "
            "method, aggregate and thresholds are never fitted on the test split"
        )
    choice: m.Choice = build(m.Choice, read_json(path), str(path))
    return choice


def read_evaluation(path: Path) -> Evaluation:
    """The results in a file.

    Raises:
        RecordError: it is no such file.
    """
    try:
        evaluation: Evaluation = build(Evaluation, json.loads(path.read_text()), str(path))
    except (OSError, ValueError) as error:
        raise RecordError(f"{path}: no evaluation here; run `prm evaluate` first") from error
    return evaluation


def _score(config: EvaluateConfig) -> _Scored:
    with Verifiers(config.verifiers) as verifiers:
        samples = read_samples(config.problems, config.solutions, config.split, verifiers)
    folder = Path(config.output) / "scores"
    prms = [
        prm_scores(path, samples, folder / f"{config.split}-prm-{i}.json", config.dtype)
        for i, path in enumerate(config.prms)
    ]
    critic: SplitScores | None = None
    critiques: dict[str, Critique] = {}
    if config.critic:
        file = folder / f"{config.split}-critic.json"
        critic, critiques = critic_scores(config.critic, samples, file, config.dtype)
    labelled = list(read_records(config.labelled, LabelledSolution)) if config.labelled else []
    problems = {p.id: p for p in read_records(config.problems, Problem)}
    return _Scored(samples, prms, critic, critiques, labelled, problems)


def _choose(config: EvaluateConfig, scored: _Scored) -> m.Choice:
    curves = m.average(scored.curves(config.ns))
    rivals = [name for name in m.RIVALS if name in curves.methods]
    method = m.best(curves, m.OURS)
    thresholds = {
        name: _threshold(scored, scores) for name, scores in _step_scorers(scored).items()
    }
    return m.Choice(
        method=method,
        rival=m.best(curves, rivals) if rivals else "majority",
        aggregate=method.rpartition("-")[2],
        thresholds=tuple(_threshold(scored, one.scores) for one in scored.prms),
        critic_threshold=thresholds.get("critic (scores)", 0.5),
        logistic_threshold=thresholds.get("logistic control", 0.5),
        random_threshold=thresholds["random"],
        split=config.split,
        models=tuple(model_key(path) for path in config.prms),
        accuracy={name: m.accuracy(curves, name) for name in curves.methods},
    )


def _threshold(scored: _Scored, scores: step_report.Scores) -> float:
    return step_report.threshold_for(scored.samples, scores) if scored.has_truth else 0.5


def _step_scorers(scored: _Scored) -> dict[str, step_report.Scores]:
    """Step scores by the name of the scorer; of the PRMs, the first training seed."""
    scorers: dict[str, step_report.Scores] = {"PRM": scored.prms[0].scores}
    if scored.critic:
        scorers["critic (scores)"] = scored.critic.scores
    train = {p.id for p in scored.problems.values() if p.split == "train"}
    if any(row.solution.problem_id in train for row in scored.labelled):
        scorers["logistic control"] = step_report.logistic_scores(
            scored.samples, scored.labelled, train
        )
    scorers["random"] = step_report.random_scores(scored.samples)
    return scorers


def _measure(config: EvaluateConfig, scored: _Scored, choice: m.Choice) -> Evaluation:
    by_seed = scored.curves(config.ns)
    curves = m.average(by_seed)
    m.check_choice(choice, curves)
    if config.choice is None:
        # A choice that is given by path is the user's word; ours must be of these very models.
        m.check_models(choice, [model_key(path) for path in config.prms])
    costs = _tokens(scored)
    return Evaluation(
        split=config.split,
        num_problems=len(scored.samples),
        num_samples=max(len(group.solutions) for group in scored.samples),
        choice=dataclasses.asdict(choice),
        methods=tuple(_curve(curves, name, costs, scored) for name in curves.methods),
        methods_by_seed={
            str(i): {name: m.accuracy(one, name) for name in one.methods}
            for i, one in enumerate(by_seed)
        },
        differences=_differences(curves, choice),
        chosen=title(choice.method),
        references=(title("majority"), title(choice.rival)),
        gap_closed=m.gap_closed(curves, choice.method),
        threshold=choice.thresholds[0],
        step_metrics=_step_metrics(scored, choice) if scored.has_truth else (),
        reliability=calibration_on_selection(config),
        labels=_labels(scored),
        critic=_critic(scored),
        solutions=_shown(scored) if scored.has_truth else (),
        tokens=costs,
        seconds={
            **{f"prm-{i}": round(one.seconds, 2) for i, one in enumerate(scored.prms)},
            **({"critic": round(scored.critic.seconds, 2)} if scored.critic else {}),
        },
    )


def title(method: str) -> str:
    """A method's name as people read it."""
    role, _, score = method.partition(":")
    names = {"pass": "pass@n (bound)", "random": "random sample", "majority": "majority vote"}
    if not score:
        return names[role]
    kind, _, form = score.partition("-")
    who = {"prm": "PRM", "critic": "critic", "logprob": "log-probability"}[kind]
    how = {"best_of_n": "best-of-n", "weighted_vote": "weighted vote"}[role]
    return f"{how} by {who}{f' ({form})' if form else ''}"


def _kind(method: str) -> MethodKind:
    if method == "pass":
        return "bound"
    if method in ("random", "majority"):
        return "baseline"
    kinds: dict[str, MethodKind] = {"prm": "ours", "critic": "critic", "logprob": "rival"}
    return kinds[method.partition(":")[2].partition("-")[0]]


def _curve(curves: Curves, name: str, costs: Mapping[str, int], scored: _Scored) -> MethodCurve:
    points = []
    for n in curves.ns:
        mean, low, high = interval(curves.values[name, n])
        points.append(MethodPoint(n, mean, low, high))
    extra = {"ours": costs["prm"], "critic": costs.get("critic", 0)}.get(_kind(name), 0)
    tokens = (costs["policy"] + extra) / len(scored.samples)
    return MethodCurve(title(name), _kind(name), tuple(points), tokens)


def _tokens(scored: _Scored) -> dict[str, int]:
    """Tokens of the policy (each prompt once), of one PRM, and of the critic."""
    policy = sum(
        group.solutions[0].usage.prompt_tokens
        + sum(solution.usage.generated_tokens for solution in group.solutions)
        for group in scored.samples
        if group.solutions
    )
    costs = {"policy": policy, "prm": scored.prms[0].tokens}
    if scored.critic:
        costs["critic"] = scored.critic.tokens
    return costs


def _differences(curves: Curves, choice: m.Choice) -> tuple[Difference, ...]:
    """Of the chosen method, and of the others of its kind, against the two references."""
    n = curves.ns[-1]
    pairs = [(choice.method, "majority"), (choice.method, choice.rival), (choice.method, "random")]
    critics = [name for name in curves.methods if _kind(name) == "critic"]
    pairs += [(choice.method, name) for name in critics]
    pairs += [(name, "majority") for name in (choice.rival, *critics)]
    found = []
    for a, b in dict.fromkeys(pairs):
        mean, low, high = paired_difference(curves.values[a, n], curves.values[b, n])
        found.append(Difference(title(a), title(b), mean, low, high))
    return tuple(found)


def _step_metrics(scored: _Scored, choice: m.Choice) -> tuple[StepMetrics, ...]:
    thresholds = {
        "PRM": choice.thresholds[0],
        "critic (scores)": choice.critic_threshold,
        "logistic control": choice.logistic_threshold,
        "random": choice.random_threshold,
    }
    scorers = {name: (s, thresholds[name]) for name, s in _step_scorers(scored).items()}
    for i, one in enumerate(scored.prms[1:], 1):
        scorers[f"PRM, seed {i}"] = (one.scores, choice.thresholds[i])
    predictions: dict[str, dict[str, int | None]] = {}
    if scored.critic:
        # Its own verdict needs no threshold: what it wrote is what it predicts.
        scorers["critic (verdict)"] = scorers["critic (scores)"]
        predictions["critic (verdict)"] = {
            key: c.first_error if c.status == "ok" else UNREADABLE
            for key, c in scored.critiques.items()
        }
    unseen = [group for group in scored.samples if group.problem.meta.get("unseen_pair")]
    tables = [("All problems", scored.samples), ("Problems with an unseen operand pair", unseen)]
    return tuple(
        step_report.step_metrics(name, part, scorers, predictions) for name, part in tables if part
    )


def _labels(scored: _Scored) -> LabelStatistics | None:
    train = [
        row for row in scored.labelled if scored.problems[row.solution.problem_id].split == "train"
    ]
    known = all("operands" in problem.meta for problem in scored.problems.values())
    return step_report.label_statistics(train, scored.problems) if train and known else None


def _critic(scored: _Scored) -> CriticStatistics | None:
    if not scored.critiques:
        return None
    statuses: dict[str, int] = {}
    for critique in scored.critiques.values():
        statuses[critique.status] = statuses.get(critique.status, 0) + 1
    rate = wilson(statuses.get("ok", 0), len(scored.critiques))
    return CriticStatistics(Estimate(*rate), statuses)


def _shown(scored: _Scored) -> tuple[ScoredSolution, ...]:
    """The first solutions of the split, two a problem, with their scores."""
    shown: list[ScoredSolution] = []
    for group in scored.samples[: _NUM_SHOWN // 2]:
        truths = group.first_errors()
        distinct = {s.steps: i for i, s in reversed(list(enumerate(group.solutions)))}
        scored_ones = [
            index
            for index in sorted(distinct.values())
            if scored.prms[0].scores[group.solutions[index].id] is not None
        ]
        for index in scored_ones[:2]:
            solution = group.solutions[index]
            scores = scored.prms[0].scores[solution.id] or []
            critique = scored.critiques.get(solution.id)
            shown.append(
                ScoredSolution(
                    statement=group.problem.statement,
                    reference_answer=group.problem.reference_answer,
                    steps=tuple(
                        ScoredStep(text, score)
                        for text, score in zip(solution.steps, scores, strict=True)
                    ),
                    final_answer=solution.final_answer,
                    is_right=group.right[index],
                    first_error=truths[index],
                    aggregates={how: aggregate(scores, how) for how in AGGREGATES},
                    critique=critique.text if critique else None,
                )
            )
    return tuple(shown)


def calibration_on_selection(config: EvaluateConfig) -> Reliability | None:
    """Calibration of the first PRM where success rates were measured without early stop."""
    scored = _score(dataclasses.replace(config, split="selection"))
    ids = {group.problem.id for group in scored.samples}
    rows = [row for row in scored.labelled if row.solution.problem_id in ids]
    target = load_spec(config.prms[0]).target
    if target != "success_rate":  # the counts say nothing of another target
        return None
    return step_report.measure_calibration(
        "PRM", target, rows, scored.prms[0].scores, config.min_trials
    )
