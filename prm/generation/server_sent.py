"""Server-sent events of the OpenAI API: ``data: {...}`` lines, ended by ``data: [DONE]``."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import orjson

from prm.generation.faults import Fault
from prm.generation.replies import quoted

_DONE = b"[DONE]"


async def events(chunks: AsyncIterator[bytes]) -> AsyncIterator[dict[str, Any]]:
    """The JSON objects of a stream, from its bytes as they come, cut anywhere.

    Raises:
        Fault: a line is no event, or no JSON.
    """
    rest = b""
    async for chunk in chunks:
        *lines, rest = (rest + chunk).split(b"\n")
        for line in lines:
            if not line.startswith(b"data:"):
                _check_other(line)
                continue
            data = line[5:].strip()
            if data == _DONE:
                return
            yield _parse(data)
    # An event that was cut off is none; an error page without a line's end is worth its words.
    if not rest.startswith(b"data:"):
        _check_other(rest)


def _check_other(line: bytes) -> None:
    """Blank lines, comments and other fields are part of the format; anything else is not."""
    word = line.strip()
    if word and not word.startswith((b":", b"event:", b"id:", b"retry:")):
        raise Fault("bad_reply", f"no event stream: {quoted(line)}")


def _parse(data: bytes) -> dict[str, Any]:
    try:
        value = orjson.loads(data)
    except orjson.JSONDecodeError as error:
        raise Fault("bad_reply", f"an event is not JSON: {quoted(data)}") from error
    if not isinstance(value, dict):
        raise Fault("bad_reply", f"an event is no object: {quoted(data)}")
    return value
