"""Batches of the sampling job: which problems, what is drawn for them, what is written."""

from __future__ import annotations

import dataclasses
import itertools
from collections import Counter
from collections.abc import Iterator

from data_gen.askers import Asker
from data_gen.drafts import Draft, Plan
from data_gen.models import seed_of
from data_gen.sample_config import SampleConfig
from data_gen.sampling_notes import note
from data_gen.solutions import Reader
from prm.generation.requests import Reply, SetAside
from prm.ledger import Ledger
from prm.records import Problem, Solution
from prm.store import Shard, StoreWriter, read_records


@dataclasses.dataclass(frozen=True, slots=True)
class Batch:
    """Problems that are written together; ``name`` is the batch's in the store."""

    name: str
    seed: int
    problems: tuple[Problem, ...]


Drawn = list[tuple[Draft, Reply | SetAside]]


def batches(config: SampleConfig, writer: StoreWriter) -> Iterator[Batch]:
    """The batches of this shard that are not written yet, read as they are needed."""
    shard = Shard.parse(config.shard)
    mine = (one for one in read_records(config.problems, Problem) if shard.has(one.id))
    for index in itertools.count():
        problems = tuple(itertools.islice(mine, config.problems_per_batch))
        if not problems:
            return
        if not writer.has(f"batch-{index}"):
            seed = seed_of(config.seed, "sample", config.shard, index)
            yield Batch(f"batch-{index}", seed, problems)


async def draw(plan: Plan, asker: Asker, reader: Reader, batch: Batch) -> Drawn:
    """Every sample of a batch, round by round, in the order of the solutions' ids."""
    drafts = [draft for problem in batch.problems for draft in plan.first(problem)]
    drawn: Drawn = []
    for number in range(plan.rounds + 1):
        seed = seed_of(batch.seed, "round", number) if number else batch.seed
        replies = list(zip(drafts, await asker.ask(drafts, seed), strict=True))
        drawn += replies
        if number < plan.rounds:
            drafts = plan.refined(_texts(replies, reader))
    places = {problem.id: i for i, problem in enumerate(batch.problems)}
    return sorted(drawn, key=lambda one: (places[one[0].problem.id], one[0].k, one[0].round))


def write(
    reader: Reader,
    plan: Plan,
    writer: StoreWriter,
    batch: Batch,
    drawn: Drawn,
    *,
    keeps_seed: bool,
) -> Ledger:
    """Write a batch; what gave no solution is counted by its reason. Returns what it cost."""
    solutions: list[Solution] = []
    num_in = len(batch.problems) * plan.num_samples
    skipped = Counter({"nothing_to_refine": num_in - len(drawn)})
    cost = Ledger()
    for draft, reply in drawn:
        note(writer.notes, reply)
        if isinstance(reply, SetAside):
            skipped[reply.reason] += 1
            continue
        cost += reply.cost
        solution = reader.solution(draft, reply, batch.seed if keeps_seed else None)
        if solution is None:
            skipped["no_steps"] += 1
        else:
            solutions.append(solution)
    writer.append(batch.name, solutions, num_in=num_in, skipped=+skipped, ledger=cost)
    return cost


def _texts(drawn: Drawn, reader: Reader) -> Iterator[tuple[Draft, str]]:
    """What each draft said, where it said anything."""
    for draft, reply in drawn:
        if isinstance(reply, Reply) and (text := reader.said(draft, reply.generation)):
            yield draft, text
