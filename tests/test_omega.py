import dataclasses
import json
import math
import random

import pytest

from data_gen.labelers.omega import OmegaLabeler
from data_gen.labelers.probes import SequentialTest
from data_gen.labelers.reading import with_hard
from prm.errors import ConfigError
from prm.records import Evidence, LabelledSolution, Solution, from_json, to_json
from tests.scripted_rollouts import TOKENS, RolloutsByPrefix

PUBLISHED = OmegaLabeler(early_stop=False)


def solution(num_steps, sample=0, *, answer="wrong", problem="p", shared=0):
    """``shared`` first steps are the same in all samples."""
    steps = tuple(f"{t} of {'all' if t < shared else sample}" for t in range(num_steps))
    return Solution(f"{problem}#{sample}", problem, steps, answer, "stop", "test", "test")


def wrong_from(first_errors, good=1.0, bad=0.0):
    """The rate of rollouts of solutions with these first errors, by id."""
    return lambda one, kept: good if kept <= first_errors[one.id] else bad


def hard(row):
    return [label.hard for label in row.labels]


def sizes(rollouts):
    return [sum(n for _, n in call) for call in rollouts.calls]


@pytest.mark.parametrize("num_steps", [1, 2, 3, 5, 8, 13, 16, 17])
def test_every_first_error_is_found_with_the_probes_of_a_binary_search(num_steps):
    for error in range(num_steps):
        rollouts = RolloutsByPrefix(wrong_from({"p#0": error}))
        [row] = PUBLISHED.label([solution(num_steps)], rollouts)
        assert row.first_error == {str(error): 1.0}
        assert hard(row) == [True] * error + [False] + [None] * (num_steps - error - 1)
        # The first call asks for the verdict.
        assert len(rollouts.calls) - 1 <= math.ceil(math.log2(num_steps))
        assert sizes(rollouts)[1:] == [8] * (len(rollouts.calls) - 1)
        assert (row.stop_reason, row.labeler) == ("first_error_found", "omega")


def test_counts_tokens_and_completer_are_recorded():
    labeler = dataclasses.replace(PUBLISHED, completer="small")
    [row] = labeler.label([solution(4)], RolloutsByPrefix(wrong_from({"p#0": 1})))
    assert [(one.successes, one.trials) for one in row.labels] == [(8, 8), (0, 8), (0, 0), (0, 1)]
    assert row.labels[0].evidence == (Evidence("rollouts", 8, 8, "small", 80, "some text"),)
    assert [one.success_rate for one in row.labels] == [1.0, 0.0, None, 0.0]
    assert (row.tokens, row.tokens_by_kind) == (16 * TOKENS, {"rollouts": 16 * TOKENS})
    assert (row.completer, row.root_trials) == ("small", 0)


def test_a_right_answer_gets_no_rollouts_and_is_right_throughout():
    rollouts = RolloutsByPrefix(lambda *_: 1 / 0)
    rows = PUBLISHED.label([solution(3, answer="right"), solution(1, 1)], rollouts)
    assert [hard(row) for row in rows] == [[True] * 3, [False]]
    assert [row.stop_reason for row in rows] == ["right_answer", "first_error_found"]
    assert rows[0].first_error == {"none": 1.0}
    assert [(row.root_successes, row.root_trials) for row in rows] == [(0, 1), (1, 1)]


def test_without_a_verdict_or_steps_nothing_is_known():
    rollouts = RolloutsByPrefix(lambda *_: 0.0, unreadable=1.0)
    rows = PUBLISHED.label([solution(3, answer=None), solution(0, 1)], rollouts)
    assert [hard(row) for row in rows] == [[None] * 3, []]
    assert [row.stop_reason for row in rows] == ["no_verdict", "no_steps"]
    assert [row.first_error for row in rows] == [{}, {}]


def test_no_solutions_have_no_labels():
    assert OmegaLabeler().label([], RolloutsByPrefix(lambda *_: 1.0)) == []


def test_all_open_solutions_probe_in_one_call_a_round():
    pool = [solution(16, k, problem=f"p{k}") for k in range(50)]
    rollouts = RolloutsByPrefix(wrong_from({one.id: k % 16 for k, one in enumerate(pool)}))
    rows = PUBLISHED.label(pool, rollouts)
    assert [row.first_error for row in rows] == [{str(k % 16): 1.0} for k in range(50)]
    assert sizes(rollouts) == [50] + [50 * 8] * 4


