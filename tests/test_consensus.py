import dataclasses
import random

import pytest

from data_gen.labelers.agreement import pairs
from data_gen.labelers.consensus import ConsensusFilter
from data_gen.labelers.dawid_skene import Spoken, source_errors
from prm.errors import ConfigError, RecordError
from prm.records import Opinion
from tests.tiny import tiny_labelled, tiny_problem

STEPS = ["3 + 9 = 12", "12 + 4 = 16", "Answer: 16"]


def row(number, place, **changes):
    """A label of the numbered solution; ``...`` = nothing is known."""
    problem = tiny_problem(number)
    one = tiny_labelled(problem, STEPS, None if place is ... else place)
    if place is ...:
        one = dataclasses.replace(one, first_error={})
    return dataclasses.replace(one, **changes)


def rows(*first_errors, **changes):
    return [row(i, place, **changes) for i, place in enumerate(first_errors)]


def kept(found):
    return [one.solution.problem_id[-1] for one in found.kept]


def test_what_the_sources_agree_on_is_kept_and_the_rest_has_a_reason():
    a = rows(0, 1, None, None, ..., 2)
    b = rows(0, 2, None, 1, 1)
    found = ConsensusFilter().compare({"a": a, "b": b})
    assert kept(found) == ["0", "2"]
    assert [(one.id[8], one.reason) for one in found.dropped] == [
        ("1", "disagree"),
        ("3", "disagree"),
        ("4", "undecided"),
        ("5", "missing"),
    ]
    assert found.dropped[0].said == {"a": "1", "b": "2"}
    assert found.reasons == {"disagree": 2, "missing": 1, "undecided": 1}
    assert found.num_in == 6


def test_agreement_on_the_verdict_only_asks_whether_there_is_an_error():
    a, b = rows(0, 1, None, None), rows(0, 2, None, 1)
    found = ConsensusFilter(agree_on="verdict").compare({"a": a, "b": b})
    assert kept(found) == ["0", "1", "2"]
    assert found.kept[1].first_error == {"1": 1.0}


def test_nothing_is_lost_whatever_the_sources_say():
    rng = random.Random(3)
    for _ in range(20):
        sources = {
            name: [
                row(i, rng.choice([0, 1, 2, None, ...])) for i in range(12) if rng.random() < 0.8
            ]
            for name in "abc"
        }
        found = ConsensusFilter(min_sources=rng.choice([2, 3]), num_resamples=5).compare(sources)
        ids = [one.id for one in (*found.kept, *found.dropped)]
        assert sorted(ids) == sorted({one.id for part in sources.values() for one in part})
        assert found.num_in == len(found.kept) + sum(found.reasons.values())


def test_a_silent_source_is_no_obstacle_but_one_that_differs_is():
    a, b, c = rows(1, 1, 1), rows(1, 1, 1), rows(..., 2, 1)
    found = ConsensusFilter().compare({"a": a, "b": b, "c": c})
    assert kept(found) == ["0", "2"]
    assert kept(ConsensusFilter(min_sources=3).compare({"a": a, "b": b, "c": c})) == ["2"]


def test_what_is_kept_says_who_agreed_and_has_the_opinions_of_all():
    judge = Opinion("judge", {"1": 3}, "model", 20)
    program = Opinion("program", {"1": 1}, "equations/1")
    a = rows(..., labeler="silent")
    b = rows(1, labeler="b", opinions=(judge,))
    c = rows(1, labeler="c", opinions=(program, judge))
    [one] = ConsensusFilter().compare({"a": a, "b": b, "c": c}).kept
    assert one.labeler == "consensus(b+c)"
    assert one.opinions == (judge, program)
    assert [label.hard for label in one.labels] == [True, False, None]


def test_a_source_says_where_it_puts_most_belief_and_is_silent_at_a_tie():
    unsure = row(0, 1, first_error={"1": 0.5, "2": 0.5})
    weak = row(1, 1, first_error={"1": 0.4, "2": 0.3, "none": 0.3})
    sure = row(2, 1, first_error={"1": 0.6, "2": 0.4})
    found = ConsensusFilter().compare({"a": [unsure, weak, sure], "b": rows(1, 1, 1)})
    assert kept(found) == ["2"]
    assert found.reasons == {"undecided": 2}
    low = ConsensusFilter(min_share=0.4).compare({"a": [unsure, weak, sure], "b": rows(1, 1, 1)})
    assert kept(low) == ["1", "2"]


def test_agreement_and_kappa_are_those_of_the_textbook():
    # a and b say none/none 20 times, none/0 5, 0/none 10, 0/0 15: Cohen's kappa is 0.4.
    both = [("none", "none")] * 20 + [("none", "0")] * 5 + [("0", "none")] * 10 + [("0", "0")] * 15
    said = [{"a": a, "b": b} for a, b in both] + [{"a": "1"}, {}]
    [pair] = pairs(["a", "b"], said)
    assert pair.num == 50
    assert pair.on_place.share.mean == pytest.approx(0.7)
    assert pair.on_place.kappa == pytest.approx(0.4)
    # Wilson, by hand: 35 of 50.
    assert pair.on_place.share[1:] == pytest.approx((0.5625, 0.8090), abs=1e-4)
    assert pair.on_verdict == pair.on_place
    assert pair.least_errors == pytest.approx(0.3)


def test_kappa_is_not_defined_where_both_always_say_the_same():
    [pair] = pairs(["a", "b"], [{"a": "none", "b": "none"}] * 3)
    assert (pair.on_place.share.mean, pair.on_place.kappa) == (1.0, None)
    [nothing] = pairs(["a", "b"], [{"a": "none"}, {"b": "1"}])
    assert (nothing.num, nothing.on_place, nothing.least_errors) == (0, None, None)


