"""The sampling job against servers: nothing is asked twice, whatever is run again."""

import dataclasses
import shutil
from collections import Counter

import pytest
import yaml

from data_gen import sample
from prm.errors import StoreError
from prm.generation.request_store import RequestStore
from prm.store import Shard, read_manifests
from tests.sample_setup import (
    counts,
    data,
    num_kept,
    problem,
    run_job,
    solutions,
    start,
    sums,
    threaded_stub,
    wait_until,
    words,
    write_problems,
)
from tests.stub_server import Fault

NUM = 5
PORTFOLIO = {"zero_shot_arithmetic": 2, "few_shot_arithmetic": 1}


@pytest.fixture(scope="module")
def stub():
    with threaded_stub(answer="arithmetic", record=True) as server:
        yield server


@pytest.fixture
def problems(tmp_path):
    return sums(tmp_path / "problems", NUM)


@pytest.fixture
def asked(stub):
    """How many requests the stub has had since the last look."""
    seen = stub.counts["requests"]

    def look():
        nonlocal seen
        before, seen = seen, stub.counts["requests"]
        return seen - before

    return look


def alike(one):
    """A solution without the number of samples that were asked for beside it."""
    return dataclasses.replace(one, sampling={**one.sampling, "n": None})


def test_every_problem_gets_its_samples_and_the_costs_add_up(problems, stub, asked, tmp_path):
    found = run_job(problems, tmp_path / "out", stub)
    assert list(found) == [f"sum/{i}#{k}" for i in range(NUM) for k in range(4)]
    assert asked() == num_kept(tmp_path / "out") == NUM * 4
    assert counts(tmp_path / "out") == (NUM * 4, NUM * 4, {})
    assert len({one.steps for one in found.values()}) > NUM
    [manifest] = read_manifests(tmp_path / "out")
    usages = [one.usage for one in found.values()]
    assert manifest["ledger"]["generated_tokens"] == sum(one.generated_tokens for one in usages)
    assert manifest["ledger"]["prompt_tokens"] == sum(one.prompt_tokens for one in usages)
    for one in found.values():
        assert (one.model, one.strategy, one.seed) == ("stub", "zero_shot_arithmetic/1", None)
        assert one.final_answer == one.steps[-1].removeprefix("Answer: ")


def test_a_second_start_asks_nothing_and_says_done(problems, stub, asked, tmp_path, capsys):
    run_job(problems, tmp_path / "out", stub)
    before, output = data(tmp_path / "out"), capsys.readouterr().out
    assert asked() == NUM * 4
    run_job(problems, tmp_path / "out", stub)
    again = capsys.readouterr().out
    assert asked() == 0
    assert data(tmp_path / "out") == before
    assert f"sample: {NUM * 4} of {NUM * 4} samples to do" in output
    assert "to do" not in again
    closing = f"sample: in {NUM * 4} = out {NUM * 4} + skipped 0"
    assert closing in output
    assert closing in again
    # The summary stands in both.
    assert again[: again.index(closing)] in output


def test_records_that_were_deleted_are_made_again_from_the_kept_answers(
    problems, stub, asked, tmp_path
):
    run_job(problems, tmp_path / "out", stub)
    before = data(tmp_path / "out")
    asked()
    shutil.rmtree(tmp_path / "out")
    run_job(problems, tmp_path / "out", stub)
    assert asked() == 0
    assert data(tmp_path / "out") == before


def test_more_samples_are_refused_until_the_records_may_be_remade(problems, stub, asked, tmp_path):
    out, more = tmp_path / "out", {"sampling": {"n": 8}, "strategies": PORTFOLIO}
    old = run_job(problems, out, stub, **more | {"sampling": {"n": 4}})
    before = data(out)
    asked()
    with pytest.raises(StoreError, match=r"'n': 4.*'n': 8.*--remake true"):
        run_job(problems, out, stub, **more)
    assert asked() == 0
    assert data(out) == before
    new = run_job(problems, out, stub, **more, remake=True)
    assert asked() == NUM * 4
    assert len(new) == NUM * 8
    assert {id: alike(new[id]) for id in old} == {id: alike(one) for id, one in old.items()}


