"""The workers: limits, kills, threads, event loops, scripts; nothing hangs and nothing is lost."""

import ast
import asyncio
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from prm.errors import ConfigError, MissingExtraError
from prm.verifiers.math import MathPool, check_math, check_math_async, check_math_many, shared_pool
from tests.math_pairs import ENDLESS, HOSTILE
from tests.math_probe import eat_memory, look_around

ROOT = Path(__file__).parents[1]
EASY = [(f"{i}+x", f"x+{i}") for i in range(40)]


def workers():
    return [one for one in multiprocessing.active_children() if one.name == "pebble_pool_worker"]


@pytest.fixture
def pool():
    shared_pool().close()
    with MathPool(workers=2, timeout_s=2.0) as one:
        yield one


def test_endless_algebra_is_ended_and_costs_no_other_check(pool):
    items = [*EASY[:10], (ENDLESS[0], "3"), *EASY[10:20], (ENDLESS[1], "e^{x}"), *EASY[20:]]
    began = time.monotonic()
    verdicts = check_math_many(items, pool=pool)
    assert time.monotonic() - began < 60
    reasons = [verdict.reason for verdict in verdicts]
    assert reasons.count("timeout") == 2
    assert {reasons[10], reasons[21]} == {"timeout"}
    assert [verdict.label for verdict in verdicts].count(True) == len(EASY)
    assert check_math("1+x", "x+1", pool=pool).label is True


def test_hostile_expressions_end_within_the_limit_and_none_is_right():
    shared_pool()
    for text in HOSTILE:
        began = time.monotonic()
        verdict = check_math(text, "3")
        assert time.monotonic() - began < 20, text[:40]
        assert verdict.label is not True, text[:40]
    assert check_math("1+x", "x+1").label is True


def test_a_check_whose_worker_is_killed_is_done_again():
    shared_pool().close()
    # Each takes a while, so that some are under way when a worker dies.
    items = [(rf"\sin(x)^{{{i}}}+\cos(x)", rf"\cos(x)+\sin(x)^{{{i}}}") for i in range(3, 40)]
    with MathPool(workers=2, timeout_s=60.0) as pool:
        assert check_math("1+x", "x+1", pool=pool).label is True
        [first, _] = workers()
        with ThreadPoolExecutor(1) as thread:
            future = thread.submit(check_math_many, items, pool=pool)
            time.sleep(0.1)
            os.kill(first.pid, signal.SIGKILL)
            assert [verdict.status for verdict in future.result()] == ["right"] * len(items)
        assert first.pid not in [worker.pid for worker in workers()]


def test_a_pool_whose_idle_workers_are_all_killed_goes_on(pool):
    assert check_math("1+x", "x+1", pool=pool).label is True
    for worker in workers():
        os.kill(worker.pid, signal.SIGKILL)
    time.sleep(0.5)
    assert check_math("2+x", "x+2", pool=pool).label is True


def test_a_check_that_is_lost_twice_is_our_error_and_is_not_kept():
    shared_pool().close()
    with MathPool(workers=1, timeout_s=120.0) as pool:
        assert check_math("1+x", "x+1", pool=pool).label is True
        with ThreadPoolExecutor(1) as thread:
            future = thread.submit(check_math, ENDLESS[0], "3", pool=pool)
            while not future.done():
                time.sleep(0.5)
                for worker in workers():
                    os.kill(worker.pid, signal.SIGKILL)
            verdict = future.result()
        assert (verdict.label, verdict.reason) == (None, "error")
        hits = pool.cache.hits
        assert check_math("1+x", "x+1", pool=pool).label is True
        assert pool.cache.hits == hits + 1
        assert pool.cache.get((None, (ENDLESS[0], "3"))) is None


def test_a_worker_has_limits_no_environment_and_is_no_child_of_ours(pool):
    facts = ast.literal_eval(pool._run(look_around, [()])[0].reason)
    assert facts["environment"] == {}
    assert facts["memory_mb"] == 2048
    assert facts["parent"] != os.getpid()
    assert not facts["has_torch"]
    assert facts["main"] != getattr(sys.modules["__main__"], "__file__", None)


def test_a_worker_that_runs_out_of_memory_says_so_and_lives_on(pool):
    assert pool._run(eat_memory, [(4096,)])[0].reason == "memory"
    assert pool._run(eat_memory, [(1,)])[0].reason == "kept 1048576"


def test_threads_share_a_pool(pool):
    with ThreadPoolExecutor(8) as threads:
        futures = [threads.submit(check_math, *item, pool=pool) for item in EASY]
        assert all(future.result().label for future in futures)


