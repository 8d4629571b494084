"""What is found out about a server by trying: models, prefill, usage in streams."""

import asyncio

import pytest

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
