"""What is compared, and above all what is not."""

import gzip
import json
from collections import Counter

import pytest

from prm.errors import RecordError
from prm.verifiers import check_math_answer, extract_boxed

SAME_NUMBER = [
    ("12", "12"),
    (" 12. ", "12"),
    ("+12", "12"),
    ("- 12", "-12"),
    ("\u221212", "-12"),
    ("-0", "0"),
    ("1,000", "1000"),
    ("1{,}000", "1000"),
    (r"1,\!000", "1000"),
    ("1,234,567.50", "1234567.5"),
    ("0.5", "1/2"),
    (".5", r"\frac12"),
    ("5.", "5"),
    ("2/4", "1/2"),
    ("1 / 2", "1/2"),
    (r"\frac{1}{2}", "1/2"),
    (r"\frac 34", "0.75"),
    (r"\frac1{2}", "0.5"),
    (r"\frac{1}2", "0.5"),
    (r"\dfrac{1}{2}", r"\tfrac12"),
    (r"-\frac{1}{2}", r"\frac{-1}{2}"),
    (r"\frac{-1}{-2}", "0.5"),
    (r"\frac{1,000}{3}", "1000/3"),
    ("$5$", "5"),
    ("$$5$$", "5"),
    (r"\(5\)", "5"),
    (r"\[5\]", "5"),
    (r"\text{5}", "5"),
    ("$5", "5"),
    (r"\$5", "5"),
    (r"$\$5.00$", r"\$5"),
    ("-$5", r"\$-5"),
    (r"\$32,\!348", "32348"),
    (r"5\%", "5%"),
    (r"60\%", "60"),
    (r"60\%", "0.6"),
    ("60", r"60\%"),
    ("1e3", "1000"),
    ("9" * 100, "9" * 100),
]
SAME_TEXT = [
    ("x", "x"),
    (r"\frac{\pi}{2}", r"\dfrac{\pi}{2}"),
    (r"\frac ab", r"\frac{a}{b}"),
    (r"\left( 3, \frac{\pi}{2} \right)", r"(3,\frac{\pi}{2})"),
    ("(1,2)", "( 1, 2 )"),
    ("2, 3", "2,3"),
    (r"2\sqrt{3}", r"2 \sqrt{3}"),
    ("x^{2}", "x^2"),
    ("x_{1}", "x_1"),
    (r"90^{\circ}", r"90^\circ"),
    (r"10\text{ cm}", "10 cm"),
    (r"\text{Evelyn}", "Evelyn"),
    (r"1\,000", r"1\ 000"),
    (r"\begin{pmatrix} 1 \\ 2 \end{pmatrix}", r"\begin{pmatrix}1\\2\end{pmatrix}"),
    ("1e400", "1e400"),
    ("9" * 101, "9" * 101),
]
DIFFERENT_NUMBERS = [
    ("13", "12"),
    ("-12", "12"),
    ("0.33", "1/3"),
    ("0.333333333333333333333333", r"\frac13"),
    (r"\frac{2}{1}", "1/2"),
    ("1,000", "1"),
    ("1000", "10000"),
    (r"\$5", "6"),
    (r"6\%", "5"),
    (r"6\%", r"5\%"),
    (r"5\%", "500"),
    ("1e99", "0"),
    ("9" * 100, "9" * 99),
]
NOT_COMPARED = [
    (None, "12"),
    ("", "12"),
    (" . ", "12"),
    ("$$", "12"),
    ("10 cm", "10 m"),
    ("10 cm", "10"),
    ("10", r"10^\circ"),
    ("(1,2)", "1,2"),
    ("(1,2)", "(1,3)"),
    ("(1,2)", "[1,2]"),
    ("1,2", "2,1"),
    ("1, 234", "1,234"),
    ("1,23", "123"),
    ("0,001", "1"),
    ("1 000", "1000"),
    ("1 1/2", "11/2"),
    ("1 2", "12"),
    (r"1\,2", "12"),
    (r"1\frac{1}{2}", "1.5"),
    ("x=5", "5"),
    ("x=5", "x=6"),
    ("x", "y"),
    ("twelve", "12"),
    ("12 or 13", "12"),
    ("1/0", "0"),
    (r"\frac{1}{0}", "1"),
    ("1/2/3", "1/6"),
    ("--5", "5"),
    ("-$-5", "5"),
    (r"\$5\%", "5"),
    (r"\$5", r"5\%"),
    ("1e400", "1"),
    ("1e-400", "0"),
    ("10^{400}", "1"),
    ("2^{10}", "1024"),
    (r"\sqrt{4}", "2"),
    ("1_000", "1000"),
    ("0x10", "16"),
    ("\u0661\u0662", "12"),
    ("nan", "nan()"),
    ("9" * 101, "12"),
    ("0" * 401, "0"),
    ("{" * 400, "12"),
]


def verdict(answer, reference, status):
    found = check_math_answer(answer, reference)
    assert found.status == status
    assert found.label is {"right": True, "wrong": False, "could_not_tell": None}[status]
    assert found.backend == "math_answer"
    assert bool(found.detail) == (status == "could_not_tell")


@pytest.mark.parametrize(("answer", "reference"), SAME_NUMBER)
def test_the_same_number_is_right_however_it_is_written(answer, reference):
    verdict(answer, reference, "right")
    verdict(reference, answer, "right")


@pytest.mark.parametrize(("answer", "reference"), SAME_TEXT)
def test_the_same_text_is_right_once_its_spelling_is_evened_out(answer, reference):
    verdict(answer, reference, "right")
    verdict(reference, answer, "right")


@pytest.mark.parametrize(("answer", "reference"), DIFFERENT_NUMBERS)
def test_only_two_plain_numbers_that_differ_are_wrong(answer, reference):
    verdict(answer, reference, "wrong")
    verdict(reference, answer, "wrong")


@pytest.mark.parametrize(("answer", "reference"), NOT_COMPARED)
def test_everything_else_is_not_compared(answer, reference):
    verdict(answer, reference, "could_not_tell")
    if answer and answer.strip():
        verdict(reference, answer, "could_not_tell")


@pytest.mark.parametrize("answer", ["12", None])
def test_an_empty_reference_is_an_error_and_no_verdict(answer):
    with pytest.raises(RecordError, match="empty"):
        check_math_answer(answer, " ")


@pytest.mark.parametrize("piece", ["1,000", r"\frac{", "1/", "$", "- ", r"\left(", "1 ", "9"])
def test_long_and_odd_texts_are_read_in_no_time(piece):
    text = (piece * 400)[:400]
    assert check_math_answer(text, "12").status == "could_not_tell"


@pytest.mark.real
@pytest.mark.parametrize(
    ("name", "num_right", "num_wrong"),
    [
        ("math_qwen8/math_qwen8.jsonl", 371, 35),
        ("math500_qwen3_8b/math500_qwen3_8b.jsonl.gz", 490, 36),
    ],
)
def test_models_answers_are_judged_as_their_publishers_did(data_dir, name, num_right, num_wrong):
    path = data_dir / "multi_sample" / name
    statuses, disputed = Counter(), set()
    with (gzip.open if path.suffix == ".gz" else open)(path, "rt", encoding="utf-8") as file:
        for row in map(json.loads, file):
            for one in row["candidates"]:
                answer = extract_boxed(one["text"])
                found = check_math_answer(answer, row["answer"])
                statuses[found.status] += 1
                if found.label not in (None, one["correct"]):
                    disputed.add((answer, row["answer"]))
    assert (statuses["right"], statuses["wrong"]) == (num_right, num_wrong)
    # The publishers called this one wrong.
    assert disputed <= {("10000", "10{,}000")}
