"""Make problems of a puzzle: seeded, distinct over all splits, solvable."""

from __future__ import annotations

import dataclasses
import json
import random
import typing
from collections.abc import Iterator, Mapping
from typing import Any, ClassVar, Protocol

from prm.errors import ConfigError
from prm.records import Problem, Split

MAX_DRAWS = 3000
"""For one problem, before the settings are called too narrow."""


@dataclasses.dataclass(frozen=True, slots=True)
class Puzzle:
    """One drawn puzzle. Two with the same ``key`` are the same, however they are worded.

    ``meta`` has its difficulty and, where the maker knows one, a ``solution``.
    """

    statement: str
    reference: Mapping[str, Any]
    key: str
    meta: dict[str, Any]


class Maker(Protocol):
    """Draws puzzles of one kind; its fields say how hard they are."""

    verifier: ClassVar[str]
    """The verifier that checks the answers, and the beginning of the ids."""

    def draw(self, rng: random.Random) -> Puzzle | None:
        """A solvable puzzle, or None where this draw is not as hard as it should be."""
        ...


def make_puzzles(maker: Maker, sizes: Mapping[str, int], seed: int) -> Iterator[Problem]:
    """``sizes[split]`` distinct problems for each split, the training split first.

    Raises:
        ConfigError: a split does not exist, or there are not enough different puzzles.
    """
    if unknown := sorted(set(sizes) - set(typing.get_args(Split))):
        raise ConfigError(f"sizes: no such split {unknown}; there are {typing.get_args(Split)}")
    rng = random.Random(f"{maker.verifier}/{seed}")
    used: set[str] = set()
    for split in typing.get_args(Split):
        for index in range(sizes.get(split, 0)):
            puzzle = _new(maker, rng, used)
            yield Problem(
                id=f"{maker.verifier}/{split}-{index:05d}",
                statement=puzzle.statement,
                reference_answer=json.dumps(puzzle.reference),
                verifier=maker.verifier,
                source=maker.verifier,
                split=split,
                meta=puzzle.meta,
            )


def _new(maker: Maker, rng: random.Random, used: set[str]) -> Puzzle:
    for _ in range(MAX_DRAWS):
        puzzle = maker.draw(rng)
        if puzzle is not None and puzzle.key not in used:
            used.add(puzzle.key)
            return puzzle
    raise ConfigError(
        f"{maker.verifier}: no new puzzle after {MAX_DRAWS} draws ({len(used)} made): widen the "
        f"ranges or the difficulty, or ask for fewer; the settings are {maker}"
    )


def check_range(low: float, high: float, name: str) -> None:
    """Raise ConfigError when nothing lies between."""
    if low > high:
        raise ConfigError(f"{name}: nothing lies between {low} and {high}")
