"""Servers behind the protocol of a generator: for code that is not asynchronous."""

import asyncio
import gc
import threading
import time
import warnings
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from prm.errors import BudgetError, ConfigError, GenerationError
from prm.generation.budget import BudgetConfig
from prm.generation.endpoints import EndpointConfig
from prm.generation.request_store import RequestStore
from prm.generation.server_generator import ServerGenerator
from prm.ledger import Ledger
from prm.protocols import ChatGenerator, Generation, Generator, Prompt, SamplingParams
from prm.search import best_of_n, majority_vote
from tests.sample_setup import threaded_stub
from tests.server_setup import BEGUN, ON, TEXT, chat, servers
from tests.stub_server import StubServer

THREE = SamplingParams(n=3, max_tokens=100)
PROMPTS = [TEXT, chat(), chat(TEXT, prefix=BEGUN)]


@pytest.fixture(scope="module")
def stub() -> Iterator[StubServer]:
    with threaded_stub(answer="arithmetic", record=True, max_context=200) as server:
        yield server


def generator(stub: StubServer, store: RequestStore | None = None, **settings) -> ServerGenerator:
    return ServerGenerator(servers(stub.url, **settings), "stub", store=store)


def ask(one: ChatGenerator, prompts: list[Prompt], seed: int = 0) -> list[list[Generation]]:
    """What a user of the protocol does."""
    return one.generate(prompts, THREE, seed=seed)


def words(rows: list[list[Generation]]) -> list[list[str]]:
    return [[generation.text for generation in row] for row in rows]


def ask_plain(one: Generator) -> list[list[Generation]]:
    """What a user of texts alone does."""
    return one.generate([TEXT], THREE, seed=0)


@pytest.mark.parametrize("guard", [False, True])
def test_a_prompt_gets_its_samples_in_order_and_they_differ(stub, guard):
    with generator(stub, **({"loop_guard": ON, "send_seed": True} if guard else {})) as one:
        assert one.name == "stub"
        found = ask(one, PROMPTS)
        assert [len(row) for row in found] == [3, 3, 3]
        assert all(g.text and g.finish_reason == "stop" for row in found for g in row)
        # The last one goes on after its first sum.
        assert all(text.startswith("Step 2: 12 + 4 = ") for text in words(found)[2])
        assert all(text.startswith("Step 1: 3 + 9 = ") for row in words(found)[:2] for text in row)
        assert words(ask_plain(one)) == words(found)[:1]


def test_a_prompt_that_stands_there_twice_gets_other_samples(stub):
    with generator(stub, send_seed=True) as one:
        problem = "Problem: Calculate 3 + 9 + 4 - 2 * 5 + 7 * 3 - 8 * 2.\n"
        sixteen = SamplingParams(n=16, max_tokens=100)
        first, second = words(one.generate([problem, problem], sixteen, seed=0))
        assert first != second
        assert words(one.generate([problem], sixteen, seed=0)) == [first]


def test_the_same_call_gives_the_same_texts_from_the_store_and_asks_nothing(stub, tmp_path):
    before = stub.counts["requests"]
    with generator(stub, RequestStore(tmp_path)) as one:
        first = ask(one, PROMPTS)
        asked = stub.counts["requests"] - before
        assert ask(one, PROMPTS) == first
        assert ask(one, PROMPTS[::-1]) == first[::-1]
        assert stub.counts["requests"] - before == asked
        assert ask(one, [TEXT], seed=1) is not None
        assert stub.counts["requests"] - before == asked + 1
        once = sum(g.generated_tokens for row in first for g in row)
        assert one.ledger.generated_tokens > 3 * once
    # Closed with the generator: another may open it, and has the answers.
    with generator(stub, RequestStore(tmp_path)) as again:
        assert ask(again, PROMPTS) == first
        assert stub.counts["requests"] - before == asked + 1


def test_without_a_store_a_call_asks_again(stub):
    with generator(stub) as one:
        before = stub.counts["requests"]
        ask(one, [TEXT])
        ask(one, [TEXT])
        assert stub.counts["requests"] - before == 2


