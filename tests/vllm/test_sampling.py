"""Our client, and the job that samples, on the real server: killed, resumed, asked for more."""

import asyncio
import dataclasses
import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml

from data_gen.problems import main as make_problems
from prm.generation.endpoints import EndpointConfig
from prm.generation.loop_guard import LoopGuardConfig
from prm.generation.request_store import RequestStore
from prm.generation.requests import Reply, Request, SetAside
from prm.generation.server import ServerSampler
from prm.generation.server_config import ServersConfig
from prm.protocols import Chat, Message, SamplingParams
from prm.records import Problem, Solution
from prm.store import read_records
from tests.vllm.server import CHECKOUT, MODEL, VLLMServer

NUM_PROBLEMS = 12
SHARD = "shard-00000-of-00001"
STORY = "Once upon a time"
LOOPING = "All work and no play makes Jack a dull boy.\n" * 8
NO_GUARD = LoopGuardConfig(enabled=False)


class Job:
    """`data_gen.sample` on a folder of its own, with one problem a batch."""

    def __init__(self, folder: Path, server: VLLMServer) -> None:
        self.folder = folder
        self.server = server
        sizes = '{"train": 6, "selection": 3, "test": 3}'
        make_problems(["--output", str(folder / "problems"), "--sizes", sizes])

    def start(self, n: int, *, remake: bool = False, max_tokens: int = 48) -> subprocess.Popen[str]:
        settings = {
            "problems": str(self.folder / "problems"),
            "output": str(self.output),
            "generator": {
                "model": MODEL,
                "servers": {"endpoints": [{"url": self.server.base_url}]},
            },
            "strategies": {"few_shot_arithmetic": 1},
            "sampling": {"n": n, "temperature": 0.8, "max_tokens": max_tokens, "stop": ["\n\n"]},
            "problems_per_batch": 1,
            "remake": remake,
        }
        config = self.folder / "sample.yaml"
        config.write_text(yaml.safe_dump(settings))
        with (self.folder / "job.log").open("a") as log:
            return subprocess.Popen(
                [sys.executable, "-m", "data_gen.sample", "--config", str(config)],
                cwd=CHECKOUT,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                text=True,
            )

    def run(self, n: int, *, remake: bool = False) -> None:
        self.finish(self.start(n, remake=remake))

    def finish(self, process: subprocess.Popen[str], limit: float = 240) -> None:
        try:
            code = process.wait(limit)
        finally:
            process.kill()
            process.wait()
        assert code == 0, (self.folder / "job.log").read_text()

    @property
    def output(self) -> Path:
        return self.folder / "solutions"

    def records(self) -> dict[str, Solution]:
        records = list(read_records(self.output, Solution))
        found = {record.id: record for record in records}
        assert len(found) == len(records)
        return found

    def written(self) -> bytes:
        """What is written to stay, also while the job runs: the journal says up to where."""
        journal, data = (
            path.read_bytes() if path.exists() else b""
            for path in (self.output / f"{SHARD}.journal", self.output / f"{SHARD}.jsonl")
        )
        whole = journal[: journal.rfind(b"\n") + 1].splitlines()
        return data[: json.loads(whole[-1])["bytes"]] if whole else b""

    def start_and_wait(self, n: int) -> subprocess.Popen[str]:
        """Start it, and return when the first record is written."""
        process = self.start(n)
        self.server.wait_for(
            lambda: bool(self.written()) or process.poll() is not None,
            limit=120,
            what="a first record",
        )
        assert process.poll() is None, (self.folder / "job.log").read_text()
        return process

    def num_kept(self) -> int:
        with RequestStore(self.folder / "solutions-requests") as store:
            return store.num_replies

    def check_counts(self, n: int) -> None:
        """Every sample is a record or was skipped for a reason, and no id is there twice."""
        manifest = json.loads((self.output / f"{SHARD}.json").read_text())
        records = self.records()
        problems = [one.id for one in read_records(self.folder / "problems", Problem)]
        assert len(problems) == NUM_PROBLEMS
        assert records.keys() <= {f"{name}#{k}" for name in problems for k in range(n)}
        assert manifest["state"] == "done"
        assert manifest["in"] == NUM_PROBLEMS * n
        assert manifest["out"] == len(records)
        assert manifest["in"] == manifest["out"] + sum(manifest["skipped"].values())
        # This prompt never fails to give a step here; were it to, the ids above would lack some.
        assert manifest["skipped"].keys() <= {"no_steps"}


