"""Sample while everything fails, and compare with a run in peace.

    python -m benchmarks.chaos              make chaos: two stubs; QUICK=1 for the short form
    python -m benchmarks.chaos --vllm       vLLM on the CPU, and a stub that only fails

The job is killed with SIGKILL at random moments and started again, the servers too, while requests
meet faults of every kind. On the stubs an answer is a function of its request, so the records must
be equal byte for byte to those of an undisturbed run. vLLM answers anew each time: there the same
ids are there once each, the counts add up, and no answer that was kept has changed.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import hashlib
import random
import shutil
import sqlite3
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

from benchmarks.chaos_servers import FATAL, SPOILING, Servers, stub_servers, vllm_servers
from benchmarks.sampling_job import SamplingJob, make_problems
from benchmarks.table import Target, finish, is_quick, say, show
from prm.records import Solution
from prm.store import read_records

SEED = 0
FAULTS_GOAL, KILLS_GOAL = 200, 20
FAULT_RATE = 0.12
SAMPLES = 4
PATIENCE = 600.0
SERVER_KILL_EVERY = 4


@dataclasses.dataclass(frozen=True, slots=True)
class Plan:
    """How much is sampled and how often it is killed; ``life`` in seconds, from and to."""

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


STUB = Plan(400, kills=22, life=(0.5, 4.5), server_kills=5, refine_rounds=1, max_tokens=200)
STUB_QUICK = Plan(40, kills=4, life=(0.5, 3.5), server_kills=1, refine_rounds=1, max_tokens=200)
VLLM = Plan(150, kills=21, life=(2.0, 9.0), server_kills=1, refine_rounds=0, max_tokens=24)


@dataclasses.dataclass
class Seen:
    """What happened until the job was done."""

    kills: int = 0
    requests: int = 0
    asked_again: int = 0
    changed: int = 0
    distinct: set[int] = dataclasses.field(default_factory=set)
    seconds: float = 0.0


class Chaos:
    """A job and its servers, disturbed until the job is done."""

    def __init__(self, job: SamplingJob, servers: Servers, plan: Plan) -> None:
        """The servers run; the job was not started yet."""
        self.job, self.servers, self.plan = job, servers, plan
        self.seen = Seen()
        self._rng = random.Random(SEED)
        self._kept: dict[str, bytes] = {}

    def run(self) -> Seen:
        """Start, kill, start again; then let it finish.

        Raises:
            RuntimeError: the job failed, or did not come to its end.
        """
        begun = time.monotonic()
        for number in range(self.plan.kills):
            self.job.process.start()
            self._live(number)
            if not self.job.process.is_running():
                self.job.process.check()
                break
            self.job.process.kill()
            self.seen.kills += 1
            self._account()
        self.job.process.start()
        self._finish(begun + PATIENCE)
        self._account()
        self.seen.seconds = time.monotonic() - begun
        return self.seen

    def _live(self, number: int) -> None:
        """Let it work for a while; now and then a server dies meanwhile."""
        seconds = self._rng.uniform(*self.plan.life)
        due = number % SERVER_KILL_EVERY == 1 and self.servers.num_kills < self.plan.server_kills
        if due:
            time.sleep(seconds / 2)
            self.servers.kill_one(self._rng)
        time.sleep(seconds / 2 if due else seconds)

    def _finish(self, deadline: float) -> None:
        while self.job.process.is_running():
            if time.monotonic() > deadline:
                self.job.process.kill()
                raise RuntimeError(f"the job did not end; see {self.job.process.log}")
            time.sleep(0.1)
        self.job.process.check()

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
    def num_kept(self) -> int:
        """Answers in the store."""
        return len(self._kept)


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


def main(argv: list[str] | None = None) -> None:
    """Disturb, compare, print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.chaos")
    parser.add_argument("--vllm", action="store_true", help="on a real vLLM server (.venv-vllm)")
    with_vllm = parser.parse_args(argv).vllm
    folder = Path(tempfile.mkdtemp(prefix="chaos-"))
    try:
        targets = _with_vllm(folder) if with_vllm else _with_stubs(folder)
    except BaseException:
        say(f"chaos: all files are left in {folder}")
        raise
    if all(target.is_met for target in targets):
        shutil.rmtree(folder)
    else:
        say(f"chaos: all files are left in {folder}")
    finish("chaos", targets)


def _with_stubs(folder: Path) -> list[Target]:
    plan = STUB_QUICK if is_quick() else STUB
    problems = make_problems(folder, plan.problems)
    with stub_servers(folder, fault_rate=FAULT_RATE) as servers:
        chaos = _disturbed(folder, problems, servers, plan)
        faults = servers.faults()
    (folder / "peace").mkdir()
    with stub_servers(folder / "peace", fault_rate=0.0) as servers:
        calm = SamplingJob(folder / "calm", _settings(problems, servers, plan))
        calm.process.start()
        calm.process.check()
    return [
        *_events(chaos, faults, SPOILING, plan),
        *_conserved(chaos, plan),
        _same("records", chaos.job.records.read_bytes(), calm.records.read_bytes()),
        _same("counts", _counts(chaos.job), _counts(calm)),
    ]


