"""The job importers: files of every kind, conservation, merging, resume, splits and exclusion."""

import gzip
import json
import subprocess
import sys
from collections import Counter
from pathlib import Path

import datasets
import pytest

from data_gen import importers
from data_gen.importers import ImportersConfig
from data_gen.importing import sources
from data_gen.public_sets import split_of, statement_hash
from prm.config import load
from prm.errors import ConfigError, RecordError, StoreError
from prm.records import LabelledSolution, Problem
from prm.store import StoreWriter, read_manifests, read_records
from tests.test_importers import BENCH, LAST, ROWS, prm800k, step

CHECKOUT = Path(__file__).parents[1]


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")


def write(path, rows):
    text = "".join(json.dumps(row) + "\n" for row in rows)
    with (gzip.open if path.suffix == ".gz" else open)(path, "wt", encoding="utf-8") as file:
        file.write(text)
    return path


def run(output, kind, *paths, **options):
    words = ["--format", kind, "--sources", json.dumps([str(path) for path in paths])]
    for key, value in options.items():
        words += [f"--{key}", value if isinstance(value, str) else json.dumps(value)]
    importers.main([*words, "--output", str(output)])
    return (
        list(read_records(output / "labels", LabelledSolution)),
        list(read_records(output / "problems", Problem)),
    )


def counts(output, store="labels"):
    """in, out, skipped, after checking that they add up."""
    [manifest] = read_manifests(output / store)
    skipped = Counter(manifest["skipped"])
    assert manifest["in"] == manifest["out"] + skipped.total()
    return manifest["in"], manifest["out"], skipped


def bench(*numbers, **more):
    return [BENCH | {"id": f"gsm8k-{n}", "problem": f"How many {n}?"} | more for n in numbers]


def test_a_file_of_every_kind_gives_the_same_records(tmp_path):
    rows = bench(0, 1, 2)
    write(tmp_path / "a.jsonl", rows)
    write(tmp_path / "a.jsonl.gz", rows)
    (tmp_path / "a.json").write_text(json.dumps(rows))
    datasets.Dataset.from_list(rows).to_parquet(tmp_path / "a.parquet")
    made = []
    for kind in ("jsonl", "jsonl.gz", "json", "parquet"):
        labels, problems = run(tmp_path / kind, "processbench", tmp_path / f"a.{kind}")
        assert [one.solution.sampling["row"] for one in labels] == [
            f"a.{kind}:{n}" for n in (1, 2, 3)
        ]
        made.append(([(one.id, one.labels, one.opinions) for one in labels], problems))
    assert made == [made[0]] * 4
    assert counts(tmp_path / "jsonl") == (3, 3, Counter())


def test_a_folder_is_all_its_files_in_order(tmp_path):
    (tmp_path / "set" / "b").mkdir(parents=True)
    write(tmp_path / "set" / "a.jsonl", bench(0))
    write(tmp_path / "set" / "b" / "b.jsonl", bench(1))
    (tmp_path / "set" / "README.md").write_text("not rows")
    labels, _ = run(tmp_path / "out", "processbench", tmp_path / "set")
    assert [one.solution.sampling["row"] for one in labels] == ["a.jsonl:1", "b.jsonl:1"]


def test_ids_depend_on_source_statement_and_order_of_the_solutions(tmp_path):
    rows = [*bench(0, 1), *bench(0, steps=["other"], label=0)]
    labels, problems = run(tmp_path / "out", "processbench", write(tmp_path / "a.jsonl", rows))
    first, second = (f"processbench/{statement_hash(f'How many {n}?')}" for n in (0, 1))
    assert [one.id for one in labels] == [f"{first}#0", f"{second}#0", f"{first}#1"]
    assert [one.id for one in problems] == [first, second]
    assert counts(tmp_path / "out", "problems") == (3, 2, Counter(same_problem=1))
    labels, _ = run(
        tmp_path / "named", "processbench", tmp_path / "a.jsonl", name="mine", rows_per_batch=1
    )
    assert labels[0].id == f"mine/{first.rpartition('/')[2]}#0"


def test_statements_that_differ_in_blanks_are_one_problem_and_their_labels_one_record(tmp_path):
    rows = [*bench(0), *bench(0, id="x", problem="How\u00a0many  0?"), *bench(0, id="y", label=2)]
    [one], [problem] = run(tmp_path / "out", "processbench", write(tmp_path / "a.jsonl", rows))
    assert (len(one.opinions), one.first_error) == (3, {"1": 2 / 3, "2": 1 / 3})
    assert problem.statement == "How many 0?"


