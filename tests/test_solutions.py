import dataclasses

import pytest

from data_gen.drafts import Draft
from data_gen.solutions import Reader, check_pattern
from prm.errors import ConfigError
from prm.generation.requests import Reply
from prm.protocols import Generation
from prm.traces import join_trace
from tests.sample_setup import problem

THOUGHTS = "Okay, 3 plus 4.\n\nWait, let me check that. Is it \\boxed{8}?\n\nNo, 3 + 4 = 7."
ANSWER = "Three and four are seven.\n\nThe answer is \\boxed{7}."
CLOSED = f"<think>\n{THOUGHTS}\n</think>\n\n{ANSWER}"
# A chat template that opens the thinking has written the first tag.
OPENED = f"{THOUGHTS}\n</think>\n\n{ANSWER}"
CUT = f"<think>\n{THOUGHTS}"
CHECK = "Step 1 is wrong: 3 + 4 is not \\boxed{8}."
DRAFT = "\nHm.\n\nNew solution:\n\n8\n</think>\n\n"
REFINED = f"{CHECK}\n\nNew solution:\n\n{ANSWER}"


def reader(steps_from="text", *, opens_thinking=False, pattern="boxed"):
    return Reader("model", {"n": 1}, steps_from, opens_thinking, pattern, "service")


def draft(number=0):
    strategy = "find_and_fix/1" if number else "zero_shot/1"
    return Draft(problem(0), 2, strategy, "prompt", 0, number)


def read(text, steps_from="text", *, number=0, finish="stop", **settings):
    reply = Reply(Generation(text, finish, 30, 20, -1.5))
    return reader(steps_from, **settings).solution(draft(number), reply, 7)


def whole(one):
    """The text that a solution was read from."""
    return join_trace(one.steps, one.trace)


def test_what_was_generated_goes_into_the_record():
    made = Generation("Step 1\nAnswer: 7", "loop", 30, 20, -1.5, saved_tokens=80)
    one = reader(pattern=r"^Answer: (.+)$").solution(draft(), Reply(made), None)
    assert (one.id, one.problem_id, one.strategy) == ("sum/0#2", "sum/0", "zero_shot/1")
    assert (one.steps, one.final_answer) == (("Step 1", "Answer: 7"), "7")
    assert (one.finish_reason, one.logprob, one.seed) == ("loop", -1.5, None)
    assert dataclasses.astuple(one.usage) == (30, 20, 80)
    assert (one.model, one.sampling, one.endpoint) == ("model", {"n": 1}, "service")
    assert (one.trace, one.parent, one.round) == (None, None, 0)
    assert read("Step 1").seed == 7


@pytest.mark.parametrize("text", ["", "\n\n", "   \n"])
@pytest.mark.parametrize("steps_from", ["text", "thinking", "answer"])
def test_a_text_without_a_step_is_no_solution(text, steps_from):
    assert read(text, steps_from) is None


@pytest.mark.parametrize(("text", "opens"), [(CLOSED, False), (CLOSED, True), (OPENED, True)])
def test_thoughts_and_answer_are_told_apart(text, opens):
    thought = read(text, "thinking", opens_thinking=opens)
    said = read(text, "answer", opens_thinking=opens)
    assert "\n\n".join(thought.steps) == THOUGHTS
    assert "\n\n".join(said.steps) == ANSWER
    for one in (thought, said):
        assert one.final_answer == "7"
        assert whole(one) == text
    assert thought.trace.corrections
    assert said.trace.corrections == ()


def test_from_the_whole_text_each_line_is_a_step():
    one = read(f"\n{CLOSED}\n")
    assert one.trace is None
    assert "\n".join(one.steps) == CLOSED
    assert one.final_answer == "7"


@pytest.mark.parametrize(("text", "opens"), [(CUT, False), (CUT, True), (THOUGHTS, True)])
@pytest.mark.parametrize("number", [0, 1])
@pytest.mark.parametrize("finish", ["length", "loop"])
def test_a_text_that_ends_in_its_thoughts_has_no_answer(text, opens, number, finish):
    settings = {"opens_thinking": opens, "number": number, "finish": finish}
    for steps_from in ("thinking", "text"):
        one = read(text, steps_from, **settings)
        assert one.steps[-1].endswith("No, 3 + 4 = 7.")
        assert one.final_answer is None
    assert read(text, "answer", **settings) is None


