"""What the solutions of a problem tell each other: the shared level, and free verdicts."""

import numpy as np
import pytest

from data_gen.labelers.bayes_model import LEVELS, RIGHT, UNKNOWN, WRONG
from data_gen.labelers.bayes_pool import Pool
from data_gen.labelers.bayes_posterior import Groups, log_likelihood, roots
from data_gen.labelers.verdicts import wait_for
from prm.records import Solution, Verdict
from tests.scripted_rollouts import RolloutsByPrefix

PRIOR = np.linspace(1.0, 2.0, len(LEVELS)) / np.linspace(1.0, 2.0, len(LEVELS)).sum()


def solution(text, sample, problem="p"):
    """One step a letter."""
    return Solution(f"{problem}#{sample}", problem, tuple(text), "x", "stop", "test", "test")


def pool_of(*texts_and_statuses):
    """A pool of one problem: (steps, verdict) each."""
    solutions = [solution(text, i) for i, (text, _) in enumerate(texts_and_statuses)]
    return Pool(solutions, [Verdict(status, "test") for _, status in texts_and_statuses])


def counts(pool, row):
    """(successes, failures) by the number of steps kept, where there are any."""
    first = pool.longest - pool.lengths[row]
    cells = zip(pool.evidence.won[row, first:], pool.evidence.lost[row, first:], strict=True)
    return {kept: (won, lost) for kept, (won, lost) in enumerate(cells) if won or lost}


def messages(*rows):
    rng = np.random.default_rng(0)
    return np.log(rng.uniform(0.01, 1.0, (len(rows), len(LEVELS))))


def test_a_solution_alone_in_its_problem_has_the_prior():
    said = messages(1, 2, 3)
    found = roots(Groups(np.array([5, 3, 9]), np.arange(3)), said, PRIOR)
    np.testing.assert_allclose(found, np.tile(PRIOR, (3, 1)), rtol=1e-12)


def test_a_sibling_weighs_the_levels_by_its_likelihood_and_never_by_ones_own():
    said = messages(1, 2)
    found = roots(Groups(np.array([1, 1]), np.array([0, 1])), said, PRIOR)
    for row, other in ((0, 1), (1, 0)):
        wanted = PRIOR * np.exp(said[other])
        np.testing.assert_allclose(found[row], wanted / wanted.sum(), rtol=1e-12)


def test_three_siblings_each_hear_the_product_of_the_other_two():
    said = messages(1, 2, 3)
    found = roots(Groups(np.array([1, 1, 1]), np.arange(3)), said, PRIOR)
    wanted = PRIOR * np.exp(said[0] + said[2])
    np.testing.assert_allclose(found[1], wanted / wanted.sum(), rtol=1e-12)


def test_solutions_with_a_common_first_step_are_one_voice():
    said = messages(1, 2, 3)
    groups = Groups(np.array([1, 1, 1]), np.array([7, 7, 4]))
    found = roots(groups, said, PRIOR)
    # The two hear the third alone; the third hears them as one, with their mean.
    for row in (0, 1):
        wanted = PRIOR * np.exp(said[2])
        np.testing.assert_allclose(found[row], wanted / wanted.sum(), rtol=1e-12)
    wanted = PRIOR * np.exp((said[0] + said[1]) / 2)
    np.testing.assert_allclose(found[2], wanted / wanted.sum(), rtol=1e-12)


def test_copies_of_a_solution_change_nothing_for_the_others():
    said = messages(1, 2)
    alone = roots(Groups(np.array([1, 1]), np.array([0, 1])), said, PRIOR)
    copied = said[[0, 0, 0, 1]]
    groups = Groups(np.ones(4, int), np.array([0, 0, 0, 1]))
    np.testing.assert_allclose(roots(groups, copied, PRIOR)[3], alone[1], rtol=1e-12)
    assert log_likelihood(groups, copied, PRIOR) == pytest.approx(
        log_likelihood(Groups(np.array([1, 1]), np.array([0, 1])), said, PRIOR)
    )


