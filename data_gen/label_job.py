"""The batches of the labelling job: which solutions, who labels them, what is written.

Where the budget ends inside a batch, rollouts and a judge leave the rest of it without evidence;
programs are all or nothing: a batch of the method program is skipped, `step_programs` adds nothing.
What was answered is kept in any case, for a start with a larger budget.
"""

from __future__ import annotations

import dataclasses
import time
from collections import Counter
from collections.abc import Mapping, Sequence

from data_gen.arithmetic import is_held_out
from data_gen.label_config import LabelConfig
from data_gen.label_models import Opened
from data_gen.labelers import active
from data_gen.labelers.bayes import BayesLabeler
from data_gen.labelers.equations import with_equations
from data_gen.labelers.judge import JudgeLabeler, opinions
from data_gen.labelers.kept_answers import KeptAnswers
from data_gen.labelers.kept_rollouts import MAX_ROWS, KeptRollouts
from data_gen.labelers.program_labeler import ProgramLabeler
from data_gen.labelers.programs import with_programs
from data_gen.labelers.rollouts import Asked, GeneratorRollouts
from data_gen.models import seed_of
from data_gen.prompting import load_strategy
from data_gen.sampling_notes import note_lost
from prm.config import fingerprint
from prm.errors import BudgetError
from prm.evaluation.step_truth import operand_pairs
from prm.ledger import Ledger
from prm.protocols import ChatGenerator, Check, Labeler, Rollout, Rollouts
from prm.records import LabelledSolution, Opinion, Problem, Solution
from prm.store import StoreWriter
from prm.verifiers import Verifiers


class NoRollouts:
    """For labelers that ask for none; they take the problems from here."""

    def __init__(self, problems: Mapping[str, Problem]) -> None:
        """Nothing to continue with."""
        self.problems = problems
        self.ledger = Ledger()

    async def sample_many(self, requests: Sequence[Asked]) -> list[list[Rollout]]:
        """None can be had."""
        return [[] for _ in requests]


