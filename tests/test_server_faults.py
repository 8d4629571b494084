"""All that can go wrong with a server: the reply comes all the same, once, and is counted."""

import asyncio
import dataclasses
import datetime
import functools
import math
import tempfile
import time

import pytest

from prm.generation.calls import guess_tokens
from prm.generation.endpoints import EndpointConfig
from prm.generation.request_store import RequestStore
from prm.generation.requests import Reply, SetAside
from prm.generation.sender import Counts
from prm.generation.server import ServerSampler
from prm.ledger import Ledger
from tests.server_setup import (
    ON,
    PARAMS,
    PRICES,
    TEXT,
    call,
    chat,
    problems,
    request,
    run,
    sample,
    servers,
    texts,
)
from tests.stub_client import ask
from tests.stub_server import KINDS, Fault, StubServer

# What each fault counts as, not streamed and streamed; "" where it is none.
EXPECTED = {
    "429": ("rate_limited", "rate_limited"),
    "429_retry_after": ("rate_limited", "rate_limited"),
    "429_retry_after_date": ("rate_limited", "rate_limited"),
    "500": ("server_error", "server_error"),
    "502": ("server_error", "server_error"),
    "503": ("server_error", "server_error"),
    "504": ("server_error", "server_error"),
    "html_200": ("bad_reply", "bad_reply"),
    "reset": ("connection", "connection"),
    "hang": ("timeout", "timeout"),
    "timeout": ("timeout", "timeout"),
    "slow_first_byte": ("", ""),
    "reset_mid_body": ("connection", "connection"),
    "truncated_stream": ("connection", "connection"),
    "stalled_stream": ("timeout", "timeout"),
    "broken_json": ("bad_reply", "bad_reply"),
    "stream_error": ("bad_reply", "server_error"),
    "empty_choices": ("bad_reply", "connection"),
    "fewer_choices": ("bad_reply", "connection"),
    "null_content": ("bad_reply", "bad_reply"),
    "missing_usage": ("", ""),
    "wrong_content_type": ("", ""),
}
WAITING = ("hang", "timeout", "stalled_stream")
REFUSALS = ("429", "429_retry_after", "429_retry_after_date", "500", "502", "503", "504")


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What became of a request whose first try met a fault."""

    reply: Reply | SetAside
    counts: Counts
    spent: Ledger
    num_replies: int
    num_requests: int


async def outcome(kind: str, *, streams: bool) -> Outcome:
    fault = Fault(kind, 0.1) if kind == "slow_first_byte" else Fault(kind)
    settings = {"loop_guard": ON} if streams else {}
    settings |= {"timeout": 0.3} if kind in WAITING else {}
    with tempfile.TemporaryDirectory() as folder, RequestStore(folder) as store:
        async with (
            StubServer(faults=[fault]) as server,
            ServerSampler(servers(server.url, **settings), store=store) as sampler,
        ):
            (reply,) = await sampler.sample([request(prompt=chat())])
        num_requests = server.counts["requests"]
        return Outcome(reply, sampler.counts, store.spent, store.num_replies, num_requests)


@functools.cache
def outcomes() -> dict[tuple[str, bool], Outcome | BaseException]:
    """All of them: each waits a second for its endpoint to recover, so they wait together."""

    async def together(kinds) -> dict[tuple[str, bool], Outcome | BaseException]:
        cases = [(kind, streams) for kind in kinds for streams in (False, True)]
        work = [outcome(kind, streams=streams) for kind, streams in cases]
        async with asyncio.timeout(30):
            found = await asyncio.gather(*work, return_exceptions=True)
        return dict(zip(cases, found, strict=True))

    others = [kind for kind in KINDS if kind not in WAITING]
    # Apart: a short time-out must not run out because this process is busy with the others.
    return asyncio.run(together(others)) | asyncio.run(together(WAITING))


@pytest.mark.parametrize("streams", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_after_a_fault_the_reply_arrives_and_the_fault_is_counted(kind, streams):
    found = outcomes()[kind, streams]
    if isinstance(found, BaseException):
        raise found
    expected = EXPECTED[kind][streams]
    assert found.counts.faults == ({expected: 1} if expected else {})
    assert found.num_requests == (2 if expected else 1)
    assert texts([found.reply]) == [right_text()]
    assert found.reply.is_estimated == (kind == "missing_usage")
    assert (found.num_replies, found.counts.replies, found.counts.set_aside) == (1, 1, 0)
    # The store's sum is that of the reply and of what may have been billed for nothing.
    assert found.spent == found.counts.ledger + found.counts.lost


@pytest.mark.parametrize("streams", [False, True])
@pytest.mark.parametrize("kind", [kind for kind in KINDS if EXPECTED[kind][0]])
def test_what_a_fault_may_have_cost_is_a_loss(kind, streams):
    """A refusal costs nothing; what was cut off may have been billed up to its limit."""
    lost = outcomes()[kind, streams].counts.lost
    if kind in REFUSALS:
        assert lost == Ledger()
        return
    assert lost == PRICES["test"].priced(lost)
    assert lost.dollars > 0
    read = guess_tokens("Be brief.\n" + TEXT + "\n")
    if not streams:
        assert lost == PRICES["test"].priced(Ledger(read, PARAMS.max_tokens))
        return
    # Of a stream, what came is known: by the server's last words, else by the text.
    assert lost.prompt_tokens > 0
    half = guess_tokens(right_text()) // 2
    if kind in ("reset_mid_body", "stalled_stream", "truncated_stream", "broken_json"):
        assert half / 2 < lost.generated_tokens < 2 * half


@functools.cache
def right_text() -> str:
    return ask(call(chat()).body())["choices"][0]["message"]["content"]


def test_the_table_of_faults_is_whole():
    assert set(EXPECTED) == set(KINDS)


# Waiting as long as the server says


def arrivals(fault: Fault) -> list[float]:
    """When the first request and the second came, the first being answered by the fault."""
    times: list[float] = []

    def plan(number: int, _: object) -> Fault | None:
        times.append(time.time())
        return fault if number == 0 else None

    async def work(server: StubServer) -> None:
        assert len(texts(await sample(servers(server.url), [request()]))) == 1

    run(work, faults=plan)
    return times


def test_retry_after_in_seconds_is_waited_for_and_not_much_longer():
    first, second = arrivals(Fault("429_retry_after", 1.25))
    assert 1.25 <= second - first < 4


def test_retry_after_as_a_date_is_waited_for():
    first, second = arrivals(Fault("429_retry_after_date", 1.6))
    # A date has whole seconds.
    date = datetime.datetime.fromtimestamp(math.floor(first + 1.6), datetime.UTC)
    assert second >= date.timestamp()
    assert second - first < 5


def test_all_requests_wait_when_one_is_told_to():
    times: list[float] = []

    def plan(number: int, _: object) -> Fault | None:
        times.append(time.monotonic())
        return Fault("429_retry_after", 0.8) if number == 0 else None

    async def work(server: StubServer) -> None:
        endpoint = EndpointConfig(server.url, concurrency=2)
        assert len(texts(await sample(servers(endpoint), problems(12)))) == 12

    run(work, faults=plan, latency_ms=1)
    # Those that were under way before the answer came are answered; nobody starts anew.
    early = [moment for moment in times if moment - times[0] < 0.8]
    assert len(early) <= 3
    assert len(times) == 13


def test_a_hung_request_ends_at_its_time_out_while_others_are_answered():
    async def work(server: StubServer) -> None:
        begun = time.monotonic()
        config = servers(server.url, timeout=0.6)
        async with ServerSampler(config) as sampler:
            assert len(texts(await sampler.sample(problems(8)))) == 8
            assert sampler.counts.faults == {"timeout": 1}
        assert 0.6 <= time.monotonic() - begun < 10

    run(work, faults=["hang"])


# Poison


def test_a_request_that_is_too_long_is_set_aside_with_the_reason_and_not_asked_again(tmp_path):
    bad = request(prompt="word " * 50)
    wanted = [*problems(5), bad, *problems(10)[5:]]

    async def work(server: StubServer) -> None:
        with RequestStore(tmp_path) as store:
            async with ServerSampler(servers(server.url), store=store) as sampler:
                found = await sampler.sample(wanted)
                assert sampler.counts.set_aside == sampler.counts.faults["bad_request"] == 1
            assert store.is_set_aside(bad.key) == (found[5].reason, found[5].detail)
            assert store.num_replies == 10
        assert found[5].reason == "bad_request"
        assert "HTTP 400: This model's maximum context length is 40 tokens" in found[5].detail
        assert len(texts(found[:5] + found[6:])) == 10
        assert server.counts["requests"] == 11

        with RequestStore(tmp_path) as store:
            assert await sample(servers(server.url), wanted, store) == found
            assert server.counts["requests"] == 11
            # Only who asks for it has it tried again.
            assert store.forget_set_aside() == 1
            assert await sample(servers(server.url), wanted, store) == found
            assert server.counts["requests"] == 12

    run(work, max_context=40)


def test_a_request_that_fails_for_ever_is_set_aside_after_its_tries(tmp_path):
    bad = request(prompt="Problem: the evil one.")
    wanted = [*problems(4), bad, *problems(40)[4:]]

    async def work(server: StubServer) -> None:
        with RequestStore(tmp_path) as store:
            config = servers(EndpointConfig(server.url, concurrency=4), tries=3)
            async with ServerSampler(config, store=store) as sampler:
                found = await sampler.sample(wanted)
                assert sampler.counts.faults == {"server_error": 3}
            assert found[4] == SetAside(*store.is_set_aside(bad.key))
            assert found[4].reason == "gave_up_server_error"
            assert "HTTP 500" in found[4].detail
            assert store.num_replies == len(texts(found[:4] + found[5:])) == 40

    run(work, poison="evil", latency_ms=1)


def test_of_a_group_only_the_sample_that_fails_is_set_aside(tmp_path):
    """A whole group that is refused is asked singly: it may have been the number of samples."""
    bad = [request(index, prompt="word " * 50) for index in range(3)]

    async def work(server: StubServer) -> None:
        with RequestStore(tmp_path) as store:
            found = await sample(servers(server.url), [*bad, request()], store)
            assert [type(one) for one in found] == [SetAside] * 3 + [Reply]
            assert store.num_set_aside == 3

    run(work, max_context=40)


def test_an_unreachable_or_busy_server_is_not_the_requests_failure():
    """With one try allowed, five 429 in a row set nothing aside."""

    async def work(server: StubServer) -> None:
        config = servers(server.url, tries=1)
        async with ServerSampler(config) as sampler:
            assert len(texts(await sampler.sample([request()]))) == 1
            assert sampler.counts.faults == {"rate_limited": 3}

    run(work, faults=[Fault("429_retry_after", 0.1)] * 3)


def test_a_fault_at_one_endpoint_is_made_good_at_the_other():
    async def work(sick: StubServer, well: StubServer) -> None:
        async with ServerSampler(servers(sick.url, well.url)) as sampler:
            assert len(texts(await sampler.sample(problems(20)))) == 20
            assert sampler.counts.faults["server_error"] == sick.counts["requests"] > 0
        assert well.counts["answered"] == 20
        # The first wave and perhaps one request on trial: nobody waited for the sick one.
        assert sick.counts["requests"] <= 9

    run(work, {"faults": lambda *_: "500"}, {})


def test_random_faults_of_all_kinds_lose_and_repeat_nothing(tmp_path):
    """A hundred requests of which one in five fails, each kind in turn."""
    kinds = [kind for kind in KINDS if kind not in ("429_retry_after", "429_retry_after_date")]

    def plan(number: int, _: object) -> str | None:
        return kinds[number // 5 % len(kinds)] if number % 5 == 4 else None

    wanted = problems(100)
    right = run(lambda server: sample(servers(server.url), wanted))

    async def work(server: StubServer) -> None:
        with RequestStore(tmp_path) as store:
            config = servers(EndpointConfig(server.url, concurrency=32), timeout=0.5, tries=50)
            async with ServerSampler(config, store=store) as sampler:
                found = await sampler.sample(wanted)
                assert sampler.counts.faults.total() > 15
            assert texts(found) == texts(right)
            assert store.num_replies == sampler.counts.replies == 100
            assert store.num_set_aside == 0

    run(work, faults=plan)
