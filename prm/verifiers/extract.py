"""Find the final answer in a solution."""

from __future__ import annotations

import re
from collections.abc import Sequence

from prm.steps import join_steps

WHOLE = "whole"
"""Instead of a pattern: the answer is the whole solution, as for programs."""
BOXED = "boxed"
"""Instead of a pattern: the answer is in the last ``\\boxed{}``, wherever it stands."""

# An escaped brace is text: \boxed{\left\{1,2\right.} is balanced.
_BRACES = re.compile(r"(?P<box>\\(?:boxed|fbox)\s*\{)|\\.|[{}]", re.DOTALL)

MAX_JOINT = 40
"""Characters between two boxes that may still be one answer."""
MAX_TAIL = 2000
"""Characters at the end of a text that are searched for a stated answer."""
STATED = (
    r"^\s*(?:\#{1,6}\s*)?\**(?:the\s+)?(?:final\s+)?answer\**\s*:\**",
    r"\b(?:final\s+)?answer(?:\s+to\s+[^.\n]{1,80}?)?\s+is\s*:?",
    r"^.*\#{4}(?=\s*[-+$\\.(0-9])",
)
"""What stands before an answer that is in no box; letters large or small."""
_STATED = re.compile("|".join(STATED), re.IGNORECASE | re.MULTILINE)
# A point within 3.5 or before a letter in mathematics ends no sentence.
_SENTENCE_END = re.compile(r"\.\s+(?=[A-Z])|\s+I hope\b")
_JOINED = re.compile(
    r"[\s$\\()\[\].]*(?:,|;|\\text\{\s*(?:and|or)\s*\}|\band\b|\bor\b)[\s$\\()\[\]]*"
    r"(?:(?:and|or)\b[\s$\\()\[\]]*)?(?:[A-Za-z]\s*=\s*)?[\s$\\()\[\]]*"
)


def extract_answer(steps: Sequence[str], pattern: str) -> str | None:
    """The first group of ``pattern`` in the last step, or None when it states no answer.

    Only the last step is read, without the blank lines that belong to it: an answer in the middle
    of a solution is not its final answer. With the pattern ``boxed`` all steps are read, for their
    last box: nobody boxes what is not an answer, and words may follow it. With ``whole`` the answer
    is the text of all steps: the verifier finds in it what it checks, such as a fenced program.
    """
    if pattern == WHOLE:
        return join_steps(steps) if steps else None
    if pattern == BOXED:
        return extract_boxed_values("\n".join(steps))
    match = re.search(pattern, steps[-1].strip()) if steps else None
    return match.group(1).strip() if match else None


def extract_final_answer(text: str) -> str | None:
    r"""The answer that a whole solution ends with: its last box, else what it states, else None.

    An answer is stated by "the final answer is ...", a last line "Answer: ..." or "#### ...".
    """
    return extract_boxed_values(text) or extract_stated(text)


def extract_stated(text: str) -> str | None:
    """What follows the last of `STATED`, up to the end of its sentence, or None."""
    # The end of a long text is enough, and no pattern runs over all of it.
    tail = text[-MAX_TAIL:]
    stated = [tail[match.end() :].partition("\n")[0] for match in _STATED.finditer(tail)]
    stated = [line.strip() for line in stated if line.strip()]
    if not stated:
        return None
    answer = _SENTENCE_END.split(stated[-1], maxsplit=1)[0]
    answer = answer.strip().removesuffix(".").strip()
    bold = answer.removeprefix("**").removesuffix("**").strip()
    return (bold if answer.count("*") in (2, 4) else answer) or None


def extract_boxed(text: str) -> str | None:
    r"""What stands in the last ``\boxed{...}`` that is closed and not empty, or None.

    Of boxes in boxes it is the inner one. One pass: a long trace costs no more than its length.
    """
    boxes = _boxes(text)
    return boxes[-1][2] if boxes else None


def extract_boxed_values(text: str) -> str | None:
    """As `extract_boxed`; boxes joined only by a comma, "and" or "or" are one list of values."""
    boxes = _boxes(text)
    if not boxes:
        return None
    values = [boxes[-1][2]]
    for before, after in zip(boxes[-2::-1], boxes[:0:-1], strict=True):
        between = text[before[1] : after[0]]
        if len(between) > MAX_JOINT or not _JOINED.fullmatch(between):
            break
        if before[2] not in values:
            values.insert(0, before[2])
    return ", ".join(values)


def _boxes(text: str) -> list[tuple[int, int, str]]:
    """(begin, end, inside) of each innermost box that is closed and not empty, in order."""
    boxes: list[tuple[int, int, str]] = []
    open_braces: list[tuple[int, int, bool]] = []
    for match in _BRACES.finditer(text):
        if match["box"] or match[0] == "{":
            open_braces.append((match.start(), match.end(), match["box"] is not None))
        elif match[0] == "}" and open_braces:
            start, begin, is_box = open_braces.pop()
            inside = text[begin : match.start()].strip()
            if is_box and inside and not (boxes and boxes[-1][0] > start):
                boxes.append((start, match.end(), inside))
    return boxes
