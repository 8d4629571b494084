import dataclasses

import pytest

from data_gen.labelers.program_labeler import ProgramLabeler, opinions
from prm.errors import ConfigError
from prm.protocols import Generation
from prm.records import Opinion, Verdict
from prm.verifiers.sandbox import default_sandbox
from tests.tiny import tiny_problem, tiny_solution

PROBLEM = tiny_problem()
VERDICTS = {
    label: Verdict(status, "test")
    for label, status in ((True, "right"), (False, "wrong"), (None, "could_not_tell"))
}


class NoRollouts:
    async def sample_many(self, requests):
        return [[] for _ in requests]


def labelled(steps, verdict=None, **settings):
    labeler = ProgramLabeler(problems={PROBLEM.id: PROBLEM}, **settings)
    pool = [tiny_solution(PROBLEM, steps)]
    [one] = labeler.label(pool, NoRollouts(), check=lambda _: VERDICTS[verdict])
    return one


def hard(one):
    return [label.hard for label in one.labels]


def test_a_step_with_a_false_equation_is_the_first_wrong_one_and_the_others_are_unknown():
    one = labelled(["3 + 9 = 12", "We add the rest.", "12 + 4 = 17", "17 + 1 = 19"])
    assert hard(one) == [None, None, False, None]
    assert [label.prefix_correct for label in one.labels] == [None, None, 0.0, 0.0]
    assert one.first_error == {"2": 1.0}
    assert one.opinions == (Opinion("program", {"2": 1}, "equations/1"),)
    assert [len(label.evidence) for label in one.labels] == [1, 0, 1, 1]
    assert (one.stop_reason, one.tokens, one.labeler) == ("first_error_found", 0, "program")


def test_true_equations_do_not_make_a_step_right():
    one = labelled(["3 + 9 = 12", "12 + 4 = 16"], verdict=True)
    assert hard(one) == [None, None]
    assert (one.first_error, one.opinions, one.stop_reason) == ({}, (), "undecided")


def test_where_equations_are_the_whole_step_true_ones_make_it_right():
    one = labelled(["3 + 9 = 12", "12 + 4 = 16"], equations_are_whole=True)
    assert hard(one) == [True, True]
    assert one.first_error == {"none": 1.0}
    assert [label.prefix_correct for label in one.labels] == [1.0, 1.0]
    assert one.opinions[0].votes == {"none": 1}
    wrong = labelled(["3 + 9 = 12", "12 + 4 = 17", "17 = 17"], equations_are_whole=True)
    assert hard(wrong) == [True, False, None]


def test_a_step_that_cannot_be_read_ends_what_is_known():
    steps = ["3 + 9 = 12", "We add x.", "12 + 4 = 16", "16 + 1 = 18", "18 + 1 = 19"]
    one = labelled(steps, equations_are_whole=True)
    assert hard(one) == [True, None, None, False, None]
    assert hard(labelled(steps[:3], equations_are_whole=True)) == [True, None, None]


@pytest.mark.parametrize(
    ("verdict", "expected", "reason"),
    [
        (True, [True, True], "all_steps_good"),
        (None, [True, None], "undecided"),
        (False, [None, None], "contradicts_verdict"),
    ],
)
def test_a_last_step_that_only_states_the_answer_is_read_by_the_verdict(verdict, expected, reason):
    one = labelled(["3 + 9 = 12", "Answer: 12"], verdict, equations_are_whole=True)
    assert (hard(one), one.stop_reason) == (expected, reason)


def test_a_wrong_answer_whose_equations_all_hold_has_no_label_and_no_opinion():
    one = labelled(["3 + 8 = 11", "11 + 4 = 15"], False, equations_are_whole=True)
    assert (hard(one), one.first_error, one.opinions) == ([None, None], {}, ())
    assert [label.evidence[0].successes for label in one.labels] == [1, 1]


