"""Portfolios, refinement and thinking, from the server's answers to the records."""

import functools
import re
import shlex
from collections import defaultdict

import pytest

from data_gen import sample
from data_gen.portfolio import spread
from data_gen.prompting import load_strategy
from prm.records import Problem
from prm.store import read_manifests, read_records
from prm.traces import join_trace
from tests import stub_answers
from tests.sample_setup import (
    CHECKOUT,
    counts,
    problem,
    run_job,
    solutions,
    sums,
    threaded_stub,
    wait_until,
    words,
)
from tests.stub_answers import answer_request

NUM = 4
PORTFOLIO = {"zero_shot": 2, "few_shot_cot": 1, "few_shot_arithmetic": 1, "plan_first": 1}


@pytest.fixture
def problems(tmp_path):
    return sums(tmp_path / "problems", NUM)


def asked(stub):
    """The prompts as they came, with the texts that the stub answers."""
    texts, options = defaultdict(list), stub.options
    answer = functools.partial(
        answer_request, mode=options.answer, prefill="vllm", think_words=options.think_words
    )
    for one in stub.requests:
        body = one["body"]
        prompt = body.get("prompt") or body["messages"][-1]["content"]
        texts[prompt].append(answer(body).choices[0].text)
    return texts


def prompt_of(strategy, number, seed=0):
    """The prompt as a server gets it."""
    made = load_strategy(strategy).render(problem(number), seed=seed)
    return made if isinstance(made, str) else made.messages[-1].content


def test_the_samples_are_spread_over_the_portfolio_and_asked_with_its_prompts(problems, tmp_path):
    with threaded_stub(answer="arithmetic", record=True) as stub:
        found = run_job(
            problems, tmp_path / "out", stub, strategies=PORTFOLIO, sampling={"n": 7}, seed=5
        )
        texts = asked(stub)
        paths = {one["path"] for one in stub.requests}
    assert paths == {"/v1/chat/completions", "/v1/completions"}
    order = spread(PORTFOLIO, 7)
    assert [one.strategy for one in found.values()] == [f"{name}/1" for name in order] * NUM
    for number in range(NUM):
        for name in PORTFOLIO:
            written = texts.pop(prompt_of(name, number, seed=5))
            mine = [found[f"sum/{number}#{k}"] for k, one in enumerate(order) if one == name]
            assert len(written) == len(mine)
            assert sorted("\n".join(one.steps) for one in mine) == sorted(written)
    assert texts == {}


def test_the_summary_tells_the_strategies_apart(problems, tmp_path, capsys):
    with threaded_stub(answer="arithmetic") as stub:
        run_job(problems, tmp_path / "out", stub, strategies=PORTFOLIO, servers={"price": "o1"})
    [manifest] = read_manifests(tmp_path / "out")
    rows = {one["strategy"]: one for one in manifest["notes"]["summary"]["strategies"]}
    expected = {f"{name}/1": spread(PORTFOLIO, 4).count(name) * NUM for name in PORTFOLIO}
    assert {name: row["num_samples"] for name, row in rows.items()} == expected
    dollars = [row["cost"]["dollars"] for row in rows.values()]
    assert sum(dollars) == pytest.approx(manifest["ledger"]["dollars"]) != 0
    output = capsys.readouterr().out
    assert all(name in output for name in rows)


def test_exemplars_are_drawn_for_each_problem_and_again_the_same(problems, tmp_path):
    shown = []
    for seed in (0, 0, 1):
        with threaded_stub(answer="boxed", record=True) as stub:
            settings = {"strategies": {"few_shot_cot": 1}, "sampling": {"n": 1}, "seed": seed}
            run_job(problems, tmp_path / str(len(shown)), stub, **settings)
            texts = sorted(asked(stub))
        shown.append([re.findall(r"Example \d\n\nProblem: (.*)", text) for text in texts])
    assert shown[0] == shown[1] != shown[2]
    assert len({tuple(one) for one in shown[0]}) > 1
    assert {len(one) for one in shown[0]} == {4}


def test_a_seed_of_the_run_is_no_seed_of_the_server_unless_asked_for(problems, tmp_path):
    for send in (False, True):
        with threaded_stub(answer="arithmetic", record=True) as stub:
            run_job(problems, tmp_path / str(send), stub, servers={"send_seed": send})
            seeds = [one["body"].get("seed") for one in stub.requests]
        assert len(set(seeds)) == (NUM * 4 if send else 1)
        assert (None in seeds) is not send


def checked(problem_text, number):
    """What a model says that checks a solution: its own words, then the solution anew."""
    chain = stub_answers._CHAIN.findall(problem_text)[-1]
    if "Your earlier solution" not in problem_text:
        return f"Step 1: {chain}\nAnswer: {number}"
    earlier = problem_text.split("Your earlier solution:\n\n")[1].split("\n\nFind and fix")[0]
    return f"Checked: {earlier!r}.\n\nNew solution:\nStep 1: {chain}\nAnswer: {number}"


