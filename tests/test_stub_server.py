"""The stub server's answers and the servers that it can be, asked with a plain HTTP client."""

import asyncio
import os
import time
from typing import Any

import aiohttp
import pytest

from tests.stub_client import (
    HELLO,
    TALK,
    TASK,
    TEXT,
    Json,
    ask,
    chunks_of,
    disconnected,
    joined,
    post,
    raw_stream,
    run,
    texts,
)
from tests.stub_server import StubServer, running_stub

BEGUN = {"role": "assistant", "content": "Step 1: 3 + 9 = 12\n"}


def refusal(body: Json, **options: Any) -> tuple[int, Json]:
    status, payload = run(lambda _, session: post(session, body), **options)
    assert set(payload["error"]) == {"message", "type", "param", "code"}
    assert payload["error"]["code"] == status
    return status, payload["error"]


# Answers


def test_an_answer_is_a_function_of_the_request() -> None:
    first, again = ask(TASK), ask(TASK)
    assert first == again
    for change in ({"seed": 8}, {"prompt": "Problem: another\n"}, {"temperature": 0.5}):
        assert texts(ask({**TASK, **change})) != texts(first)
    for same in ({"max_tokens": 63}, {"seed": 7, "user": "me"}, {"stop": ["never there"]}):
        assert texts(ask({**TASK, **same})) == texts(first)


def test_another_model_gives_another_answer() -> None:
    assert texts(ask({**TASK, "model": "b"}, model="b")) != texts(ask(TASK))


def test_the_kth_of_n_samples_is_that_of_seed_plus_k() -> None:
    together = texts(ask({**TASK, "n": 3}))
    assert together == [texts(ask({**TASK, "seed": 7 + k}))[0] for k in range(3)]
    assert len(set(together)) == 3


def test_samples_differ_without_a_seed_but_not_when_greedy() -> None:
    body = {key: value for key, value in TASK.items() if key != "seed"} | {"n": 3}
    assert len(set(texts(ask(body)))) == 3
    assert len(set(texts(ask({**body, "temperature": 0})))) == 1


def test_several_prompts_are_answered_in_order() -> None:
    prompts = ["Problem: one\n", "Problem: two\n"]
    both = ask({**TASK, "prompt": prompts, "n": 2})
    alone = [texts(ask({**TASK, "prompt": prompt, "n": 2})) for prompt in prompts]
    assert texts(both) == alone[0] + alone[1]
    assert [choice["index"] for choice in both["choices"]] == [0, 1, 2, 3]


def test_usage_counts_words_and_the_turns_of_a_chat() -> None:
    answer = ask(TASK)
    words = len(texts(answer)[0].split())
    expected = {"prompt_tokens": 7, "completion_tokens": words, "total_tokens": 7 + words}
    assert answer["usage"] == expected | {"prompt_tokens_details": {"cached_tokens": 0}}
    # 7 words, 4 for the message, 3 to open the answer's turn.
    usage = ask({**TALK, "n": 2}, cached_share=0.5)["usage"]
    assert (usage["prompt_tokens"], usage["prompt_tokens_details"]) == (14, {"cached_tokens": 7})
    assert "usage" not in ask(TASK, no_usage=True)


def test_a_text_ends_at_its_limit_or_before_a_stop_string() -> None:
    whole = texts(ask(TASK))[0]
    short = ask({**TASK, "max_tokens": 5})["choices"][0]
    assert short["finish_reason"] == "length"
    assert (len(short["text"].split()), whole.startswith(short["text"])) == (5, True)
    stopped = ask({**TASK, "stop": ["\nAnswer", "\nStep 2"]})["choices"][0]
    assert stopped["text"] == whole[: whole.index("\nStep 2")]
    assert (stopped["finish_reason"], stopped["stop_reason"]) == ("stop", "\nStep 2")
    assert ask(TASK)["choices"][0]["finish_reason"] == "stop"


def test_a_completion_without_a_limit_has_sixteen_tokens() -> None:
    body = {"model": "stub", "prompt": "x"}
    assert ask(body, answer="loop")["usage"]["completion_tokens"] == 16


def test_logprobs_of_a_completion_are_parallel_lists() -> None:
    choice = ask({**TASK, "logprobs": 2})["choices"][0]
    logprobs = choice["logprobs"]
    assert "".join(logprobs["tokens"]) == choice["text"]
    for token, offset in zip(logprobs["tokens"], logprobs["text_offset"], strict=True):
        assert choice["text"].startswith(token, offset)
    rows = zip(
        logprobs["tokens"], logprobs["token_logprobs"], logprobs["top_logprobs"], strict=True
    )
    for token, logprob, top in rows:
        assert (top[token], len(top)) == (logprob, 2)
        assert logprob < 0
    assert ask(TASK)["choices"][0]["logprobs"] is None
    assert ask({**TASK, "logprobs": 0})["choices"][0]["logprobs"]["top_logprobs"] is None


