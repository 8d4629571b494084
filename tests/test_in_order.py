import asyncio
import gc
import random
import threading
import time

import pytest

from data_gen import in_order
from data_gen.in_order import run_in_order

PATIENCE_SECONDS = 10


class Work:
    """Work that takes a turn of the loop or waits for its gate, and notes all that happens."""

    def __init__(self, gates=(), broken=()):
        self.gates = {value: asyncio.Event() for value in gates}
        self.broken = set(broken)
        self.begun, self.finished, self.cancelled, self.written = [], [], [], []
        self.under_way = self.most = 0

    async def __call__(self, value):
        self.begun.append(value)
        self.under_way += 1
        self.most = max(self.most, self.under_way)
        try:
            await (self.gates[value].wait() if value in self.gates else asyncio.sleep(0))
            if value in self.broken:
                raise ArithmeticError(value)
        except asyncio.CancelledError:
            self.cancelled.append(value)
            raise
        finally:
            self.under_way -= 1
        self.finished.append(value)
        return value * value

    def write(self, value, result):
        assert result == value * value
        self.written.append(value)

    def open_size(self, size):
        return size * self.under_way

    async def run(self, items, *, room=4, size=1, is_repeatable=False, write=None):
        async with asyncio.timeout(PATIENCE_SECONDS):
            await run_in_order(
                items,
                self,
                write or self.write,
                size=size if callable(size) else lambda _: size,
                # Each has its size until it has its result.
                room=lambda: (room() if callable(room) else room) - self.open_size(size),
                is_repeatable=is_repeatable,
            )