def test_only_added_problems_are_asked_in_any_order(problems, stub, asked, tmp_path):
    out = tmp_path / "out"
    old = run_job(problems, out, stub)
    asked()
    numbers = [7, *reversed(range(NUM)), 6]
    more = write_problems(tmp_path / "more", [problem(number) for number in numbers])
    with pytest.raises(StoreError, match=r"another inputs \(\{'problems': '\w+'\}, now"):
        run_job(more, out, stub)
    new = run_job(more, out, stub, remake=True)
    assert asked() == 2 * 4
    assert [one.problem_id for one in new.values()] == [f"sum/{i}" for i in numbers for _ in "1234"]
    assert {id: new[id] for id in old} == old


def texts(found, strategy):
    """How often each text was written with a strategy, by problem."""
    chosen = (one for one in found.values() if one.strategy == f"{strategy}/1")
    return Counter((one.problem_id, one.steps) for one in chosen)


def test_other_weights_ask_only_for_what_they_add(problems, stub, asked, tmp_path):
    out, settings = tmp_path / "out", {"sampling": {"n": 6}}
    old = run_job(problems, out, stub, strategies=PORTFOLIO, **settings)
    asked()
    # 4 and 2 of each problem before, 2 and 4 now.
    turned = {"few_shot_arithmetic": 2, "zero_shot_arithmetic": 1}
    new = run_job(problems, out, stub, strategies=turned, **settings, remake=True)
    assert asked() == NUM * 2
    assert num_kept(out) == NUM * 8
    few, zero = ([texts(one, name) for one in (old, new)] for name in sorted(PORTFOLIO))
    assert [one.total() for one in (*few, *zero)] == [NUM * 2, NUM * 4, NUM * 4, NUM * 2]
    assert few[0] < few[1]
    assert zero[1] < zero[0]
    back = run_job(problems, out, stub, strategies=PORTFOLIO, **settings, remake=True)
    assert asked() == 0
    assert back == old


def test_other_weights_ask_no_refinement_twice(problems, stub, asked, tmp_path):
    out, refine = tmp_path / "out", {"refine": "find_and_fix", "refine_rounds": 2}
    run_job(problems, out, stub, strategies=PORTFOLIO, **refine)
    assert asked() == NUM * 4 * 3
    # The same samples of each strategy, in another order.
    turned = {"few_shot_arithmetic": 1, "zero_shot_arithmetic": 2}
    run_job(problems, out, stub, strategies=turned, **refine, sampling={"n": 3}, remake=True)
    assert asked() == 0


def strategy_file(path, name, text, version=1):
    row = {"name": name, "version": version, "about": "mine", "kind": "text", "text": text}
    path.write_text(yaml.safe_dump(row))
    return str(path)


TEXT = "Problem: {problem}\n"


def test_a_renamed_strategy_of_the_same_text_asks_nothing(problems, stub, asked, tmp_path):
    out = tmp_path / "out"
    before = strategy_file(tmp_path / "mine.yaml", "mine", TEXT)
    old = run_job(problems, out, stub, strategies={before: 1})
    asked()
    now = strategy_file(tmp_path / "ours.yaml", "ours", TEXT)
    with pytest.raises(StoreError, match="mine.yaml.*ours.yaml.*--remake true"):
        run_job(problems, out, stub, strategies={now: 1})
    new = run_job(problems, out, stub, strategies={now: 1}, remake=True)
    assert asked() == 0
    assert {id: dataclasses.replace(one, strategy="mine/1") for id, one in new.items()} == old


@pytest.mark.parametrize("version", [1, 2])
def test_an_edited_prompt_is_asked_anew_and_named(version, problems, stub, asked, tmp_path):
    out = tmp_path / "out"
    path = strategy_file(tmp_path / "mine.yaml", "mine", TEXT)
    strategies = {path: 1, "few_shot_arithmetic": 1}
    run_job(problems, out, stub, strategies=strategies)
    assert asked() == NUM * 4
    strategy_file(tmp_path / "mine.yaml", "mine", "Please. " + TEXT, version)
    with pytest.raises(StoreError) as caught:
        run_job(problems, out, stub, strategies=strategies)
    assert f"prompt mine/{version}" in str(caught.value)
    assert "few_shot_arithmetic/1" not in str(caught.value)
    assert asked() == 0
    found = run_job(problems, out, stub, strategies=strategies, remake=True)
    assert asked() == NUM * 2
    assert sum(one.strategy == f"mine/{version}" for one in found.values()) == NUM * 2


