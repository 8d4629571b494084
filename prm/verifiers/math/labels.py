r"""The letter of a choice beside the answer that it stands for: ``(B) 12``, ``12 (B)``, ``B. 12``.

A parser of mathematics would read the product of an unknown and 12.
"""

from __future__ import annotations

import re

_VALUE = r"(?:[0-9.]|\\(?:frac|sqrt|dollar|pi)(?![A-Za-z])).*"
_BEFORE = re.compile(
    rf"(?:\\text\{{\s*\(?([A-J])\s*[).:]\s*\}}\s*|\(?([A-J])(?:\)\s*|[.:]\s+))(-?)({_VALUE})",
    re.DOTALL,
)
_BEHIND = re.compile(
    r"(.*[0-9}])\s*(?:\\text\{\s*\(([A-J])\)\s*\}|\(([A-J])\))",
    re.DOTALL,
)


def without_label(text: str, other: str) -> tuple[str, bool]:
    """(the text without its letter, whether there is no other way to read it).

    Where ``other``, with which it is compared, holds the letter too, the letter stays.
    """
    if match := _BEFORE.fullmatch(text):
        letter, rest = match[1] or match[2], match[3] + match[4]
        # (B)-3 may be a difference, and (B)3 a product.
        is_sure = bool(match[1]) or (not match[3] and text[: -len(rest)].endswith(" "))
    elif match := _BEHIND.fullmatch(text):
        letter, rest = match[2] or match[3], match[1]
        is_sure = bool(match[2]) or text[len(rest)] == " "
    else:
        return text, True
    if re.search(r"(?<![A-Za-z\\])[A-J](?![A-Za-z])", other):
        return text, True
    return (rest, is_sure) if letter else (text, True)
