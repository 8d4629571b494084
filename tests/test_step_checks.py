import gzip
import json
import random
import time
from collections import Counter

import pytest

from data_gen.labelers.equations import with_equations
from prm.records import Evidence, LabelledSolution, Solution, StepLabel, Verdict
from prm.verifiers.step_checks import check_equations, equation_evidence


def results(step):
    return [equation.result for equation in check_equations(step)]


TRUE = [
    "so 3*(4+5) = 27",
    "Natalia sold 48/2 = 24 clips in May.",
    "$5 * 3 = $15",
    "She pays $1,200 + $34.50 = $1,234.50.",
    "20% of 50 = 10",
    "1/4 of 20 = 5 apples",
    "5/20 * 100 = 25%",
    "100% - 20% = 80%",
    "3 x 4 = 12",
    "3 times 4 = 12",
    "25 = 5^2",
    "2**10 = 1024",
    "3² + 4² = 25",
    "3 apples + 4 apples = 7 apples",
    "5 cm + 3 cm = 8cm",
    r"\frac{12}{4} = 3",
    r"$7 \times 8 &= 56$",
    r"\[ 50 - (10 + 5) = 35 \]",
    r"\boxed{3+4=7}",
    r"5 \text{ apples} + 3 = 8 \text{ apples}",
    "**3 + 4 = 7**",
    "1. 3 + 4 = 7",
    "- 3 + 4 = 7",
    "x: -3 + 4 = 1",
    "10/3 ≈ 3.33",
    "10/3 ≈ 3.34",
    "2/3 = 0.666...",
    "2(4) + 3 = 11",
    "6 \u00d7 7 = 42",
    "10 \u2212 4 = 6 left",
    "3/3 - 2/3 = 1/3 of the cake",
    "12 * 2 = 24 (since June)",
    "9 - 3 = 6, so 6 remain",
    "so x is 3, 4 * 5 = 20",
]
FALSE = [
    "so 3*(4+5) = 28",
    "Natalia sold 48/2 = 25 clips in May.",
    "$5 * 3 = $16",
    "20% of 50 = 11",
    "3 x 4 = 13 apples",
    "3 times 4 = 13",
    "3 apples + 4 apples = 8 apples",
    r"\frac{12}{5} = 3",
    r"7 \times 8 &= 54",
    r"\boxed{3+4=8}",
    "**3 + 4 = 8**",
    "1. 3 + 4 = 8",
    "- 3 + 4 = 8",
    "10/3 ≈ 4.5",
    "12 = 3*5",
    "2(4) + 3 = 12",
    "10 - 4 = 7 left",
    "$0.50 x 3 = $1.60",
    "12 + 5 = 18 (since June)",
    "20 dollars - 5 dollars = 14 dollars",
    "7/2 = 3",
    "-2 - 3 = 5",
]
UNREADABLE = [
    *("x + 3 = 5", "2x = 6", "2xy = 105 - 65", "f(2) = 3 + 5", "y = 2(4) + 3", "3(x + 1) = 7"),
    *("half of 20 + 4 = 14", "5 less than 3 * 4 = 7", "twice 3 + 4 = 10", "sum of 3 + 4 = 8"),
    *("5 feet + 3 inches = 63 inches", "2 hours = 120 minutes", "3 feet = 36 inches"),
    *("3 hours + 30 minutes = 3.5 hours", "192 * 3 = $5.76", "2 * 50 = 1 dollar"),
    *("17 / 5 = 3 remainder 2", "17 / 5 = 3 R 2", "17 / 5 = 3 with 2 left over"),
    *("4 / 3 = 1 and 1/3", "12 x 1 and 1/4 = 15", "1 1/2 * 4 = 7", r"1\frac12 \times 4 = 7"),
    *("5 * 100,000 = 0.5 million", "3 * 12 = 3 dozen", "2 * 3 = 2 pi", "6 * 2 = 2 squared"),
    *("7 + 8 = 3 (mod 12)", r"7 + 8 = 3 \pmod{12}", "10 + 1 = 11_2", "in base 2, 1 + 1 = 10"),
    *("10/3 = 3.33", "3.33 * 3 = 10", "0.333 * 3 = 1", "about 2.5 * 4 = 10.1", "98.32 + 1.7 = 100"),
    *("60 / 3/4 = 80", "24 (12 + 3) = 7", "5! = 121", "3! + 4 = 11", "|3 - 5| = 2", "√9 + 1 = 5"),
    *("0900 - 0130 = 0730", "5:30 + 2 = 7:31", "3,5 + 1 = 4,6", "14, 400 / 80 = 180", "3+4 = 8?"),
    *(
        "3 + 4 == 8",
        "3 + 4 != 8",
        "3 + 4 <= 8",
        r"3 + 4 \neq 8",
        "3 + 4 = x",
        "3 + 4 =",
        "= 7",
        "=",
    ),
    *("We cannot have 3 + 4 = 8", "3 + 4 isn't 8, suppose 3 + 4 = 8", "Weeks 1-2 = 96 - 70"),
    *("[3.5 + 1] = 4", r"\lfloor 7/2 \rfloor = 3", "(5-2), (6-2) = 3", "7 = 7", "12 = 4"),
]


