"""What the parts of the pipeline ask of each other. Standard library only.

A part that satisfies a protocol needs no base class: our in-process generator, an
OpenAI-compatible client and a user's own object are all a `Generator`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Protocol

from prm.records import LabelledSolution, Solution, Verdict


@dataclasses.dataclass(frozen=True)
class SamplingParams:
    """How to sample: the words of the OpenAI API. ``temperature`` 0 is greedy."""

    n: int = 1
    """Samples a prompt."""
    temperature: float = 0.8
    """0 = greedy."""
    top_p: float = 1.0
    """Nucleus; 1 = off."""
    max_tokens: int = 256
    """Generated tokens at most; reaching it gives finish_reason "length"."""
    stop: tuple[str, ...] = ()
    """Strings that end a sample; they are not part of its text."""
    top_logprobs: int = 0
    """Alternatives kept for each generated token; 0 = none, and no tokens are kept."""

    def __post_init__(self) -> None:
        """Make 1 and 1.0 the same: kept answers and settings are told apart by their text."""
        object.__setattr__(self, "temperature", float(self.temperature))
        object.__setattr__(self, "top_p", float(self.top_p))


@dataclasses.dataclass(frozen=True, slots=True)
class Message:
    """One turn of a conversation; ``role`` is system, user or assistant."""

    role: str
    content: str


@dataclasses.dataclass(frozen=True, slots=True)
class Chat:
    """A conversation to answer. ``prefix`` is how the answer begins: it is continued."""

    messages: tuple[Message, ...]
    prefix: str = ""


Prompt = str | Chat
"""A text to continue as it is, or a conversation to answer."""


@dataclasses.dataclass(frozen=True, slots=True)
class Token:
    """One generated token: its text, log-probability, and the likeliest alternatives."""

    text: str
    logprob: float
    top: dict[str, float]


@dataclasses.dataclass(frozen=True, slots=True)
class Generation:
    """One generated text. ``logprob`` sums its tokens' log-probabilities at temperature 1.

    ``finish_reason`` is "stop", "length" or "loop" (it repeated itself and was stopped;
    ``saved_tokens`` is what the limit would still have allowed). None: the server told none.
    """

    text: str
    finish_reason: str
    prompt_tokens: int
    generated_tokens: int
    logprob: float | None = None
    tokens: tuple[Token, ...] = ()
    saved_tokens: int = 0


@dataclasses.dataclass(frozen=True, slots=True)
class Rollout:
    """One continuation of a prefix: did it reach the right answer (None = could not tell)?"""

    correct: bool | None
    num_tokens: int
    text: str | None = None
    finish_reason: str = "stop"


class Generator(Protocol):
    """Writes texts that continue prompts."""

    name: str
    """The model, as it is recorded in the solutions."""

    def generate(
        self, prompts: Sequence[str], params: SamplingParams, *, seed: int
    ) -> list[list[Generation]]:
        """``params.n`` texts for each prompt, in order. The same call gives the same texts."""
        ...


class ChatGenerator(Generator, Protocol):
    """A generator that answers conversations too."""

    def generate(
        self, prompts: Sequence[Prompt], params: SamplingParams, *, seed: int
    ) -> list[list[Generation]]:
        """As `Generator.generate`; a prompt is a text or a `Chat`."""
        ...


class Verifier(Protocol):
    """Compares a final answer with the reference answer."""

    def __call__(self, answer: str | None, reference: str) -> Verdict:
        """Right, wrong or could-not-tell; never raises on a bad answer."""
        ...


class Rollouts(Protocol):
    """Continues solutions from a prefix and checks where the continuations end."""

    async def sample_many(
        self, requests: Sequence[tuple[Solution, int, int]]
    ) -> list[list[Rollout]]:
        """For each (solution, number of steps kept, n): n rollouts.

        Fewer than n: no more of that prefix can be had (the budget has ended, a pool is empty).
        With all steps of a finished solution kept there is nothing to continue: every rollout is
        the verdict of its own final answer, and costs no tokens.
        """
        ...


Check = Callable[[Solution], Verdict]
"""Judges the final answer of a solution."""


class Labeler(Protocol):
    """Labels every step of a pool of solutions."""

    def label(
        self, pool: Sequence[Solution], rollouts: Rollouts, *, check: Check | None = None
    ) -> list[LabelledSolution]:
        """One labelled solution for each of the pool, in order.

        ``check`` judges final answers; without it one rollout with all steps kept does.
        """
        ...


class StepScorer(Protocol):
    """Gives every step of a solution a score in [0, 1]."""

    def score_many(self, problem: str, solutions: Sequence[Sequence[str]]) -> list[list[float]]:
        """One list of step scores for each solution of the problem, in step order."""
        ...
