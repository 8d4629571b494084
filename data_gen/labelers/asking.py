"""What a labeler that needs no rollouts takes from them: the model to ask, the problems."""

from __future__ import annotations

from collections.abc import Mapping

from prm.errors import ConfigError
from prm.ledger import Ledger
from prm.protocols import ChatGenerator, Rollouts
from prm.records import Problem, Solution


def generator_of(own: ChatGenerator | None, rollouts: Rollouts, labeler: str) -> ChatGenerator:
    """The labeler's own model, else that of the rollouts.

    Raises:
        ConfigError: neither has one.
    """
    generator: ChatGenerator | None = own or getattr(rollouts, "generator", None)
    if generator is None:
        raise ConfigError(_absent(labeler, rollouts, "generator"))
    return generator


def problems_of(
    own: Mapping[str, Problem] | None, rollouts: Rollouts, labeler: str
) -> Mapping[str, Problem]:
    """The labeler's own problems by id, else those of the rollouts.

    Raises:
        ConfigError: neither has any.
    """
    problems: Mapping[str, Problem] | None = own
    if problems is None:
        problems = getattr(rollouts, "problems", None)
    if problems is None:
        raise ConfigError(_absent(labeler, rollouts, "problems"))
    return problems


def problem_of(solution: Solution, problems: Mapping[str, Problem]) -> Problem:
    """The problem that the solution is of.

    Raises:
        ConfigError: it is not among the problems.
    """
    if solution.problem_id not in problems:
        raise ConfigError(
            f"solution {solution.id!r} is of problem {solution.problem_id!r}, which is not in the "
            "problems; give the problems that the solutions were made from"
        )
    return problems[solution.problem_id]


def charge(rollouts: Rollouts, cost: Ledger) -> None:
    """Add what was spent beside the rollouts to their ledger, where they keep one."""
    if hasattr(rollouts, "ledger"):
        rollouts.ledger += cost


def _absent(labeler: str, rollouts: Rollouts, what: str) -> str:
    return (
        f"{labeler} needs {what}, and the rollouts ({type(rollouts).__name__}) have none: "
        f"give it {labeler}({what}=...)"
    )
