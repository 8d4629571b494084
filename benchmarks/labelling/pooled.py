"""Read the real pool, and serve its rollouts: each at most once to each method."""

from __future__ import annotations

import dataclasses
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from data_gen.labelers.prefix import Key
from prm.errors import StoreError
from prm.evaluation.step_truth import first_error
from prm.protocols import Rollout
from prm.records import Problem, Solution, from_json, to_json

Made = tuple[bool | None, int, str]
"""A rollout: it reached the answer (None = could not tell), tokens, text."""


@dataclasses.dataclass(frozen=True)
class Drawn:
    """Some problems with their solutions, the verdicts of these, and rollouts by prefix."""

    problems: tuple[Problem, ...]
    solutions: tuple[Solution, ...]
    labels: tuple[bool | None, ...]
    rollouts: dict[Key, list[Made]]

    @property
    def tokens(self) -> int:
        """All that were generated."""
        sampled = sum(one.usage.generated_tokens for one in self.solutions)
        return sampled + sum(tokens for group in self.rollouts.values() for _, tokens, _ in group)

    @property
    def summary(self) -> str:
        """Counts in words."""
        wrong = sum(label is False for label in self.labels)
        made = sum(map(len, self.rollouts.values()))
        return (
            f"{len(self.solutions)} solutions, {wrong} wrong, "
            f"{len(self.rollouts)} prefixes, {made} rollouts"
        )

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {
            "problems": [to_json(one) for one in self.problems],
            "solutions": [to_json(one) for one in self.solutions],
            "labels": list(self.labels),
            "rollouts": [
                {"problem_id": problem_id, "steps": list(steps), "rollouts": group}
                for (problem_id, steps), group in self.rollouts.items()
            ],
        }

    @classmethod
    def from_json(cls, row: Mapping[str, Any], where: str) -> Drawn:
        """What `to_json` wrote."""
        return cls(
            tuple(from_json(Problem, one, where) for one in row["problems"]),
            tuple(from_json(Solution, one, where) for one in row["solutions"]),
            tuple(row["labels"]),
            {
                (one["problem_id"], tuple(one["steps"])): [
                    (correct, tokens, text) for correct, tokens, text in one["rollouts"]
                ]
                for one in row["rollouts"]
            },
        )

    def join(self, other: Drawn) -> Drawn:
        """Both; they have no problem in common."""
        return Drawn(
            self.problems + other.problems,
            self.solutions + other.solutions,
            self.labels + other.labels,
            self.rollouts | other.rollouts,
        )

    def first_errors(self) -> list[int | None]:
        """The truth of each solution."""
        meta = {problem.id: problem.meta for problem in self.problems}
        return [first_error(meta[one.problem_id], one.steps) for one in self.solutions]


def read_drawn(path: Path) -> list[Drawn]:
    """The whole lines of a file; a torn last one, of a run that was killed, is left out."""
    if not path.exists():
        return []
    text = path.read_bytes()
    whole = text[: text.rfind(b"\n") + 1]
    return [
        Drawn.from_json(json.loads(line), f"{path}, line {number}")
        for number, line in enumerate(whole.splitlines(), 1)
    ]


def read_pool(folder: Path) -> dict[str, Drawn]:
    """What is there, by the name of the file: ``seed-0`` and so on, and ``test``.

    Raises:
        StoreError: there is nothing.
    """
    pool = {}
    for path in sorted(folder.glob("*.jsonl")):
        lines = read_drawn(path)
        if lines:
            joined = lines[0]
            for line in lines[1:]:
                joined = joined.join(line)
            pool[path.stem] = joined
    if not pool:
        raise StoreError(f"{folder}: no pool here; python -m benchmarks.labelling.pool draws one")
    return pool


