"""A request to a server and its reply, and the name under which the reply is kept.

The name (key) is a hash of all that decides the reply: prompt, parameters, model, revision, seed
and the sample's index. It does not depend on the order of the requests, on the other problems, on
which endpoint answers or on our code: an answer that was paid for is found again.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
from typing import Any

import orjson

from prm.ledger import Ledger
from prm.protocols import Generation, Prompt, SamplingParams

# Changes only when the meaning of a key changes: all kept answers are then asked for again.
_VERSION = 1
_AS_DICTIONARIES = orjson.OPT_SORT_KEYS | orjson.OPT_PASSTHROUGH_DATACLASS


@dataclasses.dataclass(frozen=True)
class Request:
    """One sample to ask for; ``index`` tells samples of one prompt apart. ``params.n`` is unused.

    ``seed`` is the run's: another one asks for other samples, whether or not the server is told.
    ``extra`` are fields of the server's own that go into the body as they are (top_k, min_p).
    ``guard`` says how repetition is detected: it decides where a text ends.
    """

    prompt: Prompt
    params: SamplingParams
    model: str
    revision: str = ""
    index: int = 0
    seed: int = 0
    extra: dict[str, Any] = dataclasses.field(default_factory=dict)
    guard: dict[str, Any] | None = None

    @functools.cached_property
    def key(self) -> str:
        """64 hexadecimal digits, a hash of the content."""
        parts = {
            "version": _VERSION,
            "prompt": self.prompt,
            "params": {**_fields(self.params), "n": 1},
            "model": self.model,
            "revision": self.revision,
            "index": self.index,
            "seed": self.seed,
            "extra": self.extra,
            "guard": self.guard,
        }
        return hashlib.sha256(_as_json(parts)).hexdigest()


@dataclasses.dataclass(frozen=True, slots=True)
class Reply:
    """One generated text with what it cost and who wrote it.

    ``cost`` is what was billed for it: of several samples of one request the first bears the
    prompt. ``is_estimated``: the server sent no usage, tokens were counted by us.
    """

    generation: Generation
    cost: Ledger = Ledger()
    endpoint: str = ""
    is_estimated: bool = False


@dataclasses.dataclass(frozen=True, slots=True)
class SetAside:
    """A request that could not be answered, and why; it is not asked again by itself."""

    reason: str
    detail: str


def _as_json(parts: dict[str, Any]) -> bytes:
    try:
        return orjson.dumps(parts, default=_fields, option=_AS_DICTIONARIES)
    except orjson.JSONEncodeError:
        # Half of a surrogate pair in a text: it has no UTF-8, but a name it can have.
        text = json.dumps(parts, default=_fields, sort_keys=True, ensure_ascii=False)
        return text.encode("utf-8", "surrogatepass")


def _fields(value: Any) -> dict[str, Any]:
    """A record as a dictionary. dataclasses.asdict would copy all that is in it."""
    return {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
