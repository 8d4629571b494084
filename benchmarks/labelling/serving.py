"""Worlds in a process of their own: a labeler gets solutions and rollouts, and no more.

`ServedWorlds` starts a fresh process that calls ``function(seed) -> list[World]``. What comes
out of it is each world's name, its solutions (id, problem, steps: the final answer is replaced
by the same words everywhere), rollouts, and at the end the truth. Once the truth of a world is
told the process refuses its rollouts: nothing can be labelled with the answers at hand.
"""

from __future__ import annotations

import contextlib
import functools
import importlib
import multiprocessing
from collections import defaultdict
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.labelling.worlds import World
from prm.errors import ConfigError
from prm.protocols import Rollout
from prm.records import Solution

SAME_FOR_ALL = "final answer"
REFUSED = "refused"


class ServedWorlds:
    """A handle on the process; use it in ``with``.

    Raises:
        ConfigError: ``source`` is not ``module:function``, or names nothing that makes worlds.
        RuntimeError: the process ended by itself; its own message stands on stderr.
    """

    def __init__(self, source: str, seed: int) -> None:
        """Start the process and wait until it has its worlds."""
        context = multiprocessing.get_context("spawn")
        self._connection, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs, source, seed), daemon=True)
        self._process.start()
        theirs.close()
        first = self._receive()
        if isinstance(first, str):
            self.close()
            raise ConfigError(f"worlds {source!r}: {first}")
        self.names = _distinct(first)

    def __enter__(self) -> ServedWorlds:
        """The handle itself."""
        return self

    def __exit__(self, *error: object) -> None:
        """End the process."""
        self.close()

    def close(self) -> None:
        """End the process, also one that hangs."""
        with contextlib.suppress(OSError):
            self._connection.send(None)
        self._process.join(5)
        if self._process.is_alive():
            self._process.kill()
            self._process.join()
        self._connection.close()

    def solutions(self, world: int) -> list[Solution]:
        """The solutions without anything that tells their verdict."""
        rows = self.ask("solutions", world)
        return [
            Solution(identity, problem, steps, SAME_FOR_ALL, "stop", "world", "world")
            for identity, problem, steps in rows
        ]

    def first_errors(self, world: int) -> list[int | None]:
        """The truth; from now on this world gives no rollouts."""
        truth: list[int | None] = self.ask("truth", world)
        return truth

    def rollouts(self, world: int, pool: Sequence[Solution]) -> ServedRollouts:
        """Rollouts that begin at the first draw of every prefix."""
        return ServedRollouts(functools.partial(self.ask, "rollouts", world), pool)

    def ask(self, what: str, world: int, *arguments: Any) -> Any:
        """The answer of the process.

        Raises:
            RuntimeError: it has ended, or refuses rollouts after the truth.
        """
        self._connection.send((what, world, *arguments))
        answer = self._receive()
        if isinstance(answer, str) and answer == REFUSED:
            raise RuntimeError(f"{self.names[world]}: the truth is told, no rollouts any more")
        return answer

    def _receive(self) -> Any:
        try:
            return self._connection.recv()
        except EOFError as err:
            self._process.join(5)
            code = self._process.exitcode
            raise RuntimeError(f"the process of the worlds ended (exit code {code})") from err


def _distinct(names: Sequence[str]) -> list[str]:
    """The names, with a number where one is used again."""
    return [
        f"{name} ({names[:i].count(name) + 1})" if name in names[:i] else name
        for i, name in enumerate(names)
    ]


class ServedRollouts:
    """Rollouts of one world, one message a round. Satisfies `prm.protocols.Rollouts`."""

    def __init__(
        self,
        ask: Callable[[NDArray[np.int32]], tuple[NDArray[np.int8], NDArray[np.int32]]],
        pool: Sequence[Solution],
    ) -> None:
        """Begin at the first draw of every prefix."""
        self._ask = ask
        self._index = {solution.id: index for index, solution in enumerate(pool)}
        self._drawn: defaultdict[tuple[int, int], int] = defaultdict(int)

    async def sample_many(
        self, requests: Sequence[tuple[Solution, int, int]]
    ) -> list[list[Rollout]]:
        """See `prm.protocols.Rollouts`; the next draws of each prefix."""
        rows = np.empty((len(requests), 4), np.int32)
        for row, (solution, kept, n) in enumerate(requests):
            if not 0 <= kept <= len(solution.steps) or n < 0:
                raise ValueError(f"{solution.id}: {n} rollouts with {kept} steps kept")
            key = self._index[solution.id], kept
            rows[row] = *key, self._drawn[key], n
            self._drawn[key] += n
        won, tokens = self._ask(rows)
        every = map(_rollout, won.tolist(), tokens.tolist())
        return [[next(every) for _ in range(n)] for n in rows[:, 3].tolist()]


@functools.lru_cache(maxsize=100_000)
def _rollout(won: int, tokens: int) -> Rollout:
    """Rollouts are frozen, so equal ones can be the same object: making them is what costs."""
    return Rollout(None if won < 0 else won == 1, tokens)


def _serve(connection: Connection, source: str, seed: int) -> None:
    """Answer until None comes or the other side is gone."""
    try:
        worlds = make_worlds(source, seed)
    except ConfigError as err:
        connection.send(str(err))
        return
    connection.send([world.name for world in worlds])
    told: set[int] = set()
    with contextlib.suppress(EOFError, KeyboardInterrupt):
        while (message := connection.recv()) is not None:
            connection.send(_answer(worlds, told, *message))


def _answer(worlds: Sequence[World], told: set[int], what: str, which: int, *rest: Any) -> Any:
    world = worlds[which]
    if what == "solutions":
        return [(one.id, one.problem_id, one.steps) for one in world.solutions]
    if what == "truth":
        told.add(which)
        return list(world.first_errors)
    return REFUSED if which in told else _draw(world, *rest)


def _draw(world: World, rows: NDArray[np.int32]) -> tuple[NDArray[np.int8], NDArray[np.int32]]:
    """One flat array of outcomes (1, 0, -1 = could not tell) and one of tokens."""
    total = int(rows[:, 3].sum())
    won, tokens = np.empty(total, np.int8), np.empty(total, np.int32)
    at = 0
    for solution, kept, start, n in rows.tolist():
        for draw in range(start, start + n):
            correct, tokens[at] = world.rollout(solution, kept, draw)
            won[at] = -1 if correct is None else correct
            at += 1
    return won, tokens


def make_worlds(source: str, seed: int) -> Sequence[World]:
    """Call ``module:function`` with the seed.

    Raises:
        ConfigError: there is no such function, or it gives no worlds.
    """
    module, _, name = source.partition(":")
    try:
        function = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError, ValueError) as err:
        raise ConfigError(f"expected module:function, importable from here ({err})") from err
    worlds: Sequence[World] = function(seed)
    if not worlds:
        raise ConfigError("the function gives no worlds")
    return worlds
