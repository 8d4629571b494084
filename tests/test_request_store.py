import asyncio
import contextlib
import hashlib
import itertools
import json
import os
import random
import resource
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import pytest

from prm.errors import StoreError
from prm.generation.request_store import RequestStore
from prm.generation.requests import Reply
from prm.ledger import Ledger
from prm.protocols import Generation, Token
from prm.store import Shard

ROOT = Path(__file__).parents[1]
FILE = "requests-00000-of-00001.sqlite"
COST = Ledger(10, 20, 0.5, 5, 0.25)


def key(number):
    return hashlib.sha256(str(number).encode()).hexdigest()


def reply(number, text=None):
    """A function of the number: texts of 0 to 6 kB that hardly shrink."""
    if text is None:
        text = random.Random(number).randbytes(number * 7919 % 3000).hex()
    return Reply(Generation(text, "stop", 10, 20, -1.5), COST, f"http://127.0.0.1/{number}")


def run(work):
    """The result of a coroutine, which must not hang."""
    return asyncio.run(asyncio.wait_for(work, 30))


def keep(store, *numbers):
    run(store.put({key(n): reply(n) for n in numbers}))


def filled(folder, numbers, shard=None):
    with RequestStore(folder, shard) as store:
        keep(store, *numbers)
    return folder / f"requests-{(shard or Shard()).stem[6:]}.sqlite"


