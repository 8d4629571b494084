"""What is found out about a server by trying: models, prefill, usage in streams."""

import asyncio

import pytest
from aiohttp import web

from prm.errors import GenerationError
from prm.generation.budget import BudgetConfig, max_prompt_tokens
from prm.generation.peers import with_probe
from prm.generation.request_store import RequestStore
from prm.generation.requests import Reply
from prm.generation.server import ServerSampler
from prm.ledger import Ledger
from prm.protocols import SamplingParams
from tests.server_setup import (
    BEGUN,
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
from tests.stub_server import StubServer

STYLES = {
    "vllm": ("continue_final_message", True),
    "deepseek": ("messages", {"role": "assistant", "content": BEGUN, "prefix": True}),
}


def begun(count: int) -> list:
    prompts = [chat(f"Problem: Calculate 3 + 9 + {n}.\n", prefix=BEGUN) for n in range(count)]
    return [request(prompt=prompt) for prompt in prompts]


@pytest.mark.parametrize("prefill", STYLES)
@pytest.mark.parametrize("guard", [False, True])
def test_an_answer_that_was_begun_is_continued_in_the_servers_own_way(prefill, guard):
    async def work(server: StubServer) -> list[Reply]:
        settings = {"loop_guard": ON} if guard else {}
        found = await sample(servers(server.url, **settings), begun(3))
        body = server.requests[-1]["body"]
        name, value = STYLES[prefill]
        assert (body[name][-1] if name == "messages" else body[name]) == value
        return found

    found = run(work, record=True, prefill=prefill, answer="arithmetic")
    for number, text in enumerate(texts(found)):
        # The first sum is in the prefix: what comes is the second and the answer.
        assert text.startswith(f"Step 2: 12 + {number} = ")
        assert "\nAnswer: " in text


@pytest.mark.parametrize(("prefill", "num_probes"), [("vllm", 2), ("deepseek", 3)])
def test_a_server_is_probed_once_however_many_wait_for_it(prefill, num_probes):
    async def work(first: StubServer, second: StubServer) -> list[Reply]:
        async with ServerSampler(servers(first.url, second.url)) as sampler:
            found = await sampler.sample(begun(20))
            for server in (first, second):
                bodies = [one["body"] for one in server.requests]
                probes = [body for body in bodies if body["messages"][0]["content"] == "Count."]
                assert len(probes) == num_probes
                assert {body["max_tokens"] for body in probes} == {1}
            lost = first.counts["prompt_tokens"] + second.counts["prompt_tokens"]
            lost -= sampler.counts.ledger.prompt_tokens
            assert sampler.counts.lost.prompt_tokens == lost > 0
            assert sampler.counts.lost.generated_tokens == 2 * num_probes
            return found

    options = {"record": True, "prefill": prefill, "latency_ms": 5}
    assert len(texts(run(work, options, options))) == 20


def test_nothing_is_probed_where_no_answer_is_begun():
    async def work(server: StubServer) -> None:
        await sample(servers(server.url), [*problems(5), request(prompt=chat())])
        assert server.counts["requests"] == 6

    run(work, prefill="none")


@pytest.mark.parametrize("prefill", ["none", "refuse"])
def test_a_server_that_cannot_continue_an_answer_is_an_error_that_says_so(prefill, tmp_path):
    """Ignored in silence, a new answer would come that looks like a good one."""

    async def work(server: StubServer) -> None:
        with RequestStore(tmp_path) as store:
            config = servers(server.url, budget=BudgetConfig(dollars=100.0))
            async with ServerSampler(config, store=store) as sampler:
                with pytest.raises(GenerationError) as caught:
                    await sampler.sample(begun(4))
                assert sampler.budget.reserved == (0, 0.0)
                # The probes were paid for all the same.
                spent = Ledger(server.counts["prompt_tokens"], server.counts["generated_tokens"])
                assert store.spent == sampler.budget.spent == PRICES["test"].priced(spent)
            assert store.num_replies == store.num_set_aside == 0
        words = str(caught.value)
        assert f"127.0.0.1:{server.port} cannot go on with an answer that was begun" in words
        assert "/v1/completions" in words
        assert server.counts["requests"] == 3

    run(work, prefill=prefill)


def test_a_probe_that_fails_is_tried_again():
    async def work(server: StubServer) -> list[Reply]:
        async with ServerSampler(servers(server.url)) as sampler:
            found = await sampler.sample(begun(1))
            assert sampler.counts.faults == {"server_error": 1}
            # The reference was answered before the fault, and twice in all.
            assert sampler.counts.lost.generated_tokens == 3
        return found

    assert len(texts(run(work, faults=[None, "500"]))) == 1


def test_a_small_budget_has_room_for_the_probe_or_says_that_it_has_not():
    """The request's own reservation must not keep the probe waiting for ever."""
    (one,) = begun(1)
    worst = with_probe(call(one.prompt))
    limit = max_prompt_tokens(worst.prompt) + worst.params.max_tokens

    async def work(server: StubServer) -> None:
        config = servers(server.url, budget=BudgetConfig(tokens=limit))
        async with ServerSampler(config) as sampler:
            assert len(texts(await sampler.sample([one]))) == 1
        config = servers(server.url, budget=BudgetConfig(tokens=limit - 1))
        async with ServerSampler(config) as sampler:
            with pytest.raises(GenerationError, match="no room for the next request"):
                await sampler.sample([one])

    run(work)


def test_a_budget_of_one_request_is_enough_for_one_request():
    one = request()
    limit = max_prompt_tokens(one.prompt) + PARAMS.max_tokens

    async def work(server: StubServer) -> None:
        config = servers(server.url, budget=BudgetConfig(tokens=limit))
        assert len(texts(await sample(config, [one]))) == 1

    run(work)


@pytest.mark.parametrize(
    ("refused", "wish"),
    [
        ("", {"include_usage": True, "continuous_usage_stats": True}),
        ("continuous", {"include_usage": True}),
        ("all", None),
    ],
)
def test_a_stream_asks_for_less_where_the_server_refuses(refused, wish):
    async def work(server: StubServer) -> list[Reply]:
        async with ServerSampler(servers(server.url, loop_guard=ON)) as sampler:
            found = await sampler.sample(problems(1))
            num_refused = server.counts["refused"]
            assert num_refused == {"": 0, "continuous": 1, "all": 2}[refused]
            found += await sampler.sample(problems(6)[1:])
            # What was found out is remembered.
            assert server.counts["refused"] == num_refused
        assert [one["body"].get("stream_options") for one in server.requests][-5:] == [wish] * 5
        return found

    found = run(work, record=True, usage_refused=refused)
    assert texts(found) == [answer_to(one) for one in problems(6)]
    assert {reply.is_estimated for reply in found} == {refused == "all"}


def answer_to(one) -> str:
    (choice,) = ask(call(one.prompt, params=one.params).body())["choices"]
    return choice["text"]


def test_a_request_that_no_form_of_makes_good_is_set_aside_after_the_last():
    async def work(server: StubServer) -> None:
        bad = request(prompt="word " * 50)
        found = await sample(servers(server.url, loop_guard=ON), [bad, request()])
        assert found[0].reason == "bad_request"
        assert "maximum context length is 40" in found[0].detail
        assert found[1].generation.text
        assert server.counts["refused"] == 3

    run(work, max_context=40)


def test_a_model_that_is_not_there_ends_it_at_once_with_those_that_are():
    async def work(server: StubServer) -> None:
        with pytest.raises(GenerationError) as caught:
            await sample(servers(server.url, patience=60.0), problems(20, model="qwq-32b"))
        for word in ("'qwq-32b'", f"127.0.0.1:{server.port}", "stub"):
            assert word in str(caught.value)
        assert server.counts["requests"] == 0

    run(work)


def test_a_url_without_its_version_is_asked_about():
    async def work(server: StubServer) -> None:
        root = server.url.removesuffix("/v1")
        with pytest.raises(GenerationError, match=r"HTTP 404.*\(is /v1 missing in the url\?\)"):
            await sample(servers(root), [request()])

    run(work)


def test_a_server_that_lists_no_models_tells_by_its_first_reply():
    async def work(server: StubServer) -> None:
        found = await sample(servers(server.url), [request()])
        assert len(texts(found)) == 1
        with pytest.raises(GenerationError, match="The model `other` does not exist"):
            await sample(servers(server.url), [request(model="other")])

    run(work, lists_no_models=True)


def test_an_answer_of_one_token_has_no_loop_and_no_rest():
    async def work(server: StubServer) -> list[Reply]:
        params = SamplingParams(max_tokens=1)
        return await sample(servers(server.url, loop_guard=ON), [request(params=params)])

    (reply,) = run(work)
    assert (reply.generation.finish_reason, reply.generation.text) == ("length", "Step")


def test_concurrent_calls_share_what_was_found_out():
    async def work(server: StubServer) -> None:
        async with ServerSampler(servers(server.url)) as sampler:
            both = await asyncio.gather(sampler.sample(begun(3)), sampler.sample(begun(6)))
            assert both[0] == both[1][:3]
        probes = [r for r in server.requests if r["body"]["messages"][0]["content"] == "Count."]
        assert len(probes) == 2
        assert len(server.requests) == 2 + 6

    run(work, record=True, latency_ms=5)


# What one endpoint cannot do, another may


def test_answers_that_were_begun_go_where_they_can_be_continued():
    async def work(without: StubServer, able: StubServer) -> list[Reply]:
        async with ServerSampler(servers(without.url, able.url)) as sampler:
            found = await sampler.sample([*begun(20), *problems(10)])
            assert not sampler.counts.faults
            assert {state.status for state in sampler.pool.state()} == {"awake"}
        # Its probes, and of the others those that were not begun.
        assert without.counts["requests"] > 3
        assert {reply.endpoint for reply in found[:20]} == {f"127.0.0.1:{able.port}"}
        return found

    found = run(work, {"prefill": "none", "latency_ms": 2}, {"latency_ms": 2})
    assert len(texts(found)) == 30


@pytest.mark.parametrize("lacks", ["chat_only", "completions_only"])
def test_an_api_that_is_not_there_is_asked_for_elsewhere(lacks):
    async def work(partial: StubServer, whole: StubServer) -> list[Reply]:
        async with ServerSampler(servers(partial.url, whole.url)) as sampler:
            chats = [request(index, prompt=chat()) for index in range(20)]
            mine, others = (chats, problems(20)) if lacks == "chat_only" else (problems(20), chats)
            found = await sampler.sample([*others, *mine])
            assert not sampler.counts.faults
            assert {reply.endpoint for reply in found[:20]} == {f"127.0.0.1:{whole.port}"}
            assert len({reply.endpoint for reply in found}) == 2
        return found

    settings = {"latency_ms": 2}
    assert len(texts(run(work, settings | {lacks: True}, settings))) == 40


def test_an_api_that_no_endpoint_has_is_an_error_that_names_it():
    async def work(server: StubServer) -> None:
        with pytest.raises(GenerationError, match=r"has no /v1/completions \(HTTP 404: Not Found"):
            await sample(servers(server.url), problems(3))

    run(work, chat_only=True)


# The list of models


def answer(prompt_tokens: int = 9) -> dict:
    usage = {"prompt_tokens": prompt_tokens, "completion_tokens": 2}
    return {"choices": [{"text": "abcd", "finish_reason": "stop"}], "usage": usage}


LISTS = {
    "400": lambda: web.json_response({"error": {"message": "unsupported"}}, status=400),
    "html": lambda: web.Response(text="<html>", content_type="text/html"),
    "429": lambda: web.json_response({"error": {"message": "later"}}, status=429),
    "500": lambda: web.json_response({"error": {"message": "broken"}}, status=500),
    "hangs": lambda: asyncio.sleep(60),
}


@pytest.mark.parametrize("kind", LISTS)
def test_a_server_that_gives_no_list_of_models_is_asked_without(kind):
    num_lists = 0

    async def handler(asked: web.BaseRequest):
        nonlocal num_lists
        if asked.method == "POST":
            return answer()
        num_lists += 1
        found = LISTS[kind]()
        return await found if kind == "hangs" else found

    async def work(_: StubServer) -> None:
        async with (
            answering(handler) as url,
            ServerSampler(servers(url, timeout=0.3, tries=1)) as sampler,
        ):
            assert len(texts(await sampler.sample(problems(12)))) == 12
            assert not sampler.counts.faults

    run(work)
    # Those that wait share what the first has found.
    assert num_lists == 1


def test_a_connection_that_breaks_before_the_request_is_not_the_requests_failure():
    num_lists = 0

    async def handler(asked: web.BaseRequest):
        nonlocal num_lists
        if asked.method == "POST":
            return answer()
        num_lists += 1
        if num_lists <= 2:
            asked.transport.abort()
        return {"data": [{"id": "stub"}]}

    async def work(_: StubServer) -> None:
        async with (
            answering(handler) as url,
            ServerSampler(servers(url, tries=1)) as sampler,
        ):
            assert len(texts(await sampler.sample(problems(8)))) == 8
            assert set(sampler.counts.faults) == {"connection"}
            assert sampler.counts.set_aside == 0

    run(work)
    assert num_lists == 3


def test_who_is_cancelled_while_it_finds_out_leaves_that_to_the_next():
    async def work(server: StubServer) -> None:
        async with ServerSampler(servers(server.url)) as sampler:
            first = asyncio.create_task(sampler.sample(begun(1)))
            second = asyncio.create_task(sampler.sample(begun(2)[1:]))
            while not server.counts["in_flight"]:
                await asyncio.sleep(0.005)
            first.cancel()
            assert len(texts(await second)) == 1
            assert first.cancelled()
            # What it had asked for may have been billed.
            assert sampler.counts.lost.tokens > 0
            counts = sampler.counts
            assert sampler.budget.spent.tokens == counts.ledger.tokens + counts.lost.tokens

    run(work, latency_ms=50)
