"""How well scorers find wrong steps, against exact truth, beside controls; label accuracy."""

from __future__ import annotations

import random
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence

from prm.errors import ConfigError
from prm.evaluation import baselines, step_truth
from prm.evaluation.bootstrap import bootstrap_statistic, interval
from prm.evaluation.calibration import expected_calibration_error, reliability
from prm.evaluation.samples import ProblemSamples
from prm.evaluation.step_metrics import (
    UNREADABLE,
    best_threshold,
    first_error_f1,
    first_error_of,
    step_auc,
)
from prm.records import LabelledSolution, Problem
from prm.report.data import (
    Bin,
    Estimate,
    FirstErrorCounts,
    LabelStatistics,
    Reliability,
    ReliabilityBin,
    StepMetrics,
    StepMetricsRow,
)

Scores = Mapping[str, Sequence[float] | None]
# Of one solution: its step scores, the predicted first error, the true one.
_Judged = tuple[Sequence[float] | None, int | None, int | None]

_RESAMPLES = 400  # AUC and F1 are computed anew in each


def step_metrics(
    title: str,
    samples: Sequence[ProblemSamples],
    scorers: Mapping[str, tuple[Scores, float]],
    predictions: Mapping[str, Mapping[str, int | None]],
) -> StepMetrics:
    """A row for each scorer: (step scores, threshold); ``predictions`` override the threshold."""
    rows = []
    for name, (scores, threshold) in scorers.items():
        groups = [_judge(group, scores, threshold, predictions.get(name)) for group in samples]
        rows.append(_row(name, groups))
    return StepMetrics(title, sum(len(group.solutions) for group in samples), tuple(rows))


def _judge(
    group: ProblemSamples,
    scores: Scores,
    threshold: float,
    predicted: Mapping[str, int | None] | None,
) -> list[_Judged]:
    judged: list[_Judged] = []
    for solution, truth in zip(group.solutions, group.first_errors(), strict=True):
        own = scores[solution.id]
        if predicted is not None:
            guess = predicted[solution.id]
        else:
            guess = UNREADABLE if own is None else first_error_of(own, threshold)
        judged.append((own, guess, truth))
    return judged


def _row(name: str, groups: list[list[_Judged]]) -> StepMetricsRow:
    flat = [one for group in groups for one in group]
    whole = first_error_f1([guess for _, guess, _ in flat], [truth for *_, truth in flat])
    return StepMetricsRow(
        scorer=name,
        step_auc=_estimate(groups, _auc),
        first_error_f1=_estimate(groups, _f1),
        accuracy_wrong=whole.accuracy_wrong,
        accuracy_right=whole.accuracy_right,
    )


def _auc(groups: list[list[_Judged]]) -> float | None:
    known = [one for group in groups for one in group if one[0] is not None]
    return step_auc([list(own or ()) for own, *_ in known], [truth for *_, truth in known])


def _f1(groups: list[list[_Judged]]) -> float | None:
    flat = [one for group in groups for one in group]
    return first_error_f1([guess for _, guess, _ in flat], [truth for *_, truth in flat]).f1


def _estimate(
    groups: list[list[_Judged]], statistic: Callable[[list[list[_Judged]]], float | None]
) -> Estimate | None:
    try:
        found = bootstrap_statistic(groups, statistic, num_resamples=_RESAMPLES)
    except ConfigError:  # undefined: one class is absent
        return None
    return Estimate(found.value, found.low, found.high)


def threshold_for(samples: Sequence[ProblemSamples], scores: Scores) -> float:
    """The threshold with the best first-error F1 against the exact truth, 0.5 without any."""
    pairs = [
        (scores[solution.id], truth)
        for group in samples
        for solution, truth in zip(group.solutions, group.first_errors(), strict=True)
    ]
    known = [(list(own), truth) for own, truth in pairs if own is not None]
    if len({truth is None for _, truth in known}) < 2:
        return 0.5  # no F1 without both wrong and right solutions
    return best_threshold([own for own, _ in known], [truth for _, truth in known]).threshold


