import dataclasses
import json
import re

import pytest

from prm.errors import RecordError
from prm.records import (
    SCHEMAS,
    Critique,
    Evidence,
    LabelledSolution,
    Problem,
    Solution,
    StepLabel,
    Usage,
    Verdict,
    from_json,
    to_json,
)
from prm.store import read_records

PROBLEM = Problem("p/0", "Calculate 3 + 9.", "12", "integer", "test", "train", {"operands": [3, 9]})
SOLUTION = Solution(
    id="p/0#1",
    problem_id="p/0",
    steps=("Step 1: 3 + 9 = 12", "Answer: 12 \u2028 é"),
    final_answer=None,
    finish_reason="stop",
    strategy="plain",
    model="test",
    sampling={"n": 8, "stop": ["\n\n"]},
    usage=Usage(30, 17),
    logprob=-3.25,
    seed=2**47,
)
LABELLED = LabelledSolution(
    solution=SOLUTION,
    labels=(
        StepLabel(0, 3, 4, 0.75, None, True, (Evidence("rollouts", 3, 4, "c", 88, "right"),), 88),
        StepLabel(1, 0, 0, None, None, None),
    ),
    first_error={"none": 0.5, "1": 0.5},
    verdict=Verdict("could_not_tell", "code", 0.5, "no answer", "no_answer", 2, 5),
    labeler="test",
    stop_reason="undecided",
    tokens=88,
)
CRITIQUE = Critique("p/0#1", "p/0", "text", "ok", (True, False), 1, "labels", (0.9, 0.2), True)
RECORDS = [PROBLEM, SOLUTION, LABELLED, CRITIQUE]


def row_with(record, **changes):
    return {**to_json(record), **changes}


def without(row, key):
    return {name: value for name, value in row.items() if name != key}


@pytest.mark.parametrize("record", RECORDS, ids=lambda record: type(record).__name__)
def test_a_record_comes_back_from_its_json_line(record):
    line = json.dumps(to_json(record))
    assert from_json(type(record), json.loads(line), "here") == record
    assert next(iter(json.loads(line))) == "schema"


@pytest.mark.parametrize("record", RECORDS, ids=lambda record: type(record).__name__)
def test_absent_optional_fields_take_their_defaults(record):
    required = {
        field.name
        for field in dataclasses.fields(record)
        if field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
    }
    row = {key: value for key, value in to_json(record).items() if key in {*required, "schema"}}
    found = from_json(type(record), row, "here")
    assert {name: getattr(found, name) for name in required} == {
        name: getattr(record, name) for name in required
    }


def test_every_record_has_a_schema_of_its_own():
    assert {type(record) for record in RECORDS} == set(SCHEMAS)
    assert len(set(SCHEMAS.values())) == len(SCHEMAS)


def test_a_labelled_solution_has_the_id_of_its_solution():
    assert LABELLED.id == SOLUTION.id


@pytest.mark.parametrize(
    ("status", "label"), [("right", True), ("wrong", False), ("could_not_tell", None)]
)
def test_a_verdict_that_could_not_tell_is_no_label(status, label):
    assert Verdict(status, "test").label is label


def test_an_error_of_the_verifier_is_never_right_or_wrong():
    assert Verdict("could_not_tell", "test", reason="error").label is None
    for status in ("right", "wrong"):
        with pytest.raises(RecordError, match="no label"):
            Verdict(status, "test", reason="error")


@pytest.mark.parametrize(
    ("detail", "kept"),
    [
        ("no answer: é 中", "no answer: é 中"),
        ("two\nlines\r", r"two\nlines\r"),
        ("\x1b[2Jclear \x07", r"\x1b[2Jclear \x07"),
        ("\u2028 \u202e", r"\u2028 \u202e"),
        ("\ud800", r"\ud800"),
        ("a" * 300, "a" * 300),
        ("a" * 301, "a" * 297 + "..."),
        ("\n" * 300, r"\n" * 148 + "\\..."),
    ],
)
def test_a_detail_is_one_line_of_300_characters_that_can_be_printed(detail, kept):
    found = Verdict("wrong", "test", detail=detail).detail
    assert found == kept
    assert len(found) <= 300
    assert found.isprintable()
    assert Verdict("wrong", "test", detail=found).detail == found


def test_a_verdict_of_earlier_files_has_no_reason_and_no_tests():
    row = to_json(LABELLED)
    old = {key: row["verdict"][key] for key in ("status", "backend", "seconds", "detail")}
    verdict = from_json(LabelledSolution, {**row, "verdict": old}, "here").verdict
    assert (verdict.reason, verdict.passed, verdict.total) == ("", 0, 0)