def test_an_event_loop_goes_on_while_algebra_is_done(pool):
    async def check_and_count():
        checks = [check_math_async(*item, pool=pool) for item in EASY]
        checks.append(check_math_async(ENDLESS[0], "3", pool=pool))
        work = asyncio.gather(*checks)
        ticks = 0
        while not work.done():
            await asyncio.sleep(0.02)
            ticks += 1
        return ticks, [verdict.status for verdict in work.result()]

    ticks, statuses = asyncio.run(check_and_count())
    assert statuses == ["right"] * len(EASY) + ["could_not_tell"]
    assert ticks > 10


def test_the_callers_alarm_still_rings(pool):
    rung = []
    old = signal.signal(signal.SIGALRM, lambda *_: rung.append(True))
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.2)
        check_math(ENDLESS[0], "3", pool=pool)
    finally:
        signal.signal(signal.SIGALRM, old)
    assert rung == [True]


def test_verdicts_are_kept_and_the_hit_rate_can_be_read(pool):
    first = check_math("1+x", "x+1", pool=pool)
    again = check_math("1+x", "x+1", pool=pool)
    assert (first.label, again.label, again.seconds) == (True, True, 0.0)
    assert (pool.cache.hits, pool.cache.misses, pool.cache.hit_rate) == (1, 1, 0.5)
    with MathPool(cache_size=0) as without:
        assert [check_math("12", "12", pool=without).label for _ in range(2)] == [True, True]
        assert without.cache.hits == 0


def test_arithmetic_needs_no_worker_and_no_library(monkeypatch):
    shared_pool().close()
    monkeypatch.setitem(sys.modules, "math_verify", None)
    with MathPool() as pool:
        assert check_math(r"\frac{1}{2}", "0.5", pool=pool).label is True
        assert workers() == []
        with pytest.raises(MissingExtraError, match="math_verify"):
            check_math("1+x", "x+1", pool=pool)


@pytest.mark.parametrize(
    "settings", [{"timeout_s": 0.0}, {"memory_mb": 1}, {"workers": -1}, {"max_checks": 0}]
)
def test_limits_that_no_check_could_keep_are_refused(settings):
    with pytest.raises(ConfigError):
        MathPool(**settings)


def run_script(folder, text, **options):
    script = folder / "script.py"
    script.write_text(text)
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run(
        [sys.executable, script],
        env=environment, capture_output=True, text=True, timeout=60, cwd=folder, **options,
    )  # fmt: skip


def test_a_script_without_a_main_guard_runs_once_and_ends_without_noise(tmp_path):
    found = run_script(
        tmp_path,
        "print('begin')\n"
        "from prm.verifiers.math import check_math\n"
        "print(check_math('1+x', 'x+1').status)\n",
    )
    assert (found.returncode, found.stdout, found.stderr) == (0, "begin\nright\n", "")


def test_a_forked_copy_of_the_process_makes_its_own_pool(tmp_path):
    found = run_script(
        tmp_path,
        "import os\n"
        "from prm.verifiers.math import check_math\n"
        "print(check_math('1+x', 'x+1').status, flush=True)\n"
        "child = os.fork()\n"
        "print(check_math('2+x', 'x+2').status, flush=True)\n"
        "if child:\n"
        "    assert os.waitpid(child, 0)[1] == 0\n"
        "    print(check_math('3+x', 'x+3').status)\n",
    )
    assert (found.returncode, found.stdout, found.stderr) == (0, "right\n" * 4, "")


def test_workers_do_not_outlive_a_process_that_is_killed(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(
        "import multiprocessing, threading\n"
        "from prm.verifiers.math import MathPool, check_math\n"
        "pool = MathPool(workers=2, timeout_s=600.0)\n"
        "check_math('1+x', 'x+1', pool=pool)\n"
        f"work = threading.Thread(target=check_math, args=({ENDLESS[0]!r}, '3'), "
        "kwargs={'pool': pool})\n"
        "work.start()\n"
        "print(*[one.pid for one in multiprocessing.active_children()], flush=True)\n"
        "work.join()\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(
        [sys.executable, script], env=environment, stdout=subprocess.PIPE, text=True
    ) as running:
        pids = [int(pid) for pid in running.stdout.readline().split()]
        time.sleep(0.3)
        running.kill()
    assert len(pids) == 2
    deadline = time.monotonic() + 60
    while any(is_alive(pid) for pid in pids):
        assert time.monotonic() < deadline
        time.sleep(0.1)


def is_alive(pid):
    try:
        status = Path(f"/proc/{pid}/stat").read_text()
    except FileNotFoundError:
        return False
    return status.rpartition(")")[2].split()[0] != "Z"
