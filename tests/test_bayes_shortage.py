"""The Bayesian labeler where rollouts, verdicts or ends are missing."""

import dataclasses

import pytest

from data_gen.labelers.bayes import BayesLabeler
from prm.protocols import Rollout
from prm.records import Solution, Verdict
from tests.scripted_rollouts import TOKENS, RolloutsByPrefix

PLAIN = BayesLabeler(learn=False)
NOTHING_IS_WORTH_IT = BayesLabeler(learn=False, price=1e9)


def solution(num_steps, sample=0, *, answer="wrong", problem="p"):
    steps = tuple(f"{t} of {sample}" for t in range(num_steps))
    end = "length" if answer is None else "stop"
    return Solution(f"{problem}#{sample}", problem, steps, answer, end, "test", "test")


def check(one):
    return Verdict(one.final_answer or "could_not_tell", "test")


def hard(row):
    return [one.hard for one in row.labels]


def drop(one, kept):
    """The third step is wrong."""
    return 0.9 if kept <= 2 else 0.02


class Drawn:
    """So many rollouts of each number of steps kept, all with this outcome."""

    def __init__(self, there, correct=True):
        self.there, self.correct, self.asked = dict(there), correct, []

    async def sample_many(self, requests):
        assert requests, "nothing was asked for"
        groups = []
        for _, kept, n in requests:
            self.asked.append(kept)
            n = min(n, self.there.get(kept, 0))
            self.there[kept] = self.there.get(kept, 0) - n
            groups.append([Rollout(self.correct, TOKENS, "text")] * n)
        return groups


@pytest.mark.parametrize("budget", [0, 1, 5, 17])
@pytest.mark.parametrize("price", [0.0, 2e-5])
def test_a_budget_that_ends_gives_honest_labels_of_what_was_had(budget, price):
    pool = [solution(6, problem=f"r{k}") for k in range(4)]
    rollouts = RolloutsByPrefix(drop, budget=budget)
    rows = BayesLabeler(price=price).label(pool, rollouts, check=check)
    assert [row.stop_reason for row in rows] == ["budget"] * 4
    assert sum(row.tokens for row in rows) == budget * TOKENS
    for row in rows:
        assert sum(row.first_error.values()) == pytest.approx(1.0)
    # A prefix that has ended is never asked for again: one call for each of the five at most.
    assert len(rollouts.calls) <= 5 + budget


def test_with_no_rollouts_at_all_the_labels_are_those_of_the_verdicts_alone():
    pool = [solution(6), solution(4, 1, answer="right")]
    without = NOTHING_IS_WORTH_IT.label(pool, RolloutsByPrefix(drop), check=check)
    ended = PLAIN.label(pool, RolloutsByPrefix(drop, budget=0), check=check)
    assert [row.first_error for row in ended] == [row.first_error for row in without]
    assert [row.labels for row in ended] == [row.labels for row in without]


def test_a_prefix_that_has_ended_is_not_asked_for_again():
    drawn = Drawn({1: 2, 2: 0, 3: 4, 4: 100, 5: 100})
    labeler = dataclasses.replace(PLAIN, price=0.0, max_rollouts=80)
    labeler.label([solution(6)], drawn, check=check)
    asked = [drawn.asked.count(kept) for kept in range(1, 6)]
    assert asked[0] <= 3
    assert asked[1] <= 1
    assert asked[2] <= 5
    assert asked[3] + asked[4] > 40


def test_who_was_done_before_the_budget_ended_stopped_for_the_price():
    pool = [solution(1, problem="a"), solution(6, problem="b")]
    rows = PLAIN.label(pool, RolloutsByPrefix(drop, budget=3), check=check)
    assert [row.stop_reason for row in rows] == ["price", "budget"]


@pytest.mark.parametrize("learn", [True, False])
def test_rollouts_that_nobody_could_check_cost_tokens_and_say_nothing(learn):
    labeler = BayesLabeler(learn=learn, max_rollouts=20)
    rollouts = RolloutsByPrefix(drop, unreadable=1.0)
    [row] = labeler.label([solution(6)], rollouts, check=check)
    [before] = NOTHING_IS_WORTH_IT.label([solution(6)], rollouts, check=check)
    assert 0 < row.tokens == rollouts.num_tokens <= 20 * TOKENS
    assert {label.trials for label in row.labels[:-1]} == {0}
    if not learn:
        assert row.first_error == before.first_error


def test_unreadable_rollouts_come_to_an_end():
    rollouts = RolloutsByPrefix(drop, unreadable=1.0)
    labeler = BayesLabeler(price=0.0, max_rollouts=40)
    pool = [solution(5), solution(4, 1), solution(3, 2, answer=None)]
    rows = labeler.label(pool, rollouts, check=check)
    assert rollouts.num_tokens <= 3 * 40 * TOKENS
    assert {row.stop_reason for row in rows} <= {"max_rollouts", "price"}