async def settle(work, **expected):
    """Wait until the lists of the work are as expected, and let what can go on go on."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        while any(getattr(work, name) != value for name, value in expected.items()):
            await asyncio.sleep(0.001)
    for _ in range(10):
        await asyncio.sleep(0.001)
    assert {name: getattr(work, name) for name in expected} == expected


@pytest.mark.parametrize("is_repeatable", [True, False])
@pytest.mark.parametrize("seed", range(3))
def test_results_are_written_in_order_however_they_finish(seed, is_repeatable):
    rng = random.Random(seed)

    async def run():
        work = Work(gates=range(40))
        task = asyncio.ensure_future(work.run(range(40), room=40, is_repeatable=is_repeatable))
        await settle(work, begun=list(range(40)))
        for value in rng.sample(range(40), 40):
            work.gates[value].set()
            await asyncio.sleep(0)
        await task
        return work

    work = asyncio.run(run())
    assert work.written == list(range(40))
    assert work.finished[:40] != list(range(40))


def test_without_items_nothing_happens():
    work = Work()
    asyncio.run(work.run([]))
    assert (work.begun, work.written) == ([], [])


def test_a_result_is_written_as_soon_as_those_before_it_are():
    async def run():
        work = Work(gates=[2])
        task = asyncio.ensure_future(work.run(range(4)))
        await settle(work, written=[0, 1], finished=[0, 1, 3])
        work.gates[2].set()
        await task
        assert work.written == [0, 1, 2, 3]

    asyncio.run(run())


@pytest.mark.parametrize(("size", "room", "most"), [(1, 5, 5), (2, 6, 3), (3, 7, 3), (9, 4, 1)])
def test_items_are_begun_while_there_is_room_but_always_one(size, room, most):
    async def run():
        work = Work(gates=range(30))
        task = asyncio.ensure_future(work.run(range(30), room=room, size=size))
        await settle(work, begun=list(range(most)))
        for value in range(30):
            work.gates[value].set()
            await asyncio.sleep(0)
        await task
        assert work.most == most
        assert work.written == list(range(30))

    asyncio.run(run())


def test_room_that_grows_is_used_at_the_next_result():
    async def run():
        room = 2
        work = Work(gates=range(20))
        task = asyncio.ensure_future(work.run(range(20), room=lambda: room))
        await settle(work, under_way=2)
        room = 10
        work.gates[0].set()
        await settle(work, under_way=10)
        for gate in work.gates.values():
            gate.set()
        await task
        assert work.written == list(range(20))

    asyncio.run(run())


def test_items_are_taken_from_the_source_only_as_they_are_begun():
    taken = []

    def source():
        for value in range(10):
            taken.append(value)
            yield value

    async def run():
        work = Work(gates=range(10))
        task = asyncio.ensure_future(work.run(source(), room=3))
        await settle(work, begun=[0, 1, 2])
        assert taken == [0, 1, 2]
        for gate in work.gates.values():
            gate.set()
        await task

    asyncio.run(run())
    assert taken == list(range(10))


@pytest.fixture
def few_kept(monkeypatch):
    monkeypatch.setattr(in_order, "_KEPT", 16)


@pytest.mark.parametrize(
    ("is_repeatable", "size", "again"), [(True, 1, 100 - 16), (True, 5, 100 - 3), (False, 1, 0)]
)
@pytest.mark.usefixtures("few_kept")
def test_results_that_wait_long_are_dropped_and_made_again(is_repeatable, size, again):
    async def run():
        work = Work(gates=[0])
        items = work.run(range(101), is_repeatable=is_repeatable, size=size, room=4 * size)
        task = asyncio.ensure_future(items)
        await settle(work, finished=list(range(1, 101)))
        work.gates[0].set()
        await task
        return work

    work = asyncio.run(run())
    assert work.written == list(range(101))
    assert len(work.begun) == 101 + again
    assert work.most <= 4


@pytest.mark.usefixtures("few_kept")
def test_a_result_whose_turn_it_is_is_not_made_again_however_large_it_is():
    async def run():
        work = Work(gates=range(1, 8))
        loop = asyncio.get_running_loop()

        def write(value, result):
            work.write(value, result)
            if value < 7:
                later = 0.02, work.gates[value + 1].set
                loop.call_soon_threadsafe(loop.call_later, *later)

        await work.run(range(8), is_repeatable=True, size=1000, room=1000, write=write)
        assert work.written == work.begun == list(range(8))

    asyncio.run(run())


@pytest.mark.usefixtures("few_kept")
def test_a_slow_disk_holds_the_work_back_and_nothing_is_made_twice():
    ahead = []

    async def run():
        work = Work()

        def write(value, result):
            time.sleep(0.002)
            ahead.append(len(work.begun) - value)
            work.write(value, result)

        await work.run(range(100), room=8, is_repeatable=True, write=write)
        assert work.written == work.begun == list(range(100))

    asyncio.run(run())
    assert 16 < max(ahead) <= 16 + 2 * 8


@pytest.mark.usefixtures("few_kept")
def test_few_results_wait_in_memory_behind_a_slow_one():
    class Big:
        alive = most = 0

        def __init__(self):
            Big.alive += 1
            Big.most = max(Big.most, Big.alive)

        def __del__(self):
            Big.alive -= 1

    async def run():
        gate = asyncio.Event()
        num_done = num_open = 0

        async def work(value):
            nonlocal num_done, num_open
            num_open += 1
            await (gate.wait() if value == 0 else asyncio.sleep(0))
            num_open -= 1
            num_done += 1
            return Big()

        task = asyncio.ensure_future(
            run_in_order(
                range(500),
                work,
                lambda _value, _result: None,
                size=lambda _: 1,
                room=lambda: 8 - num_open,
                is_repeatable=True,
            )
        )
        while num_done < 499:
            await asyncio.sleep(0)
        gate.set()
        await task

    asyncio.run(run())
    # Those that are kept, those that have just ended, and those before them.
    assert 16 < Big.most <= 16 + 2 * 8


def test_no_more_items_are_ahead_than_memory_can_hold(monkeypatch):
    monkeypatch.setattr(in_order, "_AHEAD", 20)

    async def run():
        work = Work(gates=[0])
        task = asyncio.ensure_future(work.run(range(100), is_repeatable=True))
        await settle(work, begun=list(range(20)), finished=list(range(1, 20)))
        work.gates[0].set()
        await task
        assert work.written == list(range(100))

    asyncio.run(run())


def test_after_an_error_what_is_complete_before_it_is_written_and_nothing_is_begun():
    async def run():
        work = Work(gates=range(1, 50), broken=[2])
        task = asyncio.ensure_future(work.run(range(50), room=5))
        await settle(work, begun=[0, 1, 2, 3, 4, 5], written=[0])
        work.gates[2].set()
        work.gates[4].set()
        await settle(work, finished=[0, 4], written=[0])
        assert not task.done()
        work.gates[1].set()
        await settle(work, finished=[0, 4, 1], written=[0, 1])
        assert not task.done()
        work.gates[3].set()
        work.gates[5].set()
        with pytest.raises(ArithmeticError, match="2"):
            await task
        assert work.written == [0, 1]
        assert work.begun == [0, 1, 2, 3, 4, 5]
        assert sorted(work.finished) == [0, 1, 3, 4, 5]
        assert work.cancelled == []

    asyncio.run(run())


def test_the_first_of_several_errors_is_raised_and_of_the_others_nothing_is_logged(caplog):
    async def run():
        work = Work(gates=[3, 4, 5], broken=[3, 4, 5])
        task = asyncio.ensure_future(work.run(range(6), room=6))
        await settle(work, written=[0, 1, 2])
        work.gates[5].set()
        await settle(work, under_way=2)
        work.gates[3].set()
        work.gates[4].set()
        with pytest.raises(ArithmeticError, match="5"):
            await task

    asyncio.run(run())
    # asyncio tells of errors that nobody has looked at when their tasks are collected.
    gc.collect()
    assert caplog.text == ""


def test_an_error_of_the_last_and_of_the_first_item_is_raised():
    for broken, written in ((0, []), (5, [0, 1, 2, 3, 4])):
        work = Work(broken=[broken])
        with pytest.raises(ArithmeticError):
            asyncio.run(work.run(range(6)))
        assert work.written == written


@pytest.mark.parametrize("is_repeatable", [True, False])
def test_after_an_error_of_the_disk_what_is_under_way_is_finished_and_nothing_is_begun(
    is_repeatable,
):
    async def run():
        work = Work(gates=[1, 2, 3, 4, 5])
        tried = []

        def write(value, result):
            tried.append(value)
            if value == 1:
                raise OSError("disk full")
            work.write(value, result)

        running = work.run(range(50), room=4, write=write, is_repeatable=is_repeatable)
        task = asyncio.ensure_future(running)
        await settle(work, begun=[0, 1, 2, 3, 4], written=[0])
        work.gates[1].set()
        await settle(work, finished=[0, 1])
        begun = list(work.begun)
        assert not task.done()
        for gate in work.gates.values():
            gate.set()
        with pytest.raises(OSError, match="disk full"):
            await task
        assert sorted(work.finished) == work.begun == begun
        assert tried == [0, 1]
        assert work.cancelled == []
        assert work.under_way == 0

    asyncio.run(run())


def test_an_error_of_the_source_ends_it():
    def source():
        yield from range(3)
        raise ValueError("not JSON")

    work = Work()
    with pytest.raises(ValueError, match="not JSON"):
        asyncio.run(work.run(source(), room=2))
    assert work.under_way == 0


def test_cancellation_cancels_what_is_under_way():
    async def run():
        work = Work(gates=[2, 3, 4])
        task = asyncio.ensure_future(work.run(range(50), room=3))
        await settle(work, begun=[0, 1, 2, 3, 4], written=[0, 1])
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert sorted(work.cancelled) == [2, 3, 4]
        assert work.under_way == 0

    asyncio.run(run())


def test_write_is_never_called_twice_at_a_time_nor_in_the_event_loop():
    lock, threads = threading.Lock(), set()

    def write(_value, _result):
        assert lock.acquire(blocking=False)
        threads.add(threading.get_ident())
        time.sleep(0.001)
        lock.release()

    asyncio.run(Work().run(range(60), room=30, write=write))
    assert threads
    assert threading.get_ident() not in threads


def test_work_goes_on_while_a_result_is_written():
    finished_meanwhile = []

    async def run():
        work = Work(gates=[1])
        loop = asyncio.get_running_loop()

        def write(value, result):
            if value == 0:
                loop.call_soon_threadsafe(work.gates[1].set)
                deadline = time.monotonic() + PATIENCE_SECONDS
                while 1 not in work.finished and time.monotonic() < deadline:
                    time.sleep(0.001)
                finished_meanwhile.append(1 in work.finished)
            work.write(value, result)

        await work.run(range(3), write=write)
        assert work.written == [0, 1, 2]

    asyncio.run(run())
    assert finished_meanwhile == [True]


class Servers:
    """So many places, and requests of lengths of which few are long, as thoughts are."""

    def __init__(self, num_places):
        self.num_places, self.num_open, self.num_begun = num_places, 0, 0
        self.places, self.rng = asyncio.Semaphore(num_places), random.Random(1)
        self.used, self.looks = 0, []

    async def answer(self):
        async with self.places:
            self.used += 1
            self.num_begun += 1
            await asyncio.sleep(0.4 * min(1.0, self.rng.lognormvariate(-1.5, 0.8)))
            self.used -= 1
        self.num_open -= 1

    async def ask(self, size):
        self.num_open += size
        await asyncio.gather(*(self.answer() for _ in range(size)))

    def room(self):
        return 2 * self.num_places - self.num_open

    async def watch(self, total):
        """The share of the places in use, as long as there is something left to ask."""
        while self.num_begun < total:
            await asyncio.sleep(0.005)
            self.looks.append(self.used / self.num_places)


@pytest.mark.parametrize("size", [1, 32, 512])
def test_the_servers_have_work_however_the_lengths_vary(size):
    async def run():
        servers, total = Servers(128), 1536
        watcher = asyncio.ensure_future(servers.watch(total))
        await run_in_order(
            [size] * (total // size),
            servers.ask,
            lambda _value, _result: None,
            size=lambda value: value,
            room=servers.room,
            is_repeatable=True,
        )
        await watcher
        return servers.looks

    looks = asyncio.run(run())
    assert len(looks) > 20
    assert sum(looks) / len(looks) > 0.95