@pytest.mark.parametrize("step", TRUE)
def test_a_true_equation_is_found_to_be_true(step):
    assert results(step) == ["true"]


@pytest.mark.parametrize("step", FALSE)
def test_a_false_equation_is_found_to_be_false(step):
    assert results(step) == ["false"]


@pytest.mark.parametrize("step", UNREADABLE)
def test_what_cannot_be_read_for_certain_is_never_false(step):
    assert "false" not in results(step)
    assert equation_evidence(step) is None


@pytest.mark.parametrize(
    ("step", "found"),
    [
        ("3 + 4 = 7 = 14/2", ["true", "true"]),
        ("3 + 4 = 7 = 15/2", ["true", "false"]),
        ("x = 3 + 4 = 7", ["unreadable", "true"]),
        ("y = 2x + 3 = 2(4) + 3 = 12", ["unreadable", "unreadable", "false"]),
        ("3 + 4 = 7 + 2 = 9", ["unreadable", "true"]),
        ("3 + 4 = 7, then 7 + 2 = 10.", ["true", "false"]),
        ("3 + 4\n= 7\n= 8", ["true", "unreadable"]),
        ("48/2 = <<48/2=24>>24 clips", ["true", "true"]),
        ("48/2 = <<48/2=25>>24 clips", ["true", "false"]),
    ],
)
def test_each_sign_of_a_chain_is_an_equation_of_its_own(step, found):
    assert results(step) == found


def test_offsets_are_those_of_the_step():
    step = "So $3 \\times 4 = 12$ €, and (6 + 1) = 8 apples."
    first, second = check_equations(step)
    assert (first.text, second.text) == ("3 \\times 4 = 12", "(6 + 1) = 8")
    for one in (first, second):
        assert step[one.begin : one.end] == one.text


def test_the_evidence_counts_what_could_be_checked():
    evidence = equation_evidence("3 + 4 = 7, x = 5, 2 * 3 = 7 and 2 * 4 = 8")
    assert (evidence.kind, evidence.successes, evidence.trials) == ("equations", 2, 3)
    assert evidence.completer == "equations/1"
    assert equation_evidence("Let x be the number of apples.") is None
    assert equation_evidence("") is None


def test_a_label_gets_the_evidence_of_its_step_and_stays_as_it_is():
    steps = ("3 + 4 = 8 and 2 * 2 = 4", "Let x be 5.")
    rollouts = Evidence("rollouts", 1, 2, "completer")
    labels = tuple(StepLabel(i, 1, 2, 0.5, None, True, (rollouts,)) for i in range(2))
    solution = Solution("p#0", "p", steps, None, "stop", "plain", "test")
    before = LabelledSolution(solution, labels, {}, Verdict("right", "test"), "test", "done")
    first, second = with_equations(before).labels
    assert first.evidence == (rollouts, Evidence("equations", 1, 2, "equations/1"))
    assert (first.hard, first.success_rate) == (True, 0.5)
    assert second == labels[1]


