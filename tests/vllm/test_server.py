"""What our client relies on, asked of the real server with the plain `openai` client."""

import asyncio
import json
import urllib.request
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import openai
import pytest
from openai import AsyncOpenAI, DefaultAioHttpClient
from openai.types import Completion
from openai.types.chat import ChatCompletion

from tests.vllm.server import MAX_MODEL_LEN, MODEL, VLLMServer

COUNTING = "Count: 1, 2, 3,"
STORY = "Once upon a time"
TOO_LONG = "a b " * MAX_MODEL_LEN
QUESTION = {"role": "user", "content": "What is 3 + 4?"}
CONTINUE = {"continue_final_message": True, "add_generation_prompt": False}


def asked(server: VLLMServer, ask: Callable[[AsyncOpenAI], Awaitable[Any]]) -> Any:
    async def run() -> Any:
        transport = DefaultAioHttpClient()
        async with AsyncOpenAI(
            base_url=server.base_url, api_key="none", http_client=transport, max_retries=0
        ) as client:
            return await ask(client)

    return asyncio.run(run())


def completed(server: VLLMServer, prompt: str, **settings: Any) -> Completion:
    return asked(
        server, lambda client: client.completions.create(model=MODEL, prompt=prompt, **settings)
    )


def answered(server: VLLMServer, messages: Sequence[Any], **settings: Any) -> ChatCompletion:
    return asked(
        server,
        lambda client: client.chat.completions.create(model=MODEL, messages=messages, **settings),
    )


def streamed(server: VLLMServer, prompt: str, **settings: Any) -> list[Completion]:
    async def ask(client: AsyncOpenAI) -> list[Completion]:
        stream = await client.completions.create(
            model=MODEL, prompt=prompt, stream=True, **settings
        )
        return [event async for event in stream]

    return asked(server, ask)


def text_of(completion: Completion) -> str:
    return completion.choices[0].text


def posted(server: VLLMServer, path: str, body: dict[str, Any]) -> Any:
    headers = {"Content-Type": "application/json"}
    request = urllib.request.Request(server.url + path, json.dumps(body).encode(), headers)
    with urllib.request.urlopen(request, timeout=30) as reply:
        return json.load(reply)


def test_the_model_is_listed_with_its_limit(server: VLLMServer) -> None:
    async def ask(client: AsyncOpenAI) -> list[Any]:
        return [model async for model in client.models.list()]

    (model,) = asked(server, ask)
    assert (model.id, model.max_model_len) == (MODEL, MAX_MODEL_LEN)


def test_n_samples_come_in_one_reply_that_reads_the_prompt_once(server: VLLMServer) -> None:
    reply = completed(server, STORY, n=4, max_tokens=12, temperature=1.0)
    assert [choice.index for choice in reply.choices] == [0, 1, 2, 3]
    assert len({choice.text for choice in reply.choices}) > 1
    one = completed(server, STORY, n=1, max_tokens=12)
    assert reply.usage
    assert one.usage
    assert reply.usage.prompt_tokens == one.usage.prompt_tokens
    assert reply.usage.completion_tokens <= 4 * 12
    ended_early = any(choice.finish_reason == "stop" for choice in reply.choices)
    assert ended_early or reply.usage.completion_tokens == 4 * 12


def test_metrics_count_every_sample_of_a_request(server: VLLMServer) -> None:
    before = server.num_finished()
    completed(server, STORY, n=3, max_tokens=2)
    server.wait_for(lambda: server.num_finished() > before, limit=5, what="it is counted")
    assert server.num_finished() - before == 3


def test_a_stop_string_is_no_part_of_the_text_but_is_billed(server: VLLMServer) -> None:
    whole = completed(server, COUNTING, max_tokens=24, temperature=0)
    assert "7" in text_of(whole)
    cut = completed(server, COUNTING, max_tokens=24, temperature=0, stop=["7"])
    assert text_of(cut) == text_of(whole).split("7")[0]
    assert cut.choices[0].finish_reason == "stop"
    assert whole.choices[0].finish_reason == "length"
    kept = completed(server, COUNTING, max_tokens=24, temperature=0, stop=["7"], logprobs=0)
    assert kept.usage
    assert kept.choices[0].logprobs
    assert kept.choices[0].logprobs.tokens
    assert kept.choices[0].logprobs.tokens[-1] == "7"
    assert kept.usage.completion_tokens == len(kept.choices[0].logprobs.tokens)


