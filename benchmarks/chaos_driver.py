"""Disturbs a sampling job: kills it and its servers, and watches that nothing is asked twice."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import hashlib
import random
import sqlite3
import time
from collections.abc import Callable
from pathlib import Path

from benchmarks.chaos_servers import Servers
from benchmarks.sampling_job import SamplingJob

SAMPLES = 4  # of a problem
_SEED = 0
_PATIENCE = 600.0
_SERVER_KILL_EVERY = 4
_EARLY_KILL_EVERY = 5


@dataclasses.dataclass(frozen=True, slots=True)
class Plan:
    """How much is sampled and how often it is killed.

    ``life``: seconds from the first request to a kill, the least and the most.
    """

    problems: int
    kills: int
    life: tuple[float, float]
    server_kills: int
    refine_rounds: int
    max_tokens: int

    @property
    def samples(self) -> int:
        """All, refinements included."""
        return self.problems * SAMPLES * (1 + self.refine_rounds)


@dataclasses.dataclass
class Seen:
    """What happened until the job was done."""

    kills: int = 0
    requests: int = 0
    asked_again: int = 0
    changed: int = 0
    answered: int = 0
    distinct: set[int] = dataclasses.field(default_factory=set)
    seconds: float = 0.0


class Chaos:
    """A job and its servers, disturbed until the job is done."""

    def __init__(self, job: SamplingJob, servers: Servers, plan: Plan) -> None:
        """The servers run; the job was not started yet."""
        self.job, self.servers, self.plan = job, servers, plan
        self.seen = Seen()
        self._rng = random.Random(_SEED)
        self._kept: dict[str, bytes] = {}

    def run(self) -> Seen:
        """Start, kill, start again; then let it finish.

        Raises:
            RuntimeError: the job failed, or did not come to its end.
        """
        begun = time.monotonic()
        for number in range(self.plan.kills):
            before = self.servers.num_requests()
            self.job.process.start()
            # Some die before they have asked for anything.
            if number % _EARLY_KILL_EVERY:
                self._wait(functools.partial(self._is_asked, before))
            self._live(number)
            if not self.job.process.is_running():
                self.job.process.check()
                break
            self.job.process.kill()
            self.seen.kills += 1
            self._account()
        self.job.process.start()
        self._wait(lambda: False)
        self.job.process.check()
        self._account()
        self.seen.answered = self.servers.num_answered()
        self.seen.seconds = time.monotonic() - begun
        return self.seen

    def _is_asked(self, before: int) -> bool:
        """Whether the stubs have had more than so many requests."""
        return self.servers.num_requests() > before

    def _live(self, number: int) -> None:
        """Let it work for a while; now and then a server dies meanwhile."""
        seconds = self._rng.uniform(*self.plan.life)
        due = number % _SERVER_KILL_EVERY == 1 and self.servers.num_kills < self.plan.server_kills
        if due:
            time.sleep(seconds / 2)
            self.servers.kill_one(self._rng)
        time.sleep(seconds / 2 if due else seconds)

    def _wait(self, condition: Callable[[], bool]) -> None:
        """Until it holds or the job ends."""
        deadline = time.monotonic() + _PATIENCE
        while self.job.process.is_running() and not condition():
            if time.monotonic() > deadline:
                self.job.process.kill()
                raise RuntimeError(f"nothing happens any more; see {self.job.process.log}")
            time.sleep(0.05)

    def _account(self) -> None:
        """Hold what was asked and kept in this life against what was kept before it."""
        seen = self.seen
        kept_before = {seed_of(key) for key in self._kept}
        asked = [body["seed"] for body in self.servers.look()]
        seen.requests += len(asked)
        seen.distinct |= set(asked)
        seen.asked_again += sum(seed in kept_before for seed in asked)
        kept = kept_answers(self.job.output.with_name("solutions-requests"))
        seen.changed += sum(kept.get(key) != value for key, value in self._kept.items())
        self._kept = kept

    @property
    def kept_seeds(self) -> list[int]:
        """The seeds of the requests whose answers are in the store."""
        return [seed_of(key) for key in self._kept]


def seed_of(key: str) -> int:
    """The seed that the request of this key is sent with."""
    return int(key[:8], 16) >> 1


def kept_answers(folder: Path) -> dict[str, bytes]:
    """The keys and answers (a hash of each) in the store of a job that does not run."""
    kept: dict[str, bytes] = {}
    for path in sorted(folder.glob("*.sqlite")):
        with contextlib.closing(sqlite3.connect(path)) as db:
            # A job that was killed as it began has left a file without tables.
            if db.execute("SELECT 1 FROM sqlite_schema WHERE name = 'replies'").fetchone():
                rows = db.execute("SELECT lower(hex(key)), body FROM replies")
                kept |= {key: hashlib.sha256(body).digest() for key, body in rows}
    return kept
