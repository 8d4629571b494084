"""Prompts: one file a strategy, with ``{problem}`` where the statement goes.

A solution is continued by appending its steps, one a line, to the prompt.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib import resources
from pathlib import Path

from prm.errors import ConfigError
from prm.steps import join_steps

SLOT = "{problem}"


def load_prompt(strategy: str) -> str:
    """The prompt of a strategy by name, or of a file of the user's by path.

    Raises:
        ConfigError: there is no such prompt, or it has not exactly one slot for the problem.
    """
    shipped = resources.files("data_gen") / "prompts"
    path = Path(strategy)
    if path.suffix == ".txt" and path.is_file():
        text = path.read_text(encoding="utf-8")
    elif (shipped / f"{strategy}.txt").is_file():
        text = (shipped / f"{strategy}.txt").read_text(encoding="utf-8")
    else:
        names = sorted(p.name.removesuffix(".txt") for p in shipped.iterdir())
        raise ConfigError(f"strategy {strategy!r} is neither a .txt file nor one of {names}")
    if text.count(SLOT) != 1:
        raise ConfigError(f"the prompt of {strategy!r} needs {SLOT} exactly once")
    return text


def prompt_for(template: str, statement: str, steps: Sequence[str] = ()) -> str:
    """The text to continue: the prompt, then the steps so far, a line each."""
    return template.replace(SLOT, statement) + (join_steps(steps) + "\n" if steps else "")
