import json

import pytest

from data_gen import problems as job
from data_gen.puzzles import PUZZLES
from prm.config import load
from prm.errors import ConfigError
from prm.records import Problem, to_json
from prm.store import read_manifests, read_records
from prm.verifiers.registry import Verifiers


def run(tmp_path, text):
    path = tmp_path / "problems.yaml"
    path.write_text(text)
    job.main(["--config", str(path), "--output", str(tmp_path / "store")])
    return list(read_records(tmp_path / "store", Problem)), read_manifests(tmp_path / "store")[0]


def written(path, *problems):
    path.write_text("".join(json.dumps(to_json(problem)) + "\n" for problem in problems))
    return path


def problem(name, reference, verifier="integer", split="train", statement=None):
    return Problem(name, statement or f"What is {name}?", reference, verifier, "mine", split)


def test_every_puzzle_is_a_source_with_settings_of_its_own(tmp_path):
    settings = "".join(f"  {name}: {{sizes: {{train: 3, test: 2}}}}\n" for name in PUZZLES)
    text = f"sources: [{', '.join(PUZZLES)}]\npuzzles:\n{settings}"
    found, manifest = run(tmp_path, text)
    assert {p.source for p in found} == {p.verifier for p in found} == set(PUZZLES)
    assert len(found) == 5 * len(PUZZLES) == manifest["in"]
    with Verifiers() as verifiers:
        verdicts = verifiers.check_many([(p, p.meta["solution"]) for p in found])
    assert all(verdict.label for verdict in verdicts)


def test_difficulty_and_seed_are_settings(tmp_path):
    text = "sources: [game24]\npuzzles: {game24: {sizes: {train: 4}, seed: %d, max_solutions: 2}}"
    for seed in (0, 1):
        (tmp_path / str(seed)).mkdir()
    first, _ = run(tmp_path / "0", text % 0)
    other, _ = run(tmp_path / "1", text % 1)
    assert first != other
    assert all(p.meta["num_solutions"] <= 2 for p in [*first, *other])


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("sources: [game42]", "game42"),
        ("sources: [game24]\npuzzles: {game42: {}}", "'game42' is none of"),
        ("puzzles: {game24: {}}", "not among the sources"),
        ("sources: [game24]\npuzzles: {game24: {size: 3}}", r"unknown fields \['size'\]"),
        ("sources: [game24]\npuzzles: {game24: {high: many}}", "high should be int"),
        ("sources: [game24]\npuzzles: {game24: {low: 9, high: 1}}", "nothing lies between"),
        ("sources: [game24]\npuzzles: {game24: {sizes: 3}}", "sizes should be"),
        ("sources: [game24]\npuzzles: {game24: {sizes: {train: -1}}}", "sizes should be"),
        ("sources: [game24]\npuzzles: {game24: {seed: x}}", "seed should be"),
        ("sources: [game24]\npuzzles: {game24: 3}", "puzzles"),
    ],
)
def test_wrong_settings_of_a_puzzle_are_found_before_any_is_made(text, found, tmp_path):
    path = tmp_path / "problems.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=found):
        load(job.ProblemsConfig, path)


def test_a_problem_whose_reference_cannot_be_used_is_refused_and_named(tmp_path, capsys):
    path = written(
        tmp_path / "mine.jsonl",
        problem("a", "12"),
        problem("b", "twelve"),
        problem("c", '{"numbers": [1, 1, 1, 1], "target": 24}', "game24"),
        problem("d", '{"numbers": [4, 6], "target": 24}', "game24"),
    )
    found, manifest = run(tmp_path, f"sources: [{path}]")
    assert [p.id for p in found] == ["a", "d"]
    assert manifest["skipped"] == {"bad_reference": 2}
    assert manifest["in"] == 4
    said = capsys.readouterr().out
    assert "problems: b: refused, reference answer 'twelve' is not an integer" in said
    assert "problems: c: refused" in said


def test_only_the_first_refused_problems_are_named(tmp_path, capsys):
    rows = [problem(f"p{i}", "words") for i in range(25)]
    found, manifest = run(tmp_path, f"sources: [{written(tmp_path / 'mine.jsonl', *rows)}]")
    assert (found, manifest["skipped"]) == ([], {"bad_reference": 25})
    assert "and 15 more references that cannot be used" in capsys.readouterr().out


def test_a_copy_of_a_refused_test_problem_stays_out_of_training(tmp_path):
    path = written(
        tmp_path / "mine.jsonl",
        problem("a", "12", statement="the same"),
        problem("b", "twelve", split="test", statement="the same"),
    )
    found, manifest = run(tmp_path, f"sources: [{path}]")
    assert found == []
    assert manifest["skipped"] == {"copy_of_test_problem": 1, "bad_reference": 1}


def test_the_settings_of_verifiers_reach_the_references(tmp_path):
    reference = '{"numbers": [8, 8, 3, 3], "target": 24}'
    path = written(tmp_path / "mine.jsonl", problem("a", reference, "game24"))
    (tmp_path / "loose").mkdir()
    assert len(run(tmp_path / "loose", f"sources: [{path}]")[0]) == 1
    strict = f"sources: [{path}]\nverifiers: {{game24: {{allow_fractions: false}}}}"
    assert run(tmp_path, strict)[0] == []
