"""Math-Shepherd's uniform form, what its records say, and what it does without more rollouts."""

import dataclasses

import pytest

from data_gen.labelers import MathShepherdLabeler
from data_gen.labelers.reading import first_error_by_threshold, soft
from tests.test_math_shepherd import ALONE, RIGHT, TOKENS, WRONG, Scripted, hard, label, solution


def test_everywhere_every_inner_prefix_gets_all_its_rollouts_at_once():
    rollouts = Scripted([False] * 5, [True] * 5)
    labeler = MathShepherdLabeler(num_rollouts=5, everywhere=True, reuse_siblings=False)
    [row] = label(labeler, [solution(WRONG)], rollouts)
    assert rollouts.counts == [(1, 5), (2, 5)]
    assert [(one.successes, one.trials) for one in row.labels] == [(0, 5), (5, 5), (0, 1)]
    # Counts behind the first error are for other readings; the hard label there stays unknown.
    assert hard(row) == [False, None, None]
    assert (row.stop_reason, row.first_error) == ("first_error_found", {"0": 1.0})
    assert first_error_by_threshold(soft(row), 0.0) == 0


def test_everywhere_siblings_come_on_top_and_shared_prefixes_are_paid_once():
    pool = [solution(WRONG, k) for k in range(3)]
    rollouts = Scripted([True] * 4, [False] * 4)
    rows = label(MathShepherdLabeler(num_rollouts=4, everywhere=True), pool, rollouts)
    assert rollouts.counts == [(1, 4), (2, 4)]
    assert [(one.successes, one.trials) for one in rows[0].labels] == [(4, 7), (0, 7), (0, 1)]


def test_the_record_says_who_continued_what_was_spent_and_what_others_reached():
    pool = [solution(RIGHT, 0), solution(WRONG, 1), solution(RIGHT, 2), solution(WRONG, 3)]
    pool[2] = dataclasses.replace(pool[2], parent=pool[0].id)
    rollouts = Scripted([True] * 8, [True] * 2 + [False] * 8)
    rows = label(MathShepherdLabeler(completer="small"), pool, rollouts)
    assert {row.completer for row in rows} == {"small"}
    assert all(row.tokens_by_kind == {"rollouts": row.tokens} for row in rows)
    assert rows[1].tokens > 0
    # The third was made from another solution: it did not begin at the root.
    assert [(row.root_successes, row.root_trials) for row in rows] == [
        (0, 2),
        (1, 2),
        (1, 3),
        (1, 2),
    ]


class Ending(Scripted):
    """Rollouts that end after so many."""

    def __init__(self, left, *outcomes):
        super().__init__(*outcomes)
        self.left = left

    async def sample_many(self, requests):
        groups = await super().sample_many(requests)
        kept = []
        for group in groups:
            kept.append(group[: self.left])
            self.left -= len(kept[-1])
        return kept


@pytest.mark.parametrize(
    ("left", "labels", "reason"),
    [
        (0, [None, None, True], "budget"),
        (2, [None, None, True], "budget"),
        (3, [True, None, True], "budget"),
        (9, [True, None, True], "budget"),
        # Without a success in half of its rollouts a prefix is bad.
        (10, [True, False, None], "first_error_found"),
        (11, [True, False, None], "first_error_found"),
    ],
)
def test_where_rollouts_end_labels_are_what_is_known_and_nothing_is_asked_twice(
    left, labels, reason
):
    rollouts = Ending(left, [False, True, True] * 9, [False] * 20)
    [row] = label(ALONE, [solution()], rollouts)
    assert (hard(row), row.stop_reason) == (labels, reason)
    ended = [sum(n for length, n in rollouts.counts if length == kept) for kept in (1, 2)]
    assert ended[0] <= 8
    assert ended[1] <= 8
    assert row.tokens == TOKENS * left
    assert bool(row.first_error) is (reason != "budget")


def test_everywhere_goes_on_behind_a_prefix_whose_rollouts_have_ended():
    rollouts = Ending(3, [True] * 4, [True] * 4)
    labeler = MathShepherdLabeler(num_rollouts=4, everywhere=True, reuse_siblings=False)
    [row] = label(labeler, [solution(WRONG)], rollouts)
    assert rollouts.counts == [(1, 4), (2, 4)]
    assert [one.trials for one in row.labels] == [3, 0, 1]
    assert row.stop_reason == "budget"
