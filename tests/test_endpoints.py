import asyncio
import heapq
import itertools
import math
import pickle
import random
import selectors
import time
import traceback
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest

from prm.errors import ConfigError, GenerationError
from prm.generation.endpoints import EndpointConfig, EndpointPool
from prm.generation.faults import Fault, parse_retry_after, retry_after_of
from prm.ledger import Ledger

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


class VirtualLoop(asyncio.SelectorEventLoop):
    """An event loop whose time leaps to the next timer when there is nothing to do."""

    def __init__(self):
        self.now, self.num_rounds = 0.0, 0
        super().__init__(_LeapingSelector(self))

    def time(self):
        return self.now


class _LeapingSelector(selectors.SelectSelector):
    def __init__(self, loop):
        super().__init__()
        self.loop = loop

    def select(self, timeout=None):
        if timeout is None:
            raise AssertionError("everything waits and nothing will happen")
        self.loop.num_rounds += 1
        self.loop.now += max(0.0, timeout)
        return super().select(0)


def play(scene):
    """Run the coroutine in virtual time."""
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        return runner.run(scene)


def pool_of(*configs, **settings):
    return EndpointPool(configs, clock=asyncio.get_running_loop().time, seed=1, **settings)


def endpoint(number=0, **settings):
    return EndpointConfig(f"http://node{number}:8000/v1", **settings)


def time_now():
    return asyncio.get_running_loop().time()


async def settle():
    for _ in range(5):
        await asyncio.sleep(0)


async def take(pool, number, num_tokens=0):
    return [await pool.acquire(num_tokens) for _ in range(number)]


def wakes_in(pool):
    """Seconds until the first endpoint may be asked again."""
    return pool.endpoints[0].opens_at(time_now(), 0) - time_now()


def broken(kind="server_error", **facts):
    return Fault(kind, "it broke", **facts)


# --- servers that share a capacity, for the closed loop of pool and server


class SharedServer:
    """Capacity tokens/s shared equally, at most ``rate`` for one request (continuous batching).

    ``limit``: beyond so many in flight it answers 429. ``slots``: beyond so many, requests queue.
    """

    def __init__(self, capacity, rate, *, limit=10**9, slots=10**9, noise=0.0, seed=0):
        self.capacity, self.rate, self.limit, self.slots = capacity, rate, limit, slots
        self.random, self.noise = random.Random(seed), noise
        self.served, self.at = 0.0, 0.0
        self.running, self.queue, self.timer = [], [], None
        self.order = itertools.count()
        self.num_refused = self.tokens = 0
        self.is_down = False

    async def ask(self, num_tokens):
        if self.is_down:
            await asyncio.sleep(0.01)
            raise Fault("connection", "connection refused")
        if len(self.running) + len(self.queue) >= self.limit:
            self.num_refused += 1
            await asyncio.sleep(0.01)
            raise Fault("rate_limited", "too many", status=429)
        future = asyncio.get_running_loop().create_future()
        effort = num_tokens * math.exp(self.random.gauss(-(self.noise**2) / 2, self.noise))
        self._advance()
        heapq.heappush(self.queue, (next(self.order), effort, future))
        self._schedule()
        await future
        self.tokens += num_tokens

    def crash(self):
        self._advance()
        self.is_down = True
        for *_, future in self.running + self.queue:
            future.set_exception(Fault("connection", "connection reset"))
        self.running, self.queue = [], []
        self._schedule()

    def _speed(self):
        return min(self.rate, self.capacity / max(1, len(self.running)))

    def _advance(self):
        now = time_now()
        self.served += (now - self.at) * self._speed()
        self.at = now

    def _schedule(self):
        while self.queue and len(self.running) < self.slots:
            place, effort, future = heapq.heappop(self.queue)
            heapq.heappush(self.running, (self.served + effort, place, future))
        if self.timer:
            self.timer.cancel()
            self.timer = None
        if self.running:
            delay = max(0.0, (self.running[0][0] - self.served) / self._speed())
            self.timer = asyncio.get_running_loop().call_later(delay, self._finish)

    def _finish(self):
        self.timer = None
        self._advance()
        while self.running and self.running[0][0] <= self.served + 1e-6:
            future = heapq.heappop(self.running)[2]
            if not future.done():
                future.set_result(None)
        self._schedule()


