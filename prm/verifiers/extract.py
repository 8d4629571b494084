"""Find the final answer in a solution."""

from __future__ import annotations

import re
from collections.abc import Sequence

BOXED = "boxed"
"""Instead of a pattern: the answer is in the last ``\\boxed{}``, wherever it stands."""

# An escaped brace is text: \boxed{\left\{1,2\right.} is balanced.
_BRACES = re.compile(r"(?P<box>\\(?:boxed|fbox)\s*\{)|\\.|[{}]", re.DOTALL)


def extract_answer(steps: Sequence[str], pattern: str) -> str | None:
    """The first group of ``pattern`` in the last step, or None when it states no answer.

    Only the last step is read, without the blank lines that belong to it: an answer in the middle
    of a solution is not its final answer. With the pattern ``boxed`` all steps are read, for their
    last box: nobody boxes what is not an answer, and words may follow it.
    """
    if pattern == BOXED:
        return extract_boxed("\n".join(steps))
    match = re.search(pattern, steps[-1].strip()) if steps else None
    return match.group(1).strip() if match else None


def extract_boxed(text: str) -> str | None:
    r"""What stands in the last ``\boxed{...}`` that is closed and not empty, or None.

    Of boxes in boxes it is the inner one. One pass: a long trace costs no more than its length.
    """
    last_begin, last = -1, None
    open_braces: list[tuple[int, bool]] = []
    for match in _BRACES.finditer(text):
        if match["box"] or match[0] == "{":
            open_braces.append((match.end(), match["box"] is not None))
        elif match[0] == "}" and open_braces:
            begin, is_box = open_braces.pop()
            inside = text[begin : match.start()].strip()
            if is_box and inside and begin > last_begin:
                last_begin, last = begin, inside
    return last
