r"""Read a single value: its number, its unit, a percent sign, a base.

``-\$1,000.50``, ``10\text{ cm}^2``, ``90^\circ``, ``50\%``, ``101_2``, ``1 1/2``, ``3:2``.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Sequence
from fractions import Fraction

from prm.verifiers.math.numbers import TooLargeError, based_value, exact_value
from prm.verifiers.math.phrases import unit_of
from prm.verifiers.math.spelling import DOLLAR, without_spaces
from prm.verifiers.math.units import Unit, is_known_unit, parse_unit
from prm.verifiers.math.values import Scalar, Word

_PERCENT = re.compile(r"\s*(?:%|\\text\{\s*(?:%|percent)\s*\}|\s+percent|percent)$")
_MONEY = re.compile(rf"([+-]?)\s*({re.escape(DOLLAR)}|\u20ac|\u00a3|\u20b9)\s*(.+)", re.DOTALL)
_DEGREES = re.compile(r"(.+?)\s*(\^\\circ)\s*(?:\\text\{)?\s*([CF]?)\s*\}?", re.DOTALL)
_TEXT_UNIT = re.compile(r"(.*?[^\s])\s*\\text\{([^{}]*)\}\s*(?:\^\{?([23])\}?)?", re.DOTALL)
_TEXT_RATE = re.compile(r"(.*?[^\s])\s*\\text\{([^{}]*)\}\s*/\s*\\text\{([^{}]*)\}", re.DOTALL)
_NUMBER = r"[+-]?(?:[0-9][0-9,.]*(?:/[0-9]+)?|\.[0-9]+|\\frac\{[^{}]*\}\{[^{}]*\})"
_PLAIN = re.compile(rf"({_NUMBER})(\s*)([A-Za-z\u20ac\u00a3\u20b9][A-Za-z./^0-9{{}} '-]*)")
# "16.00 on ice cream" and "25,000/year", said of money; no other number may follow.
_PHRASE = re.compile(rf"({_NUMBER})(?:\s+[A-Za-z][A-Za-z ,;'\"-]*|\s*/\s*[A-Za-z]+)")
_MIXED = re.compile(r"([+-]?)([0-9]{1,30}) ([0-9]{1,30})/([0-9]{1,30})")
_SPACED = re.compile(r"[+-]?[1-9][0-9]{0,2}(?: [0-9]{3})+(?:\.[0-9]+)?")
# Two numbers side by side, 1_000, 0x10 and 1:2:3 would be read as products and quotients; 3!! is
# 3 to some and 720 to others; F_{16} is an unknown or a numeral.
_NO_PRODUCT = re.compile(
    r"(?<![_0-9])[0-9]+\s+[0-9]|[0-9]_|(?<![0-9])0[xob]|:[^:]*:|!\s*!"
    r"|^[+-]?\(?[A-Fa-f]+\)?_\{?(?:1[1-9]|2[0-9]|3[0-6])\}?$|_\{?\\text\{sixteen\}"
)
_RATIO = re.compile(r"([0-9.]{1,30})\s*(?::|\\colon|\s+to\s+)\s*([0-9.]{1,30})")
_LONG_WORD = re.compile(
    r"(?<![\\A-Za-z])(?!(?:sqrt|sinh|cosh|tanh|arcsin|arccos|arctan)(?![A-Za-z]))[A-Za-z]{4,}"
)
_SHORT_WORD = re.compile(
    r"(?<![\\A-Za-z])(?!(?:sin|cos|tan|cot|sec|csc|log|ln|exp|max|min|gcd|lcm|mod)(?![A-Za-z]))"
    r"(?:(?<=[0-9)}$] )[A-Za-z]{2,3}(?![A-Za-z])|[A-Za-z]{2,3} [A-Za-z]{2,3}(?![A-Za-z]))"
)
_COMMAND_WORD = re.compile(
    r"\\(?:begin|end|text|operatorname|mathbb|mathcal|overline|mathrm)\{[^{}]*\}"
)
# What no plain calculator shall be asked: a tower, a long exponent, a long factorial.
_OVERSIZED = re.compile(r"[0-9]{5,}\s*\}?\)?\s*!|!\s*\)\s*!|\^\{?\s*[0-9]{7,}|[0-9]{400,}")


def read_scalar(text: str) -> Scalar | Word:
    """The value of one expression, or a `Word` when it is none.

    Raises:
        TooLargeError: arithmetic out of all proportion.
    """
    if match := _PERCENT.search(text):
        inner = _number(text[: match.start()].strip())
        return Scalar(inner.text, inner.value, is_percent=True)
    head, unit, has_unit = _split_unit(text)
    if not head or _is_wordy(head):
        return Word(text)
    plain = _number(head)
    if plain.value is None and _NO_PRODUCT.search(head):
        return Word(text)
    return Scalar(plain.text, plain.value, unit, has_unit, digits=plain.digits)


def _split_unit(text: str) -> tuple[str, Unit | None, bool]:
    """(the text without its unit, the unit, whether there was one)."""
    if match := _MONEY.fullmatch(text):
        return _split_money(text, match)
    if match := _DEGREES.fullmatch(text):
        return match[1], parse_unit(match[2] + match[3]), True
    if match := _TEXT_RATE.fullmatch(text):
        return match[1], parse_unit(f"{match[2].strip()}/{match[3].strip()}"), True
    if match := _TEXT_UNIT.fullmatch(text):
        power = f"^{match[3]}" if match[3] else ""
        name = match[2].strip() + power
        if not re.search(r"[-+*/=^_(]\s*$", match[1]) and match[2].strip():
            is_none = parse_unit(name) is None
            unit = name if is_none or (power and unit_of(match[2])) else unit_of(name)
            return (text, None, False) if unit is None else (match[1], parse_unit(unit), True)
    if match := _PLAIN.fullmatch(text):
        return _split_plain_unit(text, match)
    return text, None, False


def _split_money(text: str, match: re.Match[str]) -> tuple[str, Unit | None, bool]:
    phrase = _PHRASE.fullmatch(match[3])
    words = match[3][len(phrase[1]) :].strip().removeprefix("/") if phrase else ""
    if phrase is None or not words:
        return match[1] + match[3], parse_unit(match[2]), True
    name = unit_of(words)
    if name is None:
        return text, None, False
    unit = parse_unit(name)
    if unit is None or unit.dimension != "count":
        unit = parse_unit(match[2])
    return match[1] + phrase[1], unit, True


def in_one_unit(amounts: Sequence[Scalar]) -> Scalar | None:
    """The sum of "2 hours and 30 minutes" in the first unit; None of what is no such amount."""
    total, last = Fraction(0), None
    for one in amounts:
        if one.value is None or one.unit is None or not one.unit.is_known:
            return None
        if last and (one.unit.dimension != last.dimension or one.unit.factor >= last.factor):
            return None
        total, last = total + one.value * one.unit.factor, one.unit
    first = amounts[0]
    value = total / first.unit.factor if first.unit else total
    return dataclasses.replace(first, text=str(value), value=value)


def _split_plain_unit(text: str, match: re.Match[str]) -> tuple[str, Unit | None, bool]:
    number, space, name = match[1], match[2], match[3].strip()
    if re.fullmatch(r"[eE][+-]?[0-9]+", name) or name.split()[0] in ("to", "and", "or", "x"):
        return text, None, False
    # 5x and 2ab are products; 5 m and 5cm are amounts, and so is "5 on the table".
    if not space:
        is_unit = is_known_unit(name) and len(name) >= 2
        return (number.rstrip(",."), parse_unit(name), True) if is_unit else (text, None, False)
    unit = unit_of(name)
    return (text, None, False) if unit is None else (number.rstrip(",."), parse_unit(unit), True)


def _is_wordy(text: str) -> bool:
    """Whether a text holds words that a parser of mathematics would take for products."""
    plain = _COMMAND_WORD.sub("", text)
    return r"\text" in text or any(word.search(plain) for word in (_LONG_WORD, _SHORT_WORD))


def _number(text: str) -> Scalar:
    if _SPACED.fullmatch(text):
        text = text.replace(" ", "")
    if based := based_value(text):
        return Scalar(text, based[1], digits=based[0])
    value = exact_value(text)
    if value is None and (match := _MIXED.fullmatch(text)) and int(match[4]):
        size = int(match[2]) + Fraction(int(match[3]), int(match[4]))
        value = -size if match[1] == "-" else size
    if value is None and (match := _RATIO.fullmatch(text)):
        above, below = exact_value(match[1]), exact_value(match[2])
        value = above / below if above is not None and below else None
    if value is None and _OVERSIZED.search(text):
        raise TooLargeError(text[:60])
    return Scalar(without_spaces(text).removeprefix("+") if value is None else text, value)
