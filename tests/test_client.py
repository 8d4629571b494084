"""One request to one endpoint, over a real socket: what is sent, and what is made of the answer."""

import asyncio
import contextlib
import dataclasses
from collections.abc import AsyncIterator

import pytest

from prm.generation.calls import Call, Watch, guess_tokens
from prm.generation.client import Client, StreamUsage
from prm.generation.endpoints import EndpointConfig
from prm.generation.faults import Fault
from prm.generation.loop_guard import find_loop
from prm.generation.replies import Answer, share
from prm.ledger import Ledger
from prm.protocols import Generation, SamplingParams
from tests.server_setup import BEGUN, OFF, ON, PARAMS, TEXT, answering, call, chat, client_of, run
from tests.stub_client import ask, disconnected
from tests.stub_server import StubServer

LONG = SamplingParams(max_tokens=20_000)
LINES = call(params=LONG)
FULL = SamplingParams(temperature=0.5, top_p=0.9, max_tokens=30, stop=("\n\n", "END"))


def asked(one: Call, **options) -> Answer:
    """The answer to a call that is not streamed."""

    async def work(server: StubServer) -> Answer:
        async with client_of(server) as client:
            return await client.ask(one)

    return run(work, **options)


def streamed(one: Call, usage: StreamUsage = "final", **options) -> Answer:
    """The same, streamed under the guard; the server must have been left in peace or at once."""

    async def work(server: StubServer) -> Answer:
        async with client_of(server) as client:
            answer = await client.stream(one, ON, usage)
            if answer.generations[0].finish_reason == "loop":
                await disconnected(server)
                assert server.counts["tokens_not_generated"] > 10_000
            return answer

    return run(work, **options)


def only(answer: Answer) -> Generation:
    (generation,) = answer.generations
    return generation


def recorded(one: Call, usage: StreamUsage | None = None, **settings) -> dict:
    """The request as the server gets it."""

    async def work(server: StubServer) -> dict:
        async with client_of(server, **settings) as client:
            await (client.stream(one, ON, usage) if usage else client.ask(one))
        (found,) = server.requests
        return found

    return run(work, record=True)


def test_a_chat_is_sent_in_openais_form():
    one = call(chat(), params=dataclasses.replace(FULL, top_logprobs=2), n=3, seed=5)
    found = recorded(dataclasses.replace(one, extra={"top_k": 40}))
    assert found["path"] == "/v1/chat/completions"
    assert found["body"] == {
        "model": "stub",
        "messages": [
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": TEXT},
        ],
        "n": 3,
        "max_tokens": 30,
        "temperature": 0.5,
        "top_p": 0.9,
        "stop": ["\n\n", "END"],
        "seed": 5,
        "logprobs": True,
        "top_logprobs": 2,
        "top_k": 40,
    }


def test_a_text_is_sent_without_what_is_not_asked_for():
    plain = {"model": "stub", "prompt": TEXT, "max_tokens": 200, "temperature": 0.8, "top_p": 1.0}
    found = recorded(call())
    assert (found["path"], found["body"]) == ("/v1/completions", plain)
    with_logprobs = recorded(call(params=dataclasses.replace(PARAMS, top_logprobs=2)))
    assert with_logprobs["body"] == {**plain, "logprobs": 2}
    assert recorded(call(extra={"top_p": 0.5}))["body"] == {**plain, "top_p": 0.5}


@pytest.mark.parametrize("prompt", [TEXT, chat()])
def test_a_stream_has_the_same_body_and_asks_for_usage_as_far_as_the_server_knows(prompt):
    one = call(prompt, params=FULL, seed=5, extra={"min_p": 0.1})
    plain = {**recorded(one)["body"], "stream": True}
    final = {"include_usage": True}
    assert recorded(one, "none")["body"] == plain
    assert recorded(one, "final")["body"] == {**plain, "stream_options": final}
    every = {**final, "continuous_usage_stats": True}
    assert recorded(one, "continuous")["body"] == {**plain, "stream_options": every}


@pytest.mark.parametrize(
    ("prefill", "flags", "mark"),
    [
        (
            "continue_final_message",
            {"continue_final_message": True, "add_generation_prompt": False},
            {},
        ),
        ("prefix", {}, {"prefix": True}),
    ],
)
def test_the_beginning_of_an_answer_is_the_last_message(prefill, flags, mark):
    body = recorded(call(chat(prefix=BEGUN), prefill=prefill))["body"]
    assert body.pop("messages")[-1] == {"role": "assistant", "content": BEGUN, **mark}
    plain = recorded(call(chat()))["body"]
    del plain["messages"]
    assert body == {**plain, **flags}
    with pytest.raises(ValueError, match="needs a way to say so"):
        call(chat(prefix=BEGUN)).body()


