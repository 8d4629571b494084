"""What can go wrong with an answer, on demand: the kinds, when they come, how they look.

Before the first byte, streamed or not:

    429  429_retry_after (seconds)  429_retry_after_date  500  502 and 504 (a proxy's page)  503
    html_200 (the page with status 200)  reset  hang (never a byte)
    timeout (the answer, but late)  slow_first_byte (a little late)

In the body, or in the middle of the stream:

    reset_mid_body    half of what the length promised, then RST
    truncated_stream  the stream ends early and without [DONE]; a body ends before its length
    stalled_stream    half of it, then nothing
    broken_json       half a body with status 200; one broken event in the stream
    stream_error      an error object with status 200, in the stream as vLLM sends it
    empty_choices     fewer_choices (the last is missing)     null_content
    missing_usage     wrong_content_type (text/plain)
"""

from __future__ import annotations

import asyncio
import dataclasses
import datetime
import email.utils
import random
import socket
import struct
from collections.abc import Callable, Iterator, Sequence

import orjson
from aiohttp import web

from tests.stub_answers import Body
from tests.stub_wire import DONE, error_body, json_response, sse

# The kinds, with the seconds that they wait or tell the client to wait unless told otherwise.
SECONDS = {"429": 0.0, "429_retry_after": 1.0, "429_retry_after_date": 1.0, "500": 0.0}
SECONDS |= {"502": 0.0, "503": 0.0, "504": 0.0, "html_200": 0.0, "reset": 0.0, "hang": 0.0}
SECONDS |= {"timeout": 30.0, "slow_first_byte": 0.5, "reset_mid_body": 0.0, "broken_json": 0.0}
SECONDS |= {"truncated_stream": 0.0, "stalled_stream": 0.0, "stream_error": 0.0}
SECONDS |= {"empty_choices": 0.0, "fewer_choices": 0.0, "null_content": 0.0}
SECONDS |= {"missing_usage": 0.0, "wrong_content_type": 0.0}
KINDS = tuple(SECONDS)

PAGE = b"<html><body><center><h1>Bad Gateway</h1></center><hr>nginx</body></html>"
READ_SECONDS = 0.02  # RST may overtake what the client has not read yet


class CutByServer(ConnectionResetError):
    """The server itself has ended the connection, as it was told to."""


@dataclasses.dataclass(frozen=True, slots=True)
class Fault:
    """One thing that goes wrong; ``seconds`` is its delay or its Retry-After, None = usual."""

    kind: str
    seconds: float | None = None

    def __post_init__(self) -> None:
        if self.kind not in SECONDS:
            raise ValueError(f"no such fault: {self.kind!r}; there are {KINDS}")

    @property
    def wait(self) -> float:
        return SECONDS[self.kind] if self.seconds is None else self.seconds

    @property
    def only_delays(self) -> bool:
        """Whether the right answer comes in the end."""
        return self.kind in ("timeout", "slow_first_byte")


FaultOrKind = Fault | str | None
Faults = Sequence[FaultOrKind] | Callable[[int, Body], FaultOrKind]
"""What the n-th POST meets (nothing after the list's end), or a function of (n, body)."""


class FaultPlan:
    """Which request meets which fault."""

    def __init__(self, faults: Faults) -> None:
        self._faults = faults
        if not callable(faults):
            self._faults = [Fault(fault) if isinstance(fault, str) else fault for fault in faults]

    def draw(self, number: int, body: Body) -> Fault | None:
        """The fault of the n-th POST, counted from 0 with the refused ones."""
        if callable(self._faults):
            fault = self._faults(number, body)
        else:
            fault = self._faults[number] if number < len(self._faults) else None
        return Fault(fault) if isinstance(fault, str) else fault


def drawn_faults(
    kinds: Sequence[str], *, rate: float, seed: int, limit: int
) -> Callable[[int, Body], Fault | None]:
    """Faults at random, by seed and number of the request; ``limit`` of them at most, 0 = any."""
    faults = [Fault(kind) for kind in kinds]
    num_drawn = 0

    def draw(number: int, body: Body) -> Fault | None:
        nonlocal num_drawn
        rng = random.Random(f"{seed}/{number}")
        if rng.random() >= rate or (limit and num_drawn >= limit):
            return None
        num_drawn += 1
        return rng.choice(faults)

    return draw


async def fail_early(request: web.BaseRequest, fault: Fault) -> web.StreamResponse | None:
    """The reply of a fault that comes instead of the answer; None: the answer is still to come.

    Raises:
        CutByServer: the connection was reset.
    """
    match fault.kind:
        case "429" | "429_retry_after" | "429_retry_after_date":
            return _too_many(fault)
        case "500" | "503":
            status = int(fault.kind)
            return json_response(_dead(status), status=status)
        case "502" | "504" | "html_200":
            status = int(fault.kind.removeprefix("html_"))
            return web.Response(body=PAGE, status=status, content_type="text/html")
        case "hang":
            await asyncio.Event().wait()
        case "reset":
            raise _reset(request)
        case "timeout" | "slow_first_byte":
            await asyncio.sleep(fault.wait)
    return None


