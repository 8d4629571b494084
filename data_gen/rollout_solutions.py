r"""Make solutions of rollouts that were paid for, to be labelled and trained on like sampled ones.

    python -m data_gen.rollout_solutions --labels runs/x/labels --problems runs/x/problems \
        --rollouts runs/x/labels-rollouts --output runs/x/more-solutions
    python -m data_gen.label --config F --solutions runs/x/more-solutions --output runs/x/more

A rollout begins with the steps of a labelled solution, its ``parent``. Only those that begin right
are taken: a first error that came with the prefix would be the parent's, told a second time. Every
rollout that gives no solution is counted under its reason:

    start_not_right   the steps that it begins with are not known to be right
    could_not_tell    its answer could not be checked
    unfinished        it reached its token limit, or repeated itself
    no_steps          it says nothing
    other_steps       a program (answer_pattern: whole) whose steps do not begin with those kept
    duplicate         the same problem and steps are there already
    enough            its parent has given enough solutions with this outcome
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from data_gen.console import finish
from data_gen.rollout_store import KeptReader, prefix_key
from prm.config import fingerprint, operational, parse, resolved, run
from prm.errors import ConfigError, RecordError
from prm.protocols import Rollout
from prm.records import LabelledSolution, Problem, Solution, Usage
from prm.steps import join_steps, split_steps
from prm.store import StoreWriter, content_hash, read_records, unique
from prm.traces.programs import split_program
from prm.verifiers import extract_answer
from prm.verifiers.extract import WHOLE

COMMAND = "python -m data_gen.rollout_solutions"
STRATEGY = "rollout"


@dataclasses.dataclass(frozen=True)
class RolloutSolutionsConfig:
    """Settings of `data_gen.rollout_solutions`."""

    labels: str = operational("runs/quickstart/labels")
    """Store of labelled solutions."""
    problems: str = operational("runs/quickstart/problems")
    """Store of their problems."""
    rollouts: str = operational("runs/quickstart/labels-rollouts")
    """Folder of the rollouts that the labels were made with."""
    output: str = operational("runs/quickstart/rollout-solutions")
    """Folder of the store."""
    min_correct: float = 0.95
    """A prefix is right with at least this prefix_correct; where a label has none, if it is hard
    labelled right."""
    per_outcome: int = 2
    """Solutions of a parent at most that end right, and as many that end wrong."""

    def __post_init__(self) -> None:
        """Refuse what would take nothing, or anything."""
        if not 0 < self.min_correct <= 1:
            raise ConfigError(f"min_correct is {self.min_correct}, should be in (0, 1]")
        if self.per_outcome < 1:
            raise ConfigError(f"per_outcome is {self.per_outcome}, should be 1 or more")


def main(argv: list[str] | None = None) -> None:
    """Run the job."""
    config = parse(RolloutSolutionsConfig, COMMAND, __doc__, argv)
    labelled = unique(read_records(config.labels, LabelledSolution), config.labels)
    problems = {p.id: p for p in unique(read_records(config.problems, Problem), config.problems)}
    with contextlib.ExitStack() as held:
        reader = KeptReader(held, config.rollouts)
        writer = StoreWriter(
            config.output,
            job="rollout_solutions",
            config=resolved(config),
            config_hash=fingerprint(config),
            inputs={"labels": content_hash(config.labels), "rollouts": reader.fingerprint()},
        )
        with writer:
            if not writer.has("all"):
                found, skipped = make_solutions(labelled, problems, reader, config)
                num_in = len(found) + skipped.total()
                writer.append("all", found, num_in=num_in, skipped=skipped)
    finish("rollout_solutions", writer)


def make_solutions(
    labelled: Sequence[LabelledSolution],
    problems: Mapping[str, Problem],
    reader: KeptReader,
    config: RolloutSolutionsConfig,
) -> tuple[list[Solution], Counter[str]]:
    """The solutions in the order of their parents, and the reasons of the other rollouts.

    Raises:
        RecordError: a solution's problem is not among the problems.
    """
    taker = _Taker(config.per_outcome, reader.settings, labelled)
    done: set[bytes] = set()
    for parent in labelled:
        problem = problems.get(parent.solution.problem_id)
        if problem is None:
            raise RecordError(f"solution {parent.id!r}: its problem is not in the problems' store")
        for kept in range(len(parent.labels) + 1):
            key = prefix_key(problem, parent.solution.steps[:kept])
            if key not in done:
                done.add(key)
                is_right = begins_right(parent, kept, config.min_correct)
                taker.take(parent, kept, reader.get(key), is_right=is_right)
    return taker.found, +taker.skipped


def begins_right(labelled: LabelledSolution, kept: int, min_correct: float) -> bool:
    """Whether the first ``kept`` steps are right; no step at all is."""
    if kept == 0:
        return True
    label = labelled.labels[kept - 1]
    if label.prefix_correct is not None:
        return label.prefix_correct >= min_correct
    return label.hard is True


class _Taker:
    """Takes rollouts as solutions, or counts why not."""

    def __init__(
        self, per_outcome: int, settings: Mapping[str, Any], labelled: Sequence[LabelledSolution]
    ) -> None:
        self.found: list[Solution] = []
        self.skipped: Counter[str] = Counter()
        self._per_outcome, self._settings = per_outcome, settings
        self._seen = {(one.solution.problem_id, one.solution.steps) for one in labelled}
        self._taken: Counter[tuple[str, bool]] = Counter()

    def take(
        self,
        parent: LabelledSolution,
        kept: int,
        rollouts: Sequence[Rollout],
        *,
        is_right: bool,
    ) -> None:
        """Take those of a prefix that may be taken."""
        for rollout in rollouts:
            begin = parent.solution.steps[:kept]
            steps = _steps_of(begin, rollout, self._settings["answer_pattern"])
            if reason := self._reason_to_skip(parent, steps, kept, rollout, is_right=is_right):
                self.skipped[reason] += 1
            else:
                self._seen.add((parent.solution.problem_id, steps))
                self._taken[parent.id, bool(rollout.correct)] += 1
                self.found.append(self._solution(parent, steps, rollout))

    def _reason_to_skip(
        self,
        parent: LabelledSolution,
        steps: tuple[str, ...],
        kept: int,
        rollout: Rollout,
        *,
        is_right: bool,
    ) -> str | None:
        if not is_right:
            return "start_not_right"
        if rollout.correct is None:
            return "could_not_tell"
        if rollout.finish_reason != "stop":
            return "unfinished"
        if not (rollout.text or "").strip():
            return "no_steps"
        if steps[:kept] != parent.solution.steps[:kept] or len(steps) == kept:
            return "other_steps"
        if (parent.solution.problem_id, steps) in self._seen:
            return "duplicate"
        taken = self._taken[parent.id, rollout.correct]
        return "enough" if taken >= self._per_outcome else None

    def _solution(
        self, parent: LabelledSolution, steps: tuple[str, ...], rollout: Rollout
    ) -> Solution:
        problem_id = parent.solution.problem_id
        return Solution(
            # A sample has a bare number; the same steps have the same name in every generation.
            id=f"{problem_id}#rollout-{_hash(problem_id, steps)}",
            problem_id=problem_id,
            steps=steps,
            final_answer=extract_answer(list(steps), self._settings["answer_pattern"]),
            finish_reason=rollout.finish_reason,
            strategy=STRATEGY,
            model=parent.completer or self._settings["completer"],
            sampling=self._settings["sampling"],
            usage=Usage(generated_tokens=rollout.num_tokens),
            parent=parent.id,
        )


def _steps_of(begin: Sequence[str], rollout: Rollout, answer_pattern: str) -> tuple[str, ...]:
    """All steps, cut as the parent's were; of a program they need not begin with ``begin``."""
    # Line breaks around a text are no part of its first or last step.
    text = (rollout.text or "").strip("\n")
    if answer_pattern == WHOLE:
        return tuple(split_program(join_steps([*begin, text])))
    return (*begin, *split_steps(text))


def _hash(problem_id: str, steps: Sequence[str]) -> str:
    return hashlib.sha256(json.dumps([problem_id, list(steps)]).encode()).hexdigest()[:12]


if __name__ == "__main__":
    run(main, COMMAND)
