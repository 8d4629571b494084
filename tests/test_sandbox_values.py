import ast
import json
import math
import sys

import pytest

from prm.verifiers.sandbox.bootstrap import bootstrap_source
from prm.verifiers.sandbox.outcome import read_result
from prm.verifiers.sandbox.process import Raw
from prm.verifiers.sandbox.seccomp import is_supported, seccomp_filter
from prm.verifiers.sandbox.values import decode, encode, to_json

VALUES = [
    None, True, False, 0, -1, 2**62, 2**63, -(2**64), 2**5000, 0.1, 1e300, -math.inf,
    "", 'a"\\\n\0é😀',
    [], [1, [2]], (), (1,), {}, {"a": 1}, {1: 2, "a": (3,)}, {"$type": 1}, {1, 2}, frozenset({"x"}),
    b"\x00\xff", 1 + 2j, [(1, {2: {3}})],
]  # fmt: skip


@pytest.mark.parametrize("value", VALUES, ids=lambda value: repr(value)[:20])
def test_a_value_comes_back_as_it_was(value):
    back = decode(json.loads(to_json(encode(value))))
    assert (back, type(back)) == (value, type(value))


def test_our_json_is_the_standard_librarys():
    for value in VALUES:
        wire = encode(value)
        assert json.loads(to_json(wire)) == json.loads(json.dumps(wire))
        assert "\n" not in to_json(wire)


def test_lone_surrogates_travel():
    text = to_json(encode("\ud800"))
    assert (
        json.loads(text.encode("utf-8", "surrogatepass").decode("utf-8", "surrogatepass"))
        == "\ud800"
    )


def test_nan_stays_nan_and_other_types_are_named():
    assert math.isnan(decode(encode(math.nan)))
    assert encode(object()) == {"$type": "other", "value": "object"}
    with pytest.raises(ValueError, match="no value"):
        decode(encode(object()))


def test_depth_is_limited_on_both_sides():
    deep: list = []
    for _ in range(100):
        deep = [deep]
    for function in (encode, decode):
        with pytest.raises(ValueError, match="nested deeper than 64"):
            function(deep)


def test_the_driver_needs_the_standard_library_and_little_of_it():
    imported = [
        (node.names[0].name if isinstance(node, ast.Import) else node.module)
        for node in ast.walk(ast.parse(bootstrap_source()))
        if isinstance(node, ast.Import | ast.ImportFrom)
    ]
    # The last two are for the type checker and never run.
    allowed = {
        "__future__",
        "builtins",
        "marshal",
        "math",
        "os",
        "resource",
        "sys",
        "collections.abc",
        "typing",
    }
    assert set(imported) <= allowed <= {*sys.stdlib_module_names, "collections.abc"}


HELLO = b'{"hello":"3.11.2"}\n'


@pytest.mark.parametrize(
    ("records", "stderr", "code", "stopped", "outcome"),
    [
        (HELLO, b"", 0, "", "done"),
        (HELLO + b'{"call":0,"value":1}\n', b"", 0, "", "done"),
        (HELLO + b"nonsense\n", b"", 0, "", "bad_output"),
        (HELLO + b"[" * 100_000 + b"\n", b"", 0, "", "bad_output"),
        (HELLO + b"1" * 5000 + b"\n", b"", 0, "", "bad_output"),
        (HELLO + b"\xff\n", b"", 0, "", "bad_output"),
        (HELLO, b"", -9, "timeout", "timeout"),
        (HELLO, b"", 152, "", "timeout"),
        (HELLO, b"", -9, "output_limit", "output_limit"),
        (HELLO, b"", 137, "", "error"),
        (HELLO, b"Traceback\nMemoryError", 137, "", "memory"),
        (HELLO, b"", -9, "", "error"),
        (HELLO, b"Traceback\nMemoryError", 1, "", "memory"),
        (HELLO, b"ValueError: x", 1, "", "crash"),
        (HELLO, b"", 139, "", "crash"),
        (HELLO, b"", -9, "survived", "error"),
        (b"", b"bwrap: no", 1, "", "error"),
        (b"", b"", -9, "timeout", "error"),
        (b'{"hello":3}\n', b"", 0, "", "error"),
        (b'{"hello":"3.11', b"", 0, "", "error"),
        (b"\xff\n", b"", 0, "", "error"),
    ],
)
def test_an_outcome_is_read_from_what_a_run_left(records, stderr, code, stopped, outcome):
    assert read_result(Raw(records, b"", stderr, code, stopped, 1.0)).outcome == outcome


@pytest.mark.parametrize("machine", ["x86_64", "aarch64"])
def test_every_jump_of_the_filter_ends_inside_it(machine):
    data = seccomp_filter(machine)
    steps = [data[at : at + 8] for at in range(0, len(data), 8)]
    assert len(data) % 8 == 0
    assert 100 < len(steps) < 4096
    for at, step in enumerate(steps):
        if step[0] & 0x07 == 0x05:
            assert at + 1 + max(step[2], step[3]) < len(steps)
    assert steps[-1] == b"\x06\x00\x00\x00\x00\x00\xff\x7f"


def test_an_unknown_architecture_has_no_filter():
    assert is_supported("x86_64")
    assert not is_supported("riscv64")