def test_very_unlikely_messages_stay_finite():
    said = messages(1, 2, 3) * 400.0
    groups = Groups(np.array([1, 1, 1]), np.arange(3))
    found = roots(groups, said, PRIOR)
    np.testing.assert_allclose(found.sum(1), 1.0)
    assert np.isfinite(log_likelihood(groups, said, PRIOR))


def test_a_verdict_counts_once_at_the_longest_prefix_shared_with_it():
    pool = pool_of(("abcde", "wrong"), ("abxy", "right"), ("abcz", "wrong"), ("qrs", "right"))
    assert counts(pool, 0) == {2: (1, 0), 3: (0, 1)}
    assert counts(pool, 1) == {2: (0, 2)}
    assert counts(pool, 2) == {2: (1, 0), 3: (0, 1)}
    assert counts(pool, 3) == {}


def test_every_solution_hears_as_many_verdicts_as_there_are_others_with_its_first_step():
    rng = np.random.default_rng(1)
    statuses = ["right", "wrong", "could_not_tell"]
    texts = ["".join(rng.choice(list("ab"), rng.integers(2, 7))) for _ in range(60)]
    chosen = [statuses[i] for i in rng.integers(0, 3, 60)]
    pool = pool_of(*zip(texts, chosen, strict=True))
    for row, text in enumerate(texts):
        others = [
            chosen[k]
            for k in range(60)
            # The last step of a finished solution is no place to go on from.
            if k != row and texts[k][0] == text[0] and chosen[k] != "could_not_tell"
        ]
        heard = counts(pool, row).values()
        assert sum(won for won, _ in heard) == others.count("right"), text
        assert sum(lost for _, lost in heard) == others.count("wrong"), text


def test_solutions_of_other_problems_share_nothing():
    solutions = [solution("abc", 0, "p"), solution("abc", 0, "q")]
    pool = Pool(solutions, [Verdict("right", "test"), Verdict("wrong", "test")])
    assert counts(pool, 0) == counts(pool, 1) == {}
    assert len(set(pool.evidence.groups.problems)) == len(set(pool.evidence.groups.heads)) == 2
    assert set(pool.slots[0]).isdisjoint(set(pool.slots[1]) - {-1})


def test_verdicts_have_codes_and_first_steps_have_heads():
    pool = pool_of(("ab", "right"), ("ac", "wrong"), ("b", "could_not_tell"))
    assert list(pool.evidence.verdicts) == [RIGHT, WRONG, UNKNOWN]
    heads = pool.evidence.groups.heads
    assert heads[0] == heads[1] != heads[2]
    assert len(set(pool.evidence.groups.problems)) == 1


def test_a_prefix_can_be_asked_for_but_not_the_whole_of_a_solution_with_a_verdict():
    pool = pool_of(("abc", "wrong"), ("abd", "could_not_tell"))
    first, second = pool.slots
    assert list(first >= 0) == [False, False, True, True, False]
    assert list(second >= 0) == [False, True, True, True, False]
    # What follows the end of the second counts as one more step of it.
    assert list(first[2:4]) == list(second[1:3])
    solution_asked, kept, count = pool.request(int(second[3]), 4)
    assert (solution_asked.id, kept, count) == ("p#1", 3, 4)
    assert pool.key(int(first[3])) == ("p", ("a", "b"))


def test_rollouts_of_a_prefix_are_counted_for_all_that_share_it():
    pool = pool_of(("abc", "wrong"), ("abde", "wrong"), ("xyz", "wrong"))
    slot = int(pool.slots[0, pool.longest - 1])
    rollouts = RolloutsByPrefix(lambda _solution, _kept: 1.0)
    wait_for(pool.tally.ask({pool.key(slot): pool.request(slot, 3)}, rollouts))
    pool.refresh([slot])
    # One failure is the sibling's verdict.
    assert counts(pool, 0) == counts(pool, 1) == {2: (3, 1)}
    assert counts(pool, 2) == {}
    assert not pool.ended.any()
