"""Labels by rollouts from servers: what was paid for is found again, however the work is cut."""

import asyncio
import dataclasses
import itertools
import json

import pytest

from data_gen import label
from data_gen.label import LabelConfig
from data_gen.labelers.rollouts import GeneratorRollouts
from data_gen.prompting import Strategy
from prm.errors import StoreError
from prm.generation.request_store import RequestStore
from prm.ledger import Ledger
from prm.prices import in_dollars
from prm.protocols import Generation, SamplingParams
from prm.records import LabelledSolution
from prm.store import Shard, StoreWriter, read_manifests, read_records
from tests.sample_setup import SERVERS, problem, run_job, sums, threaded_stub, write_problems
from tests.tiny import tiny_problem, tiny_solution

NUM = 7


@pytest.fixture(scope="module")
def stub():
    with threaded_stub(answer="arithmetic", record=True) as server:
        yield server


@pytest.fixture
def asked(stub):
    """The requests that the stub has had since the last look."""
    seen = len(stub.requests)

    def look():
        nonlocal seen
        before, seen = seen, len(stub.requests)
        # A probe of what the server can do has no seed.
        return [one for one in stub.requests[before:] if "seed" in one["body"]]

    return look


@pytest.fixture
def given(stub, tmp_path):
    """Stores of problems and of solutions to them."""
    problems = sums(tmp_path / "problems", NUM)
    run_job(problems, tmp_path / "solutions", stub)
    return problems, tmp_path / "solutions"


def words(given, output, url, **settings):
    """The command line; all outputs share the folder of kept answers."""
    problems, solutions = given
    servers = SERVERS | {"endpoints": [url], "requests": str(output.parent / "kept")}
    servers["loop_guard"] = {"enabled": False}
    usual = {
        "problems": str(problems),
        "solutions": str(solutions),
        "output": str(output),
        "completer": {"model": "stub", "servers": servers | settings.pop("servers", {})},
        "strategy": "zero_shot_arithmetic",
        "sampling": {"max_tokens": 200},
        "math_shepherd": {"num_rollouts": 7, "early_stop": False},
        "hold_out_pairs": False,
        "problems_per_batch": 3,
    }
    found = []
    for name, value in (usual | settings).items():
        found += [f"--{name}", value if isinstance(value, str) else json.dumps(value)]
    return found


def labels(folder):
    return {row.id: row for row in read_records(folder, LabelledSolution)}


def test_other_batches_ask_nothing_twice(given, stub, asked, tmp_path):
    asked()
    label.main(words(given, tmp_path / "three", stub.url))
    first = asked()
    assert len(first) > 4 * NUM
    # Each a rollout of its own, also in the later rounds of a prefix.
    assert len({one["body"]["seed"] for one in first}) == len(first)
    for size in (1, 5, 100):
        label.main(words(given, tmp_path / str(size), stub.url, problems_per_batch=size))
        assert asked() == []
        assert labels(tmp_path / str(size)) == labels(tmp_path / "three")


@pytest.mark.parametrize("count", [2, 3])
def test_other_shards_ask_nothing_twice(count, given, stub, asked, tmp_path):
    label.main(words(given, tmp_path / "one", stub.url))
    assert asked()
    for index in reversed(range(count)):
        label.main(words(given, tmp_path / "many", stub.url, shard=f"{index}/{count}"))
        with RequestStore(tmp_path / "kept", Shard(index, count)) as store:
            assert store.num_replies == 0
    assert asked() == []
    assert labels(tmp_path / "many") == labels(tmp_path / "one")


def test_another_seed_asks_for_other_rollouts(given, stub, asked, tmp_path):
    label.main(words(given, tmp_path / "one", stub.url))
    first = {one["body"]["seed"] for one in asked()}
    label.main(words(given, tmp_path / "other", stub.url, seed=1))
    other = {one["body"]["seed"] for one in asked()}
    assert other
    assert not first & other


def test_problems_of_the_same_words_share_their_rollouts_in_any_batch(stub, asked, tmp_path):
    twins = [problem(3), dataclasses.replace(problem(3), id="sum/twin")]
    problems = write_problems(tmp_path / "problems", twins)
    run_job(problems, tmp_path / "solutions", stub)
    given = problems, tmp_path / "solutions"
    asked()
    label.main(words(given, tmp_path / "together", stub.url, problems_per_batch=2))
    assert asked()
    label.main(words(given, tmp_path / "apart", stub.url, problems_per_batch=1))
    assert asked() == []
    assert labels(tmp_path / "together") == labels(tmp_path / "apart")


