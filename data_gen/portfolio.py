"""A portfolio: which strategy each of a problem's samples is asked with."""

from __future__ import annotations

import math
from collections.abc import Mapping
from fractions import Fraction

from prm.errors import ConfigError


def spread(weights: Mapping[str, float], n: int) -> list[str]:
    """The strategies of samples 0 to n - 1, in proportion to their weights and well mixed.

    More samples go on where fewer ended: ``spread(w, 8)`` begins with ``spread(w, 4)``. Of equals
    the first in the alphabet has its turn: the order of the weights decides nothing. The rule is
    nginx's smooth weighted round robin.

    Raises:
        ConfigError: no weights, one that is not a positive finite number, or a negative ``n``.
    """
    if n < 0:
        raise ConfigError(f"the number of samples should not be negative, found {n}")
    shares = _shares(weights)
    total = sum(shares.values())
    due = dict.fromkeys(shares, Fraction(0))
    chosen = []
    for _ in range(n):
        for name, share in shares.items():
            due[name] += share
        # max gives the first of equals, and the shares are in the order of their names.
        name = max(due, key=due.__getitem__)
        due[name] -= total
        chosen.append(name)
    return chosen


def _shares(weights: Mapping[str, float]) -> dict[str, Fraction]:
    if not weights:
        raise ConfigError("a portfolio needs at least one strategy with a weight")
    for name, weight in weights.items():
        if not (math.isfinite(weight) and weight > 0):
            raise ConfigError(
                f"the weight of strategy {name!r} should be a positive number, found {weight}; "
                "to do without a strategy, leave it out"
            )
    # By their digits: 0.1, 0.2 and 0.3 are 1 to 2 to 3, without the rounding of binary numbers.
    return {name: Fraction(str(weights[name])) for name in sorted(weights)}
