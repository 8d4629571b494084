"""The budget of the labelling job: never passed, and its end is no end for what was paid."""

import dataclasses
import json

import pytest

from data_gen.label_job import NoRollouts
from data_gen.labelers.budgeted import BudgetedGenerator
from data_gen.labelers.judge import JudgeLabeler, tagged
from data_gen.labelers.kept_answers import KeptAnswers
from data_gen.prompting import load_strategy
from data_gen.rollout_store import RolloutStore
from prm.errors import BudgetError, ConfigError
from prm.generation.budget import Budget, BudgetConfig, max_prompt_tokens
from prm.ledger import Ledger
from prm.prices import Price
from prm.protocols import Generation, SamplingParams
from prm.store import read_manifests
from tests.label_setup import Scripted, data, rows, run_job, stores, words
from tests.sample_setup import SERVERS, problem, threaded_stub
from tests.tiny import tiny_problem, tiny_solution

SMALL = {"math_shepherd": {"num_rollouts": 4}, "sampling": {"max_tokens": 8}}


@pytest.fixture(scope="module")
def given(tmp_path_factory):
    return stores(tmp_path_factory.mktemp("given"), 12)


@pytest.fixture(scope="module")
def whole(given, tmp_path_factory):
    output = tmp_path_factory.mktemp("whole") / "labels"
    run_job(given, output, **SMALL)
    return output


def manifest(output):
    return read_manifests(output)[0]


def spent(output):
    ledger = manifest(output)["ledger"]
    return ledger["prompt_tokens"] + ledger["generated_tokens"]


def test_the_end_of_the_budget_leaves_honest_partial_labels(given, whole, tmp_path, capsys):
    output, limit = tmp_path / "labels", 900
    assert spent(whole) > 0
    run_job(given, output, budget={"tokens": limit}, **SMALL)
    out = capsys.readouterr().out
    assert "the budget (900 tokens) has ended" in out
    found = manifest(output)
    assert 0 < spent(output) <= limit
    assert found["state"] == "done"
    assert found["in"] == 36 == found["out"] + found["skipped"]["budget"]
    partial = rows(output)
    assert {row.stop_reason for row in partial} >= {"budget"}
    for row in partial:
        if row.stop_reason == "budget":
            assert row.first_error == {}
            assert None in [label.hard for label in row.labels]


def test_a_larger_budget_goes_on_and_pays_for_nothing_twice(given, whole, tmp_path):
    output, limits, total = tmp_path / "labels", (700, 1200, 0), 0
    for limit in limits:
        generator = run_job(given, output, budget={"tokens": limit}, **SMALL)
        assert generator.calls
        total += sum(count for _, count in generator.calls)
    found = manifest(output)
    assert "budget" not in found["notes"]
    assert found["skipped"] == {}
    assert found["out"] == 36
    assert found["ledger"]["generated_tokens"] == 5 * total
    # The same counts as without any budget, of other draws.
    assert {r.id for r in rows(output)} == {r.id for r in rows(whole)}


def test_the_same_or_a_smaller_budget_changes_nothing(given, tmp_path):
    output = tmp_path / "labels"
    run_job(given, output, budget={"tokens": 700}, **SMALL)
    before = data(output)
    for limit in (700, 600):
        assert run_job(given, output, budget={"tokens": limit}, **SMALL).calls == []
        assert data(output) == before


def test_a_budget_that_is_large_enough_changes_no_label(given, whole, tmp_path):
    run_job(given, tmp_path / "labels", budget={"tokens": 10**9}, **SMALL)
    assert data(tmp_path / "labels") == data(whole)


def test_each_shard_has_its_part_also_after_another_number_of_shards(given, tmp_path):
    output = tmp_path / "labels"
    run_job(given, output, budget={"tokens": 2000}, shard="0/2", **SMALL)
    first = spent(output)
    assert 0 < first <= 1000
    # What one of two has spent is known to each of three, with its part.
    third = tmp_path / "other"
    kept = str(tmp_path / "labels-rollouts")
    run_job(given, third, budget={"tokens": 2000}, shard="0/3", rollouts=kept, **SMALL)
    assert spent(third) <= 2000 // 3 - first // 3


def test_a_limit_in_dollars_needs_a_price(given, tmp_path):
    with pytest.raises(ConfigError, match="every price is 0"):
        run_job(given, tmp_path / "labels", budget={"dollars": 1}, **SMALL)


