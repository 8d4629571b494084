r"""One spelling for one thing: ``\dfrac12``, ``\frac 1 2`` and ``½`` become ``\frac{1}{2}``.

What is written is kept: nothing is calculated, and no word, unit or bracket is dropped.
"""

from __future__ import annotations

import re

DOLLAR = r"\dollar"
"""Money, apart from the dollars that enclose mathematics."""
_SIGNS = {
    "\u2212": "-", "\u2013": "-", "\u00d7": r"\times ", "\u00f7": r"\div ", "\u00b7": r"\cdot ",
    "\u2264": r"\le ", "\u2265": r"\ge ", "\u2260": r"\ne ", "\u221e": r"\infty ",
    "\u222a": r"\cup ", "\u2229": r"\cap ", "\u2205": r"\emptyset ", "\u00b0": r"^\circ ",
    "\u2208": r"\in ", "\u211d": r"\mathbb{R}", "\u00b1": r"\pm ", "\u2248": r"\approx ",
    "\u00b2": "^2", "\u00b3": "^3", "\u221a": r"\sqrt", "\u03b8": r"\theta ", "\u03c0": r"\pi ",
    "\u00bd": r"\frac{1}{2}", "\u00bc": r"\frac{1}{4}", "\u00be": r"\frac{3}{4}",
    "\u2019": "'", "\u00a0": " ", "\u202f": " ",
}  # fmt: skip
_FULL_WIDTH = {chr(code): chr(code - 0xFEE0) for code in range(0xFF01, 0xFF5F)}
_CHARACTERS = str.maketrans(_SIGNS | _FULL_WIDTH)

# A line break of a matrix comes first: its second backslash is no part of what follows.
_SPACE = re.compile(r"(?P<row>\\\\)|\\[,;: ]|\\!|~|\\q?quad(?![A-Za-z])|\s")
_TEXT = r"\\(?:text(?:bf|rm|it|normal)?|math(?:rm|bf|it|sf)|mbox|hbox|bold|textsc)\s*"
_ARGUMENT = r"(\{[^{}]*\}|\\[A-Za-z]+|[A-Za-z0-9])"
_REWRITES = tuple(
    (re.compile(pattern), replacement)
    for pattern, replacement in (
        (r"\\(?:left|right|[bB]igg?[lr]?|displaystyle|limits)(?![A-Za-z])\.?", ""),
        (r"\\!|\\[hv]?phantom\s*(?:\{[^{}]*\}|.)", ""),
        (r"\{,\}", ","),
        (r"\\(?:lbrace|lbrack|rbrace|rbrack)(?![A-Za-z])", lambda m: {
            "lbrace": r"\{", "rbrace": r"\}", "lbrack": "[", "rbrack": "]"}[m[0][1:]]),
        (r"\\[dtc]frac(?![A-Za-z])", r"\\frac"),
        (r"\\[dt]binom(?![A-Za-z])", r"\\binom"),
        (r"\{([^{}]*)\\choose(?![A-Za-z])([^{}]*)\}", r"\\binom{\1}{\2}"),
        (rf"\\(frac|binom)\s*{_ARGUMENT}\s*{_ARGUMENT}", lambda m: (
            rf"\{m[1]}{_braced(m[2])}{_braced(m[3])}")),
        (r"\\(frac|binom)\s*([A-Za-z0-9])", r"\\\1{\2}"),
        (r"(\\(?:frac|binom)\{(?:[^{}]|\{[^{}]*\})*\})\s*([A-Za-z0-9])", r"\1{\2}"),
        (r"\\sqrt\s*([A-Za-z0-9])", r"\\sqrt{\1}"),
        (r"(?<![A-Za-z\\])sqrt\s*\(([^()]*)\)", r"\\sqrt{\1}"),
        (r"\\sqrt\s*\(([^()]*)\)", r"\\sqrt{\1}"),
        (r"\\degrees?(?![A-Za-z])", r"^\\circ"),
        (r"\^\s*\{\s*\\circ\s*\}", r"^\\circ"),
        (r"\\(?:leq|leqslant)(?![A-Za-z])|<=", r"\\le "),
        (r"\\(?:geq|geqslant)(?![A-Za-z])|>=", r"\\ge "),
        (r"\\(?:neq|not\s*=)(?![A-Za-z])|!=", r"\\ne "),
        (r"\\lt(?![A-Za-z])", "<"),
        (r"\\gt(?![A-Za-z])", ">"),
        (r"\\(?:varnothing|O)(?![A-Za-z])", r"\\emptyset "),
        (r"\\(?:mathbb|mathbf|Bbb)\s*\{?\s*R\s*\}?|\\R(?![A-Za-z])|\\reals", r"\\mathbb{R}"),
        (r"([\^_])\{\s*(\\[A-Za-z]+|[A-Za-z0-9])\s*\}", r"\1\2"),
        (r"\*\*", "^"),
        # Ordinals: 12^{\text{th}} and 12th are 12.
        (r"(?<=[0-9])\s*\^\s*\{?\s*(?:\\text\{\s*)?(?:st|nd|rd|th)\s*\}*", " "),
        (r"(?<=[0-9])(?:st|nd|rd|th)(?![A-Za-z])", " "),
    )
)  # fmt: skip
_WORDS = re.compile(_TEXT + r"\{([^{}]*)\}")
_JOINERS = re.compile(r"[,;]?\s*\\text\{\s*(and|or)\s*\}\s*", re.IGNORECASE)
_MARKDOWN = re.compile(r"\*\*([^*]+)\*\*|__([^_]+)__")


