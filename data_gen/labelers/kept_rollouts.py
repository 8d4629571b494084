"""Rollouts that outlive the process: what was paid for before is handed out first.

    KeptRollouts(rollouts, store, problems).sample_many([(solution, 2, 8)])

A run takes the rollouts of a prefix in their order, from the first. So a labeler that is started
again sees what it saw before it was killed, and another labeler uses what the first one paid for.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Protocol, runtime_checkable

from data_gen.labelers.rollouts import Asked, GeneratorRollouts
from data_gen.rollout_file import Spent
from data_gen.rollout_store import RolloutStore, prefix_key
from prm.ledger import Ledger, Metered
from prm.protocols import ChatGenerator, Rollout, Rollouts
from prm.records import Problem, Solution

MAX_ROWS = 1024
"""Rollouts of a model in this process that are made, and may be lost, together."""


@runtime_checkable
class _HasGenerator(Protocol):
    generator: ChatGenerator


class KeptRollouts:
    """Satisfies `Rollouts` on top of any others; ``rollouts`` are asked for what is missing.

    Each chunk is on the disk before it is handed out. ``ledger`` counts what was asked for anew.
    """

    def __init__(
        self,
        rollouts: Rollouts,
        store: RolloutStore,
        problems: Mapping[str, Problem],
        *,
        owner: str = "",
        seed: int = 0,
        max_rows: int = MAX_ROWS,
    ) -> None:
        """``owner``: for whom it is spent. ``seed``: of a model in this process, as it was given.

        Calls that earlier starts made from the seed are counted, so that none is made again.
        """
        self.rollouts = rollouts
        self.store = store
        self.problems = problems
        self.ledger = Ledger()
        self.num_reused = 0
        """Rollouts that were there already."""
        self._owner, self._seed, self._max_rows = owner, seed, max_rows
        self._given: Counter[bytes] = Counter()
        if isinstance(rollouts, GeneratorRollouts):
            rollouts.num_calls = store.num_calls(seed)

    @property
    def generator(self) -> ChatGenerator | None:
        """The model behind the rollouts, where there is one."""
        return self.rollouts.generator if isinstance(self.rollouts, _HasGenerator) else None

    async def sample_many(self, requests: Sequence[Asked]) -> list[list[Rollout]]:
        """For each (solution, number of steps kept, n): n rollouts, those kept before first."""
        known: list[dict[int, Rollout]] = []
        wanted: list[tuple[bytes, list[int]]] = []
        for solution, kept, count in requests:
            key = prefix_key(self.problems[solution.problem_id], solution.steps[:kept])
            first = self._given[key]
            self._given[key] += count
            known.append(self.store.get(key, first, count))
            places = [i for i in range(first, first + count) if i not in known[-1]]
            wanted.append((key, places))
            self._pass_over(solution, kept, len(known[-1]))
        for chunk in self._chunks(requests, wanted):
            await self._ask(chunk, requests, wanted, known)
        return [[found[ordinal] for ordinal in sorted(found)] for found in known]

    def _pass_over(self, solution: Solution, kept: int, count: int) -> None:
        self.num_reused += count
        if count and isinstance(self.rollouts, GeneratorRollouts):
            self.rollouts.pass_over(solution, kept, count)

    def _chunks(
        self, requests: Sequence[Asked], wanted: Sequence[tuple[bytes, list[int]]]
    ) -> list[list[int]]:
        """The places of requests that lack something, as they are asked for together."""
        lacking = [i for i, (_, places) in enumerate(wanted) if places]
        if not lacking:
            return []
        if not isinstance(self.rollouts, GeneratorRollouts):
            return [lacking]
        asks = [(*requests[i][:2], len(wanted[i][1])) for i in lacking]
        return [[lacking[i] for i in some] for some in self.rollouts.chunks(asks, self._max_rows)]

    async def _ask(
        self,
        chunk: list[int],
        requests: Sequence[Asked],
        wanted: Sequence[tuple[bytes, list[int]]],
        known: list[dict[int, Rollout]],
    ) -> None:
        """Ask for a chunk and keep it."""
        meter = self.rollouts if isinstance(self.rollouts, Metered) else None
        before, calls = meter.ledger if meter else Ledger(), self._num_calls()
        found = await self.rollouts.sample_many(
            [(*requests[i][:2], len(wanted[i][1])) for i in chunk]
        )
        rows = []
        for index, group in zip(chunk, found, strict=True):
            key, places = wanted[index]
            # Fewer than asked for: the budget has ended.
            for ordinal, rollout in zip(places, group, strict=False):
                rows.append((key, ordinal, rollout))
                known[index][ordinal] = rollout
        tokens = Ledger(generated_tokens=sum(rollout.num_tokens for _, _, rollout in rows))
        cost = meter.ledger - before if meter else tokens
        self.ledger += cost
        num_calls = self._num_calls() - calls
        self.store.put(rows, Spent(self._owner, "rollouts", cost, self._seed, num_calls))

    def _num_calls(self) -> int:
        return self.rollouts.num_calls if isinstance(self.rollouts, GeneratorRollouts) else 0
