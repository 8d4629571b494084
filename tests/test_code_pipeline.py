"""Programs through the jobs: sampled, judged by running them, labelled by programs that go on."""

import json

import pytest

from data_gen import label
from prm.records import LabelledSolution, Problem
from prm.steps import split_steps
from prm.store import read_records
from prm.verifiers import extract_answer
from prm.verifiers.code import CodeTask, StdioTest
from tests import stub_answers
from tests.sample_setup import SERVERS, run_job, threaded_stub, write_problems

TASK = CodeTask("stdio", (StdioTest("3\n", "1 2\n"), StdioTest("9\n", "4 5\n")))
RIGHT = (
    "I add them.",
    "```python",
    "for line in [input()]:",
    "    a, b = map(int, line.split())",
    "    print(a + b)",
    "```",
    "That is all.",
)
WRONG = tuple(line.replace("a + b", "a - b") for line in RIGHT)


def write_program(mode, context, digest, limit, think_words):
    """A right or a wrong program; what is begun goes on as the right one does."""
    begun = context[1]
    done = len(split_steps(begun))
    lines = RIGHT if done or digest[0] % 2 else WRONG
    return ("\n" if begun and not begun.endswith("\n") else "") + "\n".join(lines[done:])


def test_the_whole_solution_is_all_its_steps():
    text = "So:\n\n```python\nif x:\n\n    y()\n```\n"
    assert extract_answer(split_steps(text), "whole") == text
    assert extract_answer([], "whole") is None


@pytest.fixture
def stub(monkeypatch):
    monkeypatch.setattr(stub_answers, "_write", write_program)
    with threaded_stub() as server:
        yield server


def test_programs_are_sampled_and_labelled_by_running_them(stub, tmp_path):
    one = Problem("p/1", "Print the sum.", TASK.to_reference(), "code", "test", "train")
    problems = write_problems(tmp_path / "problems", [one])
    solutions = run_job(
        problems, tmp_path / "solutions", stub, answer_pattern="whole", sampling={"n": 8}
    )
    assert {one.steps for one in solutions.values()} == {RIGHT, WRONG}
    assert all(one.final_answer == "\n".join(one.steps) for one in solutions.values())
    settings = {
        "problems": str(problems),
        "solutions": str(tmp_path / "solutions"),
        "output": str(tmp_path / "labels"),
        "completer": {"model": "stub", "servers": SERVERS | {"endpoints": [stub.url]}},
        "strategy": "zero_shot_arithmetic",
        "sampling": {"max_tokens": 200, "stop": []},
        "math_shepherd": {"num_rollouts": 2, "early_stop": False, "reuse_siblings": False},
        "answer_pattern": "whole",
        "verifiers": {"code": {"limits": {"wall_s": 20.0}}},
        "hold_out_pairs": False,
    }
    words = [(f"--{k}", v if isinstance(v, str) else json.dumps(v)) for k, v in settings.items()]
    label.main([word for pair in words for word in pair])
    found = {row.id: row for row in read_records(tmp_path / "labels", LabelledSolution)}
    assert found.keys() == solutions.keys()
    bad = RIGHT.index("    print(a + b)")
    for row in found.values():
        is_right = row.solution.steps == RIGHT
        assert row.verdict.status == ("right" if is_right else "wrong")
        assert row.verdict.backend == "code/bwrap"
        good = len(RIGHT) if is_right else bad
        assert [step.success_rate for step in row.labels[:good]] == [1.0] * good
        assert row.labels[bad].success_rate == (1.0 if is_right else 0.0)
        assert row.first_error["none" if is_right else str(bad)] == 1.0
