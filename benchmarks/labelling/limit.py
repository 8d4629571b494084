"""How much the reading of rollouts could still gain: a reader that knows the world's law.

    python -m benchmarks.labelling.limit [--seed N] [--wrong N]

Our labeler buys rollouts in base cells of `benchmarks.labelling.worlds`, at three prices. Its
counts are then read by the posterior under the law that the world was drawn from, with the
world's own parameters: an average over drawn success rates and recoveries (importance sampling
from the prior). That reader hears the verdicts of the siblings and not their rollouts, which ours
hears too, and takes every wrong verdict as right; apart from that it is exact. Where it is right no
more often than ours, a better labeler has to buy other rollouts, not to read them better.

Shapes: D draws of the law, T steps.
"""

from __future__ import annotations

import argparse
import functools
from collections import Counter
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from benchmarks.labelling.worlds import SyntheticWorld, WorldConfig
from benchmarks.table import Target, finish, is_quick, show
from data_gen.labelers.bayes import BayesLabeler
from prm.protocols import Rollout
from prm.records import LabelledSolution, Solution

Array = NDArray[np.float64]
CELLS = tuple(WorldConfig(p0, q) for p0, q in ((0.5, 0.0), (0.2, 0.0), (0.5, 0.1), (0.8, 0.2)))
PRICES = (6e-5, 2e-5, 6e-6)
DRAWS = 100_000
LARGEST_GAP = 0.01
"""Of accuracy, in the mean over cells and prices."""


