"""Public problem sets from files in the hub's row formats, and the job problems over them."""

import gzip
import json
from collections import Counter
from pathlib import Path

import datasets
import pytest

from data_gen import problems
from data_gen.problems import ProblemsConfig, merge
from data_gen.public_sets import SETS, part_names, read_part, split_of, statement_hash
from prm.config import load
from prm.errors import ConfigError, RecordError
from prm.records import Problem
from prm.store import content_hash, read_manifests, read_records
from prm.verifiers import extract_boxed, get_verifier
from prm.verifiers.math import check_math_many

CHECKOUT = Path(__file__).parents[1]
PARTS = {part.name: part for parts in SETS.values() for part in parts}
GSM8K = [
    {"question": "How many eggs?", "answer": "16 - 3 - 4 = <<16-3-4=9>>9.\n#### 9"},
    {"question": "How many  \nmiles?", "answer": "#### 1,080"},
    {"question": "No end?", "answer": "9 it is"},
    {"question": "No answer?", "answer": "9 it is\n#### "},
    {"question": " ", "answer": "#### 9"},
    {"question": "Null?", "answer": None},
]
MATH = [
    {
        "problem": "What is $\\frac{1}{2}$ of $1$?",
        "level": "Level 1",
        "type": "Prealgebra",
        "solution": "First \\boxed{1}, then $\\boxed{\\frac{1}{2}}$.",
    },
    {"problem": "Prove it.", "level": "Level 5", "type": "Algebra", "solution": "Obvious."},
    {"problem": "Cut off?", "level": "Level 5", "type": "Algebra", "solution": "\\boxed{1"},
]
MATH_500 = [
    {
        "problem": "Compute $1 - 1$.",
        "solution": "It is \\boxed{0}.",
        "answer": "0",
        "subject": "Algebra",
        "level": 2,
        "unique_id": "test/algebra/1.json",
    }
]


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")


def write(path, rows):
    text = "".join(json.dumps(row) + "\n" for row in rows)
    path.parent.mkdir(parents=True, exist_ok=True)
    with (gzip.open if path.suffix == ".gz" else open)(path, "wt", encoding="utf-8") as file:
        file.write(text)
    return str(path)


def read(name, location, share=0.0):
    return list(read_part(PARTS[name], str(location), share))


def test_the_answer_of_gsm8k_is_what_follows_the_hashes(tmp_path):
    found = read("gsm8k/train", write(tmp_path / "rows.jsonl", GSM8K))
    assert [one if isinstance(one, str) else one.reference_answer for one in found] == [
        *("9", "1,080"),
        *("no_answer", "no_answer", "no_statement", "no_answer"),
    ]
    first = found[0]
    assert (first.source, first.split, first.verifier) == ("gsm8k", "train", "math")
    assert first.statement == "How many eggs?"
    assert get_verifier(first.verifier)("$9", first.reference_answer).label is True


def test_the_answer_of_math_is_the_last_box_of_the_solution(tmp_path):
    [found, *skipped] = read("math/train", write(tmp_path / "rows.jsonl.gz", MATH))
    assert found.reference_answer == "\\frac{1}{2}"
    assert found.meta == {"level": "Level 1", "type": "Prealgebra"}
    assert skipped == ["no_answer", "no_answer"]


def test_math_500_states_its_answers_and_stays_the_test_set(tmp_path):
    [found] = read("math/test", write(tmp_path / "rows.jsonl", MATH_500), share=1.0)
    assert (found.reference_answer, found.split, found.source) == ("0", "test", "math")
    assert found.meta == {"level": 2, "subject": "Algebra", "unique_id": "test/algebra/1.json"}


def test_a_parquet_file_is_read_like_lines(tmp_path):
    path = tmp_path / "rows.parquet"
    datasets.Dataset.from_list(MATH_500).to_parquet(path)
    lines = write(tmp_path / "rows.jsonl", MATH_500)
    assert read("math/test", path) == read("math/test", lines)


def test_a_folder_like_the_hubs_is_read_by_configuration_and_split(tmp_path):
    write(tmp_path / "hub" / "main" / "train.jsonl", GSM8K[:2])
    write(tmp_path / "hub" / "main" / "test.jsonl", GSM8K[:1])
    card = "---\nconfigs:\n- config_name: main\n  data_files:\n" + "".join(
        f"  - {{split: {split}, path: main/{split}.jsonl}}\n" for split in ("train", "test")
    )
    (tmp_path / "hub" / "README.md").write_text(f"{card}---\n")
    assert [one.split for one in read("gsm8k/train", tmp_path / "hub")] == ["train", "train"]
    assert [one.split for one in read("gsm8k/test", tmp_path / "hub")] == ["test"]