async def send_spoiled(request: web.BaseRequest, payload: Body, fault: Fault) -> web.StreamResponse:
    """Send the JSON answer with the fault in it.

    Raises:
        CutByServer: the body was left unfinished.
    """
    if fault.kind == "stream_error":
        return json_response(_dead(500))
    content_type = "text/plain" if fault.kind == "wrong_content_type" else "application/json"
    raw = orjson.dumps(_spoil([payload], fault)[0])
    half = raw[: len(raw) // 2]
    if fault.kind in ("reset_mid_body", "truncated_stream", "stalled_stream"):
        response = web.StreamResponse(headers={"Content-Length": str(len(raw))})
        response.content_type = content_type
        await response.prepare(request)
        await response.write(half)
        raise await _cut(request, fault)
    body = half if fault.kind == "broken_json" else raw
    return web.Response(body=body, content_type=content_type)


async def send_spoiled_stream(
    request: web.BaseRequest,
    response: web.StreamResponse,
    events: Iterator[tuple[Body, int]],
    fault: Fault,
) -> None:
    """Send the stream with the fault in it; what happens midway comes after half of the chunks.

    Raises:
        CutByServer: the stream was left unfinished.
    """
    lines = [sse(chunk) for chunk in _spoil([chunk for chunk, _ in events], fault)]
    half = len(lines) // 2
    await response.write(b"".join(lines[:half]))
    rest = lines[half:]
    if fault.kind == "truncated_stream":
        return
    if fault.kind in ("reset_mid_body", "stalled_stream"):
        raise await _cut(request, fault)
    if fault.kind == "stream_error":
        rest = [sse(_dead(500))]
    if fault.kind == "broken_json":
        rest[0] = rest[0][: len(rest[0]) // 2] + b"\n\n"
    await response.write(b"".join(rest) + DONE)


def _too_many(fault: Fault) -> web.Response:
    response = json_response(error_body("Rate limit reached", 429, "RateLimitError"), status=429)
    if fault.kind == "429_retry_after":
        response.headers["Retry-After"] = f"{fault.wait:g}"
    if fault.kind == "429_retry_after_date":
        date = datetime.datetime.now(datetime.UTC) + datetime.timedelta(seconds=fault.wait)
        response.headers["Retry-After"] = email.utils.format_datetime(date, usegmt=True)
    return response


def _dead(status: int) -> Body:
    return error_body("EngineCore encountered an issue.", status, "InternalServerError")


def _spoil(payloads: Sequence[Body], fault: Fault) -> list[Body]:
    """The answer, or the chunks of it, without what the fault takes away."""
    if fault.kind == "empty_choices":
        return [{**payload, "choices": []} for payload in payloads]
    if fault.kind == "null_content":
        return [{**p, "choices": [_empty(choice) for choice in p["choices"]]} for p in payloads]
    if fault.kind == "missing_usage":
        kept = [payload for payload in payloads if payload["choices"]]
        return [{k: v for k, v in payload.items() if k != "usage"} for payload in kept]
    if fault.kind == "fewer_choices":
        return _without_last(payloads)
    return list(payloads)


def _empty(choice: Body) -> Body:
    """The choice with null where its text was."""
    for field in ("message", "delta"):
        if field in choice:
            return {**choice, field: {**choice[field], "content": None}}
    return {**choice, "text": None}


def _without_last(payloads: Sequence[Body]) -> list[Body]:
    """The payloads without the sample that has the highest index."""
    last = max(choice["index"] for payload in payloads for choice in payload["choices"])
    kept = []
    for payload in payloads:
        choices = [choice for choice in payload["choices"] if choice["index"] != last]
        # A stream's chunk of that sample is not sent; the whole answer and the usage are.
        if choices or "usage" in payload:
            kept.append({**payload, "choices": choices})
    return kept


async def _cut(request: web.BaseRequest, fault: Fault) -> CutByServer:
    """Leave what is half sent: stall until the client goes, reset the connection or close it."""
    if fault.kind == "stalled_stream":
        await asyncio.Event().wait()
    await asyncio.sleep(READ_SECONDS)
    if fault.kind == "reset_mid_body":
        return _reset(request)
    if request.transport is not None:
        request.transport.close()
    return CutByServer("closed on demand")


def _reset(request: web.BaseRequest) -> CutByServer:
    """Send RST: a socket that lingers for no time throws away what is left to say."""
    if request.transport is not None:
        connection = request.transport.get_extra_info("socket")
        linger_for_no_time = struct.pack("ii", 1, 0)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger_for_no_time)
        request.transport.abort()
    return CutByServer("reset on demand")
