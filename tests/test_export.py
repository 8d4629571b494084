"""Export: TRL's stepwise rows, and everything as Parquet or JSON lines, by way of `datasets`."""

import json
from collections import Counter

import datasets
import pytest

from data_gen import export, importers
from data_gen.export_rows import trl_row
from prm.errors import ConfigError, RecordError
from prm.records import (
    Evidence,
    LabelledSolution,
    Opinion,
    Problem,
    Solution,
    StepLabel,
    Verdict,
)
from prm.store import StoreWriter, read_records

PROBLEMS = [
    Problem("p/1", "How many?", "7", "math", "p", "train"),
    Problem("p/2", "How much?", "8", "math", "p", "selection"),
    Problem("p/3", "Who?", "9", "math", "p", "test"),
]


def labelled(problem, number, hard):
    """A solution with these labels; every other step has two pieces of evidence."""
    steps = tuple(f"step {t} of {number} é" for t in range(len(hard)))
    evidence = (
        Evidence("rollouts", 1, 4, "small", 30, "so 7"),
        Evidence("human", 1, 1, "set", 0, None, "ann", "2024-01-01", -1.0, "neutral"),
    )
    return LabelledSolution(
        solution=Solution(
            f"{problem}#{number}", problem, steps, None, "stop", "few", "big", parent="q#0"
        ),
        labels=tuple(
            StepLabel(t, 1, 4, 0.25, None, one, evidence if t % 2 else (), 30)
            for t, one in enumerate(hard)
        ),
        first_error={"0": 0.25, "none": 0.75},
        verdict=Verdict("wrong", "math"),
        labeler="bayes",
        stop_reason="budget",
        tokens=60,
        completer="small",
        root_successes=2,
        root_trials=8,
        opinions=(Opinion("judge", {"0": 3, "none": 1}, "judge-7b", 100),),
        tokens_by_kind={"rollouts": 60},
        propensity=0.5,
        chosen_by="entropy",
        decoder="abc",
    )


ROWS = [
    labelled("p/1", 0, [True, True, False, None]),
    labelled("p/1", 1, [True, None, True]),
    labelled("p/1", 2, [None, None]),
    labelled("p/2", 0, [True, True]),
    labelled("p/3", 0, [False]),
    labelled("p/3", 1, []),
]


@pytest.fixture
def stores(tmp_path):
    for name, records in (("problems", PROBLEMS), ("labels", ROWS)):
        with StoreWriter(tmp_path / name, job=name, config={}, config_hash="0") as writer:
            writer.append("all", records)
    return tmp_path


def run(stores, output, *more):
    export.main(
        [
            *("--labels", str(stores / "labels"), "--problems", str(stores / "problems")),
            *("--output", str(stores / output), *more),
        ]
    )
    return json.loads((stores / output / "export.json").read_text())


def load(stores, output):
    return datasets.load_dataset(str(stores / output), cache_dir=str(stores / "cache" / output))


def test_a_solution_is_cut_behind_its_first_error_and_before_what_is_not_known():
    cut = [trl_row(one, PROBLEMS[0]) for one in ROWS]
    assert [row["labels"] for row, _ in cut] == [
        [True, True, False],
        [True],
        [],
        [True, True],
        [False],
        [],
    ]
    assert all(len(row["completions"]) == len(row["labels"]) for row, _ in cut)
    assert [dict(left_out) for _, left_out in cut] == [
        {"behind_first_error": 1},
        {"undecided_or_behind_it": 2},
        {"undecided_or_behind_it": 2},
        *({}, {}, {}),
    ]


def test_the_folder_loads_as_trls_stepwise_supervision_in_three_splits(stores):
    counts = run(stores, "trl")
    assert (counts["in"], counts["out"]) == (6, {"train": 2, "validation": 1, "test": 1})
    assert counts["skipped"] == {"no_hard_label": 2}
    assert counts["steps"] == {"written": 7, "behind_first_error": 1, "undecided_or_behind_it": 2}
    loaded = load(stores, "trl")
    assert {name: len(part) for name, part in loaded.items()} == counts["out"]
    assert loaded["train"].column_names == ["prompt", "completions", "labels"]
    assert loaded["train"].features["labels"] == datasets.List(datasets.Value("bool"))
    assert loaded["train"][0] == {
        "prompt": "How many?",
        "completions": [f"step {t} of 0 é" for t in range(3)],
        "labels": [True, True, False],
    }


