"""Each fault of the stub server, as a plain HTTP client meets it."""

import asyncio
import datetime
import email.utils
import json
import time
from typing import Any

import aiohttp
import orjson
import pytest

from tests.stub_client import (
    CHAT,
    STREAM,
    TALK,
    TASK,
    TEXT,
    Json,
    ask,
    chunks_of,
    disconnected,
    joined,
    post,
    raw_stream,
    run,
)
from tests.stub_server import KINDS, Fault, StubServer


async def outcome(session: aiohttp.ClientSession, body: Json) -> tuple[Any, ...]:
    """(status, content type, body), or (what went wrong, bytes that came)."""
    received = b""
    try:
        url = CHAT if "messages" in body else TEXT
        async with session.post(url, json=body) as response:
            async for piece in response.content.iter_any():
                received += piece
            return response.status, response.content_type, received
    except (aiohttp.ClientError, TimeoutError) as error:
        return type(error), len(received)


def failed(fault: Fault | str, body: Json = TASK, **options: Any) -> tuple[Any, ...]:
    """What the fault looks like; the next request must be answered as if nothing had been."""

    async def work(server: StubServer, session: aiohttp.ClientSession) -> tuple[Any, ...]:
        found = await outcome(session, body)
        assert (await post(session, TASK))[0] == 200
        kind = fault if isinstance(fault, str) else fault.kind
        assert server.counts[f"fault:{kind}"] == 1
        assert server.counts["in_flight"] == 0
        return found

    return run(work, faults=[fault], **options)


@pytest.mark.parametrize("body", [TASK, {**TALK, **STREAM}])
def test_statuses(body: Json) -> None:
    for kind in ("429", "500", "503"):
        status, content_type, received = failed(kind, body)
        assert (status, content_type) == (int(kind), "application/json")
        assert json.loads(received)["error"]["code"] == status
    for kind, status in (("502", 502), ("504", 504), ("html_200", 200)):
        found = failed(kind, body)
        assert found[:2] == (status, "text/html")
        assert found[2].startswith(b"<html>")


def test_retry_after_comes_as_seconds_or_as_a_date() -> None:
    async def work(_: StubServer, session: aiohttp.ClientSession) -> list[str | None]:
        waits = []
        for _ in range(3):
            async with session.post(TEXT, json=TASK) as response:
                assert response.status == 429
                waits.append(response.headers.get("Retry-After"))
        return waits

    faults = [Fault("429_retry_after", 0.25), Fault("429_retry_after_date", 60), "429"]
    seconds, date, nothing = run(work, faults=faults)
    assert (seconds, nothing) == ("0.25", None)
    wait = email.utils.parsedate_to_datetime(date) - datetime.datetime.now(datetime.UTC)
    assert 55 < wait.total_seconds() <= 60


@pytest.mark.parametrize("body", [TASK, {**TASK, **STREAM}])
def test_connections_break_before_and_within_the_body(body: Json) -> None:
    assert failed("reset", body)[0] in (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError)
    error, num_bytes = failed("reset_mid_body", body)
    assert issubclass(error, (aiohttp.ClientPayloadError, aiohttp.ClientOSError))
    assert num_bytes > 50


def test_a_reset_is_a_reset_and_no_plain_end() -> None:
    async def work(server: StubServer, session: aiohttp.ClientSession) -> None:
        body = orjson.dumps(TASK)
        for _ in range(2):
            reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
            writer.write(f"POST {TEXT} HTTP/1.1\r\nHost: x\r\n".encode())
            writer.write(f"Content-Length: {len(body)}\r\n\r\n".encode() + body)
            with pytest.raises(ConnectionResetError):
                await reader.read()
            writer.close()

    run(work, faults=["reset", "reset_mid_body"])


def test_a_body_may_end_before_its_length() -> None:
    error, num_bytes = failed("truncated_stream")
    assert (error, num_bytes > 50) == (aiohttp.ClientPayloadError, True)


@pytest.mark.parametrize("kind", ["hang", "timeout", "stalled_stream"])
@pytest.mark.parametrize("body", [TASK, {**TASK, **STREAM}])
def test_some_answers_never_come(kind: str, body: Json) -> None:
    async def work(server: StubServer, session: aiohttp.ClientSession) -> tuple[Any, ...]:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.15):
                await outcome(session, body)
        await disconnected(server)
        assert server.counts["answered"] == server.counts["tokens_not_generated"] == 0

    run(work, faults=[kind])


@pytest.mark.parametrize("kind", ["timeout", "slow_first_byte"])
def test_some_answers_come_late_and_whole(kind: str) -> None:
    async def work(server: StubServer, session: aiohttp.ClientSession) -> None:
        start = time.perf_counter()
        late = await post(session, TASK)
        assert time.perf_counter() - start > 0.1
        assert late == await post(session, TASK)
        assert server.counts["answered"] == 2

    run(work, faults=[Fault(kind, 0.1)])


def test_spoiled_bodies() -> None:
    body = {**TASK, "n": 3}
    whole = ask(body)
    with pytest.raises(json.JSONDecodeError):
        json.loads(failed("broken_json", body)[2])
    spoiled = {kind: json.loads(failed(kind, body)[2]) for kind in KINDS[-6:]}
    assert set(spoiled["stream_error"]) == {"error"}
    assert spoiled["empty_choices"] == {**whole, "choices": []}
    assert spoiled["fewer_choices"] == {**whole, "choices": whole["choices"][:2]}
    assert [c["text"] for c in spoiled["null_content"]["choices"]] == [None] * 3
    assert {**spoiled["missing_usage"], "usage": whole["usage"]} == whole
    assert spoiled["wrong_content_type"] == whole
    assert failed("wrong_content_type", body)[:2] == (200, "text/plain")
    chat = json.loads(failed("null_content", TALK)[2])
    assert chat["choices"][0]["message"]["content"] is None


def test_spoiled_streams() -> None:
    body = {**TALK, "n": 2, **STREAM}
    whole = chunks_of(raw_stream({**TALK, "n": 2}))

    def stream(kind: str) -> str:
        status, _, received = failed(kind, body)
        assert status == 200
        return received.decode()

    assert "[DONE]" not in stream("truncated_stream")
    assert 10 < stream("truncated_stream").count("data: ") < len(whole)
    assert chunks_of(stream("stream_error"))[-1]["error"]["code"] == 500
    with pytest.raises(json.JSONDecodeError):
        chunks_of(stream("broken_json"))
    assert {len(chunk["choices"]) for chunk in chunks_of(stream("empty_choices"))} == {0}
    fewer = chunks_of(stream("fewer_choices"))
    assert joined(fewer, 0) == joined(whole, 0)
    assert {c["index"] for chunk in fewer for c in chunk["choices"]} == {0}
    assert joined(chunks_of(stream("null_content")), 0) == ""
    assert chunks_of(stream("missing_usage")) == whole[:-1]
    assert failed("wrong_content_type", body)[1] == "text/plain"


def test_a_function_can_choose_the_fault() -> None:
    async def work(_: StubServer, session: aiohttp.ClientSession) -> list[int]:
        bodies = [{**TASK, "seed": seed} for seed in (1, 2, 1)]
        return [(await post(session, body))[0] for body in bodies]

    found = run(work, faults=lambda n, body: "500" if body["seed"] == 1 and n < 2 else None)
    assert found == [500, 200, 200]
    with pytest.raises(ValueError, match="no such fault: 'typo'"):
        StubServer(faults=["typo"])
    with pytest.raises(ValueError, match="prefill is one of"):
        StubServer(prefill="typo")
