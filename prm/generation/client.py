"""One OpenAI-compatible endpoint: one request, its samples, and what can go wrong with it.

The transport is the ``openai`` async client on aiohttp. Replies are read as plain JSON: servers
differ in what they leave out, and building the client's own objects costs more than the parsing.
A request that may loop is streamed, so that it can be stopped; the others are not.
"""

from __future__ import annotations

import asyncio
import logging
import os
import re
from pathlib import Path
from typing import Any, Literal, cast

from prm.errors import ConfigError, MissingExtraError
from prm.generation.calls import Call, Watch
from prm.generation.endpoints import EndpointConfig
from prm.generation.faults import Fault
from prm.generation.loop_guard import LoopGuardConfig
from prm.ledger import Ledger

try:
    import httpx2
    import openai

    from prm.generation.http_errors import ERRORS, KeyFilter, fault_of, scrub
    from prm.generation.replies import Answer, Streamed, parse_json, read_answer
    from prm.generation.server_sent import events
except ImportError as error:
    raise MissingExtraError(
        "servers are asked with the openai client: pip install 'stepwise-prm[datagen]'"
    ) from error

StreamUsage = Literal["continuous", "final", "none"]

_CONNECT_SECONDS = 10.0
# For the list of models: a server that is slow with it is asked without.
_LIST_SECONDS = 10.0
_LOG = logging.getLogger(__name__)
_FAILURES: tuple[type[Exception], ...] = (*ERRORS, Fault)
# The client insists on a key; a server that asks for none is not sent one.
_NO_KEY = cast(dict[str, str], {"Authorization": openai.Omit()})


class Client:
    """Asks one endpoint. Raises `Fault` for everything that can go wrong with a request."""

    def __init__(self, endpoint: EndpointConfig, *, timeout: float) -> None:
        """``timeout``: seconds without a byte until a request counts as hung."""
        self.endpoint = endpoint
        self._key = read_key(endpoint)
        self._headers = {} if self._key else _NO_KEY
        self._log_filter = KeyFilter(self._key)
        self._log_filter.attach()
        self._openai = openai.AsyncOpenAI(
            base_url=endpoint.url,
            api_key=self._key or "none",
            max_retries=0,
            timeout=httpx2.Timeout(timeout, connect=min(timeout, _CONNECT_SECONDS)),
            # 0 = no limit: how many run side by side is the pool's business.
            http_client=openai.DefaultAioHttpClient(limits=httpx2.Limits(max_connections=0)),
        )

    async def close(self) -> None:
        """Close all connections."""
        await self._openai.close()
        self._log_filter.detach()

    async def models(self, timeout: float = _LIST_SECONDS) -> list[str]:
        """The names of the models that the endpoint serves; empty when it does not tell.

        Raises:
            Fault: it could not be asked, or has not told within ``timeout`` seconds.
        """
        try:
            async with asyncio.timeout(timeout):
                reply = await self._get("/models")
        except TimeoutError:
            raise Fault("timeout", f"no list of models within {timeout:g} s") from None
        rows = reply.get("data") if isinstance(reply, dict) else None
        return [row["id"] for row in rows or [] if isinstance(row, dict) and "id" in row]

    async def ask(self, call: Call, watch: Watch | None = None) -> Answer:
        """The samples of a call, in one reply."""
        try:
            raw = await self._openai.post(
                call.path,
                cast_to=httpx2.Response,
                body=call.body(),
                options={"headers": self._headers},
            )
            return read_answer(parse_json(raw.content), call)
        except asyncio.CancelledError:
            if watch is not None:
                watch.lost = call.worst_cost()
            raise
        except _FAILURES as error:
            fault = self._fault(error, call.worst_cost())
        raise fault

    async def stream(
        self,
        call: Call,
        guard: LoopGuardConfig,
        usage: StreamUsage,
        watch: Watch | None = None,
    ) -> Answer:
        """One sample, stopped when it begins to repeat itself."""
        if call.n != 1:
            raise ValueError("one sample a stream: the others could not be stopped alone")
        text, watch = Streamed(call, guard), watch or Watch()
        body = call.body() | {"stream": True}
        if usage != "none":
            options = {"include_usage": True}
            body["stream_options"] = (
                options | {"continuous_usage_stats": True} if usage == "continuous" else options
            )
        try:
            async with self._streaming(body) as response:
                async for event in events(response.iter_bytes()):
                    watch.heard()
                    if text.is_empty:
                        watch.alive()
                    if text.take(event):
                        _LOG.debug("%s: stopped %s", self.endpoint.name, text.loop_reason)
                        break
            return text.answer()
        except asyncio.CancelledError:
            watch.lost = text.cost()
            raise
        except _FAILURES as error:
            fault = self._fault(error, text.cost())
        raise fault

    def _fault(self, error: Exception, cost: Ledger) -> Fault:
        """The fault that an error means; ``cost`` is what it may have cost unless it was refused.

        To be raised where the error is not being handled: it may hold the key, and must not be
        the fault's cause or context.
        """
        if isinstance(error, Fault):
            return Fault(error.kind, scrub(error.detail, self._key), may_have_cost=cost)
        fault = fault_of(error, self._key)
        if fault.status is None and not fault.is_unreachable:
            fault.may_have_cost = cost
        return fault

    def _streaming(self, body: dict[str, Any]) -> Any:
        api = self._openai.chat.completions if "messages" in body else self._openai.completions
        known = {"model", "messages", "prompt", "stream"}
        return cast(Any, api).with_streaming_response.create(
            **{key: body[key] for key in known & body.keys()},
            extra_body={key: body[key] for key in body.keys() - known},
            extra_headers=self._headers,
        )

    async def _get(self, path: str) -> Any:
        try:
            raw = await self._openai.get(
                path, cast_to=httpx2.Response, options={"headers": self._headers}
            )
            return parse_json(raw.content)
        except _FAILURES as error:
            fault = self._fault(error, Ledger())
        raise fault


def read_key(endpoint: EndpointConfig) -> str:
    """The key from the environment or a file, empty where none is asked for.

    Raises:
        ConfigError: it is asked for and not there, or is no key. The message names where it was
            looked for.
    """
    if endpoint.api_key_env:
        place = f"the environment variable {endpoint.api_key_env}"
        key = os.environ.get(endpoint.api_key_env, "").strip()
    elif endpoint.api_key_file:
        place = f"the file {endpoint.api_key_file}"
        try:
            key = Path(endpoint.api_key_file).expanduser().read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(f"{endpoint.name}: no key in {place}: {error}") from error
    else:
        return ""
    if not key:
        raise ConfigError(f"{endpoint.name}: {place} has no key")
    if not re.fullmatch("[!-~]+", key):
        raise ConfigError(f"{endpoint.name}: {place}: a key is one word of ASCII")
    return key