def test_rows_of_another_set_are_an_error_and_not_skipped(tmp_path):
    with pytest.raises(RecordError, match=r"column 'question' .* \['answer', 'level', 'problem'"):
        read("gsm8k/train", write(tmp_path / "rows.jsonl", MATH_500))
    numbers = write(tmp_path / "numbers.jsonl", [{"question": "How many?", "answer": 9}])
    with pytest.raises(RecordError, match="column 'answer' should hold text, found 9"):
        read("gsm8k/train", numbers)


def test_a_set_that_is_not_here_is_an_error_with_a_remedy(tmp_path):
    for name in part_names():
        for location in ("", tmp_path / "none.jsonl", tmp_path / "none"):
            with pytest.raises(ConfigError, match=f"{name}: .*data_gen.prefetch.*locations"):
                read(name, location)


def test_an_id_belongs_to_the_statement_and_not_to_its_place(tmp_path):
    one, two = (
        {p.statement: p.id for p in read("gsm8k/train", write(tmp_path / name, rows))}
        for name, rows in (("a.jsonl", GSM8K[:2]), ("b.jsonl", GSM8K[1::-1]))
    )
    assert one == two
    # printf %s "How many miles?" | sha256sum
    assert two["How many  \nmiles?"] == f"gsm8k/{statement_hash('How many miles?')}"
    assert statement_hash("How many miles?") == "6393e5d53ffc"


def test_problems_that_differ_in_a_sign_or_a_bracket_are_different():
    pairs = [("arcsin 1", "arcsin (-1)"), ("x < 0", "x > 0"), ("8 / (4 / 2)", "8 / 4 / 2")]
    assert all(statement_hash(a) != statement_hash(b) for a, b in pairs)


def test_the_split_depends_on_the_id_alone_and_keeps_the_share():
    names = [f"math/{n:012x}" for n in range(4000)]
    drawn = {name: split_of(name, 0.1) for name in names}
    assert Counter(drawn.values())["selection"] == pytest.approx(400, abs=60)
    wider = {name for name in names if split_of(name, 0.2) == "selection"}
    assert wider > {name for name, split in drawn.items() if split == "selection"}
    assert {split_of(name, 0.0) for name in names} == {"train"}
    assert {split_of(name, 1.0) for name in names} == {"selection"}


def problem(name, statement, split):
    return Problem(name, statement, "1", "math", "here", split)


def test_a_statement_occurs_once_and_a_test_problem_never_among_the_others():
    found = [
        problem("a", "in both", "train"),
        problem("b", "twice", "train"),
        problem("c", "twice ", "selection"),
        problem("d", "in\nboth", "test"),
        problem("e", "in both", "test"),
        problem("f", "once", "train"),
    ]
    skipped = Counter()
    assert [one.id for one in merge(found, skipped)] == ["b", "d", "f"]
    assert skipped == {"copy_of_test_problem": 1, "duplicate": 2}


def run(output, sources, locations, *more):
    words = ["--sources", json.dumps(sources), "--locations", json.dumps(locations)]
    problems.main(["--output", str(output), *words, *more])
    return list(read_records(output, Problem))


def test_the_job_counts_every_row(tmp_path, capsys):
    locations = {
        "gsm8k/train": write(tmp_path / "train.jsonl", [*GSM8K, GSM8K[0]]),
        "gsm8k/test": write(tmp_path / "test.jsonl", GSM8K[1:2]),
        "math/train": write(tmp_path / "math.jsonl", MATH),
        "math/test": write(tmp_path / "math500.jsonl", MATH_500),
    }
    found = run(tmp_path / "out", ["gsm8k", "math"], locations, "--selection_share", "0")
    assert [(one.source, one.split) for one in found] == [
        ("gsm8k", "train"),
        ("gsm8k", "test"),
        ("math", "train"),
        ("math", "test"),
    ]
    [manifest] = read_manifests(tmp_path / "out")
    assert manifest["in"] == 7 + 1 + 3 + 1
    assert manifest["skipped"] == {
        "no_answer": 5,
        "no_statement": 1,
        "duplicate": 1,
        "copy_of_test_problem": 1,
    }
    said = capsys.readouterr().out
    assert "problems: gsm8k: 4 with an answer, 4 without" in said
    assert "problems: in 12 = out 4 + skipped 8" in said
    # A second start reads nothing: the files may be gone.
    for path in locations.values():
        Path(path).unlink()
    assert run(tmp_path / "out", ["gsm8k", "math"], locations, "--selection_share", "0") == found