async def work(pool, servers, num_requests, *, num_workers, seed=0, mean=300, sigma=0.7):
    """Answer so many requests, retrying faults; returns the endpoints' indices in order of end."""
    source = random.Random(seed)
    lengths = [source.lognormvariate(math.log(mean), sigma) for _ in range(num_requests)]
    todo = iter([max(1, int(length)) for length in lengths])
    ends = []

    async def one():
        for num_tokens in todo:
            avoid = None
            while True:
                with await pool.acquire(num_tokens, avoid) as lease:
                    index, begin = lease.endpoint.index, time_now()
                    try:
                        await servers[index].ask(num_tokens)
                    except Fault as fault:
                        lease.failed(fault)
                        avoid = lease.endpoint.name
                        continue
                    lease.done(num_tokens, time_now() - begin)
                    ends.append((time_now(), index, num_tokens))
                    break

    async with asyncio.TaskGroup() as group:
        for _ in range(num_workers):
            group.create_task(one())
    return ends


def goodput(ends):
    """Tokens a second between the first and the last of these ends."""
    return sum(tokens for *_, tokens in ends[1:]) / (ends[-1][0] - ends[0][0])


# --- faults


def test_each_fault_is_the_requests_the_endpoints_or_passes():
    for kind in ("rate_limited", "server_error", "timeout", "connection", "bad_reply"):
        assert Fault(kind, "").is_transient
    assert Fault("bad_request", "").is_poison
    assert Fault("refused", "").is_fatal_for_endpoint
    assert Fault("no_model", "").is_fatal_for_endpoint
    for kind in ("bad_request", "refused", "no_model"):
        fault = Fault(kind, "")
        assert not fault.is_transient
        assert fault.is_poison + fault.is_fatal_for_endpoint == 1


def test_a_fault_says_what_happened_and_survives_pickling():
    fault = Fault("timeout", "after 600 s", retry_after=2.0, may_have_cost=Ledger(7, 5))
    copy = pickle.loads(pickle.dumps(fault))
    assert str(copy) == str(fault) == "timeout: after 600 s"
    assert (copy.kind, copy.retry_after, copy.may_have_cost) == ("timeout", 2.0, Ledger(7, 5))
    assert isinstance(fault, GenerationError)


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("30", 30.0),
        (" 1.5 ", 1.5),
        ("-3", 0.0),
        ("250ms", 0.25),
        (format_datetime(NOW + timedelta(seconds=90), usegmt=True), 90.0),
        (format_datetime(NOW + timedelta(seconds=90)).replace("+0000", "-0000"), 90.0),
        (format_datetime(NOW - timedelta(hours=1), usegmt=True), 0.0),
        (None, None),
        ("", None),
        ("soon", None),
        ("ms", None),
        ("nan", None),
        ("inf", None),
        ("Fri, 99 Foo 2026 99:99:99 GMT", None),
    ],
)
def test_retry_after_is_seconds_a_date_or_nothing(value, seconds):
    assert parse_retry_after(value, NOW) == seconds


def test_milliseconds_go_before_the_coarser_header():
    assert retry_after_of({"retry-after": "2", "retry-after-ms": "1200"}, NOW) == 1.2
    assert retry_after_of({"retry-after": "2", "retry-after-ms": "x"}, NOW) == 2.0
    assert retry_after_of({}, NOW) is None


# --- settings


def test_the_name_is_host_and_port_and_what_tells_servers_apart():
    assert EndpointConfig("https://api.host.example:8443/v1/").name == "api.host.example:8443"
    assert EndpointConfig("http://[::1]:8000/v1").name == "[::1]:8000"
    assert EndpointConfig("https://gate.example/node1/v1").name == "gate.example/node1"


