"""Step labels by exact checks: the equations that a step states and, if wanted, programs.

    ProgramLabeler().label(pool, rollouts)
    opinions(pool)
        {"gsm8k/7#0": Opinion("program", {"2": 1}, "equations/1")}

A step with a false equation is taken for the first wrong one: exact about that equation, silent
about all else. So the steps before it are unknown, not right; where the equations are the whole of
a step (chains of arithmetic), ``equations_are_whole`` says so. No equation costs a token.

With ``programs`` a model writes a program for each step (see `data_gen.step_programs`). It checks
the whole step and may have misread it: where equations and program differ, a denial counts.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

from data_gen.labelers.asking import charge, generator_of, problem_of, problems_of
from data_gen.labelers.equations import with_equations
from data_gen.labelers.places import (
    NONE,
    hard_labels,
    plain_labels,
    prefix_correct,
    stop_reason_of,
)
from data_gen.labelers.programs import with_programs
from data_gen.labelers.verdicts import own_verdicts, wait_for
from prm.protocols import ChatGenerator, Check, Rollouts
from prm.records import Evidence, LabelledSolution, Opinion, Problem, Solution, StepLabel, Verdict
from prm.verifiers.sandbox import Sandbox
from prm.verifiers.step_checks import CHECKER, equation_evidence

PROGRAMS = "programs"
"""Author of an opinion that rests on programs, before the name of the model that wrote them."""


@dataclasses.dataclass(frozen=True)
class ProgramLabeler:
    """What can be checked by calculating, and no more."""

    equations_are_whole: bool = False
    """A step whose equations all hold is right: true of chains of arithmetic, not of words."""
    programs: bool = False
    """A model writes a program for each step; what it confirms is right, what it denies wrong."""
    seed: int = 0
    """The same seed gives the same programs."""
    generator: ChatGenerator | None = None
    """Who writes the programs; None: the model of the rollouts."""
    problems: Mapping[str, Problem] | None = None
    """By id, for the programs; None: those of the rollouts."""
    sandbox: Sandbox | None = None
    """Where the programs run; None: the best of this machine."""

    name = "program"

    def label(
        self, pool: Sequence[Solution], rollouts: Rollouts, *, check: Check | None = None
    ) -> list[LabelledSolution]:
        """One labelled solution for each of the pool, in order.

        Raises:
            ConfigError: programs are wanted and there is no model to write them.
            SandboxUnavailable: ... and no sound sandbox to run them in.
        """
        verdicts = wait_for(own_verdicts(pool, rollouts, check))
        seen = [
            with_equations(_unread(solution, verdict, self.name))
            for solution, verdict in zip(pool, verdicts, strict=True)
        ]
        if self.programs:
            seen = self._with_programs(seen, rollouts)
        return [self._read(one) for one in seen]

    def _with_programs(
        self, seen: list[LabelledSolution], rollouts: Rollouts
    ) -> list[LabelledSolution]:
        generator = generator_of(self.generator, rollouts, type(self).__name__)
        problems = problems_of(self.problems, rollouts, type(self).__name__)
        known = {one.id: problem_of(one.solution, problems) for one in seen}
        by_id = {problem.id: problem for problem in known.values()}
        found, cost = with_programs(seen, by_id, generator, seed=self.seed, sandbox=self.sandbox)
        charge(rollouts, cost)
        return found

    def _read(self, seen: LabelledSolution) -> LabelledSolution:
        """The labels from the evidence of the steps."""
        holds = self._all_hold(seen)
        place = _place(holds)
        reason = stop_reason_of(len(holds), place)
        if holds and not any(label.evidence for label in seen.labels):
            place, reason = None, "nothing_said"
        elif place == NONE and seen.verdict.label is False:
            # Every step checks out and the answer is wrong: the checks have missed it.
            place, reason = None, "contradicts_verdict"
        if reason in ("nothing_said", "contradicts_verdict"):
            holds = [None] * len(holds)
        first_error = {} if place is None else {place: 1.0}
        return dataclasses.replace(
            seen,
            labels=_with_labels(seen.labels, _hard(holds, place), first_error),
            first_error=first_error,
            stop_reason=reason,
            opinions=() if place is None else (self._opinion(seen, place),),
            tokens_by_kind={"program": seen.tokens} if seen.tokens else {},
        )

    def _all_hold(self, seen: LabelledSolution) -> list[bool | None]:
        """Whether each step holds, as far as its evidence goes."""
        holds = [self._holds(label.evidence) for label in seen.labels]
        reads_whole = self.equations_are_whole or self.programs
        if (
            reads_whole
            and holds
            and not seen.labels[-1].evidence
            and seen.verdict.label is not None
        ):
            # It only states the answer: as right as the steps before, if the verdict agrees.
            holds[-1] = True
        return holds

    def _holds(self, evidence: Sequence[Evidence]) -> bool | None:
        if any(entry.successes < entry.trials for entry in evidence):
            return False
        kinds = {entry.kind for entry in evidence}
        is_confirmed = "program" in kinds or (self.equations_are_whole and "equations" in kinds)
        return True if is_confirmed else None

    def _opinion(self, seen: LabelledSolution, place: str) -> Opinion:
        authors = {e.completer for label in seen.labels for e in label.evidence}
        author = CHECKER
        if self.programs and (by := sorted(authors - {CHECKER})):
            author = f"{PROGRAMS}:{by[0]}+{CHECKER}"
        return Opinion("program", {place: 1}, author, seen.tokens)


def opinions(pool: Sequence[Solution]) -> dict[str, Opinion]:
    """Where the first false equation stands, by the solution's id; no word on the others."""
    said = {}
    for solution in pool:
        evidence = (equation_evidence(step) for step in solution.steps)
        is_false = [one is not None and one.successes < one.trials for one in evidence]
        if True in is_false:
            said[solution.id] = Opinion("program", {str(is_false.index(True)): 1}, CHECKER)
    return said


def _place(holds: Sequence[bool | None]) -> str | None:
    """The first step that does not hold; none where all do; None where that is not known."""
    if False in holds:
        return str(list(holds).index(False))
    return NONE if holds and all(holds) else None


def _hard(holds: Sequence[bool | None], place: str | None) -> list[bool | None]:
    """Right only as long as every step up to it is confirmed."""
    wanted = hard_labels(len(holds), place)
    hard: list[bool | None] = []
    for step in range(len(holds)):
        is_confirmed = all(holds[: step + 1])
        is_wrong = wanted[step] is False
        hard.append(False if is_wrong else True if is_confirmed else None)
    return hard


def _with_labels(
    labels: Sequence[StepLabel], hard: Sequence[bool | None], first_error: Mapping[str, float]
) -> tuple[StepLabel, ...]:
    """The hard labels, and P(prefix correct) where it does not rest on silence."""
    prefixes = [
        None if value and not known else value
        for value, known in zip(prefix_correct(first_error, len(labels)), hard, strict=True)
    ]
    return tuple(
        dataclasses.replace(label, hard=known, prefix_correct=prefix)
        for label, known, prefix in zip(labels, hard, prefixes, strict=True)
    )


def _unread(solution: Solution, verdict: Verdict, labeler: str) -> LabelledSolution:
    """The solution with nothing known of its steps."""
    nothing = [None] * len(solution.steps)
    labels = plain_labels(nothing, nothing, [()] * len(solution.steps))
    return LabelledSolution(solution, labels, {}, verdict, labeler, "undecided")
