"""Puzzles as sources of problems: from a job's settings to a maker."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from prm.errors import ConfigError, RecordError
from prm.records import Problem, build
from prm.verifiers.puzzles import MAKERS, Maker, make_puzzles

PUZZLES = tuple(MAKERS)
"""The names of all puzzles."""
DEFAULT_SIZES = {"train": 100, "selection": 50, "test": 60}


def check_settings(settings: Mapping[str, Mapping[str, Any]], sources: Sequence[str]) -> None:
    """Check what can be checked without making any.

    Raises:
        ConfigError: a puzzle is unknown or no source, or one of its settings is wrong.
    """
    for name, values in settings.items():
        if name not in MAKERS:
            raise ConfigError(f"puzzles: {name!r} is none of {PUZZLES}")
        if name not in sources:
            raise ConfigError(f"puzzles.{name}: settings, but {name!r} is not among the sources")
        _read(name, values)


def make(name: str, settings: Mapping[str, Any]) -> Iterator[Problem]:
    """The problems of one kind of puzzle.

    Raises:
        ConfigError: its settings are wrong, or leave too few different puzzles.
    """
    maker, sizes, seed = _read(name, settings)
    yield from make_puzzles(maker, sizes, seed)


def _read(name: str, settings: Mapping[str, Any]) -> tuple[Maker, dict[str, int], int]:
    values = dict(settings)
    sizes, seed = values.pop("sizes", DEFAULT_SIZES), values.pop("seed", 0)
    if not isinstance(sizes, dict) or not all(
        isinstance(size, int) and size >= 0 for size in sizes.values()
    ):
        raise ConfigError(f"puzzles.{name}: sizes should be {{split: count}}, found {sizes!r:.80}")
    if not isinstance(seed, int):
        raise ConfigError(f"puzzles.{name}: seed should be a whole number, found {seed!r:.80}")
    try:
        maker: Maker = build(MAKERS[name], values, f"puzzles.{name}")
    except RecordError as error:
        raise ConfigError(str(error)) from error
    return maker, sizes, seed