def test_a_prefix_that_solutions_share_is_paid_for_once():
    pool = [solution(8, k, shared=5) for k in range(6)]
    rollouts = RolloutsByPrefix(wrong_from({one.id: 5 for one in pool}))
    rows = PUBLISHED.label(pool, rollouts)
    assert [row.first_error for row in rows] == [{"5": 1.0}] * 6
    assert {len(steps): n for steps, n in rollouts.asked.items() if len(steps) < 8} == {
        4: 8,
        5: 8,
        6: 8,
    }
    # Step 6 is each solution's own.
    assert rollouts.num_tokens == TOKENS * 8 * (1 + 1 + 6)
    assert len({row.labels[3] for row in rows}) == 1


def random_pool(seed, num=60, shared=3):
    source = random.Random(seed)
    pool = [
        solution(source.randint(1, 12), k, problem=f"p{k // 3}", shared=source.randint(0, shared))
        for k in range(num)
    ]
    rates = {one.id: [source.random() ** 3 for _ in range(13)] for one in pool}
    # The rate is the prefix's: shared steps have that of the first solution which has them.
    owner = {}
    for one in pool:
        for kept in range(len(one.steps) + 1):
            owner.setdefault((one.problem_id, one.steps[:kept]), one.id)
    return pool, lambda one, kept: rates[owner[one.problem_id, one.steps[:kept]]][kept]


@pytest.mark.parametrize("threshold", [0.0, 0.1, 0.25, 0.5])
@pytest.mark.parametrize("unreadable", [0.0, 0.3])
@pytest.mark.parametrize("round_size", [1, 3])
def test_early_stop_gives_the_same_labels_for_fewer_tokens(threshold, unreadable, round_size):
    pool, rate = random_pool(11)
    rows, tokens = {}, {}
    for early in (False, True):
        labeler = OmegaLabeler(threshold=threshold, early_stop=early, round_size=round_size)
        rollouts = RolloutsByPrefix(rate, unreadable=unreadable)
        rows[early] = labeler.label(pool, rollouts)
        tokens[early] = rollouts.num_tokens
    for full, early in zip(rows[False], rows[True], strict=True):
        assert hard(full) == hard(early)
        assert (full.first_error, full.stop_reason) == (early.first_error, early.stop_reason)
        assert early.tokens <= full.tokens
    assert tokens[True] < tokens[False]
    assert {row.stop_reason for row in rows[True]} >= {"first_error_found"}


def test_any_success_makes_a_prefix_good_and_a_threshold_asks_for_more():
    first_errors = {"p#0": 1}
    found = {}
    for threshold in (0.0, 0.3):
        # Wrong prefixes recover now and then.
        labeler = OmegaLabeler(num_rollouts=64, threshold=threshold, early_stop=False)
        rollouts = RolloutsByPrefix(wrong_from(first_errors, 0.8, 0.1))
        [row] = labeler.label([solution(8)], rollouts)
        found[threshold] = row.first_error
    assert found == {0.0: {"7": 1.0}, 0.3: {"1": 1.0}}


def test_a_probe_that_cannot_be_checked_leaves_the_rest_undecided():
    # Three steps kept cannot be checked; two are good.
    def rate(_, kept):
        return 1.0 if kept <= 4 else 0.0

    rollouts = RolloutsByPrefix(rate)
    draw = rollouts._draw
    rollouts._draw = lambda one, kept: (
        dataclasses.replace(draw(one, kept), correct=None) if kept == 6 else draw(one, kept)
    )
    [row] = PUBLISHED.label([solution(8)], rollouts)
    assert hard(row) == [True] * 4 + [None] * 4
    assert (row.stop_reason, row.first_error) == ("undecided", {})
    assert row.tokens == 16 * TOKENS


@pytest.mark.parametrize("labeler", [OmegaLabeler(), PUBLISHED, OmegaLabeler(test="sequential")])
def test_at_the_end_of_the_budget_labels_are_what_is_known(labeler):
    pool, rate = random_pool(5)
    whole = RolloutsByPrefix(rate)
    before = labeler.label(pool, whole)
    for budget in (0, 7, 100, 400):
        rollouts = RolloutsByPrefix(rate, budget=budget)
        rows = labeler.label(pool, rollouts)
        assert rollouts.num_tokens <= budget * TOKENS
        for row in rows:
            if row.stop_reason == "budget":
                assert row.first_error == {}
                assert False not in hard(row)
        assert "budget" in {row.stop_reason for row in rows}
        # Where it is known, nothing more would have changed it.
        same = [
            row.first_error == full.first_error
            for row, full in zip(rows, before, strict=True)
            if row.stop_reason == full.stop_reason == "first_error_found"
        ]
        assert sum(same) >= 0.9 * len(same)


