"""The states and rollouts of an OmegaPRM tree, what is known of each, and their JSON form."""

from __future__ import annotations

import dataclasses
from typing import Any

from data_gen.labelers.prefix import PrefixCounts
from data_gen.labelers.tally import Tally
from prm.errors import RecordError
from prm.protocols import Rollout
from prm.records import Solution, Usage, build
from prm.steps import split_steps
from prm.verifiers import extract_answer

SCHEMA = "omega_tree/1"


@dataclasses.dataclass(frozen=True)
class TreeSettings:
    """How a tree grows.

    alpha, beta, length and exploration are those that openreasoner/openr runs with (there with 16
    rollouts).
    """

    num_rollouts: int = 8
    """Rollouts of a state."""
    threshold: float = 0.0
    """A state is good when its success rate is above this; 0 = any success, as published."""
    alpha: float = 0.5
    """Weight of a state's failures."""
    beta: float = 0.9
    """Weight of a rollout's length."""
    length: float = 500.0
    """L: tokens that make one factor of beta."""
    exploration: float = 0.125
    """c_puct: weight of states that were seldom selected."""
    answer_pattern: str = r"^Answer: (.+)$"
    """Finds the final answer in the last step, as in sampling."""
    completer: str = "completer"
    """The model that continues, as it is recorded in solutions and labels."""


@dataclasses.dataclass
class State:
    """A prefix; ``origin`` is the rollout on whose way it was measured, None of the root."""

    steps: tuple[str, ...]
    origin: int | None
    visits: int = 0


@dataclasses.dataclass
class Grown:
    """A rollout of the tree; ``state`` is the number of the one that it continues."""

    state: int
    correct: bool | None
    num_tokens: int
    text: str
    finish_reason: str
    is_searched: bool = False


@dataclasses.dataclass(frozen=True)
class _Saved:
    """A tree as it is written."""

    problem_id: str
    settings: TreeSettings
    under_way: int | None
    states: tuple[State, ...]
    rollouts: tuple[Grown, ...]


class TreeStates:
    """States and rollouts in the order in which they came; both are known by their number."""

    def __init__(self, problem_id: str, settings: TreeSettings) -> None:
        """Nothing is in it."""
        self.problem_id = problem_id
        self.settings = settings
        self.states: list[State] = []
        self.rollouts: list[Grown] = []
        self.solutions: list[Solution] = []
        """Each rollout behind the steps that it continues."""
        self.tally = Tally()
        self.numbers: dict[tuple[str, ...], int] = {}
        """The state of a prefix."""
        self.under_way: int | None = None
        """The rollout whose search was not ended, because no more rollouts could be had."""

    def counts(self, state: int) -> PrefixCounts:
        """What is known of a state: rollouts are its own, siblings those that pass through."""
        return self.tally.of((self.problem_id, self.states[state].steps))

    def num_missing(self, state: int) -> int:
        """Rollouts that the state still needs."""
        had = self.tally.had[self.problem_id, self.states[state].steps]
        return self.settings.num_rollouts - had - self.counts(state).siblings[1]

    def add_state(self, state: State) -> None:
        """Take the state in, and count the rollouts that pass through it already."""
        self.numbers[state.steps] = len(self.states)
        self.states.append(state)
        for index in range(len(self.rollouts)):
            self._pass(index, state)

    def add_rollout(self, one: Grown) -> None:
        """Take the rollout in, and count it wherever it belongs."""
        index, state = len(self.rollouts), self.states[one.state]
        solution = self.solution(str(index), (*state.steps, *split_steps(one.text)), one)
        self.rollouts.append(one)
        self.solutions.append(solution)
        self.tally.had[self.problem_id, state.steps] += 1
        rollout = Rollout(one.correct, one.num_tokens, one.text, one.finish_reason)
        self.counts(one.state).add_rollout(rollout)
        for kept in range(len(state.steps) + 1, len(solution.steps)):
            if (number := self.numbers.get(solution.steps[:kept])) is not None:
                self._pass(index, self.states[number])

    def _pass(self, index: int, state: State) -> None:
        """Count the rollout for a state that it passes through, but not for one found by it."""
        one, solution, kept = self.rollouts[index], self.solutions[index], len(state.steps)
        begins_before = len(self.states[one.state].steps) < kept < len(solution.steps)
        if one.correct is None or index == state.origin or not begins_before:
            return
        if solution.steps[:kept] == state.steps:
            entry = self.tally.of((self.problem_id, state.steps))
            entry.add_sibling(solution, kept - 1, one.correct)

    def solution_of(self, state: State) -> Solution:
        """A solution that begins with the state; the root's has no step, and has not ended."""
        return self.solution() if state.origin is None else self.solutions[state.origin]

    def solution(
        self, suffix: str = "", steps: tuple[str, ...] = (), one: Grown | None = None
    ) -> Solution:
        """A rollout as a solution; without one, the prefix of no step, which has not ended."""
        begin = f"{self.problem_id}#tree"
        origin = self.states[one.state].origin if one else None
        return Solution(
            id=begin + suffix,
            problem_id=self.problem_id,
            steps=steps,
            final_answer=extract_answer(steps, self.settings.answer_pattern),
            finish_reason=one.finish_reason if one else "length",
            strategy="omega_tree",
            model=self.settings.completer,
            usage=Usage(0, one.num_tokens if one else 0),
            parent=None if origin is None else f"{begin}{origin}",
        )

    def to_json(self) -> dict[str, Any]:
        """All that there is, as plain JSON values."""
        saved = _Saved(
            self.problem_id,
            self.settings,
            self.under_way,
            tuple(self.states),
            tuple(self.rollouts),
        )
        return {"schema": SCHEMA, **dataclasses.asdict(saved)}

    @classmethod
    def from_json(cls, row: dict[str, Any]) -> TreeStates:
        """What `to_json` wrote; the counts follow from it.

        Raises:
            RecordError: another schema, or a field that is not what it should be.
        """
        name = f"tree of {row.get('problem_id')!r}"
        if row.get("schema") != SCHEMA:
            raise RecordError(f"{name}: schema is {row.get('schema')!r}, expected {SCHEMA!r}")
        fields = {key: value for key, value in row.items() if key != "schema"}
        saved = build(_Saved, fields, name)
        tree = cls(saved.problem_id, saved.settings)
        for state in saved.states:
            tree.add_state(state)
        for one in saved.rollouts:
            if not 0 <= one.state < len(tree.states):
                raise RecordError(f"{name}: a rollout of state {one.state}, which is not there")
            tree.add_rollout(one)
        tree.under_way = saved.under_way
        return tree
