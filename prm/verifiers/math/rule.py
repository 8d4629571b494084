"""What counts as the same answer: every judgement call is a setting, none is an accident."""

from __future__ import annotations

import dataclasses
import typing
from typing import Literal

from prm.errors import ConfigError

Units = Literal["ignore_if_reference_has_none", "must_match", "ignore"]
Percent = Literal["either", "strict"]
Intervals = Literal["strict", "endpoints"]
Inequalities = Literal["as_intervals", "as_written"]
Order = Literal["tuples", "ignore"]
Boxed = Literal["optional", "required"]


@dataclasses.dataclass(frozen=True, slots=True)
class MathRule:
    r"""How an answer is compared with the reference. The defaults suit GSM8K and MATH."""

    units: Units = "ignore_if_reference_has_none"
    """Where both have one they must agree (100 cm is 1 m); "must_match": or both have none."""
    percent: Percent = "either"
    """``50\\%`` is 0.5 and, "either", also 50: references write "what percent" both ways."""
    intervals: Intervals = "strict"
    """[1,2] is not (1,2); "endpoints": the brackets do not matter."""
    inequalities: Inequalities = "as_intervals"
    """``x > 2`` is ``(2,\\infty)``, both ways; "as_written": only another inequality is it."""
    order: Order = "tuples"
    """(1,2) is not (2,1), bare lists and sets have no order; "ignore": nothing has."""
    tolerance: float = 0.0
    """Relative error that two numbers may have; 0 = exact, so 0.333333 is not 1/3."""
    boxed: Boxed = "optional"
    """The last box is the answer where there is one; "required": without one there is none."""
    choices: bool = True
    """A, (A), A. and ``\\text{A}`` are one choice of several; so is "(A) 12" against A."""
    words: bool = True
    """yes and true, no and false are answers that can differ; other words can only agree."""
    max_length: int = 1000
    """Characters of an answer; a longer one is not compared."""
    max_depth: int = 20
    """Brackets within brackets; the parser's time doubles with a few more."""

    def __post_init__(self) -> None:
        """Refuse words and numbers that no rule has.

        Raises:
            ConfigError: the setting and the values that it may have are named.
        """
        hints = typing.get_type_hints(type(self))
        for field in dataclasses.fields(self):
            value, allowed = getattr(self, field.name), typing.get_args(hints[field.name])
            if allowed and value not in allowed:
                raise ConfigError(f"{field.name}: {value!r} is not one of {list(allowed)}")
        if not 0 <= self.tolerance < 1:
            raise ConfigError(f"tolerance: {self.tolerance} is not in [0, 1)")
        if self.max_length < 1 or self.max_depth < 1:
            raise ConfigError("max_length and max_depth: at least 1")
