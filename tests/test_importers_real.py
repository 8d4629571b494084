"""Importers and export over real rows: raw samples, and whole labelled sets (--data)."""

import json
from collections import Counter

import datasets
import pytest

from data_gen import export, importers
from data_gen.importing import FORMATS, Imported, Options
from data_gen.importing.sources import files_of, read_rows
from data_gen.public_sets import statement_hash
from prm.records import LabelledSolution, Problem
from prm.store import read_manifests, read_records

pytestmark = pytest.mark.real

# Solutions, and what is left out: as these files were when the importers were written.
SAMPLES = {
    "prm800k": ("prm800k", 26, Counter(give_up=1, initial_screening=1, repeated=2)),
    "math-shepherd": ("math_shepherd", 7, Counter()),
    "math-aps": ("math_aps", 124, Counter()),
}


def run(output, name, path):
    importers.main(
        ["--format", name, "--sources", json.dumps([str(path)]), "--output", str(output)]
    )
    [manifest] = read_manifests(output / "labels")
    skipped = Counter(manifest["skipped"])
    assert manifest["in"] == manifest["out"] + skipped.total()
    labels = list(read_records(output / "labels", LabelledSolution))
    assert len(labels) == manifest["out"]
    return labels, skipped


def hard(one):
    return [label.hard for label in one.labels]


@pytest.mark.parametrize("sample", SAMPLES)
def test_every_raw_row_is_read_or_counted(data_dir, tmp_path, sample):
    name, num_out, expected = SAMPLES[sample]
    path = data_dir / "format_samples" / f"samples_{sample}.jsonl"
    labels, skipped = run(tmp_path / "out", name, path)
    assert (len(labels), skipped) == (num_out, expected)
    for one in labels:
        assert len(one.labels) == len(one.solution.steps)
        assert hard(one).count(False) <= 1


def test_a_real_tree_has_a_path_for_each_prefix_that_no_other_goes_on_from(data_dir):
    path = data_dir / "format_samples/samples_math-aps.jsonl"
    for where, row in read_rows([str(path)], ""):
        prefixes = {node["solution_prefix"].rstrip() for node in row["reasoning_steps"]}
        leaves = {p for p in prefixes if not any(q != p and q.startswith(p) for q in prefixes)}
        found = list(FORMATS["math_aps"].read_row(row, Options(), where))
        assert len(found) == len(leaves)
        blanks = str.maketrans("", "", " \n\t\xa0")
        texts = {"".join((one.statement, *one.steps)).translate(blanks) for one in found}
        assert texts == {leaf.translate(blanks) for leaf in leaves}


def test_the_trace_of_a_real_row_of_prm800k_joins_the_written_step(data_dir):
    path = data_dir / "format_samples/samples_prm800k.jsonl"
    [(where, row), *_] = read_rows([str(path)], "")
    *others, trace = (
        one
        for one in FORMATS["prm800k"].read_row(row, Options(), where)
        if isinstance(one, Imported)
    )
    assert trace.steps[1] == "We have $3p+e=1.24$ and $5p+e=1.82$."
    assert trace.hard_labels() == [True] * 6
    assert (trace.final_answer, len(others)) == ("29", 9)


def test_the_sets_keep_every_first_error_that_their_rows_state(data_dir, tmp_path):
    folder = data_dir / "step_labels"
    stated = {
        (row["source"].partition("/")[0], row["id"]): row["first_error"]
        for _, row in read_rows([str(folder)], "")
    }
    labels, skipped = run(tmp_path / "out", "step_labels", folder)
    assert set(skipped) <= {"merged", "blank_step"}
    assert len(stated) == len(labels) + skipped.total()
    problems = {one.id: one for one in read_records(tmp_path / "out/problems", Problem)}
    assert {one.solution.problem_id for one in labels} == problems.keys()
    for one in labels:
        votes = sum((Counter(opinion.votes) for opinion in one.opinions), Counter())
        first = stated[one.labeler, one.solution.sampling["id"]]
        assert votes["none" if first == -1 else str(first)] >= 1
        if len(votes) == 1:
            expected = [True] * (len(one.labels) if first == -1 else first)
            expected += [] if first == -1 else [False]
            assert hard(one) == expected + [None] * (len(one.labels) - len(expected))
        else:
            assert one.stop_reason == "disagreement"
            assert False not in hard(one)


def test_an_export_of_every_set_loads_and_imports_with_the_same_hard_labels(data_dir, tmp_path):
    folder = data_dir / "step_labels"
    labels, _ = run(tmp_path / "out", "step_labels", folder)
    export.main(
        [
            *(
                "--labels",
                str(tmp_path / "out/labels"),
                "--problems",
                str(tmp_path / "out/problems"),
            ),
            *("--output", str(tmp_path / "trl")),
        ]
    )
    rows = datasets.load_dataset(str(tmp_path / "trl"), cache_dir=str(tmp_path / "cache"))["test"]
    known = [[label for label in hard(one) if label is not None] for one in labels]
    assert [list(row["labels"]) for row in rows] == [one for one in known if one]
    importers.main(
        [
            *(
                "--format",
                "trl_stepwise",
                "--sources",
                json.dumps([str(tmp_path / "trl/test.jsonl")]),
            ),
            *("--reading.made_by", "human", "--output", str(tmp_path / "back")),
        ]
    )
    back = read_records(tmp_path / "back/labels", LabelledSolution)
    statements = {
        one.id: statement_hash(one.statement)
        for one in read_records(tmp_path / "back/problems", Problem)
    }
    found = {(statements[one.solution.problem_id], one.solution.steps): one for one in back}
    for row in rows:
        one = found[statement_hash(row["prompt"]), tuple(row["completions"])]
        # Two sets may have the same solution, and judge it differently.
        assert hard(one) == row["labels"] or one.stop_reason == "disagreement"


def test_files_of_a_folder_are_all_labelled_sets(data_dir):
    names = {path.parent.name for path in files_of(str(data_dir / "step_labels"))}
    assert {"processbench", "prmbench", "mr_gsm8k", "stepverify"} <= names