@pytest.fixture
def critic(monkeypatch):
    """The stub answers as `checked` says, with a number that its hash decides."""

    def write(_mode, context, digest, _limit, _think_words):
        return checked(context[0], digest[0])

    monkeypatch.setattr(stub_answers, "_write", write)


@pytest.mark.usefixtures("critic")
@pytest.mark.parametrize("steps_from", ["text", "answer"])
def test_each_round_of_refinement_is_a_record_linked_to_its_parent(problems, tmp_path, steps_from):
    refine = {"refine": "find_and_fix", "refine_rounds": 2, "steps_from": steps_from}
    with threaded_stub(record=True) as stub:
        found = run_job(problems, tmp_path / "out", stub, **refine, sampling={"n": 2})
        texts = {text for several in asked(stub).values() for text in several}
    expected = [f"sum/{i}#{k}{r}" for i in range(NUM) for k in range(2) for r in ("", ".1", ".2")]
    assert list(found) == expected
    assert counts(tmp_path / "out") == (NUM * 6, NUM * 6, {})
    chains = {one.id: one.statement[10:-1] for one in read_records(problems, Problem)}
    for one in found.values():
        assert (
            "\n".join(one.steps) == f"Step 1: {chains[one.problem_id]}\nAnswer: {one.final_answer}"
        )
        if not one.round:
            assert (one.parent, one.strategy) == (None, "zero_shot_arithmetic/1")
            continue
        assert one.strategy == "find_and_fix/1"
        assert one.parent == one.id.rpartition(".")[0] + (".1" if one.round == 2 else "")
        whole = join_trace(one.steps, one.trace)
        assert whole in texts
        # What was refined is the parent's solution, without what it had to say of its own parent.
        assert whole.startswith(f"Checked: {chr(10).join(found[one.parent].steps)!r}.\n\nNew")
    [manifest] = read_manifests(tmp_path / "out")
    [row, _] = manifest["notes"]["summary"]["refinements"]
    assert sum(row["changes"].values()) == NUM * 2
    assert row["num_without_parent"] == 0


@pytest.mark.parametrize("reasoning", [False, True])
@pytest.mark.parametrize("guard", [True, False])
@pytest.mark.parametrize("steps_from", ["thinking", "answer", "text"])
def test_thoughts_become_steps_as_the_settings_say(
    problems, tmp_path, reasoning, guard, steps_from
):
    settings = {"steps_from": steps_from, "sampling": {"n": 2, "max_tokens": 2000}}
    settings |= {"servers": {"loop_guard": {"enabled": guard}}}
    with threaded_stub(answer="think", think_words=60, reasoning=reasoning, record=True) as stub:
        found = run_job(problems, tmp_path / "out", stub, **settings)
        texts = {text for several in asked(stub).values() for text in several}
    assert len(found) == len(texts) == NUM * 2
    for one in found.values():
        if steps_from == "text":
            whole = "\n".join(one.steps)
        else:
            whole = join_trace(one.steps, one.trace)
            assert "think>" not in "".join(one.steps)
        told, said = whole.split("</think>")
        if reasoning:
            # The server took the tags and the blanks beside them away.
            assert any(_squeezed(whole) == _squeezed(text) for text in texts)
        else:
            assert whole in texts
        part = told if steps_from == "thinking" else said
        assert steps_from == "text" or one.steps[-1] in part
        assert f"Answer: {one.final_answer}" in said
    if steps_from == "thinking":
        assert any(one.trace.corrections for one in found.values())


def _squeezed(text):
    return "".join(text.split())


def test_a_text_cut_off_in_thoughts_that_the_template_opened_has_no_answer(problems, tmp_path):
    # Texts without tags: answers, or thoughts that were cut off.
    step = {"answer_pattern": r"^Step (\d+)", "sampling": {"n": 2, "max_tokens": 8}}
    cut = step | {"opens_thinking": True}
    with threaded_stub(answer="boxed") as stub:
        said = run_job(problems, tmp_path / "said", stub, **step, steps_from="thinking")
        assert {one.finish_reason for one in said.values()} == {"length"}
        assert any(one.final_answer for one in said.values())
        thought = run_job(problems, tmp_path / "thought", stub, **cut, steps_from="thinking")
        assert [one.steps for one in thought.values()] == [one.steps for one in said.values()]
        assert {one.final_answer for one in thought.values()} == {None}
        command = words(problems, tmp_path / "answer", stub.url, **cut, steps_from="answer")
        sample.main(command)
    assert counts(tmp_path / "answer") == (NUM * 2, 0, {"no_steps": NUM * 2})