class PooledRollouts:
    """Satisfies `Rollouts`: draws from the pool without replacement, in the pool's order.

    Solutions that share a prefix share its rollouts: who asks first has them.
    """

    def __init__(self, drawn: Drawn) -> None:
        """Begin with the first rollout of every prefix."""
        self._rollouts = drawn.rollouts
        self._labels = {
            solution.id: label
            for solution, label in zip(drawn.solutions, drawn.labels, strict=True)
        }
        self._used = Counter[Key]()

    async def sample_many(
        self, requests: Sequence[tuple[Solution, int, int]]
    ) -> list[list[Rollout]]:
        """See `prm.protocols.Rollouts`; fewer than asked where the pool is empty."""
        return [self._take(*request) for request in requests]

    def _take(self, solution: Solution, kept: int, count: int) -> list[Rollout]:
        if kept == len(solution.steps):
            return [Rollout(self._labels[solution.id], 0, "")] * count
        key = solution.problem_id, solution.steps[:kept]
        begin = self._used[key]
        taken = self._rollouts.get(key, [])[begin : begin + count]
        self._used[key] += len(taken)
        return [Rollout(*one) for one in taken]


@dataclasses.dataclass(frozen=True)
class Rates:
    """What a pool is like, measured with the truth."""

    num_solutions: int
    num_wrong: int
    num_unparsed: int
    """Wrong answers that are no answers at all."""
    num_hidden: int
    """Right answers with a wrong step."""
    places: Counter[int | None]
    """First errors of solutions with a wrong answer."""
    p0: float
    recovery: float
    """Success of rollouts from wrong prefixes, mean over distinct prefixes."""
    high_recovery: float
    """The share of wrong prefixes with a rate above one in five."""
    dips: float
    """Right prefixes that succeed less than half as often as the right prefix before them."""
    unreadable: float
    """Rollouts whose text has no answer."""


def measure(drawn: Drawn) -> Rates:
    """The rates of one seed, or of several joined."""
    truth = drawn.first_errors()
    wrong = [label is False for label in drawn.labels]
    rows = list(zip(drawn.solutions, truth, wrong, strict=True))
    rates = dict(_success(drawn.rollouts))
    good, bad = set[Key](), set[Key]()
    for solution, error, _ in rows:
        for kept in range(1, len(solution.steps)):
            is_bad = error is not None and kept > error
            (bad if is_bad else good).add((solution.problem_id, solution.steps[:kept]))
    p0 = 1 - sum(wrong) / len(rows)
    steady = [rates[key] for key in bad if key in rates]
    texts = [text for group in drawn.rollouts.values() for _, _, text in group]
    return Rates(
        len(rows),
        sum(wrong),
        sum(is_wrong and one.final_answer is None for one, _, is_wrong in rows),
        sum(not is_wrong and error is not None for _, error, is_wrong in rows),
        Counter(error for _, error, is_wrong in rows if is_wrong),
        p0,
        sum(steady) / max(1, len(steady)),
        sum(rate > 0.2 for rate in steady) / max(1, len(steady)),
        _dips(good, rates, p0),
        sum("Answer: " not in text for text in texts) / max(1, len(texts)),
    )


def _success(rollouts: Mapping[Key, Sequence[Made]]) -> Iterator[tuple[Key, float]]:
    for key, group in rollouts.items():
        told = [correct for correct, _, _ in group if correct is not None]
        if told:
            yield key, sum(told) / len(told)


def _dips(good: Iterable[Key], rates: Mapping[Key, float], p0: float) -> float:
    falls = []
    for problem_id, steps in good:
        key, before = (problem_id, steps), (problem_id, steps[:-1])
        if key in rates and (len(steps) == 1 or before in rates):
            falls.append(rates[key] < 0.5 * (p0 if len(steps) == 1 else rates[before]))
    return sum(falls) / max(1, len(falls))


def describe(pool: Mapping[str, Drawn]) -> list[str]:
    """A line for each seed."""
    lines = []
    for name, drawn in pool.items():
        one = measure(drawn)
        places = {str(place): one.places[place] for place in sorted(one.places, key=str)}
        lines.append(
            f"{name}: {one.num_solutions} solutions of {len(drawn.problems)} problems, "
            f"{one.num_wrong} wrong ({one.num_unparsed} without an answer), {one.num_hidden} right "
            f"with a wrong step; first errors of wrong ones {places}; p0 {one.p0:.2f}"
        )
        if drawn.rollouts:
            lines.append(
                f"  {len(drawn.rollouts)} prefixes; recovery {one.recovery:.3f} (above .2: "
                f"{one.high_recovery:.3f} of wrong prefixes), dips {one.dips:.3f}, rollouts "
                f"without an answer {one.unreadable:.3f}"
            )
    return lines
