"""Labels read anew, and what judges and old PRMs add."""

import dataclasses
import functools

import numpy as np
import pytest

from benchmarks.labelling.worlds import SyntheticWorld, WorldConfig
from data_gen.labelers.bayes import BayesLabeler, redecode
from data_gen.labelers.bayes_sources import Sources
from prm.errors import PRMError
from prm.records import Opinion, Solution, Verdict
from tests.scripted_rollouts import RolloutsByPrefix

PLAIN = BayesLabeler(learn=False)
CHEAP = BayesLabeler(price=1e-3)


@functools.cache
def world():
    return SyntheticWorld(WorldConfig(0.5, 0.1, min_steps=4, max_steps=10), 11, min_wrong=150)


def check(one):
    return Verdict(one.final_answer or "could_not_tell", "world")


def rollouts():
    """As the world draws them, from the prefixes of its solutions."""
    made = world()
    rows = {one.id: row for row, one in enumerate(made.solutions)}
    chances = functools.cache(
        lambda row, kept: np.mean([made.rollout(row, kept, k)[0] for k in range(32)])
    )
    return RolloutsByPrefix(lambda one, kept: chances(rows[one.id], kept))


def truth(row):
    place = world().first_errors[row]
    return "none" if place is None else str(place)


def mass_on_truth(rows):
    """Mean probability of the true place."""
    return np.mean([one.first_error[truth(i)] for i, one in enumerate(rows)])


def judge(right, seed=0, author="judge"):
    """Names the true place with this probability, else any place at random."""
    rng = np.random.default_rng(seed)
    found = {}
    for row, one in enumerate(world().solutions):
        places = ["none", *map(str, range(len(one.steps)))]
        said = truth(row) if rng.random() < right else str(rng.choice(places))
        found[one.id] = [Opinion("judge", {said: 1}, author, tokens=7)]
    return found


def scores(noise, seed=0):
    """Of an old PRM: high before the error, low from it on."""
    rng = np.random.default_rng(seed)
    found = {}
    for row, one in enumerate(world().solutions):
        error = world().first_errors[row]
        right = np.arange(len(one.steps)) < (len(one.steps) if error is None else error)
        found[one.id] = list(right + noise * rng.standard_normal(len(right)))
    return found


@functools.cache
def run(labeler, right=None, noise=None):
    """The labels of the world's solutions with a judge or scores of this quality."""
    return labeler.label(
        world().solutions,
        rollouts(),
        check=check,
        opinions=None if right is None else judge(right),
        scores=None if noise is None else scores(noise),
    )


def gap(first, second):
    """Mean total variation between the posteriors."""
    return np.mean(
        [
            sum(abs(a.first_error[k] - b.first_error[k]) for k in a.first_error) / 2
            for a, b in zip(first, second, strict=True)
        ]
    )


@pytest.mark.parametrize("right", [None, 0.9])
def test_labels_read_anew_are_those_of_the_run(right):
    labeler = dataclasses.replace(PLAIN, price=1e-4, completer="small")
    before = run(labeler, right)
    after = redecode(before, labeler)
    for old, new in zip(before, after, strict=True):
        assert new.first_error == pytest.approx(old.first_error, abs=1e-9)
        for one, other in zip(old.labels, new.labels, strict=True):
            assert other.prefix_correct == pytest.approx(one.prefix_correct, abs=1e-9)
            assert other.success_rate == pytest.approx(one.success_rate, abs=1e-9)
            assert (other.hard, other.step) == (one.hard, one.step)
            assert (other.successes, other.trials, other.tokens, other.evidence) == (
                (one.successes, one.trials, one.tokens, one.evidence)
            )
        kept = [
            (x.solution, x.verdict, x.opinions, x.tokens, x.tokens_by_kind, x.completer, x.labeler)
            for x in (old, new)
        ]
        assert kept[0] == kept[1]


def test_reading_in_parts_gives_the_same_labels_as_reading_anew(monkeypatch):
    monkeypatch.setattr("data_gen.labelers.bayes_reading._MAX_CELLS", 30_000)
    labeler = dataclasses.replace(PLAIN, max_rollouts=5)
    before = labeler.label(world().solutions[:80], rollouts(), check=check)
    monkeypatch.undo()
    after = redecode(before, labeler)
    assert gap(before, after) < 1e-9


def test_labels_read_anew_with_learning_are_near_those_of_the_run():
    before = run(BayesLabeler())
    after = redecode(before)
    assert 0 < gap(before, after) < 0.06
    assert len({one.decoder for one in after}) == 1


def test_who_chose_a_solution_and_what_it_cost_outlive_a_new_reading():
    costs = {"rollouts": 50, "program": 20}
    before = [
        dataclasses.replace(
            one, propensity=0.25, chosen_by="entropy", tokens=70, tokens_by_kind=costs
        )
        for one in run(PLAIN)[:20]
    ]
    for new in redecode(before, PLAIN):
        assert (new.propensity, new.chosen_by) == (0.25, "entropy")
        assert (new.tokens, new.tokens_by_kind) == (70, costs)


def test_the_reason_to_stop_outlives_a_new_reading():
    before = [dataclasses.replace(one, stop_reason="budget") for one in run(PLAIN)[:20]]
    assert {one.stop_reason for one in redecode(before, PLAIN)} == {"budget"}