class Law:
    """The posterior over the first error in a base cell, of solutions with a wrong answer."""

    def __init__(self, config: WorldConfig, draws: int = DRAWS) -> None:
        """Draw nothing yet: the draws depend on the number of steps."""
        self.config = config
        self.draws = draws
        self._of_length = functools.cache(self._draw)

    def read(self, won: Array, lost: Array, siblings: tuple[int, int]) -> Array:
        """(T + 1,): P(first error), none last; counts by steps kept, (T,)."""
        root, good, fails, places, bad = self._of_length(len(won))
        before = siblings[0] * np.log(root) + siblings[1] * np.log1p(-root)
        likely = before[:, None] + np.cumsum(won * good + lost * fails, 1)
        out = np.empty(len(won) + 1)
        for place in range(len(won)):
            rates, weight = bad[place]
            after = won[place + 1 :] * np.log(rates) + lost[place + 1 :] * np.log1p(-rates)
            out[place] = _log_mean(likely[:, place], places[:, place])
            out[place] += _log_mean(after.sum(1), weight)
        noise = self.config.verdict_noise
        out[-1] = _log_mean(likely[:, -1], places[:, -1]) + np.log(noise)
        belief = np.exp(out - out.max())
        return np.asarray(belief / belief.sum())

    def _draw(self, length: int) -> tuple[Array, Array, Array, Array, list[tuple[Array, Array]]]:
        """P(a sibling is right), log rates of good prefixes, P(place), and bad ones by place."""
        config, rng = self.config, np.random.default_rng(length)
        p0 = np.clip(_beta(config.p0, config.concentration, rng, self.draws), 1e-9, 1 - 1e-9)
        share = rng.dirichlet(np.full(length, config.unevenness), self.draws)
        left = np.cumsum(share[:, ::-1], 1)[:, ::-1]
        levels = np.concatenate([p0[:, None] ** left, np.ones((self.draws, 1))], 1)
        risk = 1.0 - levels[:, :-1] / levels[:, 1:]
        survived = np.concatenate([np.ones((self.draws, 1)), np.cumprod(1.0 - risk, 1)], 1)
        places = np.concatenate([survived[:, :-1] * risk, survived[:, -1:]], 1)
        rates = self._seen(levels[:, :length])
        bad = [self._recoveries(length, place, rng) for place in range(length)]
        root = self._sibling(p0, rng)
        return root, np.log(rates), np.log1p(-rates), places, bad

    def _sibling(self, p0: Array, rng: np.random.Generator) -> Array:
        """P(a sibling is said to be right): without an error, or repaired.

        Behind an error in the last step nothing is repaired; how often that happens is averaged
        over solutions of any length, as nothing else is known of the sibling.
        """
        config = self.config
        lengths = rng.integers(config.min_steps, config.max_steps + 1, 64)
        last = rng.beta(config.unevenness, config.unevenness * (lengths - 1))
        at_end = (1.0 - p0[:, None] ** last).mean(1)
        right = p0 + config.q * (1.0 - p0 - at_end)
        return np.asarray(config.verdict_noise + (1.0 - 2.0 * config.verdict_noise) * right)

    def _recoveries(self, length: int, place: int, rng: np.random.Generator) -> tuple[Array, Array]:
        """Rates of the prefixes behind an error, and P(wrong answer), for some draws."""
        count = max(1, self.draws // 25)
        recovery = _beta(self.config.q, self.config.concentration, rng, count)
        if place == length - 1:
            recovery = np.zeros(count)
        left = (length - 1 - np.arange(place, length - 1)) / max(1, length - 1 - place)
        fading = left[None] ** rng.uniform(0.3, 1.5, count)[:, None]
        return self._seen(recovery[:, None] * fading), 1.0 - recovery

    def _seen(self, rates: Array) -> Array:
        """As the noisy checker sees them."""
        noise = self.config.rollout_noise
        return np.asarray(noise + (1.0 - 2.0 * noise) * rates)


class Draws:
    """A world's rollouts, from the first draw on. Satisfies `prm.protocols.Rollouts`."""

    def __init__(self, world: SyntheticWorld) -> None:
        """Nothing is drawn yet."""
        self._world = world
        self._rows = {one.id: row for row, one in enumerate(world.solutions)}
        self._had: Counter[tuple[int, int]] = Counter()

    async def sample_many(
        self, requests: Sequence[tuple[Solution, int, int]]
    ) -> list[list[Rollout]]:
        """See `prm.protocols.Rollouts`."""
        return [self._group(self._rows[one.id], kept, count) for one, kept, count in requests]

    def _group(self, row: int, kept: int, count: int) -> list[Rollout]:
        had = self._had[row, kept]
        self._had[row, kept] += count
        return [Rollout(*self._world.rollout(row, kept, had + k)) for k in range(count)]


def main() -> None:
    """Compare the two readers; exit with 1 where ours is right clearly less often."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seed", type=int, default=5, help="of the worlds")
    parser.add_argument(
        "--wrong",
        type=int,
        default=60 if is_quick() else 300,
        help="wrong answers a cell, at least",
    )
    options = parser.parse_args()
    rows, gaps = [], []
    for config in CELLS[: 1 if is_quick() else None]:
        for price, own, known in readings(config, options.seed, options.wrong):
            gaps.append(known[0] - own[0])
            tokens = f"{own[2]:,.0f}"
            rows.append([config.name, f"{price:g}", tokens, *_show(*own[:2]), *_show(*known[:2])])
    title = "The same counts read by us, and by one that knows the world's law: wrong answers"
    columns = ("cell", "price", "tokens", "ours right", "says", "knowing right", "says")
    show(title, columns, rows)
    gap = float(np.mean(gaps))
    reached = f"{gap:+.3f} in the mean, {max(gaps):+.3f} at most"
    goal = f"at most {LARGEST_GAP:g} in the mean"
    finish(
        "bench-labelling limit",
        [Target("accuracy of the one that knows, less ours", reached, goal, gap <= LARGEST_GAP)],
    )


def readings(
    config: WorldConfig, seed: int, min_wrong: int, draws: int = DRAWS
) -> list[tuple[float, tuple[float, float, float], tuple[float, float]]]:
    """By price: (accuracy, mean belief, tokens) of ours, (accuracy, mean belief) of the law's."""
    world, law = SyntheticWorld(config, seed, min_wrong), Law(config, draws)
    results = []
    swept = BayesLabeler(max_rollouts=1500).sweep(world.solutions, Draws(world), PRICES)
    for price, labelled in zip(PRICES, swept, strict=True):
        right = Counter(one.solution.problem_id for one in labelled if one.verdict.label)
        everyone = Counter(one.solution.problem_id for one in labelled)
        found = []
        for one, truth in zip(labelled, world.first_errors, strict=True):
            if one.verdict.label is False:
                problem = one.solution.problem_id
                lost = everyone[problem] - right[problem] - 1
                known = law.read(*counts(one), (right[problem], lost))
                place = len(one.labels) if truth is None else truth
                found.append([*_judged(ours(one), place), one.tokens, *_judged(known, place)])
        mean = np.mean(found, axis=0)
        results.append((price, (mean[0], mean[1], mean[2]), (mean[3], mean[4])))
    return results


def ours(one: LabelledSolution) -> Array:
    """Our posterior, none last."""
    return np.array(
        [*(one.first_error[str(t)] for t in range(len(one.labels))), one.first_error["none"]]
    )


def counts(one: LabelledSolution) -> tuple[Array, Array]:
    """Successes and failures by the number of steps kept; none at 0."""
    won, lost = np.zeros((2, len(one.labels)))
    for label in one.labels[:-1]:
        for evidence in label.evidence:
            if evidence.kind == "rollouts":
                won[label.step + 1] += evidence.successes
                lost[label.step + 1] += evidence.trials - evidence.successes
    return won, lost


def _judged(belief: Array, place: int) -> tuple[float, float]:
    return float(belief.argmax() == place), float(belief.max())


def _beta(mean: float, concentration: float, rng: np.random.Generator, count: int) -> Array:
    if mean == 0.0:
        return np.zeros(count)
    return rng.beta(mean * concentration, (1.0 - mean) * concentration, count)


def _log_mean(log: Array, weight: Array) -> float:
    top = log.max()
    return float(np.log((np.exp(log - top) * weight).mean() + 1e-300) + top)


def _show(accuracy: float, belief: float) -> list[str]:
    return [f"{accuracy:.3f}", f"{belief:.3f}"]


if __name__ == "__main__":
    main()
