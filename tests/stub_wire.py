"""The OpenAI API's forms of an answer: one JSON body, a stream of events, an error."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterator
from typing import Any

import orjson
from aiohttp import web

from tests.stub_answers import Answer, Body, Choice

CREATED = 1_700_000_000  # a constant: an answer does not depend on the time
DONE = b"data: [DONE]\n\n"


@dataclasses.dataclass(frozen=True, slots=True)
class Wire:
    """How this server writes its answers."""

    reasoning: bool
    """The thinking goes into a field of its own, ``reasoning_content``."""
    usage: bool
    cached_share: float
    continuous: bool = False
    """Each chunk can tell the tokens so far."""

    def payload(self, body: Body, answer: Answer) -> Body:
        """The JSON body of an answer that is not streamed."""
        write = self._chat_choice if answer.kind == "chat" else _completion_choice
        choices = [write(body, index, choice) for index, choice in enumerate(answer.choices)]
        name = "chat.completion" if answer.kind == "chat" else "text_completion"
        payload = {**_head(body, answer, name), "choices": choices}
        return payload | ({"usage": self.usage_of(answer)} if self.usage else {})

    def usage_of(self, answer: Answer) -> Body:
        """Token counts; the cached ones are a fixed share, so that they do not depend on order."""
        return self._usage(answer, answer.generated_tokens)

    def _usage(self, answer: Answer, written: int) -> Body:
        return {
            "prompt_tokens": answer.prompt_tokens,
            "completion_tokens": written,
            "total_tokens": answer.prompt_tokens + written,
            "prompt_tokens_details": {
                "cached_tokens": int(answer.prompt_tokens * self.cached_share)
            },
        }

    def events(self, body: Body, answer: Answer) -> Iterator[tuple[Body, int]]:
        """The chunks of a streamed answer, a token each, and the number of tokens in each.

        The samples take turns, as they do on a server that writes them side by side.
        """
        wish = body.get("stream_options") or {}
        tells_all = self.continuous and self.usage and wish.get("continuous_usage_stats")
        written = 0
        for chunk, num_tokens in self._chunks(body, answer):
            written += num_tokens
            if tells_all and "usage" not in chunk:
                chunk["usage"] = self._usage(answer, written)
            yield chunk, num_tokens

    def _chunks(self, body: Body, answer: Answer) -> Iterator[tuple[Body, int]]:
        """The same without what each chunk may tell of the tokens so far."""
        is_chat = answer.kind == "chat"
        head = _head(body, answer, "chat.completion.chunk" if is_chat else "text_completion")
        if is_chat:
            for index in range(len(answer.choices)):
                opening = {"delta": {"role": "assistant", "content": ""}}
                yield {**head, "choices": [_part(index, opening)]}, 0
        parts = [self._parts(body, choice, is_chat) for choice in answer.choices]
        for position in range(max(len(part) for part in parts)):
            for index, part in enumerate(parts):
                if position < len(part):
                    piece, num_tokens = part[position]
                    yield {**head, "choices": [_part(index, piece)]}, num_tokens
        if self.usage and (body.get("stream_options") or {}).get("include_usage"):
            yield {**head, "choices": [], "usage": self.usage_of(answer)}, 0

    def _parts(self, body: Body, choice: Choice, is_chat: bool) -> list[tuple[Body, int]]:
        """What the chunks of one sample say, the last with the reason of its end."""
        fields = self._fields(choice) if is_chat else ["text"] * len(choice.tokens)
        parts = []
        unsent = 0
        for position, (token, field) in enumerate(zip(choice.tokens, fields, strict=True)):
            unsent += 1
            if field is None:
                continue
            logprobs = _logprobs(body, choice, position, position + 1, is_chat)
            piece = {"delta": {field: token}} if is_chat else {"text": token}
            parts.append(({**piece, "logprobs": logprobs}, unsent))
            unsent = 0
        end: Body = {"delta": {}} if is_chat else {"text": ""}
        end |= {"finish_reason": choice.finish_reason, "stop_reason": choice.stop_reason}
        return [*parts, (end, unsent)]

    def _fields(self, choice: Choice) -> list[str | None]:
        """For each token the field of the message that it goes to; None for the thinking's tags."""
        words = [token.strip() for token in choice.tokens]
        # A text that continues a begun thought has only the closing tag.
        thinking = self.reasoning and ("</think>" in words or words[:1] == ["<think>"])
        fields: list[str | None] = []
        for word in words:
            is_tag = self.reasoning and word in ("<think>", "</think>")
            thinking = thinking and word != "</think>"
            fields.append(None if is_tag else "reasoning_content" if thinking else "content")
        return fields

    def _chat_choice(self, body: Body, index: int, choice: Choice) -> Body:
        texts: dict[str | None, str] = {}
        for token, field in zip(choice.tokens, self._fields(choice), strict=True):
            texts[field] = texts.get(field, "") + token
        # As in vLLM: a text that ends within the thinking has no content, and that is null.
        content = texts.get("content", None if self.reasoning else "")
        message = {"role": "assistant", "content": content}
        if self.reasoning:
            message["reasoning_content"] = texts.get("reasoning_content")
        return {
            "index": index,
            "message": message,
            "logprobs": _logprobs(body, choice, 0, len(choice.tokens), is_chat=True),
            "finish_reason": choice.finish_reason,
            "stop_reason": choice.stop_reason,
        }