def test_records_cannot_be_changed():
    with pytest.raises(dataclasses.FrozenInstanceError):
        PROBLEM.statement = "other"


NESTED = to_json(LABELLED)
MALFORMED = {
    "no object": (Problem, [1, 2], "expected a JSON object, found list"),
    "null": (Problem, None, "expected a JSON object, found NoneType"),
    "no schema": (Problem, without(to_json(PROBLEM), "schema"), "schema is None, expected"),
    "other schema": (Problem, row_with(SOLUTION), "schema is 'solution/1', expected 'problem/1'"),
    "newer schema": (Problem, row_with(PROBLEM, schema="problem/2"), "schema is 'problem/2'"),
    "unknown": (Problem, row_with(PROBLEM, answer="12"), "unknown fields ['answer']"),
    "missing": (Problem, without(to_json(PROBLEM), "source"), "missing fields ['source']"),
    "both": (
        Problem,
        without(row_with(PROBLEM, answer="12"), "source"),
        "unknown fields ['answer']; missing fields ['source']",
    ),
    "number for text": (Problem, row_with(PROBLEM, reference_answer=12), "should be str, found 12"),
    "null for text": (Problem, row_with(PROBLEM, statement=None), "should be str, found None"),
    "no such split": (Problem, row_with(PROBLEM, split="dev"), "should be one of ['train'"),
    "text for object": (Problem, row_with(PROBLEM, meta="{}"), "meta should be dict, found '{}'"),
    "text for list": (Solution, row_with(SOLUTION, steps="one"), "steps should be a list"),
    "number in list": (Solution, row_with(SOLUTION, steps=["a", 2]), "steps[1] should be str"),
    "text for float": (Solution, row_with(SOLUTION, logprob="-1"), "logprob should be float"),
    "bool for float": (Solution, row_with(SOLUTION, logprob=True), "logprob should be float"),
    "float for int": (Solution, row_with(SOLUTION, seed=1.0), "seed should be int, found 1.0"),
    "bool for int": (Solution, row_with(SOLUTION, seed=True), "seed should be int, found True"),
    "nested: no object": (Solution, row_with(SOLUTION, usage=3), "Usage should be an object"),
    "nested: unknown": (
        Solution,
        row_with(SOLUTION, usage={"prompt": 3}),
        "usage: Usage has unknown fields ['prompt']",
    ),
    "nested: bool for int": (
        Solution,
        row_with(SOLUTION, usage={"prompt_tokens": False}),
        "usage: prompt_tokens should be int, found False",
    ),
    "nested: missing": (
        LabelledSolution,
        {**NESTED, "solution": without(NESTED["solution"], "steps")},
        "solution: Solution has missing fields ['steps']",
    ),
    "nested in a list": (
        LabelledSolution,
        {**NESTED, "labels": [{**NESTED["labels"][0], "hard": 1}]},
        "labels[0]: hard should be bool, found 1",
    ),
    "int for bool": (Critique, row_with(CRITIQUE, verdicts=[1]), "verdicts[0] should be bool"),
}


@pytest.mark.parametrize(("cls", "row", "found"), MALFORMED.values(), ids=MALFORMED.keys())
def test_a_malformed_row_is_an_error_that_says_what_and_where(cls, row, found, tmp_path):
    path = tmp_path / "rows.jsonl"
    good = next(record for record in RECORDS if type(record) is cls)
    path.write_text(json.dumps(to_json(good)) + "\n" + json.dumps(row) + "\n")
    with pytest.raises(RecordError, match=re.escape(found)) as caught:
        list(read_records(path, cls))
    message = str(caught.value)
    assert message.startswith(f"{path}:2")
    assert "run the job that makes it again" in message
    if isinstance(row, dict):
        assert repr(row.get("id", row.get("solution", {}).get("id"))) in message


@pytest.mark.parametrize("line", [b"{", b"", b"{'id': 1}", b'{"id": "\xff"}'])
def test_a_line_that_is_not_json_is_an_error_that_says_where(line, tmp_path):
    path = tmp_path / "rows.jsonl"
    good = json.dumps(to_json(PROBLEM)).encode()
    path.write_bytes(good + b"\n" + line + b"\n")
    with pytest.raises(RecordError, match=f"{path}:2: not JSON.*run the job that makes it again"):
        list(read_records(path, Problem))


def test_whole_numbers_are_read_as_floats_where_floats_belong():
    logprob = from_json(Solution, row_with(SOLUTION, logprob=-3), "here").logprob
    assert (type(logprob), logprob) == (float, -3.0)


def test_null_is_read_where_a_field_may_be_absent():
    found = from_json(Solution, row_with(SOLUTION, logprob=None, final_answer=None), "here")
    assert (found.logprob, found.final_answer) == (None, None)
