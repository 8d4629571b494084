"""Find the final answer in a solution."""

from __future__ import annotations

import re
from collections.abc import Sequence


def extract_answer(steps: Sequence[str], pattern: str) -> str | None:
    """The first group of ``pattern`` in the last step, or None when it states no answer.

    Only the last step is read, without the blank lines that belong to it: an answer in the middle
    of a solution is not its final answer.
    """
    match = re.search(pattern, steps[-1].strip()) if steps else None
    return match.group(1).strip() if match else None
