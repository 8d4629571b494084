"""How the stub server behaves when it is well, and which requests such a server refuses."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Mapping
from typing import Any

from tests.stub_answers import Body, count_prompt_tokens, message_text

KNOWN_FIELDS = {"model", "prompt", "messages", "n", "max_tokens", "max_completion_tokens", "stop"}
KNOWN_FIELDS |= {"stream", "stream_options", "seed", "logprobs", "top_logprobs", "temperature"}
KNOWN_FIELDS |= {"top_p", "user", "frequency_penalty", "presence_penalty", "logit_bias"}
PREFILLS = ("vllm", "deepseek", "always", "none", "refuse")
ANSWERS = ("steps", "boxed", "arithmetic", "think", "loop", "cases")
USAGE_REFUSALS = ("", "continuous", "all")


@dataclasses.dataclass(frozen=True, slots=True)
class StubOptions:
    """Each is an option of the command line too: ``--latency-ms 50``. 0 or "" is off."""

    model: str = "stub"
    """The one model; another name is a 404."""
    answer: str = "steps"
    """steps, boxed, arithmetic, think, loop or cases (a long enumeration)."""
    reasoning: bool = False
    """Thinking goes into ``reasoning_content``, as with vLLM's reasoning parser."""
    think_words: int = 200
    """Length of the thinking at least."""
    prefill: str = "vllm"
    """vllm, deepseek, always; none ignores the wish; refuse answers 400 to unknown fields."""
    no_n: bool = False
    """``n`` is ignored: one choice."""
    n_refused: bool = False
    """400 when ``n`` is above 1."""
    no_usage: bool = False
    """Answers say nothing of tokens."""
    continuous_usage: bool = False
    """Each chunk of a stream tells the tokens so far where it is asked to, as vLLM does."""
    usage_refused: str = ""
    """400 for stream_options: "continuous" for continuous_usage_stats only, "all" for any."""
    cached_share: float = 0.0
    """Share of the prompt that is called cached."""
    lists_no_models: bool = False
    """404 for /v1/models."""
    chat_only: bool = False
    """404 for completions."""
    completions_only: bool = False
    """404 for chat."""
    api_key: str = ""
    """401 without this key; every error then echoes the Authorization header, as bad servers do."""
    max_context: int = 0
    """400 for a longer prompt, in tokens."""
    max_in_flight: int = 0
    """429 above it."""
    rpm: int = 0
    """429 above so many requests a minute; one second's share of them may come at once."""
    latency_ms: float = 0.0
    """Time before the first byte."""
    token_ms: float = 0.0
    """Time a token, before the first byte of an answer that is not streamed."""
    chunk_delay_ms: float = 0.0
    """Time before each chunk of a stream; without it, many chunks go into one write."""
    capacity: int = 0
    """Above so many in flight the latency grows in proportion."""
    poison: str = ""
    """Every request whose prompt contains this fails with 500."""
    record: bool = False
    """Keep the bodies and headers of all requests."""

    def __post_init__(self) -> None:
        if self.prefill not in PREFILLS or self.answer not in ANSWERS:
            raise ValueError(f"prefill is one of {PREFILLS} and answer one of {ANSWERS}")
        if self.usage_refused not in USAGE_REFUSALS:
            raise ValueError(f"usage_refused is one of {USAGE_REFUSALS}")


@dataclasses.dataclass(frozen=True, slots=True)
class Refusal:
    """An error that answers a request: its status, message and type, and when to come back."""

    status: int
    message: str
    kind: str
    retry_after: int | None = None


class Gate:
    """Decides which requests a healthy server of this kind does not answer."""

    def __init__(self, options: StubOptions) -> None:
        self._options = options
        self._bucket = _Bucket(options.rpm)

    def check_key(self, headers: Mapping[str, str]) -> Refusal | None:
        key = self._options.api_key
        if not key or headers.get("Authorization") == f"Bearer {key}":
            return None
        return Refusal(401, "Incorrect API key provided", "AuthenticationError")

    def check_request(self, path: str, body: Any) -> Refusal | None:
        """Refuse a request that is wrong in itself, or that this server cannot do."""
        options = self._options
        served = {"/v1/completions": "prompt", "/v1/chat/completions": "messages"}
        off = {
            "/v1/completions": options.chat_only,
            "/v1/chat/completions": options.completions_only,
        }
        if path not in served or off[path]:
            return Refusal(404, "Not Found", "NotFoundError")
        if not isinstance(body, dict) or not body.get(served[path]):
            return _bad(f"{served[path]}: field required")
        if body.get("model") != options.model:
            return Refusal(404, f"The model `{body.get('model')}` does not exist.", "NotFoundError")
        return self._check_fields(body)

    def check_load(self, in_flight: int) -> Refusal | None:
        """Refuse what comes too fast."""
        if 0 < self._options.max_in_flight <= in_flight:
            return Refusal(429, "too many requests in flight", "RateLimitError")
        if (wait := self._bucket.take()) > 0:
            return Refusal(429, "too many requests a minute", "RateLimitError", int(wait) + 1)
        return None

    def is_poison(self, body: Body) -> bool:
        """Whether the prompt has the word that this server cannot bear."""
        return bool(self._options.poison) and self._options.poison in _prompt_text(body)

    def _check_fields(self, body: Body) -> Refusal | None:
        options = self._options
        for name in ("n", "max_tokens", "max_completion_tokens"):
            value = body.get(name)
            if value is not None and (not isinstance(value, int) or value < 1):
                return _bad(f"{name} must be at least 1, got {value!r}")
        if options.n_refused and (body.get("n") or 1) > 1:
            return _bad("n > 1 is not supported")
        wish = body.get("stream_options") or {}
        if options.usage_refused == "all" and wish:
            return _bad("stream_options is not supported")
        if options.usage_refused and "continuous_usage_stats" in wish:
            return _bad("Unknown field: stream_options.continuous_usage_stats")
        if options.prefill == "refuse" and (unknown := _unknown_fields(body)):
            return _bad(f"Unrecognized request arguments supplied: {', '.join(unknown)}")
        length = count_prompt_tokens(body, options.prefill)
        if 0 < options.max_context < length:
            limit = f"This model's maximum context length is {options.max_context} tokens."
            return _bad(f"{limit} However, your prompt has {length} tokens.")
        return None


class _Bucket:
    """Requests a minute, of which one second's share may come at once."""

    def __init__(self, per_minute: int) -> None:
        self._rate = per_minute / 60
        self._size = max(1.0, self._rate)
        self._level, self._time = self._size, time.monotonic()

    def take(self) -> float:
        """Take one; or say in how many seconds there will be one."""
        if not self._rate:
            return 0.0
        now = time.monotonic()
        self._level = min(self._size, self._level + (now - self._time) * self._rate)
        self._time = now
        if self._level < 1:
            return (1 - self._level) / self._rate
        self._level -= 1
        return 0.0


def _bad(message: str) -> Refusal:
    return Refusal(400, message, "BadRequestError")


def _unknown_fields(body: Body) -> list[str]:
    """Fields that are not OpenAI's, of the body and of its messages."""
    unknown = set(body) - KNOWN_FIELDS
    for message in body.get("messages", []):
        unknown |= set(message) - {"role", "content", "name"}
    return sorted(unknown)


def _prompt_text(body: Body) -> str:
    if "messages" in body:
        return "\n".join(message_text(message) for message in body["messages"])
    prompt = body["prompt"]
    return prompt if isinstance(prompt, str) else "\n".join(prompt)