def test_a_stream_ends_with_the_usage(server: VLLMServer) -> None:
    options = {"include_usage": True}
    *texts, last = streamed(server, COUNTING, max_tokens=6, stream_options=options)
    assert last.choices == []
    assert last.usage
    assert last.usage.completion_tokens == 6
    assert all(event.usage is None for event in texts)
    assert texts[-1].choices[0].finish_reason == "length"


def test_a_stream_can_tell_the_usage_so_far_with_every_event(server: VLLMServer) -> None:
    options = {"include_usage": True, "continuous_usage_stats": True}
    events = streamed(server, COUNTING, max_tokens=6, stream_options=options)
    counts = [event.usage.completion_tokens for event in events if event.usage]
    assert len(counts) == len(events)
    assert counts == sorted(counts)
    assert counts[-1] == 6


def test_closing_a_stream_ends_the_generation(server: VLLMServer) -> None:
    finished = server.num_finished()

    async def ask(client: AsyncOpenAI) -> float:
        stream = await client.completions.create(
            model=MODEL,
            prompt=STORY,
            max_tokens=1900,
            stream=True,
            extra_body={"ignore_eos": True},
        )
        async for _ in stream:
            break
        running = server.num_running()
        await stream.close()
        return running

    assert asked(server, ask) == 1
    # 1,900 tokens would take 20 s and more.
    server.wait_for(lambda: server.num_running() == 0, limit=10, what="the stream has ended")
    assert server.num_finished() == finished


def test_an_answer_that_was_begun_is_continued_and_not_begun_anew(server: VLLMServer) -> None:
    begun = [QUESTION, {"role": "assistant", "content": "3 + 4 = "}]
    settings = {"max_tokens": 8, "temperature": 0}
    continued = answered(server, begun, **settings, extra_body=CONTINUE)
    anew = answered(server, begun, **settings)
    assert continued.usage
    assert anew.usage
    assert continued.usage.prompt_tokens < anew.usage.prompt_tokens
    assert continued.choices[0].message.content
    # Only what follows comes back.
    assert continued.choices[0].message.content.startswith("7")


@pytest.mark.parametrize("prefix", ["3 + 4 = ", "Step 1: add.\n", "  a\n\n", "<think>\nWait"])
def test_the_server_keeps_the_begun_answer_byte_for_byte(server: VLLMServer, prefix: str) -> None:
    messages = [QUESTION, {"role": "assistant", "content": prefix}]
    body = {"model": MODEL, "messages": messages, **CONTINUE}
    tokens = posted(server, "/tokenize", body)["tokens"]
    prompt = posted(server, "/detokenize", {"model": MODEL, "tokens": tokens})["prompt"]
    assert prompt.endswith("<|im_start|>assistant\n" + prefix)


def test_completions_give_a_logprob_for_every_token(server: VLLMServer) -> None:
    reply = completed(server, STORY, max_tokens=6, temperature=1, logprobs=2)
    found = reply.choices[0].logprobs
    assert found
    assert found.tokens
    assert found.token_logprobs
    assert found.top_logprobs
    assert reply.usage
    assert len(found.token_logprobs) == reply.usage.completion_tokens
    assert "".join(found.tokens) == text_of(reply)
    # The two likeliest, and the token itself where it is none of them.
    assert all(len(top) in (2, 3) for top in found.top_logprobs)


def test_chats_give_a_logprob_for_every_token(server: VLLMServer) -> None:
    reply = answered(server, [QUESTION], max_tokens=6, temperature=0, logprobs=True, top_logprobs=2)
    found = reply.choices[0].logprobs
    assert found
    assert found.content
    assert reply.usage
    assert len(found.content) == reply.usage.completion_tokens
    assert all(token.logprob == token.top_logprobs[0].logprob for token in found.content)


def test_logprobs_do_not_depend_on_the_temperature(server: VLLMServer) -> None:
    first = completed(server, STORY, max_tokens=1, temperature=0, logprobs=20).choices[0].logprobs
    assert first
    assert first.top_logprobs
    for temperature in (0.3, 2.0):
        reply = completed(
            server, STORY, n=16, max_tokens=1, temperature=temperature, seed=1, logprobs=0
        )
        found = {
            choice.logprobs.tokens[0]: choice.logprobs.token_logprobs[0]
            for choice in reply.choices
            if choice.logprobs and choice.logprobs.tokens and choice.logprobs.token_logprobs
        }
        known = found.keys() & first.top_logprobs[0].keys()
        assert known
        for token in known:
            # Logits in bfloat16 are an eighth apart here.
            assert found[token] == pytest.approx(first.top_logprobs[0][token], abs=0.3)