@dataclasses.dataclass
class LabelJob:
    """What the batches share; ``chosen`` is None where all solutions are labelled."""

    config: LabelConfig
    problems: dict[str, Problem]
    verifiers: Verifiers
    writer: StoreWriter
    opened: Opened
    chosen: dict[str, active.Choice] | None = None
    num_reused: int = 0
    """Rollouts that were there already."""

    def choose(self, pool: Sequence[Solution]) -> None:
        """Choose among all solutions of the shard, where the settings say so."""
        config = self.config.choose
        if config is not None:
            wanted, _ = self._select(pool)
            items = {s.id: (self.problems[s.problem_id].statement, s.steps) for s in wanted}
            unsure = active.unsure_of(config.prms, items, config.by)
            self.chosen = active.choose(unsure, config, seed=self.config.seed)

    def label(self, index: int, pool: Sequence[Solution]) -> None:
        """Label a batch and write it; after the budget has ended, count it as skipped."""
        begun = time.monotonic()
        wanted, skipped = self._select(pool)
        try:
            labelled = [] if self.opened.is_out else self._labelled(index, wanted)
        except BudgetError:
            labelled = []
        if self.opened.is_out:
            skipped["budget"] = len(wanted) - len(labelled)
            self.writer.notes["budget"] = dataclasses.asdict(self.config.budget)
        note_lost(self.writer.notes, self.opened.lost)
        cost = sum(self.opened.store.spent(self._owner(index)).values(), Ledger())
        cost = dataclasses.replace(cost, seconds=time.monotonic() - begun)
        name = f"batch-{index}"
        self.writer.append(name, labelled, num_in=len(pool), skipped=+skipped, ledger=cost)

    def spent(self) -> dict[str, Ledger]:
        """What all batches cost, by kind, in all starts."""
        return self.opened.store.spent(f"{fingerprint(self.config)}/")

    def _owner(self, index: int) -> str:
        return f"{fingerprint(self.config)}/batch-{index}/"

    def _labelled(self, index: int, wanted: Sequence[Solution]) -> list[LabelledSolution]:
        """The labels of a batch, with all evidence that is wanted."""
        verdicts = self.verifiers.check_many(
            (self.problems[s.problem_id], s.final_answer) for s in wanted
        )
        by_id = {s.id: verdict for s, verdict in zip(wanted, verdicts, strict=True)}
        rollouts = self._rollouts(index)
        labelled = [
            one
            for labeler, part in self._by_labeler(wanted, index)
            for one in self._run(labeler, part, rollouts, lambda s: by_id[s.id], index)
        ]
        self.num_reused += rollouts.num_reused if isinstance(rollouts, KeptRollouts) else 0
        if self.config.equations:
            labelled = [with_equations(one) for one in labelled]
        if self.config.step_programs:
            labelled = self._with_programs(labelled, index)
        if self.chosen is not None:
            labelled = [_with_choice(one, self.chosen[one.id]) for one in labelled]
        return labelled

    def _run(
        self,
        labeler: Labeler,
        part: Sequence[Solution],
        rollouts: Rollouts,
        check: Check,
        index: int,
    ) -> list[LabelledSolution]:
        if isinstance(labeler, BayesLabeler):
            said, scores = self._opinions(part, index), self._scores(part)
            return labeler.label(part, rollouts, check=check, opinions=said, scores=scores)
        return labeler.label(part, rollouts, check=check)

    def _opinions(self, part: Sequence[Solution], index: int) -> dict[str, list[Opinion]]:
        """The judge's, where there is one; none of a solution that the budget has no room for."""
        judge = self.config.judge
        if judge is None:
            return {}
        model = self._kept(self.opened.judge, "judge", index)
        said = opinions(
            part,
            self.problems,
            model,
            votes=judge.votes,
            sampling=judge.sampling,
            prompt=judge.prompt,
            seed=self.config.seed,
        )
        return {name: [opinion] for name, opinion in said.items()}

    def _scores(self, part: Sequence[Solution]) -> dict[str, list[float]]:
        """Step scores by the published PRM, of the solutions that it can read."""
        if self.config.scores is None:
            return {}
        items = {s.id: (self.problems[s.problem_id].statement, s.steps) for s in part}
        return active.scores_of(self.config.scores, items)

    def _with_programs(
        self, labelled: list[LabelledSolution], index: int
    ) -> list[LabelledSolution]:
        model = self._kept(self.opened.completer, "program", index)
        seed = seed_of(self._seed(index), "step programs")
        try:
            return with_programs(labelled, self.problems, model, seed=seed)[0]
        except BudgetError:
            return labelled

    def _kept(self, generator: ChatGenerator | None, kind: str, index: int) -> KeptAnswers:
        assert generator is not None, f"the job opened no model for kind {kind}"
        config = self.config.judge_model if kind == "judge" else self.config.completer
        return KeptAnswers(
            generator,
            self.opened.store,
            owner=self._owner(index),
            kind=kind,
            max_rows=self.config.completer.max_rows,
            made_with=config.made_with,
        )

    def _by_labeler(
        self, pool: Sequence[Solution], index: int
    ) -> list[tuple[Labeler, list[Solution]]]:
        """The solutions by who labels them."""
        name = self.opened.completer.name if self.opened.completer else ""
        exhaustive = self.config.exhaustive_splits
        split = {s.id: self.problems[s.problem_id].split for s in pool}
        parts = [
            (self._labeler(name, index), [s for s in pool if split[s.id] not in exhaustive]),
            (self.config.exhaustive_labeler(name), [s for s in pool if split[s.id] in exhaustive]),
        ]
        return [(labeler, part) for labeler, part in parts if part]

    def _labeler(self, completer: str, index: int) -> Labeler:
        """The method's labeler, with its model where it asks one by itself."""
        labeler = self.config.labeler(completer)
        if isinstance(labeler, JudgeLabeler):
            model = self._kept(self.opened.judge, "judge", index)
            return dataclasses.replace(labeler, generator=model)
        if isinstance(labeler, ProgramLabeler) and labeler.programs:
            model = self._kept(self.opened.completer, "program", index)
            return dataclasses.replace(labeler, generator=model)
        return labeler

    def _select(self, pool: Sequence[Solution]) -> tuple[list[Solution], Counter[str]]:
        """The solutions to label, and why the others are not."""
        wanted, skipped = [], Counter[str]()
        for solution in pool:
            split = self.problems[solution.problem_id].split
            if split not in self.config.splits:
                skipped["other_split"] += 1
            elif split == "train" and self.config.hold_out_pairs and _uses_held_out(solution):
                skipped["held_out_pair"] += 1
            elif self.chosen is not None and solution.id not in self.chosen:
                skipped["not_chosen"] += 1
            else:
                wanted.append(solution)
        return wanted, skipped

    def _seed(self, index: int) -> int:
        """Of a batch; where answers are kept by their content, of the run."""
        if getattr(self.opened.completer, "keeps_answers", False):
            return self.config.seed
        return seed_of(self.config.seed, "label", self.config.shard, index)

    def _rollouts(self, index: int) -> Rollouts:
        completer, seed = self.opened.completer, self._seed(index)
        if completer is None:
            return NoRollouts(self.problems)
        inner = GeneratorRollouts(
            completer,
            self.problems,
            strategy=load_strategy(self.config.strategy),
            params=self.config.sampling,
            answer_pattern=self.config.answer_pattern,
            seed=seed,
            verifiers=self.verifiers,
        )
        rows = max(MAX_ROWS, self.config.completer.max_rows)
        owner, store = self._owner(index), self.opened.store
        return KeptRollouts(inner, store, self.problems, owner=owner, seed=seed, max_rows=rows)


def _with_choice(labelled: LabelledSolution, choice: active.Choice) -> LabelledSolution:
    return dataclasses.replace(labelled, propensity=choice.propensity, chosen_by=choice.chosen_by)


def _uses_held_out(solution: Solution) -> bool:
    return any(is_held_out(pair) for pair in operand_pairs(solution.steps))