def test_what_failed_requests_may_have_cost_is_noted_over_all_starts_and_said(
    given, tmp_path, capsys
):
    output = tmp_path / "labels"
    # Replies that break off, some of them in each start.
    with threaded_stub(
        answer="arithmetic", faults=lambda n, _: "reset_mid_body" if n % 9 == 5 else None
    ) as one:
        command = words(given, output, one.url, servers={"price": "o1"})
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(StoreWriter, "append", full_after(1))
            with pytest.raises(StoreError, match="full"):
                label.main(command)
        label.main(command)
    [manifest] = read_manifests(output)
    with RequestStore(tmp_path / "kept") as store:
        assert Ledger(**manifest["notes"]["lost"]) == store.lost
        assert store.lost.dollars > 0
        said = f"  {in_dollars(store.lost.dollars)} lost in failed requests\n"
    assert capsys.readouterr().out.endswith(said)


def full_after(count):
    """``append`` on a disk that is full after so many batches."""
    append, calls = StoreWriter.append, itertools.count()

    def limited(self, *args, **kwargs):
        if next(calls) >= count:
            raise StoreError("full")
        append(self, *args, **kwargs)

    return limited


class Noting:
    """A generator that notes what it is asked for."""

    name = "noting"

    def __init__(self):
        self.calls = []

    def generate(self, prompts, params, *, seed):
        self.calls.append((list(prompts), params.n, seed))
        return [[Generation("Answer: 1", "stop", 1, 1)] * params.n for _ in prompts]


def rollouts_by(generator):
    one = dataclasses.replace(tiny_problem(), verifier="integer")
    plain = Strategy("plain", 1, "the problem", "text", text="{problem}\n")
    return GeneratorRollouts(
        generator,
        {one.id: one},
        strategy=plain,
        params=SamplingParams(),
        answer_pattern="^Answer: (.+)$",
        seed=5,
    )


async def seeds_of_rounds(*rounds, keeps_answers=False):
    """The seeds by prompt, after these rounds of (steps kept, n)."""
    generator = Noting()
    generator.keeps_answers = keeps_answers
    rollouts = rollouts_by(generator)
    one = tiny_solution(tiny_problem(), ["Step 1: a", "Step 2: b", "Answer: 1"], 0)
    for round_ in rounds:
        results = await rollouts.sample_many([(one, kept, n) for kept, n in round_])
        assert [len(group) for group in results] == [n for _, n in round_]
    found = {}
    for prompts, n, seed in generator.calls:
        for prompt in prompts:
            found.setdefault(prompt.count("Step"), []).append((n, seed))
    return found


def test_the_seed_is_of_the_rollouts_had_before_and_not_of_the_company():
    alone = asyncio.run(seeds_of_rounds([(1, 2)], [(1, 4)], keeps_answers=True))
    company = asyncio.run(
        seeds_of_rounds([(2, 2)], [(2, 1), (1, 2)], [(2, 2), (1, 4)], keeps_answers=True)
    )
    assert company[1] == alone[1]
    assert [n for n, _ in company[1]] == [2, 4]
    assert company[1][0][1] == company[2][0][1] != company[1][1][1]


def test_a_prefix_that_is_asked_for_twice_in_a_call_gets_rollouts_of_its_own():
    (first, second) = asyncio.run(seeds_of_rounds([(1, 2), (1, 2)], keeps_answers=True))[1]
    assert first[1] != second[1]


def test_without_kept_answers_no_two_calls_have_the_same_seed():
    found = asyncio.run(seeds_of_rounds([(1, 2)], [(2, 2)], [(1, 2), (2, 1)]))
    seeds = [seed for rows in found.values() for _, seed in rows]
    assert len(set(seeds)) == len(seeds) == 4


def test_half_a_letter_of_a_text_does_not_reach_a_rollout():
    class Half(Noting):
        def generate(self, prompts, params, *, seed):
            text = "\ud83d a \ud83d\ude00\nAnswer: 1"
            groups = super().generate(prompts, params, seed=seed)
            return [[dataclasses.replace(one, text=text) for one in group] for group in groups]

    one = tiny_solution(tiny_problem(), ["a", "b"])
    [[rollout]] = asyncio.run(rollouts_by(Half()).sample_many([(one, 1, 1)]))
    assert rollout.text == "\ufffd a \U0001f600\nAnswer: 1"
    assert rollout.text.encode()


def test_nothing_stops_a_rollout_unless_it_is_told():
    assert LabelConfig().sampling.stop == ()
