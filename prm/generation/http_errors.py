"""From what the HTTP client raises to a `Fault`: its kind, when to come back, and no secrets.

The aiohttp transport of the client reports a dropped connection as a time-out; the cause of the
error tells them apart.
"""

from __future__ import annotations

import datetime
import logging
import re
from typing import Any

import aiohttp
import httpx2
import openai

from prm.generation.faults import Fault, FaultKind, retry_after_of

ERRORS: tuple[type[Exception], ...] = (
    openai.OpenAIError,
    httpx2.HTTPError,
    aiohttp.ClientError,
    OSError,
    UnicodeEncodeError,
)
"""What the client and its transport raise when a request fails."""

_MAX_DETAIL = 300
_LOGGERS = ("openai._base_client", "openai._legacy_response", "openai._response", "httpx2")
_KINDS: dict[int, FaultKind] = {
    400: "bad_request",
    401: "refused",
    403: "refused",
    404: "no_model",
    405: "no_model",
    408: "timeout",
    413: "bad_request",
    414: "bad_request",
    415: "bad_request",
    422: "bad_request",
    429: "rate_limited",
}


def fault_of(error: Exception, key: str) -> Fault:
    """The fault that an error of the client means; ``key`` is struck out of its words."""
    if isinstance(error, openai.APIStatusError):
        return _of_status(error, key)
    if isinstance(error, UnicodeEncodeError):
        # The body is not sent at all: a prompt with half of a surrogate pair has no UTF-8.
        return Fault("bad_request", f"no UTF-8: {error.reason}", is_unreachable=True)
    # The innermost cause says what happened; the layers above repeat it in other words.
    words = scrub(_words(_chain(error)[-1]), key)
    return Fault(_kind_of(error), words, is_unreachable=is_unreachable(error))


def scrub(text: str, key: str) -> str:
    """The text without the key and without anything that looks like a bearer token, shortened."""
    if key:
        text = text.replace(key, "[key]")
    text = re.sub(r"(?i)\b(bearer|basic)\s+[^\s\"',}]+", r"\1 [key]", text)
    text = re.sub(r"://[^/@\s]+@", "://[key]@", text)
    return text if len(text) <= _MAX_DETAIL else text[: _MAX_DETAIL - 3] + "..."


class KeyFilter(logging.Filter):
    """Takes a key out of what the HTTP libraries log.

    They hide what is sent, but not a status line or a request id in which a server says it back.
    """

    def __init__(self, key: str) -> None:
        """An empty key is looked for nowhere."""
        super().__init__()
        self._key = key

    def filter(self, record: logging.LogRecord) -> bool:
        """Let every record pass, without the key."""
        if self._key and self._key in (words := record.getMessage()):
            record.msg, record.args = scrub(words, self._key), ()
        return True

    def attach(self) -> None:
        """Begin; once for each client."""
        for name in _LOGGERS:
            logging.getLogger(name).addFilter(self)

    def detach(self) -> None:
        """End."""
        for name in _LOGGERS:
            logging.getLogger(name).removeFilter(self)


def is_unreachable(error: BaseException) -> bool:
    """Whether no connection came about at all: the request was not seen by any server."""
    return any(
        isinstance(one, aiohttp.ClientConnectorError | httpx2.ConnectError) for one in _chain(error)
    )


def _of_status(error: openai.APIStatusError, key: str) -> Fault:
    status = error.status_code
    default: FaultKind = "server_error" if status >= 500 or status == 409 else "bad_request"
    headers = error.response.headers
    wait = retry_after_of(headers, datetime.datetime.now(datetime.UTC))
    detail = scrub(f"HTTP {status}: {_message(error)}", key)
    if status == 404 and not re.search(r"/v\d", error.request.url.path):
        detail += " (is /v1 missing in the url?)"
    return Fault(_KINDS.get(status, default), detail, status=status, retry_after=wait)


def _message(error: openai.APIStatusError) -> str:
    body: Any = error.body
    if isinstance(body, dict):
        inner = body.get("error")
        found = inner.get("message") if isinstance(inner, dict) else body.get("message")
        return str(found or body)
    return str(body or error.message)


def _kind_of(error: Exception) -> FaultKind:
    """Of an error without a status: the innermost cause that says what happened decides."""
    for one in reversed(_chain(error)):
        if isinstance(one, aiohttp.ServerTimeoutError | TimeoutError):
            return "timeout"
        if isinstance(one, aiohttp.ClientError | ConnectionError | OSError):
            return "connection"
    if isinstance(error, openai.APITimeoutError | httpx2.TimeoutException):
        return "timeout"
    if isinstance(error, openai.APIConnectionError | httpx2.TransportError):
        return "connection"
    return "bad_reply"


def _chain(error: BaseException) -> list[BaseException]:
    """The error and its causes, outermost first."""
    chain: list[BaseException] = []
    one: BaseException | None = error
    while one is not None and one not in chain:
        chain.append(one)
        one = one.__cause__ or one.__context__
    return chain


def _words(error: BaseException) -> str:
    text = str(error)
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