def test_measuring_sets_are_test_problems_and_others_are_split_by_their_id(tmp_path):
    path = write(tmp_path / "a.jsonl", bench(*range(60)))
    _, problems = run(tmp_path / "out", "processbench", path)
    assert {one.split for one in problems} == {"test"}
    _, problems = run(tmp_path / "hash", "processbench", path, split="by_hash", selection_share=0.3)
    assert {one.split for one in problems} == {"train", "selection"}
    assert all(one.split == split_of(one.id, 0.3) for one in problems)
    rows = [prm800k(LAST, question={"problem": f"{n}?"}) for n in range(60)]
    _, problems = run(tmp_path / "prm", "prm800k", write(tmp_path / "p.jsonl", rows))
    assert {one.split for one in problems} == {"train", "selection"}


def test_test_problems_of_other_stores_stay_out_whatever_their_blanks(tmp_path):
    test = Problem("x/1", "How  many\n1?", "1", "math", "x", "test")
    train = Problem("x/2", "How many 2?", "1", "math", "x", "train")
    with StoreWriter(tmp_path / "x", job="problems", config={}, config_hash="0") as writer:
        writer.append("all", [test, train])
    path = write(tmp_path / "a.jsonl", bench(1, 2))
    labels, problems = run(
        tmp_path / "out", "processbench", path, split="train", exclude=[str(tmp_path / "x")]
    )
    assert [one.statement for one in problems] == ["How many 2?"]
    assert len(labels) == 1
    assert counts(tmp_path / "out") == (2, 1, Counter(excluded_problem=1))


def test_annotators_of_one_solution_are_one_record_however_far_apart_their_rows_lie(tmp_path):
    ann, ben = (
        prm800k(step(("a", 1)), step(("b", rating)), LAST, labeler=who)
        for who, rating in (("ann", 1), ("ben", -1))
    )
    rest = [prm800k(LAST, question={"problem": f"{n}?"}) for n in range(5)]
    path = write(tmp_path / "a.jsonl", [ann, *rest, ben, ann])
    labels, _ = run(tmp_path / "out", "prm800k", path, rows_per_batch=2)
    [both] = [one for one in labels if len(one.opinions) > 1]
    assert [opinion.author for opinion in both.opinions] == ["ann", "ben"]
    assert [label.hard for label in both.labels] == [True, None, None]
    assert both.first_error == {"none": 0.5, "1": 0.5}
    # Both solve it, and both row and verdict of ann stand there twice.
    assert counts(tmp_path / "out") == (8, 6, Counter(merged=1, repeated=1))
    [manifest] = read_manifests(tmp_path / "out" / "labels")
    assert manifest["notes"] == {
        "rows read": 8,
        "solutions on which annotators disagree": 1,
    }


def test_rows_with_ids_are_opinions_of_their_own_also_where_nobody_signs(tmp_path):
    rows = [BENCH, BENCH | {"id": "gsm8k-1"}, BENCH]
    [one], _ = run(tmp_path / "out", "processbench", write(tmp_path / "a.jsonl", rows))
    assert len(one.opinions) == 2
    assert counts(tmp_path / "out") == (3, 1, Counter(merged=1, repeated=1))


BAD = ["{", "[1]", json.dumps(BENCH | {"label": 3}), json.dumps(BENCH | {"steps": [1]})]
BAD += [json.dumps(BENCH | {"steps": ["half a letter: \ud83d"], "label": 0})]


@pytest.mark.parametrize("line", BAD)
def test_a_bad_row_ends_the_job_with_its_file_line_and_a_remedy(tmp_path, line):
    path = tmp_path / "a.jsonl"
    path.write_text(json.dumps(bench(0)[0]) + "\n\n" + line + "\n")
    with pytest.raises(RecordError, match=r"a\.jsonl:2: .*--on_bad_row skip"):
        run(tmp_path / "out", "processbench", path)
    # Nothing was begun: the same folder takes the other setting.
    run(tmp_path / "out", "processbench", path, on_bad_row="skip")


