r"""Prompts: one YAML file a strategy, with a name and a version, and slots for what changes.

    name: plan_first
    version: 1
    about: first a plan, then its steps (arXiv 2305.04091)
    kind: chat                        # or text: a text to continue as it is
    user: |                           # for kind text: text
      {problem}

      Make a plan, carry it out, and end with the answer in \boxed{}.

``{problem}`` stands exactly once. ``{exemplars}`` takes worked examples that are drawn for each
problem from the file named under ``exemplars``; ``{solution}`` takes the solution to refine, or
with ``checks: true`` the one to check.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import yaml  # type: ignore[import-untyped]

from prm.errors import ConfigError, RecordError
from prm.protocols import Chat, Message, Prompt
from prm.records import Problem, build
from prm.steps import join_steps

PROMPTS = Path(__file__).parent / "prompts"
# str.format would take the braces of LaTeX for slots.
_SLOT = re.compile(r"\{(problem|exemplars|solution)\}")


@dataclasses.dataclass(frozen=True, slots=True)
class Exemplar:
    """A worked example to show."""

    problem: str
    solution: str


@dataclasses.dataclass(frozen=True, slots=True)
class Strategy:
    """A way to ask for a solution. A prompt's wording never changes under the same version.

    Raises:
        ConfigError: the kind and the texts do not agree, or a slot is missing or repeated.
    """

    name: str
    version: int
    about: str
    kind: Literal["chat", "text"]
    system: str = ""
    user: str = ""
    text: str = ""
    exemplars: tuple[Exemplar, ...] = ()
    num_exemplars: int = 0
    checks: bool = False
    """It asks for a check of the solution, and for no better one."""

    def __post_init__(self) -> None:
        """Check the parts against each other."""
        _check_identity(self)
        _check_slots(self)
        _check_exemplars(self)

    @property
    def id(self) -> str:
        """Name and version, such as ``plan_first/1``: what a solution records."""
        return f"{self.name}/{self.version}"

    @property
    def refines(self) -> bool:
        """Whether it asks for a better version of a given solution."""
        return self.takes_solution and not self.checks

    @property
    def takes_solution(self) -> bool:
        """Whether it shows a solution."""
        return "solution" in _slots(self)

    @property
    def fingerprint(self) -> str:
        """A hash of all that decides the prompts; ``about`` does not."""
        shown = [[one.problem, one.solution] for one in self.exemplars]
        parts = [self.id, self.kind, self.system, self.user, self.text, shown, self.num_exemplars]
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:16]

    def render(
        self,
        problem: Problem | str,
        *,
        seed: int = 0,
        steps: Sequence[str] = (),
        solution: str = "",
    ) -> Prompt:
        """The prompt for a problem (or a bare statement); ``steps`` is how its answer begins.

        ``seed`` and the problem's id (or the statement) choose the exemplars.

        Raises:
            ConfigError: ``solution`` is missing, or there is no slot for it.
        """
        _check_solution(self, solution)
        if isinstance(problem, str):
            name = statement = problem
        else:
            name, statement = problem.id, problem.statement
        shown = _draw(self, name, statement, seed)
        slots = {"problem": statement, "solution": solution, "exemplars": _written(shown)}
        prefix = join_steps(steps) + "\n" if steps else ""
        if self.kind == "text":
            return _fill(self.text, slots) + prefix
        turns = [("system", self.system), ("user", self.user)]
        return Chat(tuple(Message(role, _fill(t, slots)) for role, t in turns if t), prefix)


def load_strategy(name_or_path: str) -> Strategy:
    """A shipped strategy by its name, or a YAML file of the user's by its path.

    Raises:
        ConfigError: there is none, or the file is not what it should be (file and key are named).
    """
    path = Path(name_or_path)
    if path.suffix == ".yaml" and path.is_file():
        return _read(path)
    if name_or_path in _shipped():
        return _read(PROMPTS / f"{name_or_path}.yaml")
    known = "\n".join(f"  {one.name}: {one.about}" for one in list_strategies())
    raise ConfigError(
        f"strategy {name_or_path!r} is neither the path of a .yaml file nor one of:\n{known}"
    )


def list_strategies() -> list[Strategy]:
    """The shipped strategies, by name."""
    return [_read(PROMPTS / f"{name}.yaml") for name in _shipped()]


def _shipped() -> list[str]:
    return sorted(path.stem for path in PROMPTS.glob("*.yaml"))


def _read(path: Path) -> Strategy:
    row = _load_yaml(path)
    if not isinstance(row, Mapping):
        raise ConfigError(f"{path}: expected keys such as name and version, found {row!r:.60}")
    fields = dict(row)
    for key in ("system", "user"):
        if key in fields:
            fields[key] = _trimmed(fields[key])
    if "exemplars" in fields:
        fields["exemplars"] = _read_exemplars(path, fields["exemplars"])
    try:
        strategy: Strategy = build(Strategy, fields, "prompt")
    except (RecordError, ConfigError) as error:
        raise ConfigError(f"{path}: {error}") from error
    return strategy


def _read_exemplars(prompt: Path, name: object) -> list[Any]:
    """The rows of the file of exemplars beside a prompt."""
    if not isinstance(name, str) or not (prompt.parent / name).is_file():
        raise ConfigError(f"{prompt}: exemplars should name a file beside it, found {name!r:.60}")
    rows = _load_yaml(prompt.parent / name)
    if not isinstance(rows, list) or not rows or not all(isinstance(r, Mapping) for r in rows):
        raise ConfigError(f"{prompt.parent / name}: expected a list of problem and solution pairs")
    return [{key: _trimmed(value) for key, value in row.items()} for row in rows]


def _load_yaml(path: Path) -> object:
    try:
        return yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read as YAML: {error}") from error


def _trimmed(value: object) -> object:
    """A message without the line breaks that a YAML block leaves at its ends."""
    return value.strip("\n") if isinstance(value, str) else value


def _slots(strategy: Strategy) -> list[str]:
    return [
        slot
        for text in (strategy.system, strategy.user, strategy.text)
        for slot in _SLOT.findall(text)
    ]


def _fill(text: str, slots: Mapping[str, str]) -> str:
    """Replace the slots in one pass: what is filled in is not looked at again."""
    return _SLOT.sub(lambda match: slots[match[1]], text)


def _check_identity(strategy: Strategy) -> None:
    if not re.fullmatch(r"[\w-]+", strategy.name):
        raise ConfigError(f"name should be letters, digits, _ and -, found {strategy.name!r}")
    if strategy.version < 1:
        raise ConfigError(f"version should be 1 or more, found {strategy.version}")
    wanted, unwanted = (
        ({"user"}, {"text"}) if strategy.kind == "chat" else ({"text"}, {"system", "user"})
    )
    for key in sorted(wanted | unwanted):
        if bool(getattr(strategy, key)) != (key in wanted):
            verb = "needs" if key in wanted else "has no"
            raise ConfigError(f"a prompt of kind {strategy.kind} {verb} {key}")


def _check_slots(strategy: Strategy) -> None:
    found = _slots(strategy)
    where = "user or system" if strategy.kind == "chat" else "text"
    if found.count("problem") != 1:
        raise ConfigError(
            f"{where} needs {{problem}} exactly once, found {found.count('problem')} times"
        )
    for slot in ("exemplars", "solution"):
        if found.count(slot) > 1:
            raise ConfigError(f"{where} has {{{slot}}} {found.count(slot)} times")
    if strategy.checks and "solution" not in found:
        raise ConfigError(f"checks is true, but {where} lacks the slot {{solution}}")
    if bool(strategy.exemplars) != ("exemplars" in found):
        raise ConfigError(
            f"exemplars are given, but {where} lacks the slot {{exemplars}}"
            if strategy.exemplars
            else f"{where} has the slot {{exemplars}}, but the key exemplars names no file"
        )


def _check_exemplars(strategy: Strategy) -> None:
    statements = {_squeezed(one.problem) for one in strategy.exemplars}
    if len(statements) < len(strategy.exemplars):
        raise ConfigError("exemplars: two have the same problem")
    # One to spare: an exemplar is not shown for the problem that it is itself.
    most = max(0, len(statements) - 1)
    if not min(1, len(statements)) <= strategy.num_exemplars <= most:
        raise ConfigError(
            f"num_exemplars should be 1 to {most} with {len(statements)} exemplars, "
            f"found {strategy.num_exemplars}"
            if statements
            else f"num_exemplars is {strategy.num_exemplars}, but there are no exemplars"
        )


def _check_solution(strategy: Strategy, solution: str) -> None:
    if strategy.takes_solution and not solution:
        verb = "refines" if strategy.refines else "checks"
        raise ConfigError(f"strategy {strategy.id} {verb} a solution: give it one")
    if solution and not strategy.takes_solution:
        raise ConfigError(f"strategy {strategy.id} has no slot {{solution}}: it refines nothing")


def _draw(strategy: Strategy, name: str, statement: str, seed: int) -> list[Exemplar]:
    """The exemplars for a problem: those whose hashes with it are lowest.

    Neither other problems nor the order of the exemplars matter, and an exemplar that is added
    changes the draw only where it is drawn itself.
    """

    def rank(exemplar: Exemplar) -> bytes:
        parts = [seed, name, strategy.id, exemplar.problem]
        return hashlib.sha256(json.dumps(parts).encode()).digest()

    others = [one for one in strategy.exemplars if _squeezed(one.problem) != _squeezed(statement)]
    return sorted(others, key=rank)[: strategy.num_exemplars]


def _written(exemplars: Sequence[Exemplar]) -> str:
    return "\n\n".join(
        f"Example {i}\n\nProblem: {one.problem}\n\nSolution:\n\n{one.solution}"
        for i, one in enumerate(exemplars, start=1)
    )


def _squeezed(text: str) -> str:
    return " ".join(text.split())
