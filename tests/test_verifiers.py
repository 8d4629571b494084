import pytest

from prm.errors import ConfigError, RecordError
from prm.verifiers import (
    check_integer,
    check_math,
    extract_answer,
    extract_boxed,
    get_verifier,
)

PATTERN = r"^Answer: (.+)$"


@pytest.mark.parametrize(
    ("answer", "reference", "status"),
    [
        ("12", "12", "right"),
        (" 12 \n", "12", "right"),
        ("12", " 12 ", "right"),
        ("+12", "12", "right"),
        ("012", "12", "right"),
        ("-0", "0", "right"),
        ("-7", "-7", "right"),
        ("9" * 100, "9" * 100, "right"),
        ("13", "12", "wrong"),
        ("-12", "12", "wrong"),
        ("120", "12", "wrong"),
        ("9" * 100, "9" * 99, "wrong"),
        (None, "12", "could_not_tell"),
        ("", "12", "could_not_tell"),
        ("  ", "12", "could_not_tell"),
        ("twelve", "12", "could_not_tell"),
        ("12.0", "12", "could_not_tell"),
        ("12 apples", "12", "could_not_tell"),
        ("1_2", "12", "could_not_tell"),
        ("1 2", "12", "could_not_tell"),
        ("- 12", "12", "could_not_tell"),
        ("0x0c", "12", "could_not_tell"),
        ("12\n12", "12", "could_not_tell"),
        ("9" * 101, "12", "could_not_tell"),
    ],
)
def test_integers_are_compared_and_nothing_else(answer, reference, status):
    verdict = check_integer(answer, reference)
    assert verdict.status == status
    assert verdict.label is {"right": True, "wrong": False, "could_not_tell": None}[status]
    assert verdict.backend == "integer"
    assert bool(verdict.detail) == (status == "could_not_tell")


@pytest.mark.parametrize("reference", ["", "twelve", "12.0", "12 apples", "9" * 101])
@pytest.mark.parametrize("answer", ["12", None])
def test_a_broken_reference_is_an_error_and_no_verdict(reference, answer):
    with pytest.raises(RecordError, match="is not an integer"):
        check_integer(answer, reference)


def test_verifiers_are_found_by_name():
    assert get_verifier("integer") is check_integer
    assert get_verifier("math")("x+1", "1+x").label is check_math("x+1", "1+x").label is True
    with pytest.raises(ConfigError, match="'intger' is unknown; there are .*'integer'"):
        get_verifier("intger")


@pytest.mark.parametrize(
    ("steps", "answer"),
    [
        (["Step 1: 3 + 9 = 12", "Answer: 12"], "12"),
        (["Answer: 12 "], "12"),
        (["\nAnswer: 12\n"], "12"),
        (["Answer: 12\n  \n"], "12"),
        (["Answer: twelve of them"], "twelve of them"),
        (["Answer: 12", "Step 2: wait"], None),
        (["The Answer: 12"], None),
        (["Answer:"], None),
        (["Answer: "], None),
        ([], None),
    ],
)
def test_the_final_answer_is_what_the_last_step_states(steps, answer):
    assert extract_answer(steps, PATTERN) == answer


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        (r"so \boxed{12}.", "12"),
        (r"\boxed{3}, no: \boxed{4}, that is all", "4"),
        (r"\boxed{\frac{1}{2}}", r"\frac{1}{2}"),
        (r"\boxed{\left( 3, \frac{\pi}{2} \right)}", r"\left( 3, \frac{\pi}{2} \right)"),
        (r"\boxed{\left\{ 1, 2 \right.} and on", r"\left\{ 1, 2 \right."),
        (r"\boxed{\boxed{5}}", "5"),
        (r"\boxed {7}", "7"),
        (r"\fbox{7}", "7"),
        ("\\boxed{\n7\n}", "7"),
        (r"a } too many, \boxed{7}", "7"),
        (r"a { too many, \boxed{7}", "7"),
        (r"\boxed{7} and then \boxed{8", "7"),
        (r"\boxed{7} I shall put it into \boxed{}.", "7"),
        (r"row \\\boxed{7}", "7"),
        (r"\\boxed{7}", None),
        (r"\boxed{7", None),
        (r"\boxed{}", None),
        ("boxed{7}", None),
        ("", None),
    ],
)
def test_a_boxed_answer_is_the_last_box_that_is_closed_and_not_empty(text, answer):
    assert extract_boxed(text) == answer


def test_boxes_are_looked_for_in_all_steps():
    steps = ["x is 3.", "Thus \\boxed{\n3\n}.", "I checked it."]
    assert extract_answer(steps, "boxed") == "3"
    assert extract_answer(["half of it: \\boxed{\\frac{1}", "{2}}"], "boxed") == "\\frac{1}\n{2}"
    assert extract_answer([], "boxed") is None
    assert extract_answer(["The answer is 3."], "boxed") is None


def test_a_loop_of_open_boxes_takes_no_longer_than_its_length():
    assert extract_boxed(r"\boxed{1} " + r"\boxed{" * 200_000) == "1"