def test_equal_seeds_give_equal_texts_one_at_a_time(server: VLLMServer) -> None:
    texts = [
        text_of(completed(server, STORY, max_tokens=16, temperature=1, seed=seed))
        for seed in (7, 7, 8)
    ]
    assert texts[0] == texts[1]
    assert texts[0] != texts[2]


def test_samples_of_one_seeded_request_differ(server: VLLMServer) -> None:
    reply = completed(server, STORY, n=3, max_tokens=16, temperature=1, seed=5)
    assert len({choice.text for choice in reply.choices}) == 3


def test_seeded_and_unseeded_requests_run_side_by_side(server: VLLMServer) -> None:
    async def ask(client: AsyncOpenAI) -> list[Completion]:
        settings: list[dict[str, Any]] = [
            {"n": 1 + (k % 3 == 0), **({"seed": k} if k % 2 else {})} for k in range(32)
        ]
        return await asyncio.gather(
            *(
                client.completions.create(
                    model=MODEL, prompt=f"{STORY} {k}", max_tokens=16, temperature=1, **one
                )
                for k, one in enumerate(settings)
            )
        )

    replies = asked(server, ask)
    assert [len(reply.choices) for reply in replies] == [1 + (k % 3 == 0) for k in range(32)]


def test_another_model_is_not_found(server: VLLMServer) -> None:
    with pytest.raises(openai.NotFoundError, match="does not exist"):
        asked(server, lambda client: client.completions.create(model="other", prompt=STORY))


def test_a_text_that_is_too_long_is_refused(server: VLLMServer) -> None:
    with pytest.raises(openai.BadRequestError, match="maximum context length"):
        completed(server, TOO_LONG, max_tokens=4)


def test_a_chat_that_is_too_long_is_refused(server: VLLMServer) -> None:
    with pytest.raises(openai.BadRequestError, match="maximum context length"):
        answered(server, [{"role": "user", "content": TOO_LONG}], max_tokens=4)


def test_a_limit_beyond_the_model_is_refused(server: VLLMServer) -> None:
    with pytest.raises(openai.BadRequestError, match="max_tokens"):
        completed(server, STORY, max_tokens=MAX_MODEL_LEN + 1)


def test_where_prompt_and_limit_do_not_fit_together_the_text_is_cut(server: VLLMServer) -> None:
    prompt = "a b " * ((MAX_MODEL_LEN - 20) // 2)
    reply = completed(server, prompt, max_tokens=500, extra_body={"ignore_eos": True})
    assert reply.usage
    assert reply.usage.total_tokens == MAX_MODEL_LEN
    assert reply.usage.completion_tokens < 500
    assert reply.choices[0].finish_reason == "length"


@pytest.mark.parametrize("extra", [{"top_k": 1}, {"min_p": 1.0}])
def test_the_servers_own_sampling_fields_act(server: VLLMServer, extra: dict[str, Any]) -> None:
    greedy = text_of(completed(server, COUNTING, max_tokens=24, temperature=0))
    hot = completed(server, COUNTING, max_tokens=24, temperature=2)
    held = completed(server, COUNTING, max_tokens=24, temperature=2, extra_body=extra)
    assert text_of(hot) != greedy
    assert text_of(held) == greedy


def test_a_field_that_the_server_does_not_know_is_ignored(server: VLLMServer) -> None:
    assert text_of(completed(server, COUNTING, max_tokens=4, extra_body={"topk": 1}))


def test_a_prompt_that_was_read_before_is_cached_and_counted(server: VLLMServer) -> None:
    # A block of the cache holds 128 tokens on the CPU.
    prompt = "Count down: 9, 8, 7, 6, " * 20
    usages = [completed(server, prompt + end, max_tokens=2).usage for end in ("5,", "4,")]
    details = [usage.prompt_tokens_details for usage in usages if usage]
    cached = [found.cached_tokens or 0 for found in details if found]
    assert len(cached) == 2
    assert cached[0] == 0
    assert cached[1] >= 128