def even_out(text: str) -> str:
    """The same text in one spelling; spaces are kept, one each."""
    # Markdown first: a power is written ** too, but never around the whole.
    text = text.strip()
    if whole := _MARKDOWN.fullmatch(text):
        text = whole[1] or whole[2]
    text = _without_delimiters(text.translate(_CHARACTERS).strip())
    text = _WORDS.sub(lambda match: rf"\text{{{match[1]}}}", text)
    text = _JOINERS.sub(lambda match: f" {match[1].lower()} ", text)
    for pattern, replacement in _REWRITES:
        text = pattern.sub(replacement, text)
    text = _SPACE.sub(lambda match: match["row"] or " ", text)
    return _without_point(" ".join(text.split()).rstrip(",;").removeprefix(r"\approx "))


def without_spaces(text: str) -> str:
    """Only the spaces between two letters or digits are left: ``1 2`` is not ``12``."""
    return re.sub(r"(?<![A-Za-z0-9]) | (?![A-Za-z0-9])", "", text)


def depth(text: str) -> int:
    """How many brackets are open at most; unbalanced ones count too."""
    deepest = level = 0
    for character in text:
        if character in "([{":
            level += 1
            deepest = max(deepest, level)
        elif character in ")]}":
            level -= 1
    return deepest


def _without_delimiters(text: str) -> str:
    text = _without_point(text).replace(r"\$", DOLLAR)
    for begin, end in ((r"\(", r"\)"), (r"\[", r"\]")):
        if text.startswith(begin) and text.endswith(end):
            text = text[len(begin) : -len(end)]
    # Two formulas with nothing between are no product of the two.
    text = re.sub(r"(?<=[^$])\$\s+\$(?=[^$])", r"$\\text{ ? }$", text)
    # A pair of dollars encloses mathematics, a single one is money.
    text = text.replace("$", "" if text.count("$") % 2 == 0 else DOLLAR)
    return text.replace(r"\%", "%").replace(r"\#", "#")


def _without_point(text: str) -> str:
    return text[:-1].rstrip() if text.endswith(".") and not text.endswith("..") else text


def _braced(argument: str) -> str:
    return argument if argument.startswith("{") else f"{{{argument}}}"
