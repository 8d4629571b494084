"""The sampling job killed, interrupted and doubled: nothing is lost, little is asked twice."""

import random
import signal
import time

import pytest

from data_gen import sample
from prm.errors import StoreError
from tests.sample_setup import (
    counts,
    data,
    num_kept,
    run_job,
    solutions,
    start,
    sums,
    threaded_stub,
    wait_until,
    words,
)

NUM, SAMPLES, IN_FLIGHT = 14, 4, 4
SLOW = {"answer": "arithmetic", "latency_ms": 20}


def settings(url, concurrency=IN_FLIGHT):
    """What makes the job last long enough to be killed in the middle."""
    endpoints = [{"url": url, "concurrency": concurrency}]
    more = {"refine": "find_and_fix", "refine_rounds": 1, "sampling": {"n": SAMPLES // 2}}
    return more | {"servers": {"endpoints": endpoints}, "problems_per_batch": 1}


def wait_for_answers(stub, process, count):
    """Wait until the job has had so many answers; it must not have ended by then."""
    wait_until(lambda: stub.counts["answered"] >= count or process.poll() is not None)
    assert process.poll() is None


def stop(process, name=signal.SIGKILL):
    """End the process; its exit code, what it wrote to stderr, and how long it took."""
    begun = time.monotonic()
    process.send_signal(name)
    _, errors = process.communicate(timeout=20)
    return process.returncode, errors, time.monotonic() - begun


def settled(stub):
    """The requests that the stub has had, once those of a killed client are all read."""
    seen = -1
    while seen != stub.counts["requests"] or stub.counts["in_flight"]:
        seen = stub.counts["requests"]
        time.sleep(0.05)
    return seen


@pytest.fixture(scope="module")
def problems(tmp_path_factory):
    return sums(tmp_path_factory.mktemp("kills") / "problems", NUM)


@pytest.fixture(scope="module")
def whole(problems):
    """The output of a run that nothing disturbed."""
    with threaded_stub(answer="arithmetic") as stub:
        run_job(problems, problems.parent / "whole", **settings(stub.url, 0))
    return problems.parent / "whole"


@pytest.mark.parametrize("seed", [0, *(pytest.param(n, marks=pytest.mark.slow) for n in (1, 2, 3))])
def test_a_job_killed_at_any_moment_goes_on_to_the_same_records(seed, problems, whole, tmp_path):
    rng, out = random.Random(seed), tmp_path / "out"
    with threaded_stub(**SLOW) as stub:
        command = words(problems, out, **settings(stub.url))
        moments = [rng.randint(1, 12), rng.randint(20, 40)]
        for moment in moments:
            with start(command) as process:
                wait_for_answers(stub, process, moment)
                time.sleep(rng.uniform(0, 0.02))
                assert stop(process)[0] == -signal.SIGKILL
            num_asked, stored = settled(stub), num_kept(out)
            assert stored < NUM * SAMPLES
        lost = num_asked - stored
        # At each kill what was under way, and that is within twice what the servers take.
        assert lost <= len(moments) * (2 * IN_FLIGHT + SAMPLES)
        sample.main(words(problems, out, **settings(stub.url, 64)))
        assert stub.counts["requests"] == NUM * SAMPLES + lost
    assert data(out) == data(whole)
    assert counts(out) == (NUM * SAMPLES, NUM * SAMPLES, {})
    assert num_kept(out) == NUM * SAMPLES
    assert list(solutions(out)) == list(solutions(whole))


def test_ctrl_c_ends_the_job_soon_with_a_message_and_it_can_go_on(problems, whole, tmp_path):
    out = tmp_path / "out"
    with threaded_stub(**SLOW, chunk_delay_ms=200) as stub:
        with start(words(problems, out, **settings(stub.url))) as process:
            wait_for_answers(stub, process, 4)
            with pytest.raises(StoreError, match="another process is writing shard-00000-of-00001"):
                sample.main(words(problems, out, **settings(stub.url)))
            with pytest.raises(StoreError, match="another process is writing"):
                sample.main(words(problems, out, **settings(stub.url), remake=True))
            code, errors, seconds = stop(process, signal.SIGINT)
        assert (code, seconds < 2) == (130, True)
        assert errors.strip() == (
            "python -m data_gen.sample: stopped; the same command goes on from here"
        )
        num_asked, stored = settled(stub), num_kept(out)
        assert 0 < stored <= num_asked < NUM * SAMPLES
        sample.main(words(problems, out, **settings(stub.url, 64)))
        assert stub.counts["requests"] - num_asked == NUM * SAMPLES - stored
    assert data(out) == data(whole)


def test_records_that_are_remade_go_on_where_a_kill_ended_them(problems, whole, tmp_path, capsys):
    out = tmp_path / "out"
    with threaded_stub(answer="arithmetic") as stub:
        run_job(problems, out, **settings(stub.url, 64), seed=1)
    with threaded_stub(**SLOW) as stub:
        command = words(problems, out, **settings(stub.url), remake=True)
        with start(command) as process:
            # Two problems at least are whole.
            wait_for_answers(stub, process, 4 * SAMPLES)
            assert stop(process)[0] == -signal.SIGKILL
        [journal] = out.glob("*.journal")
        begun = journal.read_text().splitlines()
        assert 0 < len(begun) < NUM
        capsys.readouterr()
        sample.main(words(problems, out, **settings(stub.url, 64), remake=True))
    total = NUM * SAMPLES
    told = f"sample: {total - len(begun) * SAMPLES} of {total} samples to do"
    assert told in capsys.readouterr().out
    assert data(out) == data(whole)


def test_another_shard_may_run_beside_it(problems, whole, tmp_path):
    out = tmp_path / "out"
    with threaded_stub(**SLOW) as stub:
        with start(words(problems, out, **settings(stub.url), shard="0/2")) as process:
            wait_for_answers(stub, process, 1)
            sample.main(words(problems, out, **settings(stub.url, 64), shard="1/2"))
            assert process.wait(timeout=20) == 0
        assert stub.counts["requests"] == NUM * SAMPLES
    assert solutions(out) == solutions(whole)


def test_a_job_against_servers_needs_no_torch(problems, whole, tmp_path):
    out = tmp_path / "out"
    with threaded_stub(answer="arithmetic") as stub:
        code = (
            "import sys; from data_gen import sample; sample.main(sys.argv[1:]); "
            "sys.exit(' '.join({'torch', 'transformers', 'wandb'} & set(sys.modules)) or None)"
        )
        command = words(problems, out, **settings(stub.url, 64))
        with start(command, code=code) as process:
            output, errors = process.communicate(timeout=30)
    assert (process.returncode, errors) == (0, "")
    assert f"sample: in {NUM * SAMPLES} = out {NUM * SAMPLES} + skipped 0" in output
    assert data(out) == data(whole)
