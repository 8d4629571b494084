"""What a report shows: plain facts, measured elsewhere. Standard library only.

Nothing is computed from samples here: intervals, differences and accuracies arrive ready.
None, or an empty tuple or mapping, means "not measured in this run", and the page says so.
Shares and probabilities are in [0, 1]; indices of steps count from 0, as in the records.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

MethodKind = Literal["bound", "baseline", "rival", "ours", "critic"]


@dataclass(frozen=True, slots=True)
class Estimate:
    """A measured value with its 95% interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class RunFacts:
    """Where the numbers come from."""

    command: str
    date: str
    cpu: str
    cores: int
    dtype: str
    torch_version: str
    commit: str


@dataclass(frozen=True, slots=True)
class Stage:
    """What one job did. Its counts are kept when ``num_in = num_out + sum(skipped)``."""

    name: str
    seconds: float
    num_in: int
    num_out: int
    unit: str = ""
    """What is counted: "problems", "solutions"."""
    skipped: Mapping[str, int] = field(default_factory=dict)
    """By reason."""
    tokens: int | None = None
    tokens_per_second: float | None = None
    peak_memory_mb: float | None = None

    @property
    def num_missing(self) -> int:
        """How many rows nobody accounts for; negative when more came out than went in."""
        return self.num_in - self.num_out - sum(self.skipped.values())


@dataclass(frozen=True, slots=True)
class FirstErrorCounts:
    """Solutions with ``num_steps`` steps: how many have their first error at each step."""

    num_steps: int
    by_step: tuple[int, ...]
    none: int

    def __post_init__(self) -> None:
        """Refuse a row whose length contradicts its name."""
        if len(self.by_step) != self.num_steps:
            raise ValueError(f"{self.num_steps} steps, but {len(self.by_step)} counts")


@dataclass(frozen=True, slots=True)
class Bin:
    """One bar of a histogram: ``low <= x < high``, the last one with its upper end."""

    low: float
    high: float
    count: int


@dataclass(frozen=True, slots=True)
class LabelStatistics:
    """The labels of a run, and how far they can be trusted."""

    num_solutions: int
    num_steps: int
    num_undecided: int
    """Steps without a hard label; they are masked in training."""
    first_error: tuple[FirstErrorCounts, ...] = ()
    success_rates: tuple[Bin, ...] = ()
    tokens_by_kind: Mapping[str, int] = field(default_factory=dict)
    accuracy: Estimate | None = None
    """Share of hard labels that agree with the exact truth."""
    right_labels_per_1000_tokens: float | None = None


@dataclass(frozen=True, slots=True)
class TrainingPoint:
    """One reading during training; ``metrics`` are held-out, by name, where taken."""

    step: int
    epoch: float
    loss: float
    metrics: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class TrainingRun:
    """One training run. Runs of one ``kind`` share a chart, so their losses must compare."""

    name: str
    kind: str
    points: tuple[TrainingPoint, ...]


@dataclass(frozen=True, slots=True)
class ReliabilityBin:
    """Steps with like scores: what the scorer said on average, and what was true."""

    mean_score: float
    observed_rate: float
    count: int


@dataclass(frozen=True, slots=True)
class Reliability:
    """Calibration of one scorer against the truth of its own target."""

    scorer: str
    target: str
    bins: tuple[ReliabilityBin, ...]
    ece: float
    """Expected calibration error, in [0, 1]."""


@dataclass(frozen=True, slots=True)
class MethodPoint:
    """Accuracy of a method that may look at ``n`` solutions a problem."""

    n: int
    accuracy: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class MethodCurve:
    """One way to choose an answer; ``tokens_per_problem`` is its cost at the largest n."""

    name: str
    kind: MethodKind
    points: tuple[MethodPoint, ...]
    tokens_per_problem: float | None = None


@dataclass(frozen=True, slots=True)
class Difference:
    """Accuracy of ``a`` minus accuracy of ``b`` on the same problems, with its 95% interval."""

    a: str
    b: str
    difference: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class StepMetricsRow:
    """How well one scorer finds wrong steps.

    ``accuracy_wrong`` is the share of wrong solutions whose first error is named exactly,
    ``accuracy_right`` the share of right solutions in which no error is named.
    """

    scorer: str
    step_auc: Estimate | None = None
    first_error_f1: Estimate | None = None
    accuracy_wrong: float | None = None
    accuracy_right: float | None = None


@dataclass(frozen=True, slots=True)
class StepMetrics:
    """All scorers on one set of solutions. The first row is the scorer of this run."""

    title: str
    num_solutions: int
    rows: tuple[StepMetricsRow, ...]


@dataclass(frozen=True, slots=True)
class CriticStatistics:
    """How often the critic's text could be read, and why not."""

    parse_rate: Estimate
    """With Wilson interval."""
    statuses: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class ScoredStep:
    """A step and the scorer's word on it."""

    text: str
    score: float

    def __post_init__(self) -> None:
        """Refuse a score that has no place on the colour scale (NaN among them)."""
        if not 0.0 <= self.score <= 1.0:
            raise ValueError(f"score {self.score} of step {self.text!r:.60} is not in [0, 1]")


@dataclass(frozen=True, slots=True)
class ScoredSolution:
    """A solution as the scorer sees it, beside the exact truth."""

    statement: str
    reference_answer: str
    steps: tuple[ScoredStep, ...]
    final_answer: str | None
    is_right: bool | None
    """Verdict of the final answer; None = could not tell."""
    first_error: int | None = None
    """Index of the first wrong step by the exact truth; None = no step is wrong."""
    has_truth: bool = True
    """False where the exact truth of the steps is not known: ``first_error`` says nothing."""
    aggregates: Mapping[str, float] = field(default_factory=dict)
    """Solution score by aggregate: min, prod, last, mean."""
    critique: str | None = None

    def __post_init__(self) -> None:
        """Refuse a first error outside of the solution."""
        if self.first_error is not None and not 0 <= self.first_error < len(self.steps):
            raise ValueError(f"first error {self.first_error}, but {len(self.steps)} steps")

    def named_error(self, threshold: float) -> int | None:
        """The first step that the scorer puts under the threshold, or None."""
        low = (i for i, step in enumerate(self.steps) if step.score < threshold)
        return next(low, None)

    def disagrees(self, threshold: float) -> bool:
        """Whether the scorer names another first error than the exact truth."""
        return self.has_truth and self.named_error(threshold) != self.first_error


@dataclass(frozen=True, slots=True)
class Published:
    """The folder that the run leaves behind; ``example`` is the code that scores with it."""

    path: str
    example: str


@dataclass(frozen=True, slots=True)
class ReportData:
    """Everything that one report shows."""

    title: str
    run: RunFacts
    methods: tuple[MethodCurve, ...] = ()
    differences: tuple[Difference, ...] = ()
    references: tuple[str, ...] = ()
    """Methods that the others are compared with, the most important first."""
    chosen: str = ""
    """Our method, where it was fixed before these numbers were seen; else the best is shown."""
    solutions: tuple[ScoredSolution, ...] = ()
    threshold: float = 0.5
    """A step with a lower score counts as named wrong by the scorer."""
    step_metrics: tuple[StepMetrics, ...] = ()
    reliability: Reliability | None = None
    labels: LabelStatistics | None = None
    training: tuple[TrainingRun, ...] = ()
    critic: CriticStatistics | None = None
    stages: tuple[Stage, ...] = ()
    published: Published | None = None
    configs: Mapping[str, str] = field(default_factory=dict)
    """Resolved configuration of each job, as text, by name."""