def _with_vllm(folder: Path) -> list[Target]:
    problems = make_problems(folder, VLLM.problems)
    with vllm_servers(folder) as servers:
        chaos = _disturbed(folder, problems, servers, VLLM)
        faults = servers.faults()
    return [*_events(chaos, faults, FATAL, VLLM), *_conserved(chaos, VLLM)]


def _settings(problems: Path, servers: Servers, plan: Plan) -> dict[str, Any]:
    """Seeds tell the samples of a prompt apart on the stubs; vLLM's CPU backend is sent them too.

    More tries than by default, so that bad luck sets nothing aside.
    """
    of_servers = {
        "endpoints": servers.endpoints,
        "send_seed": True,
        "timeout": 2.0 if servers.model == "stub" else 30.0,
        "tries": 50,
    }
    settings = {
        "problems": str(problems),
        "generator": {"model": servers.model, "servers": of_servers},
        "strategies": {"few_shot_arithmetic": 1, "zero_shot_arithmetic": 1},
        "sampling": {"n": SAMPLES, "max_tokens": plan.max_tokens, "temperature": 0.8},
        "problems_per_batch": 4,
    }
    if plan.refine_rounds:
        settings |= {"refine": "find_and_fix", "refine_rounds": plan.refine_rounds}
    return settings


def _disturbed(folder: Path, problems: Path, servers: Servers, plan: Plan) -> Chaos:
    job = SamplingJob(folder / "disturbed", _settings(problems, servers, plan))
    chaos = Chaos(job, servers, plan)
    chaos.run()
    return chaos


def _events(chaos: Chaos, faults: Counter[str], kinds: tuple[str, ...], plan: Plan) -> list[Target]:
    """Print what happened, and hold it against what was to happen."""
    seen, server_kills = chaos.seen, chaos.servers.num_kills
    rows = sorted(faults.items())
    show("faults", ["kind", "times"], [[kind, str(count)] for kind, count in rows])
    repeated = seen.requests - len(seen.distinct)
    say(f"{seen.requests:,} requests to the stubs, {len(seen.distinct):,} different ones")
    say(
        f"{repeated:,} asked more than once: {faults.total()} met a fault, the others were in "
        f"flight at one of {seen.kills} kills of the job and {server_kills} of a server"
    )
    say(f"{chaos.num_kept:,} answers kept; {seen.seconds:.0f} s in all")
    say("")
    quick = plan is STUB_QUICK
    least = (10, plan.kills) if quick else (FAULTS_GOAL, KILLS_GOAL)
    missing = [] if quick else sorted(set(kinds) - set(faults))
    told = f"{faults.total()} of {len(faults)} kinds" + (f", no {missing}" if missing else "")
    kills = f"{seen.kills} of the job, {server_kills} of a server"
    return [
        Target("faults", told, str(least[0]), faults.total() >= least[0] and not missing),
        Target("kills", kills, str(least[1]), seen.kills >= least[1] and server_kills > 0),
    ]


def _conserved(chaos: Chaos, plan: Plan) -> list[Target]:
    """Nothing lost, nothing twice, nothing paid again."""
    manifest = chaos.job.manifest()
    names = Counter(record.id for record in read_records(chaos.job.output, Solution))
    twice = sum(count > 1 for count in names.values())
    lost = manifest["in"] - manifest["out"] - sum(manifest["skipped"].values())
    balance = f"in {manifest['in']} = out {manifest['out']} + skipped {manifest['skipped']}"
    is_whole = not lost and manifest["in"] == plan.samples and len(names) == manifest["out"]
    seen = chaos.seen
    asked = f"{seen.asked_again} requests whose answer was kept"
    return [
        Target("ids", f"{len(names):,} ids, {twice} of them twice", "none twice", not twice),
        Target("conservation", balance, f"{plan.samples} in, none lost", is_whole),
        Target("asked_again", asked, "0", seen.asked_again == 0),
        Target(
            "changed", f"{seen.changed} answers changed after they were kept", "0", not seen.changed
        ),
    ]


def _same(name: str, found: object, expected: object) -> Target:
    """Equal to the undisturbed run, or where they part."""
    if found == expected:
        size = f" ({len(found):,} bytes)" if isinstance(found, bytes) else ""
        return Target(name, f"equal to those of an undisturbed run{size}", "equal", True)
    return Target(name, f"{found!r:.150} instead of {expected!r:.150}", "equal", False)


def _counts(job: SamplingJob) -> dict[str, Any]:
    """What the manifest says, but for the time it took."""
    manifest = job.manifest()
    tokens = {k: v for k, v in manifest["ledger"].items() if k != "seconds"}
    return {key: manifest[key] for key in ("state", "in", "out", "skipped")} | tokens


if __name__ == "__main__":
    main()