def test_another_number_of_shards_asks_nothing_twice(stub, asked, tmp_path):
    problems = sums(tmp_path / "problems", 9)
    requests = {"servers": {"requests": str(tmp_path / "kept")}}
    one = run_job(problems, tmp_path / "one", stub, **requests)
    assert asked() == 9 * 4
    sizes = []
    for index in (2, 0, 1):
        shard = {"shard": f"{index}/3"} | requests
        sample.main(words(problems, tmp_path / "three", stub.url, **shard))
        with RequestStore(tmp_path / "kept", Shard(index, 3)) as store:
            sizes.append(store.num_replies)
    assert asked() == sum(sizes) == 0
    assert solutions(tmp_path / "three") == one
    assert counts(tmp_path / "three") == counts(tmp_path / "one") == (36, 36, {})


def test_other_sampling_parameters_and_seeds_are_asked_anew(problems, stub, asked, tmp_path):
    out = tmp_path / "out"
    run_job(problems, out, stub)
    asked()
    for change in (
        {"sampling": {"temperature": 0.5}},
        {"seed": 1},
        {"servers": {"revision": "b"}},
        {"servers": {"extra": {"top_k": 20}}},
    ):
        run_job(problems, out, stub, **change, remake=True)
        assert asked() == NUM * 4
    assert stub.requests[-1]["body"]["top_k"] == 20
    run_job(problems, out, stub, remake=True)
    assert asked() == 0


def test_settings_that_say_only_how_it_runs_change_no_record(problems, stub, asked, tmp_path):
    out = tmp_path / "out"
    run_job(problems, out, stub)
    before = data(out)
    asked()
    other = {"price": "o1", "budget": {"tokens": 10**9}, "tries": 2, "timeout": 9, "patience": 9}
    with threaded_stub(answer="arithmetic") as elsewhere:
        run_job(problems, out, elsewhere, servers=other, wandb_project="")
        run_job(problems, out, elsewhere, servers=other, remake=True)
        assert elsewhere.counts["requests"] == asked() == 0
    assert data(out) == before


def test_problems_of_the_same_words_share_the_answers_to_them(stub, asked, tmp_path):
    twins = [problem(0, "Calculate 1 + 1."), problem(1, "Calculate 1 + 1.")]
    store = write_problems(tmp_path / "twins", twins)
    found = run_job(store, tmp_path / "out", stub)
    assert asked() == 4
    for k in range(4):
        assert found[f"sum/0#{k}"].steps == found[f"sum/1#{k}"].steps


def test_a_shard_that_calls_itself_done_but_lacks_samples_is_an_error(problems, stub, tmp_path):
    out = tmp_path / "out"
    run_job(problems, out, stub)
    [journal] = out.glob("*.journal")
    journal.write_text("".join(journal.read_text().splitlines(keepends=True)[:-1]))
    with pytest.raises(StoreError, match="16 samples are accounted for, the problems ask for 20"):
        run_job(problems, out, stub)
    assert len(run_job(problems, out, stub, remake=True)) == NUM * 4


def test_one_slow_answer_does_not_hold_back_the_other_batches(stub, tmp_path):
    problems = sums(tmp_path / "problems", 30)
    slow = threaded_stub(answer="arithmetic", faults=[Fault("slow_first_byte", 60.0)])
    with slow as server:
        endpoints = [{"url": server.url, "concurrency": 8}]
        servers = {"endpoints": endpoints, "timeout": 90}
        command = words(problems, tmp_path / "out", servers=servers, problems_per_batch=8)
        with start(command) as process:
            wait_until(lambda: server.counts["answered"] == 30 * 4 - 1)
            assert server.counts["in_flight"] == 1
            process.kill()


def test_without_the_guard_several_samples_are_one_request(problems, stub, asked, tmp_path):
    out, off = tmp_path / "out", {"loop_guard": {"enabled": False}, "send_seed": False}
    found = run_job(problems, out, stub, servers=off)
    assert asked() == NUM
    assert len(found) == num_kept(out) == NUM * 4
    [manifest] = read_manifests(out)
    prompts = {one.problem_id: one.usage.prompt_tokens for one in found.values()}
    # Each says what it read, the ledger what was paid for.
    assert manifest["ledger"]["prompt_tokens"] == sum(prompts.values())
    run_job(problems, out, stub, servers=off, sampling={"n": 6}, remake=True)
    assert asked() == NUM
    assert num_kept(out) == NUM * 6
