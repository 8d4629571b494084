"""The critic at work: critiques from any `Generator`, with a probability for each judged step.

A critique that cannot be read is could-not-tell: its status says why, its scores are None, and
nobody may count it as right or wrong.
"""

from __future__ import annotations

import dataclasses
import hashlib
import itertools
import math
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from prm.critic.dialect import Dialect
from prm.critic.parse import ParsedCritique, parse
from prm.protocols import Generation, Generator, SamplingParams, Token
from prm.records import Critique, Usage

# The longest legal critique restates every step; a step worked out anew may be longer than the
# step itself. Twice that and a little more: what reaches the limit has gone astray.
_CAP_FACTOR = 2
_CAP_MARGIN = 16
_TOP_LOGPROBS = 20


def num_bytes(text: str) -> int:
    """The number of UTF-8 bytes: a bound on the tokens of any tokenizer that reads bytes."""
    return len(text.encode())


class Critic:
    """Judges solutions step by step and names the first wrong one."""

    def __init__(
        self,
        generator: Generator,
        dialect: Dialect | None = None,
        *,
        count_tokens: Callable[[str], int] = num_bytes,
        batch_size: int = 128,
    ) -> None:
        """Use any generator whose model was trained in (or shown) the dialect.

        ``count_tokens`` bounds how long a critique may get. ``batch_size`` prompts of similar
        length go to the generator in one call.
        """
        self.generator = generator
        self.dialect = dialect or Dialect()
        self._count_tokens = count_tokens
        self._batch_size = batch_size

    @classmethod
    def from_pretrained(
        cls,
        folder: str | Path,
        *,
        device: str | None = None,
        dtype: str | None = None,
        max_rows: int = 128,
    ) -> Critic:
        """Load what `prm.training.train_critic` saved: ``critic.json`` and the merged weights.

        Raises:
            SpecError: the folder has no ``critic.json``.
        """
        from prm.generation.in_process import TransformersGenerator

        dialect = Dialect.load(folder)
        merged = Path(folder) / "merged"
        generator = TransformersGenerator.from_pretrained(
            str(merged if merged.is_dir() else folder),
            device=device,
            dtype=dtype,
            max_rows=max_rows,
        )
        generator.name = Path(folder).resolve().name

        def count_tokens(text: str) -> int:
            return len(generator.tokenizer(text, add_special_tokens=False)["input_ids"])

        return cls(generator, dialect, count_tokens=count_tokens, batch_size=max_rows)

    def critique(self, problem: str, steps: Sequence[str]) -> Critique:
        """Judge one solution; greedy."""
        return self.critique_many([(problem, steps)])[0]

    def critique_many(
        self, items: Sequence[tuple[str, Sequence[str]]], ids: Sequence[str] | None = None
    ) -> list[Critique]:
        """Judge (problem, steps) pairs, in order; greedy, the longest prompts last.

        ``ids`` are solution ids (``problem_id#k``); without them an id is made of the contents.
        Identical items are written once: only the first of them carries the usage, so that the
        sum over the list is what was spent.
        """
        names = [_content_id(*item) for item in items] if ids is None else list(ids)
        prompts = [self.dialect.prompt(problem, steps) for problem, steps in items]
        caps = {
            prompt: self.max_tokens(steps)
            for prompt, (_, steps) in zip(prompts, items, strict=True)
            if steps
        }
        texts = self._generate(caps)
        critiques = []
        for name, prompt, (_, steps) in zip(names, prompts, items, strict=True):
            critiques.append(self._read(name, texts.get(prompt), len(steps)))
            if prompt in texts:
                texts[prompt] = _already_paid(texts[prompt])
        return critiques

    def max_tokens(self, steps: Sequence[str]) -> int:
        """A bound on the tokens of the longest legal critique of these steps."""
        lines = [
            self.dialect.step_template.format(
                index=i + self.dialect.index_base, work=step, verdict=self.dialect.correct
            )
            for i, step in enumerate(steps)
        ]
        return _CAP_FACTOR * self._count_tokens("\n".join(lines)) + _CAP_MARGIN

    def _generate(self, caps: dict[str, int]) -> dict[str, Generation]:
        """One text for each prompt; prompts of similar length go together."""
        texts: dict[str, Generation] = {}
        ordered = sorted(caps, key=lambda prompt: (len(prompt), prompt))
        for begin in range(0, len(ordered), self._batch_size):
            batch = ordered[begin : begin + self._batch_size]
            params = SamplingParams(
                n=1,
                temperature=0.0,
                max_tokens=max(caps[prompt] for prompt in batch),
                stop=(self.dialect.stop,),
                top_logprobs=_TOP_LOGPROBS,
            )
            rows = self.generator.generate(batch, params, seed=0)
            texts.update((prompt, row[0]) for prompt, row in zip(batch, rows, strict=True))
        return texts

    def _read(self, name: str, written: Generation | None, num_steps: int) -> Critique:
        """The record of a text; None is the text of a solution without steps."""
        text = "" if written is None else written.text
        finish_reason = "stop" if written is None else written.finish_reason
        parsed = parse(text, num_steps, finish_reason, self.dialect)
        tokens = () if written is None else written.tokens
        return Critique(
            id=name,
            problem_id=name.rpartition("#")[0] or name,
            text=text,
            status=parsed.status,
            verdicts=parsed.verdicts,
            first_error=parsed.first_error,
            author=self.generator.name,
            p_correct=_probabilities(tokens, parsed, self.dialect),
            usage=Usage()
            if written is None
            else Usage(written.prompt_tokens, written.generated_tokens),
        )