def run_python(script, *arguments, **options):
    return subprocess.Popen(
        [sys.executable, "-c", script, *map(str, arguments)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
        **options,
    )


def test_a_reply_comes_back_as_it_was_put(tmp_path):
    token = Token("a", -0.1, {"a": -0.1, "b": -2.0})
    whole = Reply(
        Generation("x²\n\n\0é🙂", "loop", 3, 4, -1.25, (token, token), 7),
        Ledger(3, 4, 1.0, 2, 0.125),
        "http://127.0.0.1/v1",
        True,
    )
    bare = Reply(Generation("", "length", 0, 0))
    with RequestStore(tmp_path) as store:
        run(store.put({key(0): whole, key(1): bare}))
        assert store.get(key(0)) == whole
        assert store.get(key(1)) == bare
        assert store.get(key(2)) is None
    with RequestStore(tmp_path) as store:
        assert store.get(key(0)) == whole
        # A float stays a float: 1.0 seconds must not turn into 1 in a manifest.
        assert repr(store.get(key(0)).cost) == repr(whole.cost)


HIGH, LOW = chr(0xD83D), chr(0xDE00)


@pytest.mark.parametrize(
    "text", [HIGH, f"a{LOW}b\n", HIGH + LOW, LOW + HIGH, HIGH * 9000, "😀", "\\ud83d"], ids=range(7)
)
def test_broken_text_comes_back_as_it_was(text, tmp_path):
    top = {text: float("-inf"), "b": -1.0}
    broken = Reply(Generation(text, "stop", 1, 1, None, (Token(text, -1.0, top),)))
    with RequestStore(tmp_path) as store:
        run(store.put({key(0): broken}))
        assert store.get(key(0)) == broken


def test_an_infinite_log_probability_is_not_dropped(tmp_path):
    endless = Reply(Generation("a", "stop", 1, 1, float("-inf")))
    with RequestStore(tmp_path) as store:
        run(store.put({key(0): endless}))
        assert store.get(key(0)) == endless


def test_many_replies_are_found_at_once_and_only_those_that_there_are(tmp_path):
    with RequestStore(tmp_path) as store:
        keep(store, *range(1200))
        found = store.get_many([key(n) for n in range(1100, 1300)] + [key(n) for n in range(600)])
        there = [*range(1100, 1200), *range(600)]
        assert found == {key(n): reply(n) for n in there}
        assert store.get_many([]) == {}


def test_the_first_answer_to_a_key_stays_and_is_paid_once(tmp_path):
    async def put_twice(store):
        await store.put({key(0): reply(0, "first")})
        again = [store.put({key(0): reply(0, f"later {n}")}) for n in range(5)]
        await asyncio.gather(*again, store.put({key(1): reply(1)}))

    with RequestStore(tmp_path) as store:
        run(put_twice(store))
        assert store.get(key(0)).generation.text == "first"
        assert store.num_replies == 2
        assert store.spent == COST + COST


def test_what_was_spent_holds_over_restarts_with_the_losses(tmp_path):
    with RequestStore(tmp_path) as store:
        assert store.spent == Ledger()
        keep(store, 0, 1)
        run(store.add_loss(Ledger(1, 2, 0.25, 0, 0.5)))
        spent = store.spent
        assert spent == COST + COST + Ledger(1, 2, 0.25, 0, 0.5)
    with RequestStore(tmp_path) as store:
        assert repr(store.spent) == repr(spent)
        keep(store, 1, 2)
        assert store.spent == spent + COST
    with sqlite3.connect(tmp_path / FILE) as db:
        row = db.execute("SELECT count(*), sum(dollars) FROM replies").fetchone()
    db.close()
    assert row == (3, 0.75)


def test_a_request_that_is_set_aside_stays_so_until_it_is_forgotten(tmp_path):
    with RequestStore(tmp_path) as store:
        run(store.set_aside(key(0), "bad_request", f"no such model: 'é{HIGH}'"))
        run(store.set_aside(key(0), "too_long", "later"))
        run(store.set_aside(key(1), "too_long", ""))
        assert store.num_set_aside == 2
    with RequestStore(tmp_path) as store:
        assert store.num_set_aside == 2
        assert store.is_set_aside(key(0)) == ("bad_request", "no such model: 'é\\ud83d'")
        assert store.is_set_aside(key(2)) is None
        assert store.num_replies == 0
        assert store.forget_set_aside() == 2
        assert store.num_set_aside == 0
        assert store.is_set_aside(key(0)) is None
        assert store.forget_set_aside() == 0
        keep(store, 0)
    with RequestStore(tmp_path) as store:
        assert store.num_set_aside == 0
        assert store.get(key(0)) == reply(0)


def test_many_callers_share_one_commit(tmp_path):
    async def put_all(store):
        await asyncio.gather(*(store.put({key(n): reply(n, "a")}) for n in range(2000)))

    with RequestStore(tmp_path) as store:
        statements = []
        store._db.set_trace_callback(statements.append)
        run(put_all(store))
        store._db.set_trace_callback(None)
        assert store.num_replies == 2000
        assert 1 <= statements.count("COMMIT") <= 20


def test_no_read_sees_what_is_not_committed(tmp_path):
    async def read_during_the_write(store):
        puts = [store.put({key(n): reply(n)}) for n in range(1500)]
        writing = asyncio.gather(*puts)
        while not writing.done():
            await asyncio.sleep(0)
            assert store.get("00" * 32) is None

    with RequestStore(tmp_path) as store:
        statements = []
        store._db.set_trace_callback(lambda sql: statements.append(sql.split()[0]))
        run(read_during_the_write(store))
        store._db.set_trace_callback(None)
        before_each_read = {a for a, b in itertools.pairwise(statements) if b == "SELECT"}
        assert before_each_read <= {"COMMIT", "SELECT"}
        assert statements.count("SELECT") > 1
        assert statements.count("INSERT") == 1500


def test_a_cancelled_caller_loses_no_reply(tmp_path):
    async def cancel(store):
        tasks = [asyncio.ensure_future(store.put({key(n): reply(n)})) for n in range(50)]
        await asyncio.sleep(0)
        for task in tasks[::2]:
            task.cancel()
        results = await asyncio.gather(*tasks, return_exceptions=True)
        assert [isinstance(r, asyncio.CancelledError) for r in results] == [True, False] * 25
        await store.put({key(50): reply(50)})

    with RequestStore(tmp_path) as store:
        run(cancel(store))
        assert store.num_replies == 51
        assert store.get_many([key(n) for n in range(51)]) == {key(n): reply(n) for n in range(51)}


def test_closing_writes_what_is_waiting_and_ends_the_thread(tmp_path):
    async def put_and_close(store):
        tasks = [asyncio.ensure_future(store.put({key(n): reply(n)})) for n in range(300)]
        await asyncio.sleep(0)
        store.close()
        assert not any(task.done() for task in tasks)
        await asyncio.gather(*tasks)

    store = RequestStore(tmp_path)
    run(put_and_close(store))
    store.close()
    assert "request-store" not in [thread.name for thread in threading.enumerate()]
    with pytest.raises(StoreError, match="is closed"):
        keep(store, 300)
    with RequestStore(tmp_path) as store:
        assert store.num_replies == 300


def test_an_event_loop_that_ends_before_the_write_loses_nothing(tmp_path):
    async def put_and_leave(store, number):
        waiting = asyncio.ensure_future(store.put({key(number): reply(number)}))
        await asyncio.sleep(0)
        waiting.cancel()

    with RequestStore(tmp_path) as store:
        for number in range(20):
            run(put_and_leave(store, number))
        keep(store, 20)
        assert store.num_replies == 21


def test_a_reply_that_cannot_be_kept_does_not_fail_the_others(tmp_path):
    async def put_all(store):
        replies = [reply(n) for n in range(40)]
        replies[7] = Reply(Generation("a", "stop", 1, 1), Ledger(prompt_tokens=2**64))
        replies[8] = Reply(Generation("a", "stop", 1, 1), Ledger(seconds=float("nan")))
        puts = [store.put({key(n): r}) for n, r in enumerate(replies)]
        return await asyncio.gather(*puts, return_exceptions=True)

    with RequestStore(tmp_path) as store:
        results = run(put_all(store))
        assert [n for n, result in enumerate(results) if result is not None] == [7, 8]
        assert all(isinstance(results[n], StoreError) for n in (7, 8))
        assert store.num_replies == 38
        assert store.get(key(7)) is None
        assert store.get(key(39)) == reply(39)


def test_a_full_disk_is_told_and_what_was_kept_stays(tmp_path):
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    with RequestStore(tmp_path) as store:
        keep(store, 0)
        spent = store.spent
        resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, hard))
        try:
            with pytest.raises(StoreError, match="SQLITE_(FULL|IOERR)") as refused:
                keep(store, *range(1, 400))
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        assert "disk" in str(refused.value)
        assert (store.num_replies, store.spent) == (1, spent)
        assert store.get(key(1)) is None
        keep(store, *range(400))
        assert store.num_replies == 400
    with RequestStore(tmp_path) as store:
        assert store.get_many([key(n) for n in range(400)]) == {
            key(n): reply(n) for n in range(400)
        }