def test_words_alone_say_nothing_also_when_the_answer_is_right():
    for settings in ({}, {"equations_are_whole": True}):
        one = labelled(["We think.", "Answer: 16"], True, **settings)
        assert (hard(one), one.stop_reason) == ([None, None], "nothing_said")
    assert labelled([]).stop_reason == "no_steps"


def test_opinions_name_the_first_false_equation_and_pass_over_the_rest():
    texts = [["3 + 9 = 12", "12 + 4 = 17"], ["3 + 9 = 12"], ["Hm."], []]
    pool = [tiny_solution(PROBLEM, steps, k) for k, steps in enumerate(texts)]
    assert opinions(pool) == {pool[0].id: Opinion("program", {"1": 1}, "equations/1")}


class Programmer:
    """Writes a program that compares the step's two numbers with what it knows."""

    name = "programmer"

    def __init__(self, *programs):
        self.programs = programs
        self.calls = []

    def generate(self, prompts, params, *, seed):
        self.calls.append((params, seed))
        return [
            [Generation(f"```python\n{program}\n```", "stop", 5, 9)]
            for _, program in zip(prompts, self.programs, strict=True)
        ]


HOLDS = "def check():\n    return 3 + 9 == 12"
DENIES = "def check():\n    return 12 + 4 == 12"
SILENT = "def check():\n    return None if 12 + 4 else True"


@pytest.mark.parametrize(
    ("programs", "steps", "expected", "place"),
    [
        ((HOLDS, DENIES), ["3 and 9 are 12", "12 and 4 are 12"], [True, False], "1"),
        ((HOLDS, SILENT), ["3 and 9 are 12", "12 and 4 are 12"], [True, None], None),
        # The program is wrong about the first step, and the equation about none.
        ((HOLDS, HOLDS), ["3 + 9 = 13", "9 and 3 are 12"], [False, None], "0"),
    ],
)
def test_a_program_confirms_or_denies_a_step_and_equations_go_on_counting(
    programs, steps, expected, place
):
    one = labelled(steps, programs=True, generator=Programmer(*programs), sandbox=default_sandbox())
    assert hard(one) == expected
    assert one.first_error == ({} if place is None else {place: 1.0})
    assert (one.tokens, one.tokens_by_kind) == (18, {"program": 18})
    assert [label.tokens for label in one.labels] == [9, 9]
    if place is not None:
        assert one.opinions == (
            Opinion("program", {place: 1}, "programs:programmer+equations/1", 18),
        )


def test_programs_need_a_model_to_write_them():
    with pytest.raises(ConfigError, match=r"give it ProgramLabeler\(generator=\.\.\.\)"):
        labelled(["3 + 9 = 12"], programs=True)


def test_the_equations_of_chains_of_arithmetic_find_every_wrong_sum():
    problems = [tiny_problem(i, (3 + i, 9, 4)) for i in range(40)]
    pool = []
    for i, problem in enumerate(problems):
        slip = 1 if i % 2 else 0
        first = 12 + i
        steps = [f"Step 1: {3 + i} + 9 = {first}", f"Step 2: {first} + 4 = {first + 4 + slip}"]
        pool.append(tiny_solution(problem, [*steps, f"Answer: {first + 4 + slip}"]))
    answers = {problem.id: problem.reference_answer for problem in problems}

    def check(solution):
        return VERDICTS[solution.final_answer == answers[solution.problem_id]]

    found = ProgramLabeler(equations_are_whole=True).label(pool, NoRollouts(), check=check)
    assert [hard(one) for one in found] == [[True, True, True], [True, False, None]] * 20


def test_own_verdicts_come_from_the_rollouts_without_a_check():
    [one] = ProgramLabeler().label([tiny_solution(PROBLEM, ["1 + 1 = 3"])], NoRollouts())
    assert one.verdict.label is None
    assert dataclasses.asdict(one)["first_error"] == {"0": 1.0}