def test_random_sums_are_judged_as_python_judges_them():
    rng = random.Random(0)
    for _ in range(400):
        a, b, c = (rng.randint(1, 99) for _ in range(3))
        text = rng.choice([f"{a} + {b} * {c}", f"({a} - {b}) * {c}", f"{a}*{b} - {c}"])
        value = eval(text)
        wrong = value + rng.choice([-3, -1, 1, 7])
        tail = rng.choice(["", ".", " apples", ", so", "\n"])
        assert results(f"Then {text} = {value}{tail}") == ["true"]
        if abs(value) != 100 * abs(wrong):
            assert results(f"Then {text} = {wrong}{tail}") == ["false"]


HOSTILE = [
    "(" * 20_000, "1+" * 10_000 + "1 = 2", "=" * 20_000, "1=" * 10_000, "9^9^9^9^9 = 1",
    "2 = " + "9" * 20_000, "{" * 20_000, r"\frac{" * 4000 + "=", "<<" * 9000, "<<1=1>>" * 3000,
    "3 apples " * 3000 + "= 7", "x" * 20_000 + "=1", "of " * 7000 + "= 1", "\\" * 20_000 + "= 1",
    "1/0 = 1", "1 = 1/0", "0^0 = 1", "\u0663 + 1 = 9", "\uff11 + 1 = 2", "\ud800 = 1 + 1",
    "**" * 9000,
    "__import__('os').system('true') = 1", "1 + 1 = " + "-" * 9000 + "2", "%" * 9000 + "= 1 + 1",
    "(1 + " * 60 + "1" + ")" * 60 + " = 61", "1 = 2 " * 3000, "not " * 5000 + "1 + 1 = 2",
    "a" * 10**6, "9" * 5000 + " + 1 = 2", "1 + 1 = " + "9" * 5000 + " + 3",
    "1 + 1 = 3 " + "9" * 5000, "1 + 1 = 2." + "9" * 5000, "0." + "3" * 5000 + " + 1 = 2.00",
]  # fmt: skip


@pytest.mark.parametrize("step", HOSTILE, ids=lambda text: repr(text)[:20])
def test_a_hostile_step_ends_fast_and_nothing_in_it_is_run(step):
    begin = time.perf_counter()
    found = check_equations(step)
    assert time.perf_counter() - begin < 3
    assert "false" not in {one.result for one in found}


def test_no_random_text_raises():
    rng = random.Random(2)
    pieces = [
        *"0123456789+-*/^=().,{}[]%$ \n\\", "**", r"\frac", r"\text{", r"\boxed{", " of ", " and ",
        "≈", "²", "...", "<<", ">>", "apples", " x ", "million", r"\approx", r"\\", "&", "not ",
    ]  # fmt: skip
    seen = Counter()
    for _ in range(3000):
        step = "".join(rng.choices(pieces, k=rng.randint(1, 40)))
        for one in check_equations(step):
            seen[one.result] += 1
            assert step[one.begin : one.end] == one.text
    assert seen["unreadable"] > 100


def solutions(folder):
    for name in ("test.jsonl", "train.jsonl.gz"):
        path = folder / "problems" / "gsm8k" / name
        with (gzip.open if name.endswith("gz") else open)(path, "rt", encoding="utf-8") as file:
            yield from (json.loads(line)["solution"] for line in file)


@pytest.mark.real
@pytest.mark.slow
def test_right_solutions_of_gsm8k_raise_almost_no_alarm(data_dir):
    steps = [step for text in solutions(data_dir) for step in text.split("\n")]
    found = [results(step) for step in steps]
    assert sum("true" in one for one in found) > 0.7 * len(steps)
    # 21 of 40,337. Each was looked at: in 20 the equation is false as it is written.
    assert sum("false" in one for one in found) <= 21


@pytest.mark.real
@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "most"), [("gsm8k", 0), ("math", 4), ("olympiadbench", 3), ("omnimath", 7)]
)
def test_steps_that_people_call_right_raise_almost_no_alarm(name, most, data_dir):
    path = data_dir / "step_labels" / "processbench" / f"{name}.jsonl"
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    right = [step for row in rows for step in row["steps"][: row["first_error"]]]
    assert len(right) > 500
    assert sum("false" in results(step) for step in right) <= most
