"""Sample solutions: n a problem, step-wise, from a model in this process or from servers.

    python -m data_gen.sample --config configs/quickstart/sample.yaml
    python -m data_gen.sample --config F --shard 3/8        one of eight shards

With servers (`generator.servers.endpoints`), every answer is kept under a hash of its request in a
folder beside the output. Killed, or started again with more problems, more samples or another
order, the job asks only for what is not there: nothing is asked or paid twice. When settings or
problems have changed, --remake true writes the records anew, from the kept answers where there are
any. A resumed run gives the same records as an undisturbed one.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import itertools
import signal
from collections import Counter
from collections.abc import Iterator
from typing import Any

from data_gen.askers import Asker, InProcessAsker, ServerAsker
from data_gen.console import console, finish, say
from data_gen.drafts import Draft, Plan
from data_gen.in_order import run_in_order
from data_gen.models import ModelConfig, load_generator, requests_folder, seed_of
from data_gen.sample_summary import Summary, summarise
from data_gen.sample_tables import show_summary
from data_gen.sampling_progress import SamplingProgress
from data_gen.solutions import Reader, answer_text
from prm.config import fingerprint, operational, parse, resolved, run
from prm.generation.requests import Reply, SetAside
from prm.ledger import Ledger
from prm.prices import price_of
from prm.protocols import SamplingParams
from prm.records import Problem, Solution
from prm.store import Shard, StoreWriter, content_hash, discard, read_ids, read_records
from prm.traces import StepsFrom
from prm.verifiers import Verifiers

COMMAND = "python -m data_gen.sample"
_REMEDY = "Choose another output folder, or write the records anew: --remake true."


@dataclasses.dataclass(frozen=True)
class SampleConfig:
    """Settings of `data_gen.sample`."""

    problems: str = operational("runs/quickstart/problems")
    """Store of problems to solve."""
    output: str = operational("runs/quickstart/solutions")
    """Folder of the store."""
    generator: ModelConfig = dataclasses.field(default_factory=ModelConfig)
    """The model that writes the solutions, and where it runs."""
    strategies: dict[str, float] = dataclasses.field(
        default_factory=lambda: {"few_shot_arithmetic": 1.0}
    )
    """Prompts and their weights: the samples are spread over them. Names of data_gen/prompts, or
    paths of .yaml files like those there."""
    refine: str = ""
    """Prompt that improves each solution, such as find_and_fix; empty = none."""
    refine_rounds: int = 0
    """How often; each round is a record of its own, linked to its parent."""
    sampling: SamplingParams = dataclasses.field(
        default_factory=lambda: SamplingParams(n=8, max_tokens=64, stop=("\n\n",))
    )
    """Samples a problem, temperature, token limit, stop strings."""
    steps_from: StepsFrom = "text"
    """text: each line is a step. thinking, answer: that part of a text with <think> tags, cut at
    paragraphs and turns of thought."""
    opens_thinking: bool = False
    """The model's chat template opens the thinking (QwQ, DeepSeek-R1): a text without </think> was
    cut off in its thoughts and has no answer."""
    answer_pattern: str = r"^Answer: (.+)$"
    """Regular expression; its first group in the last step is the final answer. "boxed": the last
    \\boxed{}."""
    problems_per_batch: int = 16
    """A batch is written whole; a model in this process also makes and seeds it whole."""
    seed: int = 0
    """The same seed gives the same solutions, for the same number of shards."""
    verifiers: dict[str, dict[str, Any]] = operational(dict)
    """Settings of the verifiers that judge the answers for the summary, by name."""
    shard: str = operational("0/1")
    """Which part of the problems: i/n."""
    remake: bool = operational(False)
    """Write this shard's records anew, and ask again what was set aside. Kept answers are used."""
    wandb_project: str = operational("")
    """Log progress to this project of Weights & Biases; empty = do not."""


@dataclasses.dataclass(frozen=True, slots=True)
class _Batch:
    """Problems that are written together; ``name`` is the batch's in the store."""

    name: str
    seed: int
    problems: tuple[Problem, ...]


Drawn = list[tuple[Draft, Reply | SetAside]]


def main(argv: list[str] | None = None) -> None:
    """Run the job."""
    config = parse(SampleConfig, COMMAND, __doc__, argv)
    shard = Shard.parse(config.shard)
    plan = Plan.make(
        config.strategies, config.sampling.n, config.refine, config.refine_rounds, config.seed
    )
    num_problems = sum(shard.has(name) for name in read_ids(config.problems, Problem))
    if config.remake:
        discard(config.output, shard)
    with _open(config, plan, shard) as writer:
        if not writer.is_done:
            _sample(config, plan, writer, num_problems)
        summary = _summary(config, shard, writer)
        writer.notes["summary"] = summary.to_json() if summary else None
    if summary:
        show_summary(summary, console)
    finish("sample", writer)


def _open(config: SampleConfig, plan: Plan, shard: Shard) -> StoreWriter:
    prompts = {f"prompt {one.id}": one.fingerprint for one in plan.every_strategy}
    return StoreWriter(
        config.output,
        job="sample",
        config=resolved(config),
        config_hash=fingerprint(config),
        inputs={"problems": content_hash(config.problems), **prompts},
        shard=shard,
        remedy=_REMEDY,
    )


