"""What `check_math` calls right, wrong and not to be told; tests/math_pairs.py has the pairs."""

import time

import pytest

from prm.errors import ConfigError, RecordError
from prm.verifiers import get_verifier
from prm.verifiers.math import MathRule, MathVerifier, check_math, check_math_many
from tests.math_pairs import PAIRS

A_TIE = "so it is \\boxed{12}"


@pytest.mark.parametrize(("reference", "answer", "wanted"), PAIRS)
def test_every_pair_gets_the_verdict_that_the_default_rule_wants(reference, answer, wanted):
    verdict = check_math(answer, reference)
    assert verdict.status == wanted
    assert verdict.label is {"right": True, "wrong": False, "could_not_tell": None}[wanted]
    assert verdict.backend == "math"
    assert bool(verdict.reason) == bool(verdict.detail) == (wanted == "could_not_tell")


def test_there_are_enough_pairs_and_no_pair_twice():
    assert len(PAIRS) >= 140
    assert len({(reference, answer) for reference, answer, _ in PAIRS}) == len(PAIRS)


def test_what_is_right_is_right_the_other_way_round_and_wrong_stays_wrong():
    both = [
        (reference, answer)
        for reference, answer, wanted in PAIRS
        if wanted != "could_not_tell" and "boxed" not in answer and "answer is" not in answer
    ]
    forth = check_math_many([(answer, reference) for reference, answer in both])
    back = check_math_many(both)
    for pair, one, other in zip(both, forth, back, strict=True):
        if other.status != "could_not_tell":
            assert one.status == other.status, pair


SETTINGS = [
    ({"units": "ignore"}, "10 cm", "10 m", "right"),
    ({"units": "must_match"}, "10", "10 cm", "wrong"),
    ({"units": "must_match"}, "10 cm", "10", "wrong"),
    ({"units": "must_match"}, "1 m", "100 cm", "right"),
    ({"percent": "strict"}, r"50\%", "0.5", "right"),
    ({"percent": "strict"}, r"50\%", "50", "wrong"),
    ({"percent": "strict"}, "50", r"50\%", "wrong"),
    ({"intervals": "endpoints"}, "[1,2)", "(1,2]", "right"),
    ({"intervals": "endpoints"}, "[1,2)", "(1,3]", "wrong"),
    ({"inequalities": "as_written"}, "x > 2", r"(2,\infty)", "could_not_tell"),
    ({"inequalities": "as_written"}, "x > 2", "2 < x", "right"),
    ({"order": "ignore"}, "(1,2)", "(2,1)", "right"),
    ({"order": "ignore"}, "(1,2)", r"\{2,1\}", "right"),
    ({"tolerance": 1e-3}, r"\frac{1}{3}", "0.3333", "right"),
    ({"tolerance": 1e-3}, r"\sqrt{2}", "1.414", "right"),
    ({"tolerance": 1e-3}, r"\frac{1}{3}", "0.33", "wrong"),
    ({"tolerance": 1e-3}, r"\sqrt{2}", "1.4", "wrong"),
    ({"tolerance": 1e-3}, "0", "0.0001", "wrong"),
    ({"boxed": "required"}, "12", A_TIE, "right"),
    ({"boxed": "required"}, "12", "12", "could_not_tell"),
    ({"choices": False}, "A", "(A) 12", "wrong"),
    ({"words": False}, "yes", "true", "could_not_tell"),
    ({"max_length": 3}, "12", "12.0", "could_not_tell"),
    ({"max_depth": 2}, "12", "(((12)))", "could_not_tell"),
]


@pytest.mark.parametrize(("settings", "reference", "answer", "wanted"), SETTINGS)
def test_each_setting_of_the_rule_decides_what_it_says(settings, reference, answer, wanted):
    assert check_math(answer, reference, rule=MathRule(**settings)).status == wanted


@pytest.mark.parametrize(
    "settings",
    [
        {"units": "maybe"},
        {"percent": ""},
        {"tolerance": -0.1},
        {"tolerance": 1.0},
        {"max_depth": 0},
    ],
)
def test_a_rule_that_does_not_exist_is_refused(settings):
    with pytest.raises(ConfigError):
        MathRule(**settings)


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (None, "no_answer"),
        ("  ", "no_answer"),
        ("$$", "no_answer"),
        ("9" * 1001, "too_long"),
        ("(" * 21 + "x" + ")" * 21, "too_long"),
        ("9^{9^{9}}", "too_large"),
        ("99999999!", "too_large"),
        ("five", "unparsed"),
        ("12 people", "units"),
    ],
)
def test_what_cannot_be_told_has_its_reason_in_one_word(answer, reason):
    reference = "12 students" if reason == "units" else "12"
    verdict = check_math(answer, reference)
    assert (verdict.label, verdict.reason) == (None, reason)


@pytest.mark.parametrize("reference", ["", " ", "$$", "9" * 1001, "(" * 21 + "x" + ")" * 21])
@pytest.mark.parametrize("answer", ["12", None])
def test_a_reference_that_nothing_can_be_compared_with_is_an_error(reference, answer):
    with pytest.raises(RecordError, match="reference answer"):
        check_math(answer, reference)


@pytest.mark.parametrize("reference", ["12", r"\frac{3\sqrt{2}}{2}", "(1,2]", "Evelyn", "x+y=1"])
def test_a_reference_that_can_be_read_is_accepted_when_data_is_loaded(reference):
    MathVerifier().check_reference(reference)


@pytest.mark.parametrize("reference", [r"\frac{1}{", "2x+", r"\sqrt{2}+)", "9^{9^{9}}", ""])
def test_a_reference_that_cannot_be_read_is_refused_when_data_is_loaded(reference):
    with pytest.raises(RecordError, match="reference answer"):
        MathVerifier().check_reference(reference)


def test_many_are_checked_in_order_and_the_same_one_once():
    items = [("12", "12"), ("x+1", "1+x"), ("13", "12"), ("12", "12"), (None, "12")]
    statuses = [verdict.status for verdict in check_math_many(items)]
    assert statuses == ["right", "right", "wrong", "right", "could_not_tell"]


def test_the_registry_makes_the_verifier_from_settings():
    assert get_verifier("math")("10 cm", "10 m").label is False
    strict = MathVerifier(rule=MathRule(percent="strict"))
    assert strict("50%", "50").label is False
    assert [verdict.label for verdict in strict.check_many([("1", "1"), ("1", "2")])] == [
        True,
        False,
    ]


def test_long_lists_without_order_take_no_time():
    numbers, shuffled = ([i * factor % 10 for i in range(499)] for factor in (1, 7))
    reference, answer, other = (
        ",".join(map(str, each)) for each in (numbers, shuffled, [0, *shuffled[1:-1], 0.5])
    )
    began = time.process_time()
    assert check_math(answer, reference).label is True
    assert check_math(other, reference).label is False
    assert time.process_time() - began < 0.5


def test_the_detail_is_one_short_line_whatever_the_answer_holds():
    detail = check_math("\x1b[31mred\n" * 40, "12").detail
    assert len(detail) <= 300
    assert detail.isprintable()