def test_a_solution_without_steps_is_passed_through():
    empty = Solution("p#0", "p", (), "wrong", "stop", "test", "test")
    before = PLAIN.label([empty, world().solutions[0]], rollouts(), check=check)
    after = redecode(before, PLAIN)
    assert after[0] == before[0]
    assert after[1].first_error == pytest.approx(before[1].first_error)
    assert redecode([before[0]]) == [before[0]]
    assert redecode([]) == []


def test_an_opinion_moves_the_posterior_to_its_place():
    solution = Solution("p#0", "p", tuple("abcd"), "wrong", "stop", "test", "test")
    labeler = dataclasses.replace(PLAIN, price=1e9)

    def posterior(*opinions):
        [row] = labeler.label([solution], rollouts(), check=check, opinions={"p#0": opinions})
        return row

    silent = posterior()
    for place in ("0", "3"):
        one = posterior(Opinion("judge", {place: 1}, "a", tokens=3))
        many = posterior(Opinion("judge", {place: 16}, "a", tokens=3))
        assert silent.first_error[place] < one.first_error[place] < many.first_error[place]
        assert (one.tokens, one.tokens_by_kind) == (3, {"rollouts": 0, "judge": 3})
        assert one.opinions == (Opinion("judge", {place: 1}, "a", tokens=3),)
    # Nothing was said about this solution: no place has any votes.
    assert posterior(Opinion("judge", {}, "a")).first_error == silent.first_error
    assert posterior(Opinion("judge", {"17": 2}, "a")).first_error == silent.first_error


def test_a_good_judge_helps_and_saves_rollouts():
    alone, helped = run(CHEAP), run(CHEAP, 0.9)
    assert mass_on_truth(helped) > mass_on_truth(alone) + 0.15
    assert mean_rollout_tokens(run(BayesLabeler(), 0.9)) < mean_rollout_tokens(run(BayesLabeler()))


def mean_rollout_tokens(rows):
    return np.mean([one.tokens_by_kind["rollouts"] for one in rows])


def test_a_judge_that_answers_at_random_does_less_harm_once_that_is_learned():
    learned = mass_on_truth(run(BayesLabeler())) - mass_on_truth(run(BayesLabeler(), 0.0))
    believed = mass_on_truth(run(PLAIN)) - mass_on_truth(run(PLAIN, 0.0))
    assert learned < 0.07
    assert learned < 0.8 * believed


def test_a_judge_that_answers_at_random_is_learned_to_say_nothing():
    assert mass_on_truth(run(BayesLabeler(), 0.0)) > mass_on_truth(run(BayesLabeler())) - 0.04


def test_scores_of_an_old_prm_help_as_far_as_they_are_good():
    alone, poor, good = (mass_on_truth(run(CHEAP, None, noise)) for noise in (None, 2.0, 0.5))
    assert good > alone + 0.04
    assert good > poor > alone - 0.03


def test_scores_that_say_nothing_do_little_harm():
    alone, noise = run(BayesLabeler()), run(BayesLabeler(), None, 1e6)
    assert mass_on_truth(noise) > mass_on_truth(alone) - 0.03


def test_only_the_order_of_the_scores_counts():
    stretched = {key: [1e3 * s - 5.0 for s in row] for key, row in scores(0.5).items()}
    first, second = (
        CHEAP.label(world().solutions, rollouts(), check=check, scores=given)
        for given in (scores(0.5), stretched)
    )
    assert gap(first, second) < 1e-9


def test_scores_of_some_solutions_leave_the_others_alone():
    pool, given = world().solutions[:16], scores(0.5)
    few = {one.id: given[one.id] for one in pool[:4]}
    labeler = dataclasses.replace(PLAIN, price=1e9)
    lone = [dataclasses.replace(one, problem_id=one.id) for one in pool]
    without = labeler.label(lone, rollouts(), check=check)
    some = labeler.label(lone, rollouts(), check=check, scores=few)
    assert [a.first_error == b.first_error for a, b in zip(without, some, strict=True)] == (
        [False] * 4 + [True] * 12
    )


@pytest.mark.parametrize("length", [3, 5])
def test_scores_of_another_number_of_steps_are_refused(length):
    solution = Solution("p#0", "p", tuple("abcd"), "wrong", "stop", "test", "test")
    with pytest.raises(PRMError, match="p#0"):
        PLAIN.label(
            [solution],
            RolloutsByPrefix(lambda *_: 0.5),
            check=check,
            scores={"p#0": [0.5] * length},
        )


def test_confusions_are_learned_from_the_truth_where_it_is_known():
    pool = world().solutions
    longest = max(len(one.steps) for one in pool)
    firsts = [longest - len(one.steps) for one in pool]
    belief = np.zeros((len(pool), longest + 1))
    for row, first in enumerate(firsts):
        error = world().first_errors[row]
        belief[row, longest if error is None else first + error] = 1.0
    shares = []
    for right in (1.0, 0.6, 0.0):
        sources = Sources(pool, judge(right), {})
        sources.learn(belief)
        rows = zip(sources.likelihood(), belief, firsts, strict=True)
        shares.append(np.mean([like @ truth / like[first:].sum() for like, truth, first in rows]))
    # One place of six to eleven, where nothing is said.
    assert shares[0] > 0.85
    assert shares[0] > shares[1] + 0.2
    assert shares[1] > shares[2] + 0.1
