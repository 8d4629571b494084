"""Our labeler at all its prices, and the methods to beat in their strongest form.

A method to beat has all its settings run (`Method`); the best is chosen with the truth, later.

Math-Shepherd makes K rollouts at every inner prefix; each threshold reads the same counts. OmegaPRM
chooses its probes by its threshold, so each threshold is a run with tokens of its own; so are the
rates of the sequential test.

The labelers' own savings are off in what is named as published (K rollouts a probe) and on where
it says "early stop". Siblings are not counted: published methods have rollouts alone.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np

from benchmarks.labelling.outcomes import (
    NO_ERROR,
    ChargedRollouts,
    Method,
    Outcome,
    RolloutsFactory,
    Sweep,
    label_outcome,
    likeliest,
    make_outcome,
    run_labeler,
)
from data_gen.labelers.bayes import BayesLabeler, redecode
from data_gen.labelers.math_shepherd import MathShepherdLabeler
from data_gen.labelers.omega import OmegaLabeler
from data_gen.labelers.probes import SequentialTest
from data_gen.labelers.reading import first_error_by_threshold, soft
from prm.records import LabelledSolution, Solution

PRICES = tuple(4e-4 * 0.8**k for k in range(29))
"""Right labels a token: from labels that cost nearly nothing to rollouts until their cap."""
OURS = BayesLabeler(max_rollouts=2000)
"""With room for the lowest prices."""
OMEGA_THRESHOLDS = {
    16: (0.0, 1 / 16, 2 / 16, 3 / 16, 4 / 16, 6 / 16, 8 / 16, 10 / 16),
    8: (0.0, 1 / 8, 2 / 8, 3 / 8, 4 / 8, 5 / 8),
}
ROOT_SHARES = (0.25, 0.5, 0.75)
"""EpicPRM-like: a prefix is good above this share of the problem's own success rate."""
NOTED_TEST = SequentialTest()
"""0.08 against 0.4, errors of 5%, 24 rollouts at most."""
SEQUENTIAL_TESTS = (
    NOTED_TEST,
    SequentialTest(bad_rate=0.03, good_rate=0.3),
    SequentialTest(bad_rate=0.08, good_rate=0.25),
    SequentialTest(bad_rate=0.15, good_rate=0.4),
    SequentialTest(bad_rate=0.2, good_rate=0.6),
    SequentialTest(bad_rate=0.35, good_rate=0.7),
)


def all_baselines(pool: Sequence[Solution], factory: RolloutsFactory) -> list[Method]:
    """Everything that our labeler is compared with, the methods with a goal first."""
    shepherd = {k: run_shepherd(pool, factory, k) for k in (16, 8)}
    omega = {k: run_omega(pool, factory, k) for k in (16, 8)}
    sequential = run_sequential(pool, factory)
    return [
        by_threshold("Math-Shepherd K=16, best threshold", *shepherd[16]),
        Method("Math-Shepherd K=16, our decoder", (decoded(*shepherd[16]),)),
        Method("OmegaPRM K=16, best threshold", omega[16]),
        Method("sequential test, best rates", sequential),
        by_threshold("Math-Shepherd K=8, best threshold", *shepherd[8]),
        Method("OmegaPRM K=8, best threshold", omega[8]),
        Method("sequential test, rates of the note", sequential[:1]),
        Method("EpicPRM-like K=16, best share", run_relative(pool, factory)),
        Method(
            "OmegaPRM K=16, best threshold, early stop",
            run_omega(pool, factory, 16, early_stop=True),
        ),
        any_success("Math-Shepherd K=16, any success", *shepherd[16]),
        Method("OmegaPRM K=8, any success", omega[8][:1]),
    ]


def our_sweep() -> Sweep:
    """Our labeler at all its prices."""
    return sweep_prices