@pytest.mark.parametrize(
    "settings",
    [
        {"url": "node7:8000"},
        {"url": "ftp://me:canary@node7/v1"},
        {"url": "https://me:canary@node7/v1"},
        {"url": "https://canary@node7/v1"},
        {"url": "https://:canary@node7/v1"},
        {"url": "https://node7/v1?key=canary"},
        {"url": "https://node7/v1#canary"},
        {"url": "https://node7/v1?"},
        {"url": "http://node7:eighty/v1"},
        {"url": "http://node7:65536/v1"},
        {"url": "http://node7:0/v1"},
        {"url": "http://node7:8000:8001/v1"},
        {"url": "http://[::canary]:8000/v1"},
        {"url": "http://[::1/v1"},
        {"url": "http://no de7:8000/v1"},
        {"url": "http://no\nde7:8000/v1"},
        {"url": " http://node7:8000/v1"},
        {"url": "http://node..7/v1"},
        {"url": "http://node7,node8/v1"},
        {"url": "http://" + "n" * 64 + "/v1"},
        {"api_key_env": "sk-canary"},
        {"api_key_env": "canary key"},
        {"api_key_env": "7canary"},
        {"api_key_env": "canary\n"},
        {"weight": 0.0},
        {"weight": math.inf},
        {"api_key_env": "KEY", "api_key_file": "key.txt"},
        {"concurrency": -1},
        {"max_concurrency": 0},
        {"requests_per_minute": -1},
        {"tokens_per_minute": -1},
    ],
)
def test_settings_that_cannot_be_meant_are_refused(settings):
    with pytest.raises(ConfigError) as caught:
        EndpointConfig(**{"url": "http://node0:8000/v1", **settings})
    assert "canary" not in "".join(traceback.format_exception(caught.value))
    assert "canary" not in repr(caught.value.__context__)


@pytest.mark.parametrize(
    "url",
    [
        "http://node_7.cluster:8000",
        "http://10.0.0.7:65535/v1",
        "https://[fe80::1]/v1",
        "https://Api.Host.example./a/b/v1/",
        "http://knoten-ä:8000/v1",
    ],
)
def test_every_url_that_a_server_can_have_is_taken(url):
    assert EndpointConfig(url, api_key_env="_Our_KEY2").url == url


def test_a_pool_needs_endpoints_and_each_once():
    with pytest.raises(ConfigError, match="at least one"):
        EndpointPool([])
    with pytest.raises(ConfigError, match="each once"):
        EndpointPool([endpoint(), endpoint(weight=2.0)])


# --- leases


def test_requests_wait_their_turn_and_never_exceed_the_concurrency():
    async def scene():
        pool, order = pool_of(endpoint(concurrency=2)), []

        async def one(number):
            with await pool.acquire() as lease:
                order.append(number)
                assert pool.in_flight <= 2
                await asyncio.sleep(1)
                lease.done(1, 1.0)

        await asyncio.gather(*(one(number) for number in range(10)))
        assert order == list(range(10))
        assert time_now() == pytest.approx(5.0)
        assert pool.in_flight == 0

    play(scene())


def test_work_divides_by_weight_at_fixed_concurrency():
    async def scene():
        pool = pool_of(endpoint(0, concurrency=64), endpoint(1, concurrency=64, weight=3.0))
        servers = [SharedServer(1e9, 30.0), SharedServer(1e9, 30.0)]
        ends = await work(pool, servers, 2000, num_workers=16)
        assert sum(index for _, index, _ in ends) / 2000 == pytest.approx(0.75, abs=0.02)

    play(scene())


def test_another_endpoint_than_the_failed_one_is_preferred_but_not_required():
    async def scene():
        pool = pool_of(endpoint(0, concurrency=1), endpoint(1, concurrency=1))
        lease = await pool.acquire(avoid="node0:8000")
        assert lease.endpoint.name == "node1:8000"
        # Nobody else wants the other endpoint: better that one than none.
        other = await pool.acquire(avoid="node0:8000")
        assert other.endpoint.name == "node0:8000"
        picky = asyncio.create_task(pool.acquire(avoid="node0:8000"))
        plain = asyncio.create_task(pool.acquire())
        await settle()
        other.release()
        await settle()
        assert plain.done()
        assert not picky.done()
        lease.release()
        assert (await picky).endpoint.name == "node1:8000"

    play(scene())


