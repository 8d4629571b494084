import dataclasses

import pytest

from prm.verifiers.code import CallTest, CodeTask, CodeVerifier, Compare, StdioTest, check_code
from prm.verifiers.sandbox import Job, Limits, RunResult, default_sandbox
from tests.code_cheats import CHEATS, HONEST, TASK, WRONG, is_fooled

ECHO = CodeTask("stdio", (StdioTest("3\n", "1 2\n"), StdioTest("9\n", "4 5\n")))
SUM = "print(sum(map(int, input().split())))"
HELLO = "3.11.2 (main)"
DEEP: list[object] = []
for _ in range(100_000):
    DEEP = [DEEP]
# It sends what no honest program can, as a value of the first call.
FORGER = """
import os, sys
frame = sys._getframe()
while "records" not in frame.f_locals:
    frame = frame.f_back
os.write(frame.f_locals["records"], b'{"call":0,"value":{"$type":"number","value":"x"}}\\n')
os._exit(0)
def add(a, b): pass
"""


class Scripted:
    """A sandbox that gives back what it was told to: for outcomes that no program can cause."""

    name = "scripted"

    def __init__(self, *results):
        self.results = list(results)

    def self_test(self):
        return []

    def run(self, job: Job, limits: Limits) -> RunResult:  # noqa: ARG002 (the protocol has them)
        result = self.results.pop(0)
        if isinstance(result, Exception):
            raise result
        return result

    def close(self):
        pass


def limits_for(reason):
    """Only what should time out is hurried: the machine may be busy."""
    return Limits(wall_s=1.5, cpu_s=2) if reason == "timeout" else Limits(wall_s=30.0, cpu_s=31)


def numbered(pairs):
    return tuple({"call": index, "value": value} for index, value in pairs)


def values(*answers, outcome="done"):
    return RunResult(outcome, numbered(enumerate(answers)), python=HELLO, detail="why")


@pytest.mark.parametrize("cheat", CHEATS, ids=lambda cheat: cheat.name)
def test_a_cheat_does_not_pass(cheat):
    verdict = check_code(cheat.program, TASK)
    assert verdict.status == "wrong", verdict
    assert verdict.passed < verdict.total == 4


FOOLING = [cheat for cheat in CHEATS if cheat.fools]


@pytest.mark.parametrize("cheat", FOOLING, ids=lambda cheat: cheat.name)
def test_the_same_cheat_fools_a_weak_checker(cheat):
    assert is_fooled(cheat.fools, cheat.program)


@pytest.mark.parametrize("checker", ["exit_code", "token", "nonce", "in_process"])
def test_a_weak_checker_is_right_about_honest_programs(checker):
    assert is_fooled(checker, HONEST)
    assert not is_fooled(checker, WRONG)


def test_all_thirteen_cheats_are_there():
    assert len({cheat.name for cheat in CHEATS}) == 13


def test_an_honest_program_passes_and_a_wrong_one_does_not():
    verdict = check_code(HONEST, TASK)
    assert (verdict.status, verdict.reason, verdict.passed, verdict.total) == ("right", "", 4, 4)
    assert verdict.backend == "code/bwrap"
    assert verdict.seconds > 0
    verdict = check_code(WRONG, TASK)
    assert (verdict.status, verdict.reason, verdict.passed) == ("wrong", "wrong_answer", 2)


def test_what_the_program_prints_is_no_answer_to_a_call():
    program = "import os\nprint('x')\nos.write(1, b'{}')\n" + HONEST
    assert check_code(program, TASK).label is True


