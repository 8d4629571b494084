"""Cut a text where no bracket is open."""

from __future__ import annotations

import re

_NESTING = re.compile(r"\\(?:begin|end)(?![A-Za-z])|\\[A-Za-z]+|\\.|.", re.DOTALL)
_OPENING = {"(", "[", "{", r"\{", r"\begin", r"\langle", r"\lfloor", r"\lceil"}
_CLOSING = {")", "]", "}", r"\}", r"\end", r"\rangle", r"\rfloor", r"\rceil"}


def split_top(text: str, separator: re.Pattern[str]) -> tuple[list[str], list[str]]:
    """The pieces between separators outside of brackets, and those separators, stripped."""
    pieces, found, begin, position, level = [], [], 0, 0, 0
    while position < len(text):
        match = separator.match(text, position) if level == 0 else None
        if match and match.end() > position:
            pieces.append(text[begin:position].strip())
            found.append(match[0].strip())
            begin = position = match.end()
            continue
        token = _NESTING.match(text, position)
        assert token is not None
        level += (token[0] in _OPENING) - (token[0] in _CLOSING)
        position = token.end()
    return [*pieces, text[begin:].strip()], found


def brackets(text: str) -> tuple[str, str, str] | None:
    r"""(opening, inside, closing) when one pair encloses the whole text: ``[1,2)`` too."""
    if text.startswith("]") and text.endswith("["):
        return ("(", text[1:-1].strip(), ")") if _is_balanced(text[1:-1]) else None
    for opening in (r"\{", r"\langle", "(", "["):
        if text.startswith(opening):
            for closing in (r"\}", r"\rangle", ")", "]"):
                if text.endswith(closing) and len(text) >= len(opening) + len(closing):
                    inside = text[len(opening) : -len(closing)]
                    is_pair = (opening in "([") == (closing in ")]") and _is_balanced(inside)
                    return (opening, inside.strip(), closing) if is_pair else None
    return None


def without_braces(text: str) -> str:
    """The text without braces around the whole of it."""
    while text.startswith("{") and text.endswith("}") and _is_balanced(text[1:-1]):
        text = text[1:-1].strip()
    return text


def _is_balanced(text: str) -> bool:
    """Whether every bracket in the text closes there, and none closes too early."""
    level = 0
    for token in _NESTING.findall(text):
        level += (token in _OPENING) - (token in _CLOSING)
        if level < 0:
            return False
    return level == 0