def test_bad_rows_may_be_skipped_and_are_counted(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text("\n".join([json.dumps(bench(0)[0]), *BAD]) + "\n")
    labels, _ = run(tmp_path / "out", "processbench", path, on_bad_row="skip")
    assert len(labels) == 1
    assert counts(tmp_path / "out") == (6, 1, Counter(bad_row=5))


def test_a_git_lfs_pointer_is_no_data_and_the_error_says_so(tmp_path):
    path = tmp_path / "phase1_train.jsonl"
    path.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n")
    with pytest.raises(RecordError, match="Git LFS"):
        run(tmp_path / "out", "prm800k", path)


def test_solutions_without_steps_or_with_blank_ones_are_left_out_by_reason(tmp_path):
    rows = [
        *bench(0, steps=[], label=-1),
        *bench(1, steps=["a", " "]),
        *bench(2, problem=" "),
        *bench(3),
    ]
    run(tmp_path / "out", "processbench", write(tmp_path / "a.jsonl", rows))
    skipped = Counter(no_steps=1, blank_step=1, no_statement=1)
    assert counts(tmp_path / "out") == (4, 1, skipped)


@pytest.mark.parametrize("name", ROWS)
def test_what_comes_in_goes_out_or_is_counted_in_every_format(tmp_path, name):
    path = write(tmp_path / "a.jsonl", [ROWS[name]] * 3)
    labels, problems = run(tmp_path / "out", name, path, **{"reading.made_by": "human"})
    num_in, num_out, skipped = counts(tmp_path / "out")
    assert (num_out, num_in) == (len(labels), 3 * len(labels) + skipped.total() - 2 * len(labels))
    assert skipped == Counter(repeated=2 * len(labels))
    assert {one.solution.problem_id for one in labels} == {one.id for one in problems}


def test_a_stopped_import_goes_on_and_gives_the_same_bytes(tmp_path, monkeypatch):
    path = write(tmp_path / "a.jsonl", [*bench(*range(9)), *bench(0, id="again")])
    run(tmp_path / "whole", "processbench", path, rows_per_batch=2)
    append, calls = StoreWriter.append, []

    def stop_at_the_fifth(self, *args, **kwargs):
        calls.append(args[0])
        if len(calls) == 6:
            raise KeyboardInterrupt
        append(self, *args, **kwargs)

    monkeypatch.setattr(StoreWriter, "append", stop_at_the_fifth)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "cut", "processbench", path, rows_per_batch=2)
    monkeypatch.setattr(StoreWriter, "append", append)
    run(tmp_path / "cut", "processbench", path, rows_per_batch=2)
    for store in ("problems", "labels"):
        [whole], [cut] = ((tmp_path / n / store).glob("*.jsonl") for n in ("whole", "cut"))
        assert whole.read_bytes() == cut.read_bytes()
        assert counts(tmp_path / "whole", store) == counts(tmp_path / "cut", store)
    [one], [other] = (read_manifests(tmp_path / n / "labels") for n in ("whole", "cut"))
    assert one["notes"] == other["notes"]


def test_an_import_into_the_folder_of_another_is_refused(tmp_path):
    run(tmp_path / "out", "processbench", write(tmp_path / "a.jsonl", bench(0)))
    with pytest.raises(StoreError, match="inputs"):
        run(tmp_path / "out", "processbench", write(tmp_path / "a.jsonl", bench(1)))
    write(tmp_path / "a.jsonl", bench(0))
    with pytest.raises(StoreError, match="neutral"):
        run(tmp_path / "out", "processbench", tmp_path / "a.jsonl", **{"reading.neutral": "bad"})


def test_settings_that_cannot_work_are_refused_before_anything_is_read(tmp_path, capsys):
    for words, message in (
        (["--format", "csv"], "format should be one of"),
        (["--format", "prm800k"], "name at least one file"),
        (["--format", "trl_stepwise", "--sources", "[a.jsonl]"], "reading.made_by"),
        (["--format", "prm800k", "--sources", "[a]", "--selection_share", "2"], "from 0 to 1"),
    ):
        with pytest.raises(SystemExit):
            importers.main([*words, "--output", str(tmp_path / "out")])
        assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_what_is_not_there_is_an_error_with_a_remedy(tmp_path):
    with pytest.raises(ConfigError, match="no folder with any"):
        run(tmp_path / "out", "processbench", tmp_path / "none.jsonl")
    with pytest.raises(ConfigError, match="HF_HUB_OFFLINE"):
        run(tmp_path / "out", "processbench", "Qwen/ProcessBench:gsm8k")
    (tmp_path / "a.json").write_text('{"id": 1}')
    with pytest.raises(ConfigError, match="one list of rows"):
        run(tmp_path / "out", "mr_gsm8k", tmp_path / "a.json")
    (tmp_path / "a.jsonl.gz").write_text("not gzip")
    with pytest.raises(ConfigError, match="cannot be read"):
        run(tmp_path / "out", "processbench", tmp_path / "a.jsonl.gz")


def test_a_set_on_the_hub_is_named_by_its_id_and_split(tmp_path, monkeypatch):
    asked = []

    def load_dataset(name, config, *, split):
        asked.append((name, config, split))
        return datasets.Dataset.from_list(bench(0))

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    rows = list(sources.read_rows(["Qwen/ProcessBench:gsm8k", "org/set"], ""))
    assert asked == [("Qwen/ProcessBench", None, "gsm8k"), ("org/set", None, "train")]
    assert [where for where, _ in rows] == ["Qwen/ProcessBench:gsm8k:1", "org/set:1"]


def test_the_committed_settings_load():
    config = load(ImportersConfig, CHECKOUT / "configs/qwq/importers.yaml")
    assert (config.format, len(config.sources), config.reading.neutral) == ("prm800k", 2, "good")


def test_the_command_runs_and_says_what_became_of_the_rows(tmp_path):
    path = write(tmp_path / "a.jsonl", bench(0))
    done = subprocess.run(
        [
            *(sys.executable, "-m", "data_gen.importers", "--format", "processbench"),
            *("--sources", json.dumps([str(path)]), "--output", str(tmp_path / "out")),
        ],
        cwd=CHECKOUT,
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    assert "importers: labels: in 1 = out 1 + skipped 0" in done.stdout
