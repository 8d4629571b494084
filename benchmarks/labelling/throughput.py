"""The labeler's own work, as a share of the time of a rollout on the CPU.

    python -m benchmarks.labelling.throughput [--solutions 5000] [--quick]

The labeler's CPU time is that of its process without what the rollouts themselves take, with
5,000 solutions in flight, divided by the rollouts that it asked for. A rollout's time is measured
with the smallest model that there is a use for, the embedded SmolLM2-135M, on the shortest task,
the rest of a sum of three numbers: CPU time over threads, the texts written side by side. Larger
models and longer tasks make the share smaller.
"""

from __future__ import annotations

import argparse
import asyncio
import time
from collections.abc import Sequence

import torch

from benchmarks.labelling.outcomes import ChargedRollouts
from benchmarks.labelling.serving import ServedWorlds
from benchmarks.labelling.worlds import SyntheticWorld, World, WorldConfig
from benchmarks.table import Target, finish, is_quick, say, show
from data_gen.arithmetic import make_problems
from data_gen.labelers.bayes import BayesLabeler
from data_gen.labelers.rollouts import GeneratorRollouts
from data_gen.models import ModelConfig, load_generator
from data_gen.prompting import load_strategy
from prm.protocols import Rollout, Rollouts, SamplingParams
from prm.records import Solution

GOAL = 0.05
SOURCE = "benchmarks.labelling.throughput:large_world"
PER_PROMPT = 8
MAX_TOKENS = 56


def main() -> None:
    """Measure both, print the share; exit with 1 when it is too large."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--solutions", type=int, help="in flight; 5,000, or 500 with --quick")
    parser.add_argument("--quick", action="store_true", default=is_quick())
    options = parser.parse_args()
    count = options.solutions or (500 if options.quick else 5000)
    with ServedWorlds(SOURCE, count) as served:
        pool = served.solutions(0)[:count]
        timed = Timed(served.rollouts(0, pool), pool)
        started = time.process_time()
        BayesLabeler().label(pool, timed)
        own = time.process_time() - started - timed.seconds
    seconds, tokens = time_rollouts(num_problems=16 if options.quick else 64)
    labeler = own / timed.charged.num_rollouts
    show(
        f"{len(pool):,} solutions in flight, {timed.charged.num_rollouts:,} rollouts "
        f"in {timed.charged.num_rounds} rounds",
        ("", "ms a rollout"),
        [
            ["the labeler", f"{1e3 * labeler:.3f}"],
            [f"the rollout itself ({tokens:.0f} tokens of SmolLM2-135M)", f"{1e3 * seconds:.2f}"],
        ],
    )
    share = labeler / seconds
    finish("bench-labelling", [Target("throughput", f"{share:.1%}", f"{GOAL:.0%}", share <= GOAL)])


class Timed:
    """Charges rollouts and takes their CPU time in this process. Satisfies `Rollouts`."""

    def __init__(self, rollouts: Rollouts, pool: Sequence[Solution]) -> None:
        """Nothing is spent yet."""
        self.charged = ChargedRollouts(rollouts, pool)
        self.seconds = 0.0

    async def sample_many(
        self, requests: Sequence[tuple[Solution, int, int]]
    ) -> list[list[Rollout]]:
        """See `prm.protocols.Rollouts`."""
        started = time.process_time()
        groups = await self.charged.sample_many(requests)
        self.seconds += time.process_time() - started
        return groups


def large_world(count: int) -> list[World]:
    """A world of at least ``count`` solutions; a third of them and more are wrong."""
    return [SyntheticWorld(WorldConfig(0.5, 0.1), seed=0, min_wrong=max(50, count // 2))]


def time_rollouts(num_problems: int) -> tuple[float, float]:
    """Seconds and tokens of a rollout of the embedded model, a warm-up not counted."""
    problems = list(
        make_problems(
            {"test": num_problems}, num_operands=[3], low=1, high=12, operators=["+"], seed=0
        )
    )
    rollouts = GeneratorRollouts(
        load_generator(ModelConfig()),
        {problem.id: problem for problem in problems},
        strategy=load_strategy("few_shot_arithmetic"),
        params=SamplingParams(max_tokens=MAX_TOKENS, stop=("\n\n",)),
        answer_pattern=r"^Answer: (.+)$",
        seed=0,
    )
    requests = [
        (_two_steps(problem.id, problem.meta["operands"]), 1, PER_PROMPT) for problem in problems
    ]
    asyncio.run(rollouts.sample_many(requests[:4]))
    started = time.process_time()
    groups = asyncio.run(rollouts.sample_many(requests))
    # CPU time, since other work on the machine would make the model look slow.
    seconds = (time.process_time() - started) / torch.get_num_threads()
    every = [one for group in groups for one in group]
    say(f"{len(every)} rollouts of the model in {seconds:.1f} s of CPU time")
    return seconds / len(every), sum(one.num_tokens for one in every) / len(every)


def _two_steps(problem_id: str, operands: Sequence[int]) -> Solution:
    """The right solution's first step, and one more to be rolled out anew."""
    first = operands[0] + operands[1]
    steps = (f"Step 1: {operands[0]} + {operands[1]} = {first}", f"Answer: {sum(operands)}")
    return Solution(f"{problem_id}#0", problem_id, steps, None, "stop", "right", "right")


if __name__ == "__main__":
    main()