def test_no_key_is_sent_where_none_is_asked_for():
    assert "authorization" not in recorded(call())["headers"]
    assert "authorization" not in recorded(call(), "none")["headers"]


@pytest.mark.parametrize("prompt", [TEXT, chat()])
def test_a_stream_and_a_whole_reply_say_the_same(prompt):
    one = call(prompt, seed=3)
    whole = asked(one, cached_share=0.5)
    assert whole == streamed(one, cached_share=0.5)
    assert whole == streamed(one, "continuous", cached_share=0.5, continuous_usage=True)
    usage = ask(one.body(), cached_share=0.5)["usage"]
    cached = usage["prompt_tokens_details"]["cached_tokens"]
    assert cached > 0
    assert whole.cost == Ledger(
        usage["prompt_tokens"], usage["completion_tokens"], cached_tokens=cached
    )
    assert only(whole).text == ask_text(one)
    assert only(whole).finish_reason == "stop"
    assert not whole.is_estimated


def ask_text(one: Call) -> str:
    """What the server says, as a plain client reads it."""
    (choice,) = ask(one.body())["choices"]
    return choice["text"] if "text" in choice else choice["message"]["content"]


def test_a_text_that_reaches_its_limit_says_so():
    one = call(params=SamplingParams(max_tokens=5))
    for answer in (asked(one), streamed(one)):
        assert only(answer).finish_reason == "length"
        assert only(answer).generated_tokens == 5


def test_several_samples_in_one_request_share_its_tokens_by_length():
    answer = asked(call(n=4, seed=1))
    assert len({sample.text for sample in answer.generations}) == 4
    counts = [sample.generated_tokens for sample in answer.generations]
    assert sum(counts) == answer.cost.generated_tokens
    sizes = [len(sample.text) for sample in answer.generations]
    for count, size in zip(counts, sizes, strict=True):
        assert abs(count - answer.cost.generated_tokens * size / sum(sizes)) <= 1
    # The words of each text are its tokens at the stub: no share is far from the truth.
    words = [len(sample.text.split()) for sample in answer.generations]
    assert all(abs(c - w) <= 0.2 * w for c, w in zip(counts, words, strict=True))


@pytest.mark.parametrize("total", [0, 1, 7, 1000])
@pytest.mark.parametrize("sizes", [[1], [0, 0, 0], [5, 0, 1], [3, 3, 3], [1, 10**6]])
def test_shares_are_whole_add_up_and_follow_the_sizes(total, sizes):
    shares = share(total, sizes)
    assert sum(shares) == total
    whole = sum(sizes) or len(sizes)
    exact = [total * (size if sum(sizes) else 1) / whole for size in sizes]
    assert all(abs(part - right) <= 1 for part, right in zip(shares, exact, strict=True))


def test_one_sample_a_stream():
    with pytest.raises(ValueError, match="one sample a stream"):
        streamed(call(n=2))


@pytest.mark.parametrize("max_tokens", [2000, 60])
def test_thoughts_that_a_server_sends_apart_are_put_into_their_tags_again(max_tokens):
    one = call(chat(), params=SamplingParams(max_tokens=max_tokens), seed=2)
    apart = only(asked(one, answer="think", reasoning=True))
    assert apart == only(streamed(one, answer="think", reasoning=True))
    plain = only(asked(one, answer="think")).text
    assert plain.count("</think>") == (max_tokens == 2000)
    # The tag is a token with the line break before it, and the server drops the token.
    assert apart.text == plain.replace("\n</think>", "</think>")
    assert apart.text.startswith("<think>\n")


@pytest.mark.parametrize("prompt", [TEXT, chat()])
def test_tokens_and_their_logprobs_are_kept_where_they_are_asked_for(prompt):
    one = call(prompt, params=dataclasses.replace(PARAMS, top_logprobs=3))
    found = only(asked(one))
    assert found == only(streamed(one))
    (choice,) = ask(one.body())["choices"]
    rows = choice["logprobs"]
    values = rows.get("token_logprobs") or [row["logprob"] for row in rows["content"]]
    assert found.logprob == pytest.approx(sum(values))
    assert found.logprob < -0.1
    assert [token.logprob for token in found.tokens] == values
    assert "".join(token.text for token in found.tokens) == found.text
    for token in found.tokens:
        assert len(token.top) == 3
        assert token.top[token.text] == token.logprob
    without = only(asked(dataclasses.replace(one, params=PARAMS)))
    assert (without.logprob, without.tokens) == (None, ())


