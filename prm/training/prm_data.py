"""Labelled solutions as training examples: one prefix tree a problem, one target a prefix.

Samples that repeat each other, and prefixes that several solutions share, are one node with one
label; nothing is counted twice. A step without a usable label has weight 0.
"""

from __future__ import annotations

import dataclasses
import math
from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from prm.errors import EncodingError, RecordError, TooLongError, TrainingError
from prm.records import LabelledSolution, Problem, StepLabel
from prm.scoring.encoding import Encoded, Encoder
from prm.scoring.prefix_tree import PrefixTree, collate, pack
from prm.store import read_records, unique

Labels = Literal["counts", "hard", "posterior"]


@dataclasses.dataclass(frozen=True, slots=True)
class Target:
    """What a step should score: successes of trials, with a weight; good steps teach language."""

    successes: float
    trials: float
    weight: float
    is_good: bool


@dataclasses.dataclass(frozen=True, slots=True)
class Example:
    """The tree of one problem's solutions with a target for each node."""

    problem_id: str
    tree: PrefixTree
    targets: tuple[Target, ...]

    def __len__(self) -> int:
        """Tokens."""
        return len(self.tree)


@dataclasses.dataclass(frozen=True, slots=True)
class PRMData:
    """Examples, and what became of every labelled solution."""

    examples: list[Example]
    num_in: int
    num_out: int
    skipped: Counter[str]
    texts: list[tuple[str, tuple[str, ...]]]
    """Problem and steps of the solutions, in order."""

    @property
    def summary(self) -> str:
        """``in = out + skipped`` in words."""
        reasons = ", ".join(f"{n} {reason}" for reason, n in sorted(self.skipped.items()))
        return f"in {self.num_in} = out {self.num_out} + skipped {self.skipped.total()}" + (
            f" ({reasons})" if reasons else ""
        )


def targets_of(row: LabelledSolution, labels: Labels) -> list[Target]:
    """The target of each step, in step order."""
    if labels != "posterior":
        return [target_of(label, labels) for label in row.labels]
    before = [1.0, *(label.prefix_correct for label in row.labels)]
    return [_posterior(label, reached) for label, reached in zip(row.labels, before, strict=False)]


def _posterior(label: StepLabel, reached: float | None) -> Target:
    """P(this step and all before it are right), weighted by how much is known of it.

    ``reached`` is P(no step before is wrong): what lies behind the first error fades out.
    """
    p = label.prefix_correct
    if p is None or reached is None:
        return Target(0.0, 0.0, 0.0, False)
    return Target(p, 1.0, (1 - _entropy(p) / math.log(2)) * reached, bool(label.hard))


def _entropy(p: float) -> float:
    """Of a coin, in nats."""
    return -sum(q * math.log(q) for q in (p, 1 - p) if q > 0)


def target_of(label: StepLabel, labels: Literal["counts", "hard"]) -> Target:
    """The target that a step label gives.

    ``counts``: the share of continuations that reached the answer. ``hard``: whether the prefix
    counts as good, see the labeler.
    A step behind the first error has no hard label; where it is the last, the final answer's
    verdict is still known and is used. ``posterior`` needs the steps before: see `targets_of`.
    """
    judged = any(e.kind == "verdict" for e in label.evidence)
    if not label.trials or (label.hard is None and not judged):
        return Target(0.0, 0.0, 0.0, False)
    if labels == "hard":
        good = label.successes > 0 if label.hard is None else label.hard
        return Target(float(good), 1.0, 1.0, bool(label.hard))
    return Target(float(label.successes), float(label.trials), 1.0, bool(label.hard))


def read_examples(
    labelled: str, problems: str, encoder: Encoder, *, splits: Sequence[str], labels: Labels
) -> PRMData:
    """Join labels with problems and encode; what cannot be encoded is counted by reason.

    Raises:
        RecordError: a labelled solution's problem is not in the problems, or it has another
            number of labels than of steps.
        TrainingError: nothing is left.
    """
    known = {problem.id: problem for problem in read_records(problems, Problem)}
    groups: dict[str, list[tuple[Encoded, LabelledSolution]]] = defaultdict(list)
    skipped, num_in, seen = Counter[str](), 0, set()
    for row in unique(read_records(labelled, LabelledSolution), labelled):
        num_in += 1
        problem = known.get(row.solution.problem_id)
        if problem is None:
            raise RecordError(f"{labelled}: {row.id!r}: its problem is not in {problems}")
        key = (problem.id, row.solution.steps)
        reason = _reason_to_skip(row, problem, splits, labels)
        if reason is None and key in seen:
            reason = "repeated_solution"
        if reason is None:
            try:
                encoded = encoder.encode(problem.statement, row.solution.steps, where=row.id)
                groups[problem.id].append((encoded, row))
                seen.add(key)
            except TooLongError:
                reason = "too_long"
            except EncodingError:
                reason = "not_encodable"
        if reason is not None:
            skipped[reason] += 1
    examples = [_example(problem_id, group, labels) for problem_id, group in groups.items()]
    if not examples:
        raise TrainingError(f"{labelled}: no labelled solution to train on, {dict(skipped)}")
    texts = [
        (known[problem_id].statement, row.solution.steps)
        for problem_id, group in groups.items()
        for _, row in group
    ]
    return PRMData(examples, num_in, len(texts), skipped, texts)


def _reason_to_skip(
    row: LabelledSolution, problem: Problem, splits: Sequence[str], labels: Labels
) -> str | None:
    if problem.split not in splits:
        return "other_split"
    # A posterior may be known without a trial of the step itself, from the others'.
    if labels == "posterior":
        is_decided = any(label.prefix_correct is not None for label in row.labels)
    else:
        is_decided = any(label.trials for label in row.labels)
    if not is_decided:
        return "undecided"
    return None


def _example(
    problem_id: str, group: list[tuple[Encoded, LabelledSolution]], labels: Labels
) -> Example:
    """The tree, and for each node the first of the targets with the largest weight."""
    tree = PrefixTree.of([encoded for encoded, _ in group])
    targets: dict[int, Target] = {}
    for path, (_, row) in zip(tree.paths, group, strict=True):
        if len(path) != len(row.labels):
            raise RecordError(f"{row.id!r}: {len(row.labels)} labels for {len(path)} steps")
        for node, target in zip(path, targets_of(row, labels), strict=True):
            if node not in targets or target.weight > targets[node].weight:
                targets[node] = target
    return Example(problem_id, tree, tuple(targets[node] for node in range(len(tree.node_end))))


@dataclasses.dataclass(frozen=True, slots=True)
class Collator:
    """Examples to a batch of tensors, packed into rows."""

    row_tokens: int

    def __call__(self, examples: Sequence[Example]) -> dict[str, Tensor]:
        """The fields of `TreeBatch`, and ``successes``, ``trials``, ``weights``, ``good``."""
        ordered = sorted(examples, key=len)
        rows = pack([example.tree for example in ordered], self.row_tokens)
        targets = [target for example in ordered for target in example.targets]
        batch = collate(rows)
        tensors = {field.name: getattr(batch, field.name) for field in dataclasses.fields(batch)}
        values = torch.zeros((4, *batch.is_node_BN.shape))
        values[:, batch.is_node_BN] = torch.tensor(
            [[t.successes, t.trials, t.weight, float(t.is_good)] for t in targets]
        ).T
        names = ("successes", "trials", "weights", "good")
        return tensors | dict(zip(names, values, strict=True))