@pytest.mark.parametrize("number", [0, 1])
@pytest.mark.parametrize("steps_from", ["thinking", "text", "answer"])
def test_a_text_without_tags_that_came_to_its_end_is_an_answer_also_of_who_thinks(
    steps_from, number
):
    one = read(ANSWER, steps_from, number=number, opens_thinking=True)
    assert one.final_answer == "7"
    assert one.steps == read(ANSWER, steps_from, number=number).steps


def test_a_text_without_tags_is_what_the_setting_says():
    for steps_from in ("thinking", "answer"):
        one = read(ANSWER, steps_from)
        assert "\n\n".join(one.steps) == ANSWER
        assert one.final_answer == "7"


def test_who_says_nothing_after_the_thoughts_is_taken_at_the_thoughts_last_word():
    text = f"<think>\n{THOUGHTS} So \\boxed{{7}}.\n</think>"
    assert read(text, "thinking").final_answer == "7"
    assert read(text, "answer") is None


def test_an_answer_in_the_thoughts_does_not_count_where_something_is_said():
    text = "<think>\nIt is \\boxed{8}.\n</think>\n\nI do not know."
    for steps_from in ("thinking", "answer"):
        assert read(text, steps_from).final_answer is None


@pytest.mark.parametrize("steps_from", ["text", "thinking", "answer"])
@pytest.mark.parametrize(
    ("thoughts", "opens"),
    [("", False), (f"<think>{DRAFT}", False), (f"<think>{DRAFT}", True), (DRAFT, True)],
)
def test_the_steps_of_a_refinement_are_those_of_the_new_solution(steps_from, opens, thoughts):
    text = f"{thoughts}{REFINED}\n"
    one = read(text, steps_from, number=2, opens_thinking=opens)
    assert ("\n" if steps_from == "text" else "\n\n").join(one.steps) == ANSWER
    assert one.final_answer == "7"
    assert whole(one) == text
    assert one.trace.before.endswith(f"{CHECK}\n\nNew solution:\n\n")
    assert (one.id, one.parent, one.round) == ("sum/0#2.2", "sum/0#2.1", 2)


def test_a_heading_in_a_first_attempt_is_a_line_like_others():
    assert read(REFINED).steps[0].startswith(CHECK)


def test_a_refinement_without_the_heading_is_taken_whole():
    one = read(ANSWER, number=1)
    assert "\n".join(one.steps) == ANSWER
    assert one.final_answer == "7"


@pytest.mark.parametrize(
    ("text", "number", "shown"),
    [
        (CUT, 0, ""),
        (CUT, 1, ""),
        (f"\n{ANSWER}\n", 0, ANSWER),
        (CLOSED, 0, ANSWER),
        (OPENED, 0, ANSWER),
        (REFINED, 0, REFINED),
        (REFINED, 1, ANSWER),
        (f"<think>\nNew solution:\n8\n</think>\n{REFINED}", 2, ANSWER),
        (f"{CHECK}\n\nNew solution:\n\n", 1, f"{CHECK}\n\nNew solution:"),
        (f"{CUT}\n</think>\n", 0, f"{CUT}\n</think>"),
        (" \n", 0, ""),
    ],
)
def test_what_is_refined_is_the_solution_without_thoughts_and_checks(text, number, shown):
    for opens in (False, True):
        made = Generation(text, "stop", 30, 20)
        assert reader(opens_thinking=opens).said(draft(number), made) == shown


@pytest.mark.parametrize("number", [0, 1])
def test_thoughts_that_were_cut_off_are_not_refined(number):
    for finish, shown in (("length", ""), ("loop", ""), ("stop", THOUGHTS)):
        made = Generation(THOUGHTS, finish, 30, 20)
        assert reader(opens_thinking=True).said(draft(number), made) == shown
        assert reader().said(draft(number), made) == THOUGHTS


@pytest.mark.parametrize(
    ("pattern", "message"),
    [
        ("^Answer: .+$", "has no group"),
        ("^Answer: (.+$", "is no regular expression: "),
        ("", "has no group"),
    ],
)
def test_a_pattern_that_finds_no_answer_is_refused(pattern, message):
    with pytest.raises(ConfigError, match=message):
        check_pattern(pattern)
    for good in ("boxed", "whole", r"^Answer: (.+)$", r"(\d+)"):
        check_pattern(good)
