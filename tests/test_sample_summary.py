"""Summaries of solutions written by hand, and the interval against simulated sampling."""

import dataclasses
import io
import json
import random
import tracemalloc

import pytest
from rich.console import Console

from data_gen.sample_summary import summarise, wilson
from data_gen.sample_tables import show_summary
from prm.errors import RecordError
from prm.ledger import Ledger
from prm.prices import Price
from prm.records import Problem, Solution, Usage


def problem(name):
    return Problem(name, "Calculate 1 + 1.", "2", "integer", "test", "train")


def solution(problem_id, k, answer, strategy="a/1", **more):
    return Solution(
        id=f"{problem_id}#{k}",
        problem_id=problem_id,
        steps=(f"Answer: {answer}",),
        final_answer=answer,
        finish_reason=more.pop("finish_reason", "stop"),
        strategy=strategy,
        model="hand",
        usage=more.pop("usage", Usage(10, 20)),
        **more,
    )


def attempts(**answers):
    """Solutions of problems p, q, ...: for each a list of (strategy, answer)."""
    return [
        solution(name, k, answer, f"{strategy}/1")
        for name, pairs in answers.items()
        for k, (strategy, answer) in enumerate(pairs)
    ]


def summary_of(solutions, price=None):
    names = dict.fromkeys(one.problem_id for one in solutions)
    return summarise([problem(name) for name in names], solutions, price)


def row(summary, strategy, number=0):
    return next(
        one for one in summary.strategies if (one.strategy, one.round) == (strategy, number)
    )


THREE = attempts(
    p=[("a", "2"), ("a", "3"), ("b", "2"), ("b", None)],
    q=[("a", "5"), ("a", "5"), ("b", "2"), ("b", "x")],
    r=[("a", "2"), ("a", "2"), ("c", "7"), ("b", "9")],
    s=[("a", "1"), ("b", "0"), ("c", "4"), ("c", "")],
)


def test_answers_are_counted_for_each_strategy():
    found = summary_of(THREE)
    a, b, c = (row(found, f"{name}/1") for name in "abc")
    counts = [(x.num_samples, x.num_right, x.num_wrong, x.num_could_not_tell) for x in (a, b, c)]
    assert counts == [(7, 3, 4, 0), (6, 2, 2, 2), (3, 0, 2, 1)]
    assert (a.accuracy.value, b.accuracy.value, c.accuracy.value) == (3 / 7, 2 / 6, 0.0)
    assert [x.num_problems for x in (a, b, c)] == [4, 4, 2]


def test_every_sample_is_in_one_row_and_has_one_outcome():
    found = summary_of(THREE)
    for field in ("num_samples", "num_right", "num_wrong", "num_could_not_tell"):
        total = getattr(found.total, field)
        assert total == sum(getattr(one, field) for one in found.strategies)
    total = found.total
    assert total.num_samples == len(THREE) == 16
    assert total.num_samples == total.num_right + total.num_wrong + total.num_could_not_tell
    assert total.cost == sum((one.cost for one in found.strategies), Ledger())


def test_a_strategy_adds_the_problems_that_it_alone_solves():
    found = summary_of(THREE)
    # p by a and b, q by b, r by a, s by none.
    assert found.pass_at_n == 3 / 4
    alone = {one.strategy: one.num_solved_alone for one in found.strategies}
    assert alone == {"a/1": 1, "b/1": 1, "c/1": 0}
    for name, lost in alone.items():
        rest = summary_of([one for one in THREE if one.strategy != name])
        assert rest.num_problems == found.num_problems
        assert found.pass_at_n - rest.pass_at_n == lost / 4
        assert row(found, name).adds_to_pass_at_n == lost / 4


def test_distinct_answers_are_told_apart_by_text_and_by_value():
    pairs = [("a", text) for text in ["3", " 3 ", "03", "+3", "4", "2", "02", "x", "x ", None, ""]]
    # 3, 4, 2 and x.
    assert row(summary_of(attempts(p=pairs)), "a/1").distinct_answers == 4
    # Over all problems of a strategy it is a mean: p 3, q 1.
    two = attempts(p=[("a", "1"), ("a", "2"), ("a", "3")], q=[("a", "2"), ("b", "2"), ("b", "9")])
    assert row(summary_of(two), "a/1").distinct_answers == 2.0
    assert summary_of(two).total.distinct_answers == 2.5


