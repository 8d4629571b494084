r"""A step's text as tokens, for finding the equations in it: numbers, signs, brackets, words.

LaTeX and typographic signs come out as plain ones, each token with its place in the text.
"""

from __future__ import annotations

import dataclasses
import re
from typing import Literal

Kind = Literal[
    "number",  # 12  1,000  .5
    "operator",  # + - * / ^
    "open",
    "close",
    "fraction",  # \frac, with its two groups in braces behind it
    "percent",
    "relation",  # = or, for approximately equal, ~
    "break",  # the end of a line, also of one in LaTeX; the ends of a formula
    "word",
    "dots",  # 0.333...
    "other",
]


@dataclasses.dataclass(frozen=True, slots=True)
class Token:
    """A piece of the text; ``value`` is what it says in plain signs."""

    kind: Kind
    value: str
    begin: int
    end: int


_NUMBER = (
    r"[0-9]{1,3}(?:(?:,|\{,\}|\\,)[0-9]{3})+(?![0-9])(?:\.[0-9]+)?|[0-9]+(?:\.[0-9]+)?|\.[0-9]+"
)
_GROUPS: tuple[tuple[str, str], ...] = (
    ("number", _NUMBER),
    ("dots", r"\.{3,}|\u2026|\\(?:l|c)?dots(?![A-Za-z])"),
    ("approximately", r"\\approx(?![A-Za-z])|\\simeq(?![A-Za-z])|\u2248|~=|\u2245"),
    # What only looks like an equals sign comes before it.
    ("other", r"[=!<>:/~]=+|=[=<>?/]+|\\(?:neq|ne|equiv)(?![A-Za-z])"),
    ("relation", r"="),
    ("power", r"[\u00b2\u00b3]"),
    ("times", r"\\(?:times|cdot|ast)(?![A-Za-z])|[\u00d7\u2715\u2217\u22c5\u00b7]"),
    ("divided", r"\\div(?![A-Za-z])|[\u00f7\u2215]"),
    ("minus", r"[\u2212\u2013]"),
    ("operator", r"\*\*|[-+*/^]"),
    ("fraction", r"\\[dtc]?frac(?![A-Za-z])"),
    ("percent", r"\\?%"),
    ("break", r"\n|\\\\|\\[\[\]()]"),
    ("skip", r"\\(?:left|right|quad|qquad|displaystyle|boxed|text\w*|math\w*)(?![A-Za-z])"),
    ("skip", r"\\[,;:!$ ]|[ \t&$\u20ac\u00a3\u00a5\u00a0\u202f]|\\hspace\{[^{}]*\}"),
    ("other", r"\\[A-Za-z]+|\\."),
    ("open", r"[(\[{]"),
    ("close", r"[)\]}]"),
    ("word", r"[A-Za-z\u00c0-\u024f]+(?:'[a-z]+)?"),
    ("other", r"."),
)
_TOKEN = re.compile(
    "|".join(f"(?P<{name}_{i}>{pattern})" for i, (name, pattern) in enumerate(_GROUPS)), re.DOTALL
)
_PLAIN = {"times": "*", "divided": "/", "minus": "-", "approximately": "~"}
_WORD_OPERATORS = {"times": "*", "plus": "+", "minus": "-"}
# The groups of these are text or a frame, and no part of an expression.
_FRAMES = re.compile(r"\\(?:boxed|text\w*|math\w*)\s*$")
_GSM8K_NOTE = re.compile(r"<<[^<>\n]*>>")


def tokenise(text: str) -> list[Token]:
    """All tokens but spaces and currency signs."""
    tokens: list[Token] = []
    frames: list[bool] = []
    for match in _TOKEN.finditer(text):
        name = (match.lastgroup or "").partition("_")[0]
        token = _token(name, match)
        if match[0] == "{":
            frames.append(_FRAMES.search(text, 0, match.start()) is not None)
        is_frame = match[0] in "{}" and bool(frames) and frames[-1]
        if match[0] == "}" and frames:
            frames.pop()
        is_unit_power = name == "power" and _is_word(tokens, match.start())
        if token is not None and not is_frame and not is_unit_power:
            tokens.append(token)
    return _with_word_operators(_with_crosses(_without_bold(tokens)))


