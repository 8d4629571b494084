r"""Read an answer: ``x = (1, 2]`` is a name, brackets and two numbers.

In goes a text that `prm.verifiers.math.spelling.even_out` has been over, out comes a value of
`prm.verifiers.math.values`. Nothing is calculated but plain arithmetic.
"""

from __future__ import annotations

import re

from prm.verifiers.math.scalars import in_one_unit, read_scalar
from prm.verifiers.math.splitting import brackets, split_top, without_braces
from prm.verifiers.math.values import Choice, Group, Matrix, Named, Region, Scalar, Value, Word

_CHOICE = re.compile(r"\(?(?:\\text\{)?\s*\(?([A-J])[.):]?\s*\}?\)?")
_LEADING_CHOICE = re.compile(r"(?:\\text\{)?\s*\(?([A-J])(?:\)|\.|:)\}?\s*\S")
_WHOLE_TEXT = re.compile(r"\\text\{\s*([^{}]*?)\s*\}")
_YES_NO = {"yes": "yes", "true": "yes", "no": "no", "false": "no"}
_EMPTY = {r"\emptyset", r"\{\}", r"\{ \}", "no solution", "no solutions", "none", r"\text{none}"}
_REALS = {r"\mathbb{R}", "all real numbers", "all reals", r"\text{all real numbers}"}

_COMMA = re.compile(r"\s*[,;]\s*(?:(?:and|or)\s)?|\s+(?:and|or)\s+")
_THOUSANDS = re.compile(r"[+-]?(?:\\dollar ?)?[1-9][0-9]{0,2}(?:,[0-9]{3})+(?![0-9])")
_PADDED = re.compile(r"[+-]?[1-9][0-9]{0,2}(?:,[0-9]{3})*,0[0-9]{2}(?:,[0-9]{3})*")
# A number never begins with 0 in a list: this is 1,000.
_SPACED_PADDED = re.compile(
    r"[+-]?(?:\\dollar ?)?[1-9][0-9]{0,2}(?:, [0-9]{3})*, 0[0-9]{2}(?:, [0-9]{3})*"
)
_CUP = re.compile(r"\s*\\cup(?![A-Za-z])\s*")
_RELATION = re.compile(r"\s*(?:\\le|\\ge|\\ne|\\in|\\approx|\\equiv)(?![A-Za-z])\s*|\s*[<>=]\s*")
_NAME = re.compile(r"(?:[A-Za-z]|\\[A-Za-z]+)[A-Za-z0-9\\_{}'(), ]{0,40}")
_VARIABLE = re.compile(r"(?:[A-Za-z]|\\[A-Za-z]+)(?:_\{?[A-Za-z0-9]+\}?)?")
_MATRIX = re.compile(
    r"[\[(]?\s*\\begin\{([pbB]?matrix|array|smallmatrix)\}(?:\{[lcr| ]*\})?(.*)"
    r"\\end\{\1\}\s*[\])]?",
    re.DOTALL,
)
_FUNCTION = re.compile(r"\\(?:frac|sqrt|sin|cos|tan|log|ln|binom|sum|int|lim)(?![A-Za-z])")
_FLIPPED = {"<": ">", ">": "<", r"\le": r"\ge", r"\ge": r"\le", r"\ne": r"\ne"}


def read(text: str, *, choices: bool = True, words: bool = True) -> Value:
    """The value that the text states.

    Raises:
        TooLargeError: arithmetic out of all proportion.
    """
    if choices and (match := _CHOICE.fullmatch(text)):
        return Choice(match[1])
    bare = re.sub(r"\\text\{\s*([^{}]*?)\s*\}", r"\1", text).casefold()
    if words and bare in _YES_NO:
        return Choice(_YES_NO[bare])
    if bare in _EMPTY or text in _EMPTY:
        return Group(r"\{", r"\}", ())
    if bare in _REALS or text in _REALS:
        return _interval("(", Scalar(r"-\infty"), Scalar(r"\infty"), ")")
    whole = _WHOLE_TEXT.fullmatch(text)
    return _read(whole[1] if whole else text)


def leading_choice(text: str) -> Choice | None:
    """The letter in front of what it stands for: "(A) 12"."""
    match = _LEADING_CHOICE.match(text)
    return Choice(match[1]) if match else None


def _read(text: str) -> Value:
    text = without_braces(text)
    if _SPACED_PADDED.fullmatch(text):
        text = text.replace(", ", ",")
    parts, cups = split_top(text, _CUP)
    if cups:
        return _union([_read(part) for part in parts], text)
    pieces, joiners = split_top(_expand_plus_minus(text), _COMMA)
    if joiners and not _is_one_number(text):
        return _list(pieces, joiners, text)
    if matrix := _matrix(text):
        return matrix
    if enclosed := brackets(text):
        return _enclosed(*enclosed, text)
    return _relation(text)


def _is_one_number(text: str) -> bool:
    match = _THOUSANDS.match(text)
    return match is not None and "," not in text[match.end() :] and ";" not in text[match.end() :]


def _list(pieces: list[str], joiners: list[str], text: str) -> Value:
    items = [_read(piece) for piece in pieces if piece]
    if any(isinstance(item, Word) for item in items) or len(items) != len(pieces):
        return Word(text)
    if any(_is_relation(item) for item in items):
        # "x < 1 or x > 2" is a union; joined by a comma it may be both at once.
        return _union(items, text) if set(joiners) == {"or"} else Word(text)
    amounts = [item for item in items if isinstance(item, Scalar)]
    if "or" not in joiners and len({item.unit for item in amounts if item.unit}) > 1:
        # "5 apples and 3 oranges" may be a list, or 8 of something.
        is_whole = len(amounts) == len(items)
        return (in_one_unit(amounts) if is_whole else None) or Word(text)
    return Group("", "", tuple(items))