@pytest.mark.parametrize(
    ("program", "reason", "passed"),
    [
        ("def nth_prime(n):\n    while n > 2: pass\n    return n + 1", "timeout", 2),
        ("def nth_prime(n): return [2, 3, 1 // 0][n - 1]", "exception", 0),
        (HONEST + "f = nth_prime\ndef nth_prime(n): return f(n) // (n < 9)", "exception", 3),
        ("def nth_prime(n): raise SystemExit(0)", "exception", 0),
        ("def nth_prime(n): raise BaseException()", "exception", 0),
        ("def nth_prime(n): return bytearray(9 << 30)", "memory", 0),
        ("x = bytearray(9 << 30)", "memory", 0),
        ("def nth_prime(n): return 'x' * 400_000", "output_limit", 0),
        ("def nth_prime(n): import os; os._exit(0)", "bad_output", 0),
        ("def nth_prime(n): import os; os._exit(1)", "crash", 0),
        ("def nth_prime(n): x = []; [x := [x] for _ in range(500)]; return x", "bad_output", 0),
        ("def nth_prime(n): x = []; x.append(x); return x", "bad_output", 0),
        ("def nth_prime(n): return object()", "wrong_answer", 0),
        ("def nth_prime(n): return lambda: 2", "wrong_answer", 0),
        ("def nth_prime(n): return '2'", "wrong_answer", 0),
        ("def nth_prime(n): print(n)", "wrong_answer", 0),
        ("def prime(n): return 2", "exception", 0),
        ("nth_prime = 3", "exception", 0),
        ("def nth_prime(n) return 2", "crash", 0),
        ("1 / 0", "crash", 0),
        ("\0", "crash", 0),
        ("import sys\nsys.exit()", "crash", 0),
    ],
)  # fmt: skip
def test_a_program_that_fails_is_wrong_and_the_cause_is_told(program, reason, passed):
    verdict = check_code(program, TASK, limits=limits_for(reason))
    assert (verdict.status, verdict.reason, verdict.passed) == ("wrong", reason, passed), verdict
    assert verdict.detail


@pytest.mark.parametrize(
    ("program", "reason"),
    [(None, "no_answer"), (" \n", "no_answer"), ("#" * 70_000, "too_long")],
)
def test_without_a_program_nothing_can_be_told(program, reason):
    verdict = check_code(program, TASK)
    assert (verdict.label, verdict.reason, verdict.total) == (None, reason, 4)


@pytest.mark.parametrize(
    "failure",
    [
        RunResult("error", detail="the sandbox did not start"),
        OSError("no more processes"),
    ],
)
def test_a_broken_sandbox_is_never_a_wrong_answer(failure):
    for task in (TASK, ECHO):
        verdict = check_code(HONEST, task, sandbox=Scripted(failure))
        assert (verdict.label, verdict.reason) == (None, "error")


@pytest.mark.parametrize(
    "records",
    [
        (),
        ({"call": 0, "value": 2},),
        numbered(enumerate((2, 3, 13, 29, 31))),
        numbered((0, value) for value in (2, 3, 13, 29)),
        numbered(((1, 3), (0, 2), (2, 13), (3, 29))),
        numbered(((False, 2), (True, 3), (2, 13), (3, 29))),
        (2, 3, 13, 29),
        tuple({"call": index} for index in range(4)),
        numbered((index, {"$type": "tuple", "value": 2}) for index in range(4)),
        numbered((index, {"$type": "int", "value": "x"}) for index in range(4)),
        numbered((index, {"$type": "number", "value": "x"}) for index in range(4)),
        numbered((index, {"$type": "bool", "value": "x"}) for index in range(4)),
        numbered((index, {"$type": "complex", "value": [1]}) for index in range(4)),
        numbered((index, {"$type": "dict", "value": [1, 2]}) for index in range(4)),
        numbered(
            (index, {"$type": "set", "value": [True, {"$type": "bool", "value": "x"}]})
            for index in range(4)
        ),
        tuple({"call": index, "unsendable": DEEP} for index in range(4)),
    ],
)
def test_forged_records_do_not_pass(records):
    result = RunResult("done", records, python=HELLO)
    verdict = check_code(HONEST, TASK, sandbox=Scripted(result))
    assert (verdict.status, verdict.reason) == ("wrong", "bad_output")


@pytest.mark.parametrize("outcome", ["timeout", "memory", "output_limit", "crash", "bad_output"])
def test_right_values_do_not_pass_unless_the_run_ended_well(outcome):
    verdict = check_code(HONEST, TASK, sandbox=Scripted(values(2, 3, 13, 29, outcome=outcome)))
    assert (verdict.status, verdict.reason) == ("wrong", outcome)
    assert check_code(HONEST, TASK, sandbox=Scripted(values(2, 3, 13, 29))).status == "right"