def test_a_cancelled_acquire_leaks_no_slot():
    async def scene():
        pool = pool_of(endpoint(concurrency=1))
        lease = await pool.acquire()
        waiting, granted, last = (asyncio.create_task(pool.acquire()) for _ in range(3))
        await settle()
        waiting.cancel()
        await settle()
        lease.release()  # The slot now belongs to `granted`, which has not run yet.
        granted.cancel()
        with pytest.raises(asyncio.CancelledError):
            await granted
        (await last).release()
        assert pool.in_flight == 0

    play(scene())


def test_a_lease_ends_once_and_is_given_back_on_an_error():
    async def scene():
        pool = pool_of(endpoint())
        with pytest.raises(ZeroDivisionError), await pool.acquire():
            raise ZeroDivisionError
        assert pool.in_flight == 0
        assert pool.state()[0].num_failed == 0
        lease = await pool.acquire()
        lease.done(1, 1.0)
        with pytest.raises(AssertionError, match="ends once"):
            lease.failed(broken())

    play(scene())


def test_who_cannot_use_an_endpoint_waits_for_another_and_holds_nobody_up():
    async def scene():
        pool = pool_of(endpoint(0, concurrency=1), endpoint(1, concurrency=1))
        barred = {"node0:8000": "node0:8000 cannot do this"}
        only = await pool.acquire(barred=barred)
        assert only.endpoint.name == "node1:8000"
        others = [asyncio.create_task(pool.acquire(barred=barred)) for _ in range(50)]
        await settle()
        # Fifty wait before it, none for what it gets.
        free = await asyncio.wait_for(pool.acquire(), 1)
        assert free.endpoint.name == "node0:8000"
        last = asyncio.create_task(pool.acquire())
        only.done(1, 1.0)
        await settle()
        # Of those who can use it, the first that came.
        assert others[0].done()
        assert not last.done()
        free.release()
        assert (await last).endpoint.name == "node0:8000"
        (await others[0]).failed(broken("refused"))
        for other in others[1:]:
            with pytest.raises(GenerationError, match="node0:8000 cannot do this; node1:8000: ref"):
                await other

    play(scene())


# --- health


def test_rests_double_up_to_a_minute_and_a_single_request_ends_them():
    async def scene():
        pool, rests = pool_of(endpoint()), []
        for _ in range(9):
            begin = time_now()
            with await pool.acquire() as lease:
                rests.append(time_now() - begin)
                lease.failed(broken())
        bounds = zip(rests[1:], [1, 2, 4, 8, 16, 32, 60, 60], strict=True)
        assert all(0.74 * most <= rest <= most for rest, most in bounds)
        assert len(set(rests[-2:])) == 2  # jitter
        probe = await pool.acquire()
        assert pool.state()[0].status == "half_open"
        others = [asyncio.create_task(pool.acquire()) for _ in range(7)]
        await asyncio.sleep(100)
        assert not any(task.done() for task in others)
        probe.done(1, 100.0)
        await asyncio.gather(*others)
        assert pool.state()[0].status == "awake"

    play(scene())


def test_the_first_token_ends_the_trial_and_a_released_trial_is_repeated():
    async def scene():
        pool = pool_of(endpoint())
        (await pool.acquire()).failed(broken())
        (await pool.acquire()).release()
        probe = await pool.acquire()
        other = asyncio.create_task(pool.acquire())
        await settle()
        assert not other.done()
        probe.alive()
        await other

    play(scene())


def test_requests_that_die_together_are_one_failure():
    async def scene():
        pool = pool_of(endpoint(concurrency=64))
        for lease in await take(pool, 64):
            lease.failed(broken("connection"))
        assert 0.7 < wakes_in(pool) <= 1.0
        (await pool.acquire()).failed(broken("connection"))
        assert 1.5 <= wakes_in(pool) <= 2.0

    play(scene())


def test_a_stray_fault_among_replies_rests_nothing_but_three_at_once_do():
    async def scene():
        pool = pool_of(endpoint(concurrency=64))
        for number in range(1000):
            lease = await pool.acquire()
            if number % 10 == 9:
                lease.failed(broken())
            else:
                lease.done(1, 1.0)
        assert pool.state()[0].status == "awake"
        for _ in range(3):
            (await pool.acquire()).failed(broken())
        assert pool.state()[0].status == "resting"
        assert "server_error: it broke" in pool.state()[0].reason

    play(scene())


