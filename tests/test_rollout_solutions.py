"""Rollouts that were paid for become solutions."""

import re
from collections import Counter

import pytest

from data_gen import rollout_solutions
from data_gen.rollout_file import Spent
from data_gen.rollout_solutions import begins_right
from data_gen.rollout_store import RolloutStore, prefix_key
from prm.errors import StoreError
from prm.ledger import Ledger
from prm.protocols import Rollout
from prm.records import LabelledSolution, Solution, StepLabel
from prm.store import Shard, StoreWriter, read_records
from tests.label_setup import rows, run_job, stores
from tests.sample_setup import counts, write_problems
from tests.tiny import tiny_labelled, tiny_problem

SETTINGS = {"answer_pattern": r"^Answer: (.+)$", "completer": "m", "sampling": {"temperature": 1}}
STEPS = ["good", "bad", "Answer: 7"]


@pytest.fixture
def given(tmp_path):
    """A labelled solution, its first error in step 1, and rollouts by the steps kept."""
    problem = tiny_problem()
    write_problems(tmp_path / "problems", [problem])
    with StoreWriter(tmp_path / "labels", job="test", config={}, config_hash="0") as writer:
        writer.append("all", [tiny_labelled(problem, STEPS, 1)])

    def keep(by_kept):
        with RolloutStore(tmp_path / "rollouts", settings=SETTINGS) as store:
            for kept, rollouts in by_kept.items():
                key = prefix_key(problem, STEPS[:kept])
                named = [(key, ordinal, one) for ordinal, one in enumerate(rollouts)]
                store.put(named, Spent("x", "rollouts", Ledger()))
        return tmp_path

    return keep


def words(folder, **settings):
    found = []
    for name in ("problems", "labels", "rollouts"):
        found += [f"--{name}", str(folder / name)]
    settings = {"output": folder / "more", **settings}
    return found + [word for k, v in settings.items() for word in (f"--{k}", str(v))]


def made(folder, **settings):
    rollout_solutions.main(words(folder, **settings))
    return list(read_records(folder / "more", Solution))


def test_a_rollout_is_a_solution_with_the_steps_that_it_began_with(given):
    folder = given({1: [Rollout(True, 9, "\nnext \n\nAnswer: 16\n")]})
    [one] = made(folder)
    assert one.steps == ("good", "next \n", "Answer: 16")
    assert one.final_answer == "16"
    assert (one.parent, one.strategy, one.model) == ("tiny/0000#0", "rollout", "m")
    assert re.fullmatch("tiny/0000#rollout-[0-9a-f]{12}", one.id)
    assert one.usage.generated_tokens == 9
    assert one.sampling == {"temperature": 1}


def test_every_rollout_is_taken_or_counted(given, capsys):
    right = [Rollout(True, 1, f"way {k}\nAnswer: 16") for k in range(4)]
    folder = given(
        {
            0: [Rollout(False, 1, "\n".join(STEPS)), *right[:1]],
            1: [*right, right[0], Rollout(None, 1, "hm"), Rollout(False, 1, "x", "length")],
            2: [Rollout(True, 1, "Answer: 16"), Rollout(False, 1, "Answer: 1")],
            3: [Rollout(False, 1, "Answer: 2")],
        }
    )
    assert len(made(folder)) == 2
    assert counts(folder / "more") == (
        12,
        2,
        {"duplicate": 2, "enough": 3, "could_not_tell": 1, "unfinished": 1, "start_not_right": 3},
    )
    assert "in 12 = out 2 + skipped 10" in capsys.readouterr().out


def test_so_many_of_each_outcome_and_no_more(given):
    good = [Rollout(True, 1, f"a {k}\nAnswer: 16") for k in range(5)]
    bad = [Rollout(False, 1, f"b {k}\nAnswer: 5") for k in range(5)]
    found = made(given({1: [*good, *bad]}), per_outcome=3)
    assert Counter(one.final_answer for one in found) == {"16": 3, "5": 3}


@pytest.mark.parametrize(
    ("prefix_correct", "hard", "expected"),
    [(0.97, None, True), (0.9, True, False), (None, True, True), (None, None, False)],
)
def test_a_start_is_right_by_its_probability_or_else_by_its_hard_label(
    prefix_correct, hard, expected
):
    one = tiny_labelled(tiny_problem(), STEPS, None)
    label = StepLabel(0, 0, 0, None, prefix_correct, hard)
    one = LabelledSolution(one.solution, (label, *one.labels[1:]), {}, one.verdict, "t", "known")
    assert begins_right(one, 1, 0.95) is expected
    assert begins_right(one, 0, 0.95)