def test_a_file_of_problems_is_a_source_beside_the_others(tmp_path):
    first = run(tmp_path / "a", ["arithmetic"], {}, "--sizes", '{"train": 3, "test": 2}')
    [file] = (tmp_path / "a").glob("*.jsonl")
    locations = {
        "gsm8k/train": write(tmp_path / "train.jsonl", GSM8K),
        "gsm8k/test": write(tmp_path / "test.jsonl", GSM8K[:1]),
    }
    second = run(tmp_path / "b", [str(file), "gsm8k"], locations)
    assert second[:5] == first
    assert {one.source for one in second[5:]} == {"gsm8k"}
    assert read_manifests(tmp_path / "b")[0]["inputs"] == {str(file): content_hash(file)}


def test_two_problems_with_one_id_end_the_job(tmp_path):
    run(tmp_path / "a", ["arithmetic"], {})
    [file] = (tmp_path / "a").glob("*.jsonl")
    with pytest.raises(RecordError, match="occurs twice"):
        run(tmp_path / "b", ["arithmetic", str(file)], {}, "--seed", "1")


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"sources": ["gsm9k"]}, "gsm9k"),
        ({"sources": []}, "at least one"),
        ({"sources": ["math", "math"]}, "each once"),
        ({"locations": {"gsm8k": "x"}}, "gsm8k/train"),
        ({"selection_share": 1.5}, "1.5"),
    ],
)
def test_wrong_settings_are_named(settings, said):
    with pytest.raises(ConfigError, match=said):
        ProblemsConfig(**settings)


@pytest.mark.parametrize(
    ("folder", "expected"), [("quickstart", "29a55cd7b8dd0819"), ("results", "f89560e76644f69d")]
)
def test_the_arithmetic_of_the_committed_settings_keeps_its_bytes(folder, expected, tmp_path):
    settings = str(CHECKOUT / "configs" / folder / "problems.yaml")
    problems.main(["--config", settings, "--output", str(tmp_path / "out")])
    assert content_hash(tmp_path / "out") == expected
    assert load(ProblemsConfig, settings).sources == ["arithmetic"]


@pytest.mark.real
def test_the_whole_sets_are_read(data_dir, tmp_path):
    """GSM8K's rows as the hub has them; of MATH the answers (train) and MATH-500."""
    folder = data_dir / "problems"
    locations = {
        "math/train": str(folder / "math_train_answers" / "math_train_answers.jsonl.gz"),
        "math/test": str(folder / "math500" / "math500.jsonl"),
    }
    stated = {}
    for name, open_file in (("train.jsonl.gz", gzip.open), ("test.jsonl", open)):
        with open_file(folder / "gsm8k" / name, "rt", encoding="utf-8") as file:
            rows = [json.loads(line) for line in file]
        stated |= {row["problem"].strip(): row["answer"] for row in rows}
        hub = [{"question": row["problem"], "answer": row["solution"]} for row in rows]
        split = name.partition(".")[0]
        locations[f"gsm8k/{split}"] = write(tmp_path / f"{split}.jsonl", hub)
    found = run(tmp_path / "out", ["gsm8k", "math"], locations)
    assert Counter(one.source for one in found if one.split == "test") == {
        "gsm8k": 1319,
        "math": 500,
    }
    [manifest] = read_manifests(tmp_path / "out")
    assert manifest["in"] == 7473 + 1319 + 7499 + 500
    assert manifest["skipped"] == {"no_answer": 2, "duplicate": 1}
    share = Counter(one.split for one in found)
    assert share["selection"] / (share["selection"] + share["train"]) == pytest.approx(
        0.05, abs=5e-3
    )
    expected = [
        stated[one.statement] if one.source == "gsm8k" else one.reference_answer for one in found
    ]
    references = [one.reference_answer for one in found]
    verdicts = check_math_many(list(zip(expected, references, strict=True)))
    assert all(verdict.label for verdict in verdicts)
    # Another number is wrong, but where the reference is a word, a matrix, an equation, or a number
    # in words that may change its value.
    verdicts = check_math_many([("-98765.4321", reference) for reference in references])
    wrong = Counter(
        one.source for one, verdict in zip(found, verdicts, strict=True) if verdict.label is False
    )
    assert wrong == {"gsm8k": 8792, "math": 7788}


@pytest.mark.real
def test_the_box_of_a_solution_holds_the_stated_answer(data_dir):
    with (data_dir / "problems" / "math500" / "math500.jsonl").open(encoding="utf-8") as file:
        rows = [json.loads(line) for line in file]
    assert all(extract_boxed(row["solution"]) == row["answer"].strip() for row in rows)