@pytest.mark.parametrize("kind", ["rate_limited", "server_error"])
def test_retry_after_is_honoured_also_the_longest_of_a_burst(kind):
    async def scene():
        pool = pool_of(endpoint(concurrency=8))
        first, second, third = await take(pool, 3)
        first.failed(broken(kind, retry_after=90.0))
        second.failed(broken(kind, retry_after=120.0))
        third.failed(broken(kind))
        (await pool.acquire()).done(1, 1.0)
        assert 120.0 <= time_now() < 121.0

    play(scene())


def test_retry_after_rests_an_endpoint_that_has_been_answering():
    async def scene():
        pool = pool_of(endpoint())
        (await pool.acquire()).done(1, 1.0)
        (await pool.acquire()).failed(broken(retry_after=30.0))
        assert wakes_in(pool) == 30.0

    play(scene())


def test_a_timeout_on_trial_rests_again_at_once():
    async def scene():
        pool = pool_of(endpoint())
        for _ in range(2):
            (await pool.acquire()).failed(broken())
        (await pool.acquire()).failed(broken("timeout"))
        assert 3.0 <= wakes_in(pool) <= 4.0

    play(scene())


def test_a_waiting_request_takes_the_endpoint_that_wakes_first():
    async def scene():
        pool = pool_of(endpoint(0, concurrency=1), endpoint(1, concurrency=1))
        first, second = await take(pool, 2)
        first.failed(broken(retry_after=100.0))
        waiting = asyncio.create_task(pool.acquire())
        await settle()
        second.failed(broken(retry_after=3.0))
        assert (await waiting).endpoint is second.endpoint
        assert time_now() == pytest.approx(3.0)

    play(scene())


def test_a_burst_of_429_halves_the_concurrency_once():
    async def scene():
        pool = pool_of(endpoint(concurrency=64))
        leases = await take(pool, 64)
        await asyncio.sleep(1)
        for lease in leases:
            lease.failed(broken("rate_limited"))
        assert pool.state()[0].limit == 32
        assert pool.state()[0].status == "resting"
        ends = await work(pool, [SharedServer(1e9, 30.0)], 3000, num_workers=100)
        assert len(ends) == 3000
        assert 32 < pool.state()[0].limit <= 64

    play(scene())


def test_timeouts_halve_the_concurrency_and_several_in_a_row_rest():
    async def scene():
        pool = pool_of(endpoint(concurrency=64))
        leases = await take(pool, 5)
        await asyncio.sleep(1)
        leases.pop().failed(broken("timeout"))
        leases.pop().failed(broken("timeout"))
        assert pool.state()[0].limit == 32
        leases.pop().done(1, 1.0)
        leases.pop().failed(broken("timeout"))
        leases.pop().failed(broken("timeout"))
        assert pool.state()[0].status == "awake"
        (await pool.acquire()).failed(broken("timeout"))
        assert pool.state()[0].status == "resting"

    play(scene())


def test_an_endpoint_that_refuses_is_out_and_without_any_acquire_says_why():
    async def scene():
        pool = pool_of(endpoint(0, concurrency=1), endpoint(1, concurrency=1))
        first, second = await take(pool, 2)
        waiting = asyncio.create_task(pool.acquire())
        await settle()
        first.failed(Fault("refused", "401 invalid key", status=401))
        assert [state.status for state in pool.state()] == ["out", "awake"]
        assert not waiting.done()
        second.failed(Fault("no_model", "no QwQ here", status=404))
        for attempt in (waiting, pool.acquire()):
            with pytest.raises(GenerationError) as caught:
                await attempt
            assert "node0:8000: refused: 401 invalid key" in str(caught.value)
            assert "node1:8000: no_model: no QwQ here" in str(caught.value)

    play(scene())


