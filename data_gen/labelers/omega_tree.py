r"""A tree of prefixes that are searched for errors, grown from rollouts alone (OmegaPRM).

Section 3.2 and 3.3 of arXiv 2406.06592. A state is a prefix with its rollouts, N(s) = the times
that it was selected and MC(s) = its success rate. Each search selects the wrong rollout r of a good
state s that is best by

    Q(s, r) + U(s),   Q = alpha^(1 - MC(s)) * beta^(len(r) / L),   U = c * sqrt(sum N) / (1 + N(s))

with len(r) in tokens, and looks by binary search for its first error. Every prefix that is measured
on the way becomes a state, and what is known of it is never asked for again. In difference to the
paper a rollout counts for every state that it passes through, not for its own alone; the rollout
through which a state was found is left out, because it was selected for being wrong. A right
rollout makes no state: nothing was measured there.

    tree = OmegaTree(problem.id)
    rows = tree.search(rollouts, 20)        # solutions with labels, made from rollouts
    later = OmegaTree.from_json(json.loads(json.dumps(tree.to_json())))
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Generator, Sequence
from typing import Any, TypeVar

from data_gen.labelers.omega import hard_labels
from data_gen.labelers.omega_states import Grown, State, TreeSettings, TreeStates
from data_gen.labelers.probes import ThresholdTest
from data_gen.labelers.reading import first_error_of
from data_gen.labelers.verdicts import OWN_END, wait_for
from prm.errors import ConfigError
from prm.protocols import Rollout, Rollouts
from prm.records import LabelledSolution, Solution, Status, Verdict

T = TypeVar("T")
Walk = Generator[tuple[Solution, int, int], list[Rollout], T]
"""Asks for (solution, steps kept, n) rollouts, is sent them, and ends with a result."""


class OmegaTree:
    """The states and rollouts of one problem."""

    def __init__(self, problem_id: str, settings: TreeSettings | None = None) -> None:
        """Begin with no step."""
        self.statistics = TreeStates(problem_id, settings or TreeSettings())
        self.statistics.add_state(State((), None))

    @property
    def settings(self) -> TreeSettings:
        """How the tree grows."""
        return self.statistics.settings

    def search(self, rollouts: Rollouts, num_searches: int = 20) -> list[LabelledSolution]:
        """Up to so many more wrong rollouts as labelled solutions, in the order of selection.

        Fewer: there is none left to select, or no more rollouts can be had. In the second case
        the search that was under way is taken up again by the next call.

        Raises:
            ConfigError: the rollouts keep no text.
        """
        return search_trees([self], rollouts, num_searches)[0]

    def right_solutions(self) -> list[LabelledSolution]:
        """The rollouts with a right answer, right throughout by their verdict, each text once."""
        rows = {
            solution.steps: self._read(index, 0, "right_answer")
            for index, solution in enumerate(self.statistics.solutions)
            if self.statistics.rollouts[index].correct and solution.steps
        }
        return list(rows.values())

    def to_json(self) -> dict[str, Any]:
        """States, statistics and rollouts as plain JSON values."""
        return self.statistics.to_json()

    @classmethod
    def from_json(cls, row: dict[str, Any]) -> OmegaTree:
        """The tree as it was; it goes on as if it had never been away.

        Raises:
            RecordError: another schema, or a field that is not what it should be.
        """
        tree = cls("")
        tree.statistics = TreeStates.from_json(row)
        return tree

    def walk(self, num_searches: int) -> Walk[list[LabelledSolution]]:
        """`search` as a walk that many trees can go side by side."""
        found: list[LabelledSolution] = []
        for number in range(len(self.statistics.states)):
            if not (yield from self._measure(number)):
                return found
        while len(found) < num_searches:
            if self.statistics.under_way is None:
                self.statistics.under_way = self._select()
            index = self.statistics.under_way
            row = None if index is None else (yield from self._divide(index))
            if row is None:
                break
            self.statistics.under_way = None
            found.append(row)
        return found

    def _select(self) -> int | None:
        """The wrong rollout to search; the first of equals, None when there is none."""
        rollouts, solutions = self.statistics.rollouts, self.statistics.solutions
        done = {solutions[i].steps for i, one in enumerate(rollouts) if one.is_searched}
        scores = {
            number: self._exploration(number)
            for number in range(len(self.statistics.states))
            if self.statistics.num_missing(number) <= 0 and self._is_good(number)
        }
        candidates = [
            index
            for index, one in enumerate(rollouts)
            if one.correct is False
            and one.state in scores
            and len(solutions[index].steps) > len(self.statistics.states[one.state].steps)
            and solutions[index].steps not in done
        ]
        return max(
            candidates,
            key=lambda i: self._value(rollouts[i]) + scores[rollouts[i].state],
            default=None,
        )

    def _value(self, one: Grown) -> float:
        """Q of a rollout."""
        counts = self.statistics.counts(one.state)
        failing = 1 - counts.successes / counts.trials
        length = one.num_tokens / self.settings.length
        return math.pow(self.settings.alpha, failing) * math.pow(self.settings.beta, length)

    def _exploration(self, number: int) -> float:
        """U of a state."""
        states = self.statistics.states
        total = sum(state.visits for state in states)
        return self.settings.exploration * math.sqrt(total) / (1 + states[number].visits)

    def _divide(self, index: int) -> Walk[LabelledSolution | None]:
        """The binary search for the first error of a rollout; None: rollouts have ended."""
        steps = self.statistics.solutions[index].steps
        while True:
            low, kept, reason = self._bisect(index)
            if reason:
                break
            if steps[:kept] not in self.statistics.numbers:
                self.statistics.add_state(State(steps[:kept], index))
            if not (yield from self._measure(self.statistics.numbers[steps[:kept]])):
                return None
        one = self.statistics.rollouts[index]
        one.is_searched = True
        self.statistics.states[one.state].visits += 1
        return self._read(index, low, reason)

    def _bisect(self, index: int) -> tuple[int, int, str]:
        """Steps known to be good, where to measure next, and why the search is over, if it is.

        From the beginning each time: rollouts of a prefix may change what is known of a later one.
        """
        steps, states = self.statistics.solutions[index].steps, self.statistics
        low, high = len(states.states[states.rollouts[index].state].steps), len(steps)
        while high - low > 1:
            kept = (low + high) // 2
            number = states.numbers.get(steps[:kept])
            if number is None or states.num_missing(number) > 0:
                return low, kept, ""
            good = self._is_good(number)
            if good is None:
                return low, kept, "undecided"
            low, high = (kept, high) if good else (low, kept)
        return low, low, "first_error_found"

    def _measure(self, number: int) -> Walk[bool]:
        """Give a state the rollouts that it needs; False: they cannot be had."""
        state, wanted = self.statistics.states[number], self.statistics.num_missing(number)
        if wanted <= 0:
            return True
        group = yield self.statistics.solution_of(state), len(state.steps), wanted
        for one in group:
            if one.text is None:
                raise ConfigError("a tree grows from the texts of rollouts, and these keep none")
            self.statistics.add_rollout(
                Grown(number, one.correct, one.num_tokens, one.text, one.finish_reason)
            )
        return len(group) >= wanted

    def _is_good(self, number: int) -> bool | None:
        """By all the rollouts that a state has."""
        counts = self.statistics.counts(number)
        test = ThresholdTest(self.settings.num_rollouts, self.settings.threshold)
        return test.decide(counts.successes, counts.trials, 0)

    def _read(self, index: int, num_good: int, reason: str) -> LabelledSolution:
        """The labels of a rollout from the states on its way."""
        solution, one = self.statistics.solutions[index], self.statistics.rollouts[index]
        status: Status = "right" if one.correct else "wrong"
        verdict, hard = Verdict(status, OWN_END), hard_labels(len(solution.steps), num_good, reason)
        tally, completer = self.statistics.tally, self.settings.completer
        labels = tuple(
            dataclasses.replace(tally.label(solution, step, verdict, completer), hard=value)
            for step, value in enumerate(hard)
        )
        root, is_own = self.statistics.counts(0), int(one.state == 0)
        tokens = sum(label.tokens for label in labels)
        return LabelledSolution(
            solution=solution,
            labels=labels,
            first_error=first_error_of(hard),
            verdict=verdict,
            labeler="omega_tree",
            stop_reason=reason,
            tokens=tokens,
            completer=completer,
            root_successes=root.successes - is_own * bool(one.correct),
            root_trials=root.trials - is_own,
            tokens_by_kind={"rollouts": tokens},
        )


def search_trees(
    trees: Sequence[OmegaTree], rollouts: Rollouts, num_searches: int = 20
) -> list[list[LabelledSolution]]:
    """`OmegaTree.search` of many problems: each round asks for all of them in one call."""
    return wait_for(_side_by_side([tree.walk(num_searches) for tree in trees], rollouts))


async def _side_by_side(walks: Sequence[Walk[T]], rollouts: Rollouts) -> list[T]:
    """The results of the walks, in order."""
    results: dict[int, T] = {}
    replies: dict[int, list[Rollout] | None] = dict.fromkeys(range(len(walks)))
    while replies:
        requests = {}
        for index, reply in replies.items():
            try:
                walk = walks[index]
                requests[index] = next(walk) if reply is None else walk.send(reply)
            except StopIteration as end:
                results[index] = end.value
        groups = await rollouts.sample_many(list(requests.values())) if requests else []
        replies = dict(zip(requests, groups, strict=True))
    return [results[index] for index in range(len(walks))]