def sweep_prices(
    pool: Sequence[Solution], factory: RolloutsFactory, prices: Sequence[float] = PRICES
) -> list[Outcome]:
    """One outcome a price. Where solutions share prefixes each price is a run of its own.

    Elsewhere one run buys on from price to price, and what its labels say of their tokens is held
    against what was charged: with a shared prefix they could not be the same.
    """
    names = [f"price {price:.2g}" for price in prices]
    if shares_prefixes(pool):
        labelers = [dataclasses.replace(OURS, price=price) for price in prices]
        return [
            label_outcome(name, labeler, pool, factory)
            for name, labeler in zip(names, labelers, strict=True)
        ]
    charged = ChargedRollouts(factory(), pool)
    swept = OURS.sweep(pool, charged, prices)
    if [one.tokens for one in swept[-1]] != charged.tokens.tolist():
        raise ValueError("the labels of the sweep do not cost what was charged")
    return [
        dataclasses.replace(
            make_outcome(name, [likeliest(one.first_error) for one in labelled], charged),
            tokens=np.array([one.tokens for one in labelled], np.int64),
        )
        for name, labelled in zip(names, swept, strict=True)
    ]


def shares_prefixes(pool: Sequence[Solution]) -> bool:
    """Whether two solutions of a problem begin with the same step."""
    first = [(solution.problem_id, solution.steps[:1]) for solution in pool]
    return len(set(first)) < len(first)


def run_shepherd(
    pool: Sequence[Solution], factory: RolloutsFactory, num_rollouts: int
) -> tuple[list[LabelledSolution], ChargedRollouts]:
    """K rollouts at every inner prefix."""
    labeler = MathShepherdLabeler(num_rollouts, everywhere=True, reuse_siblings=False)
    return run_labeler(labeler, pool, factory)


def by_threshold(
    name: str, labelled: Sequence[LabelledSolution], charged: ChargedRollouts
) -> Method:
    """All readings of the same counts: every threshold at which one of them changes."""
    rates = [soft(one) for one in labelled]
    most = max((label.trials for one in labelled for label in one.labels), default=1)
    return Method(name, tuple(_read(rates, step / most, charged) for step in range(most)))


def any_success(
    name: str, labelled: Sequence[LabelledSolution], charged: ChargedRollouts
) -> Method:
    """As published: one success makes a prefix good."""
    return Method(name, (_read([soft(one) for one in labelled], 0.0, charged),))


def decoded(labelled: Sequence[LabelledSolution], charged: ChargedRollouts) -> Outcome:
    """Math-Shepherd's counts read by the decoder of our labeler."""
    return make_outcome(
        "decoder", [likeliest(one.first_error) for one in redecode(labelled)], charged
    )


def run_omega(
    pool: Sequence[Solution],
    factory: RolloutsFactory,
    num_rollouts: int,
    *,
    early_stop: bool = False,
) -> tuple[Outcome, ...]:
    """One run a threshold, any success first."""
    labeler = OmegaLabeler(num_rollouts, early_stop=early_stop)
    return tuple(
        label_outcome(
            f"threshold {threshold:.3g}",
            dataclasses.replace(labeler, threshold=threshold),
            pool,
            factory,
        )
        for threshold in OMEGA_THRESHOLDS[num_rollouts]
    )


def run_sequential(pool: Sequence[Solution], factory: RolloutsFactory) -> tuple[Outcome, ...]:
    """One run a pair of rates, those of the note first."""
    return tuple(
        label_outcome(
            f"{test.bad_rate:g} against {test.good_rate:g}",
            OmegaLabeler(test="sequential", sequential=test),
            pool,
            factory,
        )
        for test in SEQUENTIAL_TESTS
    )


def run_relative(pool: Sequence[Solution], factory: RolloutsFactory) -> tuple[Outcome, ...]:
    """One run a share of the root's success rate."""
    return tuple(
        label_outcome(
            f"share {share:g}",
            OmegaLabeler(16, threshold=share, relative=True, early_stop=False),
            pool,
            factory,
        )
        for share in ROOT_SHARES
    )


def _read(
    rates: Sequence[Sequence[float | None]], threshold: float, charged: ChargedRollouts
) -> Outcome:
    places = [first_error_by_threshold(one, threshold) for one in rates]
    found = [(NO_ERROR if place is None else place, 1.0) for place in places]
    return make_outcome(f"threshold {threshold:.3g}", found, charged)