def error_body(message: str, code: int, kind: str, param: str | None = None) -> Body:
    """An error in OpenAI's form."""
    return {"error": {"message": message, "type": kind, "param": param, "code": code}}


def json_response(payload: Body, *, status: int = 200) -> web.Response:
    """The body as the reply of a request."""
    return web.Response(body=orjson.dumps(payload), status=status, content_type="application/json")


def sse(chunk: Body) -> bytes:
    """A chunk as a server-sent event."""
    return b"data: " + orjson.dumps(chunk) + b"\n\n"


def _head(body: Body, answer: Answer, name: str) -> Body:
    prefix = "chatcmpl-" if answer.kind == "chat" else "cmpl-"
    identity = prefix + answer.choices[0].digest.hex()[:24]
    return {"id": identity, "object": name, "created": CREATED, "model": body["model"]}


def _part(index: int, piece: Body) -> Body:
    return {"index": index, "logprobs": None, "finish_reason": None, **piece}


def _completion_choice(body: Body, index: int, choice: Choice) -> Body:
    return {
        "index": index,
        "text": choice.text,
        "logprobs": _logprobs(body, choice, 0, len(choice.tokens), is_chat=False),
        "finish_reason": choice.finish_reason,
        "stop_reason": choice.stop_reason,
    }


def _logprobs(body: Body, choice: Choice, start: int, end: int, is_chat: bool) -> Body | None:
    """The log-probabilities of a range of tokens, in the form of the one API or the other."""
    asked = body.get("logprobs")
    if asked is None or asked is False:
        return None
    tokens = choice.tokens[start:end]
    values = [_logprob(choice, position) for position in range(start, end)]
    num_top = int(body.get("top_logprobs") or 0) if is_chat else int(asked)
    tops = [_top(pair, num_top) for pair in zip(tokens, values, strict=True)]
    if is_chat:
        rows = zip(tokens, values, tops, strict=True)
        return {"content": [_chat_token(t, v) | _tops(top) for t, v, top in rows]}
    first = sum(len(token) for token in choice.tokens[:start])
    offsets = list(itertools.accumulate((len(token) for token in tokens[:-1]), initial=first))
    return {
        "tokens": list(tokens),
        "token_logprobs": values,
        "top_logprobs": tops if num_top else None,
        "text_offset": offsets if tokens else [],
    }


def _logprob(choice: Choice, position: int) -> float:
    """A log-probability that the sample's hash decides, between -0.5 and 0."""
    return -(choice.digest[position % len(choice.digest)] + 1) / 512


def _top(pair: tuple[str, float], num_top: int) -> dict[str, float]:
    """The token itself, then made-up alternatives."""
    token, logprob = pair
    others = {f"{token}~{rank}": -3.0 - rank for rank in range(1, num_top)}
    return {token: logprob, **others} if num_top else {}


def _tops(top: dict[str, float]) -> dict[str, Any]:
    return {"top_logprobs": [_chat_token(token, logprob) for token, logprob in top.items()]}


def _chat_token(token: str, logprob: float) -> dict[str, Any]:
    return {"token": token, "logprob": logprob, "bytes": list(token.encode())}
