import dataclasses

import pytest

from data_gen.labelers.reading import (
    first_error_by_threshold,
    first_error_of,
    hard,
    relative_progress,
    soft,
    with_hard,
)
from prm.records import LabelledSolution, StepLabel, Verdict
from tests.tiny import tiny_problem, tiny_solution


def labelled(*counts, status="wrong", root=(0, 0), reason="undecided"):
    """A solution with these (successes, trials) of its steps."""
    labels = tuple(
        StepLabel(step, won, tried, None, None, None) for step, (won, tried) in enumerate(counts)
    )
    solution = tiny_solution(tiny_problem(), [f"step {step}" for step in range(len(counts))])
    row = LabelledSolution(solution, labels, {}, Verdict(status, "test"), "test", reason)
    return dataclasses.replace(row, root_successes=root[0], root_trials=root[1])


def test_the_soft_reading_is_the_share_of_successes_and_the_verdict_at_the_end():
    assert soft(labelled((3, 4), (0, 0), (0, 8), (5, 5))) == [0.75, None, 0.0, 0.0]
    assert soft(labelled((1, 4), (1, 8), status="right")) == [0.25, 1.0]
    assert soft(labelled((1, 4), (1, 8), status="could_not_tell")) == [0.25, 0.125]
    assert soft(labelled()) == []


@pytest.mark.parametrize(
    ("threshold", "expected"), [(0.0, 3), (0.1, 3), (0.124, 3), (0.125, 1), (0.5, 1), (0.75, 0)]
)
def test_the_first_error_is_the_first_step_at_or_below_the_threshold(threshold, expected):
    assert first_error_by_threshold([0.75, 0.125, 0.25, 0.0, 0.0], threshold) == expected


def test_no_error_is_none_and_unknown_steps_are_passed_over():
    assert first_error_by_threshold([0.5, None, 1.0], 0.25) is None
    assert first_error_by_threshold([0.5, None, 0.0], 0.25) == 2
    assert first_error_by_threshold([], 0.25) is None


@pytest.mark.parametrize(
    ("counts", "status", "expected"),
    [
        ([(4, 4), (2, 4), (0, 4), (1, 4)], "wrong", [True, True, False, None]),
        ([(0, 4), (2, 4), (0, 4)], "wrong", [False, None, None]),
        ([(4, 4), (2, 4), (0, 0)], "wrong", [True, True, False]),
        ([(4, 4), (2, 4), (0, 0)], "right", [True, True, True]),
        ([(4, 4), (2, 4), (0, 0)], "could_not_tell", [True, True, None]),
        # Steps that were not tried are good before a good one, unknown before a bad one.
        ([(0, 0), (2, 4), (0, 4), (0, 0)], "wrong", [True, True, False, None]),
        ([(4, 4), (0, 0), (0, 4), (0, 0)], "wrong", [True, None, None, None]),
        ([(0, 0), (0, 0), (0, 0)], "right", [True, True, True]),
        ([(0, 0), (0, 0)], "wrong", [None, None]),
        ([(0, 0)], "wrong", [False]),
        ([], "wrong", []),
    ],
)
def test_hard_labels_are_good_up_to_the_first_error_and_unknown_behind_it(counts, status, expected):
    assert hard(labelled(*counts, status=status)) == expected


def test_another_threshold_reads_the_same_counts_anew():
    row = labelled((8, 8), (3, 8), (1, 8), (0, 8))
    assert [hard(row, t).index(False) for t in (0.0, 0.2, 0.4)] == [3, 2, 1]


def test_relative_progress_is_the_rate_after_the_step_in_that_before():
    row = labelled((2, 4), (4, 4), (1, 4), (0, 4), (0, 0), status="wrong", root=(1, 4))
    assert relative_progress(row) == [2.0, 2.0, 0.25, 0.0, None]


def test_relative_progress_is_unknown_without_both_rates():
    assert relative_progress(labelled((2, 4), (0, 0), (2, 4), (1, 1), status="right")) == [
        None,
        None,
        None,
        2.0,
    ]
    assert relative_progress(labelled((1, 4), (0, 0), root=(0, 4))) == [None, 0.0]


def test_relative_progress_multiplies_back_to_the_last_rate():
    row = labelled((3, 8), (5, 8), (2, 8), (7, 8), status="could_not_tell", root=(1, 3))
    product = 1 / 3
    for value, rate in zip(relative_progress(row), soft(row), strict=True):
        product *= value
        assert product == pytest.approx(rate)


def test_the_record_read_anew_has_the_labels_and_the_first_error():
    row = labelled((8, 8), (1, 8), (0, 8), (0, 0))
    read = with_hard(row, 0.2)
    assert [label.hard for label in read.labels] == [True, False, None, None]
    assert (read.first_error, read.stop_reason) == ({"1": 1.0}, "first_error_found")
    assert [label.trials for label in read.labels] == [8, 8, 8, 0]
    assert with_hard(row).first_error == {"2": 1.0}
    assert with_hard(labelled((8, 8), (1, 1), status="right")).first_error == {"none": 1.0}
    assert with_hard(labelled()).stop_reason == "no_steps"


def test_a_record_that_tells_nothing_keeps_why():
    for reason, kept in (("budget", "budget"), ("first_error_found", "undecided")):
        read = with_hard(labelled((0, 0), (0, 0), reason=reason))
        assert (read.first_error, read.stop_reason) == ({}, kept)


def test_belief_is_all_on_the_place_that_hard_labels_tell():
    assert first_error_of([True, False, None]) == {"1": 1.0}
    assert first_error_of([True, True]) == {"none": 1.0}
    assert first_error_of([True, None]) == first_error_of([]) == {}