def test_no_prompt_is_no_text(stub):
    with generator(stub) as one:
        assert ask(one, []) == []
        assert one.ledger == Ledger()


def test_a_text_that_cannot_be_had_is_empty_and_says_error(stub):
    with generator(stub) as one:
        (bad,), (good,) = one.generate(
            ["word " * 300, TEXT], SamplingParams(max_tokens=100), seed=0
        )
        assert bad == Generation("", "error", 0, 0)
        assert good.text.startswith("Step 1")


def test_it_can_be_called_from_several_threads_at_once(stub):
    prompts = [[f"Problem: Calculate {n} + 1."] for n in range(8)]
    with generator(stub) as one, ThreadPoolExecutor(8) as threads:
        found = list(threads.map(lambda some: ask(one, some), prompts))
        assert [words(rows) for rows in found] == [words(ask(one, some)) for some in prompts]
        assert one.ledger.generated_tokens == 2 * sum(
            g.generated_tokens for rows in found for row in rows for g in row
        )


def test_it_can_be_called_where_an_event_loop_runs(stub):
    with generator(stub) as one:

        async def inside() -> list[list[str]]:
            return words(ask(one, PROMPTS))

        assert asyncio.run(inside()) == words(ask(one, PROMPTS))


def parse(text: str) -> tuple[list[str], str | None]:
    *steps, last = text.splitlines()
    return [*steps, last], last.removeprefix("Answer: ")


def test_it_serves_the_searches(stub):
    class Lengths:
        """Longer steps are better."""

        def score_many(self, _: str, solutions: list[list[str]]) -> list[list[float]]:
            return [[min(1.0, len(step) / 50) for step in steps] for steps in solutions]

    problem = "Calculate 3 + 9 + 4."
    how = {"n": 8, "parse": parse, "prompt": lambda text: f"Problem: {text}\n"}
    with generator(stub, send_seed=True) as one:
        voted = majority_vote(problem, one, **how)
        best = best_of_n(problem, one, Lengths(), **how)
    assert len(voted.candidates) == len(best.candidates) == 8
    answers = [candidate.answer for candidate in voted.candidates]
    assert voted.answer == max(answers, key=answers.count)
    assert voted.generated_tokens > 8 * 10
    assert best.candidates[best.chosen].answer == best.answer


def test_errors_reach_the_caller_and_the_generator_stays_closable(stub):
    poor = generator(stub, budget=BudgetConfig(tokens=100))
    with poor, pytest.raises(BudgetError, match="no room for the next request"):
        ask(poor, PROMPTS)
    wrong = ServerGenerator(servers(stub.url), "qwq-32b")
    with wrong, pytest.raises(GenerationError, match="no model 'qwq-32b' there, but stub"):
        ask(wrong, [TEXT])
    before = threading.active_count()
    with pytest.raises(ConfigError, match="NO_SUCH_KEY"):
        ServerGenerator(servers(EndpointConfig(stub.url, api_key_env="NO_SUCH_KEY")), "stub")
    assert threading.active_count() == before


def test_closing_is_idempotent_and_leaves_nothing_behind(stub, tmp_path):
    before = set(threading.enumerate())
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        one = generator(stub, RequestStore(tmp_path))
        ask(one, [TEXT])
        assert set(threading.enumerate()) - before
        one.close()
        one.close()
        with one:
            pass
        del one
        # Unused: nothing was connected.
        generator(stub).close()
        gc.collect()
    assert [str(warning.message) for warning in caught] == []
    assert set(threading.enumerate()) <= before


def test_after_the_end_a_call_says_that_it_is_closed(stub):
    one = generator(stub)
    one.close()
    with pytest.raises(GenerationError, match="closed"):
        ask(one, [TEXT])


def test_a_call_that_is_under_way_when_it_is_closed_ends(stub):
    slow = servers("http://127.0.0.1:9/v1", patience=60.0)  # nobody is there
    one = ServerGenerator(slow, "stub")
    with ThreadPoolExecutor(1) as thread:
        asking = thread.submit(ask, one, [TEXT])
        time.sleep(0.2)
        one.close()
        with pytest.raises(GenerationError, match="closed"):
            asking.result(5)