@pytest.fixture
def job(tmp_path: Path, server: VLLMServer) -> Job:
    return Job(tmp_path, server)


def idle(server: VLLMServer) -> float:
    """The samples that the server has finished, once it has nothing more to do."""
    server.wait_for(lambda: server.num_running() == 0, limit=60, what="it is idle")
    return server.num_finished()


def without_count(solution: Solution) -> Solution:
    """The record but for the number of samples that was asked for."""
    return dataclasses.replace(solution, sampling={**solution.sampling, "n": 0})


def test_a_killed_job_resumes_and_samples_more_without_asking_twice(
    job: Job, server: VLLMServer
) -> None:
    begin = idle(server)
    process = job.start_and_wait(n=4)
    process.kill()
    process.wait()
    written, kept, after_kill = job.written(), job.num_kept(), idle(server)
    assert 0 < written.count(b"\n") <= kept < 4 * NUM_PROBLEMS
    # What the server finished and we did not keep was under way when the job was killed.
    assert kept <= after_kill - begin

    job.run(n=4)
    after_resume = idle(server)
    assert after_resume - after_kill == 4 * NUM_PROBLEMS - kept
    job.check_counts(n=4)
    four = job.records()
    assert job.written().startswith(written)

    job.run(n=4)
    assert idle(server) == after_resume
    assert job.records() == four

    job.run(n=8, remake=True)
    assert idle(server) - after_resume == 4 * NUM_PROBLEMS
    job.check_counts(n=8)
    eight = {name: without_count(record) for name, record in job.records().items()}
    assert {name: eight[name] for name in four} == {n: without_count(r) for n, r in four.items()}
    assert job.num_kept() == 8 * NUM_PROBLEMS


def test_a_job_goes_on_when_the_server_was_killed_and_started_again(
    job: Job, server: VLLMServer
) -> None:
    group = server.group
    process = job.start_and_wait(n=4)
    written = job.written().count(b"\n")
    server.restart()
    assert server.group != group
    assert process.poll() is None, (job.folder / "job.log").read_text()
    job.finish(process)
    job.check_counts(n=4)
    assert job.num_kept() == 4 * NUM_PROBLEMS
    # The new server, whose count began at 0, was asked only for what the old one had not given.
    assert 0 < idle(server) <= 4 * NUM_PROBLEMS - written


def sampled(
    server: VLLMServer,
    requests: Sequence[Request],
    *,
    store: RequestStore | None = None,
    **settings: Any,
) -> list[Reply | SetAside]:
    async def run() -> list[Reply | SetAside]:
        config = ServersConfig(endpoints=[EndpointConfig(server.base_url)], **settings)
        async with ServerSampler(config, store=store) as sampler:
            return await sampler.sample(requests)

    return asyncio.run(run())


def replied(
    server: VLLMServer, requests: Sequence[Request], *, store: RequestStore | None = None, **kw: Any
) -> list[Reply]:
    replies = sampled(server, requests, store=store, **kw)
    assert all(isinstance(reply, Reply) for reply in replies), replies
    return [reply for reply in replies if isinstance(reply, Reply)]


def request(prompt: str | Chat, index: int = 0, **params: Any) -> Request:
    return Request(prompt, SamplingParams(**params), MODEL, index=index)


