"""Verifiers by the name that a problem gives, each made once with its settings.

    with Verifiers({"math": {"timeout_s": 3.0}}) as verifiers:
        verdicts = verifiers.check_many([(problem, answer), ...])

A verifier of your own is one class and one entry point of its package; its settings are the
arguments of the class:

    [project.entry-points."stepwise_prm.verifiers"]
    my_verifier = "my_package.my_module:MyVerifier"
"""

from __future__ import annotations

import atexit
import dataclasses
import importlib
import inspect
import threading
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from importlib.metadata import EntryPoint, entry_points
from types import TracebackType
from typing import Any, Protocol, cast, runtime_checkable

from prm.errors import ConfigError, MissingExtraError, RecordError
from prm.protocols import Verifier
from prm.records import Problem, Verdict, build

GROUP = "stepwise_prm.verifiers"
"""Entry points of this group are verifiers; the built-in names below cannot be taken."""

# Not imported before they are asked for: some need libraries that not everybody has.
BUILT_IN: dict[str, str] = {
    "integer": "prm.verifiers.integer:check_integer",
    "math": "prm.verifiers.math:MathVerifier",
    "code": "prm.verifiers.code:CodeVerifier",
    "parentheses": "prm.verifiers.puzzles:ParenthesesVerifier",
    "game24": "prm.verifiers.puzzles:Game24Verifier",
    "countdown": "prm.verifiers.puzzles:CountdownVerifier",
    "polynomial_roots": "prm.verifiers.puzzles:PolynomialRootsVerifier",
    "linear_system": "prm.verifiers.puzzles:LinearSystemVerifier",
    "arithmetic_chain": "prm.verifiers.puzzles:ArithmeticChainVerifier",
}

Settings = Mapping[str, Mapping[str, Any]]


@runtime_checkable
class ChecksMany(Protocol):
    """A verifier that checks many answers side by side."""

    def check_many(self, items: Sequence[tuple[str | None, str]]) -> list[Verdict]:
        """A verdict for each (answer, reference), in order."""
        ...


@runtime_checkable
class ChecksReferences(Protocol):
    """A verifier that can say beforehand whether a reference can be used."""

    def check_reference(self, reference: str) -> None:
        """Raise RecordError when it cannot."""
        ...


@runtime_checkable
class Closes(Protocol):
    """A verifier that holds processes or files."""

    def close(self) -> None:
        """Let them go."""
        ...


class Verifiers:
    """The verifiers of a job. Threads may share it; use as a context manager, or close it."""

    def __init__(self, settings: Settings | None = None) -> None:
        """``settings``: for each verifier that needs any, the arguments of its class.

        Raises:
            ConfigError: a name is unknown, or its settings are not a mapping.
        """
        self._settings = settings or {}
        self._made: dict[str, Verifier] = {}
        self._lock = threading.RLock()
        for name, values in self._settings.items():
            _find(name)
            if not isinstance(values, Mapping):
                raise ConfigError(f"verifiers.{name} should be settings, found {values!r:.60}")

    def __enter__(self) -> Verifiers:
        """Return the verifiers."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Close what was made."""
        self.close()

    def get(self, name: str) -> Verifier:
        """The verifier of that name, made at the first call.

        Raises:
            ConfigError: there is none (the message lists those that exist), or its settings are
                wrong.
            MissingExtraError: a library that it needs is absent.
        """
        with self._lock:
            if name not in self._made:
                self._made[name] = _make(name, self._settings.get(name, {}))
            return self._made[name]

    def check(self, problem: Problem, answer: str | None) -> Verdict:
        """Judge an answer by the problem's own verifier.

        Raises:
            RecordError: the problem's reference cannot be used.
        """
        return self.get(problem.verifier)(answer, problem.reference_answer)

    def check_many(self, items: Iterable[tuple[Problem, str | None]]) -> list[Verdict]:
        """A verdict for each, in order; side by side where the verifier can.

        Raises:
            RecordError: a reference cannot be used.
        """
        groups: dict[str, list[tuple[int, tuple[str | None, str]]]] = defaultdict(list)
        for index, (problem, answer) in enumerate(items):
            groups[problem.verifier].append((index, (answer, problem.reference_answer)))
        verdicts: dict[int, Verdict] = {}
        for name, group in groups.items():
            found = check_all(self.get(name), [item for _, item in group])
            verdicts.update(zip((index for index, _ in group), found, strict=True))
        return [verdicts[index] for index in range(len(verdicts))]

    def check_references(self, problems: Iterable[Problem]) -> dict[str, str]:
        """By the problem's id: why its reference cannot be used. Empty when all can."""
        known: dict[tuple[str, str], str | None] = {}
        bad: dict[str, str] = {}
        for problem in problems:
            key = problem.verifier, problem.reference_answer
            if key not in known:
                known[key] = _why_unusable(self.get(problem.verifier), problem.reference_answer)
            why = known[key]
            if why is not None:
                bad[problem.id] = why
        return bad

    def close(self) -> None:
        """End what the verifiers hold. They are made anew when they are asked for again."""
        with self._lock:
            made, self._made = list(self._made.values()), {}
        for verifier in made:
            if isinstance(verifier, Closes):
                verifier.close()


