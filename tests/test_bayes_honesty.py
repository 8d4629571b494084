"""On a synthetic world: surer with tokens, as right as it says, and silent where it cannot know."""

import functools
from collections import Counter

import numpy as np
import pytest

from benchmarks.labelling.worlds import SyntheticWorld, WorldConfig
from data_gen.labelers.bayes import BayesLabeler
from prm.protocols import Rollout

PRICES = [1e-3, 1e-4, 2e-5]
DEFAULT = 2
"""Place of about the default price."""


class FromWorld:
    """Rollouts of a world, in the order of its draws."""

    def __init__(self, world):
        self.world, self.had = world, Counter()
        self.rows = {one.id: row for row, one in enumerate(world.solutions)}

    async def sample_many(self, requests):
        return [self._group(self.rows[one.id], kept, n) for one, kept, n in requests]

    def _group(self, row, kept, n):
        group = []
        for _ in range(n):
            correct, tokens = self.world.rollout(row, kept, self.had[row, kept])
            self.had[row, kept] += 1
            group.append(Rollout(correct, tokens))
        return group


def labelled(q, prices, min_wrong, seed):
    """The wrong answers of a world: (labels, truth), at each price."""
    world = SyntheticWorld(WorldConfig(0.5, q), seed=seed, min_wrong=min_wrong)
    truth = ["none" if place is None else str(place) for place in world.first_errors]
    results = BayesLabeler().sweep(world.solutions, FromWorld(world), prices)
    return [
        [(one, true) for one, true in zip(rows, truth, strict=True) if one.verdict.label is False]
        for rows in results
    ]


@functools.cache
def usual():
    return labelled(0.1, PRICES, 300, 7)


@functools.cache
def hopeless():
    """Repairs are so likely that a wrong prefix succeeds as often as a right one."""
    worlds = [labelled(0.7, [BayesLabeler().price], 250, seed)[0] for seed in (2, 8)]
    return [row for rows in worlds for row in rows]


def mode(one):
    return max(one.first_error, key=one.first_error.get)


def accuracy(rows):
    return np.mean([mode(one) == true for one, true in rows])


def sureness(rows):
    return np.mean([max(one.first_error.values()) for one, _ in rows])


def named(rows):
    """Whether the step with the hard label False is the first wrong one, where there is one."""
    found = []
    for one, true in rows:
        found += [str(label.step) == true for label in one.labels if label.hard is False]
    return found


def test_more_tokens_find_more_errors():
    found = [accuracy(rows) for rows in usual()]
    tokens = [np.mean([one.tokens for one, _ in rows]) for rows in usual()]
    assert found == sorted(found)
    assert found[-1] > 0.7 > 0.4 > found[0]
    assert tokens == sorted(tokens)
    # Sixteen rollouts of every prefix, the usual way, cost ten times as much.
    assert tokens[DEFAULT] < 6000


@pytest.mark.parametrize("price", range(len(PRICES)))
def test_the_posterior_is_as_sure_as_it_is_right(price):
    rows = usual()[price]
    assert sureness(rows) == pytest.approx(accuracy(rows), abs=0.1)


def test_the_whole_posterior_is_honest_and_not_its_mode_alone():
    for rows in usual()[1:]:
        pairs = [
            (chance, place == true)
            for one, true in rows
            for place, chance in one.first_error.items()
        ]
        for low, high in ((0.0, 0.05), (0.05, 0.35), (0.35, 0.75), (0.75, 1.0)):
            here = [pair for pair in pairs if low <= pair[0] <= high]
            said, seen = np.mean(here, axis=0)
            allowed = 0.05 + 2 * np.sqrt(said * (1 - said) / len(here))
            assert said == pytest.approx(seen, abs=allowed), (low, high)


def test_hard_labels_are_right_as_often_as_one_wants_to_be_sure():
    for rows in usual()[1:]:
        found = named(rows)
        assert len(found) > 0.3 * len(rows)
        assert np.mean(found) > BayesLabeler().sure


def test_where_repairs_hide_the_errors_it_names_few_of_them():
    share = [len(named(rows)) / len(rows) for rows in (hopeless(), usual()[DEFAULT])]
    assert share[0] < 0.4 < 0.7 < share[1]
    assert sureness(hopeless()) < sureness(usual()[DEFAULT]) - 0.15


def test_where_repairs_hide_the_errors_it_is_as_sure_as_it_is_right():
    assert sureness(hopeless()) == pytest.approx(accuracy(hopeless()), abs=0.12)


def test_success_rates_are_near_those_of_the_world():
    rows = usual()[-1][:100]
    world = SyntheticWorld(WorldConfig(0.5, 0.1), seed=7, min_wrong=300)
    numbers = {one.id: row for row, one in enumerate(world.solutions)}
    errors, guesses = [], []
    for one, _ in rows:
        for label in one.labels[:-1]:
            # Other draws than the labeler had.
            drawn = [
                world.rollout(numbers[one.id], label.step + 1, 500 + draw)[0] for draw in range(64)
            ]
            errors.append(label.success_rate - np.mean(drawn))
            guesses.append(0.25 - np.mean(drawn))
    assert abs(np.mean(errors)) < 0.05
    assert np.mean(np.square(errors)) < 0.35 * np.mean(np.square(guesses))
