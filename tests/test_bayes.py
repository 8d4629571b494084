"""What the Bayesian labeler buys, and what stands in its labels."""

import asyncio
import dataclasses
import itertools
import json
from collections import Counter

import pytest

from data_gen.labelers.bayes import BayesLabeler
from prm.errors import ConfigError
from prm.records import Evidence, LabelledSolution, Solution, Verdict, from_json, to_json
from tests.scripted_rollouts import TOKENS, RolloutsByPrefix

PLAIN = BayesLabeler(learn=False)
NOTHING_IS_WORTH_IT = BayesLabeler(learn=False, price=1e9)


def solution(num_steps, sample=0, *, answer="wrong", problem="p", shared=0):
    """``shared`` first steps are the same in all samples."""
    steps = tuple(f"{t} of {'all' if t < shared else sample}" for t in range(num_steps))
    return Solution(f"{problem}#{sample}", problem, steps, answer, "stop", "test", "test")


def check(one):
    return Verdict(one.final_answer or "could_not_tell", "test")


def drop(one, kept):
    """The third step is wrong."""
    return 0.9 if kept <= 2 else 0.02


def mixed_pool():
    """Many problems, lengths, verdicts and shared prefixes."""
    answers = ["wrong", "wrong", "right", None]
    return [
        solution(2 + (3 * k + j) % 7, j, answer=answers[(k + j) % 4], problem=f"q{k}", shared=j % 3)
        for k in range(12)
        for j in range(5)
    ]


def mode(row):
    return max(row.first_error, key=row.first_error.get)


def hard(row):
    return [one.hard for one in row.labels]


def paid(pool, rows):
    """Tokens of the distinct prefixes that have labels."""
    by_prefix = {}
    for one, row in zip(pool, rows, strict=True):
        for label in row.labels:
            by_prefix[one.problem_id, one.steps[: label.step + 1]] = label.tokens
    return sum(by_prefix.values())


@pytest.mark.parametrize("wrong", range(6))
def test_the_wrong_step_of_a_wrong_answer_is_found(wrong):
    def rate(one, kept):
        return 0.95 if one.final_answer == "right" or kept <= wrong else 0.02

    pool = [solution(6), *(solution(6, k, answer="right") for k in range(1, 4))]
    row = PLAIN.label(pool, RolloutsByPrefix(rate), check=check)[0]
    assert mode(row) == str(wrong)
    assert hard(row) == [True] * wrong + [False] + [None] * (5 - wrong)
    assert all(label.success_rate > 0.6 for label in row.labels[:wrong])
    assert all(label.success_rate < 0.3 for label in row.labels[wrong:])


def test_a_right_answer_whose_prefixes_succeed_is_right_throughout():
    rollouts = RolloutsByPrefix(lambda *_: 0.9)
    [row] = PLAIN.label([solution(6, answer="right")], rollouts, check=check)
    assert mode(row) == "none"
    assert hard(row) == [True] * 6


@pytest.mark.parametrize("learn", [True, False])
def test_every_record_is_consistent(learn):
    pool, labeler = mixed_pool(), BayesLabeler(learn=learn, completer="small")
    rollouts = RolloutsByPrefix(drop, unreadable=0.1)
    rows = labeler.label(pool, rollouts, check=check)
    assert [row.solution for row in rows] == pool
    for one, row in zip(pool, rows, strict=True):
        places = ["none", *map(str, range(len(one.steps)))]
        assert list(row.first_error) == places
        assert sum(row.first_error.values()) == pytest.approx(1.0)
        assert min(row.first_error.values()) >= 0
        tail = 1.0
        for label in row.labels:
            tail -= row.first_error[str(label.step)]
            assert label.prefix_correct == pytest.approx(tail, abs=1e-9)
            assert 0 <= label.success_rate <= 1
        assert [label.step for label in row.labels] == list(range(len(one.steps)))
        assert row.tokens == sum(label.tokens for label in row.labels)
        assert row.tokens_by_kind == {"rollouts": row.tokens}
        assert (row.verdict, row.labeler, row.completer) == (check(one), "bayes", "small")
        assert row.stop_reason in ("price", "max_rollouts")
    assert len({row.decoder for row in rows}) == 1
    assert (rows[0].decoder != PLAIN.label(pool[:1], rollouts, check=check)[0].decoder) == learn