def test_the_expected_values_do_not_enter_the_sandbox():
    tests = (CallTest(811_589_153, (41_234_567,)), CallTest(3, (2,)))
    task = CodeTask("call", tests, entry="nth_prime")
    seen = []

    class Spy(Scripted):
        def run(self, job, limits):
            seen.append(job.to_bytes(limits))
            return values(1, 3)

    check_code(HONEST, task, sandbox=Spy())
    assert (41_234_567).to_bytes(4, "little") in seen[0]
    assert (811_589_153).to_bytes(4, "little") not in seen[0]
    assert b"811589153" not in seen[0]


def test_values_keep_their_types_on_both_ways():
    program = "def same(x): return x"
    things = [None, True, 1, 1.5, "é\ud800", [1], (1, (2,)), {1, 2}, frozenset({3}), {1: (2,)}]
    things += [
        {"a": [1]},
        2**200,
        -(2**70),
        float("inf"),
        b"\x00",
        1j,
        {"$type": "int"},
        "",
        [],
        {},
    ]
    task = CodeTask("call", tuple(CallTest(it, (it,)) for it in things), entry="same")
    verdict = check_code(program, task)
    assert (verdict.status, verdict.passed) == ("right", len(things)), verdict


def test_subclasses_travel_as_what_they_refine():
    program = (
        "import collections, enum\n"
        "class E(enum.IntEnum):\n    A = 1\n"
        "P = collections.namedtuple('P', 'x y')\n"
        "values = [E.A, P(1, 2), collections.Counter('aa'), collections.OrderedDict(b=1)]\n"
        "def f(n): return values[n]"
    )
    expected = [1, (1, 2), {"a": 2}, {"b": 1}]
    task = CodeTask("call", tuple(CallTest(e, (i,)) for i, e in enumerate(expected)), entry="f")
    assert check_code(program, task).label is True


def test_a_method_is_called_on_a_new_instance_each_time():
    program = (
        "class Solution:\n    def __init__(self): self.calls = 0\n"
        "    def f(self, x, *, y=0):\n        self.calls += 1\n        return x + y, self.calls"
    )
    tests = (CallTest((1, 1), (1,)), CallTest((5, 1), (2,), {"y": 3}))
    assert check_code(program, CodeTask("call", tests, entry="Solution.f")).label is True


def test_printed_answers_are_compared_with_their_number_of_lines():
    task = CodeTask("stdio", (StdioTest("1\n2\n3\n", "3"), StdioTest("1\n", "1")))
    program = "print(*range(1, int(input()) + {}), sep='\\n')"
    assert check_code(program.format(1), task).label is True
    for wrong in (0, 2):
        assert check_code(program.format(wrong), task).reason == "wrong_answer"


@pytest.mark.parametrize(
    ("program", "reason", "passed"),
    [
        (SUM, "", 2),
        ("if __name__ == '__main__':\n    " + SUM, "", 2),
        ("import sys\na, b = map(int, sys.stdin.read().split())\nprint(a + b)\nsys.exit(0)", "", 2),
        ("a, b = map(int, open('/dev/stdin').read().split())\nprint(a + b)", "", 2),
        ("a, b = map(int, open(0).read().split())\nprint(a + b)", "", 2),
        ("print(3)", "wrong_answer", 1),
        (SUM + "\n1 / 0", "crash", 0),
        (SUM + "\nimport sys\nsys.exit(1)", "crash", 0),
        ("while True: pass", "timeout", 0),
        ("while True: print('x' * 10**6)", "output_limit", 0),
        ("x = bytearray(9 << 30)", "memory", 0),
        ("import os\nos.write(1, b'\\xff\\xfe3')", "wrong_answer", 0),
    ],
)
def test_a_script_reads_and_prints(program, reason, passed):
    verdict = check_code(program, ECHO, limits=limits_for(reason))
    assert (verdict.reason, verdict.passed, verdict.total) == (reason, passed, 2), verdict
    assert verdict.label is (reason == "")


def test_a_script_is_not_run_again_after_it_used_up_a_limit():
    sandbox = Scripted(RunResult("timeout", python=HELLO))
    assert check_code(SUM, ECHO, sandbox=sandbox).reason == "timeout"


