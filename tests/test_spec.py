"""The spec of a scorer: what is written is read back, and what cannot work is refused."""

import dataclasses
import json

import pytest

from prm.errors import SpecError
from prm.scoring.spec import FILE, SCHEMA, ScorerSpec, load_spec

OURS = ScorerSpec(
    base_model="tiny",
    template="Aufgabe: {problem}\n\n",
    separator=" ки\n",
    head="linear",
    target="prefix_correct",
    aggregate="prod",
    threshold=0.25,
    max_tokens=99,
    chosen_on="selection",
)


def values(**changes):
    return {**dataclasses.asdict(OURS), **changes}


def written(folder, content):
    (folder / FILE).write_text(content if isinstance(content, str) else json.dumps(content))
    return folder


def test_what_is_saved_is_loaded_from_the_folder_and_from_the_file(tmp_path):
    OURS.save(tmp_path)
    assert load_spec(tmp_path) == load_spec(tmp_path / FILE) == OURS
    assert load_spec(str(tmp_path)) == OURS


def test_the_file_names_every_field(tmp_path):
    OURS.save(tmp_path)
    stored = json.loads((tmp_path / FILE).read_text(encoding="utf-8"))
    assert set(stored) == {field.name for field in dataclasses.fields(ScorerSpec)}
    assert stored["schema"] == SCHEMA == "scorer_spec/1"


def test_what_is_left_out_has_its_default(tmp_path):
    spec = load_spec(written(tmp_path, {"base_model": "tiny", "schema": SCHEMA}))
    assert spec == ScorerSpec(base_model="tiny")


def test_whole_numbers_are_read_where_a_share_is_meant(tmp_path):
    assert load_spec(written(tmp_path, values(threshold=1))).threshold == 1.0


def check_message(error, *words):
    """The words, and an example that is a spec itself."""
    message = str(error.value)
    assert all(word in message for word in words), message
    example = json.loads(message[message.index("{\n") :])
    assert ScorerSpec(**example).schema == SCHEMA


def test_a_missing_spec_is_named_with_an_example(tmp_path):
    with pytest.raises(SpecError) as error:
        load_spec(tmp_path)
    check_message(error, str(tmp_path / FILE), "no scorer spec", "prm publish")


def test_a_folder_that_does_not_exist_is_named(tmp_path):
    with pytest.raises(SpecError, match=r"nowhere: no scorer spec"):
        load_spec(tmp_path / "nowhere")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (values(schema="scorer_spec/2"), ("scorer_spec/2", SCHEMA)),
        (values(tag="+"), ("unknown fields ['tag']",)),
        ({"schema": SCHEMA}, ("missing fields ['base_model']",)),
        (values(template="Problem:\n"), ("{problem} exactly once",)),
        (values(template="{problem} {problem}"), ("{problem} exactly once",)),
        (values(separator=""), ("separator is empty",)),
        (values(head="quadratic"), ("head", "linear", "likelihood")),
        (values(target="reward"), ("target", "success_rate")),
        (values(max_tokens="many"), ("max_tokens", "int", "many")),
        (values(threshold=True), ("threshold", "float")),
        ([1, 2], ("should be an object",)),
        ("{", ("is not a scorer spec",)),
        ("", ("is not a scorer spec",)),
    ],
)
def test_what_is_no_spec_is_refused_with_an_example(tmp_path, content, words):
    with pytest.raises(SpecError) as error:
        load_spec(written(tmp_path, content))
    check_message(error, str(tmp_path / FILE), *words)


def test_a_spec_made_in_code_is_checked_too():
    with pytest.raises(SpecError, match="exactly once"):
        ScorerSpec(base_model="tiny", template="no slot")
    with pytest.raises(SpecError, match="separator is empty"):
        ScorerSpec(base_model="tiny", separator="")