def test_a_prefix_whose_rollouts_have_ended_is_not_asked_for_again():
    rollouts = RolloutsByPrefix(lambda *_: 0.0, budget=3)
    [row] = OmegaLabeler(early_stop=False).label([solution(4)], rollouts)
    assert len(rollouts.calls) == 2
    assert (row.stop_reason, hard(row)) == ("budget", [None] * 4)
    assert row.labels[1].trials == 3


def test_a_relative_threshold_is_a_share_of_the_rate_of_the_problem():
    # Good prefixes reach the answer half as often as where the root is likelier to.
    pool = [
        *[solution(8, k, problem="hard", answer="right" if k == 1 else "wrong") for k in range(5)],
        *[solution(8, k, problem="easy", answer="right" if k else "wrong") for k in range(5)],
    ]

    def rate(one, kept):
        if kept > 3:
            return 0.05
        return {"hard": 0.25, "easy": 0.8}[one.problem_id]

    labeler = OmegaLabeler(num_rollouts=200, threshold=0.6, relative=True)
    rollouts = RolloutsByPrefix(rate)
    rows = labeler.label(pool, rollouts)
    found = {row.id: row.first_error for row in rows if row.stop_reason != "right_answer"}
    assert set(map(str, found.values())) == {"{'3': 1.0}"}
    # 4 of the 200 trials of the root are the other solutions.
    asked = [n for call in rollouts.calls for steps, n in call if not steps]
    assert asked == [196, 196]
    assert [row.root_trials for row in rows] == [200] * 10
    # One fixed threshold that suits the easy problem fails on the hard one.
    fixed = OmegaLabeler(num_rollouts=200, threshold=0.48)
    wrong = fixed.label(pool, RolloutsByPrefix(rate))
    assert wrong[0].first_error == {"0": 1.0}
    assert wrong[5].first_error == {"3": 1.0}


def test_a_relative_threshold_without_any_trial_of_the_root_decides_nothing():
    [row] = OmegaLabeler(relative=True).label([solution(4)], RolloutsByPrefix(None, budget=0))
    assert (row.stop_reason, hard(row)) == ("budget", [None] * 4)
    rollouts = RolloutsByPrefix(lambda *_: 1.0, unreadable=1.0)
    [row] = OmegaLabeler(relative=True).label([solution(4)], rollouts)
    assert (row.stop_reason, hard(row)) == ("undecided", [None] * 4)
    assert row.tokens == 8 * TOKENS


def test_the_sequential_search_finds_errors_with_the_rollouts_that_each_probe_needs():
    pool = [solution(16, k, problem=f"p{k}") for k in range(100)]
    first_errors = {one.id: k % 16 for k, one in enumerate(pool)}
    rollouts = RolloutsByPrefix(wrong_from(first_errors, 0.5, 0.05))
    labeler = OmegaLabeler(test="sequential", sequential=SequentialTest(max_trials=40))
    rows = labeler.label(pool, rollouts)
    right = [row.first_error == {str(first_errors[row.id]): 1.0} for row in rows]
    # Four probes, each wrong at most once in 20.
    assert sum(right) >= 80
    trials = [label.trials for row in rows for label in row.labels[:-1] if label.trials]
    assert max(trials) <= 40
    assert min(trials) < 5
    assert sum(trials) < 0.5 * 40 * len(trials)


def test_settings_that_contradict_are_refused():
    for wrong in (
        {"num_rollouts": 0},
        {"threshold": 1.0},
        {"threshold": -0.1},
        {"round_size": 0},
        {"relative": True, "test": "sequential"},
    ):
        with pytest.raises(ConfigError):
            OmegaLabeler(**wrong)


def test_labels_come_back_from_their_json_line_and_read_the_same_again():
    # What another solution's probes say of a shared step may change the reading.
    pool, rate = random_pool(3, shared=0)
    for row in PUBLISHED.label(pool, RolloutsByPrefix(rate)):
        assert from_json(LabelledSolution, json.loads(json.dumps(to_json(row))), "here") == row
        assert hard(with_hard(row)) == hard(row)