def test_a_bad_request_is_a_sign_of_health():
    async def scene():
        pool = pool_of(endpoint())
        for _ in range(20):
            (await pool.acquire()).failed(broken("bad_request", status=400))
        assert pool.state()[0].status == "awake"
        for _ in range(3):
            (await pool.acquire()).failed(broken())
        (await pool.acquire()).failed(broken("bad_request", status=400))
        assert pool.state()[0].status == "awake"

    play(scene())


def test_after_an_outage_of_one_the_other_gets_everything_and_the_first_comes_back():
    async def scene():
        pool = pool_of(endpoint(0, concurrency=32), endpoint(1, concurrency=32))
        servers = [SharedServer(1e9, 30.0, seed=1), SharedServer(1e9, 30.0, seed=2)]
        task = asyncio.create_task(work(pool, servers, 3000, num_workers=80))
        await asyncio.sleep(100)
        servers[0].crash()
        await asyncio.sleep(100)
        assert pool.state()[0].status in ("resting", "half_open")
        assert pool.in_flight - pool.state()[0].in_flight == 32
        assert pool.state()[0].num_failed < 32 + 10
        servers[0].is_down = False
        ends = await task
        shares = [
            [index for moment, index, _ in ends if begin < moment < end]
            for begin, end in ((20, 100), (101, 200), (300, 400))
        ]
        assert [sum(s) / len(s) for s in shares] == pytest.approx([0.5, 1.0, 0.5], abs=0.06)

    play(scene())


# --- limits a minute


def most_in_a_minute(events):
    """The largest amount within any 60 s of (moment, amount)."""
    return max(
        sum(amount for moment, amount in events if begin <= moment < begin + 60)
        for begin, _ in events
    )


def test_no_minute_passes_its_limits_by_more_than_the_burst():
    async def scene():
        pool = pool_of(endpoint(concurrency=64, requests_per_minute=120, tokens_per_minute=9000))
        source, events = random.Random(0), []

        async def one(num_tokens):
            with await pool.acquire(num_tokens) as lease:
                events.append((time_now(), num_tokens))
                await asyncio.sleep(1)
                lease.done(num_tokens, 1.0)

        # First many small requests (the first limit binds), then fewer large ones (the second).
        sizes = [source.randint(1, 50) for _ in range(400)]
        sizes += [source.randint(100, 700) for _ in range(100)]
        await asyncio.gather(*(one(size) for size in sizes))
        assert most_in_a_minute([(moment, 1) for moment, _ in events]) <= 120 + 10
        assert most_in_a_minute(events) <= 9000 + 750
        # And what is allowed is used.
        assert 400 / 120 + sum(sizes[400:]) / 9000 == pytest.approx(time_now() / 60, rel=0.1)

    play(scene())


def test_counted_tokens_replace_the_estimate_and_a_huge_request_still_passes():
    async def scene():
        pool = pool_of(endpoint(concurrency=64, tokens_per_minute=6000))  # burst: 500
        (await pool.acquire(500)).done(10, 1.0, counted_tokens=20)
        (await pool.acquire(480)).done(10, 1.0)
        assert time_now() == 0.0
        await pool.acquire(3000)
        assert time_now() == pytest.approx(5.0)
        await pool.acquire(100)
        assert time_now() == pytest.approx(31.0)

    play(scene())


def test_nothing_polls_while_everything_waits():
    async def scene():
        pool = pool_of(endpoint(concurrency=8, requests_per_minute=60))
        tasks = [asyncio.create_task(pool.acquire()) for _ in range(512)]
        await settle()
        before = asyncio.get_running_loop().num_rounds
        await asyncio.sleep(3600)
        assert pool.in_flight == 8
        assert asyncio.get_running_loop().num_rounds - before < 20
        for task in tasks:
            task.cancel()
        await settle()
        assert pool.in_flight == 8

    play(scene())


def test_the_pool_runs_on_real_time_too():
    async def scene():
        pool = EndpointPool([endpoint()])
        (await pool.acquire()).failed(broken(retry_after=0.1))
        begin = time.monotonic()
        (await pool.acquire()).done(1, 0.1)
        assert 0.09 < time.monotonic() - begin < 2.0

    asyncio.run(scene())


# --- concurrency found by itself