def test_a_prefix_whose_rollouts_are_never_readable_is_left_alone_after_some_tries():
    rollouts = RolloutsByPrefix(drop, unreadable=1.0)
    PLAIN.label([solution(6)], rollouts, check=check)
    assert max(rollouts.asked.values()) <= 50


def test_one_unreadable_prefix_does_not_hide_the_error_elsewhere():
    class OneHole(RolloutsByPrefix):
        def _draw(self, one, kept):
            rollout = super()._draw(one, kept)
            return dataclasses.replace(rollout, correct=None) if kept == 2 else rollout

    [row] = PLAIN.label([solution(6)], OneHole(drop), check=check)
    assert row.first_error["2"] + row.first_error["1"] > 0.8


def test_the_cap_on_rollouts_holds_in_late_rounds_too():
    for most in (41, 45, 101, 103):
        rollouts = RolloutsByPrefix(lambda *_: 0.5)
        labeler = BayesLabeler(price=0.0, learn=False, max_rollouts=most)
        labeler.label([solution(6)], rollouts, check=check)
        assert rollouts.num_tokens <= most * TOKENS


def test_a_verdict_that_failed_is_no_verdict():
    def broken(one):
        return Verdict("could_not_tell", "test", reason="error")

    [row] = NOTHING_IS_WORTH_IT.label([solution(4)], RolloutsByPrefix(drop), check=broken)
    [right] = NOTHING_IS_WORTH_IT.label(
        [solution(4, answer="right")], RolloutsByPrefix(drop), check=check
    )
    [wrong] = NOTHING_IS_WORTH_IT.label([solution(4)], RolloutsByPrefix(drop), check=check)
    none = [one.first_error["none"] for one in (wrong, row, right)]
    assert none[0] < none[1] < none[2]
    assert row.labels[-1].evidence == ()


def test_where_nothing_is_known_there_is_no_hard_label():
    rollouts = RolloutsByPrefix(drop, budget=0)
    [row] = PLAIN.label([solution(4, answer=None)], rollouts, check=check)
    assert hard(row) == [None] * 4


def test_the_error_of_a_cut_off_solution_is_found_by_rollouts():
    [row] = BayesLabeler(learn=False, price=1e-6).label(
        [solution(6, answer=None)], RolloutsByPrefix(drop), check=check
    )
    assert max(row.first_error, key=row.first_error.get) == "2"
    assert hard(row)[:3] == [True, True, False]


def test_the_last_step_of_a_cut_off_solution_has_no_invented_success_rate():
    pool = [solution(4, answer=None)]
    [row] = PLAIN.label(pool, RolloutsByPrefix(lambda *_: 0.9), check=check)
    rate = row.labels[-1].success_rate
    assert rate is None or rate > 0.3


def test_rollouts_from_the_end_of_a_cut_off_solution_count():
    """A longer solution shares all of its steps."""
    longer = dataclasses.replace(solution(6), id="p#1")
    short = dataclasses.replace(solution(4, answer=None), steps=longer.steps[:4])
    labels = []
    for rate in (0.0, 1.0):
        rollouts = RolloutsByPrefix(lambda _, kept, rate=rate: rate if kept == 4 else 0.5)
        labeler = BayesLabeler(learn=False, price=1e-7, max_rollouts=100)
        labels.append(labeler.label([short, longer], rollouts, check=check)[0])
    assert all(row.labels[3].trials > 1 for row in labels)
    assert labels[0].labels[3].prefix_correct < labels[1].labels[3].prefix_correct - 0.1


def test_the_verdict_of_a_longer_solution_is_heard_by_the_cut_off_one_that_it_continues():
    longer = dataclasses.replace(solution(6, answer="right"), id="p#1")
    short = dataclasses.replace(solution(4, answer=None), steps=longer.steps[:4])
    alone = NOTHING_IS_WORTH_IT.label([short], RolloutsByPrefix(drop), check=check)[0]
    both = NOTHING_IS_WORTH_IT.label([short, longer], RolloutsByPrefix(drop), check=check)[0]
    assert both.first_error["none"] > alone.first_error["none"] + 0.02


def test_a_cut_off_solution_has_no_verdict_where_nobody_checks():
    rollouts = RolloutsByPrefix(lambda *_: 0.9)
    [row] = PLAIN.label([solution(4, answer=None)], rollouts)
    assert row.verdict.label is None
    assert rollouts.num_tokens == row.tokens