def test_logprobs_of_a_chat_are_a_list_of_tokens() -> None:
    choice = ask({**TALK, "logprobs": True, "top_logprobs": 3})["choices"][0]
    content = choice["logprobs"]["content"]
    assert "".join(row["token"] for row in content) == choice["message"]["content"]
    assert all(bytes(row["bytes"]).decode() == row["token"] for row in content)
    assert {len(row["top_logprobs"]) for row in content} == {3}
    plain = ask({**TALK, "logprobs": True})["choices"][0]["logprobs"]["content"]
    assert {tuple(row["top_logprobs"]) for row in plain} == {()}


@pytest.mark.parametrize("body", [TASK, TALK])
@pytest.mark.parametrize("options", [{}, {"answer": "think"}, {"answer": "loop"}])
def test_a_stream_says_what_the_whole_answer_says(body: Json, options: Json) -> None:
    body = {**body, "n": 3, "logprobs": 1, "max_tokens": 50}
    whole, chunks = ask(body, **options), chunks_of(raw_stream(body, **options))
    assert [joined(chunks, index) for index in range(3)] == texts(whole)
    *_, usage = chunks
    assert (usage["choices"], usage["usage"]) == ([], whole["usage"])
    ends = {
        c["index"]: c["finish_reason"] for k in chunks for c in k["choices"] if c["finish_reason"]
    }
    assert ends == {c["index"]: c["finish_reason"] for c in whole["choices"]}


def test_chunks_carry_the_logprobs_of_their_tokens() -> None:
    whole = ask({**TASK, "logprobs": 1})["choices"][0]["logprobs"]
    chunks = chunks_of(raw_stream({**TASK, "logprobs": 1}))
    parts = [c["logprobs"] for k in chunks for c in k["choices"] if c["logprobs"]]
    for name, values in whole.items():
        assert [value for part in parts for value in part[name]] == values


def test_a_stream_has_no_usage_unless_asked() -> None:
    async def work(_: StubServer, session: aiohttp.ClientSession) -> str:
        async with session.post(TEXT, json={**TASK, "stream": True}) as response:
            return (await response.read()).decode()

    assert all("usage" not in chunk for chunk in chunks_of(run(work)))


def test_arithmetic_is_right_in_about_six_of_ten_and_consistent() -> None:
    answers = texts(ask({**TASK, "n": 200}, answer="arithmetic"))
    assert "Step 1: 3 + 9 = 12\nStep 2: 12 + 4 = 16\nAnswer: 16" in answers
    right = sum(text.endswith("Answer: 16") for text in answers)
    assert 100 < right < 140  # 120 expected, standard deviation 7
    for text in answers:
        *steps, answer = text.splitlines()
        results = [step.rpartition(" = ")[2] for step in steps]
        assert answer == f"Answer: {results[-1]}"
        assert f"Step 2: {results[0]} + 4 = " in steps[1]


def test_a_solution_is_continued_from_the_given_steps() -> None:
    body = {**TASK, "prompt": TASK["prompt"] + "Step 1: 3 + 9 = 11\n", "n": 20}
    answers = texts(ask(body, answer="arithmetic"))
    assert all(text.startswith("Step 2: 11 + 4 = ") for text in answers)
    assert "Step 2: 11 + 4 = 15\nAnswer: 15" in answers


def test_modes_write_what_they_promise() -> None:
    assert texts(ask(TASK))[0].splitlines()[-1].startswith("Answer: ")
    assert "\\boxed{" in texts(ask(TASK, answer="boxed"))[0]
    long = {**TASK, "max_tokens": 900}
    thinking, _, answer = texts(ask(long, answer="think"))[0].partition("\n</think>\n\n")
    assert thinking.startswith("<think>\n")
    assert len(thinking.split()) > 200
    assert answer.startswith("Step 1: 3 + 9 = ")
    endless = ask(long, answer="loop")["choices"][0]
    assert endless["finish_reason"] == "length"
    assert endless["text"].count("let me check again") > 30