WRITE = """
import asyncio, os, sys
from prm.generation.request_store import RequestStore
from tests.test_request_store import key, reply

async def main(folder, begin):
    numbers = iter(range(begin, begin + 1_000_000))
    with RequestStore(folder) as store:
        async def work():
            for number in numbers:
                await store.put({key(number): reply(number)})
                os.write(1, f"{number}\\n".encode())
        await asyncio.gather(*(work() for _ in range(64)))

asyncio.run(main(sys.argv[1], int(sys.argv[2])))
"""


def write_until_killed(folder, begin, rng):
    """The numbers that a process reported as kept before it was killed in the middle."""
    with run_python(WRITE, folder, begin) as child:
        lines = [child.stdout.readline()]
        time.sleep(rng.uniform(0.0, 0.3))
        child.send_signal(signal.SIGKILL)
        lines += child.stdout.readlines()
    assert child.returncode == -signal.SIGKILL
    return [int(line) for line in lines]


def test_every_reply_that_was_reported_as_kept_survives_kill_9(tmp_path):
    rng = random.Random(0)
    kept = []
    for part in range(4):
        kept += write_until_killed(tmp_path, part * 1_000_000, rng)
        with RequestStore(tmp_path) as store:
            found = store.get_many([key(number) for number in kept])
            assert found == {key(number): reply(number) for number in kept}
            assert len(kept) <= store.num_replies <= len(kept) + (part + 1) * 64
            assert store.spent.generated_tokens == 20 * store.num_replies
    assert len(kept) > 4 * 64


# A transaction that does not fit into the memory: SQLite writes half of it into the file, after
# it has saved the old pages in the journal.
HALF = """
import os, signal, sqlite3, sys
db = sqlite3.connect(sys.argv[1], isolation_level=None)
db.execute("PRAGMA journal_mode = TRUNCATE")
db.execute("PRAGMA cache_size = 10")
db.execute("BEGIN IMMEDIATE")
db.execute("UPDATE replies SET body = randomblob(length(body)), dollars = 7")
os.kill(os.getpid(), signal.SIGKILL)
"""


def leave_half_written(path):
    before = path.read_bytes()
    with run_python(HALF, path) as child:
        assert child.wait() == -signal.SIGKILL
    assert path.read_bytes() != before
    assert path.with_name(path.name + "-journal").stat().st_size > 0


@pytest.mark.parametrize("shard", [Shard(), Shard(0, 2)], ids=["same count", "other count"])
def test_what_a_killed_writer_left_half_done_is_undone(shard, tmp_path):
    leave_half_written(filled(tmp_path, range(200)))
    with RequestStore(tmp_path, shard) as store:
        found = store.get_many([key(n) for n in range(200)])
    assert found == {key(n): reply(n) for n in range(200)}


