"""Best-of-n: write n solutions, score their steps, take the answer of the best one.

Three layers, each usable alone: `best_of_n` runs a generator and a scorer; `choose_best` works on
candidates that a user already has; `select_best` works on plain answers and scores.
`expected_best` measures: the probability that the choice is right when ties are broken at random.

A candidate without an answer costs tokens but is never chosen, and is not scored.
Standard library only.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence
from typing import Required, TypedDict, Unpack

from prm.aggregate import Aggregate, aggregate
from prm.errors import ConfigError, EncodingError, GenerationError, RecordError
from prm.protocols import Generator, SamplingParams, StepScorer

Parse = Callable[[str], tuple[list[str], str | None]]
"""From a generated text to its steps and its final answer (None where it has none)."""


@dataclasses.dataclass(frozen=True, slots=True)
class Candidate:
    """One solution in a search; ``score`` is None until a scorer has judged it."""

    steps: tuple[str, ...]
    answer: str | None
    score: float | None = None
    step_scores: tuple[float, ...] = ()
    text: str = ""
    finish_reason: str = ""
    generated_tokens: int = 0


@dataclasses.dataclass(frozen=True, slots=True)
class SearchResult:
    """What a search chose, out of what, and at what cost.

    ``answer`` and ``chosen`` (an index into ``candidates``) are None when no candidate has an
    answer. ``prompt_tokens`` counts the prompt once: n samples share it.
    """

    answer: str | None
    chosen: int | None
    candidates: tuple[Candidate, ...]
    prompt_tokens: int = 0

    @property
    def generated_tokens(self) -> int:
        """Tokens written for all candidates, also those that could not be chosen."""
        return sum(candidate.generated_tokens for candidate in self.candidates)

    @property
    def num_scored_steps(self) -> int:
        """Step scores asked of the scorer."""
        return sum(len(candidate.step_scores) for candidate in self.candidates)


class Sampling(TypedDict, total=False):
    """The keywords that every search takes for its samples: those of `sample_candidates`."""

    parse: Required[Parse]
    n: int
    params: SamplingParams
    seed: int
    prompt: Callable[[str], str]


def best_of_n(
    problem: str,
    generator: Generator,
    scorer: StepScorer,
    *,
    aggregate: Aggregate = "min",
    **sampling: Unpack[Sampling],
) -> SearchResult:
    """Write n solutions and choose the best-scored one; of equals the one written first.

    ``sampling``: ``parse`` and, with their defaults, ``n`` = 8, ``params``, ``seed`` = 0 and
    ``prompt``; `sample_candidates` says what they mean.
    """
    candidates, prompt_tokens = sample_candidates(problem, generator, **sampling)
    scored = score_candidates(problem, candidates, scorer, aggregate)
    return choose_best(scored, prompt_tokens=prompt_tokens)


def sample_candidates(
    problem: str,
    generator: Generator,
    *,
    parse: Parse,
    n: int = 8,
    params: SamplingParams | None = None,
    seed: int = 0,
    prompt: Callable[[str], str] = str,
) -> tuple[tuple[Candidate, ...], int]:
    """Write ``n`` unscored candidates; also returns the prompt's tokens, counted once.

    ``prompt`` turns the problem's statement into the generator's prompt (as it is, by default).

    Raises:
        ConfigError: n < 1, or ``params.n`` asks for another number.
        GenerationError: the generator wrote another number of texts.
    """
    params = params or SamplingParams()
    if n < 1 or params.n not in (1, n):
        raise ConfigError(f"n = {n} with params.n = {params.n}: n >= 1 counts, leave params.n at 1")
    texts = generator.generate([prompt(problem)], dataclasses.replace(params, n=n), seed=seed)
    if len(texts) != 1 or len(texts[0]) != n:
        found = [len(group) for group in texts]
        raise GenerationError(f"{generator.name} wrote {found} texts where [{n}] were asked for")
    candidates = []
    for text in texts[0]:
        steps, answer = parse(text.text)
        candidates.append(
            Candidate(
                steps=tuple(steps),
                answer=answer,
                text=text.text,
                finish_reason=text.finish_reason,
                generated_tokens=text.generated_tokens,
            )
        )
    return tuple(candidates), texts[0][0].prompt_tokens


def score_candidates(
    problem: str, candidates: Sequence[Candidate], scorer: StepScorer, how: Aggregate = "min"
) -> tuple[Candidate, ...]:
    """Score the candidates that have an answer, in one call of the scorer.

    Raises:
        EncodingError: a number of scores that is not the number of steps, no steps, or a NaN.
    """
    answered = [i for i, candidate in enumerate(candidates) if candidate.answer is not None]
    if not answered:
        return tuple(candidates)
    score_lists = scorer.score_many(problem, [candidates[i].steps for i in answered])
    if len(score_lists) != len(answered):
        raise EncodingError(f"{len(score_lists)} score lists for {len(answered)} solutions")
    scored = list(candidates)
    for i, scores in zip(answered, score_lists, strict=True):
        if len(scores) != len(candidates[i].steps):
            raise EncodingError(
                f"candidate {i}: {len(scores)} scores for {len(candidates[i].steps)} steps"
            )
        scored[i] = dataclasses.replace(
            candidates[i], score=aggregate(scores, how), step_scores=tuple(scores)
        )
    return tuple(scored)


def choose_best(candidates: Sequence[Candidate], *, prompt_tokens: int = 0) -> SearchResult:
    """Choose the best-scored of candidates that a user already has.

    Raises:
        EncodingError: a candidate has an answer but no score, or its score is NaN.
    """
    chosen = select_best([candidate.answer for candidate in candidates], scores_of(candidates))
    answer = None if chosen is None else candidates[chosen].answer
    return SearchResult(answer, chosen, tuple(candidates), prompt_tokens)


def scores_of(candidates: Sequence[Candidate]) -> list[float]:
    """The scores; 0 stands for candidates without an answer, which no method reads.

    Raises:
        EncodingError: a candidate has an answer but no score.
    """
    scores = []
    for i, candidate in enumerate(candidates):
        if candidate.score is None and candidate.answer is not None:
            raise EncodingError(f"candidate {i} has no score; call score_candidates first")
        scores.append(candidate.score or 0.0)
    return scores


def select_best(answers: Sequence[str | None], scores: Sequence[float]) -> int | None:
    """The index of the best score among samples with an answer, the first of equals.

    Raises:
        ConfigError: not one score a sample.
        EncodingError: a score is NaN.
    """
    tied = _best_indices(answers, scores)
    return tied[0] if tied else None


def expected_best(
    answers: Sequence[str | None], right: Sequence[bool], scores: Sequence[float]
) -> float:
    """The probability that the best-scored answer is right, each of the tied equally likely.

    0 when no sample has an answer. Raises as `select_best` and `check_flags` do.
    """
    check_flags(answers, right)
    tied = _best_indices(answers, scores)
    return sum(right[i] for i in tied) / len(tied) if tied else 0.0


def check_flags(answers: Sequence[str | None], right: Sequence[bool]) -> None:
    """Refuse correctness flags that contradict the answers.

    Raises:
        ConfigError: not one flag a sample.
        RecordError: no answer is called right, or one answer is called both right and wrong.
    """
    if len(answers) != len(right):
        raise ConfigError(f"{len(right)} correctness flags for {len(answers)} answers")
    seen: dict[str | None, bool] = {None: False}
    for i, (answer, flag) in enumerate(zip(answers, right, strict=True)):
        if seen.setdefault(answer, bool(flag)) != flag:
            raise RecordError(
                f"sample {i}: answer {answer!r} is called {'right' if flag else 'wrong'}, "
                "elsewhere (or by its absence) the opposite"
            )


def check_scores(answers: Sequence[str | None], scores: Sequence[float]) -> None:
    """Refuse scores that cannot be compared.

    Raises:
        ConfigError: not one score a sample.
        EncodingError: a score is NaN.
    """
    if len(answers) != len(scores):
        raise ConfigError(f"{len(scores)} scores for {len(answers)} answers")
    for i, score in enumerate(scores):
        if math.isnan(score):
            raise EncodingError(f"the score of sample {i} is NaN; look at the scorer's output")


def _best_indices(answers: Sequence[str | None], scores: Sequence[float]) -> list[int]:
    check_scores(answers, scores)
    answered = [i for i, answer in enumerate(answers) if answer is not None]
    best = max((scores[i] for i in answered), default=0.0)
    return [i for i in answered if scores[i] == best]