def test_counts_and_tokens_are_those_of_the_rollouts_given():
    pool, rollouts = mixed_pool(), RolloutsByPrefix(drop, unreadable=0.2)
    given = Counter()

    class Noted:
        async def sample_many(self, requests):
            groups = await rollouts.sample_many(requests)
            for (one, kept, _), group in zip(requests, groups, strict=True):
                for rollout in group:
                    key = one.problem_id, one.steps[:kept]
                    given[key, "tokens"] += rollout.num_tokens
                    given[key, rollout.correct] += 1
            return groups

    rows = BayesLabeler().label(pool, Noted(), check=check)
    for one, row in zip(pool, rows, strict=True):
        for label in row.labels:
            key = one.problem_id, one.steps[: label.step + 1]
            if one.final_answer and label.step == len(one.steps) - 1:
                right = int(one.final_answer == "right")
                assert label.evidence == (Evidence("verdict", right, 1, "test"),)
                continue
            won, lost = given[key, True], given[key, False]
            assert (label.successes, label.trials) == (won, won + lost)
            assert label.tokens == given[key, "tokens"]
            assert [item.kind for item in label.evidence] == ["rollouts"] * bool(label.tokens)
    assert rollouts.num_tokens == paid(pool, rows) > 0


def test_hard_labels_follow_from_the_posterior_and_how_sure_one_wants_to_be():
    for sure in (0.5, 0.7, 0.95):
        labeler = BayesLabeler(sure=sure)
        for row in labeler.label(mixed_pool(), RolloutsByPrefix(drop), check=check):
            places = [str(label.step) for label in row.labels]
            wrong = [t for t, place in enumerate(places) if row.first_error[place] >= sure]
            if wrong:
                t = wrong[0]
                assert hard(row) == [True] * t + [False] + [None] * (len(places) - t - 1)
            else:
                wanted = [True if label.prefix_correct >= sure else None for label in row.labels]
                assert hard(row) == wanted


def test_roots_leave_out_the_solution_itself():
    pool = [solution(3, k, answer=answer) for k, answer in enumerate(["right", "wrong", None])]
    rows = NOTHING_IS_WORTH_IT.label(pool, RolloutsByPrefix(drop), check=check)
    assert [(row.root_successes, row.root_trials) for row in rows] == [(0, 1), (1, 1), (1, 2)]


def test_a_prefix_that_solutions_share_is_asked_for_once_a_round():
    pool = [solution(7, k, shared=4) for k in range(6)]
    rollouts = RolloutsByPrefix(drop)
    rows = PLAIN.label(pool, rollouts, check=check)
    for call in rollouts.calls:
        assert len({steps for steps, _ in call}) == len(call)
    assert sum(row.tokens for row in rows) > rollouts.num_tokens == paid(pool, rows)
    shared = [[label.evidence for label in row.labels[:4]] for row in rows]
    assert all(evidence == shared[0] for evidence in shared)


def test_verdicts_of_siblings_through_a_prefix_move_the_posterior():
    others = [solution(5, k, answer="right", shared=3) for k in range(1, 6)]
    lone, helped, warned = (
        NOTHING_IS_WORTH_IT.label(pool, RolloutsByPrefix(drop), check=check)[0]
        for pool in (
            [solution(5, shared=3)],
            [solution(5, shared=3), *others],
            [
                solution(5, shared=3),
                *(dataclasses.replace(one, final_answer="wrong") for one in others),
            ],
        )
    )
    right = [row.labels[2].prefix_correct for row in (warned, lone, helped)]
    assert right == sorted(right)
    assert right[2] > right[1] + 0.1


def test_nothing_is_bought_where_nothing_is_worth_its_price():
    rollouts = RolloutsByPrefix(lambda *_: 1 / 0)
    rows = NOTHING_IS_WORTH_IT.label(mixed_pool(), rollouts, check=check)
    assert not rollouts.calls
    assert {row.stop_reason for row in rows} == {"price"}
    assert not any(row.tokens for row in rows)


def test_without_a_check_one_call_asks_for_the_verdicts():
    pool = [solution(4), solution(3, 1, answer="right")]
    rollouts = RolloutsByPrefix(drop)
    rows = NOTHING_IS_WORTH_IT.label(pool, rollouts)
    assert rollouts.calls == [[(one.steps, 1) for one in pool]]
    assert [row.verdict.status for row in rows] == ["wrong", "right"]
    assert rollouts.num_tokens == 0


