"""A plain HTTP client of the stub server, for its own tests: it knows nothing of ours."""

import asyncio
import json
import logging
from collections.abc import Awaitable, Callable
from typing import Any

import aiohttp

from tests.stub_server import StubServer

TEXT, CHAT = "/v1/completions", "/v1/chat/completions"
HELLO = [{"role": "user", "content": "Problem: Calculate 3 + 9 + 4."}]
TASK = {"model": "stub", "prompt": "Problem: Calculate 3 + 9 + 4.\n", "max_tokens": 64, "seed": 7}
TALK = {"model": "stub", "messages": HELLO, "max_tokens": 64, "seed": 7}
STREAM = {"stream": True, "stream_options": {"include_usage": True}}

Json = dict[str, Any]
Work = Callable[[StubServer, aiohttp.ClientSession], Awaitable[Any]]


class _Errors(logging.Handler):
    """Keeps what the web server logs when a handler raises: it then answers 500 by itself."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(self.format(record))


def run(work: Work, **options: Any) -> Any:
    """What ``work`` returns when it is given a server with these options and a session to it."""
    errors = _Errors()
    logger = logging.getLogger("aiohttp")

    async def inside() -> Any:
        async with StubServer(**options) as server:
            base = f"http://127.0.0.1:{server.port}"
            timeout = aiohttp.ClientTimeout(total=5)
            async with aiohttp.ClientSession(base, timeout=timeout) as session:
                return await work(server, session)

    logger.addHandler(errors)
    try:
        return asyncio.run(inside())
    finally:
        logger.removeHandler(errors)
        assert errors.lines == []


async def post(session: aiohttp.ClientSession, body: Json) -> tuple[int, Json]:
    async with session.post(CHAT if "messages" in body else TEXT, json=body) as response:
        return response.status, await response.json()


async def disconnected(server: StubServer) -> None:
    """Wait until the server has noticed that a client has left."""
    async with asyncio.timeout(5):
        while server.counts["disconnected"] == 0:
            await asyncio.sleep(0.005)
    assert server.counts["disconnected"] == 1


def ask(body: Json, **options: Any) -> Json:
    """The JSON of one answer."""
    status, payload = run(lambda _, session: post(session, body), **options)
    assert status == 200, payload
    return payload


def texts(payload: Json) -> list[str]:
    return [c["text"] if "text" in c else c["message"]["content"] for c in payload["choices"]]


def raw_stream(body: Json, **options: Any) -> str:
    async def work(_: StubServer, session: aiohttp.ClientSession) -> str:
        url = CHAT if "messages" in body else TEXT
        async with session.post(url, json={**body, **STREAM}) as response:
            assert response.headers["Content-Type"] == "text/event-stream"
            return (await response.read()).decode()

    return run(work, **options)


def chunks_of(raw: str) -> list[Json]:
    *events, end, nothing = raw.split("\n\n")
    assert (end, nothing) == ("data: [DONE]", "")
    return [json.loads(event.removeprefix("data: ")) for event in events]


def joined(chunks: list[Json], index: int, field: str = "content") -> str:
    parts = [c for chunk in chunks for c in chunk["choices"] if c["index"] == index]
    return "".join(p["text"] if "text" in p else p["delta"].get(field) or "" for p in parts)
