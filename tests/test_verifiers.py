import pytest

from prm.errors import ConfigError, RecordError
from prm.verifiers import check_integer, extract_answer, get_verifier

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
    with pytest.raises(ConfigError, match=r"'intger' is unknown; there are \['integer'\]"):
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
