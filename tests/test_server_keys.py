"""Keys: where they are read, and that they appear nowhere, whatever a server says back."""

import asyncio
import contextlib
import json
import logging
import os
import subprocess
import sys
import traceback
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aiohttp import web

from prm.errors import ConfigError, GenerationError
from prm.generation.client import read_key
from prm.generation.endpoints import EndpointConfig
from prm.generation.request_store import RequestStore
from prm.generation.requests import SetAside
from prm.generation.server import ServerSampler
from tests.sample_setup import problem, words, write_problems
from tests.server_setup import ON, call, client_of, problems, request, run, sample, servers, texts
from tests.stub_server import StubServer, running_stub

ROOT = Path(__file__).parents[1]
CANARY = "sk-canary-4f1d9b7e20a68c35"
URL = "http://127.0.0.1:9/v1"


def sent_key(**settings) -> str:
    """The key that a server gets."""

    async def work(server: StubServer) -> str:
        async with client_of(server, **settings) as client:
            assert await client.models() == ["stub"]
            await client.ask(call())
            await client.stream(call(), ON, "final")
        assert server.counts["refused"] == 0
        keys = {one["headers"]["authorization"] for one in server.requests}
        assert len(server.requests) == 2
        (key,) = keys
        return key

    return run(work, record=True, api_key=CANARY)


def test_a_key_comes_from_the_environment(monkeypatch):
    monkeypatch.setenv("MY_KEY", f" {CANARY}\n")
    assert sent_key(api_key_env="MY_KEY") == f"Bearer {CANARY}"


def test_a_key_comes_from_a_file(monkeypatch, tmp_path):
    (tmp_path / "key").write_text(CANARY + "\n", encoding="utf-8")
    assert sent_key(api_key_file=str(tmp_path / "key")) == f"Bearer {CANARY}"
    monkeypatch.setenv("HOME", str(tmp_path))
    assert sent_key(api_key_file="~/key") == f"Bearer {CANARY}"


