import json

import pytest

from prm.critic.dialect import Dialect
from prm.errors import SpecError


def test_prompt_holds_the_steps_unchanged():
    prompt = Dialect().prompt("Calculate {x}.", ["Step 1: a {b}", "Answer: 2\n"])
    assert prompt == "Problem: Calculate {x}.\nStep 1: a {b}\nAnswer: 2\n\nCheck:\n"


@pytest.mark.parametrize(
    ("step", "work"),
    [
        ("Step 1: 3 + 9 = 12", "3 + 9 = 12"),
        ("  Step 23: x\n", "x"),
        ("Answer: 16", "Answer: 16"),
        ("See Step 1: x", "See Step 1: x"),
        ("Step 1: Step 2: x", "Step 2: x"),
    ],
)
def test_work_is_the_step_without_its_label(step, work):
    assert Dialect().work_of(step) == work


def test_saved_dialect_is_the_same_dialect(tmp_path):
    dialect = Dialect(name="mine", correct=" yes", wrong=" no", index_base=0, no_error="-")
    dialect.save(tmp_path)
    assert Dialect.load(tmp_path) == dialect
    assert Dialect.load(tmp_path / "critic.json") == dialect


@pytest.mark.parametrize(
    "change",
    [
        # The word occurs in the last line, where a reader of verdicts could find it.
        {"final_template": "First wrong step: {first_error}"},
        {"final_template": "none"},
        {"correct": " wrong"},
        {"correct": " cor\nrect"},
        {"prompt_template": "{problem}"},
        {"prompt_template": "{problem}{steps}{hint}"},
        {"step_template": "{index}: {work}\n{verdict}"},
        {"step_label": "("},
    ],
)
def test_dialect_that_cannot_be_read_back_is_refused(change):
    with pytest.raises(SpecError):
        Dialect(**change)


@pytest.mark.parametrize(
    "text",
    [
        "{",
        "[]",
        json.dumps({"schema": "prm/1"}),
        json.dumps({"schema": "critic/1", "colour": "blue"}),
        json.dumps({"schema": "critic/1", "index_base": "1"}),
        json.dumps({"schema": "critic/1", "index_base": True}),
    ],
)
def test_file_that_is_no_dialect_is_refused(tmp_path, text):
    (tmp_path / "critic.json").write_text(text)
    with pytest.raises(SpecError, match=r"critic\.json"):
        Dialect.load(tmp_path)


def test_folder_without_dialect_is_refused(tmp_path):
    with pytest.raises(SpecError, match="no such file"):
        Dialect.load(tmp_path)
