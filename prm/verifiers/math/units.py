"""Units: which are the same, which can be converted, and which merely look like words."""

from __future__ import annotations

import dataclasses
import re
from fractions import Fraction


@dataclasses.dataclass(frozen=True, slots=True)
class Unit:
    """A unit; of one ``dimension``, units differ by their ``factor`` only.

    An unknown one (``students``) has itself as its dimension, with a leading "?".
    """

    dimension: str
    factor: Fraction

    @property
    def is_known(self) -> bool:
        """Whether it stands in this module's table."""
        return not self.dimension.startswith("?")


# dimension: names = factor to the first of its line.
_TABLE = """
length: m meter metre = 1; cm centimeter centimetre = 1/100; mm millimeter millimetre = 1/1000
length: km kilometer kilometre = 1000; ft foot feet = 381/1250; in inch = 127/5000
length: yd yard = 1143/1250; mi mile = 201168/125
mass: g gram = 1; kg kilogram = 1000; mg milligram = 1/1000; lb lbs pound = 45359237/100000
mass: oz ounce = 45359237/1600000; ton tonne = 1000000
time: s sec second = 1; min minute = 60; h hr hour = 3600; day = 86400; week = 604800; ms = 1/1000
years: yr year = 1; month = 1/12
volume: L l liter litre = 1; ml mL milliliter millilitre = 1/1000; gallon gal = 473176473/125000000
dollar: dollar usd USD \\dollar = 1; cent = 1/100
euro: euro \u20ac = 1
sterling: \u00a3 = 1
rupee: rupee \u20b9 Rs = 1
angle: degree deg ^\\circ = 1
radian: radian rad = 1
celsius: ^\\circC = 1
fahrenheit: ^\\circF = 1
count: dozen = 12; hundred = 100; thousand = 1000; million = 1000000; billion = 1000000000
count: trillion = 1000000000000
speed: mph = 1397/3125; kmh kph = 5/18
"""
SCALES = {"dozen", "hundred", "thousand", "million", "billion", "trillion"}
"""Words that multiply; they are units of the dimension "count"."""
_NONE = {"units", "unit", "squareunits", "cubicunits", "sq.units", "squnits"}
_POWER = re.compile(r"(.+?)\^?\{?([23])\}?")
_WORDY_POWER = re.compile(r"(square|sq\.?|cubic|cu\.?)\s*(.+)")


def _read_table() -> dict[str, Unit]:
    units = {}
    for line in _TABLE.strip().splitlines():
        dimension, _, entries = line.partition(":")
        for entry in entries.split(";"):
            names, _, factor = entry.partition("=")
            for name in names.split():
                units[name] = Unit(dimension, Fraction(factor.strip()))
    return units


_UNITS = _read_table()


def parse_unit(text: str) -> Unit | None:
    """The unit, or None where the words say only "units"."""
    text = text.strip().strip(".").strip()
    if text.replace(" ", "").casefold() in _NONE or not text:
        return None
    name = " ".join(text.casefold().split()).removesuffix("s")
    return _known(text) or Unit(f"?{name}", Fraction(1))


def factors(dimension: str) -> frozenset[Fraction]:
    """The factors of all units of the table that have the dimension."""
    return frozenset(unit.factor for unit in _UNITS.values() if unit.dimension == dimension)


def is_known_unit(text: str) -> bool:
    """Whether the text is a unit of the table, or one made of them (``km/h``, ``cm^2``)."""
    return _known(text.strip()) is not None


def _known(text: str) -> Unit | None:
    for separator in (" per ", "/"):
        above, found, below = text.partition(separator)
        if found:
            return _quotient(_known(above.strip()), _known(below.strip()))
    if match := _WORDY_POWER.fullmatch(text):
        return _raised(_single(match[2]), 2 if match[1].startswith("sq") else 3)
    if unit := _single(text):
        return unit
    match = _POWER.fullmatch(text.replace(" ", ""))
    return _raised(_single(match[1]), int(match[2])) if match else None


def _single(name: str) -> Unit | None:
    name = name.replace(" ", "")
    for form in (name, name.casefold(), name.removesuffix("s"), name.casefold().removesuffix("s")):
        if form in _UNITS:
            return _UNITS[form]
    plural = name.casefold().removesuffix("es")
    return _UNITS.get(plural) if name.endswith("es") else None


def _raised(unit: Unit | None, power: int) -> Unit | None:
    return Unit(f"{unit.dimension}^{power}", unit.factor**power) if unit else None


def _quotient(above: Unit | None, below: Unit | None) -> Unit | None:
    if above is None or below is None:
        return None
    if (above.dimension, below.dimension) == ("length", "time"):
        return Unit("speed", above.factor / below.factor)
    return Unit(f"{above.dimension}/{below.dimension}", above.factor / below.factor)