def _is_relation(item: Value) -> bool:
    value = item.value if isinstance(item, Named) else None
    return isinstance(value, Region) or (isinstance(value, Group) and value.from_relation)


def _union(items: list[Value], text: str) -> Value:
    parts: list[Group] = []
    for item in items:
        value = item.value if isinstance(item, Named) else item
        if isinstance(value, Region):
            parts.extend(value.parts)
        elif isinstance(value, Group) and (value.is_interval or value.begin == r"\{"):
            parts.append(value)
        else:
            return Word(text)
    return Region(tuple(parts))


def _expand_plus_minus(text: str) -> str:
    r"""``1 \pm \sqrt{2}`` as the list of two that it stands for."""
    if text.count(r"\pm") + text.count(r"\mp") != 1 or "," in text:
        return text
    name, equals, value = text.rpartition("=")
    signs = ("+", "-") if r"\pm" in value else ("-", "+")
    return ", ".join(name + equals + re.sub(r"\\[pm][mp]\s*", sign, value) for sign in signs)


def _enclosed(begin: str, inside: str, end: str, text: str) -> Value:
    if not inside:
        return Group(r"\{", r"\}", ()) if begin == r"\{" else Word(text)
    pieces, joiners = split_top(_expand_plus_minus(inside), _COMMA)
    if begin == r"\langle":
        begin, end = "(", ")"
    if begin != r"\{" and (not joiners or _PADDED.fullmatch(inside)):
        # One value in brackets is that value; (x+1)(x-1) never comes here.
        return _read(inside) if begin + end == "()" else Group(begin, end, (_read(inside),))
    items = [_read(piece) for piece in pieces if piece]
    if any(isinstance(item, Word) for item in items) or len(items) != len(pieces):
        return Word(text)
    return Group(begin, end, tuple(items))


def _matrix(text: str) -> Matrix | None:
    match = _MATRIX.fullmatch(text)
    if not match or r"\begin" in match[2]:
        return None
    rows = [row for row in match[2].replace(r"\hline", "").split(r"\\") if row.strip()]
    cells = tuple(tuple(_read(cell.strip()) for cell in row.split("&")) for row in rows)
    return Matrix(cells)


def _relation(text: str) -> Value:
    sides, signs = split_top(text, _RELATION)
    if not signs or not all(sides):
        return read_scalar(text)
    if set(signs) <= {"=", r"\approx"}:
        return _equation(sides, signs, text)
    if signs == [r"\in"] and _NAME.fullmatch(sides[0]):
        return Named(sides[0], _read(sides[1]), text)
    if len(signs) == 1 and signs[0] in _FLIPPED:
        return _inequality(sides[0], signs[0], sides[1], text)
    if len(signs) == 2 and set(signs) in ({"<"}, {r"\le"}, {"<", r"\le"}):
        return _between(sides, [sign == "<" for sign in signs], text)
    if len(signs) == 2 and set(signs) in ({">"}, {r"\ge"}, {">", r"\ge"}):
        return _between(sides[::-1], [sign == ">" for sign in signs[::-1]], text)
    return Scalar(text)


def _equation(sides: list[str], signs: list[str], text: str) -> Value:
    if _NAME.fullmatch(sides[0]) and not (len(signs) == 1 and _is_product(sides[0])):
        return Named(sides[0], _read(sides[-1]), text)
    if len(signs) == 1 and signs[0] == "=" and _VARIABLE.fullmatch(sides[1]):
        return Named(sides[1], _read(sides[0]), text)
    if signs[0] == r"\approx":
        return _read(sides[0])
    values = [_read(side) for side in sides]
    if all(isinstance(value, Scalar) and value.value is not None for value in values):
        return values[-1]
    return Scalar(text)


def _is_product(name: str) -> bool:
    r"""Whether a text that looks like a name is an expression: ``\frac{x}{2}``, ``\sin x``."""
    return _FUNCTION.match(name) is not None


def _inequality(left: str, sign: str, right: str, text: str) -> Value:
    if not _VARIABLE.fullmatch(left):
        left, sign, right = right, _FLIPPED[sign], left
    if not _VARIABLE.fullmatch(left):
        return Scalar(text)
    bound = _read(right)
    if sign == r"\ne":
        below = _interval("(", Scalar(r"-\infty"), bound, ")", from_relation=True)
        above = _interval("(", bound, Scalar(r"\infty"), ")", from_relation=True)
        return Named(left, Region((below, above)), text)
    if sign in (">", r"\ge"):
        begin = "(" if sign == ">" else "["
        interval = _interval(begin, bound, Scalar(r"\infty"), ")", from_relation=True)
        return Named(left, interval, text)
    end = ")" if sign == "<" else "]"
    interval = _interval("(", Scalar(r"-\infty"), bound, end, from_relation=True)
    return Named(left, interval, text)


def _between(sides: list[str], is_open: list[bool], text: str) -> Value:
    if not _VARIABLE.fullmatch(sides[1]):
        return Scalar(text)
    begin, end = "(" if is_open[0] else "[", ")" if is_open[1] else "]"
    interval = _interval(begin, _read(sides[0]), _read(sides[2]), end, from_relation=True)
    return Named(sides[1], interval, text)


def _interval(
    begin: str, low: Value, high: Value, end: str, *, from_relation: bool = False
) -> Group:
    return Group(begin, end, (low, high), from_relation)
