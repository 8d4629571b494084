"""Python values as JSON values that keep their types. Standard library only.

None, bool, str, int, float and list are themselves; a dict with plain string keys is an object.
All else is an object with a tag:

    (1, 2)       {"$type": "tuple", "value": [1, 2]}
    {1: "a"}     {"$type": "dict", "value": [[1, "a"]]}
    2 ** 70      {"$type": "int", "value": "0x400000000000000000"}
    float("nan") {"$type": "float", "value": "nan"}

also set, frozenset, bytes, complex. Subclasses travel as what they refine. A value of another type
is ``{"$type": "other", "value": "deque"}``, which equals nothing.

This file is also part of the driver that runs inside the sandbox, before the program is loaded.
There each import costs: `to_json` is written out because ``import json`` takes longer than Python
takes to start.
"""

from __future__ import annotations

import math

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

TAG = "$type"
MAX_DEPTH = 64
"""Values nested deeper are refused."""
_PLAIN_INT = 1 << 63


def encode(value: Any, depth: int = 0) -> Any:
    """The value as JSON values.

    Raises:
        ValueError: nested deeper than `MAX_DEPTH`.
    """
    if depth > MAX_DEPTH:
        raise ValueError(f"nested deeper than {MAX_DEPTH}")
    if value is None or value is True or value is False:
        return value
    if isinstance(value, str):
        return str.__str__(value)
    if isinstance(value, int):
        whole = int.__int__(value)
        return whole if abs(whole) < _PLAIN_INT else _tagged("int", hex(whole))
    if isinstance(value, float):
        number = float.__float__(value)
        return number if math.isfinite(number) else _tagged("float", repr(number))
    return _encode_container(value, depth)


def _encode_container(value: Any, depth: int) -> Any:
    if isinstance(value, list):
        return [encode(item, depth + 1) for item in list.__iter__(value)]
    if isinstance(value, dict):
        pairs = [[encode(k, depth + 1), encode(v, depth + 1)] for k, v in dict.items(value)]
        if all(isinstance(key, str) and key != TAG for key, _ in pairs):
            return {key: item for key, item in pairs}
        return _tagged("dict", pairs)
    kinds: tuple[Any, ...] = (tuple, set, frozenset)
    for kind in kinds:
        if isinstance(value, kind):
            return _tagged(kind.__name__, [encode(it, depth + 1) for it in kind.__iter__(value)])
    if isinstance(value, bytes | bytearray):
        return _tagged("bytes", bytes(value).hex())
    if isinstance(value, complex):
        return _tagged("complex", [encode(value.real), encode(value.imag)])
    return _tagged("other", type(value).__name__[:80])


def _tagged(kind: str, value: Any) -> dict[str, Any]:
    return {TAG: kind, "value": value}


_ESCAPES = {code: f"\\u{code:04x}" for code in (*range(32), 34, 92)}


def to_json(value: Any) -> str:
    """The JSON text of what `encode` made, on one line; lone surrogates stay as they are."""
    if value is None or value is True or value is False:
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, str):
        return '"' + value.translate(_ESCAPES) + '"'
    if isinstance(value, list):
        return "[" + ",".join([to_json(item) for item in value]) + "]"
    if isinstance(value, dict):
        return "{" + ",".join([f"{to_json(k)}:{to_json(v)}" for k, v in value.items()]) + "}"
    return repr(value)


def decode(value: Any, depth: int = 0) -> Any:
    """The Python value; only for what we wrote ourselves, never for what a program sent.

    Raises:
        ValueError: nested too deep, or no value that `encode` could have made.
    """
    if depth > MAX_DEPTH:
        raise ValueError(f"nested deeper than {MAX_DEPTH}")
    if isinstance(value, list):
        return [decode(item, depth + 1) for item in value]
    if not isinstance(value, dict):
        return value
    if TAG not in value:
        return {key: decode(item, depth + 1) for key, item in value.items()}
    try:
        return _decode_tagged(value[TAG], value["value"], depth + 1)
    except (KeyError, TypeError) as err:
        raise ValueError(f"no value: {value!r:.60}") from err


def _decode_tagged(kind: str, value: Any, depth: int) -> Any:
    if kind == "int":
        return int(value, 16)
    if kind == "float":
        return float(value)
    if kind == "bytes":
        return bytes.fromhex(value)
    if kind == "complex":
        return complex(decode(value[0], depth), decode(value[1], depth))
    if kind == "dict":
        return {decode(key, depth): decode(item, depth) for key, item in value}
    build: Any = {"tuple": tuple, "set": set, "frozenset": frozenset}[kind]
    return build([decode(item, depth) for item in value])
