"""Step rewards from two models and no step labels at all (Implicit PRM, arXiv 2412.01981).

    r_t = beta * sum over the tokens of step t of log(p_policy / p_reference)

The policy was trained on outcomes (which solutions end right), the reference is what it was
trained from; the sum of the rewards up to a step is then the policy's estimate of the chance to
end right. The log ratio is kept as the value of the step's evidence, so that beta and threshold
can be chosen anew. Without a threshold nothing is called right or wrong.

Steps are tokenized apart, by the encoder of the scorers; what solutions of a problem share is read
once.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from data_gen.labelers.asking import problem_of, problems_of
from data_gen.labelers.places import (
    NONE,
    hard_labels,
    plain_labels,
    prefix_correct,
    stop_reason_of,
)
from data_gen.labelers.verdicts import own_verdicts, wait_for
from prm.errors import ConfigError
from prm.protocols import Check, Rollouts
from prm.records import Evidence, LabelledSolution, Problem, Solution, Verdict

if TYPE_CHECKING:
    from data_gen.labelers.log_likelihood import LogLikelihood


@dataclasses.dataclass(frozen=True)
class ImplicitLabeler:
    """The log-likelihood ratio of two models, for every step."""

    policy: str = ""
    """The model that was trained on outcomes: a folder (safetensors), or a hub id."""
    reference: str = ""
    """The model that it was trained from."""
    beta: float = 0.05
    """Scale of the rewards: the one that the policy was trained with."""
    threshold: float | None = None
    """The first step with a reward below it is the first wrong one; None: no hard labels."""
    template: str = "Problem: {problem}\n"
    """Text before the first step, as the policy was trained on it."""
    separator: str = "\n"
    """Text after every step; a step that contains it cannot be read, and is counted so."""
    max_tokens: int = 4096
    """A longer problem with its solution is not read."""
    batch_tokens: int = 8192
    """Tokens read side by side, padding included."""
    device: str | None = None
    """cpu or cuda; by default the GPU where there is one."""
    dtype: str | None = None
    """float32 or bfloat16; by default float32 on a CPU, bfloat16 on a GPU."""
    problems: Mapping[str, Problem] | None = None
    """By id; None: those of the rollouts."""

    name = "implicit"

    def label(
        self, pool: Sequence[Solution], rollouts: Rollouts, *, check: Check | None = None
    ) -> list[LabelledSolution]:
        """One labelled solution for each of the pool, in order; one that cannot be read says why.

        Raises:
            ConfigError: a model is not named, or the two do not write the same tokens.
            SpecError: weights that cannot be loaded.
        """
        problems = problems_of(self.problems, rollouts, type(self).__name__)
        verdicts = wait_for(own_verdicts(pool, rollouts, check))
        ratios, faults = self.log_ratios(pool, problems)
        return [
            self._read(solution, verdict, ratios.get(solution.id), faults.get(solution.id, ""))
            for solution, verdict in zip(pool, verdicts, strict=True)
        ]

    def log_ratios(
        self, pool: Sequence[Solution], problems: Mapping[str, Problem]
    ) -> tuple[dict[str, list[float]], dict[str, str]]:
        """The log ratio of each step, by solution; and why the others have none, in one word."""
        if not self.policy or not self.reference:
            lacking = "reference" if self.policy else "policy"
            raise ConfigError(f"ImplicitLabeler compares two models, and {lacking} names none")
        policy, reference = (self._model(path) for path in (self.policy, self.reference))
        policy.check_same_tokens(reference)
        encoded, faults = policy.encode(
            {one.id: (problem_of(one, problems).statement, one.steps) for one in pool},
        )
        ours = policy.log_likelihoods(encoded, self.batch_tokens)
        theirs = reference.log_likelihoods(encoded, self.batch_tokens)
        return {
            name: [a - b for a, b in zip(row, theirs[name], strict=True)]
            for name, row in ours.items()
        }, faults

    def _model(self, path: str) -> LogLikelihood:
        return _load(path, self.device, self.dtype, self.template, self.separator, self.max_tokens)

    def _read(
        self, solution: Solution, verdict: Verdict, ratios: list[float] | None, fault: str
    ) -> LabelledSolution:
        num_steps = len(solution.steps)
        place = self._place(ratios, verdict) if ratios else None
        first_error = {} if place is None else {place: 1.0}
        author = f"{self.policy}/{self.reference}"
        evidence = [(Evidence("implicit", 0, 0, author, value=one),) for one in ratios or ()]
        return LabelledSolution(
            solution=solution,
            labels=plain_labels(
                hard_labels(num_steps, place),
                prefix_correct(first_error, num_steps),
                evidence or [()] * num_steps,
            ),
            first_error=first_error,
            verdict=verdict,
            labeler=self.name,
            stop_reason=fault or self._reason(num_steps, place),
            decoder=f"beta={self.beta:g}, threshold={self.threshold}",
        )

    def _place(self, ratios: Sequence[float], verdict: Verdict) -> str | None:
        """The first step below the threshold; nothing where a wrong answer contradicts none."""
        if self.threshold is None:
            return None
        low = [step for step, ratio in enumerate(ratios) if self.beta * ratio < self.threshold]
        if not low and verdict.label is False:
            return None
        return str(low[0]) if low else NONE

    def _reason(self, num_steps: int, place: str | None) -> str:
        if num_steps and self.threshold is None:
            return "no_threshold"
        reason = stop_reason_of(num_steps, place)
        return "contradicts_verdict" if reason == "undecided" else reason


@functools.lru_cache(maxsize=2)
def _load(
    path: str,
    device: str | None,
    dtype: str | None,
    template: str,
    separator: str,
    max_tokens: int,
) -> LogLikelihood:
    """The model; the last two stay loaded, as a job labels batch by batch."""
    # Not above: torch is half a gigabyte that the other labelers have no use for.
    from data_gen.labelers.log_likelihood import LogLikelihood

    return LogLikelihood.from_pretrained(
        path,
        device=device,
        dtype=dtype,
        template=template,
        separator=separator,
        max_tokens=max_tokens,
    )
