"""A local server that speaks the OpenAI API, answers by hash and misbehaves on demand.

    python -m tests.stub_server --port 0 --port-file F --latency-ms 50 \
        --fault-rate 0.1 --fault-seed 3 --faults 429,500,reset,hang

In a test: ``async with StubServer(faults=["429", None, "reset"], record=True) as server`` in the
same loop, or ``with running_stub(latency_ms=50) as stub`` as a process that can be killed.
Options: tests/stub_options.py; answers: tests/stub_answers.py; their JSON: tests/stub_wire.py;
faults: tests/stub_faults.py. Beside the API: GET /health, /stub/counts and /stub/requests.
"""

from __future__ import annotations

import argparse
import asyncio
import collections
import contextlib
import dataclasses
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson
from aiohttp import web

from tests.stub_answers import Answer, Body, answer_request
from tests.stub_faults import (
    KINDS,
    CutByServer,
    Fault,
    FaultPlan,
    Faults,
    drawn_faults,
    fail_early,
    send_spoiled,
    send_spoiled_stream,
)
from tests.stub_options import Gate, Refusal, StubOptions
from tests.stub_process import RunningStub, running_stub
from tests.stub_wire import DONE, Wire, error_body, json_response, sse

__all__ = ["KINDS", "Fault", "RunningStub", "StubOptions", "StubServer", "running_stub"]

EVENTS_A_WRITE = 64  # of a stream without delay: a system call a token would be the main cost


class StubServer:
    """The server; as an async context manager it listens while the block runs.

    ``counts``: requests, refused, answered (rightly and whole), disconnected (clients that left),
    tokens_not_generated (thanks to that; without the requests that met a fault), prompt_tokens,
    generated_tokens, in_flight, max_in_flight, and ``fault:KIND``. ``requests``: with ``record``,
    ``{"path", "headers", "body"}`` of each POST, in order of arrival.
    """

    def __init__(self, *, faults: Faults = (), port: int = 0, **options: Any) -> None:
        self.options = StubOptions(**options)
        self.counts: collections.Counter[str] = collections.Counter()
        self.requests: list[Body] = []
        self.port = port
        self._plan = FaultPlan(faults)
        self._gate = Gate(self.options)
        self._wire = Wire(
            reasoning=self.options.reasoning,
            usage=not self.options.no_usage,
            cached_share=self.options.cached_share,
            continuous=self.options.continuous_usage,
        )
        self._is_closing = False
        server = web.Server(self._handle, access_log=None, handler_cancellation=True)
        self._runner = web.ServerRunner(server, shutdown_timeout=0.05)

    @property
    def url(self) -> str:
        """The base URL that an OpenAI client wants."""
        return f"http://127.0.0.1:{self.port}/v1"

    async def __aenter__(self) -> StubServer:
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", self.port, backlog=4096).start()
        self.port = self._runner.addresses[0][1]
        return self

    async def __aexit__(self, *exception: object) -> None:
        self._is_closing = True
        await self._runner.cleanup()

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        if request.method == "POST":
            try:
                return await self._post(request)
            except ConnectionError:
                return web.Response()  # to nobody: the connection is closed
        match request.path:
            case "/health":
                return web.Response()
            case "/v1/models" if not self.options.lists_no_models:
                refusal = self._gate.check_key(request.headers)
                return self._refuse(request, refusal) if refusal else self._list_models()
            case "/stub/counts":
                return json_response(dict(self.counts))
            case "/stub/requests":
                return json_response({"requests": self.requests})
        return self._refuse(request, Refusal(404, "Not Found", "NotFoundError"))

    async def _post(self, request: web.BaseRequest) -> web.StreamResponse:
        number = self.counts["requests"]
        self.counts["requests"] += 1
        try:
            body = orjson.loads(await request.read())
        except orjson.JSONDecodeError as error:
            return self._refuse(request, Refusal(400, f"invalid JSON: {error}", "BadRequestError"))
        if self.options.record:
            headers = {name.decode(): value.decode() for name, value in request.raw_headers}
            self.requests.append({"path": request.path, "headers": headers, "body": body})
        refusal = self._gate.check_key(request.headers)
        refusal = refusal or self._gate.check_request(request.path, body)
        refusal = refusal or self._gate.check_load(self.counts["in_flight"])
        if refusal is not None:
            return self._refuse(request, refusal)
        fault = self._plan.draw(number, body)
        if self._gate.is_poison(body):
            fault = Fault("500")
        return await self._answer(request, body, fault)

    def _list_models(self) -> web.Response:
        card: Body = {"id": self.options.model, "object": "model", "owned_by": "stub"}
        if self.options.max_context:
            card["max_model_len"] = self.options.max_context
        return json_response({"object": "list", "data": [card]})

    def _refuse(self, request: web.BaseRequest, refusal: Refusal) -> web.Response:
        self.counts["refused"] += 1
        message = refusal.message
        if self.options.api_key:
            message += f" (Authorization: {request.headers.get('Authorization')})"
        response = json_response(
            error_body(message, refusal.status, refusal.kind), status=refusal.status
        )
        if refusal.retry_after is not None:
            response.headers["Retry-After"] = str(refusal.retry_after)
        return response

    async def _answer(
        self, request: web.BaseRequest, body: Body, fault: Fault | None
    ) -> web.StreamResponse:
        """Answer, and count whether that went well, failed as ordered, or was not waited for."""
        options, counts = self.options, self.counts
        asked = {**body, "n": 1} if options.no_n else body
        answer = answer_request(
            asked, mode=options.answer, prefill=options.prefill, think_words=options.think_words
        )
        reply = _Reply(request, asked, answer, fault)
        if fault is not None:
            counts[f"fault:{fault.kind}"] += 1
        counts["in_flight"] += 1
        counts["max_in_flight"] = max(counts["max_in_flight"], counts["in_flight"])
        try:
            response = await self._send(reply)
        except CutByServer:
            raise
        except (asyncio.CancelledError, ConnectionError):
            if not self._is_closing:
                counts["disconnected"] += 1
                unsent = answer.generated_tokens - reply.tokens_sent
                counts["tokens_not_generated"] += unsent if fault is None else 0
            raise
        finally:
            counts["in_flight"] -= 1
        if fault is None or fault.only_delays:
            counts["answered"] += 1
            counts["prompt_tokens"] += answer.prompt_tokens
            counts["generated_tokens"] += answer.generated_tokens
        return response

    async def _send(self, reply: _Reply) -> web.StreamResponse:
        """Wait as long as the answer takes, then send it, or what the fault makes of it."""
        await asyncio.sleep(self._latency(reply))
        if reply.fault is not None:
            response = await fail_early(reply.request, reply.fault)
            if response is not None:
                return response
        if reply.body.get("stream"):
            return await self._stream(reply)
        payload = self._wire.payload(reply.body, reply.answer)
        if reply.fault is None:
            return json_response(payload)
        return await send_spoiled(reply.request, payload, reply.fault)

    def _latency(self, reply: _Reply) -> float:
        """Seconds until the first byte."""
        options = self.options
        load = self.counts["in_flight"] / options.capacity if options.capacity else 1.0
        latency = options.latency_ms * max(1.0, load)
        if not reply.body.get("stream"):
            latency += options.token_ms * reply.answer.generated_tokens
        return latency / 1000

    async def _stream(self, reply: _Reply) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        fault = reply.fault
        if fault is not None and fault.kind == "wrong_content_type":
            response.content_type = "text/plain"
        await response.prepare(reply.request)
        events = self._wire.events(reply.body, reply.answer)
        if fault is not None and not fault.only_delays:
            await send_spoiled_stream(reply.request, response, events, fault)
            return response
        delay = self.options.chunk_delay_ms / 1000
        for batch, num_tokens in _batches(events, 1 if delay else EVENTS_A_WRITE):
            # Without a delay too: other requests take their turn, and a client's end is noticed.
            await asyncio.sleep(delay)
            await response.write(batch)
            reply.tokens_sent += num_tokens
        await response.write(DONE)
        return response