def test_a_text_that_repeats_itself_is_stopped_on_the_server_too(server: VLLMServer) -> None:
    finished = idle(server)
    # Without min_tokens it ends its text by itself after some rounds.
    asked = dataclasses.replace(
        request(LOOPING, temperature=0, max_tokens=800), extra={"min_tokens": 800}
    )
    (reply,) = replied(server, [asked])
    made = reply.generation
    assert made.finish_reason == "loop"
    assert made.saved_tokens > 0
    assert made.generated_tokens + made.saved_tokens == 800
    assert not reply.is_estimated
    server.wait_for(lambda: server.num_running() == 0, limit=10, what="the loop has ended")
    assert server.num_finished() == finished


def test_samples_of_a_prompt_are_one_request_where_none_can_loop(
    server: VLLMServer, tmp_path: Path
) -> None:
    requests = [request(STORY, index, max_tokens=12) for index in range(4)]
    with RequestStore(tmp_path) as store:
        finished = idle(server)
        replies = replied(server, requests, store=store, loop_guard=NO_GUARD)
        assert idle(server) - finished == 4
        again = replied(server, requests, store=store, loop_guard=NO_GUARD)
        assert idle(server) - finished == 4
        more = [*requests, request(STORY, 4, max_tokens=12)]
        assert replied(server, more, store=store, loop_guard=NO_GUARD)[:4] == replies
        assert idle(server) - finished == 5
    assert again == replies
    assert len({reply.generation.text for reply in replies}) > 1
    # Only the first bears the prompt: it was read once.
    assert [reply.cost.prompt_tokens > 0 for reply in replies] == [True, False, False, False]
    assert not any(reply.is_estimated for reply in replies)


def test_an_answer_that_was_begun_is_continued_with_and_without_a_stream(
    server: VLLMServer,
) -> None:
    chat = Chat((Message("user", "What is 3 + 4?"),), "3 + 4 = ")
    requests = [request(chat, temperature=0, max_tokens=8)]
    (streamed,) = replied(server, requests)
    (whole,) = replied(server, requests, loop_guard=NO_GUARD)
    assert streamed.generation.text.startswith("7")
    assert whole.generation == streamed.generation


def test_usage_in_the_stream_is_the_usage_of_the_whole_reply(server: VLLMServer) -> None:
    requests = [request(STORY, temperature=0, max_tokens=12)]
    (streamed,) = replied(server, requests)
    (whole,) = replied(server, requests, loop_guard=NO_GUARD)
    assert not streamed.is_estimated
    assert whole.generation == streamed.generation
    assert whole.cost.prompt_tokens == streamed.cost.prompt_tokens
    assert whole.cost.generated_tokens == streamed.cost.generated_tokens == 12


def test_seeds_that_we_send_give_the_same_texts_again(server: VLLMServer) -> None:
    texts = [
        [
            replied(server, [request(STORY, index, max_tokens=12)], send_seed=True)[0].generation
            for index in range(3)
        ]
        for _ in range(2)
    ]
    assert texts[0] == texts[1]
    assert len({made.text for made in texts[0]}) == 3


def test_a_prompt_that_is_too_long_is_set_aside_and_the_rest_goes_on(server: VLLMServer) -> None:
    requests = [request("a b " * 4000), request(STORY, max_tokens=4)]
    refused, answered = sampled(server, requests)
    assert isinstance(refused, SetAside)
    assert "maximum context length" in refused.detail
    assert isinstance(answered, Reply)


def test_logprobs_add_up_alike_with_and_without_a_stream(server: VLLMServer) -> None:
    requests = [request(STORY, temperature=0, max_tokens=8, top_logprobs=2)]
    (streamed,) = replied(server, requests)
    (whole,) = replied(server, requests, loop_guard=NO_GUARD)
    assert whole.generation.logprob is not None
    assert whole.generation.logprob < 0
    assert streamed.generation.logprob == pytest.approx(whole.generation.logprob, abs=0.01)
