"""A request as one server is sent it: the fields of the OpenAI API's body."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, Literal

from prm.ledger import Ledger
from prm.protocols import Chat, Prompt, SamplingParams

Prefill = Literal["continue_final_message", "prefix"]

# Where a server tells no usage: a token of English or mathematics has about four bytes.
_BYTES_PER_TOKEN = 4


@dataclasses.dataclass(frozen=True, slots=True)
class Call:
    """A request as it is sent: ``n`` samples of one prompt.

    ``prefill`` is how this server is told to continue the beginning of an answer.
    """

    prompt: Prompt
    params: SamplingParams
    model: str
    n: int = 1
    seed: int | None = None
    extra: dict[str, Any] = dataclasses.field(default_factory=dict)
    prefill: Prefill | None = None

    @property
    def path(self) -> str:
        """The API that answers it."""
        return "/chat/completions" if isinstance(self.prompt, Chat) else "/completions"

    def body(self) -> dict[str, Any]:
        """The fields of the request."""
        params = self.params
        body: dict[str, Any] = {
            "model": self.model,
            "max_tokens": params.max_tokens,
            "temperature": params.temperature,
            "top_p": params.top_p,
        }
        if self.n > 1:
            body["n"] = self.n
        if params.stop:
            body["stop"] = list(params.stop)
        if self.seed is not None:
            body["seed"] = self.seed
        return body | self._prompt_fields() | self._logprob_fields() | self.extra

    def worst_cost(self) -> Ledger:
        """The most that it can have cost when no reply tells."""
        return Ledger(guess_tokens(text_of(self.prompt)), self.n * self.params.max_tokens)

    def _prompt_fields(self) -> dict[str, Any]:
        if isinstance(self.prompt, str):
            return {"prompt": self.prompt}
        messages: list[dict[str, Any]] = [dataclasses.asdict(m) for m in self.prompt.messages]
        if not self.prompt.prefix:
            return {"messages": messages}
        begun: dict[str, Any] = {"role": "assistant", "content": self.prompt.prefix}
        if self.prefill == "continue_final_message":
            flags = {"continue_final_message": True, "add_generation_prompt": False}
            return {"messages": [*messages, begun], **flags}
        if self.prefill == "prefix":
            return {"messages": [*messages, {**begun, "prefix": True}]}
        raise ValueError("an answer that was begun needs a way to say so; see Peer.probe")

    def _logprob_fields(self) -> dict[str, Any]:
        count = self.params.top_logprobs
        if not count:
            return {}
        if isinstance(self.prompt, Chat):
            return {"logprobs": True, "top_logprobs": count}
        return {"logprobs": count}


@dataclasses.dataclass(slots=True)
class Watch:
    """What is to be known of a request while it is under way.

    ``alive`` is called when its stream begins to come, ``heard`` with all that comes of it.
    ``lost`` is what it may have cost when it was cancelled.
    """

    alive: Callable[[], None] = lambda: None
    heard: Callable[[], None] = lambda: None
    lost: Ledger = Ledger()


def guess_tokens(text: str) -> int:
    """How many tokens a text may have, where a server does not tell."""
    return -(-len(text.encode("utf-8", "replace")) // _BYTES_PER_TOKEN)


def text_of(prompt: Prompt) -> str:
    """All that a model reads of a prompt."""
    if isinstance(prompt, str):
        return prompt
    return "\n".join([*(message.content for message in prompt.messages), prompt.prefix])
