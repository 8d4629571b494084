import dataclasses
import json
import random
from collections import Counter
from pathlib import Path

import pytest

from data_gen.critiques import CritiquesConfig, Written, balance, main, write_critique
from prm import config as settings
from prm.critic import Dialect, parse
from prm.errors import ConfigError, RecordError, StoreError
from prm.records import Critique, Evidence, LabelledSolution, Problem, Verdict
from prm.store import StoreWriter, read_manifests, read_records
from tests.tiny import tiny_labelled, tiny_problem

DIALECT = Dialect()
PROBLEM = tiny_problem()
RIGHT = ["Step 1: 3 + 9 = 12", "Step 2: 12 + 4 = 16", "Answer: 16"]
WRONG_AT_0 = ["Step 1: 3 + 9 = 13", "Step 2: 13 + 4 = 17", "Answer: 17"]
WRONG_AT_1 = ["Step 1: 3 + 9 = 12", "Step 2: 12 + 4 = 17", "Answer: 17"]


def with_hard(row, hard):
    labels = [dataclasses.replace(r, hard=h) for r, h in zip(row.labels, hard, strict=True)]
    return dataclasses.replace(row, labels=tuple(labels))


def with_continuations(row, step, *texts):
    labels = list(row.labels)
    evidence = tuple(Evidence("rollouts", 1, 2, "tiny", 9, text) for text in texts)
    labels[step] = dataclasses.replace(labels[step], evidence=evidence)
    return dataclasses.replace(row, labels=tuple(labels))


def right(steps=RIGHT, sample=0):
    return tiny_labelled(PROBLEM, steps, None, sample)


def test_right_solution_is_restated():
    written = write_critique(right(), [], DIALECT)
    assert written.critique.text == (
        "1: 3 + 9 = 12, correct\n2: 12 + 4 = 16, correct\n3: Answer: 16, correct\nFirst error: none"
    )
    assert written.third is None
    assert written.critique.author == "labels"


def test_wrong_step_is_replaced_from_a_continuation_that_reached_the_answer():
    row = tiny_labelled(PROBLEM, WRONG_AT_1, 1)
    row = with_continuations(row, 0, "\nStep 2: 12 + 4 = 16\nAnswer: 16")
    written = write_critique(row, [row], DIALECT)
    assert written.critique.text == (
        "1: 3 + 9 = 12, correct\n2: 12 + 4 = 16, wrong\nFirst error: 2"
    )
    assert (written.critique.first_error, written.critique.verdicts) == (1, (True, False))
    assert written.third == 1


def test_first_step_is_replaced_from_another_right_solution():
    row = tiny_labelled(PROBLEM, WRONG_AT_0, 0, sample=1)
    written = write_critique(row, [right(), row], DIALECT)
    assert written.critique.text == "1: 3 + 9 = 12, wrong\nFirst error: 1"


def test_commonest_alternative_is_taken():
    row = tiny_labelled(PROBLEM, WRONG_AT_1, 1)
    row = with_continuations(
        row, 0, "Step 2: 4 + 12 = 16", *["Step 2: 12 + 4 = 16\nAnswer: 16"] * 2
    )
    assert "2: 12 + 4 = 16, wrong" in write_critique(row, [], DIALECT).critique.text


def test_sibling_counts_only_when_it_is_right_there_and_in_the_end():
    row = tiny_labelled(PROBLEM, WRONG_AT_0, 0, sample=9)
    lucky = tiny_labelled(PROBLEM, ["Step 1: 3 + 9 = 99", *RIGHT[1:]], 0, sample=1)
    wrong_in_the_end = tiny_labelled(PROBLEM, WRONG_AT_1, 1, sample=2)
    assert lucky.verdict.label is True
    assert write_critique(row, [lucky, wrong_in_the_end], DIALECT) == "no_right_alternative"
    other_prefix = right(["Step 1: 9 + 3 = 12", *RIGHT[1:]])
    row = tiny_labelled(PROBLEM, WRONG_AT_1, 1)
    assert write_critique(row, [other_prefix], DIALECT) == "no_right_alternative"
    assert write_critique(row, [right()], DIALECT).critique.first_error == 1
    assert write_critique(row, [right(RIGHT[:1])], DIALECT) == "no_right_alternative"


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        (with_hard(right(), [True, None, True]), "undecided_label"),
        (with_hard(tiny_labelled(PROBLEM, WRONG_AT_1, 1), [None, False, None]), "undecided_label"),
        (tiny_labelled(PROBLEM, WRONG_AT_1, None), "no_error_but_wrong_answer"),
        (dataclasses.replace(right(), verdict=Verdict("could_not_tell", "t")), "could_not_tell"),
        (tiny_labelled(PROBLEM, WRONG_AT_0, 0), "no_right_alternative"),
        (
            with_continuations(
                tiny_labelled(PROBLEM, WRONG_AT_1, 1), 0, RIGHT[1], WRONG_AT_1[1] + "\nAnswer: 16"
            ),
            "contradiction",
        ),
        (right(["Step 1: a\nb", "Answer: 16"]), "bad_work"),
        (right(["Step 1: that is wrong", "Answer: 16"]), "bad_work"),
        (right(["Step 1: ", "Answer: 16"]), "bad_work"),
        (right([]), "no_steps"),
    ],
)
def test_what_gives_no_critique_says_why(row, reason):
    assert write_critique(row, [row], DIALECT) == reason


def test_undecided_steps_after_the_first_error_do_not_matter():
    row = with_hard(tiny_labelled(PROBLEM, WRONG_AT_0, 0, 1), [False, None, None])
    assert write_critique(row, [right()], DIALECT).critique.first_error == 0


