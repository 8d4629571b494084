r"""Text to steps and back. A step is a non-blank line; joining gives the same text.

>>> split_steps("Step 1: 3 + 9 = 12\nStep 2: 12 + 4 = 16\nAnswer: 16")
['Step 1: 3 + 9 = 12', 'Step 2: 12 + 4 = 16', 'Answer: 16']
"""

from __future__ import annotations

from collections.abc import Sequence


def split_steps(text: str) -> list[str]:
    """The non-blank lines of a text; blank lines stay attached to the step before.

    Leading blank lines belong to the first step. Text without any non-blank line has no steps;
    for all other texts ``join_steps(split_steps(text)) == text``.
    """
    steps: list[str] = []
    blank: list[str] = []
    for line in text.split("\n"):
        if line.strip():
            steps.append("\n".join([*blank, line]))
            blank = []
        elif steps:
            steps[-1] += "\n" + line
        else:
            blank.append(line)
    return steps


def join_steps(steps: Sequence[str]) -> str:
    """The text of the steps."""
    return "\n".join(steps)
