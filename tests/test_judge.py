import dataclasses

import pytest

from data_gen.labelers.judge import JudgeLabeler, opinions, read_answer, tagged
from data_gen.labelers.rollouts import GeneratorRollouts
from data_gen.prompting import load_strategy
from prm.errors import ConfigError
from prm.ledger import Ledger
from prm.protocols import Generation, SamplingParams
from prm.records import Opinion, Verdict
from tests.tiny import tiny_problem, tiny_solution

PROBLEM = tiny_problem()
OTHER = tiny_problem(1, (5, 6))
STEPS = ["3 + 9 = 13", "13 + 4 = 17", "Answer: 17"]
PROBLEMS = {one.id: one for one in (PROBLEM, OTHER)}
WRONG, RIGHT, UNKNOWN = (Verdict(status, "test") for status in ("wrong", "right", "could_not_tell"))


class Saying:
    """Gives these texts in turn to each prompt; seven tokens each."""

    name = "saying"

    def __init__(self, *texts, finish_reason="stop"):
        self.texts = texts
        self.finish_reason = finish_reason
        self.calls = []

    def generate(self, prompts, params, *, seed):
        self.calls.append((list(prompts), params, seed))
        return [
            [
                Generation(self.texts[k % len(self.texts)], self.finish_reason, 11, 7)
                for k in range(params.n)
            ]
            for _ in prompts
        ]


class NoRollouts:
    async def sample_many(self, requests):
        return [[] for _ in requests]


def boxes(*indices):
    return [f"So the first wrong step is \\boxed{{{index}}}." for index in indices]


def judged(*texts, verdict=UNKNOWN, steps=STEPS, finish_reason="stop", **settings):
    """The labels of one solution, with a vote for each text."""
    labeler = JudgeLabeler(
        votes=len(texts),
        generator=Saying(*texts, finish_reason=finish_reason),
        problems=PROBLEMS,
        **settings,
    )
    pool = [tiny_solution(PROBLEM, steps)]
    [labelled] = labeler.label(pool, NoRollouts(), check=lambda _: verdict)
    return labelled


def hard(labelled):
    return [label.hard for label in labelled.labels]


def test_the_majority_names_the_first_wrong_step():
    one = judged(*boxes(1, 1, -1, 1, 2))
    assert hard(one) == [True, False, None]
    assert one.first_error == {"1": 0.6, "2": 0.2, "none": 0.2}
    assert [label.prefix_correct for label in one.labels] == pytest.approx([1.0, 0.4, 0.2])
    assert one.opinions == (Opinion("judge", {"1": 3, "2": 1, "none": 1}, "saying", 35),)
    assert (one.labeler, one.stop_reason, one.tokens) == ("judge", "first_error_found", 35)
    assert one.tokens_by_kind == {"judge": 35}


def test_no_wrong_step_makes_all_right():
    one = judged(*boxes(-1, -1, 0))
    assert hard(one) == [True, True, True]
    assert one.stop_reason == "all_steps_good"


@pytest.mark.parametrize("indices", [(0, 1), (0, 0, 1, 1, -1), (0, 1, 2, -1)])
def test_a_tie_or_a_small_share_decides_nothing(indices):
    one = judged(*boxes(*indices))
    assert hard(one) == [None, None, None]
    assert one.stop_reason == "undecided"
    assert one.first_error == {}


def test_an_unreadable_answer_is_counted_and_is_no_vote():
    one = judged(*boxes(1), "I cannot say.", "\\boxed{maybe}", "\\boxed{3}", "\\boxed{7}")
    assert one.opinions[0].votes == {"1": 1}
    assert one.opinions[0].note == "1 no_box, 1 no_index, 2 out_of_range"
    assert one.opinions[0].tokens == 35
    assert one.first_error == {}
    # One readable vote of five asked for is not half of them.
    assert hard(one) == [None, None, None]


def test_nothing_readable_says_nothing():
    one = judged("Hm.", "Hm!")
    assert (one.stop_reason, one.first_error) == ("nothing_said", {})
    assert [label.prefix_correct for label in one.labels] == [None] * 3
    assert one.opinions[0].votes == {}
    assert one.tokens == 14


def test_a_wrong_answer_contradicts_votes_for_no_error():
    one = judged(*boxes(-1, -1, 1), verdict=WRONG)
    assert (one.stop_reason, hard(one)) == ("contradicts_verdict", [None, None, None])
    assert one.first_error == {}
    assert one.opinions[0].votes == {"1": 1, "none": 2}
    assert judged(*boxes(-1, -1, 1), verdict=RIGHT).stop_reason == "all_steps_good"


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("\\boxed{0}", "0"),
        ("first \\boxed{1}, no, \\boxed{2}", "2"),
        ("$\\boxed{\\text{1}}$", "1"),
        ("\\boxed{step_1}", "1"),
        ("\\boxed{ Step 1 }", "1"),
        ("\\boxed{-1}", "none"),
    ],
)
def test_the_last_box_is_the_answer(text, place):
    assert read_answer(text, "stop", 3) == (place, "")


