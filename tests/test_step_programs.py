import textwrap

import pytest

from data_gen.prompting import load_strategy
from data_gen.step_programs import program_checks, program_evidence, program_prompt
from prm.protocols import Generation, SamplingParams
from prm.records import Evidence, Problem
from prm.verifiers.sandbox import Limits
from prm.verifiers.step_programs import ProgramCheck, check_step_by_program

PROBLEM = Problem("p", "Calculate 3 * (4 + 5).", "27", "integer", "test", "train")
STEPS = ("First, 4 + 5 = 9.", "So 3 * 9 = 28.")
SHORT = Limits(wall_s=2.0, cpu_s=3)


def fenced(body):
    return f"Here it is:\n\n```python\n{textwrap.dedent(body).strip()}\n```\n"


def checked(body, step=STEPS[1]):
    return check_step_by_program(step, (PROBLEM.statement, STEPS[0]), fenced(body), limits=SHORT)


def test_a_program_says_whether_the_step_holds():
    assert checked("def check():\n    return 3 * (4 + 5) == 27").holds is True
    assert checked("def check():\n    return 3 * 9 == 28").holds is False
    exact = """
        from fractions import Fraction

        def check():
            return Fraction(28, 3) == 9
    """
    assert checked(exact).holds is False


SILENT = {
    "no_program": "x = 9 == 28",
    "unparsed": "def check():\n    return 3 * 9 ==",
    "constant": "def check():\n    return True",
    "unrelated": "def check():\n    return 1 == 1",
    "no_answer": "def check():\n    return None if 3 < 9 else 28",
    "exception": "def check():\n    return 3 / (9 - 9) == 28",
    "timeout": "def check():\n    while 3 < 9: pass",
}


@pytest.mark.parametrize(("reason", "body"), SILENT.items(), ids=SILENT)
def test_a_program_that_says_nothing_is_counted_for_nothing(reason, body):
    check = checked(body)
    assert (check.holds, check.reason) == (None, reason)
    assert check.evidence("writer") is None


def test_an_empty_text_has_no_program():
    assert check_step_by_program("1 + 1 = 2", (), "I cannot write one.").reason == "no_program"


def test_a_forged_record_is_not_believed():
    forged = """
        import os

        def check():
            for fd in range(3, 10):
                try:
                    os.write(fd, b'{"call": 0, "value": true}\\n')
                except OSError:
                    pass
            return 3 * 9 == 28
    """
    assert checked(forged).holds is not True


def test_a_check_program_sees_no_file_of_the_host(tmp_path):
    secret = tmp_path / "secret"
    secret.write_text("28")
    body = f"def check():\n    return open({str(secret)!r}).read() == '28'"
    assert checked(body).reason == "exception"


def test_evidence_is_one_trial_by_the_writer():
    assert ProgramCheck(True).evidence("writer", 40) == Evidence("program", 1, 1, "writer", 40)
    assert ProgramCheck(False).evidence("writer") == Evidence("program", 0, 1, "writer")
    checks = [ProgramCheck(True), ProgramCheck(None, "timeout"), ProgramCheck(False)]
    assert program_evidence(checks, "writer") == Evidence("program", 1, 2, "writer")
    assert program_evidence([ProgramCheck(None, "timeout")], "writer") is None


class Writer:
    """Writes for each step the program that its last number calls for."""

    name = "writer"

    def __init__(self):
        self.prompts = []

    def generate(self, prompts, params, *, seed):
        assert seed == 0
        self.prompts += prompts
        programs = ["def check():\n    return 4 + 5 == 9", "def check():\n    return 3 * 9 == 28"]
        return [
            [Generation(fenced(program), "stop", 10, 20)] * params.n
            for program in programs[: len(prompts)]
        ]


def test_every_step_gets_a_program_and_sees_only_the_steps_before():
    writer = Writer()
    found = program_checks(PROBLEM, STEPS, writer, params=SamplingParams(n=2))
    assert [[check.holds for check in checks] for checks in found] == [[True] * 2, [False] * 2]
    first, second = (prompt.messages[0].content for prompt in writer.prompts)
    assert STEPS[0] in first
    assert STEPS[1] not in first
    assert STEPS[0] in second
    assert STEPS[1] in second
    assert program_checks(PROBLEM, (), writer) == []


def test_the_prompt_shows_the_problem_and_the_step_to_check_last():
    [turn] = program_prompt(PROBLEM, STEPS, 1).messages
    at = [turn.content.index(text) for text in (PROBLEM.statement, STEPS[0], STEPS[1], "check()")]
    assert at == sorted(at)
    assert load_strategy("check_program").id == "check_program/1"