def test_the_second_generation_has_other_names_than_the_first(given):
    folder = given({1: [Rollout(True, 9, f"way {k}\nAnswer: 16") for k in range(2)]})
    first = made(folder)
    problem = tiny_problem()
    with StoreWriter(folder / "labels2", job="test", config={}, config_hash="0") as writer:
        writer.append("all", [tiny_labelled(problem, first[0].steps, None)])
    with RolloutStore(folder / "rollouts2", settings=SETTINGS) as store:
        rollout = Rollout(True, 9, "another way\nAnswer: 16")
        key = prefix_key(problem, first[0].steps[:2])
        store.put([(key, 0, rollout)], Spent("x", "rollouts", Ledger()))
    given_too = {"labels": folder / "labels2", "rollouts": folder / "rollouts2"}
    rollout_solutions.main(words(folder, **given_too, output=folder / "more2"))
    second = list(read_records(folder / "more2", Solution))
    assert len({one.id for one in (*first, *second)}) == 3


def test_rollouts_of_a_prefix_are_found_in_the_files_of_all_shards(given):
    folder = given({1: [Rollout(True, 9, "a\nAnswer: 16"), Rollout(False, 9, "b\nAnswer: 1")]})
    key = prefix_key(tiny_problem(), STEPS[:1])
    with RolloutStore(folder / "rollouts", Shard(0, 2), settings=SETTINGS) as store:
        more = [(key, 2, Rollout(True, 9, "c\nAnswer: 16"))]
        store.put(more, Spent("x", "rollouts", Ledger()))
    assert [one.steps[1] for one in made(folder)] == ["a", "b", "c"]


def test_a_program_goes_on_in_the_steps_of_programs_or_is_counted(tmp_path):
    steps = ["n = int(input())\nm = 2 * n", "for i in range(m):\n    print(i)"]
    goes_on = "for i in range(n):\n    print(2 * i)\n    print(2 * i + 1)"
    rollouts = [
        Rollout(True, 9, f"\n{goes_on}\n\nprint(m)\n"),
        Rollout(True, 9, "m += 0\nprint(m)"),  # It goes on with the step kept: no step begins.
        Rollout(True, 9, " \n"),
    ]
    problem = tiny_problem()
    write_problems(tmp_path / "problems", [problem])
    with StoreWriter(tmp_path / "labels", job="test", config={}, config_hash="0") as writer:
        writer.append("all", [tiny_labelled(problem, steps, 1)])
    with RolloutStore(
        tmp_path / "rollouts", settings=SETTINGS | {"answer_pattern": "whole"}
    ) as store:
        key = prefix_key(problem, steps[:1])
        named = [(key, ordinal, one) for ordinal, one in enumerate(rollouts)]
        store.put(named, Spent("x", "rollouts", Ledger()))
    [one] = made(tmp_path)
    assert one.steps == (steps[0], f"{goes_on}\n", "print(m)")
    assert one.final_answer == "\n".join([steps[0], goes_on, "", "print(m)"])
    assert counts(tmp_path / "more") == (3, 1, {"other_steps": 1, "no_steps": 1})


def test_a_folder_without_rollouts_is_an_error(given, tmp_path):
    folder = given({})
    with pytest.raises(StoreError, match="no rollouts here"):
        made(folder, rollouts=tmp_path / "nothing")


def test_what_the_label_job_kept_can_be_labelled_again(tmp_path):
    folder = stores(tmp_path, 8)
    run_job(folder, tmp_path / "labels")
    (tmp_path / "labels-rollouts").rename(tmp_path / "rollouts")
    found = made(tmp_path)
    parents = {row.id: row for row in rows(tmp_path / "labels")}
    assert len(found) > 8
    assert max(Counter((s.parent, s.final_answer) for s in found).values()) <= 2
    for one in found:
        begin = parents[one.parent].solution.steps
        kept = next(
            (i for i, (a, b) in enumerate(zip(one.steps, begin, strict=False)) if a != b), 0
        )
        assert all(label.hard for label in parents[one.parent].labels[:kept])
    (tmp_path / "solutions").rename(tmp_path / "old")
    (tmp_path / "more").rename(tmp_path / "solutions")
    run_job(tmp_path, tmp_path / "again")
    assert {row.id for row in rows(tmp_path / "again")} == {one.id for one in found}
