"""(problem, steps) -> token ids and step ends. The only place where this happens.

Trainer, scorer and everything that publishes call it. Each step is tokenized apart, with its
separator, so that a step's tokens never depend on its neighbours: prefixes can be shared, and a
later step can never move an earlier score.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

from prm.errors import EncodingError, TooLongError
from prm.scoring.spec import PROBLEM, ScorerSpec

# Steps that are kept encoded, at most; about 100 MB.
_MAX_PIECES = 200_000


@dataclasses.dataclass(frozen=True, slots=True)
class Encoded:
    """Token ids of the problem, and of each step with its separator."""

    prompt: tuple[int, ...]
    steps: tuple[tuple[int, ...], ...]

    @property
    def ids(self) -> tuple[int, ...]:
        """All token ids in order."""
        return self.prompt + tuple(token for step in self.steps for token in step)

    @property
    def step_ends(self) -> tuple[int, ...]:
        """The position of each step's last token, where its score is read."""
        ends, at = [], len(self.prompt)
        for step in self.steps:
            at += len(step)
            ends.append(at - 1)
        return tuple(ends)


class Encoder:
    """Encodes by a spec and a tokenizer; keeps what it has encoded, as steps recur."""

    def __init__(self, tokenizer: Any, spec: ScorerSpec) -> None:
        """``tokenizer`` is one of transformers (or has the same ``__call__``)."""
        self.tokenizer = tokenizer
        self.spec = spec
        self._pieces: dict[tuple[str, bool], tuple[int, ...]] = {}

    def encode(self, problem: str, steps: Sequence[str], where: str = "solution") -> Encoded:
        """The tokens of a solution; ``where`` names it in errors.

        Raises:
            EncodingError: no steps, an empty step or problem, the separator inside a step.
            TooLongError: more tokens than the spec allows.
        """
        if not problem.strip():
            raise EncodingError(f"{where}: the problem is empty")
        if isinstance(steps, str) or not steps:
            raise EncodingError(
                f"{where}: has no steps; pass a list of step texts (split_steps makes one)"
            )
        prompt = self._tokens(self.spec.template.replace(PROBLEM, problem), special=True)
        encoded = Encoded(prompt, tuple(self._step(step, i, where) for i, step in enumerate(steps)))
        length = len(encoded.ids)
        if length > self.spec.max_tokens:
            raise TooLongError(
                f"{where}: {length} tokens, the scorer takes {self.spec.max_tokens}; nothing is "
                "cut silently: shorten the solution or score a part of it"
            )
        return encoded

    def _step(self, step: str, index: int, where: str) -> tuple[int, ...]:
        if not step.strip():
            raise EncodingError(f"{where}: step {index} is empty")
        # Line breaks around a step belong to no step: `split_steps` keeps blank lines there.
        step = step.strip("\r\n")
        if self.spec.separator in step:
            raise EncodingError(
                f"{where}: step {index} contains the separator {self.spec.separator!r}, which "
                f"marks where a step ends: {step!r:.80}; split it into steps there"
            )
        return self._tokens(step + self.spec.separator, special=False)

    def _tokens(self, text: str, *, special: bool) -> tuple[int, ...]:
        if len(self._pieces) >= _MAX_PIECES:
            self._pieces.clear()
        if (text, special) not in self._pieces:
            ids = self.tokenizer(text, add_special_tokens=special)["input_ids"]
            self._pieces[text, special] = tuple(ids)
        return self._pieces[text, special]
