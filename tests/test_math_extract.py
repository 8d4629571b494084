"""The final answer of a whole solution: its last box, else what it states, else none."""

import pytest

from prm.verifiers.extract import (
    extract_answer,
    extract_boxed,
    extract_boxed_values,
    extract_final_answer,
)

QWEN = r"""We are asked to calculate:

$$
|(1 - i)^8|
$$

### Final Answer:

$$
\boxed{16}
$$

So, **Ringo should have found the answer to be 16**."""
GSM8K = """It takes 2/2=<<2/2=1>>1 bolt of white fiber
So the total amount of fabric is 2+1=<<2+1=3>>3 bolts of fabric
#### 3"""
ABEL = "5. [Final solution] Thus, it takes 3 bolts in total. #### 3"
METAMATH = "James runs 540 meters a week.\n#### 540\nThe answer is: 540"
MINERVA = "Thus f(3) = 7.\nFinal Answer: The final answer is $7.5$. I hope it is correct."
HEADINGS = "#### Step 1: count\nThere are 4.\n#### Step 2: add\nSo we get to"
CUT_OFF = "Let us compute. The product is 33, and therefore"
BOTH_ROOTS = r"Thus $x = \boxed{2}$ or $x = \boxed{3}$."


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        (QWEN, "16"),
        (GSM8K, "3"),
        (ABEL, "3"),
        (METAMATH, "540"),
        (MINERVA, "$7.5$"),
        (HEADINGS, None),
        (CUT_OFF, None),
        (BOTH_ROOTS, "2, 3"),
        ("**Answer:** 12 apples", "12 apples"),
        ("Answer: **12**", "12"),
        ("The answer to the question is 12. It was easy.", "12"),
        ("The answer is 3. No wait, the answer is 4.", "4"),
        (r"The answer is 3, that is \boxed{4}", "4"),
        ("The final answer is:", None),
        ("", None),
    ],
)
def test_the_last_box_comes_first_and_then_what_is_stated(text, answer):
    assert extract_final_answer(text) == answer


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        (r"\boxed{2} and \boxed{3}", "2, 3"),
        (r"\boxed{2}, \boxed{3}, and \boxed{5}", "2, 3, 5"),
        (r"\boxed{2} \text{ or } \boxed{3}", "2, 3"),
        (r"\boxed{2} or \boxed{2}", "2"),
        (r"\boxed{2}. Checking: \boxed{3}", "3"),
        (r"\boxed{2} and then, after a long calculation that changes everything, \boxed{3}", "3"),
    ],
)
def test_boxes_that_only_a_comma_or_a_word_joins_are_one_answer(text, answer):
    assert extract_boxed_values(text) == answer
    assert extract_answer(["so", text], "boxed") == answer
    assert extract_boxed(text) == answer.rpartition(" ")[2]


def test_a_long_text_takes_no_longer_than_its_length():
    assert extract_final_answer("the answer is " * 100_000 + "\n#### 7") == "7"
    assert extract_final_answer("\\boxed{" * 200_000 + "#### 7") == "7"
