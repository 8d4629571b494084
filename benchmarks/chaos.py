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
import shutil
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

from benchmarks.chaos_driver import SAMPLES, Chaos, Plan
from benchmarks.chaos_servers import FATAL, SPOILING, Servers, stub_servers, vllm_servers
from benchmarks.sampling_job import SamplingJob, make_problems
from benchmarks.table import Target, finish, is_quick, say, show
from prm.records import Solution
from prm.store import read_records

FAULTS_GOAL, KILLS_GOAL = 200, 20
FAULT_RATE = 0.12


STUB = Plan(400, kills=22, life=(0.0, 1.5), server_kills=5, refine_rounds=1, max_tokens=200)
STUB_QUICK = Plan(60, kills=4, life=(0.0, 1.5), server_kills=1, refine_rounds=1, max_tokens=200)
VLLM = Plan(150, kills=21, life=(0.5, 7.0), server_kills=1, refine_rounds=0, max_tokens=24)
VLLM_QUICK = Plan(30, kills=3, life=(0.5, 4.0), server_kills=1, refine_rounds=0, max_tokens=24)


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
    asked, kept = sorted(chaos.seen.distinct), sorted(chaos.kept_seeds)
    records, expected = chaos.job.records.read_bytes(), calm.records.read_bytes()
    return [
        *_events(chaos, faults, SPOILING, plan),
        *_conserved(chaos, plan),
        _same("requests", asked, kept, f"{len(asked):,} different ones, an answer kept of each"),
        _same("records", records, expected, f"{len(records):,} bytes, as of an undisturbed run"),
        _same("counts", _counts(chaos.job), _counts(calm), "as of an undisturbed run"),
    ]


def _with_vllm(folder: Path) -> list[Target]:
    plan = VLLM_QUICK if is_quick() else VLLM
    problems = make_problems(folder, plan.problems)
    with vllm_servers(folder) as servers:
        chaos = _disturbed(folder, problems, servers, plan)
        faults = servers.faults()
    return [*_events(chaos, faults, FATAL, plan), *_conserved(chaos, plan)]


def _settings(problems: Path, servers: Servers, plan: Plan) -> dict[str, Any]:
    """Seeds tell the samples of a prompt apart on the stubs; vLLM's CPU backend is sent them too.

    More tries than by default, so that bad luck sets nothing aside.
    """
    of_servers = {
        "endpoints": servers.endpoints,
        "send_seed": True,
        "timeout": 2.0 if servers.model == "stub" else 10.0,
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
    _say_repeated(chaos, faults)
    kept = len(chaos.kept_seeds)
    say(f"{seen.answered:,} samples answered well, {kept:,} kept; {seen.seconds:.0f} s in all")
    say("")
    quick = is_quick()
    least = (10, plan.kills) if quick else (FAULTS_GOAL, KILLS_GOAL)
    missing = [] if quick else sorted(set(kinds) - set(faults))
    told = f"{faults.total()} of {len(faults)} kinds" + (f", no {missing}" if missing else "")
    kills = f"{seen.kills} of the job, {server_kills} of a server"
    return [
        Target("faults", told, str(least[0]), faults.total() >= least[0] and not missing),
        Target("kills", kills, str(least[1]), seen.kills >= least[1] and server_kills > 0),
    ]


def _say_repeated(chaos: Chaos, faults: Counter[str]) -> None:
    """Why requests were asked again; the stub beside vLLM answers none at all."""
    seen, server_kills = chaos.seen, chaos.servers.num_kills
    repeated = seen.requests - len(seen.distinct)
    failed = sum(count for kind, count in faults.items() if kind in FATAL or kind == "timeout")
    if failed == seen.requests:
        say(f"{seen.requests:,} requests to the stub, which answered none")
        return
    say(f"{seen.requests:,} requests to the stubs, {len(seen.distinct):,} different ones;")
    say(
        f"{repeated:,} were asked again: {failed:,} had failed, {repeated - failed:,} were in "
        f"flight at one of {seen.kills} kills of the job and {server_kills} of a server"
    )


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


def _same(name: str, found: object, expected: object, of: str) -> Target:
    """Equal to what they are held against, or where they part."""
    reached = of if found == expected else f"{found!r:.150} instead of {expected!r:.150}"
    return Target(name, reached, "equal", found == expected)


def _counts(job: SamplingJob) -> dict[str, Any]:
    """What the manifest says, but for the time it took."""
    manifest = job.manifest()
    tokens = {k: v for k, v in manifest["ledger"].items() if k != "seconds"}
    return {key: manifest[key] for key in ("state", "in", "out", "skipped")} | tokens


if __name__ == "__main__":
    main()
