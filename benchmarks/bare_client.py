"""The same client in a bare loop: no store, no ledger, no pool, no records. What we are held to.

    python -m benchmarks.bare_client --problems FOLDER --url URL --samples 8 --in-flight 512

Prints a JSON object: seconds and seconds of CPU from the first request to the last reply, and the
peak of the process's memory in MB. With --stream it streams and looks for loops, as the job does.
"""

from __future__ import annotations

import argparse
import asyncio
import resource
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import orjson

from data_gen.drafts import Plan
from prm.generation.calls import Call
from prm.generation.client import Client
from prm.generation.endpoints import EndpointConfig
from prm.generation.loop_guard import LoopGuardConfig
from prm.protocols import SamplingParams
from prm.records import Problem
from prm.store import read_records

STRATEGY = "few_shot_arithmetic"
MAX_TOKENS = 100
TIMEOUT = 60.0


def main() -> None:
    """Ask, and print what it took."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.bare_client")
    parser.add_argument("--problems", type=Path, required=True)
    parser.add_argument("--url", required=True)
    parser.add_argument("--samples", type=int, default=1, help="of each problem")
    parser.add_argument("--in-flight", type=int, required=True)
    parser.add_argument("--stream", action="store_true", help="as with the loop guard")
    args = parser.parse_args()
    calls = list(_calls(args.problems, args.samples))
    client = Client(EndpointConfig(args.url), timeout=TIMEOUT)
    seconds, cpu_seconds = asyncio.run(_ask_all(client, calls, args.in_flight, args.stream))
    peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    facts = {"seconds": seconds, "cpu_seconds": cpu_seconds, "peak_mb": peak_mb}
    sys.stdout.write(orjson.dumps(facts).decode() + "\n")


def _calls(problems: Path, num_samples: int) -> Iterator[Call]:
    """What `data_gen.sample` asks for, a request a sample."""
    plan = Plan.make({STRATEGY: 1.0}, num_samples, "", 0, seed=0)
    params = SamplingParams(max_tokens=MAX_TOKENS)
    for problem in read_records(problems, Problem):
        for draft in plan.first(problem):
            yield Call(draft.prompt, params, "stub")


async def _ask_all(
    client: Client, calls: list[Call], in_flight: int, is_streamed: bool
) -> tuple[float, float]:
    """So many workers that take the next call from one iterator."""
    waiting = iter(calls)
    guard = LoopGuardConfig()

    async def work() -> None:
        for call in waiting:
            if is_streamed:
                await client.stream(call, guard, "continuous")
            else:
                await client.ask(call)

    begun, cpu_begun = time.monotonic(), time.process_time()
    await asyncio.gather(*(work() for _ in range(in_flight)))
    facts = time.monotonic() - begun, time.process_time() - cpu_begun
    await client.close()
    return facts


if __name__ == "__main__":
    main()
