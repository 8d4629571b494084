"""The fields of a row, each with an error that names the row and says what was expected."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from prm.errors import RecordError

Row = Mapping[str, Any]

# Half a letter: JSON can say it (\ud83d alone), but no store can hold it.
_LONE_SURROGATE = re.compile(r"[\ud800-\udfff]")


def refuse(where: str, what: str) -> RecordError:
    """The error of a row that is not what its format says."""
    return RecordError(
        f"{where}: {what}. Is `format` the right one for this file? Mend the row, or skip and "
        "count such rows with --on_bad_row skip"
    )


def text(row: Row, name: str, where: str) -> str:
    """A text that must be there; raises as all of these, a RecordError."""
    value = row.get(name)
    if not isinstance(value, str):
        raise refuse(where, f"field {name!r} should hold text, found {value!r:.60}")
    return _writable(value, name, where)


def text_or(row: Row, name: str, where: str, default: str = "") -> str:
    """A text or a number as text; the default where there is none."""
    value = row.get(name)
    if value is None:
        return default
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise refuse(where, f"field {name!r} should hold text or a number, found {value!r:.60}")
    return _writable(str(value), name, where)


def texts(row: Row, name: str, where: str) -> tuple[str, ...]:
    """A list of texts."""
    value = row.get(name)
    if not isinstance(value, list) or not all(isinstance(one, str) for one in value):
        raise refuse(where, f"field {name!r} should hold a list of texts, found {value!r:.60}")
    return tuple(_writable(one, name, where) for one in value)


def whole(row: Row, name: str, where: str) -> int:
    """A whole number."""
    value = row.get(name)
    if isinstance(value, bool) or not isinstance(value, int):
        raise refuse(where, f"field {name!r} should hold a whole number, found {value!r:.60}")
    return value


def flag(row: Row, name: str, where: str) -> bool | None:
    """True, False, or None where the field is empty or absent."""
    value = row.get(name)
    if value is not None and not isinstance(value, bool):
        raise refuse(where, f"field {name!r} should be true or false, found {value!r:.60}")
    return value


def mapping(row: Row, name: str, where: str) -> Row:
    """An object."""
    value = row.get(name)
    if not isinstance(value, Mapping):
        raise refuse(where, f"field {name!r} should hold an object, found {value!r:.60}")
    return value


def mappings(row: Row, name: str, where: str) -> list[Row]:
    """A list of objects."""
    value = row.get(name)
    if not isinstance(value, list) or not all(isinstance(one, Mapping) for one in value):
        raise refuse(where, f"field {name!r} should hold a list of objects, found {value!r:.60}")
    return value


def place(value: int, num_steps: int, where: str) -> int | None:
    """The index of a first error, where -1 says that there is none."""
    if not -1 <= value < num_steps:
        raise refuse(where, f"the first wrong step is {value}, of {num_steps} steps (from 0)")
    return None if value == -1 else value


def _writable(value: str, name: str, where: str) -> str:
    if found := _LONE_SURROGATE.search(value):
        near = value[max(found.start() - 20, 0) : found.end()]
        raise refuse(where, f"field {name!r} holds half a letter, a lone surrogate: {near!r}")
    return value
