"""What the stub server answers: a function of the request's content and of nothing else.

The same model, prompt, sampling parameters and seed give the same text in every process, at any
port and in any order. As in vLLM, the k-th of n samples with seed s is what seed s + k gives, and
``max_tokens`` and ``stop`` say only where the text ends. A token is a word with the white space
before it, so that the tokens join to the text.
"""

from __future__ import annotations

import dataclasses
import hashlib
import random
import re
from collections.abc import Sequence
from typing import Any

import orjson

Body = dict[str, Any]

WRONG_SHARE = 0.4  # of the arithmetic solutions
DEFAULT_MAX_TOKENS = {"completions": 16, "chat": 4096}
TURN_TOKENS, OPENING_TOKENS = 4, 3

# These say how the answer is sent or where it ends, not which one it is.
_NOT_CONTENT = {"n", "max_tokens", "max_completion_tokens", "stop", "stream", "stream_options"}
_NOT_CONTENT |= {"logprobs", "top_logprobs", "user", "seed"}
_TOKEN = re.compile(r"\s*\S+|\s+$")
_CHAIN = re.compile(r"Calculate (-?\d+(?: [-+*] -?\d+)*)\.")
_DONE_STEP = re.compile(r"^Step (\d+):.*?(-?\d+)\.?$", re.MULTILINE)
_VERBS = ("add", "subtract", "compare", "combine", "double", "halve", "count", "reduce")
_THOUGHTS = (
    "Okay, so I need to find the total here.",
    "Wait, let me recheck that.",
    "Hmm, {a} and {b} give {c}.",
    "Alternatively, I could start from {a}.",
    "So {a} + {b} = {c}, which seems right.",
    "But is {b} counted twice? No.",
)


@dataclasses.dataclass(frozen=True, slots=True)
class Choice:
    """One sample: its tokens, why it ended, and the hash that decided it."""

    tokens: tuple[str, ...]
    finish_reason: str
    stop_reason: str | None
    digest: bytes

    @property
    def text(self) -> str:
        return "".join(self.tokens)


@dataclasses.dataclass(frozen=True, slots=True)
class Answer:
    """All samples of a request, with the number of prompt tokens that were read."""

    choices: tuple[Choice, ...]
    prompt_tokens: int
    kind: str

    @property
    def generated_tokens(self) -> int:
        return sum(len(choice.tokens) for choice in self.choices)


def answer_request(body: Body, *, mode: str, prefill: str, think_words: int) -> Answer:
    """The samples that the body asks for; ``n`` of them for each prompt of a list."""
    kind = "chat" if "messages" in body else "completions"
    limit = body.get("max_completion_tokens") or body.get("max_tokens")
    limit = limit or DEFAULT_MAX_TOKENS[kind]
    stops = body.get("stop") or []
    stops = [stops] if isinstance(stops, str) else stops
    choices = []
    for one in _bodies(body):
        context = _context(one, prefill)
        for index in range(body.get("n") or 1):
            digest = _digest(one, index)
            text = _write(mode, context, digest, limit, think_words)
            choices.append(_cut(text, limit, stops, digest))
    return Answer(tuple(choices), count_prompt_tokens(body, prefill), kind)


def count_prompt_tokens(body: Body, prefill: str) -> int:
    """Words of the prompts; in a chat also 4 for each message and 3 to open a new turn."""
    if "messages" not in body:
        return sum(len(one["prompt"].split()) for one in _bodies(body))
    words = sum(len(message_text(m).split()) + TURN_TOKENS for m in body["messages"])
    return words + (0 if continues(body, prefill) else OPENING_TOKENS)


def continues(body: Body, prefill: str) -> bool:
    """Whether a server of this kind goes on with the last message instead of answering it."""
    last = body["messages"][-1]
    if last["role"] != "assistant":
        return False
    if prefill == "vllm":
        opens = body.get("add_generation_prompt", True)
        return bool(body.get("continue_final_message")) and not opens
    return prefill == "always" or (prefill == "deepseek" and bool(last.get("prefix")))


def message_text(message: Body) -> str:
    """The text of a message, whose content is a string, a list of parts, or null."""
    content = message.get("content") or ""
    if isinstance(content, str):
        return content
    return "".join(part["text"] for part in content)


def tokenize(text: str) -> tuple[str, ...]:
    """Words, each with the white space before it; they join to the text."""
    return tuple(_TOKEN.findall(text))


def _bodies(body: Body) -> list[Body]:
    """One body for each prompt: the completions API takes several."""
    prompt = body.get("prompt")
    if isinstance(prompt, list):
        return [{**body, "prompt": one} for one in prompt]
    return [body]


def _digest(body: Body, index: int) -> bytes:
    """The hash of all that decides a sample; a greedy one does not depend on the seed."""
    content = {k: v for k, v in body.items() if k not in _NOT_CONTENT and v is not None}
    if body.get("temperature") != 0:
        seed = body.get("seed")
        content["sample"] = ["index", index] if seed is None else ["seed", seed + index]
    return hashlib.sha256(orjson.dumps(content, option=orjson.OPT_SORT_KEYS)).digest()


