from typing import Any

import pytest

from prm.errors import RecordError
from prm.evaluation.step_truth import first_error, operand_pairs, problem_pairs

SUM = {"operands": [3, 9, 4], "operators": ["+", "+"]}
DIFFERENCE = {"operands": [3, 5, 4], "operators": ["-", "+"]}
NEGATIVE = {"operands": [3, -5], "operators": ["-"]}
SINGLE = {"operands": [7], "operators": []}
S1, S2, END = "Step 1: 3 + 9 = 12", "Step 2: 12 + 4 = 16", "Answer: 16"


@pytest.mark.parametrize(
    ("meta", "steps", "expected"),
    [
        # Right, whole or cut off.
        (SUM, [S1, S2, END], None),
        (SUM, [S1, S2], None),
        (SUM, [S1], None),
        (SUM, [], None),
        (SUM, ["Step 1: 9 + 3 = 12", "Step 2: 4 + 12 = 16", END], None),
        (SUM, ["Step 7: 3 + 9 = 12", "Step 7: 12 + 4 = 16", END], None),
        (SUM, ["Step 1: 3+9 =12 ", "Step 2: 12  + 4= 16.\n", "Answer:16 ."], None),
        (DIFFERENCE, ["Step 1: 3 - 5 = -2", "Step 2: -2 + 4 = 2", "Answer: 2"], None),
        (DIFFERENCE, ["Step 1: 3 - 5 = -2", "Step 2: 4 + -2 = 2", "Answer: 2"], None),
        (NEGATIVE, ["Step 1: 3 - -5 = 8", "Answer: 8"], None),
        (SINGLE, ["Answer: 7"], None),
        # A wrong result, and what follows from it.
        (SUM, ["Step 1: 3 + 9 = 13", S2, END], 0),
        (SUM, ["Step 1: 3 + 9 = 13", "Step 2: 13 + 4 = 17", "Answer: 17"], 0),
        (SUM, [S1, "Step 2: 12 + 4 = 17", "Answer: 17"], 1),
        (SUM, [S1, S2, "Answer: 17"], 2),
        (DIFFERENCE, ["Step 1: 3 - 5 = 2", "Step 2: 2 + 4 = 6"], 0),
        # Another pair of numbers or operator, whatever it gives.
        (SUM, ["Step 1: 3 + 4 = 7", "Step 2: 7 + 9 = 16", END], 0),
        (SUM, [S1, "Step 2: 12 + 5 = 17"], 1),
        (SUM, [S1, "Step 2: 9 + 4 = 13"], 1),
        (SUM, [S1, "Step 2: 13 + 4 = 17"], 1),
        (SUM, ["Step 1: 3 - 9 = -6"], 0),
        (SUM, ["Step 1: 3 - 9 = 12"], 0),
        (DIFFERENCE, ["Step 1: 5 - 3 = 2"], 0),
        (DIFFERENCE, ["Step 1: 5 - 3 = -2"], 0),
        # Merged, missing and surplus steps.
        (SUM, ["Step 1: 3 + 9 + 4 = 16", END], 0),
        (SUM, [S1, "Step 2: 3 + 9 + 4 = 16", END], 1),
        (SUM, [S1, END], 1),
        (SUM, [S1, "Answer: 12"], 1),
        (SUM, [END], 0),
        (SUM, [S1, S2, "Step 3: 16 + 0 = 16", END], 2),
        (SUM, [S1, S2, END, END], 3),
        (SINGLE, ["Step 1: 7 + 0 = 7", "Answer: 7"], 0),
        # Lines that cannot be read.
        (SUM, ["Step 1: three + 9 = 12"], 0),
        (SUM, ["3 + 9 = 12"], 0),
        (SUM, [S1, ""], 1),
        (SUM, [S1, "Step 2: 12 + 4 = 16, the total"], 1),
        (SUM, [S1, "Step 2: 12 + 4 = 16.0"], 1),
        (SUM, [S1, S2, "Answer: sixteen"], 2),
        (SUM, [S1, S2, "Answer: 1" + "0" * 5000], 2),
        (SUM, [S1 + "\n" + S2, END], 0),
    ],
)
def test_the_first_error(meta: dict[str, Any], steps: list[str], expected: int | None) -> None:
    assert first_error(meta, steps) == expected


def test_a_later_step_never_moves_the_first_error() -> None:
    steps = [S1, "Step 2: 12 + 4 = 17", "Answer: 16", "Answer: 17"]
    assert [first_error(SUM, steps[:k]) for k in range(5)] == [None, None, 1, 1, 1]


def test_the_pairs_of_the_right_chain() -> None:
    assert problem_pairs(SUM) == [(3, "+", 9), (12, "+", 4)]
    assert problem_pairs(DIFFERENCE) == [(3, "-", 5), (-2, "+", 4)]
    assert problem_pairs(SINGLE) == []


def test_the_pairs_that_are_written() -> None:
    assert operand_pairs([S1, S2, END]) == problem_pairs(SUM)
    assert operand_pairs(["Step 1: 7 + 5 + 4 = 16"]) == [(7, "+", 5), (5, "+", 4)]
    assert operand_pairs(["so 7-5-4, or 12+4 and -2 + 4"]) == [
        (7, "-", 5),
        (5, "-", 4),
        (12, "+", 4),
        (-2, "+", 4),
    ]
    assert operand_pairs(["Step 1: 3 - -5 = 8", "7 * 5", "", "Answer: 16"]) == [(3, "-", -5)]


@pytest.mark.parametrize(
    "meta",
    [
        {},
        {"operands": [3, 9], "operators": []},
        {"operands": [], "operators": []},
        {"operands": [3, 9], "operators": ["*"]},
        {"operands": [3, 9.5], "operators": ["+"]},
        {"operands": "39", "operators": ["+"]},
    ],
)
def test_meta_of_another_kind_is_refused(meta: dict[str, Any]) -> None:
    with pytest.raises(RecordError, match="operands"):
        first_error(meta, [S1])
    with pytest.raises(RecordError, match="operands"):
        problem_pairs(meta)
