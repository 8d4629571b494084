"""Find the equations in a step's text: what stands on each side of a sign, where it can be read.

A side is the longest run of arithmetic at the sign. It is not read when what is next to the run
could change its meaning: a variable, "half of", "remainder", "million", a mixed number. Better to
read too little than to call a right step wrong.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Sequence

from prm.verifiers.step_tokens import Token

MAX_SIDE = 120
"""Tokens of a side."""

_ARITHMETIC = ("number", "operator", "open", "close", "fraction", "percent")


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


# Before an expression these change its value: "half of 20 + 4", "5 less than 3 * 4".
_MODIFIERS = _words(
    "of twice double triple thrice half third quarter times plus minus by over squared cubed than "
    "root square cube power mod modulo log sin cos tan negative percent point to from per"
)
# A number behind these is a name: "on day 1 * 2 = 20".
_NUMBERED = _words(
    "day days step steps week weeks month months year years page pages chapter chapters round "
    "rounds number numbers no question questions part parts case level grade grades hour hours"
)
# Before a bare number only these do not change it.
_BEFORE_NUMBER = _words("so thus hence then therefore that and because since get")
# Behind a number these are no units.
_MEANINGFUL = _words(
    "million millions thousand thousands hundred hundreds billion billions trillion dozen dozens "
    "remainder rem r mod modulo pi percent percentage cents cent times factorial squared cubed "
    "over plus minus divided multiplied more less x to score pair pairs half halves thirds "
    "quarters tenths hundredths thousandths k m b am pm with"
)
_NO_UNITS = _words(
    "and or so then but which while for from in on at is are was were if as since because that "
    "this the a an he she it they we i there each per he's she's left total because where when "
    "therefore thus hence of"
)
_ATTACHED = _words("cm mm km kg mg ml lb lbs ft in min mins hr hrs mph oz sec secs th gb mb kb")
_BAD_NEIGHBOURS = frozenset("|!^_~#@'?\u00b0\u221a\u2211\u220f:")


@dataclasses.dataclass(frozen=True, slots=True)
class Side:
    """The tokens of one side of an equation, and the words that are units in it."""

    tokens: tuple[Token, ...]
    units: frozenset[str]
    is_cut_decimal: bool = False
    """Dots follow it: 0.333..."""

    @property
    def is_number(self) -> bool:
        """Whether it is one number, perhaps with a sign or a percent sign."""
        kinds = [token.kind for token in self.tokens if token.kind != "percent"]
        signs = [token.value for token in self.tokens[:-1] if token.kind == "operator"]
        return kinds in (["number"], ["operator", "number"]) and signs in ([], ["-"])

    @property
    def begins_with_dash(self) -> bool:
        """A sign or the dash of a list: both are possible."""
        return self.tokens[0].value == "-"


def left_side(tokens: Sequence[Token], relation: int) -> Side | None:
    """What ends at the relation; None where it cannot be read."""
    i, depth, units = relation - 1, 0, set[str]()
    run: list[Token] = []
    while i >= 0 and len(run) <= MAX_SIDE:
        token = tokens[i]
        if token.kind == "break" and not run and not units:
            i -= 1
        elif token.kind == "word":
            begin = _units_before(tokens, i)
            if begin is None:
                break
            units |= {_singular(word.value) for word in tokens[begin : i + 1]}
            i = begin - 1
        elif token.kind not in _ARITHMETIC or (token.kind == "open" and not depth):
            break
        else:
            depth += (token.kind == "close") - (token.kind == "open")
            run.insert(0, token)
            i -= 1
    if not run or depth or len(run) > MAX_SIDE:
        return None
    side = Side(tuple(run), frozenset(units))
    return side if _is_clean_before(side, tokens, i) else None


def right_side(tokens: Sequence[Token], relation: int) -> Side | None:
    """What begins at the relation; None where it cannot be read."""
    begin = relation + 1
    while begin < len(tokens) and tokens[begin].kind == "break":
        begin += 1
    run, units, end = _run_from(tokens, begin)
    depths = list(itertools.accumulate((t.kind == "open") - (t.kind == "close") for t in run))
    if depths and depths[-1]:
        first = len(depths) - depths[::-1].index(0) if 0 in depths else 0
        place = tokens.index(run[first])
        if depths[-1] < 0 or not first or not _is_remark(tokens, place):
            return None
        run, end = run[:first], place
    if not run or len(run) > MAX_SIDE or not _is_clean_behind(run, tokens, end):
        return None
    return Side(tuple(run), units, end < len(tokens) and tokens[end].kind == "dots")


def _run_from(tokens: Sequence[Token], i: int) -> tuple[list[Token], frozenset[str], int]:
    """The arithmetic that begins here, the units in it and behind it, and where it ends."""
    run: list[Token] = []
    units: set[str] = set()
    depth = 0
    while i < len(tokens) and len(run) <= MAX_SIDE:
        token = tokens[i]
        is_unit = run and run[-1].kind in ("number", "close", "percent")
        if token.kind == "word" and is_unit and (_is_apart(tokens, i) or _is_attached(token)):
            end = _units_behind(tokens, i)
            units |= {_singular(word.value) for word in tokens[i:end]}
            if end == i or not _goes_on(tokens, end):
                break
            i = end
        elif token.kind not in _ARITHMETIC or (token.kind == "close" and not depth):
            break
        else:
            depth += (token.kind == "open") - (token.kind == "close")
            run.append(token)
            i += 1
    return run, frozenset(units), i


def _units_before(tokens: Sequence[Token], i: int) -> int | None:
    """Where the one or two words begin that end here and stand behind a number."""
    for begin in (i, i - 1):
        if begin < 1 or tokens[begin].kind != "word" or not _is_unit(tokens[begin]):
            return None
        if tokens[begin - 1].kind in ("number", "close", "percent"):
            return begin if _is_apart(tokens, begin) or _is_attached(tokens[begin]) else None
    return None


def _units_behind(tokens: Sequence[Token], i: int) -> int:
    """Where the units end that begin here: after one or two words, or none."""
    end = i
    while end < min(i + 2, len(tokens)) and tokens[end].kind == "word" and _is_unit(tokens[end]):
        end += 1
    return end


def _is_unit(token: Token) -> bool:
    word = token.value
    # Two letters, or capitals, are the names of a product or of a line in a figure: 2ab, 5AD.
    if (len(word) < 3 and not _is_attached(token)) or not word[1:].islower():
        return False
    return word.lower() not in _NO_UNITS and word.lower() not in _MEANINGFUL


def _is_attached(token: Token) -> bool:
    """Whether it may be written right behind a number: 5cm."""
    return token.value.lower() in _ATTACHED


def _goes_on(tokens: Sequence[Token], i: int) -> bool:
    """Whether an operator and an operand follow."""
    return (
        i + 1 < len(tokens)
        and tokens[i].value in ("+", "-", "*", "/")
        and tokens[i + 1].kind in ("number", "open", "fraction")
    )


def _is_apart(tokens: Sequence[Token], i: int) -> bool:
    return i > 0 and tokens[i].begin > tokens[i - 1].end


def _is_remark(tokens: Sequence[Token], i: int) -> bool:
    """Whether a bracket opens that holds words: 24 (since May)."""
    inside = tokens[i + 1] if i + 1 < len(tokens) else None
    return (
        _is_apart(tokens, i)
        and inside is not None
        and inside.kind == "word"
        and len(inside.value) > 2
    )


def _is_clean_before(side: Side, tokens: Sequence[Token], i: int) -> bool:
    """Whether the token before the side leaves its meaning alone."""
    first = side.tokens[0]
    before = tokens[i] if i >= 0 else None
    is_edge = before is None or before.kind in ("break", "relation", "open")
    is_punctuation = before is not None and before.value in (",", ".", ":", ";", "\u2014")
    if first.kind == "operator" and (first.value != "-" or not (is_edge or is_punctuation)):
        return False
    if i > 0 and before is not None and _is_torn(side.tokens, before, tokens[i - 1]):
        return False
    if before is None or is_edge:
        return True
    if before.end == first.begin and (before.kind == "word" or not is_punctuation):
        return False
    if before.kind == "word":
        word = before.value.lower()
        if side.is_number or (len(word) == 1 and word != "a"):
            return word in _BEFORE_NUMBER
        return word not in _MODIFIERS and word not in _NUMBERED
    return is_punctuation and not _splits_number(tokens, i)


def _is_torn(side: Sequence[Token], before: Token, earlier: Token) -> bool:
    """Whether the side is the rest of something longer."""
    if before.value == "and":
        return earlier.kind == "number" and _is_fraction(side, 0)  # 1 and 1/4 = ...
    if before.value == ",":  # 14, 400 / 80 = ...; (5-2), (6-2) = ...
        return earlier.kind == "close" or (earlier.kind == "number" and _is_three_digits(side, 0))
    return earlier.kind == "operator"  # .8 + . 84 = ...; 100 + (100 * 0.1 = ...


def _splits_number(tokens: Sequence[Token], i: int) -> bool:
    """Whether digits touch this token on both sides: 5:30, 3,5."""
    return (
        0 < i < len(tokens) - 1
        and tokens[i - 1].kind == tokens[i + 1].kind == "number"
        and tokens[i - 1].end == tokens[i].begin
        and tokens[i].end == tokens[i + 1].begin
    )


def _is_clean_behind(run: list[Token], tokens: Sequence[Token], i: int) -> bool:
    """Whether the token behind the side leaves its meaning alone."""
    # A superscript is an operator with its operand.
    if run[-1].kind == "operator" and run[-1].value not in ("^2", "^3"):
        return False
    if i >= len(tokens):
        return True
    behind = tokens[i]
    if behind.kind == "word":
        return _is_clean_word(run, tokens, i)
    if behind.kind == "number":
        return False
    if behind.kind == "open" and i + 1 < len(tokens):
        return tokens[i + 1].value.lower() not in ("mod", "modulo", "remainder")
    if behind.kind == "dots" and i + 1 < len(tokens) and tokens[i + 1].kind == "percent":
        return False
    if behind.value == "," and _is_three_digits(tokens, i + 1):
        return False
    is_command = behind.value.startswith("\\") and behind.kind == "other"
    return not is_command and behind.value not in _BAD_NEIGHBOURS and not _splits_number(tokens, i)


def _is_three_digits(tokens: Sequence[Token], i: int) -> bool:
    """Whether this may be the rest of a number: 14, 400."""
    return i < len(tokens) and tokens[i].kind == "number" and len(tokens[i].value) == 3


def _is_clean_word(run: list[Token], tokens: Sequence[Token], i: int) -> bool:
    word = tokens[i].value.lower()
    if tokens[i].begin == run[-1].end:
        return word in _ATTACHED
    if (len(word) == 1 and word != "a") or word in _MEANINGFUL:
        return False
    if word == "and" and _is_fraction(tokens, i + 1):
        return False
    end = _units_behind(tokens, i)
    if end > i and end < len(tokens):
        # 3 hours 30 minutes; 12 cups / day
        return tokens[end].kind not in ("number", "operator") or tokens[end].value == "-"
    return True


def _is_fraction(tokens: Sequence[Token], i: int) -> bool:
    """Whether 1/3 or (1/3) or a LaTeX fraction begins here: the rest of a mixed number."""
    values = [token.value for token in tokens[i : i + 3]]
    return values[:1] == ["\\frac"] or "/" in values[1:]


def _singular(word: str) -> str:
    return word.lower().removesuffix("s").removesuffix("e")