def test_no_other_key_of_the_environment_is_sent(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", CANARY)

    async def work(server: StubServer) -> None:
        assert len(texts(await sample(servers(server.url), [request()]))) == 1
        assert CANARY not in str(server.requests)

    run(work, record=True)


def test_a_key_that_is_missing_is_an_error_that_says_where_it_was_looked_for(monkeypatch, tmp_path):
    monkeypatch.delenv("MY_KEY", raising=False)
    by_env = servers(EndpointConfig(URL, api_key_env="MY_KEY"))
    with pytest.raises(ConfigError, match="127.0.0.1:9: the environment variable MY_KEY has no"):
        ServerSampler(by_env)
    monkeypatch.setenv("MY_KEY", "  ")
    with pytest.raises(ConfigError, match="MY_KEY has no key"):
        ServerSampler(by_env)
    path = tmp_path / "key"
    by_file = servers(EndpointConfig(URL, api_key_file=str(path)))
    with pytest.raises(ConfigError, match=f"{path}.*No such file"):
        ServerSampler(by_file)
    path.write_text("\n", encoding="utf-8")
    with pytest.raises(ConfigError, match=f"the file {path} has no key"):
        ServerSampler(by_file)
    with pytest.raises(ConfigError, match=f"{tmp_path}.*directory"):
        ServerSampler(servers(EndpointConfig(URL, api_key_file=str(tmp_path))))


@pytest.mark.parametrize(
    "content", [b"OPENAI=sk canary", b"sk-can\nsk-ary", b"sk-can\xc3\xa9", b"\xff"]
)
def test_what_is_no_key_is_refused_without_being_shown(content, tmp_path):
    """The HTTP client would raise on it later, with the key in its words."""
    (tmp_path / "key").write_bytes(content)
    with pytest.raises(ConfigError, match="a key is one word of ASCII|no key in") as caught:
        read_key(EndpointConfig(URL, api_key_file=str(tmp_path / "key")))
    said = "".join(traceback.format_exception(caught.value)) + repr(chain(caught.value))
    assert "canary" not in said
    assert "sk-can" not in said


# A server that says the key back, in each way that a server can fail


def echo(text: str) -> dict:
    return {"error": {"message": f"refused, you sent {text}", "type": "x", "code": text}}


def body_of(kind: str, said: str) -> bytes:
    """The reply's body; ``said`` is the Authorization header."""
    match kind.partition(" ")[2]:
        case "page":
            return f"<html>{said}</html>".encode()
        case "words":
            return said.encode()
        case "event error":
            return f"data: {json.dumps(echo(said))}\n\n".encode()
        case "event words":
            return f"data: {said}\n\n".encode()
        case "no choices":
            return json.dumps({"choices": [], "note": said}).encode()
        case "no text":
            choice = {"note": said, "message": {"content": None}, "delta": {}}
            return json.dumps({"choices": [choice]}).encode()
        case "odd":
            return json.dumps({"choices": said}).encode()
        case "key alone":
            return json.dumps({"detail": f"invalid: {said.removeprefix('Bearer ')}"}).encode()
        case "late in a long page":
            return ("x" * 60 + said + "\n" + "x" * 400 + said).encode()
    return json.dumps(echo(said)).encode()


ECHOES = ["400", "401", "403", "404", "409", "413", "422", "429", "500", "503"]
ECHOES += ["400 key alone", "401 key alone", "500 page", "502 words", "500 late in a long page"]
ECHOES += ["200", "200 page", "200 words", "200 event error", "200 event words", "200 no choices"]
ECHOES += ["200 no text", "200 odd", "200 late in a long page"]


@contextlib.asynccontextmanager
async def echoing(kind: str, *, also_models: bool) -> AsyncIterator[str]:
    """The url of a server that fails in this way, and the key is in its headers too."""

    async def answer(asked: web.BaseRequest) -> web.StreamResponse:
        if asked.path == "/v1/models" and not also_models:
            return web.json_response({"data": [{"id": "stub"}]})
        said = asked.headers["Authorization"]
        is_stream = b'"stream":true' in await asked.read()
        headers = {"content-type": "text/event-stream"} if is_stream else {}
        headers |= {"x-you-sent": said, "x-request-id": said, "set-cookie": f"auth={said}"}
        body, status = body_of(kind, said), int(kind[:3])
        return web.Response(status=status, reason=said, body=body, headers=headers)

    runner = web.ServerRunner(web.Server(answer, access_log=None))
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        yield f"http://127.0.0.1:{runner.addresses[0][1]}/v1"
    finally:
        await runner.cleanup()


def chain(error: BaseException) -> list[BaseException]:
    """The error with all causes and contexts, hidden ones too."""
    found: list[BaseException] = []
    rest: list[BaseException | None] = [error]
    while rest:
        one = rest.pop()
        if one is not None and one not in found:
            found.append(one)
            rest += [one.__cause__, one.__context__]
    return found


def told(error: BaseException) -> str:
    """All that a traceback or a log can show of an error."""
    parts = ["".join(traceback.format_exception(error))]
    for one in chain(error):
        parts += [str(one), repr(one), repr(one.args)]
    return "\n".join(parts)


def all_logs(caplog: pytest.LogCaptureFixture) -> str:
    lines = []
    for record in caplog.records:
        lines += [logging.Formatter().format(record), repr(record.args), repr(record.__dict__)]
    return "\n".join(lines)


@pytest.fixture
def logs(caplog):
    """Every logger at DEBUG."""
    for name in (None, "openai", "httpx2", "httpcore2", "aiohttp", "aiohttp.client", "asyncio"):
        caplog.set_level(logging.DEBUG, logger=name)
    return caplog


@pytest.mark.parametrize("also_models", [False, True])
@pytest.mark.parametrize("streams", [False, True])
def test_a_key_that_a_server_says_back_is_nowhere(
    streams, also_models, logs, monkeypatch, tmp_path
):
    monkeypatch.setenv("MY_KEY", CANARY)
    settings = {"loop_guard": ON} if streams else {}

    async def work(kind: str, folder: Path) -> str:
        """What is said of one way to fail: by the reply, or by the error."""
        async with echoing(kind, also_models=also_models) as url:
            endpoint = EndpointConfig(url, api_key_env="MY_KEY")
            # One failure is enough, and nobody waits.
            config = servers(endpoint, tries=1, patience=0.0, **settings)
            with RequestStore(folder) as store:
                async with ServerSampler(config, store=store) as sampler:
                    try:
                        found = await sampler.sample([request()])
                    except GenerationError as error:
                        return told(error)
                    finally:
                        reasons = repr([state.reason for state in sampler.pool.state()])
                        assert CANARY not in reasons
                        assert CANARY not in repr([sampler.config, sampler.counts])
                assert all(isinstance(one, SetAside) for one in found)
                return repr(found)

    async def all_kinds() -> list[str]:
        folders = [tmp_path / str(number) for number in range(len(ECHOES))]
        works = [work(*case) for case in zip(ECHOES, folders, strict=True)]
        async with asyncio.timeout(15):
            return await asyncio.gather(*works)

    outcomes = dict(zip(ECHOES, asyncio.run(all_kinds()), strict=True))
    for kind, said in outcomes.items():
        assert CANARY not in said, kind
        assert CANARY[:12] not in said, kind
    # The server's own words are there: it is the key that was taken out, not the reason.
    assert "[key]" in outcomes["401"]
    assert "you sent" in outcomes["401"]
    assert len(logs.records) > len(ECHOES)
    leaks = {r.name for r in logs.records if CANARY in logging.Formatter().format(r)}
    assert leaks == set()
    assert CANARY not in all_logs(logs)
    kept = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert len(kept) >= len(ECHOES)
    assert all(CANARY.encode() not in path.read_bytes() for path in kept)


def test_the_key_is_not_in_what_lies_behind_an_end_of_patience(monkeypatch):
    """An error that is raised while a fault is handled carries the fault along."""
    monkeypatch.setenv("MY_KEY", CANARY)

    async def work(server: StubServer) -> str:
        endpoint = EndpointConfig(server.url, api_key_env="MY_KEY", concurrency=20)
        with pytest.raises(GenerationError, match="servers.patience") as caught:
            await sample(servers(endpoint, patience=0.0), problems(20))
        return told(caught.value)

    said = run(work, api_key=CANARY, max_in_flight=1, latency_ms=20)
    assert "[key]" in said
    assert CANARY not in said


def test_a_whole_job_leaves_no_trace_of_the_key(tmp_path):
    """Some prompts are too long for the server, whose errors say the key back."""
    long = problem(6, "Calculate 1 + 2 - 3. " + "word " * 300)
    folder = write_problems(tmp_path / "problems", [*map(problem, range(6)), long])
    output = tmp_path / "solutions"
    with running_stub(api_key=CANARY, answer="arithmetic", max_context=250) as stub:
        command = [sys.executable, "-m", "data_gen.sample", *words(folder, output, stub.url)]
        endpoint = [{"url": stub.url, "api_key_env": "MY_KEY"}]
        command += ["--generator.servers.endpoints", json.dumps(endpoint)]
        found = subprocess.run(
            command,
            cwd=ROOT,
            env={**os.environ, "MY_KEY": CANARY, "OPENAI_LOG": "debug"},
            capture_output=True,
            timeout=60,
            check=False,
        )
        counts = stub.counts()
    assert found.returncode == 0, found.stderr.decode()
    assert counts["answered"] > 0
    assert counts["refused"] > 0
    assert b"debug" in found.stderr.lower()
    said = found.stdout + found.stderr
    assert CANARY.encode() not in said
    kept = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert {path.suffix for path in kept} >= {".jsonl", ".json", ".sqlite"}  # .json: the manifest
    for path in kept:
        assert CANARY.encode() not in path.read_bytes(), path
