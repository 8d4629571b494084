import json

import pytest

from prm.errors import ConfigError, RecordError
from prm.verifiers.code import CallTest, CodeTask, CodeVerifier, Compare, StdioTest

ADD = {"kind": "call", "entry": "add", "tests": [{"args": [1, 2], "expected": 3}]}
ECHO = {"kind": "stdio", "tests": [{"stdin": "1", "expected": "1"}, {"expected": ""}]}


def test_a_task_is_read_from_json():
    task = CodeTask.from_reference(json.dumps(ADD))
    assert task == CodeTask("call", (CallTest(3, (1, 2)),), entry="add")
    row = ECHO | {"compare": {"abs_tol": 1e-6}, "wall_s": 2}
    expected = CodeTask(
        "stdio", (StdioTest("1", "1"), StdioTest("")), compare=Compare(abs_tol=1e-6), wall_s=2.0
    )
    assert CodeTask.from_reference(json.dumps(row)) == expected


def test_tagged_values_are_read_as_what_they_are():
    row = ADD | {
        "tests": [
            {
                "args": [{"$type": "tuple", "value": [1]}, {"$type": "set", "value": [2]}],
                "kwargs": {"key": {"$type": "int", "value": "0x10"}},
                "expected": {"$type": "dict", "value": [[1, "a"]]},
            }
        ]
    }
    test = CodeTask.from_reference(json.dumps(row)).tests[0]
    assert test == CallTest({1: "a"}, ((1,), {2}), {"key": 16})


@pytest.mark.parametrize(
    "task",
    [
        CodeTask("call", (CallTest((1, {2}), ({3: b"x"},), {"y": 1j}),), entry="A.f"),
        CodeTask("call", (CallTest(2**99), CallTest(None)), entry="f", compare=Compare(0.1, 0.2)),
        CodeTask("stdio", (StdioTest("é\n", "x"),), wall_s=1.5),
        CodeTask("call", (CallTest(True), CallTest(True)), entry="f", allow_constant=True),
    ],
)
def test_a_task_survives_its_json_form(task):
    assert CodeTask.from_reference(task.to_reference()) == task


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("12", 'kind should be "call" or "stdio"'),
        ("{", "no JSON"),
        ("[" * 100_000, "no JSON"),
        ({}, "kind should be"),
        (ADD | {"kind": "unit"}, "kind should be"),
        (ADD | {"tests": []}, "one CallTest or more is needed"),
        (ADD | {"tests": {}}, "tests should be a list"),
        (ADD | {"tests": [{"args": [1]}]}, "test 0: CallTest has missing fields ['expected']"),
        (ADD | {"tests": [{"expected": 1, "arg": []}]}, "unknown fields ['arg']"),
        (ADD | {"tests": [{"expected": 1, "args": 3}]}, "args should be a list"),
        (ADD | {"tests": ["x"]}, "should be an object"),
        (ADD | {"entry": None}, "kind 'call' with entry None"),
        (ADD | {"entry": "add(1)"}, "entry 'add(1)' is no name"),
        (ADD | {"colour": 1}, "unknown fields ['colour']"),
        (ADD | {"wall_s": 0}, "wall_s 0.0 is not above 0"),
        (ADD | {"compare": {"tolerance": 1}}, "unknown fields ['tolerance']"),
        (ADD | {"tests": [{"expected": {"$type": "other", "value": "x"}}]}, "test 0: no value"),
        (ADD | {"tests": [{"expected": {"$type": "set", "value": [[1]]}}]}, "test 0:"),
        (ADD | {"tests": [{"expected": {"$type": "float", "value": "nan"}}]}, "not equal itself"),
        (ADD | {"tests": ADD["tests"] * 2}, "all 2 tests expect the same"),
        (ECHO | {"entry": "f"}, "kind 'stdio' with entry 'f'"),
        (ECHO | {"tests": [{"stdin": 1, "expected": "1"}]}, "stdin should be str"),
        (ECHO | {"tests": [{"stdin": "1"}]}, "missing fields ['expected']"),
        (ECHO | {"tests": [{"expected": "1"}, {"expected": "1\n"}]}, "expect the same"),
    ],
)
def test_a_reference_that_cannot_be_used_is_refused_when_it_is_loaded(row, message):
    reference = row if isinstance(row, str) else json.dumps(row)
    with pytest.raises(RecordError) as caught:
        CodeVerifier().check_reference(reference)
    assert message in str(caught.value)


def test_the_wall_clock_alone_may_be_set():
    assert CodeVerifier(limits={"wall_s": 9.0}).limits.cpu_s == 10


def test_more_expected_output_than_a_reference_holds_is_refused():
    with pytest.raises(RecordError, match="bytes are expected, more than"):
        CodeTask("stdio", (StdioTest("é" * (9 << 20)),))


def test_arguments_that_cannot_travel_are_refused():
    with pytest.raises(RecordError, match="test 0: an argument cannot travel"):
        CodeTask("call", (CallTest(1, (object(),)),), entry="f")
    with pytest.raises(RecordError, match="does not equal itself"):
        CodeTask("call", (CallTest(object()),), entry="f")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"backend": "docker"}, "'docker' is unknown"),
        ({"limits": {"wall": 1}}, "unknown fields ['wall']"),
        ({"limits": {"wall_s": "1"}}, "wall_s should be float"),
        ({"limits": {"wall_s": 9.0, "cpu_s": 6}}, "cpu_s: 6 is below wall_s"),
        ({"sandbox": {"colour": "red"}}, "unexpected keyword"),
        ({"workers": -1}, "workers -1: should be 1 or more"),
        ({"workers": 0}, "workers 0: should be 1 or more"),
        ({"sandbox": {"workers": -1}}, "workers -1: should be 1 or more"),
    ],
)
def test_wrong_settings_are_refused(settings, message):
    with pytest.raises(ConfigError) as caught:
        CodeVerifier(**settings)
    assert message in str(caught.value)
