"""What servers answer: the samples in a whole reply, or in a stream as it comes.

Servers differ in what they leave out. Whatever is no answer becomes a `Fault`, whose words may
quote the server: who sends them on takes the secrets out.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Sequence
from typing import Any

import orjson

from prm.generation.calls import Call, guess_tokens, text_of
from prm.generation.faults import Fault
from prm.generation.loop_guard import LoopGuard, LoopGuardConfig
from prm.ledger import Ledger
from prm.protocols import Generation, Token

# What reading JSON of another form raises.
_UNREADABLE = (AttributeError, KeyError, TypeError, ValueError)
# Long enough to hold any key whole: half a key would not be recognised, and would be shown.
_QUOTED = 5000


@dataclasses.dataclass(frozen=True, slots=True)
class Answer:
    """What came back: the samples, and what was billed for all; estimated where none was told.

    ``num_empty`` choices came without a text, and are none of the samples.
    """

    generations: list[Generation]
    cost: Ledger
    is_estimated: bool
    num_empty: int = 0


class Streamed:
    """A sample that is being received."""

    def __init__(self, call: Call, guard: LoopGuardConfig) -> None:
        """Nothing has come yet."""
        self._call = call
        self._guard = LoopGuard(guard)
        self._pieces: list[str] = []
        self._has_text = self._thought = False
        self._finish: str | None = None
        self._usage: dict[str, Any] | None = None
        self._tokens: list[Token] = []

    @property
    def is_empty(self) -> bool:
        """Whether nothing of the text has come yet."""
        return not self._pieces

    @property
    def loop_reason(self) -> str:
        """In which way the text repeats itself; empty while it does not."""
        return self._guard.reason

    def take(self, event: dict[str, Any]) -> bool:
        """Note an event; True when the text has begun to repeat itself.

        Raises:
            Fault: it is an error, or of a form that we do not know.
        """
        if event.get("error"):
            raise Fault("server_error", f"in the stream: {quoted(event['error'])}")
        try:
            return self._take(event)
        except _UNREADABLE as error:
            raise Fault("bad_reply", f"an event of another form: {quoted(event)}") from error

    def _take(self, event: dict[str, Any]) -> bool:
        self._usage = event.get("usage") or self._usage
        for choice in event.get("choices") or ():
            if (choice.get("index") or 0) > 0:
                continue  # A sample that was not asked for: not to be mixed into this one.
            piece = self._piece(choice)
            self._finish = choice.get("finish_reason") or self._finish
            if choice.get("logprobs"):
                self._tokens += _tokens_of(choice)
            if piece:
                self._pieces.append(piece)
                if self._guard.feed(piece):
                    return True
        return False

    def _piece(self, choice: dict[str, Any]) -> str:
        """The new text; thoughts that a server sends apart are put into think tags again."""
        if "text" in choice:
            self._has_text = self._has_text or choice["text"] is not None
            return _text(choice["text"])
        delta = choice.get("delta") or {}
        self._has_text = self._has_text or delta.get("content") is not None
        thought = _text(delta.get("reasoning_content") or delta.get("reasoning"))
        said = _text(delta.get("content"))
        begin = "<think>" if thought and not self._thought and not self._pieces else ""
        self._thought = self._thought or bool(thought)
        end = "</think>" if said and self._thought else ""
        if end:
            self._thought = False
        return f"{begin}{thought}{end}{said}"

    def cost(self) -> Ledger:
        """What has come so far, as the server counts it or as we guess."""
        return self._told() or _guessed(self._call, ["".join(self._pieces)])

    def _told(self) -> Ledger | None:
        return _told(self._usage, has_text=any(self._pieces))

    def answer(self) -> Answer:
        """The sample.

        Raises:
            Fault: the stream ended before the sample did, or there was no text in it.
        """
        text = "".join(self._pieces)
        is_loop = self._guard.loop_stop >= 0
        if not is_loop and self._finish is None:
            raise Fault("connection", "the stream ended before the text did")
        if self._finish == "abort":
            raise _aborted()
        if not (self._has_text or self._pieces):
            raise Fault("bad_reply", "a stream without text")
        cost = self.cost()
        if is_loop:
            text = text[: self._guard.loop_stop]
        limit = self._call.params.max_tokens
        generation = Generation(
            text=text,
            finish_reason="loop" if is_loop else str(self._finish),
            prompt_tokens=cost.prompt_tokens,
            generated_tokens=cost.generated_tokens,
            logprob=_sum(self._tokens),
            tokens=tuple(self._tokens),
            saved_tokens=max(0, limit - cost.generated_tokens) if is_loop else 0,
        )
        return Answer([generation], cost, self._told() is None)


def read_answer(reply: Any, call: Call) -> Answer:
    """The samples in a reply that came whole.

    Raises:
        Fault: there are none, or the reply is of a form that we do not know.
    """
    choices = reply.get("choices") if isinstance(reply, dict) else None
    if not choices:
        raise Fault("bad_reply", f"no choices in the reply: {quoted(reply)}")
    try:
        return _read(reply, choices, call)
    except _UNREADABLE as error:
        raise Fault("bad_reply", f"a reply of another form: {quoted(reply)}") from error


def _read(reply: dict[str, Any], choices: list[dict[str, Any]], call: Call) -> Answer:
    texts, good = _texts_of(choices)
    told = _told(reply.get("usage"), has_text=any(texts))
    cost = told or _guessed(call, texts)
    counts = share(cost.generated_tokens, [len(text.encode("utf-8", "replace")) for text in texts])
    generations = []
    for choice, text, count in zip(good, texts, counts, strict=True):
        tokens = _tokens_of(choice)
        generations.append(
            Generation(
                text=text,
                finish_reason=choice.get("finish_reason") or "stop",
                prompt_tokens=cost.prompt_tokens,
                generated_tokens=count,
                logprob=_sum(tokens),
                tokens=tuple(tokens),
            )
        )
    return Answer(generations, cost, told is None, len(choices) - len(good))


def _texts_of(choices: list[dict[str, Any]]) -> tuple[list[str], list[dict[str, Any]]]:
    """The texts that there are, and their choices.

    Raises:
        Fault: there is none.
    """
    texts, good = [], []
    for choice in choices:
        try:
            texts.append(_whole_text(choice))
            good.append(choice)
        except Fault as fault:
            first = fault
    if not good:
        raise first
    return texts, good


def _whole_text(choice: dict[str, Any]) -> str:
    if choice.get("finish_reason") == "abort":
        raise _aborted()
    message = choice if "text" in choice else choice.get("message") or {}
    said = message.get("text" if "text" in choice else "content")
    thought = _text(message.get("reasoning_content") or message.get("reasoning"))
    if said is None and not thought:
        raise Fault("bad_reply", f"a choice without text: {quoted(choice)}")
    said = _text(said)
    if not thought:
        return said
    # A server that parses the thoughts out took the tags; the text is put together again.
    return f"<think>{thought}</think>{said}" if said else f"<think>{thought}"


def _text(value: Any) -> str:
    """A text of the reply; null is an empty one."""
    if isinstance(value, str):
        return value
    if value is None:
        return ""
    raise TypeError("no text where one should be")


def _aborted() -> Fault:
    return Fault("server_error", "the server gave the request up (finish_reason abort)")


def _tokens_of(choice: dict[str, Any]) -> list[Token]:
    """The tokens with their log-probabilities, in the form of the one API or the other."""
    found = choice.get("logprobs") or {}
    if "tokens" in found:
        tops = found.get("top_logprobs") or [None] * len(found["tokens"])
        rows = zip(found["tokens"], found["token_logprobs"], tops, strict=True)
        return [Token(text, value, top or {}) for text, value, top in rows if value is not None]
    return [
        Token(
            token["token"],
            token["logprob"],
            {top["token"]: top["logprob"] for top in token.get("top_logprobs") or ()},
        )
        for token in found.get("content") or ()
    ]


def _sum(tokens: Sequence[Token]) -> float | None:
    return sum(token.logprob for token in tokens) if tokens else None


def _guessed(call: Call, texts: Sequence[str]) -> Ledger:
    return Ledger(guess_tokens(text_of(call.prompt)), sum(map(guess_tokens, texts)))


def _told(usage: Any, *, has_text: bool) -> Ledger | None:
    """What a server says that it read and wrote; None where it says nothing that can be so."""
    if not usage:
        return None
    try:
        details = usage.get("prompt_tokens_details") or {}
        told = Ledger(
            prompt_tokens=int(usage["prompt_tokens"]),
            generated_tokens=int(usage["completion_tokens"]),
            cached_tokens=int(details.get("cached_tokens") or 0),
        )
    except _UNREADABLE:
        return None
    return told if told.prompt_tokens > 0 and told.generated_tokens >= has_text else None


def share(total: int, sizes: Sequence[int]) -> list[int]:
    """Whole numbers in proportion to the sizes that add up to ``total``.

    Of several samples of a request a server tells the sum of their tokens only.
    """
    whole = sum(sizes)
    if whole == 0:
        sizes, whole = [1] * len(sizes), len(sizes)
    marks = [edge * total // whole for edge in itertools.accumulate(sizes, initial=0)]
    return [end - begin for begin, end in itertools.pairwise(marks)]


def parse_json(content: bytes) -> Any:
    """The JSON of a reply.

    Raises:
        Fault: it is none.
    """
    try:
        return orjson.loads(content)
    except orjson.JSONDecodeError as error:
        raise Fault("bad_reply", f"not JSON: {quoted(content)}") from error


def quoted(found: Any) -> str:
    """What a server sent, for a fault; `scrub` shortens it once it has taken out the secrets."""
    return repr(found)[:_QUOTED]