def logistic_scores(
    samples: Sequence[ProblemSamples], labelled: Sequence[LabelledSolution], splits: set[str]
) -> Scores:
    """The control: step index, number of steps and length only, fitted on the same labels."""
    features: list[tuple[float, float, float]] = []
    labels: list[bool] = []
    for row in labelled:
        surface = baselines.surface_features(row.solution.steps)
        for label, values in zip(row.labels, surface, strict=True):
            if label.hard is not None and row.solution.problem_id in splits:
                features.append(values)
                labels.append(label.hard)
    model = baselines.fit(features, labels)
    return {
        s.id: baselines.predict(model, baselines.surface_features(s.steps))
        for group in samples
        for s in group.solutions
    }


def random_scores(samples: Sequence[ProblemSamples], seed: int = 0) -> Scores:
    """The floor: a score drawn at random for every step."""
    rng = random.Random(seed)
    return {s.id: [rng.random() for _ in s.steps] for group in samples for s in group.solutions}


def measure_calibration(
    name: str, target: str, labelled: Iterable[LabelledSolution], scores: Scores, min_trials: int
) -> Reliability | None:
    """Scores against success rates of prefixes that were tried often; each prefix once."""
    seen: set[tuple[str, tuple[str, ...]]] = set()
    rows: list[tuple[float, int, int]] = []
    for row in labelled:
        own = scores.get(row.id)
        for label in row.labels if own is not None else ():
            key = (row.solution.problem_id, row.solution.steps[: label.step + 1])
            if label.trials >= min_trials and key not in seen:
                seen.add(key)
                rows.append((list(own or ())[label.step], label.successes, label.trials))
    if not rows:
        return None
    bins = reliability(*map(list, zip(*rows, strict=True)))
    return Reliability(
        scorer=name,
        target=target,
        bins=tuple(ReliabilityBin(b.mean_score, b.success_rate, b.num_steps) for b in bins),
        ece=expected_calibration_error(bins),
    )


def label_statistics(
    labelled: Sequence[LabelledSolution], problems: Mapping[str, Problem]
) -> LabelStatistics:
    """Counts, and how often the hard labels agree with the exact truth, a prefix once."""
    right, clusters, tokens, seen = [], [], Counter[str](), set()
    for row in labelled:
        problem = problems[row.solution.problem_id]
        truth = step_truth.first_error(problem.meta, row.solution.steps)
        for label in row.labels:
            key = (problem.id, row.solution.steps[: label.step + 1])
            if key in seen:
                continue
            seen.add(key)
            for evidence in label.evidence:
                tokens[evidence.kind] += evidence.tokens
            if label.hard is not None and (truth is None or label.step <= truth):
                right.append(label.hard == (truth is None or label.step < truth))
                clusters.append(problem.id)
    estimate = interval([float(x) for x in right], clusters=clusters)
    return LabelStatistics(
        num_solutions=len(labelled),
        num_steps=sum(len(row.labels) for row in labelled),
        num_undecided=sum(label.hard is None for row in labelled for label in row.labels),
        first_error=_positions(labelled),
        success_rates=_histogram(labelled),
        tokens_by_kind=dict(tokens),
        accuracy=Estimate(*estimate),
        right_labels_per_1000_tokens=1000 * sum(right) / max(1, tokens.total()),
    )


def _positions(labelled: Sequence[LabelledSolution]) -> tuple[FirstErrorCounts, ...]:
    counts: dict[int, Counter[str]] = defaultdict(Counter)
    for row in labelled:
        if row.first_error:
            counts[len(row.labels)][max(row.first_error, key=lambda k: row.first_error[k])] += 1
    return tuple(
        FirstErrorCounts(length, tuple(by[str(i)] for i in range(length)), by["none"])
        for length, by in sorted(counts.items())
    )


def _histogram(labelled: Sequence[LabelledSolution], bars: int = 10) -> tuple[Bin, ...]:
    rates = [
        label.success_rate
        for row in labelled
        for label in row.labels
        if label.success_rate is not None
    ]
    counts = Counter(min(int(rate * bars), bars - 1) for rate in rates)
    return tuple(Bin(i / bars, (i + 1) / bars, counts[i]) for i in range(bars))
