"""The own problems: their programs do what the scripts say, and their tests are hidden."""

import json
from collections import Counter

import pytest

from data_gen import problems as job
from data_gen.code_problems import OwnProblem, Slip, own_problems
from prm.errors import RecordError
from prm.records import Problem
from prm.store import read_manifests, read_records
from prm.verifiers.code import CallTest, CodeTask, CodeVerifier, StdioTest
from tests.scripted_programs import OWN, fenced, first_error, scripts

TASKS = {one.name: CodeTask.from_reference(one.task) for one in OWN}


@pytest.fixture(scope="module")
def verifier():
    verifier = CodeVerifier(limits={"wall_s": 20.0})
    yield verifier
    verifier.close()


@pytest.mark.parametrize("which", ["right", "other_right"])
def test_both_right_programs_of_a_problem_pass_all_tests(which, verifier):
    verdicts = verifier.check_many([(fenced(getattr(one, which)), one.task) for one in OWN])
    found = {one.name: (it.status, it.passed) for one, it in zip(OWN, verdicts, strict=True)}
    assert found == {name: ("right", len(task.tests)) for name, task in TASKS.items()}


def test_every_scripted_wrong_program_fails_a_test_and_is_no_mere_crash(verifier):
    cases = [(one, i) for one in OWN for i in range(len(one.wrong))]
    verdicts = verifier.check_many([(fenced(one.with_slip(i)), one.task) for one, i in cases])
    found = [(one.name, i, it.status) for (one, i), it in zip(cases, verdicts, strict=True)]
    assert found == [(one.name, i, "wrong") for one, i in cases]
    reasons = Counter(it.reason for it in verdicts)
    assert reasons["wrong_answer"] > 0.8 * len(cases)


def test_a_slip_changes_one_step_and_the_slips_of_a_problem_lie_in_different_ones():
    for own in OWN:
        right, *wrong = scripts(own)
        places = [first_error(own, steps) for steps in wrong]
        assert None not in places
        for place, steps in zip(places, wrong, strict=True):
            assert [*right[:place], *right[place + 1 :]] == [*steps[:place], *steps[place + 1 :]]
        assert len(places) >= 2
        assert len(set(places)) >= 2


def test_there_are_many_problems_of_both_kinds_and_all_levels():
    kinds = Counter(task.kind for task in TASKS.values())
    assert kinds["call"] >= 8
    assert kinds["stdio"] >= 8
    assert len(OWN) >= 24
    assert set(Counter(one.level for one in OWN)) == {1, 2, 3, 4}
    assert len({one.statement for one in OWN}) == len(OWN)
    assert {one.problem.split for one in OWN} == {"train", "selection", "test"}


@pytest.mark.parametrize("own", OWN, ids=lambda one: one.name)
def test_a_problem_has_six_tests_or_more_and_none_of_them_is_shown(own):
    task = TASKS[own.name]
    assert len(task.tests) >= 6
    for test in task.tests:
        if isinstance(test, CallTest):
            shown = f"{task.entry}({json.dumps(list(test.args))[1:-1]})"
        else:
            shown = " ".join(test.stdin.split()) if len(test.stdin) > 8 else "\n"
        assert shown not in own.statement
    # What is asked for can be known: the name of the function, or what is read and printed.
    words = ["`" + (task.entry or "") + "("] if task.entry else ["input", "Print"]
    words += [] if task.entry is None else ["return"]
    assert all(word in own.statement for word in words)


def test_no_problem_is_passed_by_a_constant_or_by_an_echo(verifier):
    for own in OWN:
        expected = [json.dumps(test.expected) for test in TASKS[own.name].tests]
        assert len(set(expected)) >= 2
        echoes = [t.expected == t.stdin for t in TASKS[own.name].tests if isinstance(t, StdioTest)]
        assert not echoes or not all(echoes)


def test_the_job_writes_them_with_the_tests_as_reference(tmp_path):
    job.main(["--sources", "[own_code]", "--output", str(tmp_path / "p")])
    found = list(read_records(tmp_path / "p", Problem))
    assert found == [one.problem for one in OWN]
    assert {one.verifier for one in found} == {"code"}
    assert read_manifests(tmp_path / "p")[0]["skipped"] == {}
    shown = [{key: one.meta[key] for key in one.meta} for one in found]
    assert all(set(one) == {"level", "kind"} for one in shown)


def test_the_problems_are_read_anew_and_the_same():
    assert own_problems() == OWN


@pytest.mark.parametrize("line", ["nowhere", "    a = 1"])
def test_a_slip_must_be_in_exactly_one_line(line):
    right = "def f():\n    a = 1\n    a = 1\n    return a"
    with pytest.raises(RecordError, match="lines of right are"):
        OwnProblem("f", 1, "f", OWN[0].task, right, right, (Slip(line, ""),))
