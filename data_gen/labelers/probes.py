"""Is a prefix good? Two tests on rollouts: a threshold on their share, and a sequential one."""

from __future__ import annotations

import dataclasses
import math
from typing import Protocol

from prm.errors import ConfigError


class ProbeTest(Protocol):
    """Decides on a prefix from its rollouts."""

    @property
    def max_trials(self) -> int:
        """Rollouts of a prefix at most."""
        ...

    def decide(self, successes: int, trials: int, left: int) -> bool | None:
        """Good, bad, or not decided; ``left`` more rollouts can be had.

        With none left, None says that too few could be checked.
        """
        ...


@dataclasses.dataclass(frozen=True)
class ThresholdTest:
    """Good when the share of successes is above the threshold (OmegaPRM: 0, any success).

    It decides before the last rollout where the others cannot change the answer, so that stopping
    early and going on give the same.
    """

    max_trials: int
    threshold: float

    def decide(self, successes: int, trials: int, left: int) -> bool | None:
        """See `ProbeTest.decide`."""
        is_over = not left and _enough(trials, self.max_trials)
        # Before the end, and where too much is missing: whatever the missing ones would have said.
        total = trials if is_over else self.max_trials
        if successes > self.threshold * total:
            return True
        return False if successes + total - trials <= self.threshold * total else None


@dataclasses.dataclass(frozen=True)
class SequentialTest:
    """Wald's sequential probability ratio test between two success rates.

    Each rollout adds its log-likelihood ratio; the test ends when the sum leaves
    +-log((1 - error) / error), and at the cap on the side where it stands.
    """

    bad_rate: float = 0.08
    """Success rate of a prefix that is bad..."""
    good_rate: float = 0.4
    """...and of one that is good."""
    error: float = 0.05
    """Chance of a wrong answer, of either kind, at these two rates; without the cap."""
    max_trials: int = 24
    """Rollouts at most."""

    def __post_init__(self) -> None:
        """Check the ranges.

        Raises:
            ConfigError: the rates do not rise, or one number is out of range.
        """
        if not 0 < self.bad_rate < self.good_rate < 1:
            raise ConfigError(
                f"bad_rate {self.bad_rate} and good_rate {self.good_rate}: "
                "0 < bad_rate < good_rate < 1 is needed"
            )
        if not 0 < self.error < 0.5 or self.max_trials < 1:
            raise ConfigError(
                f"error {self.error} should be above 0 and below 0.5, "
                f"max_trials {self.max_trials} at least 1"
            )

    @property
    def bound(self) -> float:
        """Where the test ends, in nats."""
        return math.log((1 - self.error) / self.error)

    def evidence(self, successes: int, trials: int) -> float:
        """The log-likelihood ratio of good against bad, in nats."""
        of_success = math.log(self.good_rate / self.bad_rate)
        of_failure = math.log((1 - self.good_rate) / (1 - self.bad_rate))
        return successes * of_success + (trials - successes) * of_failure

    def decide(self, successes: int, trials: int, left: int) -> bool | None:
        """See `ProbeTest.decide`."""
        evidence = self.evidence(successes, trials)
        if abs(evidence) >= self.bound:
            return evidence > 0
        return None if left or not _enough(trials, self.max_trials) else evidence > 0


def _enough(trials: int, max_trials: int) -> bool:
    """At least half of the rollouts could be had and checked."""
    return trials >= max(1, max_trials // 2)