def test_thinking_can_have_a_field_of_its_own() -> None:
    body = {**TALK, "max_tokens": 900}
    message = ask(body, answer="think", reasoning=True)["choices"][0]["message"]
    plain = ask(body, answer="think")["choices"][0]["message"]["content"]
    assert f"<think>{message['reasoning_content']}\n</think>{message['content']}" == plain
    chunks = chunks_of(raw_stream(body, answer="think", reasoning=True))
    for field in ("reasoning_content", "content"):
        assert joined(chunks, 0, field) == message[field]
    cut = ask({**body, "max_tokens": 50}, answer="think", reasoning=True)["choices"][0]["message"]
    assert cut["content"] is None


# What servers of several kinds do

CONTINUE = {"continue_final_message": True, "add_generation_prompt": False}


@pytest.mark.parametrize(
    ("prefill", "extra", "field", "is_continued"),
    [
        ("vllm", CONTINUE, {}, True),
        ("vllm", {"continue_final_message": True}, {}, False),
        ("vllm", {}, {"prefix": True}, False),
        ("deepseek", {}, {"prefix": True}, True),
        ("deepseek", CONTINUE, {}, False),
        ("always", {}, {}, True),
        ("none", CONTINUE, {"prefix": True}, False),
    ],
)
def test_prefill(prefill: str, extra: Json, field: Json, is_continued: bool) -> None:
    body = {**TALK, "messages": [*HELLO, {**BEGUN, **field}], **extra}
    answer = ask(body, answer="arithmetic", prefill=prefill)
    start = "Step 2: 12 + 4" if is_continued else "Step 1: 3 + 9"
    assert texts(answer)[0].startswith(start)
    # 7 + 7 words and 4 for each message; 3 more where a new turn is opened.
    assert answer["usage"]["prompt_tokens"] == 22 + (0 if is_continued else 3)


def test_unknown_fields_can_be_refused() -> None:
    status, error = refusal({**TALK, **CONTINUE}, prefill="refuse")
    assert status == 400
    assert "continue_final_message" in error["message"]
    assert refusal({**TALK, "messages": [{**BEGUN, "prefix": True}]}, prefill="refuse")[0] == 400
    assert ask({**TALK, "n": 2}, prefill="refuse")


@pytest.mark.parametrize(
    ("change", "options", "status", "words"),
    [
        ({"model": "other"}, {}, 404, "`other` does not exist"),
        ({"n": 2}, {"n_refused": True}, 400, "n > 1"),
        ({"n": 0}, {}, 400, "n must be at least 1"),
        ({"max_tokens": 0}, {}, 400, "max_tokens must be"),
        ({"prompt": ""}, {}, 400, "field required"),
        ({"prompt": "a " * 9}, {"max_context": 8}, 400, "maximum context length is 8"),
        ({}, {"chat_only": True}, 404, "Not Found"),
        ({}, {"poison": "9 + 4"}, 500, "EngineCore"),
    ],
)
def test_what_cannot_be_done_is_an_error_in_openai_form(
    change: Json, options: Json, status: int, words: str
) -> None:
    found, error = refusal({**TASK, **change}, **options)
    assert (found, words in error["message"]) == (status, True)


def test_a_server_may_speak_one_api_only_or_ignore_n() -> None:
    assert refusal(TALK, completions_only=True)[0] == 404
    assert ask(TASK, completions_only=True)
    assert len(texts(ask({**TASK, "n": 3}, no_n=True))) == 1


def test_errors_echo_the_key_as_bad_servers_do() -> None:
    async def work(_: StubServer, session: aiohttp.ClientSession) -> list[tuple[int, str]]:
        replies = []
        for key, model in (("wrong", "stub"), ("canary", "other"), ("canary", "stub")):
            headers = {"Authorization": f"Bearer {key}"}
            body = {**TASK, "model": model}
            async with session.post(TEXT, json=body, headers=headers) as response:
                replies.append((response.status, await response.text()))
        async with session.get("/v1/models") as response:
            replies.append((response.status, await response.text()))
        return replies

    wrong, other, right, models = run(work, api_key="canary")
    assert (wrong[0], "Bearer wrong" in wrong[1]) == (401, True)
    assert (other[0], "Bearer canary" in other[1]) == (404, True)
    assert (right[0], "canary" in right[1]) == (200, False)
    assert models[0] == 401