PARTS = {"good": (0.95, 0.9, 0.05), "fair": (0.8, 0.7, 0.2), "poor": (0.6, 0.4, 0.4)}
"""P(none | none), P(place | place), P(none | place) of each source of the simulated world."""


def world(num, parts=PARTS, seed=1, silence=0.2):
    """Sources that err independently; and which of them are wrong."""
    rng = random.Random(seed)
    spoken, wrong = [], {name: [] for name in parts}
    for i in range(num):
        num_steps = rng.randint(3, 12)
        places = [str(t) for t in range(num_steps)]
        truth = "none" if rng.random() < 0.4 else rng.choice(places)
        said = {}
        for name, (right, hit, miss) in parts.items():
            if rng.random() < silence:
                continue
            others = [place for place in places if place != truth]
            draw = rng.random()
            if truth == "none":
                said[name] = "none" if draw < right else rng.choice(places)
            else:
                said[name] = (
                    truth if draw < hit else "none" if draw < hit + miss else rng.choice(others)
                )
            wrong[name].append(said[name] != truth)
        spoken.append(Spoken(f"p/{i // 4}", num_steps, said))
    return spoken, {name: sum(values) / len(values) for name, values in wrong.items()}


def test_the_error_of_each_of_three_sources_is_found_without_the_truth():
    spoken, wrong = world(2000)
    for one in source_errors(list(PARTS), spoken, num_resamples=40):
        assert one.error.mean == pytest.approx(wrong[one.source], abs=0.03)
        assert one.error.low < wrong[one.source] < one.error.high
        assert one.num == sum(one.source in other.said for other in spoken)
        parts = (one.right, one.hit, one.miss)
        assert parts == pytest.approx(PARTS[one.source], abs=0.06)


@pytest.mark.parametrize("seed", range(2, 6))
def test_with_few_solutions_the_estimate_is_rough(seed):
    spoken, wrong = world(300, seed=seed)
    for one in source_errors(list(PARTS), spoken, num_resamples=2):
        assert one.error.mean == pytest.approx(wrong[one.source], abs=0.12)


def test_two_sources_have_no_estimate_but_a_bound():
    spoken, wrong = world(500, {name: PARTS[name] for name in ("good", "fair")})
    found = source_errors(["good", "fair"], spoken)
    assert [one.error for one in found] == [None, None]
    [pair] = pairs(["good", "fair"], [one.said for one in spoken])
    assert pair.least_errors <= wrong["good"] + wrong["fair"]
    text = str(ConsensusFilter().compare({"a": rows(0, 1), "b": rows(0, 2)}))
    assert "cannot be told" in text
    assert "errors of a and b sum to at least 0.50 (0.09-0.91)" in text


def test_three_sources_that_never_speak_together_have_no_estimate():
    spoken = [Spoken(f"p/{i}", 3, {"a": "0", ("b" if i % 2 else "c"): "0"}) for i in range(200)]
    assert [one.error for one in source_errors("abc", spoken)] == [None] * 3
    # A fourth that only ever speaks with one other cannot be judged either.
    spoken = [Spoken(f"p/{i}", 3, dict.fromkeys("abc", "0")) for i in range(50)]
    spoken += [Spoken(f"p/{i}", 3, dict.fromkeys("ad", "0")) for i in range(90)]
    assert source_errors("abcd", spoken[1:], num_resamples=2)[0].error is None
    found = source_errors("abcd", spoken, num_resamples=10)
    assert [one.error is None for one in found] == [False, False, False, True]


def test_the_same_seed_gives_the_same_interval():
    spoken, _ = world(100)
    one, two = (source_errors(list(PARTS), spoken, num_resamples=20) for _ in range(2))
    assert one == two


def test_it_prints_as_tables():
    sources = {
        "rollouts": rows(*[0, 1, None, 2] * 30),
        "judge": rows(*[0, 1, None, 1] * 30),
        "program": rows(*[0, 1, ..., 2] * 30),
    }
    text = str(ConsensusFilter(num_resamples=20).compare(sources))
    lines = text.splitlines()
    assert lines[0] == (
        "consensus of rollouts, judge, program on the first error: 120 in = 90 kept + 30 disagree"
    )
    assert any(line.split()[:4] == ["rollouts,", "judge", "120", "0.75"] for line in lines)
    assert any(line.startswith("program ") and line.split()[1] == "90" for line in lines)


def test_nothing_in_is_nothing_out():
    found = ConsensusFilter().compare({"a": [], "b": []})
    assert (found.kept, found.dropped, found.num_in) == ((), (), 0)
    assert "0 in = 0 kept" in str(found)


def test_wrong_use_is_refused():
    with pytest.raises(ConfigError, match="1 sources for min_sources=2"):
        ConsensusFilter().compare({"a": []})
    with pytest.raises(ConfigError, match="min_sources should be 2 or more"):
        ConsensusFilter(min_sources=1)
    with pytest.raises(ConfigError, match="agree_on should be"):
        ConsensusFilter(agree_on="answer")
    with pytest.raises(RecordError, match="'tiny/0000#0' more than once"):
        ConsensusFilter().compare({"a": [row(0, 1), row(0, 2)], "b": []})
    other = tiny_labelled(tiny_problem(0), ["another"], None)
    with pytest.raises(RecordError, match="has other steps in a than in b"):
        ConsensusFilter().compare({"a": [row(0, 1)], "b": [other]})