def _sample(config: SampleConfig, plan: Plan, writer: StoreWriter, num_problems: int) -> None:
    """Make and write what is missing."""
    total = num_problems * plan.num_samples
    say(f"sample: {total - writer.num_in} of {total} samples to do")
    progress = SamplingProgress(
        total,
        done=writer.num_in,
        wandb_project=config.wandb_project,
        settings=resolved(config),
    )
    if config.generator.servers is None:
        asker = InProcessAsker(load_generator(config.generator), config.sampling)
        with _interrupted_at_once():
            asyncio.run(_draw(config, plan, writer, asker, progress))
        return
    asyncio.run(_ask_servers(config, plan, writer, progress))


async def _ask_servers(
    config: SampleConfig, plan: Plan, writer: StoreWriter, progress: SamplingProgress
) -> None:
    from prm.generation.request_store import RequestStore
    from prm.generation.server import ServerSampler

    model, servers, shard = config.generator.model, config.generator.servers, writer.shard
    assert servers is not None
    with RequestStore(requests_folder(servers, config.output), shard) as store:
        if config.remake and (again := store.forget_set_aside()):
            say(f"sample: {again} requests that were set aside are asked again")
        async with ServerSampler(servers, store=store, num_shards=shard.count) as sampler:
            asker = ServerAsker(sampler, model, config.sampling, config.seed)
            progress.watch(sampler)
            await _draw(config, plan, writer, asker, progress)


async def _draw(
    config: SampleConfig, plan: Plan, writer: StoreWriter, asker: Asker, progress: SamplingProgress
) -> None:
    """All batches, side by side where the asker has room, written in their order."""
    servers = config.generator.servers
    reader = Reader(
        model=asker.name,
        # How many were asked for says nothing about one: more may be asked for later.
        sampling={k: v for k, v in dataclasses.asdict(config.sampling).items() if k != "n"},
        steps_from=config.steps_from,
        opens_thinking=config.opens_thinking,
        answer_pattern=config.answer_pattern,
        endpoint=servers.name or None if servers else None,
    )

    async def work(batch: _Batch) -> Drawn:
        return await _drawn(plan, asker, batch)

    def write(batch: _Batch, drawn: Drawn) -> None:
        cost = _write(reader, plan, writer, batch, drawn, keeps_seed=not asker.keeps_answers)
        progress.wrote(len(batch.problems) * plan.num_samples, cost)

    async with progress.shown():
        await run_in_order(
            _batches(config, writer),
            work,
            write,
            size=lambda batch: len(batch.problems) * len(plan.sequence),
            room=asker.room,
            is_repeatable=asker.keeps_answers,
        )


def _batches(config: SampleConfig, writer: StoreWriter) -> Iterator[_Batch]:
    """The batches of this shard that are not written yet, read as they are needed."""
    shard = Shard.parse(config.shard)
    mine = (one for one in read_records(config.problems, Problem) if shard.has(one.id))
    for index in itertools.count():
        problems = tuple(itertools.islice(mine, config.problems_per_batch))
        if not problems:
            return
        if not writer.has(f"batch-{index}"):
            seed = seed_of(config.seed, "sample", config.shard, index)
            yield _Batch(f"batch-{index}", seed, problems)


async def _drawn(plan: Plan, asker: Asker, batch: _Batch) -> Drawn:
    """Every sample of a batch, round by round, in the order of the solutions' ids."""
    drafts = [draft for problem in batch.problems for draft in plan.first(problem)]
    drawn: Drawn = []
    for number in range(plan.rounds + 1):
        seed = seed_of(batch.seed, "round", number) if number else batch.seed
        replies = list(zip(drafts, await asker.ask(drafts, seed), strict=True))
        drawn += replies
        if number < plan.rounds:
            drafts = plan.refined(_texts(replies))
    places = {problem.id: i for i, problem in enumerate(batch.problems)}
    return sorted(drawn, key=lambda one: (places[one[0].problem.id], one[0].k, one[0].round))


def _texts(drawn: Drawn) -> Iterator[tuple[Draft, str]]:
    """What each draft said, where it said anything."""
    for draft, reply in drawn:
        if isinstance(reply, Reply) and (text := answer_text(reply.generation.text, draft)):
            yield draft, text


def _write(
    reader: Reader,
    plan: Plan,
    writer: StoreWriter,
    batch: _Batch,
    drawn: Drawn,
    *,
    keeps_seed: bool,
) -> Ledger:
    """Write a batch; what gave no solution is counted by its reason."""
    solutions: list[Solution] = []
    num_in = len(batch.problems) * plan.num_samples
    skipped = Counter({"nothing_to_refine": num_in - len(drawn)})
    cost = Ledger()
    for draft, reply in drawn:
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


def _summary(config: SampleConfig, shard: Shard, writer: StoreWriter) -> Summary | None:
    """What this shard's solutions are worth; None when there are none."""
    if not writer.num_rows:
        return None
    problems = (one for one in read_records(config.problems, Problem) if shard.has(one.id))
    solutions = read_records(writer.data_file, Solution)
    servers = config.generator.servers
    price = price_of(servers.price, servers.prices) if servers else None
    with Verifiers(config.verifiers) as verifiers:
        return summarise(problems, solutions, price, verifiers=verifiers)


@contextlib.contextmanager
def _interrupted_at_once() -> Iterator[None]:
    """Let Ctrl-C end a model's batch in the middle; asyncio would wait for its end."""

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGINT, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


if __name__ == "__main__":
    run(main, COMMAND)