@dataclasses.dataclass(slots=True)
class _Reply:
    """A request on its way: what it gets, and how much of that it has got."""

    request: web.BaseRequest
    body: Body
    answer: Answer
    fault: Fault | None
    tokens_sent: int = 0


def _batches(events: Iterator[tuple[Body, int]], size: int) -> Iterator[tuple[bytes, int]]:
    """The events as bytes, so many a write, with the number of tokens in them."""
    lines: list[bytes] = []
    num_tokens = 0
    for chunk, tokens in events:
        lines.append(sse(chunk))
        num_tokens += tokens
        if len(lines) == size:
            yield b"".join(lines), num_tokens
            lines, num_tokens = [], 0
    if lines:
        yield b"".join(lines), num_tokens


def _parser() -> argparse.ArgumentParser:
    """An option for each field of StubOptions, and those of the process and the faults."""
    parser = argparse.ArgumentParser(prog="python -m tests.stub_server")
    parser.add_argument("--port", type=int, default=0, help="0 = any free one")
    parser.add_argument("--port-file", type=Path, help="written when requests are taken")
    parser.add_argument("--with-parent", action="store_true", help="end when the parent ends")
    parser.add_argument("--faults", default="429,500,502,reset,broken_json", help=",".join(KINDS))
    parser.add_argument("--fault-rate", type=float, default=0.0, help="share of the requests")
    parser.add_argument("--fault-seed", type=int, default=0)
    parser.add_argument("--fault-limit", type=int, default=0, help="faults at most; 0 = no limit")
    for field in dataclasses.fields(StubOptions):
        flag = "--" + field.name.replace("_", "-")
        if isinstance(field.default, bool):
            parser.add_argument(flag, action="store_true")
        else:
            parser.add_argument(flag, type=type(field.default), default=field.default)
    return parser


async def serve(settings: dict[str, Any]) -> None:
    """Listen until the process ends, or with ``with_parent`` until its parent does."""
    port_file, with_parent = settings.pop("port_file"), settings.pop("with_parent")
    settings["faults"] = drawn_faults(
        settings["faults"].split(","),
        rate=settings.pop("fault_rate"),
        seed=settings.pop("fault_seed"),
        limit=settings.pop("fault_limit"),
    )
    parent = os.getppid()
    async with StubServer(**settings) as server:
        if port_file is not None:
            part = port_file.with_suffix(".part")
            part.write_text(str(server.port), encoding="utf-8")
            os.replace(part, port_file)
        while not with_parent or os.getppid() == parent:
            await asyncio.sleep(1)


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(serve(vars(_parser().parse_args())))