def test_a_task_may_have_its_own_time():
    program = "import time\ntime.sleep(2)\n" + HONEST
    hurried = dataclasses.replace(TASK, wall_s=1.0)
    assert check_code(program, hurried).reason == "timeout"
    assert check_code(program, TASK).label is True


def test_tolerance_is_the_tasks_own():
    tests = (CallTest(0.3, (0.1, 0.2)), CallTest(3.0, (1, 2)))
    program = "def add(a, b): return a + b"
    assert check_code(program, CodeTask("call", tests, entry="add")).passed == 1
    task = CodeTask("call", tests, entry="add", compare=Compare(rel_tol=1e-9))
    assert check_code(program, task).label is True


def test_the_verifier_finds_the_program_and_keeps_the_order():
    verifier = CodeVerifier(limits={"wall_s": 20.0, "cpu_s": 21})
    fenced = f"I add them.\n```python\n{SUM}\n```\nThat is all."
    items = [(fenced, ECHO.to_reference()), (None, ECHO.to_reference())] * 2
    items += [(f"```py\n{HONEST}```", TASK.to_reference()), ("I do not know", TASK.to_reference())]
    labels = [verdict.label for verdict in verifier.check_many(items)]
    assert labels == [True, None, True, None, True, None]
    assert verifier.check_many([]) == []
    verifier.close()


def test_one_forged_value_loses_no_other_verdict():
    tests = (CallTest(0.3, (0.1, 0.2)), CallTest(3.0, (1, 2)))
    near = CodeTask("call", tests, entry="add", compare=Compare(abs_tol=1e-6)).to_reference()
    honest = "```python\ndef add(a, b): return a + b\n```"
    items = [(honest, near), (f"```python{FORGER}```", near), (honest, "{}"), (honest, near)]
    verdicts = CodeVerifier(workers=2, limits={"wall_s": 20.0}).check_many(items)
    found = [(verdict.label, verdict.reason) for verdict in verdicts]
    assert found == [(True, ""), (False, "bad_output"), (None, "error"), (True, "")]


def test_a_forged_error_without_text_is_no_crash_of_ours():
    for record in ({"call": 0, "raised": DEEP}, {"call": None, "raised": DEEP}):
        verdict = check_code(HONEST, TASK, sandbox=Scripted(RunResult("done", (record,))))
        assert verdict.status == "wrong"


def test_a_right_program_may_write_as_much_as_is_expected():
    text = "x" * 600_000
    task = CodeTask("stdio", (StdioTest(text),), wall_s=30.0)
    assert check_code("print('x' * 600_000)", task).label is True
    assert check_code("while True: print('x' * 600_000)", task).reason == "output_limit"
    tests = (CallTest([7] * 200_000, (7,)), CallTest([8] * 200_000, (8,)))
    task = CodeTask("call", tests, entry="f", wall_s=30.0)
    assert check_code("def f(x): return [x] * 200_000", task).label is True


@pytest.mark.parametrize(
    "program",
    [
        "import no_such_module\n" + SUM,
        f"import threading\nt = threading.Thread(target=lambda: {SUM})\nt.start()\nt.join()",
    ],
)
def test_what_the_sandbox_does_not_have_makes_no_program_wrong(program):
    verdict = check_code(program, ECHO)
    assert (verdict.label, verdict.reason) == (None, "unsupported"), verdict
    tests = (CallTest(1, (1,)), CallTest(2, (2,)))
    task = CodeTask("call", tests, entry="f")
    inside = "".join(f"    {line}\n" for line in program.splitlines())
    verdict = check_code(f"def f(x):\n{inside}    return x", task)
    assert (verdict.label, verdict.reason) == (None, "unsupported"), verdict
    verdict = check_code(f"def f(x):\n    if x > 1: return 0\n{inside}", task)
    assert (verdict.label, verdict.reason) == (False, "wrong_answer"), verdict


def test_a_text_too_long_to_look_for_a_program_in_is_told_apart():
    verdict = CodeVerifier()("x" * 1_000_001, ECHO.to_reference())
    assert (verdict.label, verdict.reason, verdict.total) == (None, "too_long", 2)


def test_the_default_sandbox_is_made_once():
    assert default_sandbox() is default_sandbox()