async def find(server, num_requests, *, seed, num_workers=600):
    """The ends, and the largest limit on the way."""
    pool, largest = pool_of(endpoint()), 0
    task = asyncio.create_task(
        work(pool, [server], num_requests, num_workers=num_workers, seed=seed)
    )
    while not task.done():
        largest = max(largest, pool.state()[0].limit)
        await asyncio.wait([task], timeout=1.0)
    return task.result(), largest


@pytest.mark.parametrize(("knee", "seed"), [(9, 0), (24, 1), (40, 2), (40, 3), (100, 4), (200, 5)])
@pytest.mark.parametrize("queues", [False, True])
def test_the_concurrency_finds_the_knee_of_a_noisy_server(knee, seed, queues):
    async def scene():
        capacity = 1e9 if queues else knee * 30.0
        slots = knee if queues else 10**9
        server = SharedServer(capacity, 30.0, slots=slots, noise=0.3, seed=seed)
        ends, largest = await find(server, 2000 + 12 * knee, seed=seed)
        steady = ends[600 + 12 * knee : -300]
        assert goodput(steady) > 0.9 * knee * 30.0
        assert largest <= 4 * knee

    play(scene())


def test_the_concurrency_does_not_grow_where_it_is_not_used():
    async def scene():
        _, largest = await find(SharedServer(1e9, 30.0), 1000, seed=0, num_workers=12)
        assert largest == 16

    play(scene())


def test_a_hidden_limit_is_found_with_few_429():
    async def scene():
        server = SharedServer(1e9, 30.0, limit=40)
        ends, _ = await find(server, 5000, seed=0)
        assert server.num_refused < 60
        assert goodput(ends[2000:-100]) > 0.9 * 40 * 30.0

    play(scene())


def test_a_change_of_the_servers_capacity_is_followed():
    async def scene():
        server = SharedServer(64 * 30.0, 30.0)
        pool = pool_of(endpoint())
        task = asyncio.create_task(work(pool, [server], 25_000, num_workers=600))
        await asyncio.sleep(1500)
        assert 50 <= pool.state()[0].limit <= 90
        server.capacity = 16 * 30.0
        await asyncio.sleep(10_000)
        assert pool.state()[0].limit <= 40
        task.cancel()
        await asyncio.wait([task])

    play(scene())


def test_two_endpoints_get_work_in_proportion_to_their_speed():
    async def scene():
        pool = pool_of(endpoint(0), endpoint(1))
        servers = [SharedServer(16 * 30.0, 30.0), SharedServer(64 * 30.0, 30.0)]
        ends = await work(pool, servers, 4000, num_workers=400)
        steady = [index for _, index, _ in ends[1200:-300]]
        assert sum(steady) / len(steady) == pytest.approx(0.8, abs=0.04)

    play(scene())


@pytest.mark.parametrize("seed", range(5))
def test_no_request_and_no_slot_is_lost_in_chaos(seed):
    async def scene():
        source = random.Random(seed)
        pool = pool_of(endpoint(0), endpoint(1, weight=2.0), endpoint(2, requests_per_minute=600))
        kinds = [
            "rate_limited",
            "server_error",
            "timeout",
            "connection",
            "bad_reply",
            "bad_request",
        ]
        outcomes = []

        async def one():
            while True:
                with await pool.acquire(
                    source.randint(0, 99), source.choice([None, "node1:8000"])
                ) as lease:
                    await asyncio.sleep(source.random())
                    draw = source.random()
                    if draw < 0.7:
                        lease.done(source.randint(0, 99), 0.5)
                        outcomes.append("done")
                        return
                    if draw < 0.95:
                        after = source.choice([None, None, 0.0, 3.0])
                        lease.failed(broken(source.choice(kinds), retry_after=after))

        tasks = [asyncio.create_task(one()) for _ in range(400)]
        for task in source.sample(tasks, 60):
            await asyncio.sleep(source.random() / 10)
            if task.cancel():
                outcomes.append("cancelled")
        await asyncio.gather(*tasks, return_exceptions=True)
        assert len(outcomes) == 400
        assert pool.in_flight == 0
        assert sum(state.num_done for state in pool.state()) == outcomes.count("done")

    play(scene())
