r"""Label every step of sampled solutions: by rollouts from its prefixes, a judge, or exact checks.

    python -m data_gen.label --config configs/quickstart/label.yaml
    python -m data_gen.label --config F --shard 3/8
    python -m data_gen.label --config F --method omega --output runs/x/omega \
        --rollouts runs/x/labels-rollouts                what was paid for is used again
    python -m data_gen.label --config F --budget.tokens 5000000

Rollouts are kept, one by one with servers, in chunks of a thousand with a model in this process:
killed in any way, the job goes on to the same labels and pays for nothing twice. Counts and
opinions are kept in the labels, so that these can be read anew (data_gen.relabel). A step that
could not be decided has no hard label: a failure is never a label.

At the end of its budget the job ends with what is known by then: stop_reason "budget", batches that
were not begun (or whose programs were not all written) counted as skipped. The same command with a
larger budget goes on.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from pathlib import Path

from data_gen.console import batches, finish, progress, say
from data_gen.label_config import LabelConfig
from data_gen.label_job import LabelJob
from data_gen.label_models import open_models, reopen_where_budget_grew
from data_gen.label_summary import summarise, summary_lines
from data_gen.labelers.programs import require_sandbox
from data_gen.sampling_notes import lost_in_words
from prm.config import fingerprint, parse, resolved, run
from prm.errors import RecordError
from prm.records import LabelledSolution, Problem, Solution
from prm.store import Shard, StoreWriter, content_hash, read_records, unique
from prm.verifiers import Verifiers

COMMAND = "python -m data_gen.label"


def main(argv: list[str] | None = None) -> None:
    """Run the job."""
    config = parse(LabelConfig, COMMAND, __doc__, argv)
    shard = Shard.parse(config.shard)
    problems = {p.id: p for p in unique(read_records(config.problems, Problem), config.problems)}
    solutions = unique(read_records(config.solutions, Solution), config.solutions)
    if reopen_where_budget_grew(config, shard):
        say("label: the budget has grown; the labels are made anew from the rollouts that are kept")
    writer = StoreWriter(
        config.output,
        job="label",
        config=resolved(config),
        config_hash=fingerprint(config),
        inputs={
            "problems": content_hash(config.problems),
            "solutions": content_hash(config.solutions),
            **_hashes_of_models(config),
        },
        shard=shard,
    )
    with writer, Verifiers(config.verifiers) as verifiers:
        groups = _group(solutions, problems, shard, config.solutions)
        plan = batches(groups, config.problems_per_batch)
        todo = [(i, batch) for i, batch in enumerate(plan) if not writer.has(f"batch-{i}")]
        if not writer.is_done:
            say(f"label: {len(todo)} of {len(plan)} batches to do")
            _label(config, groups, todo, problems, writer, verifiers)
    finish("label", writer)
    for line in summary_lines(writer.notes):
        say(f"  {line}")
    if lost := lost_in_words(writer.notes):
        say(f"  {lost}")


def _hashes_of_models(config: LabelConfig) -> dict[str, str]:
    """A hash of the files of each PRM and model whose scores are evidence, by its setting."""
    named = {"scores": config.scores} if config.scores else {}
    for i, prm in enumerate(config.choose.prms if config.choose else ()):
        named[f"choose.prms.{i}"] = prm
    if config.method == "implicit":
        named["implicit.policy"] = config.implicit.policy
        named["implicit.reference"] = config.implicit.reference
    # What is no folder here is named by its hub id.
    return {
        name: _files_hash(Path(folder))
        for name, folder in named.items()
        if folder and Path(folder).is_dir()
    }


def _files_hash(folder: Path) -> str:
    digest = hashlib.sha256()
    for path in sorted(one for one in folder.rglob("*") if one.is_file()):
        with path.open("rb") as file:
            content = hashlib.file_digest(file, "sha256").hexdigest()
        digest.update(f"{path.relative_to(folder).as_posix()} {content}\n".encode())
    return digest.hexdigest()[:16]


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
    groups: list[list[Solution]],
    todo: list[tuple[int, list[list[Solution]]]],
    problems: dict[str, Problem],
    writer: StoreWriter,
    verifiers: Verifiers,
) -> None:
    """Label and write the batches."""
    if config.step_programs or (config.method == "program" and config.program.programs):
        # Before any rollout is paid for.
        require_sandbox()
    with open_models(config, writer.shard) as opened:
        job = LabelJob(config, problems, verifiers, writer, opened)
        job.choose([solution for group in groups for solution in group])
        for index, batch in progress(todo, "label"):
            job.label(index, [solution for group in batch for solution in group])
        _note_summary(job, writer)


def _note_summary(job: LabelJob, writer: StoreWriter) -> None:
    rows = read_records(writer.data_file, LabelledSolution) if writer.num_rows else ()
    writer.notes["summary"] = summarise(rows, job.spent(), job.num_reused)


if __name__ == "__main__":
    run(main, COMMAND)