def test_cost_counts_all_that_was_read_and_written():
    solutions = [
        solution("p", 0, "2", usage=Usage(100, 50)),
        solution("p", 1, "3", usage=Usage(100, 150), finish_reason="length"),
        solution("q", 0, "2", usage=Usage(100, 300)),
        solution("q", 1, None, usage=Usage(100, 20, 480), finish_reason="loop"),
    ]
    one = row(summary_of(solutions, Price(10, 100)), "a/1")
    assert (one.num_cut_off, one.num_loops, one.saved_tokens) == (1, 1, 480)
    assert one.mean_tokens == 520 / 4
    assert one.tokens_per_right == 920 / 2
    # (400 * 10 + 520 * 100) / 1e6 for two right answers
    assert one.dollars_per_right == pytest.approx(0.028)


def test_without_a_right_answer_there_is_no_cost_of_one():
    one = row(summary_of(attempts(p=[("a", "3")])), "a/1")
    assert one.tokens_per_right is None
    assert one.dollars_per_right is None
    assert one.accuracy.low == 0.0
    assert one.accuracy.high > 0.5


def refined():
    """Two rounds: right stays right, wrong is mended, right is spoiled, an answer gets lost."""
    before, first, second = ["2", "3", "2", "3", None], ["2", "2", "3", "4", "2"], ["2", None]
    found = [solution("p", k, answer) for k, answer in enumerate(before)]
    for number, answers in ((1, first), (2, second)):
        start = len(found)
        for i, answer in enumerate(answers):
            parent = f"p#{start - len(before) + i}"
            more = {"parent": parent, "round": number}
            found.append(solution("p", start + i, answer, "find_and_fix/1", **more))
    return found


def test_refinement_is_told_by_round_against_the_parent():
    found = summary_of(refined())
    first, second = found.refinements
    assert (first.strategy, first.round, second.round) == ("find_and_fix/1", 1, 2)
    assert first.changes == {
        "right -> right": 1,
        "wrong -> right": 1,
        "right -> wrong": 1,
        "wrong -> wrong": 1,
        "could_not_tell -> right": 1,
    }
    assert second.changes == {"right -> right": 1, "right -> could_not_tell": 1}
    assert [one.round for one in found.strategies] == [0, 1, 2]
    assert sum(second.changes.values()) == row(found, "find_and_fix/1", 2).num_samples


def test_a_refinement_without_its_parent_is_counted_apart():
    orphan = solution("p", 1, "2", "find_and_fix/1", parent="p#99", round=1)
    (one,) = summary_of([solution("p", 0, "2"), orphan]).refinements
    assert (one.changes, one.num_without_parent) == ({}, 1)


def test_copies_of_all_samples_do_not_narrow_the_interval():
    once = attempts(**{f"p{i}": [("a", "2" if i % 3 else "3")] for i in range(30)})
    tenfold = [
        dataclasses.replace(one, id=f"{one.problem_id}#{k}") for one in once for k in range(10)
    ]
    narrow, wide = summary_of(once).total.accuracy, summary_of(tenfold).total.accuracy
    assert dataclasses.astuple(narrow) == pytest.approx(dataclasses.astuple(wide))
    # One sample a problem: the ratio's variance is p (1 - p) / (n - 1), so Wilson's with n - 1.
    assert dataclasses.astuple(narrow) == pytest.approx(dataclasses.astuple(wilson(2 / 3, 29)))


@pytest.mark.parametrize(("answer", "share"), [("2", 1.0), ("3", 0.0)])
def test_where_all_samples_agree_each_problem_counts_once(answer, share):
    found = summary_of(attempts(**{f"p{i}": [("a", answer)] * 10 for i in range(3)}))
    assert found.total.accuracy == wilson(share, 3)


def test_wilsons_interval_has_its_known_values():
    # 81 of 263 (E. B. Wilson's interval in R. G. Newcombe 1998, table I: 0.2553 to 0.3662).
    found = wilson(81 / 263, 263)
    assert (round(found.low, 4), round(found.high, 4)) == (0.2553, 0.3662)
    # 0 of 20: 0 to 0.1611
    assert (wilson(0.0, 20).low, round(wilson(0.0, 20).high, 4)) == (0.0, 0.1611)