@pytest.mark.parametrize("prompt", [TEXT, chat()])
def test_tokens_are_estimated_where_the_server_tells_none(prompt):
    one = call(prompt)
    for answer in (asked(one, no_usage=True), streamed(one, no_usage=True)):
        assert answer.is_estimated
        text = only(answer).text
        assert answer.cost.generated_tokens == -(-len(text) // 4)
        read = TEXT if prompt is TEXT else "Be brief.\n" + TEXT + "\n"
        assert answer.cost.prompt_tokens == -(-len(read) // 4)
    assert guess_tokens("") == 0
    assert guess_tokens("\ud800é") == 1  # half a letter is counted, not raised on


def test_a_loop_is_stopped_at_the_guards_offset_and_the_server_is_left():
    one = call(chat(), params=LONG)
    whole = only(asked(one, answer="loop"))
    assert (whole.finish_reason, whole.generated_tokens) == ("length", 20_000)
    offset = find_loop(whole.text, ON)
    assert offset is not None
    found = streamed(one, answer="loop", continuous_usage=True, usage="continuous")
    cut = only(found)
    assert (cut.text, cut.finish_reason) == (whole.text[:offset], "loop")
    # What came after the offset in the same piece was generated and is billed.
    words = len(cut.text.split())
    assert words <= cut.generated_tokens <= words + 1
    assert cut.saved_tokens == 20_000 - cut.generated_tokens
    assert not found.is_estimated
    guessed = streamed(one, answer="loop")
    assert only(guessed).text == cut.text
    assert guessed.is_estimated
    assert only(guessed).saved_tokens == 20_000 - only(guessed).generated_tokens > 15_000


def test_an_honest_enumeration_is_not_stopped():
    one = call(params=SamplingParams(max_tokens=6000))
    found = only(streamed(one, answer="cases"))
    assert (found.finish_reason, found.saved_tokens) == ("length", 0)
    assert found.text == only(asked(one, answer="cases")).text
    assert found.text.count("Case n = ") > 300


def test_a_loop_goes_on_where_no_guard_is_set():
    async def work(server: StubServer) -> Generation:
        async with client_of(server) as client:
            return only(await client.stream(call(params=LONG), OFF, "final"))

    found = run(work, answer="loop")
    assert (found.finish_reason, found.generated_tokens) == ("length", 20_000)


def test_a_stream_says_that_it_lives_before_it_ends():
    async def work(server: StubServer) -> list[str]:
        seen = []
        async with client_of(server) as client:
            watch = Watch(lambda: seen.append("alive"), lambda: seen.append("heard"))
            await client.stream(call(), ON, "final", watch)
            seen.append("over")
        return seen

    seen = run(work, chunk_delay_ms=1)
    assert seen[:2] == ["heard", "alive"]
    assert seen.count("heard") > 5
    assert seen[-1] == "over"


def test_the_models_are_named():
    async def names(server: StubServer) -> list[str]:
        async with client_of(server) as client:
            return await client.models()

    assert run(names, model="qwq-32b") == ["qwq-32b"]


@contextlib.asynccontextmanager
async def server_that_says(body: bytes) -> AsyncIterator[Client]:
    """The client of a server that answers everything with these bytes, streamed or not."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        length = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
        is_stream = b'"stream":true' in await reader.readexactly(length)
        reply = b"data: " + body + b"\n\ndata: [DONE]\n\n" if is_stream else body
        writer.write(b"HTTP/1.1 200 OK\r\nconnection: close\r\n")
        writer.write(f"content-length: {len(reply)}\r\n\r\n".encode() + reply)
        writer.close()
        await writer.wait_closed()

    async with asyncio.timeout(5), await asyncio.start_server(answer, "127.0.0.1") as server:
        port = server.sockets[0].getsockname()[1]
        client = Client(EndpointConfig(f"http://127.0.0.1:{port}/v1"), timeout=2)
        try:
            yield client
        finally:
            await client.close()


@pytest.mark.parametrize(
    "body",
    [
        b'{"choices": "none"}',
        b'{"choices": ["text"]}',
        b'{"choices": [{"message": "text", "delta": "text"}]}',
        b'{"choices": [{"text": "a", "logprobs": {"tokens": ["a"]}}]}',
        b'{"choices": [{"text": "a", "logprobs": {"content": [{}]}}]}',
        b'{"choices": [{"text": ["a"]}]}',
        b'{"choices": 7}',
        b"[]",
        b"null",
        b"{",
    ],
)
def test_a_reply_of_another_form_is_a_fault_and_no_crash(body):
    async def work() -> None:
        async with server_that_says(body) as client:
            with pytest.raises(Fault) as whole:
                await client.ask(call())
            assert whole.value.kind == "bad_reply"
            assert whole.value.may_have_cost == Ledger(guess_tokens(TEXT), 200)
            with pytest.raises(Fault) as stream:
                await client.stream(call(), ON, "final")
            assert stream.value.kind == "bad_reply"
            assert stream.value.may_have_cost.prompt_tokens == guess_tokens(TEXT)

    asyncio.run(work())


def test_what_the_server_gave_up_is_no_answer():
    body = b'{"choices": [{"text": "Step 1", "finish_reason": "abort"}]}'

    async def work() -> None:
        async with server_that_says(body) as client:
            for asking in (client.ask(call()), client.stream(call(), ON, "final")):
                with pytest.raises(Fault, match="gave the request up") as caught:
                    await asking
                assert caught.value.kind == "server_error"

    asyncio.run(work())


@pytest.mark.parametrize(
    "usage",
    [
        b'"many"',
        b"[1]",
        b'{"prompt_tokens": 3, "completion_tokens": "many"}',
        b"{}",
        b'{"prompt_tokens": 3}',
        b'{"prompt_tokens": 3, "completion_tokens": null}',
        b'{"prompt_tokens": 3, "completion_tokens": 0}',
        b'{"prompt_tokens": 0, "completion_tokens": 2}',
        b'{"completion_tokens": 2}',
    ],
)
def test_a_usage_that_cannot_be_read_is_estimated(usage):
    choice = b'{"text": "12345", "finish_reason": "stop"}'

    async def work() -> None:
        async with server_that_says(b'{"choices": [%b], "usage": %b}' % (choice, usage)) as client:
            whole = await client.ask(call())
            assert whole == await client.stream(call(), ON, "final")
            assert whole.is_estimated
            assert whole.cost == Ledger(guess_tokens(TEXT), 2)

    asyncio.run(work())


def test_a_stream_takes_nothing_from_samples_that_were_not_asked_for():
    async def work() -> Answer:
        events = [
            b'{"choices": [{"index": 0, "text": "a"}]}',
            b'{"choices": [{"index": 1, "text": "x", "finish_reason": "length"}]}',
            b'{"choices": [{"index": 0, "text": "b", "finish_reason": "stop"}]}',
        ]
        async with server_that_says(b"\n\ndata: ".join(events)) as client:
            return await client.stream(call(), ON, "final")

    found = only(asyncio.run(work()))
    assert (found.text, found.finish_reason, found.generated_tokens) == ("ab", "stop", 1)


def test_of_several_choices_those_with_a_text_are_kept_and_bear_the_cost():
    good = b'{"text": "%b", "finish_reason": "stop"}'
    choices = [good % b"abcd", b'{"text": null, "finish_reason": "stop"}', good % b"efgh"]
    usage = b'{"prompt_tokens": 7, "completion_tokens": 30}'

    async def work() -> Answer:
        body = b'{"choices": [%b], "usage": %b}' % (b", ".join(choices), usage)
        async with server_that_says(body) as client:
            return await client.ask(call(n=3))

    found = asyncio.run(work())
    assert [(g.text, g.generated_tokens) for g in found.generations] == [("abcd", 15), ("efgh", 15)]
    assert (found.cost, found.num_empty) == (Ledger(7, 30), 1)


@pytest.mark.parametrize("streams", [False, True])
def test_a_request_that_is_cancelled_says_what_it_may_have_cost(streams):
    async def work(server: StubServer) -> Watch:
        heard: list[None] = []
        watch = Watch(heard=lambda: heard.append(None))
        async with client_of(server) as client:
            ways = (client.stream(LINES, ON, "final", watch), client.ask(LINES, watch))
            asking, other = map(asyncio.ensure_future, ways if streams else ways[::-1])
            other.cancel()
            # In the middle of the text, or of the waiting for it.
            while len(heard) < 5 if streams else server.counts["in_flight"] < 1:
                await asyncio.sleep(0.01)
            asking.cancel()
            await asyncio.gather(asking, other, return_exceptions=True)
        return watch

    lost = run(work, answer="cases", chunk_delay_ms=10, latency_ms=0 if streams else 5000).lost
    if streams:
        assert lost.prompt_tokens == guess_tokens(TEXT)
        assert 0 < lost.generated_tokens < 1000
    else:
        assert lost == LINES.worst_cost()


def test_a_list_of_models_that_does_not_come_is_not_waited_for():
    async def work() -> None:
        async with asyncio.timeout(5), answering(lambda _: asyncio.sleep(60)) as url:
            client = Client(EndpointConfig(url), timeout=30)
            with pytest.raises(Fault, match=r"no list of models within 0.1 s") as caught:
                await client.models(0.1)
            await client.close()
        assert caught.value.kind == "timeout"

    asyncio.run(work())
