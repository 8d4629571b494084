import itertools
import re

import pytest

from data_gen.arithmetic import evaluate, is_held_out, make_problems, state
from data_gen.prompting import load_strategy
from prm.errors import ConfigError
from prm.evaluation.step_truth import first_error, operand_pairs, problem_pairs
from prm.store import unique

SIZES = {"train": 150, "selection": 60, "test": 100}
BOTH = ("+", "-")


def problems(sizes=SIZES, **changes):
    settings = {"num_operands": [3, 4], "low": 1, "high": 12, "operators": ["+"], "seed": 0}
    return list(make_problems(sizes, **{**settings, **changes}))


def test_a_seed_makes_the_same_problems_and_another_makes_others():
    assert problems() == problems()
    assert problems(seed=1) != problems()


def test_the_sizes_are_kept_and_the_ids_unique():
    made = unique(problems(), "here")
    assert {split: [p.split for p in made].count(split) for split in SIZES} == SIZES
    assert all(p.id.startswith(f"arithmetic/{p.split}-") for p in made)


@pytest.mark.parametrize("operators", [["+"], BOTH])
def test_no_statement_occurs_twice_over_all_splits(operators):
    statements = [p.statement for p in problems(operators=operators)]
    assert len(set(statements)) == len(statements) == sum(SIZES.values())


@pytest.mark.parametrize("operators", [["+"], BOTH])
def test_training_problems_have_no_held_out_pair(operators):
    made = problems(operators=operators)
    train = [p for p in made if p.split == "train"]
    assert not any(is_held_out(pair) for p in train for pair in problem_pairs(p.meta))
    assert not any(p.meta["unseen_pair"] for p in train)


def test_other_problems_say_whether_they_have_a_held_out_pair():
    others = [p for p in problems() if p.split != "train"]
    for p in others:
        assert p.meta["unseen_pair"] == any(map(is_held_out, problem_pairs(p.meta)))
    assert {p.meta["unseen_pair"] for p in others} == {True, False}


def test_about_a_fifth_of_the_pairs_is_held_out():
    # 3 standard deviations of a share of 0.2: 0.028 of 1,830 sums, 0.02 of 3,600 differences.
    sums = [(a, "+", b) for a, b in itertools.combinations_with_replacement(range(60), 2)]
    differences = [(a, "-", b) for a in range(60) for b in range(60)]
    for pairs, margin in ((sums, 0.028), (differences, 0.02)):
        assert abs(sum(map(is_held_out, pairs)) / len(pairs) - 0.2) < margin


def test_the_order_of_a_sum_does_not_matter_and_that_of_a_difference_does():
    pairs = list(itertools.product(range(30), range(30)))
    assert all(is_held_out((a, "+", b)) == is_held_out((b, "+", a)) for a, b in pairs)
    assert any(is_held_out((a, "-", b)) != is_held_out((b, "-", a)) for a, b in pairs)


def test_the_held_out_pairs_stay_the_same():
    # Another hash would let pairs of earlier training runs into the test split.
    assert [b for b in range(1, 13) if is_held_out((7, "+", b))] == [4, 5, 7, 11]
    assert [b for b in range(1, 13) if is_held_out((7, "-", b))] == [7, 8, 10]


@pytest.mark.parametrize("operators", [["+"], ["-"], BOTH])
def test_answers_are_exact_and_read_from_left_to_right(operators):
    for p in problems({"test": 100}, operators=operators, num_operands=[2, 5], high=99):
        expression = re.fullmatch(r"Calculate (.+)\.", p.statement).group(1)
        # Python's own arithmetic: + and - have one precedence, left to right.
        assert re.fullmatch(r"[0-9+\- ]+", expression)
        assert int(p.reference_answer) == eval(expression)
        assert len(p.meta["operands"]) in (2, 5)
        assert set(p.meta["operators"]) <= set(operators)
        assert all(1 <= operand <= 99 for operand in p.meta["operands"])


@pytest.mark.parametrize(
    ("operands", "operators", "statement", "answer"),
    [
        ([3, 9, 4], ["+", "-"], "Calculate 3 + 9 - 4.", 8),
        ([3, 9, 4], ["-", "-"], "Calculate 3 - 9 - 4.", -10),
        ([5], [], "Calculate 5.", 5),
    ],
)
def test_a_problem_in_words_and_its_answer(operands, operators, statement, answer):
    meta = {"operands": operands, "operators": operators}
    assert (state(meta), evaluate(meta)) == (statement, answer)


def test_too_few_distinct_problems_are_an_error_with_a_remedy():
    with pytest.raises(ConfigError, match=r"no new test problem .*widen the range"):
        problems({"test": 28}, num_operands=[3], high=3)
    assert len(problems({"test": 27}, num_operands=[3], high=3)) == 27


def test_a_split_that_does_not_exist_is_an_error_and_is_not_left_out():
    with pytest.raises(ConfigError, match="dev"):
        problems({"train": 3, "dev": 3})


def shipped_examples():
    """(operands, steps) of each worked example of the shipped prompt."""
    *examples, last = load_strategy("few_shot_arithmetic").text.split("\n\n")
    assert last == "Problem: {problem}\n"
    for example in examples:
        statement, *steps = example.split("\n")
        numbers = re.fullmatch(r"Problem: Calculate (.+)\.", statement).group(1)
        yield [int(number) for number in numbers.split(" + ")], steps


def test_the_shipped_examples_are_right():
    examples = list(shipped_examples())
    assert len(examples) >= 3
    for operands, steps in examples:
        meta = {"operands": operands, "operators": ["+"] * (len(operands) - 1)}
        assert first_error(meta, steps) is None
        assert steps[-1] == f"Answer: {sum(operands)}"


def test_the_shipped_examples_show_no_held_out_pair():
    for operands, steps in shipped_examples():
        meta = {"operands": operands, "operators": ["+"] * (len(operands) - 1)}
        assert not any(map(is_held_out, problem_pairs(meta)))
        assert not any(map(is_held_out, operand_pairs(steps)))