def test_where_the_server_keeps_the_thoughts_the_text_is_the_answer(problems, tmp_path):
    settings = {"opens_thinking": True, "steps_from": "answer", "answer_pattern": "boxed"}
    with threaded_stub(answer="boxed") as stub:
        found = run_job(problems, tmp_path / "out", stub, **settings, sampling={"n": 2})
    assert len(found) == NUM * 2
    assert {one.finish_reason for one in found.values()} == {"stop"}
    assert all(one.final_answer for one in found.values())


def test_thoughts_that_were_cut_off_are_not_refined(problems, tmp_path):
    settings = {"opens_thinking": True, "steps_from": "thinking", "refine": "find_and_fix"}
    settings |= {"refine_rounds": 1, "sampling": {"n": 2, "max_tokens": 8}}
    with threaded_stub(answer="boxed") as stub:
        found = run_job(problems, tmp_path / "out", stub, **settings)
        assert stub.counts["requests"] == NUM * 2
    assert {one.round for one in found.values()} == {0}
    assert counts(tmp_path / "out") == (NUM * 4, NUM * 2, {"nothing_to_refine": NUM * 2})


def test_the_command_of_the_readme_gives_solutions(problems, tmp_path, monkeypatch):
    text = (CHECKOUT / "README.md").read_text()
    block = text.split("## Sample from servers")[1].split("```bash\n")[1].split("```")[0]
    [command] = re.findall(r"^python -m data_gen.sample (.*?)\n(?=\S)", block, re.M | re.S)
    monkeypatch.chdir(tmp_path)
    with threaded_stub(answer="think", model="Qwen/QwQ-32B") as stub:
        given = command.replace("\\\n", " ").replace("http://localhost:8000/v1", stub.url)
        given = given.replace("runs/qwq/problems", str(problems))
        sample.main(shlex.split(given))
    found = solutions(tmp_path / "runs/qwq/solutions")
    assert len(found) == NUM * 8
    assert {one.finish_reason for one in found.values()} == {"stop"}
    # The thoughts of this server have empty lines in them.
    assert all(one.trace.before.count("\n\n") > 1 for one in found.values())


def test_dollars_are_those_that_the_endpoints_cost(problems, tmp_path):
    prices = {"cheap": {"prompt": 1, "generated": 2}, "dear": {"prompt": 10, "generated": 200}}
    with threaded_stub(answer="arithmetic") as one, threaded_stub(answer="arithmetic") as other:
        endpoints = [{"url": one.url, "price": "cheap"}, {"url": other.url, "price": "dear"}]
        servers = {"endpoints": endpoints, "prices": prices}
        run_job(problems, tmp_path / "out", servers=servers, strategies=PORTFOLIO)
        assert min(stub.counts["requests"] for stub in (one, other)) > 0
        billed = sum(
            stub.counts["prompt_tokens"] * price["prompt"]
            + stub.counts["generated_tokens"] * price["generated"]
            for stub, price in ((one, prices["cheap"]), (other, prices["dear"]))
        )
    [manifest] = read_manifests(tmp_path / "out")
    summary = manifest["notes"]["summary"]
    assert manifest["ledger"]["dollars"] == pytest.approx(billed / 1e6)
    assert summary["total"]["cost"]["dollars"] == pytest.approx(billed / 1e6)
    parts = [row["cost"]["dollars"] for row in summary["strategies"]]
    assert sum(parts) == pytest.approx(billed / 1e6)
    assert min(parts) > 0


def test_boxed_answers_are_found_wherever_they_stand(problems, tmp_path):
    with threaded_stub(answer="boxed", record=True) as stub:
        found = run_job(
            problems, tmp_path / "out", stub, answer_pattern="boxed", strategies={"zero_shot": 1}
        )
        texts = [text for several in asked(stub).values() for text in several]
    boxes = sorted(re.findall(r"boxed\{(\d+)\}", " ".join(texts)))
    assert sorted(one.final_answer for one in found.values()) == boxes
    assert len(boxes) == NUM * 4


def test_a_text_that_repeats_itself_is_stopped_and_says_so(problems, tmp_path, capsys):
    settings = {"sampling": {"n": 1, "max_tokens": 5000}, "strategies": {"zero_shot": 1}}
    with threaded_stub(answer="loop", chunk_delay_ms=0.01) as stub:
        found = run_job(problems, tmp_path / "out", stub, **settings)
        wait_until(lambda: stub.counts["disconnected"] == NUM)
    for one in found.values():
        assert one.finish_reason == "loop"
        assert one.usage.generated_tokens < 1500
        assert one.usage.saved_tokens == 5000 - one.usage.generated_tokens
    [manifest] = read_manifests(tmp_path / "out")
    assert manifest["notes"]["summary"]["total"]["num_loops"] == NUM
    assert "loops" in capsys.readouterr().out
