import contextlib
import re
import textwrap

import pytest

from data_gen import label, label_models
from data_gen.labelers import programs
from data_gen.prompting import load_strategy
from data_gen.step_programs import program_checks, program_evidence, program_prompt
from prm.errors import SandboxUnavailable
from prm.ledger import Ledger
from prm.protocols import Chat, Generation, SamplingParams
from prm.records import Evidence, LabelledSolution, Problem, Solution
from prm.store import StoreWriter, read_manifests, read_records
from prm.verifiers.sandbox import Limits, make_sandbox
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


LONG = "9" * 5000
HOSTILE = {
    "hexadecimal": ("def check():\n    return 3 * 9 == 0x" + "f" * 6000, STEPS[1], ""),
    "in a string": (f"def check():\n    return '{LONG}' == 3", STEPS[1], ""),
    "decimal": (f"def check():\n    return 28 == {LONG}", STEPS[1], "unparsed"),
    "in the step": ("def check():\n    return 3 * 9 == 27", f"3 * 9 = {LONG}", ""),
    "nothing else": ("def check():\n    return 3 * 9 == 27", LONG, ""),
    "float": ("def check():\n    return 1e999 > 1e16", "1 + 16 = 17", "unrelated"),
    "returned": ("def check():\n    return 28**5000 if 3 < 9 else 1", STEPS[1], "no_answer"),
    "surrogate": ("def check():\n    return '\ud800' == 28", STEPS[1], "unparsed"),
}


@pytest.mark.parametrize(("body", "step", "reason"), HOSTILE.values(), ids=HOSTILE)
def test_numbers_of_any_length_do_no_harm(body, step, reason):
    assert checked(body, step).reason == reason


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


ONE = Problem("sum", "Calculate 2 + 3.", "5", "integer", "test", "train")
PROGRAMS = {
    "2 + 3 = 5": "def check():\n    return 2 + 3 == 5",
    "2 + 3 = 6": "def check():\n    return 2 + 3 == 6",
    "4 = 4": "def check():\n    while 4: pass",
    "Answer: 5": "I cannot write one for 5",
}


class Completer:
    """Continues a prefix to the answer, and writes the programs above."""

    name = "completer"

    def __init__(self):
        self.ledger = Ledger()
        self.calls = []
        self.seeds = []

    def generate(self, prompts, params, *, seed):
        self.calls.append(list(prompts))
        self.seeds.append(seed)
        self.ledger += Ledger(10 * len(prompts), 20 * len(prompts) * params.n, dollars=1.0)
        return [[Generation(self.text(prompt), "stop", 10, 20)] * params.n for prompt in prompts]

    def text(self, prompt):
        if not isinstance(prompt, Chat) or "check()" not in prompt.messages[0].content:
            return "Answer: 5"
        [step] = re.findall(r"The last step:\n\nStep \d+: (.*)", prompt.messages[0].content)
        return fenced(PROGRAMS[step])


def solved(k, *steps):
    return Solution(f"sum#{k}", "sum", steps, "5", "stop", "test/1", "writer")


def labelled_by(completer, folder, solutions, **settings):
    """What the job makes of these solutions, and its manifest."""
    for name, rows in (("problems", [ONE]), ("solutions", solutions)):
        if not (folder / name).exists():
            with StoreWriter(folder / name, job="test", config={}, config_hash="0") as writer:
                writer.append("all", rows)
    output = folder / f"labels-{len(list(folder.iterdir()))}"
    settings = {"problems": folder / "problems", "solutions": folder / "solutions"} | settings
    words = [word for name, value in settings.items() for word in (f"--{name}", str(value))]
    with pytest.MonkeyPatch.context() as patch:
        # The job's own way to a generator would load a model.
        patch.setattr(label_models, "open_generator", lambda *_: contextlib.nullcontext(completer))
        label.main(
            [
                *words,
                "--output",
                str(output),
                "--hold_out_pairs",
                "false",
                "--strategy",
                "zero_shot_arithmetic",
            ]
        )
    [manifest] = read_manifests(output)
    return list(read_records(output, LabelledSolution)), manifest


def test_the_label_job_adds_the_word_of_programs_and_their_cost(tmp_path):
    solutions = [
        solved(0, "2 + 3 = 5", "4 = 4", "Answer: 5"),
        solved(1, "2 + 3 = 6", "Answer: 5"),
        solved(2, "2 + 3 = 5", "Answer: 5"),
    ]
    plain, before = labelled_by(Completer(), tmp_path, solutions)
    completer = Completer()
    found, after = labelled_by(completer, tmp_path, solutions, step_programs="true")
    said = [
        [[one for one in step.evidence if one.kind == "program"] for step in row.labels]
        for row in found
    ]
    right, wrong = (Evidence("program", n, 1, "completer", 20) for n in (1, 0))
    assert said == [[[right], [], []], [[wrong], []], [[right], []]]
    # Each call draws its own random numbers.
    assert len(set(completer.seeds)) == len(completer.calls)
    # One call for all; the step that two solutions begin with is in it once.
    asked = [call for call in completer.calls if isinstance(call[0], Chat)]
    assert [len(call) for call in asked if "check()" in call[0].messages[0].content] == [6]
    assert after["ledger"]["generated_tokens"] == before["ledger"]["generated_tokens"] + 6 * 20
    assert after["ledger"]["dollars"] == before["ledger"]["dollars"] + 1.0
    for one, other in zip(plain, found, strict=True):
        assert (
            other.tokens
            == one.tokens + 20 * len(one.labels)
            == sum(step.tokens for step in other.labels)
        )
        assert [step.hard for step in other.labels] == [step.hard for step in one.labels]
        assert other.first_error == one.first_error


def test_without_a_sandbox_no_rollout_is_paid_for(tmp_path, monkeypatch):
    unsound = make_sandbox("bwrap")
    monkeypatch.setattr(type(unsound), "self_test", lambda _: ["found unsound"])
    monkeypatch.setattr(programs, "default_sandbox", lambda: unsound)
    completer = Completer()
    with pytest.raises(SandboxUnavailable, match="found unsound"):
        labelled_by(completer, tmp_path, [solved(0, "2 + 3 = 5")], step_programs="true")
    assert completer.calls == []


def test_what_has_no_steps_asks_for_no_program():
    assert programs.with_programs([], {}, Completer()) == ([], Ledger())