def test_health_models_and_what_was_asked() -> None:
    async def work(server: StubServer, session: aiohttp.ClientSession) -> None:
        async with session.get("/health") as response:
            assert response.status == 200
        async with session.get("/v1/models") as response:
            cards = (await response.json())["data"]
        assert [(card["id"], card["max_model_len"]) for card in cards] == [("qwq", 99)]
        async with session.post(TEXT, data=b"{broken") as response:
            assert response.status == 400
        await post(session, {**TASK, "model": "qwq"})
        (recorded,) = server.requests
        assert (recorded["path"], recorded["body"]["seed"]) == (TEXT, 7)
        assert recorded["headers"]["Content-Type"] == "application/json"
        assert server.counts["requests"] == 2
        assert server.counts["answered"] == server.counts["refused"] == 1
        assert server.counts["prompt_tokens"] == 7

    run(work, model="qwq", max_context=99, record=True)


def test_too_many_in_flight_are_refused() -> None:
    async def work(server: StubServer, session: aiohttp.ClientSession) -> list[int]:
        replies = await asyncio.gather(*(post(session, TASK) for _ in range(5)))
        assert server.counts["max_in_flight"] == 2
        return sorted(status for status, _ in replies)

    assert run(work, max_in_flight=2, latency_ms=100) == [200, 200, 429, 429, 429]


def test_too_many_a_minute_are_refused_with_a_time_to_wait() -> None:
    async def work(_: StubServer, session: aiohttp.ClientSession) -> list[str | None]:
        waits = []
        for _ in range(3):
            async with session.post(TEXT, json=TASK) as response:
                waits.append(response.headers.get("Retry-After"))
        return waits

    # 120 a minute: two at once, then one each half second.
    assert run(work, rpm=120) == [None, None, "1"]


def test_latency_grows_above_the_capacity() -> None:
    async def work(_: StubServer, session: aiohttp.ClientSession) -> float:
        start = time.perf_counter()
        await asyncio.gather(*(post(session, TASK) for _ in range(8)))
        return time.perf_counter() - start

    # The eighth request finds four times the capacity in flight: it waits 4 * 50 ms.
    crowded = run(work, latency_ms=50, capacity=2)
    assert crowded > 0.19
    assert 0.049 < run(work, latency_ms=50) < crowded


def test_a_client_that_leaves_saves_the_tokens_that_were_left() -> None:
    async def work(server: StubServer, session: aiohttp.ClientSession) -> None:
        body = {**TASK, "max_tokens": 500, "stream": True}
        async with session.post(TEXT, json=body) as response:
            lines = [await response.content.readline() for _ in range(20)]
        await disconnected(server)
        assert sum(line.startswith(b"data: ") for line in lines) == 10
        assert 450 < server.counts["tokens_not_generated"] <= 490
        assert server.counts["answered"] == 0

    run(work, answer="loop", chunk_delay_ms=2)


def test_a_client_that_does_not_wait_for_its_answer_is_counted() -> None:
    async def work(server: StubServer, session: aiohttp.ClientSession) -> None:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.1):
                await post(session, {**TASK, "max_tokens": 30})
        await disconnected(server)
        assert server.counts["tokens_not_generated"] == 30

    run(work, answer="loop", token_ms=100)


# As a process


def test_a_process_can_be_killed_and_started_again_on_its_port() -> None:
    async def get() -> Json:
        async with aiohttp.ClientSession(f"http://127.0.0.1:{stub.port}") as session:
            return (await post(session, TASK))[1]

    with running_stub(record=True, cached_share=0.5) as stub:
        before, port = asyncio.run(get()), stub.port
        assert before == ask(TASK, cached_share=0.5)
        assert stub.counts()["answered"] == len(stub.requests()) == 1
        stub.kill()
        with pytest.raises(aiohttp.ClientConnectorError):
            asyncio.run(get())
        stub.restart()
        assert (stub.port, stub.counts().get("answered", 0)) == (port, 0)
        assert asyncio.run(get()) == before
        process = stub.process
    assert process is not None
    with pytest.raises(ProcessLookupError):
        os.kill(process.pid, 0)


def test_faults_are_drawn_by_seed_and_limited() -> None:
    async def statuses() -> list[int]:
        async with aiohttp.ClientSession(f"http://127.0.0.1:{stub.port}") as session:
            return [(await post(session, TASK))[0] for _ in range(60)]

    options = {"fault_rate": 0.3, "fault_seed": 3, "faults": "429,500,503", "fault_limit": 10}
    with running_stub(**options) as stub:
        first = asyncio.run(statuses())
        stub.restart()
        assert asyncio.run(statuses()) == first
        counts = stub.counts()
    assert set(first) == {200, 429, 500, 503}
    assert sum(status != 200 for status in first) == 10
    assert sum(count for name, count in counts.items() if name.startswith("fault:")) == 10