def _context(body: Body, prefill: str) -> tuple[str, str]:
    """The text up to the last problem's end, and what is already written of its solution."""
    if "messages" in body:
        texts = [message_text(message) for message in body["messages"]]
        begun = texts.pop() if continues(body, prefill) else ""
        return "\n".join(texts), begun
    prompt = body["prompt"]
    start = max(prompt.rfind("Problem:"), prompt.rfind("Calculate "), 0)
    line_end = prompt.find("\n", start)
    end = len(prompt) if line_end < 0 else line_end
    return prompt[:end], prompt[end:]


def _write(mode: str, context: tuple[str, str], digest: bytes, limit: int, think_words: int) -> str:
    """The whole text of a sample, before it is cut to its length and at stop strings."""
    rng = random.Random(digest)
    problem, begun = context
    if mode == "loop":
        return _loop(rng, limit)
    if mode == "cases":
        return _cases(rng, limit)
    thinking = ""
    if mode == "think" and "</think>" not in begun:
        opening = "" if "<think>" in begun else "<think>\n"
        thinking = f"{opening}{_thoughts(rng, think_words)}\n</think>\n\n"
    chain = _CHAIN.findall(problem) if mode in ("arithmetic", "think") else []
    if chain:
        return thinking + _arithmetic(rng, chain[-1], begun)
    return thinking + _steps(rng, begun, boxed=mode == "boxed")


def _steps(rng: random.Random, begun: str, *, boxed: bool) -> str:
    """Steps of a made-up calculation, from the first that is not yet written, and an answer."""
    done = _DONE_STEP.findall(begun)
    first, total = (int(done[-1][0]) + 1, int(done[-1][1])) if done else (1, rng.randint(1, 20))
    lines = []
    for number in range(first, max(first, rng.randint(2, 6)) + 1):
        operand = rng.randint(1, 20)
        lines.append(f"Step {number}: {rng.choice(_VERBS)} {total} and {operand} to get ")
        total += operand
        lines[-1] += f"{total}."
    lines.append(f"The answer is \\boxed{{{total}}}." if boxed else f"Answer: {total}")
    return _line_break(begun) + "\n".join(lines)


def _arithmetic(rng: random.Random, chain: str, begun: str) -> str:
    """The sums of the chain from left to right; in a wrong solution one of them is off."""
    first, *rest = chain.split()
    done = _DONE_STEP.findall(begun)
    total = int(done[-1][1]) if done else int(first)
    pairs = list(zip(rest[::2], rest[1::2], strict=True))[len(done) :]
    is_wrong = rng.random() < WRONG_SHARE and bool(pairs)
    wrong_at = rng.randrange(len(pairs)) if is_wrong else -1
    lines = []
    for position, (operator, operand) in enumerate(pairs):
        result = _calculate(total, operator, int(operand))
        result += rng.choice((-10, -2, -1, 1, 2, 10)) if position == wrong_at else 0
        number = len(done) + position + 1
        lines.append(f"Step {number}: {total} {operator} {operand} = {result}")
        total = result
    return _line_break(begun) + "\n".join([*lines, f"Answer: {total}"])


def _calculate(left: int, operator: str, right: int) -> int:
    return {"+": left + right, "-": left - right, "*": left * right}[operator]


def _line_break(begun: str) -> str:
    """What is needed so that a step begins on its own line."""
    return "\n" if begun.strip() and not begun.endswith("\n") else ""


def _thoughts(rng: random.Random, num_words: int) -> str:
    paragraphs: list[str] = []
    written = 0
    while written < num_words:
        a, b = rng.randint(1, 50), rng.randint(1, 50)
        sentences = [rng.choice(_THOUGHTS).format(a=a, b=b, c=a + b) for _ in range(3)]
        paragraphs.append(" ".join(sentences))
        written += len(paragraphs[-1].split())
    return "\n\n".join(paragraphs)


def _loop(rng: random.Random, limit: int) -> str:
    """A beginning, then one sentence again and again, longer than any limit."""
    a, b = rng.randint(1, 50), rng.randint(1, 50)
    sentence = f" Wait, let me check again. {a} + {b} = {a + b}, so the answer is {a + b}."
    return _thoughts(rng, 20) + sentence * (limit // len(sentence.split()) + 1)


def _cases(rng: random.Random, limit: int) -> str:
    """An honest enumeration, longer than any limit: the same words, but each case computes."""
    a, b = rng.randint(2, 9), rng.randint(20, 50)
    cases = (f"Case n = {n}: {a} * {n} + {b} = {a * n + b}, not the target." for n in range(limit))
    return "\n".join(cases)


def _cut(text: str, limit: int, stops: Sequence[str], digest: bytes) -> Choice:
    """The text up to its limit, and up to the first stop string in that."""
    tokens = tokenize(text)
    reason = "length" if len(tokens) > limit else "stop"
    tokens = tokens[:limit]
    kept = "".join(tokens)
    found = [(kept.find(stop), stop) for stop in stops if stop in kept]
    if not found:
        return Choice(tokens, reason, None, digest)
    position, stop = min(found)
    return Choice(tokenize(kept[:position]), "stop", stop, digest)
