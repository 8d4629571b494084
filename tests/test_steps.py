import random

import pytest

from prm.steps import join_steps, split_steps

ALPHABET = ["a", "7", " ", "\n", "\n", "\n\n", "\t", "\r", "\u2028", "\x0c", "é", "Step 1: "]


def texts():
    source = random.Random(0)
    for _ in range(3000):
        yield "".join(source.choices(ALPHABET, k=source.randint(0, 12)))


def test_joined_steps_are_the_text_again():
    with_steps = [text for text in texts() if text.strip()]
    assert len(with_steps) > 2000
    for text in with_steps:
        assert join_steps(split_steps(text)) == text, repr(text)


def test_every_step_has_exactly_one_line_that_is_not_blank():
    for text in texts():
        steps = split_steps(text)
        assert all(sum(bool(line.strip()) for line in s.split("\n")) == 1 for s in steps)
        assert len(steps) == sum(bool(line.strip()) for line in text.split("\n"))


def test_steps_are_split_again_into_the_same_steps():
    for text in texts():
        steps = split_steps(text)
        assert split_steps(join_steps(steps)) == steps


@pytest.mark.parametrize("text", ["", "\n", " \n\t\n", "\u2028"])
def test_a_blank_text_has_no_steps(text):
    assert split_steps(text) == []


@pytest.mark.parametrize(
    ("text", "steps"),
    [
        ("a", ["a"]),
        ("a\nb", ["a", "b"]),
        ("\n\na\n\nb\n", ["\n\na\n", "b\n"]),
        ("a\n  \nb", ["a\n  ", "b"]),
        ("a\r\nb\r\n", ["a\r", "b\r\n"]),
    ],
)
def test_blank_lines_stay_with_the_step_before(text, steps):
    assert split_steps(text) == steps