def test_an_export_that_is_imported_again_has_the_same_hard_labels(stores):
    run(stores, "trl", "--splits", "[train]")
    importers.main(
        [
            *(
                "--format",
                "trl_stepwise",
                "--sources",
                json.dumps([str(stores / "trl/train.jsonl")]),
            ),
            *("--reading.made_by", "rollouts", "--output", str(stores / "back")),
        ]
    )
    back = list(read_records(stores / "back/labels", LabelledSolution))
    assert [[label.hard for label in one.labels] for one in back] == [[True, True, False], [True]]
    assert [one.solution.steps for one in back] == [
        ROWS[0].solution.steps[:3],
        ROWS[1].solution.steps[:1],
    ]


def test_everything_is_there_in_nested_columns(stores):
    counts = run(stores, "all", "--format", "parquet")
    assert counts["out"] == {"train": 3, "validation": 1, "test": 2}
    assert (counts["skipped"], counts["steps"]) == ({}, {})
    loaded = load(stores, "all")
    [row, *_] = loaded["train"]
    assert (row["solution_id"], row["problem"], row["steps"]) == (
        "p/1#0",
        "How many?",
        list(ROWS[0].solution.steps),
    )
    assert row["parent"] == "q#0"
    assert (row["propensity"], row["chosen_by"], row["decoder"]) == (0.5, "entropy", "abc")
    assert (row["root_successes"], row["root_trials"], row["completer"]) == (2, 8, "small")
    assert row["first_error"] == [
        {"place": "0", "probability": 0.25},
        {"place": "none", "probability": 0.75},
    ]
    assert row["tokens_by_kind"] == [{"kind": "rollouts", "tokens": 60}]
    [opinion] = row["opinions"]
    assert opinion["votes"] == [{"place": "0", "votes": 3}, {"place": "none", "votes": 1}]
    assert [label["hard"] for label in row["labels"]] == [True, True, False, None]
    assert row["labels"][0]["evidence"] == []
    rollouts, human = row["labels"][1]["evidence"]
    assert (rollouts["right_continuation"], rollouts["value"]) == ("so 7", None)
    assert (human["annotator"], human["value"], human["note"]) == ("ann", -1.0, "neutral")
    assert loaded["test"][1]["labels"] == []


def test_parquet_and_json_lines_hold_the_same_rows_and_texts_stay_texts(stores):
    for kind in ("parquet", "jsonl"):
        run(stores, kind, "--format", kind)
    loaded = load(stores, "parquet")
    for split, part in loaded.items():
        text = (stores / "jsonl" / f"{split}.jsonl").read_text(encoding="utf-8")
        assert part.to_list() == [json.loads(line) for line in text.splitlines()]
    human = loaded["train"][0]["labels"][1]["evidence"][1]
    assert human["time"] == "2024-01-01"


def test_other_splits_are_counted_and_an_earlier_export_is_replaced(stores):
    run(stores, "out", "--format", "parquet")
    counts = run(stores, "out", "--splits", "[selection]")
    assert counts["skipped"] == {"other_split": 5}
    names = sorted(path.name for path in (stores / "out").iterdir())
    assert names == ["export.json", "validation.jsonl"]


def test_files_that_no_export_has_made_are_not_replaced(stores):
    (stores / "out").mkdir()
    (stores / "out" / "test.parquet").write_text("mine")
    with pytest.raises(ConfigError, match=r"test\.parquet.*no earlier export"):
        run(stores, "out")
    assert [path.name for path in (stores / "out").iterdir()] == ["test.parquet"]
    assert (stores / "out" / "test.parquet").read_text() == "mine"


def test_a_solution_whose_problem_is_not_there_is_an_error(stores):
    with StoreWriter(stores / "few", job="problems", config={}, config_hash="0") as writer:
        writer.append("all", PROBLEMS[:1])
    with pytest.raises(RecordError, match=r"'p/2#0' is of problem 'p/2'.*few"):
        run(stores, "out", "--problems", str(stores / "few"))
    assert list((stores / "out").iterdir()) == []


def test_what_comes_in_goes_out_or_is_counted(stores):
    for kind in ("trl", "jsonl"):
        for splits in ('["train"]', '["train", "test"]'):
            counts = run(stores, "out", "--format", kind, "--splits", splits)
            total = Counter(counts["out"]).total() + Counter(counts["skipped"]).total()
            assert counts["in"] == total == len(ROWS)
