"""Synthetic policies with a known first error: what labelers are compared on.

A world is anything with the three members of `World`; ``make bench-labelling
WORLD=module:function`` takes a function ``(seed: int) -> list[World]`` of your own. It runs in
a process of its own, and a labeler gets nothing of it but the solutions and rollouts.

The worlds of this file. A problem has a success rate p0, drawn around a mean. Each of its
solutions splits the risk of an error unevenly over its 5 to 20 steps, so that a few steps are hard;
this fixes the success rate of every correct prefix, V_t = prod_{s>t} (1 - risk_s), and where errors
happen. After an error rollouts still reach the right answer at a rate of the solution's own, drawn
around q; on the way to a wrong answer it fades to 0, on the way to a right one it rises to 1. The
checker is noisy. The other shapes are harder (some of them the Bayesian labeler can learn: it knows
of dips and of early and late errors; worlds of your own are the sharper test):

    dips      some of the correct prefixes are hard to go on from: success x ``dip_rate``
    bimodal   a wrong prefix is either harmless (0.75) or deadly (0.02), q on average
    early     the risk lies in the first steps
    late      the risk lies in the last steps
    exact     V counts recoveries too, so the risk of a step is larger where recovery is likely
    shared    the solutions of a problem have the same number of steps and the same hard ones
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Literal, Protocol

import numpy as np

from prm.records import Solution

Shape = Literal["base", "dips", "bimodal", "early", "late", "exact", "shared"]

P0S = (0.2, 0.5, 0.8)
QS = (0.0, 0.05, 0.1, 0.2, 0.3)
HARD_QS = (0.5, 0.7)
"""Recovery so likely that rollouts cannot tell a wrong prefix from a right one."""
OTHER_SHAPES: tuple[Shape, ...] = ("dips", "bimodal", "early", "late", "exact", "shared")


class World(Protocol):
    """Solutions with a hidden truth, and rollouts from their prefixes."""

    name: str
    solutions: Sequence[Solution]
    first_errors: Sequence[int | None]
    """The truth, for the judge alone: the first wrong step of each solution, or None."""

    def rollout(self, solution: int, kept: int, draw: int) -> tuple[bool | None, int]:
        """Rollout number ``draw`` of a solution's prefix: reached the answer?, tokens generated.

        The same three numbers give the same rollout. With all steps kept: the solution's own
        verdict as the checker sees it, and no tokens.
        """
        ...


@dataclasses.dataclass(frozen=True)
class WorldConfig:
    """The parameters of one cell."""

    p0: float
    q: float
    shape: Shape = "base"
    min_steps: int = 5
    max_steps: int = 20
    tokens_per_step: float = 36.0
    concentration: float = 6.0
    """Of the Beta distributions of p0 over problems and of q over solutions."""
    unevenness: float = 0.6
    """Of the Dirichlet distribution of the risk over the steps."""
    rollout_noise: float = 0.01
    verdict_noise: float = 0.005
    solutions_per_problem: int = 8
    dip_share: float = 0.2
    dip_rate: float = 0.15
    tilt: float = 4.0
    """Of ``early`` and ``late``: the risk at one end is about e^tilt times that at the other."""

    @property
    def name(self) -> str:
        """``p0=0.5 q=0.1 dips``."""
        shape = "" if self.shape == "base" else f" {self.shape}"
        return f"p0={self.p0:g} q={self.q:g}{shape}"


def base_cells() -> list[WorldConfig]:
    """The cells whose assumptions hold."""
    return [WorldConfig(p0, q) for p0 in P0S for q in QS]


def other_cells() -> list[WorldConfig]:
    """The cells whose assumptions fail, at two rates of success."""
    cells = [WorldConfig(p0, 0.1, shape) for shape in OTHER_SHAPES for p0 in (0.5, 0.8)]
    return [
        *cells,
        WorldConfig(0.5, 0.1, min_steps=5, max_steps=8),
        WorldConfig(0.5, 0.1, unevenness=3.0),
        WorldConfig(0.5, 0.1, rollout_noise=0.04, verdict_noise=0.02),
        # Other constants than those of the cells above.
        WorldConfig(0.8, 0.1, "dips", dip_share=0.35, dip_rate=0.4),
        WorldConfig(0.8, 0.1, "dips", dip_share=0.1, dip_rate=0.03),
        WorldConfig(0.5, 0.1, "early", tilt=2.7),
        WorldConfig(0.5, 0.1, concentration=2.0),
    ]


def hopeless_cells() -> list[WorldConfig]:
    """The cells where a labeler should say that it does not know."""
    return [WorldConfig(0.5, q) for q in HARD_QS]


@dataclasses.dataclass(frozen=True)
class _Draft:
    """One solution with its hidden state; rates by the number of steps kept."""

    rates: np.ndarray
    first_error: int | None
    right: bool


class SyntheticWorld:
    """Satisfies `World`."""

    def __init__(self, config: WorldConfig, seed: int, min_wrong: int = 1000) -> None:
        """Draw problems until at least ``min_wrong`` solutions have a wrong final answer."""
        self.config = config
        self.name = config.name
        self.seed = seed
        self.solutions: list[Solution] = []
        self.first_errors: list[int | None] = []
        self._drafts: list[_Draft] = []
        self._draws: dict[tuple[int, int], tuple[np.ndarray, np.ndarray]] = {}
        rng, wrong, problem = np.random.default_rng(seed), 0, 0
        while wrong < min_wrong:
            for k, draft in enumerate(_problem(config, rng)):
                self._add(f"world/{problem:05}", k, draft)
                wrong += not draft.right
            problem += 1

    def _add(self, problem_id: str, k: int, draft: _Draft) -> None:
        steps = tuple(f"step {t} of solution {k}" for t in range(len(draft.rates) - 1))
        answer = "right" if draft.right else "wrong"
        self.solutions.append(
            Solution(f"{problem_id}#{k}", problem_id, steps, answer, "stop", "world", "world")
        )
        self.first_errors.append(draft.first_error)
        self._drafts.append(draft)

    def rollout(self, solution: int, kept: int, draw: int) -> tuple[bool | None, int]:
        """See `World.rollout`."""
        rates = self._drafts[solution].rates
        if kept == len(rates) - 1:
            return self._verdict(solution), 0
        key = solution, kept
        while key not in self._draws or draw >= len(self._draws[key][0]):
            self._draw_more(key, len(rates) - 1 - kept, rates[kept])
        won, tokens = self._draws[key]
        return bool(won[draw]), int(tokens[draw])

    def _verdict(self, solution: int) -> bool:
        rng = np.random.default_rng((self.seed, solution))
        return self._drafts[solution].right ^ (rng.random() < self.config.verdict_noise)

    def _draw_more(self, key: tuple[int, int], steps_left: int, rate: float) -> None:
        old = self._draws.get(key, (np.zeros(0, bool), np.zeros(0, int)))
        rng = np.random.default_rng((self.seed, *key, len(old[0])))
        won = rng.random(32) < rate
        won ^= rng.random(32) < self.config.rollout_noise
        mean = steps_left * self.config.tokens_per_step
        tokens = np.ceil(rng.gamma(8.0, mean / 8.0, 32)).astype(int)
        self._draws[key] = np.concatenate([old[0], won]), np.concatenate([old[1], tokens])


def _problem(config: WorldConfig, rng: np.random.Generator) -> list[_Draft]:
    """The solutions of one problem."""
    p0 = _beta(config.p0, config.concentration, rng)
    length = int(rng.integers(config.min_steps, config.max_steps + 1))
    weights = _weights(config, length, rng)
    drafts = []
    for _ in range(config.solutions_per_problem):
        if config.shape != "shared":
            length = int(rng.integers(config.min_steps, config.max_steps + 1))
            weights = _weights(config, length, rng)
        drafts.append(_solution(config, p0, weights, rng))
    return drafts


def _weights(config: WorldConfig, length: int, rng: np.random.Generator) -> np.ndarray:
    """How the risk is split over the steps; sums to 1."""
    tilt = {"early": -config.tilt, "late": config.tilt}.get(config.shape, 0.0)
    means = np.exp(tilt * np.arange(length) / length)
    return rng.dirichlet(np.maximum(config.unevenness * means * length / means.sum(), 1e-3))


def _solution(
    config: WorldConfig, p0: float, weights: np.ndarray, rng: np.random.Generator
) -> _Draft:
    """Draw the error, the recovery and the success rate of every prefix."""
    length = len(weights)
    levels = np.concatenate([p0 ** np.cumsum(weights[::-1])[::-1], [1.0]])
    recovery = _recovery(config, rng)
    risks = 1.0 - levels[:-1] / levels[1:]
    if config.shape == "exact":
        # V_t = (1 - risk) V_{t+1} + risk * recovery, as far as that has a solution.
        gap = np.maximum(levels[1:] - recovery, 1e-9)
        risks = np.clip((levels[1:] - levels[:-1]) / gap, 0.0, 1.0)
    wrong = np.flatnonzero(rng.random(length) < risks)
    rates = levels.copy()
    if config.shape == "dips":
        rates[1:length] *= np.where(rng.random(length - 1) < config.dip_share, config.dip_rate, 1.0)
    if not len(wrong):
        return _Draft(rates, None, right=True)
    first = int(wrong[0])
    # Nothing can be repaired after the last step.
    left = (length - 1 - np.arange(first, length)) / max(1, length - 1 - first)
    recovery = recovery if first < length - 1 else 0.0
    right = bool(rng.random() < recovery)
    fade = recovery * left ** rng.uniform(0.3, 1.5)
    rates[first + 1 :] = 1.0 - (1.0 - recovery) * left if right else fade
    return _Draft(rates, first, right)


def _recovery(config: WorldConfig, rng: np.random.Generator) -> float:
    if config.shape == "bimodal":
        return 0.75 if rng.random() < (config.q - 0.02) / 0.73 else 0.02
    return _beta(config.q, config.concentration, rng)


def _beta(mean: float, concentration: float, rng: np.random.Generator) -> float:
    if mean in (0.0, 1.0):
        return mean
    return float(rng.beta(mean * concentration, (1.0 - mean) * concentration))
