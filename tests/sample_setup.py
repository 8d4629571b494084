"""The sampling job against the stub server: problems, command lines, servers, what came out."""

from __future__ import annotations

import asyncio
import contextlib
import json
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Coroutine, Iterator, Sequence
from pathlib import Path
from typing import Any

from data_gen import sample
from prm.generation.request_store import RequestStore
from prm.records import Problem, Solution
from prm.store import Shard, StoreWriter, read_manifests, read_records
from tests.stub_server import StubServer

CHECKOUT = Path(__file__).parents[1]
PATIENCE_SECONDS = 30.0
# The stub answers by content: only a seed tells the samples of a prompt apart.
SERVERS: dict[str, Any] = {"send_seed": True, "timeout": 5, "patience": 15}


def problem(number: int, statement: str = "") -> Problem:
    """A sum, as the stub can answer it."""
    a, b, c = number + 2, 2 * number + 1, number % 7
    text = statement or f"Calculate {a} + {b} - {c}."
    return Problem(f"sum/{number}", text, str(a + b - c), "integer", "test", "train")


def write_problems(folder: Path, problems: Sequence[Problem]) -> Path:
    with StoreWriter(folder, job="test", config={}, config_hash="0") as writer:
        writer.append("all", problems)
    return folder


def sums(folder: Path, count: int) -> Path:
    """A store of so many problems."""
    return write_problems(folder, [problem(number) for number in range(count)])


def words(problems: Path, output: Path, *urls: str, **settings: Any) -> list[str]:
    """The command line; ``settings`` replace the usual ones, ``servers`` are added to those."""
    servers = SERVERS | {"endpoints": [{"url": url} for url in urls]} | settings.pop("servers", {})
    usual = {
        "problems": str(problems),
        "output": str(output),
        "generator": {"model": "stub", "servers": servers},
        "strategies": {"zero_shot_arithmetic": 1},
        "sampling": {"n": 4, "max_tokens": 200, "stop": []} | settings.pop("sampling", {}),
        "problems_per_batch": 2,
    }
    found = []
    for name, value in (usual | settings).items():
        found += [f"--{name}", value if isinstance(value, str) else json.dumps(value)]
    return found


def start(command: Sequence[str], *, code: str = "", **kwargs: Any) -> subprocess.Popen[str]:
    """The job as a process of its own, or ``code`` with the same command line."""
    run = ["-c", code] if code else ["-m", "data_gen.sample"]
    kwargs = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE} | kwargs
    return subprocess.Popen([sys.executable, *run, *command], cwd=CHECKOUT, text=True, **kwargs)


def wait_until(is_so: Callable[[], bool]) -> None:
    """Look again and again, but not for ever."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.005)


@contextlib.contextmanager
def threaded_stub(**options: Any) -> Iterator[StubServer]:
    """A stub in a thread of this process, while the block runs."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()

    async def begin() -> StubServer:
        return await StubServer(**options).__aenter__()

    def run(work: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(work, loop).result(PATIENCE_SECONDS)

    server = run(begin())
    try:
        yield server
    finally:
        run(server.__aexit__(None, None, None))
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


def solutions(folder: Path) -> dict[str, Solution]:
    """The solutions by id; each id is there once."""
    found = list(read_records(folder, Solution))
    by_id = {one.id: one for one in found}
    assert len(by_id) == len(found)
    return by_id


def data(folder: Path) -> list[bytes]:
    """The bytes of all records."""
    return [path.read_bytes() for path in sorted(folder.glob("*.jsonl"))]


def counts(folder: Path) -> tuple[int, int, dict[str, int]]:
    """in, out and skipped of all shards; in = out + skipped."""
    manifests = read_manifests(folder)
    skipped = sum((Counter(one["skipped"]) for one in manifests), Counter[str]())
    num_in, num_out = sum(one["in"] for one in manifests), sum(one["out"] for one in manifests)
    assert num_in == num_out + skipped.total()
    return num_in, num_out, dict(skipped)


def num_kept(output: Path, shard: str = "0/1") -> int:
    """Answers in the request store beside an output."""
    folder = output.with_name(output.name + "-requests")
    with RequestStore(folder, Shard.parse(shard)) as store:
        return store.num_replies


def run_job(
    problems: Path, output: Path, *servers: StubServer, **settings: Any
) -> dict[str, Solution]:
    """Run the job in this process; its solutions by id."""
    sample.main(words(problems, output, *(one.url for one in servers), **settings))
    return solutions(output)