def test_number_of_labels_must_be_that_of_steps():
    row = dataclasses.replace(right(), labels=right().labels[:2])
    with pytest.raises(RecordError, match="2 labels for 3 steps"):
        write_critique(row, [], DIALECT)


def store(folder, rows):
    with StoreWriter(folder, job="test", config={}, config_hash="0") as writer:
        writer.append("all", rows)
    return str(folder)


@pytest.fixture
def material(tmp_path):
    """Per problem: right, its copy, wrong at step 0, wrong at step 1; one problem of the test."""
    problems, labelled = [], []
    for number in range(12):
        problem = tiny_problem(number)
        problems.append(problem)
        labelled += [
            tiny_labelled(problem, steps, first_error, sample)
            for sample, (steps, first_error) in enumerate(
                [(RIGHT, None), (RIGHT, None), (WRONG_AT_0, 0), (WRONG_AT_1, 1)]
            )
        ]
    problems[0] = dataclasses.replace(problems[0], split="test")
    return CritiquesConfig(
        hold_out_pairs=False,  # the tests' sums are any sums
        labelled=store(tmp_path / "labelled", labelled),
        problems=store(tmp_path / "problems", problems),
        output=str(tmp_path / "critiques"),
        batch_size=5,
    )


def test_job_counts_every_solution(material):
    # 11 problems: 11 right and 22 wrong critiques; half of all may be wrong: 11.
    summary = main(material)
    assert summary == (
        "in 48 = out 22 + skipped 26 (11 balanced_away, 11 duplicate, 4 other_split)"
    )
    rows = list(read_records(material.output, Critique))
    positions = Counter(row.first_error for row in rows)
    assert positions[None] == 11
    assert abs(positions[0] - positions[1]) == 1
    steps = {r.id: r.solution.steps for r in read_records(material.labelled, LabelledSolution)}
    for row in rows:
        parsed = parse(row.text, len(steps[row.id]), "stop", Dialect.load(material.output))
        assert (parsed.status, parsed.first_error) == ("ok", row.first_error)
    assert read_manifests(material.output)[0]["notes"]["first_error_by_third"]["none"] == 11


def data_file(config):
    return next(Path(config.output).glob("*.jsonl"))


def test_job_is_deterministic_and_resumes(material, tmp_path):
    main(material)
    whole = data_file(material).read_bytes()
    other = dataclasses.replace(material, output=str(tmp_path / "other"))
    main(other)
    # As if killed in the third batch: its journal line is missing, half of its bytes are there.
    path = data_file(other)
    journal = path.with_suffix(".journal")
    lines = journal.read_text().splitlines(keepends=True)
    journal.write_text("".join(lines[:3]))
    path.write_bytes(whole[: json.loads(lines[3])["bytes"] - 40])
    manifest = path.with_suffix(".json")
    manifest.write_text(manifest.read_text().replace('"done"', '"running"'))
    assert main(other) == main(material)
    assert path.read_bytes() == whole


def test_other_settings_do_not_mix(material):
    main(material)
    with pytest.raises(StoreError, match="seed was 0, now 1"):
        main(dataclasses.replace(material, seed=1))


def test_unknown_problem_is_an_error(material, tmp_path):
    problems = store(tmp_path / "few", list(read_records(material.problems, Problem))[:3])
    with pytest.raises(RecordError, match="its problem is not"):
        main(dataclasses.replace(material, problems=problems))


def written(third, number):
    critique = Critique(f"p/{number}#0", f"p/{number}", "", "ok", (), None, "labels")
    return Written(critique, third)


def pool(none, first, second, third):
    thirds = [None] * none + [0] * first + [1] * second + [2] * third
    random.Random(0).shuffle(thirds)
    return [written(t, i) for i, t in enumerate(thirds)]


@pytest.mark.parametrize(
    ("counts", "share", "position_share", "expected"),
    [
        # right, first third, second, third -> kept
        ((100, 90, 40, 20), 0.5, 1.0, (100, 40, 40, 20)),
        ((10, 90, 40, 20), 0.5, 0.5, (10, 4, 3, 3)),
        ((100, 90, 10, 0), 0.5, 0.5, (20, 10, 10, 0)),
        ((100, 30, 0, 0), 0.5, 0.5, (30, 30, 0, 0)),
        ((100, 30, 30, 30), 0.25, 1.0, (30, 30, 30, 30)),
        ((0, 30, 30, 30), 0.5, 0.5, (0, 0, 0, 0)),
        ((30, 0, 0, 0), 0.5, 0.5, (0, 0, 0, 0)),
    ],
)
def test_balance_keeps_the_most_that_the_shares_allow(counts, share, position_share, expected):
    rows = pool(*counts)
    kept = balance(rows, share, position_share, seed=0)
    found = Counter(row.third for row in kept)
    assert (found[None], found[0], found[1], found[2]) == expected
    assert kept == [row for row in rows if row in kept]
    assert kept == balance(rows, share, position_share, seed=0)


def test_balance_depends_on_the_seed():
    rows = pool(100, 100, 100, 100)
    assert balance(rows[:200], 0.5, 0.5, 0) != balance(rows[:200], 0.5, 0.5, 1)


@pytest.mark.parametrize("change", [{"right_share": 0.0}, {"max_position_share": 0.0}])
def test_shares_that_no_data_has_are_refused(change):
    with pytest.raises(ConfigError, match=next(iter(change))):
        CritiquesConfig(labelled="a", problems="b", **change)


@pytest.mark.parametrize("name", ["quickstart", "qwq"])
def test_settings_files_load(name):
    assert settings.load(CritiquesConfig, f"configs/{name}/critiques.yaml").split == "train"