def test_a_file_has_one_writer_and_the_second_is_told_what_to_do(tmp_path):
    hold = (
        "import sys; from prm.generation.request_store import RequestStore\n"
        "with RequestStore(sys.argv[1]): print('open', flush=True); sys.stdin.readline()"
    )
    remedy = "another process is writing requests-00000-of-00001; wait for it or stop it first"
    with run_python(hold, tmp_path, stdin=subprocess.PIPE) as child:
        assert child.stdout.readline() == "open\n"
        with pytest.raises(StoreError, match=remedy):
            RequestStore(tmp_path)
        with RequestStore(tmp_path, Shard(0, 2)) as store:
            # It may keep a reply that this one wants: asking anyway might pay twice.
            with pytest.raises(StoreError, match=remedy):
                store.get(key(0))
            keep(store, 1)
            assert store.get(key(1)) == reply(1)
        child.communicate("\n")
    with RequestStore(tmp_path), pytest.raises(StoreError, match=remedy):
        RequestStore(tmp_path)
    RequestStore(tmp_path).close()


def test_replies_are_found_when_the_number_of_shards_has_changed(tmp_path):
    for index in range(3):
        filled(tmp_path, range(index * 10, index * 10 + 10), Shard(index, 3))
    with RequestStore(tmp_path, Shard(0, 2)) as one, RequestStore(tmp_path, Shard(1, 2)) as two:
        keep(one, 30)
        for store in (one, two):
            assert store.get(key(25)) == reply(25)
            found = store.get_many([key(n) for n in (*range(30), 31)])
            assert found == {key(n): reply(n) for n in range(30)}
        # Another file of the same count holds other problems.
        assert two.get(key(30)) is None
        assert one.get(key(30)) == reply(30)
        assert (one.num_replies, one.spent) == (1, COST)
        with pytest.raises(StoreError, match="requests-00001-of-00003; wait"):
            RequestStore(tmp_path, Shard(1, 3))
    with RequestStore(tmp_path, Shard(1, 3)) as store:
        assert store.num_replies == 10


@pytest.mark.parametrize(("count", "opened"), [(1, 4), (2, 2), (3, 4), (6, 2), (8, 1)])
def test_only_files_that_may_hold_the_same_problems_are_opened(count, opened, tmp_path):
    problems = range(300)
    for shard in (Shard(index, 4) for index in range(4)):
        filled(tmp_path, [n for n in problems if shard.has(f"p/{n}")], shard)
    for shard in (Shard(index, count) for index in range(count)):
        mine = [key(n) for n in problems if shard.has(f"p/{n}")]
        with RequestStore(tmp_path, shard) as store:
            assert len(store.get_many(mine)) == len(mine) > 0
            assert len(store._others) == opened


def test_a_file_of_another_count_without_tables_holds_nothing(tmp_path):
    (tmp_path / "requests-00000-of-00003.sqlite").touch()
    (tmp_path / "requests-copy-of-mine.sqlite").write_text("no database")
    with RequestStore(tmp_path) as store:
        assert store.get(key(0)) is None


def ruin_head(path):
    path.write_bytes(b"{" * 5000 + path.read_bytes()[5000:])


def cut(path):
    os.truncate(path, path.stat().st_size // 2)


def ruin_pages(path):
    data = path.read_bytes()
    path.write_bytes(data[:4096] + b"\xff" * (len(data) - 4096))


@pytest.mark.parametrize("damage", [ruin_head, cut, ruin_pages])
@pytest.mark.parametrize("shard", [Shard(), Shard(0, 2)], ids=["own", "other count"])
def test_a_damaged_file_is_refused_with_its_name_and_the_remedy(damage, shard, tmp_path):
    damage(filled(tmp_path, range(100)))
    told = rf"{FILE}: .*; it is damaged: move it away \(its requests are paid again\)"
    with pytest.raises(StoreError, match=told), RequestStore(tmp_path, shard) as store:
        store.get(key(0))
    # Nothing is held after a refusal.
    (tmp_path / FILE).unlink()
    RequestStore(tmp_path).close()


def test_a_damaged_body_is_told_and_is_no_reply(tmp_path):
    path = filled(tmp_path, range(3))
    with contextlib.closing(sqlite3.connect(path)) as db, db:
        db.execute("UPDATE replies SET body = substr(body, 1, length(body) - 1)")
    told = r"a body that is no reply .* it is damaged"
    with RequestStore(tmp_path) as store, pytest.raises(StoreError, match=told):
        store.get(key(2))


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ("PRAGMA user_version = 99", r"of version 99, not 1; choose another folder, or"),
        ("PRAGMA application_id = 0", "made by another program; choose another folder"),
    ],
)
def test_a_file_of_another_version_or_program_is_refused(change, told, tmp_path):
    path = filled(tmp_path, range(3))
    with contextlib.closing(sqlite3.connect(path)) as db, db:
        db.execute(change)
    before = path.read_bytes()
    with pytest.raises(StoreError, match=told):
        RequestStore(tmp_path)
    with RequestStore(tmp_path, Shard(0, 2)) as store, pytest.raises(StoreError, match=told):
        store.get(key(0))
    assert path.read_bytes() == before


