"""Label every step of sampled solutions, by rollouts from its prefixes.

    python -m data_gen.label --config configs/quickstart/label.yaml
    python -m data_gen.label --config F --shard 3/8

Counts (successes, trials) are kept, so that labels can be read anew without new rollouts. A step
that could not be decided has no hard label: a failure is never a label.
"""

from __future__ import annotations

import dataclasses
import time
from collections import Counter, defaultdict
from collections.abc import Mapping
from typing import Any

from data_gen.arithmetic import is_held_out
from data_gen.console import batches, finish, progress, say
from data_gen.labelers import MathShepherdLabeler
from data_gen.labelers.equations import with_equations
from data_gen.labelers.programs import require_sandbox, with_programs
from data_gen.labelers.rollouts import GeneratorRollouts
from data_gen.models import ModelConfig, open_generator, seed_of
from data_gen.prompting import load_strategy
from data_gen.sampling_notes import lost_in_words, note_lost
from prm.config import fingerprint, operational, parse, resolved, run
from prm.errors import RecordError
from prm.evaluation.step_truth import operand_pairs
from prm.ledger import Ledger
from prm.protocols import ChatGenerator, SamplingParams
from prm.records import Problem, Solution
from prm.store import Shard, StoreWriter, content_hash, read_records, unique
from prm.verifiers import Verifiers

COMMAND = "python -m data_gen.label"


@dataclasses.dataclass(frozen=True)
class LabelConfig:
    """Settings of `data_gen.label`."""

    problems: str = operational("runs/quickstart/problems")
    """Store of problems."""
    solutions: str = operational("runs/quickstart/solutions")
    """Store of solutions to label."""
    output: str = operational("runs/quickstart/labels")
    """Folder of the store."""
    splits: list[str] = dataclasses.field(default_factory=lambda: ["train"])
    """Label the solutions of these splits; the others are skipped and counted."""
    exhaustive_splits: list[str] = dataclasses.field(default_factory=list)
    """Splits without early stop: unbiased success rates, for measuring calibration."""
    completer: ModelConfig = dataclasses.field(default_factory=ModelConfig)
    """The model that continues the prefixes."""
    strategy: str = "few_shot_arithmetic"
    """Prompt of the rollouts: a name in data_gen/prompts, or the path of a .yaml file."""
    sampling: SamplingParams = dataclasses.field(
        default_factory=lambda: SamplingParams(max_tokens=56)
    )
    """Temperature, token limit and stop strings of the rollouts (n comes from the labeler)."""
    labeler: MathShepherdLabeler = dataclasses.field(default_factory=MathShepherdLabeler)
    """Rollouts a prefix, early stop, reuse of sibling solutions."""
    answer_pattern: str = r"^Answer: (.+)$"
    """Regular expression; its first group in the last step is the final answer. "boxed": the last
    \\boxed{}. "whole": all steps (programs)."""
    verifiers: dict[str, dict[str, Any]] = dataclasses.field(default_factory=dict)
    """Settings of verifiers, by name: {math: {timeout_s: 3.0}}."""
    equations: bool = False
    """Add to each step's evidence which of its equations hold; hard labels stay as they are."""
    step_programs: bool = False
    """A program that the completer writes checks each step; one more piece of evidence."""
    hold_out_pairs: bool = True
    """Skip training solutions that write a held-out operand pair (arithmetic problems only)."""
    problems_per_batch: int = 24
    """A batch is made, seeded and written whole."""
    seed: int = 0
    """The same seed gives the same rollouts, without servers for the same number of shards."""
    shard: str = operational("0/1")
    """Which part of the problems: i/n."""


def main(argv: list[str] | None = None) -> None:
    """Run the job."""
    config = parse(LabelConfig, COMMAND, __doc__, argv)
    shard = Shard.parse(config.shard)
    problems = {p.id: p for p in unique(read_records(config.problems, Problem), config.problems)}
    solutions = unique(read_records(config.solutions, Solution), config.solutions)
    writer = StoreWriter(
        config.output,
        job="label",
        config=resolved(config),
        config_hash=fingerprint(config),
        inputs={
            "problems": content_hash(config.problems),
            "solutions": content_hash(config.solutions),
        },
        shard=shard,
    )
    with writer, Verifiers(config.verifiers) as verifiers:
        groups = _group(solutions, problems, shard, config.solutions)
        plan = batches(groups, config.problems_per_batch)
        todo = [(i, batch) for i, batch in enumerate(plan) if not writer.has(f"batch-{i}")]
        if todo:
            say(f"label: {len(todo)} of {len(plan)} batches to do")
            _label(config, todo, problems, writer, verifiers)
    finish("label", writer)
    if lost := lost_in_words(writer.notes):
        say(f"  {lost}")