def test_servers_are_limited_by_the_same_budget_in_dollars(given, tmp_path):
    from data_gen import label

    output = tmp_path / "labels"
    with threaded_stub(answer="arithmetic") as stub:
        servers = SERVERS | {"endpoints": [stub.url], "price": "o1"}
        settings = {
            "completer": {"model": "stub", "servers": servers},
            "strategy": "zero_shot_arithmetic",
            "sampling": {"max_tokens": 60},
        }
        label.main(words(given, output, budget={"dollars": 0.1}, **settings))
        found = manifest(output)
        assert 0 < found["ledger"]["dollars"] <= 0.1
        assert found["skipped"]["budget"] > 0
        asked = stub.counts["requests"]
        label.main(words(given, output, budget={"dollars": 50}, **settings))
        assert stub.counts["requests"] > asked
        assert manifest(output)["skipped"] == {}
        again = stub.counts["requests"]
        label.main(words(given, tmp_path / "again", **settings, rollouts=f"{output}-rollouts"))
        assert stub.counts["requests"] == again


def test_a_judge_whose_budget_ends_leaves_the_rest_for_the_next_start(given, tmp_path):
    settings = {
        "method": "judge",
        "judge": {"votes": 2, "sampling": {"max_tokens": 8}},
        "completer": {"max_rows": 4},
    }
    output = tmp_path / "labels"
    # The bytes of a prompt are reserved; what it costs is ten tokens.
    asked = load_strategy("first_error").render(problem(0), solution=tagged(["a"] * 8))
    one = run_job(given, output, budget={"tokens": max_prompt_tokens(asked) + 120}, **settings)
    found = manifest(output)
    assert one.calls
    assert 0 < found["skipped"]["budget"] <= 36
    two = run_job(given, output, budget={"tokens": 0}, **settings)
    assert manifest(output)["skipped"] == {}
    alone = run_job(given, tmp_path / "alone", **settings)
    assert sum(n for _, n in one.calls + two.calls) == sum(n for _, n in alone.calls)


def test_answers_of_a_judge_on_servers_are_counted_once_over_all_starts(given, tmp_path):
    from data_gen import label

    kept = str(tmp_path / "kept")
    with threaded_stub(answer="arithmetic") as stub:
        servers = SERVERS | {"endpoints": [stub.url]}
        settings = {
            "method": "judge",
            "judge": {"votes": 2, "sampling": {"max_tokens": 8}},
            "completer": {"model": "stub", "servers": servers},
            "rollouts": kept,
        }
        label.main(words(given, tmp_path / "one", **settings))
        first, asked = spent(tmp_path / "one"), stub.counts["requests"]
        assert first > 0
        # Enough for what was paid for, and for no answer more.
        limit = {"tokens": first + 1}
        label.main(words(given, tmp_path / "two", budget=limit, **settings))
        assert stub.counts["requests"] == asked
    assert manifest(tmp_path / "two")["skipped"] == {}
    assert spent(tmp_path / "two") == first
    assert data(tmp_path / "two") == data(tmp_path / "one")


class FailsOnce(Scripted):
    """Keeps its answers; the last text of its first call could not be had."""

    keeps_answers = True

    def generate(self, prompts, params, *, seed):
        texts = super().generate(prompts, params, seed=seed)
        if len(self.calls) == 1:
            texts[-1][-1] = Generation("", "error", 0, 0)
        return texts


def kept_answers(store, generator, max_rows=4):
    return KeptAnswers(generator, store, owner="a", kind="judge", max_rows=max_rows)


def test_a_prompt_with_a_text_that_failed_is_asked_again_and_no_other(tmp_path):
    generator = FailsOnce()
    with RolloutStore(tmp_path, settings={}) as store:
        first = kept_answers(store, generator).generate(PROMPTS, PARAMS, seed=0)
        second = kept_answers(store, generator).generate(PROMPTS, PARAMS, seed=0)
    assert first[:-1] == second[:-1]
    assert [count for _, count in generator.calls] == [2 * len(PROMPTS), 2]
    assert all(text.finish_reason == "stop" for text in second[-1])


def test_other_rows_and_another_company_find_the_answers_and_another_make_does_not(tmp_path):
    generator = Scripted()
    with RolloutStore(tmp_path, settings={}) as store:
        found = kept_answers(store, generator).generate(PROMPTS[:4], PARAMS, seed=0)
        calls = len(generator.calls)
        again = kept_answers(store, generator, 2).generate(PROMPTS[2:4], PARAMS, seed=0)
        assert again == found[2:]
        assert len(generator.calls) == calls
        other = KeptAnswers(
            generator, store, owner="a", kind="judge", max_rows=4, made_with="revision 2"
        )
        other.generate(PROMPTS[:1], PARAMS, seed=0)
        assert len(generator.calls) == calls + 1