def without_notes(text: str) -> tuple[str, list[tuple[int, int]]]:
    """The text with GSM8K's ``<<a=b>>`` notes blanked, and where their insides are."""
    places = [(match.start() + 2, match.end() - 2) for match in _GSM8K_NOTE.finditer(text)]
    return _GSM8K_NOTE.sub(lambda match: " " * len(match[0]), text), places


def _token(name: str, match: re.Match[str]) -> Token | None:
    begin, end, text = match.start(), match.end(), match[0]
    if name == "skip":
        return None
    if name == "number":
        return Token("number", re.sub(r"[^0-9.]", "", text), begin, end)
    if name == "power":
        return Token("operator", "^2" if text == "\u00b2" else "^3", begin, end)
    if name == "approximately":
        return Token("relation", "~", begin, end)
    if name in _PLAIN:
        return Token("operator", _PLAIN[name], begin, end)
    if name == "operator":
        return Token("operator", "^" if text == "**" else text, begin, end)
    plain = {"fraction": "\\frac", "percent": "%"}
    value = plain.get(name, text)
    kind: Kind = name  # type: ignore[assignment]  # the names of the groups that are left are kinds
    return Token(kind, value, begin, end)


def _is_word(tokens: list[Token], end: int) -> bool:
    """Whether a word of two letters or more ends here: cm\u00b3."""
    return (
        bool(tokens)
        and tokens[-1].end == end
        and tokens[-1].kind == "word"
        and (len(tokens[-1].value) > 1)
    )


def _without_bold(tokens: list[Token]) -> list[Token]:
    """Two stars are a power between two operands, and Markdown elsewhere."""
    kept = []
    for i, token in enumerate(tokens):
        is_stars = token.value == "^" and token.end - token.begin == 2
        if not is_stars or (_ends(tokens, i - 1) and _begins(tokens, i + 1)):
            kept.append(token)
    return kept


def _with_crosses(tokens: list[Token]) -> list[Token]:
    """An x between two numbers is a times sign, unless x is a variable elsewhere."""
    crosses = {
        i
        for i, token in enumerate(tokens)
        if token.value in ("x", "X") and _ends(tokens, i - 1) and _begins(tokens, i + 1)
    }
    letters = {i for i, token in enumerate(tokens) if token.value in ("x", "X")}
    if letters - crosses:
        return tokens
    return [
        dataclasses.replace(token, kind="operator", value="*") if i in crosses else token
        for i, token in enumerate(tokens)
    ]


def _with_word_operators(tokens: list[Token]) -> list[Token]:
    """``3 times 4``, ``20% of 50`` and ``1/2 of 50`` as products; and the like."""
    found = []
    for i, token in enumerate(tokens):
        value = ""
        if token.kind == "word" and _ends(tokens, i - 1) and _begins(tokens, i + 1):
            value = _WORD_OPERATORS.get(token.value.lower(), "")
            if token.value.lower() == "of" and _is_share(tokens, i - 1):
                value = "*"
        found.append(dataclasses.replace(token, kind="operator", value=value) if value else token)
    return found


def _is_share(tokens: list[Token], i: int) -> bool:
    """Whether a percentage or a fraction ends here."""
    if tokens[i].kind == "percent" or (tokens[i].value == "}" and i >= 6):
        return tokens[i].kind == "percent" or tokens[i - 6].kind == "fraction"
    before = [token.value for token in tokens[max(0, i - 2) : i]]
    return tokens[i].kind == "number" and len(before) == 2 and before[1] == "/"


def _ends(tokens: list[Token], i: int) -> bool:
    """Whether an operand may end with this token."""
    return i >= 0 and tokens[i].kind in ("number", "close", "percent")


def _begins(tokens: list[Token], i: int) -> bool:
    return i < len(tokens) and tokens[i].kind in ("number", "open", "fraction")