def _group(
    solutions: list[Solution], problems: dict[str, Problem], shard: Shard, where: str
) -> list[list[Solution]]:
    """The shard's solutions by problem, in the order of the problems."""
    groups: dict[str, list[Solution]] = defaultdict(list)
    for solution in solutions:
        if solution.problem_id not in problems:
            raise RecordError(
                f"{where}: solution {solution.id!r} is of problem {solution.problem_id!r}, which "
                "is not in the problems; give the problems that the solutions were made from"
            )
        if shard.has(solution.problem_id):
            groups[solution.problem_id].append(solution)
    return [groups[problem_id] for problem_id in problems if problem_id in groups]


def _label(
    config: LabelConfig,
    todo: list[tuple[int, list[list[Solution]]]],
    problems: dict[str, Problem],
    writer: StoreWriter,
    verifiers: Verifiers,
) -> None:
    """Label and write the batches."""
    if config.step_programs:
        # Before any rollout is paid for.
        require_sandbox()
    with open_generator(config.completer, config.output, writer.shard) as generator:
        for index, groups in progress(todo, "label"):
            pool = [solution for group in groups for solution in group]
            rollouts = _rollouts(config, generator, problems, index, verifiers)
            _label_batch(config, index, pool, rollouts, writer)


def _label_batch(
    config: LabelConfig,
    index: int,
    pool: list[Solution],
    rollouts: GeneratorRollouts,
    writer: StoreWriter,
) -> None:
    begun = time.monotonic()
    problems = rollouts.problems
    wanted, skipped = _select(config, pool, problems)
    verdicts = rollouts.verifiers.check_many(
        (problems[s.problem_id], s.final_answer) for s in wanted
    )
    by_id = {s.id: verdict for s, verdict in zip(wanted, verdicts, strict=True)}
    labelled = [
        one
        for labeler, part in _by_labeler(config, wanted, problems, rollouts.generator.name)
        for one in labeler.label(part, rollouts, check=lambda solution: by_id[solution.id])
    ]
    if config.equations:
        labelled = [with_equations(one) for one in labelled]
    if config.step_programs:
        seed = seed_of(rollouts.seed, "step programs")
        labelled, spent = with_programs(labelled, problems, rollouts.generator, seed=seed)
        rollouts.ledger += spent
    # A model in this process loses nothing.
    note_lost(writer.notes, getattr(rollouts.generator, "lost", Ledger()))
    cost = dataclasses.replace(rollouts.ledger, seconds=time.monotonic() - begun)
    writer.append(f"batch-{index}", labelled, num_in=len(pool), skipped=skipped, ledger=cost)


def _select(
    config: LabelConfig, pool: list[Solution], problems: Mapping[str, Problem]
) -> tuple[list[Solution], Counter[str]]:
    """The solutions to label, and why the others are not."""
    wanted, skipped = [], Counter[str]()
    for solution in pool:
        problem = problems[solution.problem_id]
        if problem.split not in config.splits:
            skipped["other_split"] += 1
        elif problem.split == "train" and config.hold_out_pairs and _uses_held_out(solution):
            skipped["held_out_pair"] += 1
        else:
            wanted.append(solution)
    return wanted, skipped


def _uses_held_out(solution: Solution) -> bool:
    return any(is_held_out(pair) for pair in operand_pairs(solution.steps))


def _by_labeler(
    config: LabelConfig, pool: list[Solution], problems: Mapping[str, Problem], completer: str
) -> list[tuple[MathShepherdLabeler, list[Solution]]]:
    """The solutions by how thoroughly they are labelled."""
    labeler = dataclasses.replace(config.labeler, completer=completer)
    full = dataclasses.replace(labeler, early_stop=False)
    split = {solution.id: problems[solution.problem_id].split for solution in pool}
    return [
        (labeler, [s for s in pool if split[s.id] not in config.exhaustive_splits]),
        (full, [s for s in pool if split[s.id] in config.exhaustive_splits]),
    ]


def _rollouts(
    config: LabelConfig,
    generator: ChatGenerator,
    problems: dict[str, Problem],
    index: int,
    verifiers: Verifiers,
) -> GeneratorRollouts:
    keeps_answers = config.completer.servers is not None
    return GeneratorRollouts(
        generator,
        problems,
        strategy=load_strategy(config.strategy),
        params=config.sampling,
        answer_pattern=config.answer_pattern,
        seed=config.seed if keeps_answers else seed_of(config.seed, "label", config.shard, index),
        verifiers=verifiers,
    )


if __name__ == "__main__":
    run(main, COMMAND)