def test_what_was_answered_before_the_budget_ended_is_kept_and_used(tmp_path):
    worst = max_prompt_tokens(PROMPTS[0]) + 2 * 8
    with RolloutStore(tmp_path, settings={}) as store:
        short = kept_answers(store, budgeted(worst + 25), max_rows=100)
        found = short.generate_some(PROMPTS, PARAMS, seed=0)
        had = sum(map(bool, found))
        assert 0 < had < len(PROMPTS)
        assert store.spent()["judge"] == short.ledger
        assert short.ledger.tokens == had * (10 + 2 * 5)
        with pytest.raises(BudgetError, match=f"no room for {len(PROMPTS) - had} more"):
            kept_answers(store, budgeted(1)).generate(PROMPTS, PARAMS, seed=0)
        plenty = budgeted(10**6)
        whole = kept_answers(store, plenty).generate(PROMPTS, PARAMS, seed=0)
    assert sum(count for _, count in plenty.generator.calls) == 2 * (len(PROMPTS) - had)
    assert [group for group in found if group] == whole[:had]


def test_a_judge_uses_the_answers_there_was_room_for(tmp_path):
    pool = [
        tiny_solution(tiny_problem(), ["Calculate 1 + 2 - 3.", "b"]),
        tiny_solution(tiny_problem(), ["Calculate 1 + 2 - 3.", "b", "c"], 1),
    ]
    asked = load_strategy("first_error").render(tiny_problem(), solution=tagged(pool[1].steps))
    room = max_prompt_tokens(asked) + 2 * 8 + 1
    problems = {pool[0].problem_id: tiny_problem()}
    labeler = JudgeLabeler(2, sampling=SamplingParams(max_tokens=8), problems=problems)
    rollouts = NoRollouts(problems)
    with RolloutStore(tmp_path, settings={}) as store:
        model = kept_answers(store, budgeted(room))
        labelled = dataclasses.replace(labeler, generator=model).label(pool, rollouts)
    assert [bool(one.opinions) for one in labelled] == [True, False]
    assert labelled[0].stop_reason != "budget"
    assert labelled[1].stop_reason == "budget"
    assert [label.hard for label in labelled[1].labels] == [None] * 3


def budgeted(tokens, spent=0):
    budget = Budget(BudgetConfig(tokens=tokens), Price(), Ledger(spent))
    return BudgetedGenerator(Scripted(), budget)


PROMPTS = [f"Calculate {n} + 1 - 1." for n in range(6)]
PARAMS = SamplingParams(n=2, max_tokens=8)


def test_only_what_surely_fits_is_asked_for():
    # A text of five tokens is reserved with eight, a prompt of ten with its bytes.
    worst = max_prompt_tokens(PROMPTS[0]) + 2 * 8
    one = budgeted(3 * worst + 1)
    found = one.generate_some(PROMPTS, PARAMS, seed=0)
    assert [len(group) for group in found] == [2, 2, 2, 0, 0, 0]
    assert one.budget.spent.tokens == one.ledger.tokens == 3 * (10 + 2 * 5)
    assert one.budget.reserved == (0, 0.0)
    assert not one.is_out
    # What was reserved and not used is there for others.
    assert [len(group) for group in one.generate_some(PROMPTS[3:], PARAMS, seed=1)][:2] == [2, 2]


def test_all_or_an_error_where_all_are_needed():
    one = budgeted(400)
    with pytest.raises(BudgetError, match="leaves no room for the next request: "):
        one.generate(PROMPTS * 5, PARAMS, seed=0)
    assert one.is_out
    assert one.budget.spent.tokens <= 400
    plenty = budgeted(10**6)
    assert plenty.generate(PROMPTS, PARAMS, seed=3) == Scripted().generate(PROMPTS, PARAMS, seed=3)


def test_what_earlier_starts_spent_counts():
    assert budgeted(1000, spent=990).generate_some(PROMPTS, PARAMS, seed=0) == [[]] * 6


def test_an_error_of_the_model_leaves_nothing_reserved():
    one = budgeted(10**6)
    one.generator = None
    with pytest.raises(AttributeError):
        one.generate_some(PROMPTS, PARAMS, seed=0)
    assert json.dumps(one.budget.reserved) == "[0, 0.0]"