@pytest.mark.parametrize("wrong", [0, 2, 5])
def test_a_lower_price_never_buys_less_on_the_same_draws(wrong):
    one, bought = solution(8), []
    for price in (1e-2, 1e-3, 1e-4, 1e-5, 1e-6):
        rollouts = RolloutsByPrefix(lambda _, kept: 0.8 if kept <= wrong else 0.1)
        labeler = dataclasses.replace(PLAIN, price=price)
        [row] = labeler.label([one], rollouts, check=check)
        assert row.tokens == rollouts.num_tokens
        bought.append(row.tokens)
    assert bought == sorted(bought)
    assert bought[0] < bought[-1]


@pytest.mark.parametrize("most", [0, 1, 7, 60])
def test_no_solution_has_more_rollouts_than_it_may(most):
    pool = [solution(5), solution(6, 1), solution(3, 2, answer=None)]
    rollouts = RolloutsByPrefix(lambda *_: 0.5)
    labeler = BayesLabeler(price=0.0, max_rollouts=most)
    rows = labeler.label(pool, rollouts, check=check)
    assert [row.tokens for row in rows] == [most * TOKENS] * 3
    assert {row.stop_reason for row in rows} == {"max_rollouts"}


def test_sweeping_gives_the_labels_of_every_price_the_highest_first():
    pool, prices = mixed_pool(), [1e-4, 1e-2, 1e-6]
    rollouts = RolloutsByPrefix(drop)
    results = BayesLabeler().sweep(pool, rollouts, prices, check=check)
    assert [[row.solution for row in rows] for rows in results] == [pool] * 3
    spent = [paid(pool, rows) for rows in results]
    assert spent[0] < spent[1] < spent[2] == rollouts.num_tokens
    for before, after in itertools.pairwise(results):
        for old, new in zip(before, after, strict=True):
            assert old.tokens <= new.tokens


def test_a_sweep_of_one_price_is_labelling_at_this_price():
    pool = mixed_pool()
    [swept] = BayesLabeler().sweep(pool, RolloutsByPrefix(drop), [1e-4], check=check)
    labeler = BayesLabeler(price=1e-4)
    assert labeler.label(pool, RolloutsByPrefix(drop), check=check) == swept


def test_labelling_twice_gives_the_same():
    first, second = (
        BayesLabeler().label(mixed_pool(), RolloutsByPrefix(drop), check=check) for _ in range(2)
    )
    assert first == second


def test_labels_survive_json():
    rows = BayesLabeler().label(mixed_pool(), RolloutsByPrefix(drop, unreadable=0.1), check=check)
    for row in [*rows, *PLAIN.label([solution(0)], RolloutsByPrefix(drop), check=check)]:
        text = json.dumps(to_json(row), allow_nan=False)
        assert from_json(LabelledSolution, json.loads(text), "row") == row


def test_no_solutions_have_no_labels_and_no_steps_have_none():
    rollouts = RolloutsByPrefix(lambda *_: 1 / 0)
    assert BayesLabeler().label([], rollouts, check=check) == []
    empty = [solution(0), solution(0, 1, answer="right")]
    for row in BayesLabeler().label(empty, rollouts, check=check):
        assert (row.labels, row.first_error, row.stop_reason) == ((), {}, "no_steps")
    rows = BayesLabeler().label([empty[0], solution(3, 2), empty[1]], RolloutsByPrefix(drop))
    assert [len(row.labels) for row in rows] == [0, 3, 0]
    assert [row.verdict.status for row in rows] == ["wrong", "wrong", "right"]


def test_one_step_needs_no_rollouts_where_there_is_a_verdict():
    rollouts = RolloutsByPrefix(lambda *_: 1 / 0)
    pool = [solution(1), solution(1, answer="right", problem="other")]
    rows = BayesLabeler(price=0.0).label(pool, rollouts, check=check)
    assert [mode(row) for row in rows] == ["0", "none"]
    assert [hard(row) for row in rows] == [[False], [True]]


def test_a_running_event_loop_is_no_obstacle():
    async def notebook():
        return PLAIN.label([solution(4)], RolloutsByPrefix(drop), check=check)

    [row] = asyncio.run(notebook())
    assert mode(row) == "2"


@pytest.mark.parametrize(
    "wrong", [{"price": -1.0}, {"max_rollouts": -1}, {"sure": 0.4}, {"sure": 1.0}]
)
def test_what_cannot_be_meant_is_refused(wrong):
    with pytest.raises(ConfigError, match="bayes"):
        BayesLabeler(**wrong)
