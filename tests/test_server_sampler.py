"""Many requests to one or more servers: order, the store, routing, and the budget."""

import asyncio
import collections
import dataclasses
import json
import sqlite3
import time

import pytest

from prm.errors import BudgetError, ConfigError, GenerationError, StoreError
from prm.generation.budget import BudgetConfig
from prm.generation.endpoints import EndpointConfig
from prm.generation.loop_guard import LoopGuardConfig
from prm.generation.request_store import RequestStore
from prm.generation.requests import Reply, Request, SetAside
from prm.generation.server import ServerSampler
from prm.ledger import Ledger
from prm.protocols import SamplingParams
from prm.store import Shard
from tests.server_setup import (
    OFF,
    ON,
    PARAMS,
    PRICES,
    answering,
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
from tests.stub_server import Fault, StubServer, running_stub


def expected(requests) -> list[str]:
    """What the stub answers to each prompt, read by a plain client in one go."""
    prompts = [one.prompt for one in requests]
    body = call(prompts[0]).body() | {"prompt": prompts}
    return [choice["text"] for choice in ask(body)["choices"]]


# Order, the store, duplicates


def test_replies_come_in_the_order_of_the_requests():
    wanted = problems(40)

    async def work(server: StubServer) -> list[Reply]:
        return await sample(servers(server.url), wanted)

    # The first of every eight is late.
    late = run(work, faults=lambda n, _: "slow_first_byte" if n % 8 == 0 else None)
    assert texts(late) == expected(wanted)


def test_no_request_is_no_reply_and_no_connection():
    async def work(server: StubServer) -> None:
        assert await sample(servers(server.url), []) == []

    run(work)


def test_what_the_store_has_is_not_asked_again(tmp_path):
    wanted = problems(10)

    async def work(server: StubServer) -> None:
        with RequestStore(tmp_path) as store:
            first = await sample(servers(server.url), wanted, store)
            assert server.counts["requests"] == 10
        with RequestStore(tmp_path) as store:
            async with ServerSampler(servers(server.url), store=store) as sampler:
                again = await sampler.sample([*reversed(wanted), *problems(12)])
                assert sampler.counts.from_store == 10
                assert sampler.counts.replies == 2
            assert store.num_replies == 12
        assert again[:10] == first[::-1]
        assert server.counts["requests"] == 12

    run(work)


def test_the_store_alone_answers_where_no_server_is_left(tmp_path):
    wanted = problems(5)

    async def fill(server: StubServer) -> list[Reply]:
        with RequestStore(tmp_path) as store:
            return await sample(servers(server.url), wanted, store)

    first = run(fill)
    with RequestStore(tmp_path) as store:
        nowhere = servers("http://127.0.0.1:9/v1", patience=0.0)
        assert asyncio.run(sample(nowhere, wanted, store)) == first


@pytest.mark.parametrize("has_store", [True, False])
def test_the_same_request_is_asked_once_within_a_call_and_across_calls(has_store, tmp_path):
    wanted = problems(5)

    async def work(server: StubServer) -> None:
        store = RequestStore(tmp_path) if has_store else None
        async with ServerSampler(servers(server.url), store=store) as sampler:
            twice, once, swapped = await asyncio.gather(
                sampler.sample(wanted + wanted),
                sampler.sample(wanted),
                sampler.sample(wanted[::-1]),
            )
            assert twice == once + once
            assert swapped == once[::-1]
            assert server.counts["requests"] == sampler.counts.replies == 5
        if store:
            assert store.num_replies == 5
            store.close()

    run(work, latency_ms=10)


def test_without_a_store_a_later_call_asks_again():
    async def work(server: StubServer) -> None:
        async with ServerSampler(servers(server.url)) as sampler:
            assert await sampler.sample(problems(3))
            assert await sampler.sample(problems(3))
        assert server.counts["requests"] == 6

    run(work)


def test_a_whole_number_and_its_float_are_the_same_request():
    whole = dataclasses.replace(PARAMS, temperature=1, top_p=1)
    point = dataclasses.replace(PARAMS, temperature=1.0, top_p=1.0)
    assert request(params=whole).key == request(params=point).key
    assert json.dumps(dataclasses.asdict(whole)) == json.dumps(dataclasses.asdict(point))


def test_a_key_stays_what_it_was():
    """Another one would mean that everything is paid for again."""
    one = Request("abc", SamplingParams(max_tokens=5, stop=("a",)), "m", extra={"k": [1, None]})
    assert one.key == "3caeee08b7c2b5ff05e2a536927f61dc088bffed33fd08834b14d62dfebfc033"
    two = dataclasses.replace(one, prompt=chat("x é", "p"), guard={"enabled": True})
    assert two.key == "c74b63594b768f2d5d7adbf348a765a1f10db896341bb8050bc5179883606ea9"


def test_half_of_a_surrogate_pair_in_a_prompt_has_a_key_of_its_own():
    prompts = ["a\ud835", "a\udc00", "a?", "a\ufffd", "a"]
    ways = [lambda text: text, chat, lambda text: chat("a", text)]
    keys = {request(prompt=way(text)).key for way in ways for text in prompts}
    assert len(keys) == len(prompts) * len(ways)
    assert request(prompt="a\ud835").key == request(prompt="a\ud835").key


@pytest.mark.parametrize("guard", [ON, OFF], ids=["streams", "whole"])
def test_half_of_a_surrogate_pair_is_set_aside_and_the_rest_goes_on(guard, tmp_path):
    async def work(server: StubServer) -> None:
        config = servers(server.url, loop_guard=guard)
        wanted = [request(prompt="a\ud835"), *problems(3), request(prompt=chat("b\udc00"))]
        with RequestStore(tmp_path) as store:
            first, *rest, last = await sample(config, wanted, store)
            assert {one.reason for one in (first, last)} == {"bad_request"}
            assert "surrogates not allowed" in first.detail
            assert len(texts(rest)) == server.counts["requests"] == 3
            assert store.num_set_aside == 2
            assert store.lost == Ledger()

    run(work)


def test_whatever_decides_the_answer_asks_for_another_one(tmp_path):
    base = request()
    others = [
        dataclasses.replace(base, seed=1),
        dataclasses.replace(base, index=1),
        dataclasses.replace(base, revision="2025-03"),
        dataclasses.replace(base, extra={"top_k": 40}),
        dataclasses.replace(base, params=dataclasses.replace(PARAMS, temperature=0.9)),
        dataclasses.replace(base, params=dataclasses.replace(PARAMS, top_p=0.9)),
        dataclasses.replace(base, params=dataclasses.replace(PARAMS, max_tokens=201)),
        dataclasses.replace(base, params=dataclasses.replace(PARAMS, stop=("END",))),
        dataclasses.replace(base, prompt=base.prompt + " "),
        dataclasses.replace(base, prompt=chat(base.prompt)),
        dataclasses.replace(base, prompt=chat(base.prompt, prefix="Step 1:")),
        dataclasses.replace(base, guard=dataclasses.asdict(LoopGuardConfig())),
    ]
    assert len({base.key, *(one.key for one in others)}) == 1 + len(others)
    # The number of samples does not: growing n must find what was paid for.
    assert base.key == dataclasses.replace(base, params=dataclasses.replace(PARAMS, n=8)).key

    async def work(server: StubServer) -> None:
        with RequestStore(tmp_path) as store:
            await sample(servers(server.url), [base, *others], store)
            assert store.num_replies == 1 + len(others)

    run(work)


# Several samples in one request, seeds


def test_the_samples_of_a_prompt_are_one_request_where_nothing_is_streamed():
    wanted = [request(index) for index in range(6)] + problems(1)

    async def work(server: StubServer) -> None:
        async with ServerSampler(servers(server.url)) as sampler:
            found = await sampler.sample(wanted)
            assert len(set(texts(found))) == 7
            assert sorted(one["body"].get("n", 1) for one in server.requests) == [1, 6]
            # The prompt is billed once, and nothing is lost between the shares.
            assert sampler.counts.ledger.prompt_tokens == server.counts["prompt_tokens"]
            assert sampler.counts.ledger.generated_tokens == server.counts["generated_tokens"]
            assert [r.cost.prompt_tokens > 0 for r in found] == [True] + 5 * [False] + [True]

    run(work, record=True)


@pytest.mark.parametrize("settings", [{"loop_guard": ON}, {"send_seed": True}])
def test_under_the_guard_or_with_seeds_each_sample_is_a_request(settings):
    async def work(server: StubServer) -> None:
        found = await sample(servers(server.url, **settings), [request(i) for i in range(6)])
        assert len(found) == 6
        assert [one["body"].get("n") for one in server.requests] == [None] * 6

    run(work, record=True)


@pytest.mark.parametrize("problem", [{"no_n": True}, {"faults": ["fewer_choices"]}])
def test_samples_that_a_server_leaves_out_are_asked_for_singly(problem, tmp_path):
    wanted = [request(index, prompt=f"Problem {p}") for p in range(3) for index in range(4)]

    async def work(server: StubServer) -> None:
        with RequestStore(tmp_path) as store:
            async with ServerSampler(servers(server.url), store=store) as sampler:
                found = await sampler.sample(wanted[:4])
                found += await sampler.sample(wanted[4:])
                assert sampler.counts.ledger.generated_tokens == sum(
                    reply.generation.generated_tokens for reply in found
                )
                assert not sampler.counts.faults
            assert len(texts(found)) == store.num_replies == 12
        asked = [one["body"].get("n", 1) for one in server.requests]
        # What came was kept; the later groups were not tried as such.
        assert asked == ([4] + [1] * 11 if "no_n" in problem else [4, 1] + [1] * 8)

    run(work, record=True, **problem)


def test_a_server_that_refuses_several_samples_gets_them_singly():
    wanted = [request(index, prompt=f"Problem {p}") for p in range(6) for index in range(4)]

    async def work(server: StubServer) -> None:
        config = servers(EndpointConfig(server.url, concurrency=1))
        async with ServerSampler(config) as sampler:
            assert len(texts(await sampler.sample(wanted[:4]))) == 4
            assert server.counts["refused"] == 1
            assert len(texts(await sampler.sample(wanted[4:]))) == 20
        # It is not offered groups again.
        assert server.counts["refused"] == 1

    run(work, n_refused=True)


def test_one_bad_prompt_does_not_turn_several_samples_off():
    bad = [request(index, prompt="word " * 50) for index in range(3)]

    async def work(server: StubServer) -> None:
        async with ServerSampler(servers(server.url)) as sampler:
            assert all(isinstance(one, SetAside) for one in await sampler.sample(bad))
            assert len(texts(await sampler.sample([request(i) for i in range(5)]))) == 5
        assert server.requests[-1]["body"]["n"] == 5

    run(work, max_context=40, record=True)


def test_no_seed_is_sent_unless_it_is_asked_for():
    async def work(server: StubServer) -> None:
        await sample(servers(server.url), [request(i, seed=7) for i in range(3)])
        await sample(servers(server.url, loop_guard=ON), problems(3, seed=7))
        assert all("seed" not in one["body"] for one in server.requests)

    run(work, record=True)


def test_a_seed_that_is_sent_depends_on_the_sample_and_the_run_alone():
    async def work(server: StubServer) -> list[int]:
        wanted = [request(i, seed=s) for s in (0, 1) for i in range(8)]
        config = servers(EndpointConfig(server.url, concurrency=1), send_seed=True)
        first = texts(await sample(config, wanted))
        assert texts(await sample(config, wanted[::-1])) == first[::-1]
        seeds = [one["body"]["seed"] for one in server.requests]
        assert seeds[:16] == seeds[16:][::-1]
        return seeds[:16]

    seeds = run(work, record=True)
    assert len(set(seeds)) == 16
    assert all(0 <= seed < 2**31 for seed in seeds)  # what every server takes as an integer


# Several endpoints


def test_endpoints_share_the_work_by_their_weights():
    async def work(first: StubServer, second: StubServer) -> None:
        config = servers(
            EndpointConfig(first.url, weight=3.0, concurrency=12),
            EndpointConfig(second.url, weight=1.0, concurrency=12),
        )
        async with ServerSampler(config) as sampler:
            # Sixteen at a time, so that neither is full: then the weights decide.
            wanted = problems(320)
            for begin in range(0, 320, 16):
                await sampler.sample(wanted[begin : begin + 16])
        share = first.counts["requests"] / 320
        assert first.counts["requests"] + second.counts["requests"] == 320
        assert 0.7 < share < 0.8

    run(work, {"latency_ms": 2}, {"latency_ms": 2})


def test_a_server_that_dies_and_comes_back_loses_nothing(tmp_path):
    wanted = problems(300)
    right = expected(wanted)

    async def work(well: StubServer) -> None:
        with running_stub(latency_ms=20) as mortal, RequestStore(tmp_path) as store:
            config = servers(
                EndpointConfig(well.url, concurrency=4),
                EndpointConfig(mortal.url, concurrency=4),
            )
            async with ServerSampler(config, store=store) as sampler:
                asking = asyncio.create_task(sampler.sample(wanted))
                while store.num_replies < 60:
                    await asyncio.sleep(0.005)
                await asyncio.to_thread(mortal.kill)
                at_death = store.num_replies
                await asyncio.to_thread(mortal.start)
                found = await asking
                assert texts(found) == right
                assert sampler.counts.replies == store.num_replies == 300
                assert 1 <= sampler.counts.faults["connection"] <= 20
                assert set(sampler.counts.faults) == {"connection"}
            # Both did their part, also after the death.
            assert mortal.counts()["answered"] > 0
            assert at_death < 300
            by_endpoint = collections.Counter(reply.endpoint for reply in found)
            assert len(by_endpoint) == 2
        (path,) = tmp_path.glob("*.sqlite")
        rows = sqlite3.connect(path)
        (num_keys,) = rows.execute("SELECT count(DISTINCT key) FROM replies").fetchone()
        rows.close()
        assert num_keys == 300

    run(work, latency_ms=40)


def test_where_one_endpoint_has_the_wrong_model_the_other_does_all():
    expected_texts = expected(problems(30))

    async def work(right: StubServer, wrong: StubServer) -> None:
        async with ServerSampler(servers(right.url, wrong.url)) as sampler:
            found = await sampler.sample(problems(30))
            state = {one.name: one for one in sampler.pool.state()}
        assert texts(found) == expected_texts
        assert right.counts["requests"] == 30
        assert wrong.counts["requests"] == 0
        out = state[f"127.0.0.1:{wrong.port}"]
        assert out.status == "out"
        assert "no model 'stub' there, but another" in out.reason
        assert state[f"127.0.0.1:{right.port}"].status == "awake"
        assert {reply.endpoint for reply in found} == {f"127.0.0.1:{right.port}"}

    run(work, {"latency_ms": 2}, {"model": "another"})


def test_patience_ends_and_what_was_answered_is_kept(tmp_path):
    async def work(server: StubServer) -> None:
        with RequestStore(tmp_path) as store:
            config = servers(server.url, patience=0.1, tries=100)
            async with ServerSampler(config, store=store) as sampler:
                with pytest.raises(GenerationError, match="no endpoint has answered for") as caught:
                    await sampler.sample(problems(20))
                assert sampler.pool.in_flight == 0
                assert sampler.budget.reserved == (0, 0.0)
            assert "HTTP 503" in str(caught.value)
            assert store.num_replies == server.counts["answered"] == 5
            assert store.num_set_aside == 0

    run(work, faults=lambda n, _: "503" if n >= 5 else None)


def test_an_endpoint_that_is_not_there_is_named_when_patience_ends():
    config = servers("http://127.0.0.1:9/v1", patience=0.2)
    with pytest.raises(GenerationError, match="servers.patience") as caught:
        asyncio.run(sample(config, problems(3)))
    assert "onnect" in str(caught.value)
    assert "127.0.0.1:9" in str(caught.value)


@pytest.mark.parametrize("guard", [False, True])
def test_the_concurrency_is_respected(guard):
    async def work(server: StubServer) -> None:
        settings = {"loop_guard": ON} if guard else {}
        config = servers(EndpointConfig(server.url, concurrency=7), **settings)
        found = await sample(config, problems(60))
        assert len(texts(found)) == 60
        assert server.counts["max_in_flight"] == 7

    run(work, latency_ms=5)


def test_a_server_with_a_limit_of_its_own_is_not_kept_above_it():
    async def work(server: StubServer) -> None:
        async with ServerSampler(servers(server.url)) as sampler:
            assert len(texts(await sampler.sample(problems(80)))) == 80
            assert set(sampler.counts.faults) == {"rate_limited"}
            # Eight at first, four after the 429 that come together: two waves at most.
            assert sampler.counts.faults["rate_limited"] <= 16

    run(work, latency_ms=5, max_in_flight=4)


def test_nobody_waits_for_a_turn_once_the_end_is_known():
    """Ten requests may come at once; without the limit a minute the rest would take minutes."""

    async def work(server: StubServer) -> None:
        endpoint = EndpointConfig(server.url, requests_per_minute=120)
        begun = time.monotonic()
        async with ServerSampler(servers(endpoint)) as sampler:
            asking = asyncio.create_task(sampler.sample(problems(400)))
            await asyncio.sleep(0.2)
            sampler.stop(GenerationError("enough"))
            with pytest.raises(GenerationError, match="enough"):
                await asking
            with pytest.raises(GenerationError, match="enough"):
                await sampler.sample(problems(401))
        assert time.monotonic() - begun < 10
        assert server.counts["requests"] <= 20

    run(work)


def test_requests_a_minute_are_kept():
    """120 a minute are 2 a second, of which 10 may come at once."""
    arrived: list[float] = []

    async def work(server: StubServer) -> float:
        config = servers(EndpointConfig(server.url, requests_per_minute=120))
        begun = time.monotonic()
        assert len(texts(await sample(config, problems(13)))) == 13
        return begun

    begun = run(work, faults=lambda *_: arrived.append(time.monotonic()))
    assert arrived[9] - begun < 3  # at the even pace it would be 4.5 seconds
    for number in (10, 11, 12):
        assert arrived[number] - begun >= 0.5 * (number - 9)


def test_no_endpoint_is_an_error():
    with pytest.raises(ConfigError, match="give at least one"):
        ServerSampler(servers())
    with pytest.raises(ConfigError, match="price 'none' is unknown"):
        ServerSampler(servers("http://127.0.0.1:9/v1", price="none"))


def test_a_call_that_is_given_up_frees_its_place_and_its_budget():
    async def work(server: StubServer) -> None:
        async with ServerSampler(servers(server.url, budget=BudgetConfig(tokens=10**6))) as sampler:
            asking = asyncio.create_task(sampler.sample(problems(30)))
            while not server.counts["in_flight"]:
                await asyncio.sleep(0.002)
            asking.cancel()
            with pytest.raises(asyncio.CancelledError):
                await asking
            assert sampler.pool.in_flight == 0
            assert sampler.budget.reserved == (0, 0.0)
            assert len(texts(await sampler.sample(problems(30)))) == 30

    run(work, latency_ms=30)


# The budget


def true_cost(*counts) -> Ledger:
    """What the servers billed for what they answered, by their own count."""
    read = sum(one["prompt_tokens"] for one in counts)
    return PRICES["test"].priced(Ledger(read, sum(one["generated_tokens"] for one in counts)))


def budget_of(share: float, whole: Ledger, unit: str) -> BudgetConfig:
    if unit == "tokens":
        return BudgetConfig(tokens=int(share * whole.tokens))
    return BudgetConfig(dollars=share * whole.dollars)


SMALL = SamplingParams(max_tokens=60)


@pytest.mark.parametrize("guard", [False, True])
@pytest.mark.parametrize("unit", ["dollars", "tokens"])
def test_a_budget_is_not_passed_and_a_larger_one_goes_on(unit, guard, tmp_path):
    wanted = problems(150, params=SMALL)
    settings = {"loop_guard": ON} if guard else {}

    async def all_of_it(server: StubServer) -> Ledger:
        await sample(servers(EndpointConfig(server.url, concurrency=64), **settings), wanted)
        return true_cost(server.counts)

    whole = run(all_of_it)

    async def work(server: StubServer) -> None:
        endpoint = EndpointConfig(server.url, concurrency=64)
        num_kept = 0
        for share in (0.4, 0.6):
            budget = budget_of(share, whole, unit)
            with RequestStore(tmp_path) as store:
                config = servers(endpoint, budget=budget, **settings)
                async with ServerSampler(config, store=store) as sampler:
                    with pytest.raises(BudgetError) as caught:
                        await sampler.sample(wanted)
                assert store.spent.tokens == true_cost(server.counts).tokens
                assert store.spent.dollars == pytest.approx(true_cost(server.counts).dollars)
                assert store.num_replies > num_kept
                num_kept = store.num_replies
            limit = budget.dollars or budget.tokens
            spent = getattr(true_cost(server.counts), unit)
            # One request's worst case is what may be left of it.
            assert 0.8 * limit < spent <= limit
            says = f"of ${limit:,.2f} spent" if unit == "dollars" else f"of {limit:,} tokens spent"
            assert says in str(caught.value)
            assert f"{server.counts['generated_tokens'] + server.counts['prompt_tokens']:,}" in str(
                caught.value
            )
        asked = server.counts["requests"]
        assert asked == num_kept
        with RequestStore(tmp_path) as store:
            config = servers(endpoint, budget=budget_of(2.0, whole, unit), **settings)
            found = await sample(config, wanted, store)
        assert len(texts(found)) == server.counts["requests"] == 150
        assert true_cost(server.counts).tokens == whole.tokens

    run(work, latency_ms=1)


def test_what_failed_requests_may_have_cost_counts_too(tmp_path):
    """Some requests are reset in the middle: the server may have billed them."""
    limit = 6000

    async def work(server: StubServer) -> None:
        for _ in range(2):
            with RequestStore(tmp_path) as store:
                config = servers(server.url, budget=BudgetConfig(tokens=limit), tries=50)
                async with ServerSampler(config, store=store) as sampler:
                    with pytest.raises(BudgetError):
                        await sampler.sample(problems(400, params=SMALL))
                assert limit - 200 < store.spent.tokens <= limit
                billed = server.counts["fault:reset_mid_body"]
                assert store.spent.tokens - true_cost(server.counts).tokens >= 60 * billed > 0
        # The second start found nothing left to spend.
        assert sampler.counts.replies == 0

    run(work, faults=lambda n, _: "reset_mid_body" if n % 6 == 5 else None)


def test_every_shard_has_an_equal_part(tmp_path):
    async def work(server: StubServer) -> None:
        spent = []
        for index in range(4):
            before = true_cost(server.counts).tokens
            config = servers(server.url, budget=BudgetConfig(tokens=4000))
            with RequestStore(tmp_path, Shard(index, 4)) as store:
                async with ServerSampler(config, store=store, num_shards=4) as sampler:
                    with pytest.raises(BudgetError, match="1/4 of the budget"):
                        await sampler.sample(problems(100, seed=index, params=SMALL))
            spent.append(true_cost(server.counts).tokens - before)
        assert all(800 < part <= 1000 for part in spent)

    run(work)


def test_the_dearest_endpoint_decides_what_is_reserved_and_each_bills_its_own_price():
    async def work(cheap: StubServer, dear: StubServer) -> None:
        config = servers(
            EndpointConfig(cheap.url, concurrency=4, price="own-server"),
            EndpointConfig(dear.url, concurrency=4),
            budget=BudgetConfig(dollars=4.0),
        )
        async with ServerSampler(config) as sampler:
            with pytest.raises(BudgetError):
                await sampler.sample(problems(200, params=SMALL))
            assert sampler.budget.spent.dollars == pytest.approx(true_cost(dear.counts).dollars)
        assert cheap.counts["answered"] > 10
        assert 3.0 < true_cost(dear.counts).dollars <= 4.0

    run(work, {"latency_ms": 2}, {"latency_ms": 2})


def test_dollars_without_a_price_are_refused():
    config = servers("http://127.0.0.1:9/v1", price="own-server", budget=BudgetConfig(dollars=1.0))
    with pytest.raises(ConfigError, match="every price is 0"):
        ServerSampler(config)


def test_what_was_spent_with_another_number_of_shards_counts_in_equal_parts(tmp_path):
    async def work(server: StubServer) -> None:
        config = servers(server.url, budget=BudgetConfig(tokens=3000))
        for count in (1, 2, 3, 1):
            for index in range(count):
                with RequestStore(tmp_path, Shard(index, count)) as store:
                    async with ServerSampler(config, store=store, num_shards=count) as sampler:
                        with pytest.raises(BudgetError):
                            await sampler.sample(problems(100, seed=10 * count + index))
        assert 2000 < true_cost(server.counts).tokens <= 3000

    run(work)


@pytest.mark.parametrize("guard", [False, True])
def test_what_a_cancelled_request_may_have_cost_is_a_loss(guard, tmp_path):
    async def work(server: StubServer) -> None:
        settings = {"loop_guard": ON} if guard else {}
        config = servers(server.url, budget=BudgetConfig(tokens=10**6), **settings)
        with RequestStore(tmp_path) as store:
            async with ServerSampler(config, store=store) as sampler:
                asking = asyncio.create_task(sampler.sample(problems(8)))
                while server.counts["in_flight"] < 8:
                    await asyncio.sleep(0.005)
                await asyncio.sleep(0.1)
                asking.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await asking
                lost = sampler.counts.lost
                assert sampler.budget.spent.tokens == lost.tokens
                assert sampler.budget.reserved == (0, 0.0)
                assert sampler.num_open == 0
        assert lost.prompt_tokens > 0
        if guard:
            assert 0 < lost.generated_tokens < 8 * PARAMS.max_tokens
        else:
            assert lost.generated_tokens == 8 * PARAMS.max_tokens
        with RequestStore(tmp_path) as store:
            assert store.lost == store.spent
            assert store.lost.tokens == lost.tokens

    run(work, latency_ms=0 if guard else 1000, chunk_delay_ms=20 if guard else 0)


def reply_of(*choices: str | None) -> dict:
    rows = [{"text": text, "finish_reason": "stop"} for text in choices]
    return {"choices": rows, "usage": {"prompt_tokens": 10, "completion_tokens": 30}}


def scripted(*replies: dict):
    """A server that gives these replies in turn, and the requests that it got."""
    left, asked = list(replies), []

    async def handler(request):
        if request.method == "GET":
            return {"data": [{"id": "stub"}]}
        asked.append(await request.json())
        return left.pop(0)

    return handler, asked


def test_more_samples_than_were_asked_for_are_paid_and_counted_as_a_loss(tmp_path):
    handler, _ = scripted(reply_of("abcd", "efgh", "ijkl"))

    async def work(_: StubServer) -> None:
        with RequestStore(tmp_path) as store:
            async with (
                answering(handler) as url,
                ServerSampler(servers(url), store=store) as sampler,
            ):
                assert texts(await sampler.sample([request()])) == ["abcd"]
                assert sampler.budget.spent.tokens == store.spent.tokens == 40
                assert sampler.counts.ledger.tokens == 20
                assert sampler.counts.lost == store.lost
                assert store.lost.generated_tokens == 20

    run(work)


def test_of_several_samples_those_that_are_good_are_kept_and_only_the_others_asked_again():
    handler, asked = scripted(
        reply_of("abcd", None, "efgh"), reply_of("ijkl"), reply_of("a", "b", "c")
    )

    async def work(_: StubServer) -> None:
        async with answering(handler) as url, ServerSampler(servers(url)) as sampler:
            found = await sampler.sample([request(index) for index in range(3)])
            assert texts(found) == ["abcd", "efgh", "ijkl"]
            assert sampler.counts.ledger.tokens == sampler.budget.spent.tokens == 80
            assert not sampler.counts.faults
            # The server does give several at once.
            await sampler.sample([request(index, prompt="other") for index in range(3)])

    run(work)
    assert [body.get("n", 1) for body in asked] == [3, 1, 3]


# Errors of our own


@pytest.mark.parametrize("samples", [1, 20])
def test_after_an_error_of_the_store_nothing_new_is_sent(samples, tmp_path, monkeypatch):
    async def put(_: object) -> None:
        raise StoreError("no space is left")

    async def work(server: StubServer) -> None:
        endpoint = EndpointConfig(server.url, concurrency=4)
        with RequestStore(tmp_path) as store:
            monkeypatch.setattr(store, "put", put)
            async with ServerSampler(servers(endpoint), store=store) as sampler:
                wanted = problems(20) if samples == 1 else [request(i) for i in range(samples)]
                calls = [wanted, problems(40)[20:]]
                asking = [asyncio.create_task(sampler.sample(call)) for call in calls]
                found = await asyncio.gather(*asking, return_exceptions=True)
                assert [str(error) for error in found] == ["no space is left"] * 2
                assert server.counts["in_flight"] == 0
                asked = server.counts["requests"]
                assert sampler.num_open == 0
                with pytest.raises(StoreError):
                    await sampler.sample(problems(50)[40:])
                assert server.counts["requests"] == asked <= 8

    run(work, latency_ms=20, n_refused=True)


def test_the_event_loop_does_not_wait_for_the_disk(tmp_path):
    async def work(server: StubServer) -> None:
        with RequestStore(tmp_path) as store:
            async with ServerSampler(servers(server.url), store=store) as sampler:
                with store._guard:  # as it is while a transaction is being written
                    asking = asyncio.create_task(sampler.sample(problems(3)))
                    await asyncio.sleep(0.1)
                    assert sampler.num_open == 3
                    assert server.counts["requests"] == 0
                assert len(texts(await asking)) == 3
                assert sampler.num_open == 0

    run(work)


def test_a_key_that_is_looked_up_twice_counts_once_as_kept_from_before(tmp_path):
    async def work(server: StubServer) -> None:
        with RequestStore(tmp_path) as store:
            await sample(servers(server.url), problems(4), store)
            async with ServerSampler(servers(server.url), store=store) as sampler:
                for _ in range(3):
                    await sampler.sample(problems(6))
                assert sampler.counts.from_store == 4
                assert sampler.counts.replies == 2

    run(work)


def test_who_is_cancelled_does_not_take_the_answer_from_others_that_wait_for_it():
    async def work(server: StubServer) -> None:
        async with ServerSampler(servers(server.url)) as sampler:
            first = asyncio.create_task(sampler.sample(problems(5)))
            await asyncio.sleep(0.01)
            second = asyncio.create_task(sampler.sample(problems(5)))
            await asyncio.sleep(0.01)
            second.cancel()
            assert len(texts(await first)) == 5
            # Cancelled before it had begun to ask: the next one must not wait for it.
            third = asyncio.create_task(sampler.sample(problems(9)))
            await asyncio.sleep(0)
            third.cancel()
            await asyncio.gather(third, return_exceptions=True)
            assert len(texts(await sampler.sample(problems(9)))) == 9

    run(work, latency_ms=50)


# Patience


def test_time_in_which_nothing_was_asked_is_no_silence():
    async def work(server: StubServer) -> None:
        async with ServerSampler(servers(server.url, patience=0.4)) as sampler:
            assert len(texts(await sampler.sample(problems(1)))) == 1
            await asyncio.sleep(0.6)
            assert len(texts(await sampler.sample(problems(2)[1:]))) == 1
            assert sampler.counts.faults == {"server_error": 1}

    run(work, faults=[None, "500"])


def test_a_stream_that_goes_on_is_no_silence():
    async def work(server: StubServer) -> None:
        config = servers(EndpointConfig(server.url, concurrency=9), loop_guard=ON, patience=0.6)
        async with ServerSampler(config) as sampler:
            streams = asyncio.create_task(sampler.sample(problems(4)))
            await asyncio.sleep(1.0)
            late = sampler.sample([request(prompt="late")])
            (reply,), found = await asyncio.gather(late, streams)
            assert len(texts([reply, *found])) == 5
            assert sampler.counts.faults == {"server_error": 1}

    run(work, answer="cases", chunk_delay_ms=20, faults=[None] * 4 + ["500"])


def test_a_long_wait_that_a_server_asks_for_ends_with_the_patience():
    async def work(server: StubServer) -> None:
        begun = time.monotonic()
        with pytest.raises(GenerationError, match=r"servers.patience.*rate_limited: HTTP 429"):
            await sample(servers(server.url, patience=0.5), problems(3))
        assert 0.5 <= time.monotonic() - begun < 3

    run(work, faults=lambda *_: Fault("429_retry_after", 3600.0))


def test_a_limit_of_our_own_is_no_silence_of_the_servers():
    async def work(server: StubServer) -> None:
        endpoint = EndpointConfig(server.url, requests_per_minute=60)
        config = servers(endpoint, patience=0.3)
        assert len(texts(await sample(config, problems(7)))) == 7

    run(work)