@pytest.mark.parametrize(
    ("text", "finish", "reason"),
    [
        ("\\boxed{1}", "length", "truncated"),
        ("\\boxed{1}", "loop", "loop"),
        ("", "error", "error"),
        ("1", "stop", "no_box"),
        ("\\boxed{}", "stop", "no_box"),
        ("\\boxed{-2}", "stop", "no_index"),
        ("\\boxed{1.5}", "stop", "no_index"),
        ("\\boxed{1, 2}", "stop", "no_index"),
        ("\\boxed{none}", "stop", "no_index"),
        ("\\boxed{3}", "stop", "out_of_range"),
    ],
)
def test_an_answer_that_is_no_index_has_a_reason(text, finish, reason):
    assert read_answer(text, finish, 3) == (None, reason)


def test_the_judge_reads_the_problem_and_the_steps_with_their_indices():
    generator = Saying(*boxes(0))
    opinions([tiny_solution(PROBLEM, STEPS)], PROBLEMS, generator, votes=3)
    [([chat], params, _)] = generator.calls
    content = chat.messages[0].content
    assert PROBLEM.statement in content
    assert "<step_0>\n3 + 9 = 13\n</step_0>\n\n<step_1>\n" in content
    assert tagged(STEPS) in content
    assert params.n == 3


def test_an_index_that_is_asked_for_at_once_begins_and_ends_with_the_box():
    one = judged("1", " 1", "-1", "one", at_once=True)
    assert one.opinions[0].votes == {"1": 2, "none": 1}
    assert one.opinions[0].note == "1 no_index"
    generator = Saying("1")
    labeler = JudgeLabeler(generator=generator, problems=PROBLEMS, at_once=True)
    labeler.label([tiny_solution(PROBLEM, STEPS)], NoRollouts())
    [([chat], params, _)] = generator.calls
    assert (chat.prefix, params.stop) == ("\\boxed{", ("}",))
    assert judged("1", at_once=True, finish_reason="length").opinions[0].note == "1 truncated"


def test_equal_solutions_are_judged_once_and_paid_once():
    generator = Saying(*boxes(0))
    pool = [tiny_solution(PROBLEM, STEPS, k) for k in range(3)]
    said = opinions([*pool, tiny_solution(OTHER, STEPS)], PROBLEMS, generator, votes=2)
    assert len(generator.calls[0][0]) == 2
    assert [one.votes for one in said.values()] == [{"0": 2}] * 4
    assert [one.tokens for one in said.values()] == [14, 0, 0, 14]


def test_a_solution_without_steps_is_not_asked_about():
    generator = Saying(*boxes(0))
    empty = tiny_solution(PROBLEM, [])
    assert opinions([empty], PROBLEMS, generator) == {}
    assert generator.calls == []
    [one] = JudgeLabeler(generator=generator, problems=PROBLEMS).label([empty], NoRollouts())
    assert (one.labels, one.stop_reason, one.verdict.label) == ((), "no_steps", None)


def test_the_same_seed_asks_the_same():
    def calls(seed):
        generator = Saying(*boxes(0))
        opinions([tiny_solution(PROBLEM, STEPS)], PROBLEMS, generator, seed=seed)
        return generator.calls

    assert calls(0) == calls(0)
    assert calls(0)[0][2] != calls(1)[0][2]


def test_the_model_and_the_problems_come_from_the_rollouts_and_the_cost_goes_there():
    generator = Saying(*boxes(0))
    rollouts = GeneratorRollouts(
        generator,
        PROBLEMS,
        strategy=load_strategy("few_shot_arithmetic"),
        params=SamplingParams(),
        answer_pattern="(.+)",
        seed=0,
    )
    [one] = JudgeLabeler(votes=4).label(
        [tiny_solution(PROBLEM, STEPS)], rollouts, check=lambda _: WRONG
    )
    assert hard(one) == [False, None, None]
    # In this process a prompt is read once for all its texts.
    assert rollouts.ledger == Ledger(11, 28)


def test_without_a_model_or_problems_the_error_says_what_to_give():
    pool = [tiny_solution(PROBLEM, STEPS)]
    with pytest.raises(ConfigError, match=r"NoRollouts\) have none: give it JudgeLabeler\(gener"):
        JudgeLabeler().label(pool, NoRollouts())
    with pytest.raises(ConfigError, match=r"give it JudgeLabeler\(problems=\.\.\.\)"):
        JudgeLabeler(generator=Saying("")).label(pool, NoRollouts())
    with pytest.raises(ConfigError, match="tiny/0000#0' is of problem 'tiny/0000', which is not"):
        opinions(pool, {OTHER.id: OTHER}, Saying(""))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"votes": 0}, "votes should be 1 or more"),
        ({"votes": 2, "sampling": SamplingParams(temperature=0)}, "2 votes at temperature 0"),
        ({"min_share": 0.0}, "min_share should be in"),
        ({"min_share": 1.1}, "min_share should be in"),
    ],
)
def test_settings_that_cannot_be_meant_are_refused(settings, message):
    with pytest.raises(ConfigError, match=message):
        JudgeLabeler(**settings)


def test_a_prompt_that_asks_for_no_check_is_refused():
    labeler = JudgeLabeler(generator=Saying(""), problems=PROBLEMS, prompt="find_and_fix")
    with pytest.raises(ConfigError, match="find_and_fix/1 asks for no check"):
        labeler.label([tiny_solution(PROBLEM, STEPS)], NoRollouts())


def test_the_labels_survive_the_records():
    from prm.records import LabelledSolution, from_json, to_json

    one = judged(*boxes(1, 1, -1), "?")
    assert from_json(LabelledSolution, to_json(one), "here") == one
    assert dataclasses.replace(one, tokens=0) != one
