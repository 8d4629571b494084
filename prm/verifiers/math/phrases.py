"""Words behind a number: the unit that they name, unless they may change the number.

"12 boxes of pens", "575 at the spa", "$5 in all" are amounts; "2 squared", "5 below zero" and
"6 divided by two" are not, and neither is any phrase of an unknown form: better left unread.
"""

from __future__ import annotations

import re

from prm.verifiers.math.units import SCALES, is_known_unit


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


_NUMERALS = _words(
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen "
    "sixteen seventeen eighteen nineteen twenty thirty forty fifty sixty seventy eighty ninety"
)
# Between the words of a phrase these change nothing, but they are no units.
_JOINING = _words("at in on for per of the a an is are was were with this that")
_CHANGING = _NUMERALS | _words(
    "squared cubed square cube root power powers factorial factorials factor base binary octal "
    "hexadecimal decimal decimals over under above below beneath minus plus less more fewer times "
    "divided multiplied divides modulo mod remainder remainders rem negative positive short ago "
    "debt loss lost owed overdrawn red hole arrears deficit shortfall down up behind ahead before "
    "after most least max maximum minimum min to from by than without and or not out off into "
    "through if but except half halves halved quarter quarters double doubled triple tripled twice "
    "thrice pair pairs couple couples score scores percent percentage percents cent percentile bps "
    "trillions quadrillion quadrillions googol pi mole moles infinity approximately about roughly "
    "nearly almost inverse reciprocal mil mille bn mn thou grand lakh lakhs crore crores"
)
_FRACTION = re.compile(
    r"(?:third|fourth|fifth|sixth|seventh|eighth|ninth|tenth|eleventh|twelfth|[a-z]+teenth"
    r"|[a-z]+tieth|[a-z]+(?:hundred|thousand|illion)th|hundredth|thousandth)s?"
)
_NOUN = r"[A-Za-z][A-Za-z'-]{2,}"
_WORD = r"[A-Za-z][A-Za-z'-]*"
_TAIL = (
    r" (?:in|on|at|for|during|this|left|altogether|together|remaining|old|long|tall|wide|high|deep"
    rf"|now|total)(?: {_WORD})*"
)
_FORM = re.compile(
    rf"(?P<unit>(?:(?:square|sq\.?|cubic|cu\.?) )?{_WORD})?(?P<of> of {_NOUN})?"
    rf"(?P<rate> (?:per|a|an|each|every) {_NOUN})?(?P<tail>{_TAIL})?"
)


def unit_of(phrase: str) -> str | None:
    """The unit in the words; empty where they name none, None where they may change the number."""
    phrase = " ".join(phrase.split()).rstrip(".,;")
    if phrase == "M":
        return None  # Of "$5 M" a million, and no metres.
    # "3 times a number" is a product, "22 times" is not.
    if is_known_unit(phrase) or phrase == "times":
        return phrase
    first, _, rest = phrase.partition(" ")
    if first.removesuffix("s") in SCALES:
        # Of "$1.5 million" the million matters more than the money.
        is_plain = rest.partition(" ")[0].removesuffix("s") not in SCALES
        return first if not rest or (is_plain and unit_of(rest) is not None) else None
    for text in (f" {phrase}", phrase):
        # A phrase may begin with what stands behind a unit: "in total" is no inch.
        match = _FORM.fullmatch(text)
        if match and (match["unit"] or text[0] == " ") and _is_harmless(match):
            unit = match["unit"] or ""
            behind = "" if is_known_unit(unit) else match["of"] or ""
            rate = f" per {match['rate'].split()[1]}" if match["rate"] else ""
            return (unit + behind + rate).strip()
    return None


def _is_harmless(match: re.Match[str]) -> bool:
    """Whether no word of the phrase could change the number before it."""
    unit = match["unit"] or ""
    if unit and not is_known_unit(unit):
        is_noun = len(unit) >= 3 and " " not in unit and unit.casefold() not in _JOINING
        if not is_noun or _changes(unit):
            return False
    return not any(_changes(word) for word in match[0][len(unit) :].split())


def _changes(word: str) -> bool:
    word = word.casefold()
    is_numeral = any(part in _NUMERALS for part in word.split("-"))
    is_scale = word.removesuffix("s") in SCALES
    return word in _CHANGING or is_numeral or is_scale or _FRACTION.fullmatch(word) is not None
