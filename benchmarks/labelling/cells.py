"""The cells of `benchmarks.labelling.worlds` as sources of worlds: ``module:function``."""

from __future__ import annotations

import functools
from collections.abc import Sequence

from benchmarks.labelling.worlds import (
    SyntheticWorld,
    World,
    WorldConfig,
    base_cells,
    hopeless_cells,
    other_cells,
)
from prm.records import Solution

ALL = "benchmarks.labelling.cells:all_worlds"
QUICK = "benchmarks.labelling.cells:quick_worlds"
QUICK_CELLS = ("p0=0.5 q=0", "p0=0.5 q=0.1", "p0=0.8 q=0.1 dips", "p0=0.5 q=0.5")


class Cell:
    """A world that is drawn when it is first looked into. Satisfies `World`."""

    def __init__(self, name: str, config: WorldConfig, seed: int, min_wrong: int) -> None:
        """Draw nothing yet."""
        self.name = name
        self._world = functools.cache(lambda: SyntheticWorld(config, seed, min_wrong))

    @property
    def solutions(self) -> Sequence[Solution]:
        """See `World`."""
        return self._world().solutions

    @property
    def first_errors(self) -> Sequence[int | None]:
        """See `World`."""
        return self._world().first_errors

    def rollout(self, solution: int, kept: int, draw: int) -> tuple[bool | None, int]:
        """See `World`."""
        return self._world().rollout(solution, kept, draw)


def all_worlds(seed: int) -> list[World]:
    """Every cell, with at least 1,000 wrong solutions each."""
    return _cells(seed, 1000)


def quick_worlds(seed: int) -> list[World]:
    """A few cells, with at least 200 wrong solutions each."""
    return [cell for cell in _cells(seed, 200) if cell.name in QUICK_CELLS]


def base_names() -> set[str]:
    """The cells in which the labelers' assumptions hold."""
    return {config.name for config in base_cells()}


def hopeless_names() -> set[str]:
    """The cells in which a labeler should say that it does not know."""
    return {config.name for config in hopeless_cells()}


def _cells(seed: int, min_wrong: int) -> list[World]:
    configs = [*base_cells(), *other_cells(), *hopeless_cells()]
    return [
        Cell(_name(config), config, 1000 * seed + number, min_wrong)
        for number, config in enumerate(configs)
    ]


def _name(config: WorldConfig) -> str:
    """The configuration's name, and what its name does not say."""
    plain = WorldConfig(config.p0, config.q, config.shape)
    extra = [
        f"{word} {getattr(config, field):g}"
        for field, word in (
            ("max_steps", "steps to"),
            ("unevenness", "unevenness"),
            ("rollout_noise", "noise"),
            ("dip_rate", "rate"),
            ("tilt", "tilt"),
            ("concentration", "concentration"),
        )
        if getattr(config, field) != getattr(plain, field)
    ]
    return " ".join([config.name, *extra])
