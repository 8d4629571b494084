"""Requests, settings and a sampler for the tests that ask the stub server."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Any, TypeVar

from aiohttp import web

from prm.generation.calls import Call
from prm.generation.client import Client
from prm.generation.endpoints import EndpointConfig
from prm.generation.loop_guard import LoopGuardConfig
from prm.generation.request_store import RequestStore
from prm.generation.requests import Reply, Request, SetAside
from prm.generation.server import ServerSampler
from prm.generation.server_config import ServersConfig
from prm.prices import Price
from prm.protocols import Chat, Message, Prompt, SamplingParams
from tests.stub_server import StubServer

T = TypeVar("T")

TEXT = "Problem: Calculate 3 + 9 + 4.\n"
BEGUN = "Step 1: 3 + 9 = 12\n"
PARAMS = SamplingParams(max_tokens=200)
ON, OFF = LoopGuardConfig(), LoopGuardConfig(enabled=False)
PRICES = {"test": Price(prompt=1000.0, generated=4000.0)}  # dollars that a test can count in
PATIENCE_SECONDS = 20.0


def chat(text: str = TEXT, prefix: str = "") -> Chat:
    return Chat((Message("system", "Be brief."), Message("user", text)), prefix)


def request(index: int = 0, prompt: Prompt = TEXT, **fields: Any) -> Request:
    """The request of one sample of the stub's model."""
    return Request(prompt=prompt, index=index, **({"params": PARAMS, "model": "stub"} | fields))


def problems(count: int, **fields: Any) -> list[Request]:
    """One request for each of as many problems."""
    return [request(prompt=f"Problem: Calculate 3 + {n}.\n", **fields) for n in range(count)]


def servers(*endpoints: EndpointConfig | str, **settings: Any) -> ServersConfig:
    """Settings for these endpoints; by default nothing is streamed and nothing waits long."""
    configs = [e if isinstance(e, EndpointConfig) else EndpointConfig(e) for e in endpoints]
    usual = {"loop_guard": OFF, "timeout": 5.0, "patience": 15.0, "prices": PRICES}
    return ServersConfig(endpoints=configs, **(usual | {"price": "test"} | settings))


async def sample(
    config: ServersConfig, requests: Sequence[Request], store: RequestStore | None = None
) -> list[Reply | SetAside]:
    """One call of a sampler that is made for it."""
    async with ServerSampler(config, store=store) as sampler:
        return await sampler.sample(requests)


def texts(replies: Sequence[Reply | SetAside]) -> list[str]:
    assert all(isinstance(reply, Reply) for reply in replies), replies
    return [reply.generation.text for reply in replies]


@contextlib.asynccontextmanager
async def client_of(server: StubServer, **settings: Any) -> AsyncIterator[Client]:
    client = Client(EndpointConfig(server.url, **settings), timeout=5)
    try:
        yield client
    finally:
        await client.close()


def call(prompt: Prompt = TEXT, **fields: Any) -> Call:
    return Call(prompt, **({"params": PARAMS, "model": "stub"} | fields))


@contextlib.asynccontextmanager
async def answering(handler: Callable[[web.BaseRequest], Awaitable[Any]]) -> AsyncIterator[str]:
    """The url of a server that answers every request by the handler: a response, or JSON."""

    async def respond(asked: web.BaseRequest) -> web.StreamResponse:
        found = await handler(asked)
        return found if isinstance(found, web.StreamResponse) else web.json_response(found)

    runner = web.ServerRunner(web.Server(respond), shutdown_timeout=0.1)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        yield f"http://127.0.0.1:{runner.addresses[0][1]}/v1"
    finally:
        await runner.cleanup()


def run(work: Callable[..., Awaitable[T]], *several: dict[str, Any], **options: Any) -> T:
    """What ``work`` returns when it is given a stub with these options, or one for each dict."""

    async def inside() -> T:
        async with asyncio.timeout(PATIENCE_SECONDS), contextlib.AsyncExitStack() as stack:
            stubs = [StubServer(**one) for one in several or (options,)]
            return await work(*[await stack.enter_async_context(stub) for stub in stubs])

    return asyncio.run(inside())
