"""Own problems through problems, sample and label: the first error is where the script put it."""

import json
from collections import Counter
from pathlib import Path

import pytest

from data_gen import label
from data_gen import problems as problems_job
from data_gen.label import LabelConfig
from data_gen.problems import ProblemsConfig
from data_gen.prompting import load_strategy
from data_gen.sample import SampleConfig
from prm.config import load
from prm.records import LabelledSolution, Problem
from prm.steps import join_steps
from prm.store import read_records
from tests import stub_answers
from tests.sample_setup import SERVERS, counts, run_job, threaded_stub, write_problems
from tests.scripted_programs import OWN, first_error, scripts, write_program

BY_ID = {one.problem.id: one for one in OWN}
CODE = {"code": {"limits": {"wall_s": 20.0}}}


CONFIGS = Path(__file__).parents[1] / "configs" / "code"
SPLITS = [("selection", "test"), pytest.param(("train",), marks=pytest.mark.slow)]


@pytest.fixture(scope="module", params=SPLITS, ids="-".join)
def jobs(request, tmp_path_factory):
    """Solutions and labels of the own problems of some splits, three samples each."""
    folder = tmp_path_factory.mktemp("code")
    problems_job.main(["--sources", "[own_code]", "--output", str(folder / "all")])
    made = read_records(folder / "all", Problem)
    write_problems(folder / "problems", [one for one in made if one.split in request.param])
    with pytest.MonkeyPatch.context() as patch, threaded_stub() as stub:
        patch.setattr(stub_answers, "_write", write_program)
        solutions = run_job(
            folder / "problems",
            folder / "solutions",
            stub,
            strategies={"program_with_plan": 1},
            steps_from="program",
            answer_pattern="whole",
            sampling={"n": 3, "max_tokens": 2000},
            verifiers=CODE,
            problems_per_batch=15,
        )
        label.main(words(folder, stub))
    labels = {row.id: row for row in read_records(folder / "labels", LabelledSolution)}
    return folder, solutions, labels


def words(folder, stub):
    settings = {
        "problems": str(folder / "problems"),
        "solutions": str(folder / "solutions"),
        "output": str(folder / "labels"),
        "splits": ["train", "selection", "test"],
        "completer": {"model": "stub", "servers": SERVERS | {"endpoints": [stub.url]}},
        "strategy": "program_with_plan",
        "sampling": {"max_tokens": 2000, "stop": []},
        "math_shepherd": {
            "num_rollouts": 4,
            "first_round": 1,
            "min_successes": 1,
            "reuse_siblings": False,
        },
        "answer_pattern": "whole",
        "verifiers": CODE,
        "hold_out_pairs": False,
        "problems_per_batch": 15,
    }
    pairs = [(f"--{k}", v if isinstance(v, str) else json.dumps(v)) for k, v in settings.items()]
    return [word for pair in pairs for word in pair]


def test_every_sample_is_a_script_in_steps_and_its_answer_is_the_whole_text(jobs):
    folder, solutions, _ = jobs
    problems = {one.problem_id for one in solutions.values()}
    assert len(solutions) == 3 * len(problems) >= 30
    assert counts(folder / "labels") == (len(solutions), len(solutions), {})
    for one in solutions.values():
        assert list(one.steps) in scripts(BY_ID[one.problem_id])
        assert one.final_answer == join_steps(one.steps)


def test_the_first_error_is_found_where_the_script_put_it(jobs):
    found, truth = {}, {}
    for name, row in jobs[2].items():
        place = first_error(BY_ID[row.solution.problem_id], list(row.solution.steps))
        truth[name] = {"none" if place is None else str(place): 1.0}
        found[name] = row.first_error
        assert row.verdict.status == ("right" if place is None else "wrong")
        assert row.verdict.backend == "code/bwrap"
    assert found == truth
    kinds = Counter("none" in one for one in truth.values())
    assert kinds[True] >= 5
    assert kinds[False] >= 20


def test_steps_before_the_error_are_right_and_those_behind_it_are_not_known(jobs):
    for row in jobs[2].values():
        place = first_error(BY_ID[row.solution.problem_id], list(row.solution.steps))
        hard = [step.hard for step in row.labels]
        total = len(row.solution.steps)
        if place is None:
            assert hard == [True] * total
        else:
            assert hard == [True] * place + [False] + [None] * (total - place - 1)


def test_some_rollouts_from_a_right_beginning_fail_and_are_counted_as_failures(jobs):
    good = [step for row in jobs[2].values() for step in row.labels if step.hard and step.trials]
    assert any(step.successes < step.trials for step in good)
    assert sum(step.successes for step in good) > 0.8 * sum(step.trials for step in good)


def test_the_files_of_configs_load_and_read_what_the_one_before_writes():
    problems = load(ProblemsConfig, CONFIGS / "problems.yaml")
    sample = load(SampleConfig, CONFIGS / "sample.yaml")
    labels = load(LabelConfig, CONFIGS / "label.yaml")
    assert sample.problems == labels.problems == problems.output
    assert labels.solutions == sample.output
    assert (sample.steps_from, sample.answer_pattern) == ("program", "whole")
    assert labels.answer_pattern == "whole"
    # A rollout goes on from the prompt, and ends where a sample does.
    assert sample.strategies == {labels.strategy: 1}
    assert sample.sampling.stop == labels.sampling.stop
    assert load_strategy(labels.strategy).text.endswith("```python\n")