@contextlib.contextmanager
def without_root():
    """For a root user: be nobody, whom the modes of files bind."""
    user = os.geteuid()
    if user == 0:
        os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(user)


@pytest.mark.parametrize("mode", [0o555, 0o000])
def test_a_folder_that_cannot_be_written_is_told_at_once(mode):
    with tempfile.TemporaryDirectory() as parent:
        os.chmod(parent, 0o755)
        folder = Path(parent) / "store"
        filled(folder, range(3))
        for path in folder.iterdir():
            path.chmod(0o666)
        (folder / f"{FILE}-journal").unlink(missing_ok=True)
        folder.chmod(mode)
        with without_root(), pytest.raises(StoreError, match="make file and folder writable"):
            RequestStore(folder)
        folder.chmod(0o755)


def test_a_file_that_cannot_be_written_is_told_at_once():
    with tempfile.TemporaryDirectory() as parent:
        os.chmod(parent, 0o777)
        path = filled(Path(parent), range(3))
        path.with_suffix(".lock").chmod(0o666)
        path.chmod(0o444)
        with without_root(), pytest.raises(StoreError, match="make file and folder writable"):
            RequestStore(parent)


def test_a_folder_that_is_a_file_is_told(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(StoreError, match="choose another folder"):
        RequestStore(tmp_path / "file")


def test_a_copied_folder_is_the_same_store(tmp_path):
    filled(tmp_path / "a#b?c%20", range(5))
    copy = shutil.copytree(tmp_path / "a#b?c%20", tmp_path / "copy")
    with RequestStore(copy) as store:
        assert store.get(key(4)) == reply(4)


MEASURE = """
import asyncio, json, os, sys
from prm.generation.request_store import RequestStore
from tests.test_request_store import key, reply

def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")

async def main(folder, rows):
    with RequestStore(folder) as store:
        sizes = []
        for begin in range(0, rows, 500):
            puts = [{key(n): reply(n, "so " * 30)} for n in range(begin, begin + 500)]
            await asyncio.gather(*map(store.put, puts))
            assert store.get(key(begin // 2)) is not None
            sizes.append(resident())
        assert store.num_replies == rows
        print(json.dumps(sizes))

asyncio.run(main(sys.argv[1], int(sys.argv[2])))
"""


def growth(folder, rows):
    """Bytes that a process grew by while it kept the rows, without the first 10,000."""
    with run_python(MEASURE, folder, rows) as child:
        sizes = json.loads(child.communicate()[0])
    assert child.returncode == 0
    return sizes[-1] - sizes[20]


def test_the_memory_does_not_grow_with_the_rows(tmp_path):
    assert growth(tmp_path, 30_000) < 4_000_000


@pytest.mark.slow
def test_the_memory_does_not_grow_with_200_000_rows(tmp_path):
    assert growth(tmp_path, 200_000) < 4_000_000


def test_the_losses_are_told_apart_and_hold_over_restarts(tmp_path):
    loss = Ledger(1, 2, 0.25, 0, 0.5)
    with RequestStore(tmp_path) as store:
        keep(store, 0)
        store.note_loss(loss)  # nobody waits for it, and no event loop runs
    with RequestStore(tmp_path) as store:
        assert (store.lost, store.spent) == (loss, COST + loss)
        run(store.add_loss(loss))
        assert store.lost == loss + loss


def test_a_loss_that_cannot_be_kept_is_told_to_the_next_who_waits(tmp_path):
    with RequestStore(tmp_path) as store:
        store.note_loss(Ledger(2**70))
        while store._unheard is None:
            time.sleep(0.001)
        with pytest.raises(StoreError, match="OverflowError"):
            keep(store, 0)
        keep(store, 1)
        assert store.lost == Ledger()


def test_what_was_spent_with_other_numbers_of_shards_is_summed_over_all_their_files(tmp_path):
    filled(tmp_path, [0, 1], Shard(0, 2))
    filled(tmp_path, [2], Shard(1, 2))
    filled(tmp_path, [3], Shard(1, 4))
    with RequestStore(tmp_path, Shard(0, 4)) as store:
        run(store.add_loss(COST))
    with RequestStore(tmp_path, Shard(1, 4)) as store:
        assert store.spent == COST
        assert store.spent_elsewhere() == COST + COST + COST
    with RequestStore(tmp_path, Shard(0, 2)) as store:
        assert store.spent_elsewhere() == COST + COST