@pytest.mark.parametrize("spread", [0.4, 3.0])
def test_the_interval_holds_the_truth_about_as_often_as_it_says(spread):
    """Problems of unlike difficulty, and unlike numbers of samples of each."""
    rng, held, widths = random.Random(5), 0, []
    for _ in range(200):
        solutions = []
        for i in range(40):
            chance = rng.betavariate(1 / spread, 1 / spread)
            texts = ["2" if rng.random() < chance else "3" for _ in range(rng.choice([2, 4, 6]))]
            solutions += [solution(f"p{i}", k, text) for k, text in enumerate(texts)]
        share = summary_of(solutions).total.accuracy
        held += share.low <= 0.5 <= share.high
        widths.append(share.high - share.low)
    # 95% of 200 is 190; three standard deviations are 9.
    assert 181 <= held <= 199
    # Counting samples as independent would give about 0.155 for both.
    assert (sum(widths) / 200 > 0.2) == (spread > 1)


def test_solutions_that_do_not_lie_together_are_refused():
    mixed = [solution("p", 0, "2"), solution("q", 0, "2"), solution("p", 1, "2")]
    with pytest.raises(RecordError, match="problem 'p': not among the problems, or its solutions"):
        summary_of(mixed)


def test_a_solution_of_an_unknown_problem_is_refused():
    with pytest.raises(RecordError, match="problem 'q': not among the problems"):
        summarise([problem("p")], [solution("q", 0, "2")])


def test_nothing_to_sum_up_is_an_error():
    with pytest.raises(RecordError, match="no solutions"):
        summarise([problem("p")], [])


def test_problems_without_a_solution_are_counted():
    found = summarise([problem("p"), problem("q")], [solution("p", 0, "2")])
    assert (found.num_problems, found.num_unsampled_problems) == (1, 1)
    assert "1 more have no solution here" in printed(found)


def printed(summary):
    file = io.StringIO()
    show_summary(summary, Console(file=file, width=100))
    return file.getvalue()


def test_the_tables_fit_100_columns_with_long_names_and_large_numbers():
    long = "a_strategy_with_a_very_long_name_indeed/17"
    usage = Usage(10**9, 10**10, 10**11)
    more = {"usage": usage, "finish_reason": "loop"}
    found = summary_of(
        [
            solution("p", 0, "2", long, **more),
            solution("p", 1, "3", long, parent="p#0", round=1, **more),
        ],
        Price(1.0, 1.0),
    )
    big = dataclasses.replace(found.total, num_samples=12_345_678, num_could_not_tell=1_234_567)
    text = printed(dataclasses.replace(found, total=big))
    assert max(map(len, text.splitlines())) <= 100
    assert "…" not in text
    for expected in ("12,345,678", "1,234,567", "10,000,000,000", "$22,000.00"):
        assert expected in text


def test_the_tables_tell_what_was_counted():
    text = printed(summary_of(THREE))
    lines = [line.split() for line in text.splitlines()]
    # Residuals of b are 1/3, 1/3, -1/3, -1/3: 13.5 effective samples, no more than there are, 6.
    # Wilson's centre is (1/3 + 1.96^2 / 12) / (1 + 1.96^2 / 6) = 0.398, half the width 0.302.
    assert ["b/1", "6", "0.333", "(0.097-0.700)", "2", "1.25", "2", "1"] in lines
    assert "pass@N 0.750" in text
    assert "refinement" not in text
    changes = [line.split() for line in printed(summary_of(refined())).splitlines()]
    assert ["find_and_fix/1", "round", "1", "1", "1", "1", "1", "1", "0"] in changes


def test_the_summary_is_plain_json():
    found = summary_of(refined(), Price(1, 2))
    again = json.loads(json.dumps(found.to_json()))
    assert again["total"]["num_right"] == found.total.num_right
    assert again["strategies"][0]["accuracy"]["low"] == found.strategies[0].accuracy.low
    assert again["refinements"][1]["changes"] == found.refinements[1].changes
    assert "clustered by problem" in again["interval"]


def test_memory_does_not_grow_with_the_solutions():
    peaks = []
    for samples in (5, 100):
        lazily = (solution(f"p{i}", k, str(k % 4)) for i in range(60) for k in range(samples))
        problems = [problem(f"p{i}") for i in range(60)]
        tracemalloc.start()
        assert summarise(problems, lazily).total.num_samples == 60 * samples
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    # All 6,000 solutions together are some megabytes; those of one problem are not.
    assert peaks[1] < peaks[0] + 200_000