def step_scores(critique: Critique, num_steps: int) -> list[float] | None:
    """P(correct) of each of ``num_steps`` steps, or None where the critic could not tell.

    Steps after the first wrong one were not judged: they get its value, for a solution cannot
    recover from it. A generator that returns no log-probabilities gives no scores either.
    """
    if critique.status != "ok" or not critique.p_correct:
        return None
    judged = list(critique.p_correct)
    return judged + [judged[-1]] * (num_steps - len(judged))


def solution_score(critique: Critique) -> float | None:
    """The smallest P(correct) of the judged steps, or None where the critic could not tell."""
    scores = step_scores(critique, len(critique.verdicts))
    return min(scores) if scores else None


def verdict_positions(texts: Sequence[str], dialect: Dialect) -> list[int]:
    """Where among the tokens' texts the verdicts stand: verdict words that end a line.

    A line break follows each of them, which is how the words are told from the same words
    within a step's work. The last line is never read.
    """
    return [
        position
        for position, (text, following) in enumerate(itertools.pairwise(texts))
        if text in (dialect.correct, dialect.wrong) and following.startswith("\n")
    ]


def _probabilities(
    tokens: Sequence[Token], parsed: ParsedCritique, dialect: Dialect
) -> tuple[float, ...]:
    """P(correct) / (P(correct) + P(wrong)) at each verdict; empty when they cannot be read."""
    positions = verdict_positions([token.text for token in tokens], dialect)
    written = tuple(tokens[position].text == dialect.correct for position in positions)
    if parsed.status != "ok" or written != parsed.verdicts:
        return ()
    return tuple(_probability(tokens[position], dialect) for position in positions)


def _probability(token: Token, dialect: Dialect) -> float:
    """P(correct) at a verdict.

    When the other word is not among the returned alternatives, its log-probability is bounded
    by the smallest of these: the result is then an upper bound of P(correct) for a step judged
    wrong, a lower bound for one judged right. The true value is more extreme.
    """
    other = dialect.wrong if token.text == dialect.correct else dialect.correct
    at_most = min([token.logprob, *token.top.values()])
    log_odds = token.logprob - token.top.get(other, at_most)
    if token.text == dialect.wrong:
        log_odds = -log_odds
    return 1 / (1 + math.exp(-log_odds)) if log_odds > -700 else 0.0


def _already_paid(written: Generation) -> Generation:
    return dataclasses.replace(written, prompt_tokens=0, generated_tokens=0)


def _content_id(problem: str, steps: Iterable[str]) -> str:
    digest = hashlib.sha256("\n".join([problem, *steps]).encode()).hexdigest()[:16]
    return f"unnamed/{hashlib.sha256(problem.encode()).hexdigest()[:16]}#{digest}"