DEFAULT = Verifiers()
"""Every verifier with its default settings, for the whole process."""
atexit.register(DEFAULT.close)


def get_verifier(name: str) -> Verifier:
    """The verifier of that name with its default settings.

    Raises:
        ConfigError: there is none; the message lists those that exist.
    """
    return DEFAULT.get(name)


def check_all(verifier: Verifier, items: Sequence[tuple[str | None, str]]) -> list[Verdict]:
    """A verdict for each (answer, reference), in order; side by side where the verifier can."""
    if isinstance(verifier, ChecksMany):
        return verifier.check_many(items)
    return [verifier(answer, reference) for answer, reference in items]


def _why_unusable(verifier: Verifier, reference: str) -> str | None:
    try:
        if isinstance(verifier, ChecksReferences):
            verifier.check_reference(reference)
        else:
            # No answer at all: what is wrong then is the reference.
            verifier(None, reference)
    except RecordError as error:
        return str(error)
    return None


def _find(name: str) -> str | EntryPoint:
    """Where the verifier is defined: ours by "module:name", others by their entry point."""
    if name in BUILT_IN:
        return BUILT_IN[name]
    others = entry_points(group=GROUP)
    found = [one for one in others if one.name == name]
    if len(found) == 1:
        return found[0]
    if found:
        where = sorted(one.value for one in found)
        raise ConfigError(f"verifier {name!r} is defined {len(found)} times: {where}")
    known = sorted({*BUILT_IN, *(one.name for one in others)})
    raise ConfigError(f"verifier {name!r} is unknown; there are {known}")


def _make(name: str, settings: Mapping[str, Any]) -> Verifier:
    what = _load(name)
    try:
        if isinstance(what, type) and dataclasses.is_dataclass(what):
            return cast(Verifier, build(what, settings, "settings"))
        if isinstance(what, type):
            inspect.signature(what).bind(**settings)
            return cast(Verifier, what(**settings))
    except (RecordError, TypeError) as error:
        raise ConfigError(f"verifiers.{name}: {error}") from error
    if settings:
        raise ConfigError(f"verifiers.{name}: it has no settings, found {sorted(settings)}")
    return cast(Verifier, what)


def _load(name: str) -> Any:
    """The class or function behind a name."""
    place = _find(name)
    try:
        if isinstance(place, EntryPoint):
            return place.load()
        module, _, attribute = place.partition(":")
        return getattr(importlib.import_module(module), attribute)
    except ModuleNotFoundError as error:
        raise MissingExtraError(
            f"verifier {name!r} needs the library {error.name!r}, which is not installed"
        ) from error
