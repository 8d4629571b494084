"""What went wrong with one request to a server, as a kind that says what to do next.

bad_request                     the request is at fault: set it aside, the endpoint is fine
refused, no_model               the endpoint will never answer this run (key, model's name)
rate_limited                    too much at once or in a minute: wait, and ask for less
server_error, timeout,
connection, bad_reply           may pass: try again, elsewhere if there is an elsewhere
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Literal

from prm.errors import GenerationError
from prm.ledger import Ledger

FaultKind = Literal[
    "rate_limited",
    "server_error",
    "timeout",
    "connection",
    "bad_reply",
    "bad_request",
    "refused",
    "no_model",
]


class Fault(GenerationError):
    """One request that failed at one endpoint.

    ``detail`` goes into logs and records: whoever raises this has taken the secrets out of it.
    ``retry_after`` is what the server asked for, in seconds. ``may_have_cost`` is what the server
    may have billed although no usable reply came.
    """

    def __init__(
        self,
        kind: FaultKind,
        detail: str,
        *,
        status: int | None = None,
        retry_after: float | None = None,
        may_have_cost: Ledger = Ledger(),
        is_unreachable: bool = False,
    ) -> None:
        """``status`` is the HTTP status, None when there was none.

        ``is_unreachable``: no connection came about, so no server has seen the request.
        """
        super().__init__(kind, detail)
        self.kind: FaultKind = kind
        self.detail = detail
        self.status = status
        self.retry_after = retry_after
        self.may_have_cost = may_have_cost
        self.is_unreachable = is_unreachable

    def __str__(self) -> str:
        """Kind and detail: the reason that is recorded."""
        return f"{self.kind}: {self.detail}"

    @property
    def is_poison(self) -> bool:
        """Whether the request itself is at fault: no endpoint will answer it."""
        return self.kind == "bad_request"

    @property
    def is_fatal_for_endpoint(self) -> bool:
        """Whether this endpoint will answer no request of this run."""
        return self.kind in ("refused", "no_model")

    @property
    def is_transient(self) -> bool:
        """Whether the same request may succeed later."""
        return not self.is_poison and not self.is_fatal_for_endpoint


def retry_after_of(headers: Mapping[str, str], now: datetime) -> float | None:
    """Seconds to wait as the reply's headers say: ``retry-after-ms`` before ``retry-after``.

    ``headers`` finds names in lower case, as those of HTTP libraries do. ``now`` knows its zone.
    """
    milliseconds = _number(headers.get("retry-after-ms"))
    if milliseconds is not None:
        return max(0.0, milliseconds / 1000)
    return parse_retry_after(headers.get("retry-after"), now)


def parse_retry_after(value: str | None, now: datetime) -> float | None:
    """Seconds to wait; ``value`` is seconds, "1500ms" or an HTTP date (RFC 9110, 10.2.3).

    None where the value says nothing; 0 where its moment has passed. ``now`` knows its zone.
    """
    if value is None:
        return None
    text = value.strip()
    seconds = _number(text)
    if seconds is None and text.lower().endswith("ms"):
        milliseconds = _number(text[:-2])
        seconds = None if milliseconds is None else milliseconds / 1000
    if seconds is None:
        seconds = _seconds_until(text, now)
    return None if seconds is None else max(0.0, seconds)


def _number(text: str | None) -> float | None:
    try:
        number = float(text or "")
    except ValueError:
        return None
    return number if math.isfinite(number) else None


def _seconds_until(date: str, now: datetime) -> float | None:
    try:
        moment = parsedate_to_datetime(date)
    except (ValueError, IndexError, TypeError, OverflowError):
        return None
    # A date whose zone is "-0000" comes without a zone: it means UTC.
    return ((moment if moment.tzinfo else moment.replace(tzinfo=UTC)) - now).total_seconds()
