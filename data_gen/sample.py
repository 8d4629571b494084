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
import gc
import signal
from collections.abc import Iterator
from typing import Any

from data_gen.askers import Asker, InProcessAsker, ServerAsker
from data_gen.console import console, finish, say
from data_gen.drafts import Plan
from data_gen.in_order import run_in_order
from data_gen.models import load_generator, requests_folder
from data_gen.sample_batches import Batch, Drawn, batches, draw, write
from data_gen.sample_config import SampleConfig
from data_gen.sample_summary import Summary, summarise
from data_gen.sample_tables import show_summary
from data_gen.sampling_notes import closing_lines, note_lost
from data_gen.sampling_progress import SamplingProgress
from data_gen.solutions import Reader
from prm.config import fingerprint, parse, resolved, run
from prm.errors import BudgetError, ConfigError, StoreError
from prm.prices import Price, price_of
from prm.records import Problem, Solution
from prm.store import Shard, StoreWriter, content_hash, discard, read_records, read_unique
from prm.verifiers import Verifiers

COMMAND = "python -m data_gen.sample"
_REMEDY = "Choose another output folder, or write the records anew: --remake true."
_GO_ON = (
    "To go on with what there is: --remake true with a smaller sampling.n or fewer problems makes "
    "records of what was paid for"
)


def main(argv: list[str] | None = None) -> None:
    """Run the job."""
    config = parse(SampleConfig, COMMAND, __doc__, argv)
    shard = Shard.parse(config.shard)
    plan = Plan.make(
        config.strategies, config.sampling.n, config.refine, config.refine_rounds, config.seed
    )
    total = _num_problems(config, shard) * plan.num_samples
    identity = _identity(config, plan)
    if config.remake:
        discard(config.output, shard, unless=identity)
    with StoreWriter(
        config.output, **identity, config=resolved(config), shard=shard, remedy=_REMEDY
    ) as writer:
        if not writer.is_done:
            _sample(config, plan, writer, total)
        _check_count(writer, total)
        summary = _summary(config, shard, writer)
        writer.notes["summary"] = summary.to_json() if summary else None
    if summary:
        show_summary(summary, console)
    finish("sample", writer)
    for line in closing_lines(writer):
        say(line)


def _num_problems(config: SampleConfig, shard: Shard) -> int:
    """How many there are in this shard; each can be judged, and its id occurs once."""
    count, seen = 0, set[str]()
    with Verifiers(config.verifiers) as verifiers:
        for problem in read_unique(config.problems, Problem):
            if problem.verifier not in seen:
                try:
                    verifiers.get(problem.verifier)
                except ConfigError as error:
                    where = f"{config.problems}: problem {problem.id!r}"
                    raise ConfigError(f"{where}: {error}") from error
                seen.add(problem.verifier)
            count += shard.has(problem.id)
    return count


def _identity(config: SampleConfig, plan: Plan) -> dict[str, Any]:
    """What the records are made from."""
    prompts = {f"prompt {one.id}": one.fingerprint for one in plan.every_strategy}
    return {
        "job": "sample",
        "config_hash": fingerprint(config),
        "inputs": {"problems": content_hash(config.problems), **prompts},
    }


def _check_count(writer: StoreWriter, total: int) -> None:
    if writer.num_in != total:
        raise StoreError(
            f"{writer.folder}: {writer.num_in} samples are accounted for, the problems ask for "
            f"{total}: please report this; --remake true writes the records anew"
        )


def _sample(config: SampleConfig, plan: Plan, writer: StoreWriter, total: int) -> None:
    """Make and write what is missing."""
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
    with _rare_collections():
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
            asker = ServerAsker(sampler, store, model, config.sampling, config.seed)
            progress.watch(sampler)
            try:
                await _draw(config, plan, writer, asker, progress)
            except BudgetError as error:
                raise BudgetError(f"{error}. {_GO_ON}") from error


async def _draw(
    config: SampleConfig, plan: Plan, writer: StoreWriter, asker: Asker, progress: SamplingProgress
) -> None:
    """All batches, side by side where the asker has room, written in their order."""
    reader = _reader(config, asker.name)

    async def work(batch: Batch) -> Drawn:
        return await draw(plan, asker, reader, batch)

    def keep(batch: Batch, drawn: Drawn) -> None:
        note_lost(writer.notes, asker.lost)
        cost = write(reader, plan, writer, batch, drawn, keeps_seed=not asker.keeps_answers)
        progress.wrote(len(batch.problems) * plan.num_samples, cost)

    async with progress.shown():
        await run_in_order(
            batches(config, writer),
            work,
            keep,
            size=lambda batch: len(batch.problems) * len(plan.sequence),
            room=asker.room,
            is_repeatable=asker.keeps_answers,
        )
    note_lost(writer.notes, asker.lost)


def _reader(config: SampleConfig, model: str) -> Reader:
    servers = config.generator.servers
    return Reader(
        model=model,
        # How many were asked for says nothing about one: more may be asked for later.
        sampling={k: v for k, v in dataclasses.asdict(config.sampling).items() if k != "n"},
        steps_from=config.steps_from,
        opens_thinking=config.opens_thinking,
        answer_pattern=config.answer_pattern,
        endpoint=servers.name or None if servers else None,
    )


def _summary(config: SampleConfig, shard: Shard, writer: StoreWriter) -> Summary | None:
    """What this shard's solutions are worth; None when there are none."""
    if not writer.num_rows:
        return None
    problems = (one for one in read_records(config.problems, Problem) if shard.has(one.id))
    solutions = read_records(writer.data_file, Solution)
    servers = config.generator.servers
    price = price_of(servers.price, servers.prices) if servers else Price()
    dollars = writer.ledger.dollars
    with Verifiers(config.verifiers) as verifiers:
        return summarise(problems, solutions, price, dollars, verifiers=verifiers)


@contextlib.contextmanager
def _rare_collections() -> Iterator[None]:
    """Look for cycles rarely: with hundreds of requests under way it takes a sixth of the time."""
    before = gc.get_threshold()
    gc.set_threshold(20_000, 50, 100)
    try:
        yield
    finally:
        gc.set_threshold(*before)


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
