"""Tokens a second from a real vLLM server: the sampling job beside the plainest client.

    python -m benchmarks.bench_vllm         make bench-sampling-vllm; QUICK=1 for the short form

The server runs SmolLM2-135M on the CPU. The plain client is the openai package as it comes, a
semaphore and `create`. All sides send the same prompts, one sample each, and every sample has the
same length (ignore_eos), in turns. The prompts share their beginning, which is in the server's
cache after the warm-up; what differs in them is shorter than a block of that cache, so a prompt
that comes again costs as much as the first time. A rate is over the time from the first request to
the last reply (plain) or to the last record on the disk (job).
"""

from __future__ import annotations

import asyncio
import dataclasses
import functools
import shutil
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from openai import AsyncOpenAI

from benchmarks.sampling_job import SamplingJob, make_problems, timed
from benchmarks.table import Middle, Target, finish, is_quick, say, show
from data_gen.drafts import Plan
from prm.generation.embedded import embedded_model
from prm.records import Problem
from prm.store import read_records
from tests.vllm.server import MAX_NUM_SEQS, MODEL, VLLMServer

STRATEGY = "few_shot_arithmetic"
IN_FLIGHT = MAX_NUM_SEQS
MAX_TOKENS = 64
TEMPERATURE = 0.8
EXTRA = {"ignore_eos": True}
SHARE_GOAL = 0.95


@dataclasses.dataclass(frozen=True, slots=True)
class Size:
    """How much is measured."""

    prompts: int
    rounds: int


FULL = Size(prompts=96, rounds=5)
QUICK = Size(prompts=32, rounds=1)


class Bench:
    """The server, the problems, and the two ways to sample."""

    def __init__(self, folder: Path, server: VLLMServer, size: Size) -> None:
        """``folder`` is where everything lies for as long as it is needed."""
        self._folder, self._server, self.size = folder, server, size
        self._problems = make_problems(folder, size.prompts)
        plan = Plan.make({STRATEGY: 1.0}, 1, "", 0, seed=0)
        problems = read_records(self._problems, Problem)
        self._prompts = [str(one.prompt) for problem in problems for one in plan.first(problem)]

    def plain(self) -> float:
        """Tokens a second of the plainest client."""
        self._wait_idle()
        return asyncio.run(self._ask_all())

    def job(self, *, is_streamed: bool) -> float:
        """Tokens a second of the job.

        Raises:
            RuntimeError: it failed, or made another number of tokens.
        """
        self._wait_idle()
        endpoint = {"url": self._server.base_url, "concurrency": IN_FLIGHT}
        servers = {
            "endpoints": [endpoint],
            "loop_guard": {"enabled": is_streamed},
            "extra": EXTRA,
        }
        settings = {
            "problems": str(self._problems),
            "generator": {"model": MODEL, "servers": servers},
            "strategies": {STRATEGY: 1},
            "sampling": {
                "n": 1,
                "temperature": TEMPERATURE,
                "max_tokens": MAX_TOKENS,
                "stop": [],
            },
        }
        with tempfile.TemporaryDirectory(dir=self._folder) as folder:
            job = SamplingJob(Path(folder), settings)
            taken = timed([job], self._num_begun)
            return self._rate(job.manifest()["ledger"]["generated_tokens"], taken.seconds)

    def _num_begun(self) -> float:
        return self._server.num_running() + self._server.num_finished()

    def _wait_idle(self) -> None:
        self._server.wait_for(
            lambda: self._server.num_running() == 0, limit=60, what="the server is idle"
        )

    async def _ask_all(self) -> float:
        room = asyncio.Semaphore(IN_FLIGHT)

        async def ask(prompt: str) -> int:
            async with room:
                reply = await client.completions.create(
                    model=MODEL,
                    prompt=prompt,
                    max_tokens=MAX_TOKENS,
                    temperature=TEMPERATURE,
                    top_p=1.0,
                    extra_body=EXTRA,
                )
            assert reply.usage is not None
            return reply.usage.completion_tokens

        async with AsyncOpenAI(base_url=self._server.base_url, api_key="none") as client:
            begun = time.monotonic()
            tokens = await asyncio.gather(*map(ask, self._prompts))
            return self._rate(sum(tokens), time.monotonic() - begun)

    def _rate(self, num_tokens: int, seconds: float) -> float:
        expected = self.size.prompts * MAX_TOKENS
        if num_tokens != expected:
            raise RuntimeError(f"{num_tokens} tokens instead of {expected}: not the same work")
        return num_tokens / seconds


def main() -> None:
    """Measure, print, and say whether the goal is met."""
    size = QUICK if is_quick() else FULL
    folder = Path(tempfile.mkdtemp(prefix="bench-vllm-"))
    try:
        with VLLMServer(embedded_model(), folder / "vllm.log") as server:
            finish("bench-sampling-vllm", _compare(Bench(folder, server, size)))
    finally:
        shutil.rmtree(folder)


def _compare(bench: Bench) -> list[Target]:
    """All sides in turns; the order turns too, so that none gains from a drift."""
    sides: dict[str, Callable[[], float]] = {
        "plain client": bench.plain,
        "job, whole replies": functools.partial(bench.job, is_streamed=False),
        "job, streamed, loop guard": functools.partial(bench.job, is_streamed=True),
    }
    rates: dict[str, list[float]] = {name: [] for name in sides}
    bench.plain()
    for number in range(bench.size.rounds):
        for name in sides if number % 2 == 0 else reversed(sides):
            rates[name].append(sides[name]())
        told = ", ".join(f"{name} {found[-1]:.1f}" for name, found in rates.items())
        say(f"round {number + 1}: tokens/s: {told}")
    plain, *jobs = rates.values()
    shares = [Middle.of([j / p for p, j in zip(plain, job, strict=True)]) for job in jobs]
    words = ["", *(share.show() for share in shares)]
    show(
        f"{bench.size.prompts} samples of {MAX_TOKENS} tokens, {IN_FLIGHT} in flight; "
        f"median of {bench.size.rounds} (smallest-largest)",
        ["what", "tokens/s", "of the plain client"],
        [
            [name, Middle.of(found).show(".1f"), word]
            for (name, found), word in zip(rates.items(), words, strict=True)
        ],
    )
    return [
        Target(name, f"{share.show()} of a plain client", f"{SHARE_GOAL:.2f}", is_met)
        for name, share in zip(("vllm_whole", "vllm_streamed"), shares, strict=True)
        for is_met in [share.median >= SHARE_GOAL]
    ]


if __name__ == "__main__":
    main()
