"""What the sampling job does about requests without an answer, and about the end of its budget."""

import dataclasses
import itertools
from collections import Counter

import pytest

from data_gen import sample
from prm.config import run
from prm.errors import BudgetError, GenerationError
from prm.generation.request_store import RequestStore
from prm.prices import in_dollars
from prm.store import read_json
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
    words,
    write_problems,
)

NUM = 6
POISON = "Calculate 100000 + 1."
PRICES = {"test": {"prompt": 0, "generated": 1000}}


@pytest.fixture
def problems(tmp_path):
    return sums(tmp_path / "problems", NUM)


@pytest.fixture
def poisoned(tmp_path):
    """Problems of which one breaks the server, in the middle."""
    several = [problem(0), problem(1), problem(2, POISON), problem(3)]
    return write_problems(tmp_path / "poisoned", several)


def test_what_no_server_can_answer_is_set_aside_and_counted_by_its_reason(
    poisoned, tmp_path, capsys
):
    out = tmp_path / "out"
    with threaded_stub(answer="arithmetic", poison=POISON) as stub:
        found = run_job(poisoned, out, stub, servers={"tries": 2}, sampling={"n": 2})
        assert stub.counts["requests"] == 3 * 2 + 2 * 2
    assert {one.problem_id for one in found.values()} == {"sum/0", "sum/1", "sum/3"}
    assert counts(out) == (8, 6, {"gave_up_server_error": 2})
    closing = "sample: in 8 = out 6 + skipped 2 (2 gave_up_server_error)"
    output = capsys.readouterr().out
    assert closing in output
    assert "  2 gave_up_server_error, for example: HTTP 500: " in output
    assert "warning" not in output
    detail = notes(out)["set_aside"]["gave_up_server_error"]
    assert detail.startswith("HTTP 500: ")


def test_a_request_that_servers_refuse_is_set_aside_at_once(problems, tmp_path):
    long = write_problems(tmp_path / "long", [problem(0), problem(1, "Calculate 1" + " + 1" * 99)])
    with threaded_stub(answer="arithmetic", max_context=80) as stub:
        run_job(long, tmp_path / "out", stub)
    assert counts(tmp_path / "out") == (8, 4, {"bad_request": 4})


def test_what_was_set_aside_is_asked_again_only_when_the_records_are_remade(
    poisoned, tmp_path, capsys
):
    out, servers = tmp_path / "out", {"tries": 1}
    with threaded_stub(answer="arithmetic", poison=POISON) as stub:
        run_job(poisoned, out, stub, servers=servers)
    before = data(out)
    with threaded_stub(answer="arithmetic") as well:
        run_job(poisoned, out, well, servers=servers)
        assert well.counts["requests"] == 0
        assert data(out) == before
        capsys.readouterr()
        found = run_job(poisoned, out, well, servers=servers, remake=True)
        assert well.counts["requests"] == 4
    assert "4 requests that were set aside are asked again" in capsys.readouterr().out
    assert len(found) == 16
    assert counts(out) == (16, 16, {})
    with threaded_stub(answer="arithmetic") as stub:
        assert run_job(poisoned, tmp_path / "undisturbed", stub) == found


@pytest.mark.parametrize("rounds", [1, 2])
def test_what_refines_nothing_is_counted(poisoned, tmp_path, rounds):
    out, refine = tmp_path / "out", {"refine": "find_and_fix", "refine_rounds": rounds}
    with threaded_stub(answer="arithmetic", poison=POISON) as stub:
        found = run_job(poisoned, out, stub, **refine, servers={"tries": 1})
        assert stub.counts["requests"] == 12 * (1 + rounds) + 4
    skipped = {"gave_up_server_error": 4, "nothing_to_refine": 4 * rounds}
    assert counts(out) == (16 * (1 + rounds), 12 * (1 + rounds), skipped)
    assert {one.problem_id for one in found.values()} == {"sum/0", "sum/1", "sum/3"}


def test_a_refinement_that_is_set_aside_has_a_parent_but_no_child(poisoned, tmp_path):
    out, refine = tmp_path / "out", {"refine": "find_and_fix", "refine_rounds": 2}
    # Only the prompts of refinements are as long.
    with threaded_stub(answer="arithmetic", max_context=80) as stub:
        found = run_job(poisoned, out, stub, **refine)
    assert counts(out) == (48, 16, {"bad_request": 16, "nothing_to_refine": 16})
    assert {one.round for one in found.values()} == {0}


def test_a_text_without_any_step_is_counted_and_without_a_solution_there_is_a_warning(
    problems, tmp_path, capsys
):
    with threaded_stub(answer="think") as stub:
        cut = {"steps_from": "answer", "sampling": {"n": 2, "max_tokens": 20}}
        sample.main(words(problems, tmp_path / "out", stub.url, **cut))
    assert counts(tmp_path / "out") == (NUM * 2, 0, {"no_steps": NUM * 2})
    [warning] = warnings(capsys.readouterr().out)
    assert warning == f"warning: no solution came of {NUM * 2} samples: {NUM * 2} no_steps"


def test_with_nothing_but_refusals_the_warning_tells_why(problems, tmp_path, capsys):
    with threaded_stub(answer="arithmetic", max_context=2) as stub:
        sample.main(words(problems, tmp_path / "out", stub.url, sampling={"n": 1}))
    output = capsys.readouterr().out
    assert warnings(output) == [f"warning: no solution came of {NUM} samples: {NUM} bad_request"]
    assert f"  {NUM} bad_request, for example: HTTP 400: This model's maximum context" in output
    # A second start has nothing to do, and says the same.
    with threaded_stub(answer="arithmetic") as stub:
        sample.main(words(problems, tmp_path / "out", stub.url, sampling={"n": 1}))
    assert f"  {NUM} bad_request, for example: HTTP 400" in capsys.readouterr().out


def notes(out):
    return read_json(out / "shard-00000-of-00001.json")["notes"]


def warnings(output):
    return [line for line in output.splitlines() if line.startswith("warning:")]


def budget(**limits):
    return {"budget": limits, "price": "test", "prices": PRICES}


# A sample has 16 tokens, and up to 40 may be written: 0.04 dollars of 0.04 are reserved for it.
SHORT = {"sampling": {"n": 4, "max_tokens": 40}, "problems_per_batch": 1}


@pytest.mark.parametrize("concurrency", [1, 8])
def test_at_the_end_of_the_budget_what_is_complete_is_written(problems, tmp_path, concurrency):
    out = tmp_path / "out"
    with threaded_stub(answer="arithmetic", latency_ms=2, record=True) as stub:
        endpoints = [{"url": stub.url, "concurrency": concurrency}]
        poor = {"servers": {"endpoints": endpoints} | budget(dollars=0.2)} | SHORT
        with pytest.raises(BudgetError, match=r"of \$0.20 spent.*Raise servers.budget"):
            sample.main(words(problems, out, **poor))
        manifest = read_json(out / "shard-00000-of-00001.json")
        spent = stub.counts["generated_tokens"] * 1e-3
        # Not passed, and no more left than one request may need.
        assert 0.2 - 0.04 < spent <= 0.2
        kept = num_kept(out)
        assert kept == stub.counts["answered"]
        assert manifest["state"] == "running"
        # Every complete batch that stands before the first incomplete one is written.
        prompts = Counter(one["body"]["messages"][0]["content"] for one in stub.requests)
        asked = [
            sum(n for text, n in prompts.items() if problem(number).statement in text)
            for number in range(NUM)
        ]
        whole = list(itertools.takewhile(lambda num_asked: num_asked == 4, asked))
        assert manifest["out"] == len(whole) * 4 == b"".join(data(out)).count(b"\n") > 0
        rich = {"servers": {"endpoints": endpoints} | budget(dollars=100)} | SHORT
        sample.main(words(problems, out, **rich))
        assert stub.counts["requests"] == NUM * 4
    with threaded_stub(answer="arithmetic") as stub:
        run_job(problems, tmp_path / "whole", stub, servers=budget(), **SHORT)
    assert data(out) == data(tmp_path / "whole")


def test_a_spent_budget_ends_the_process_with_one_message(problems, tmp_path):
    with threaded_stub(answer="arithmetic") as stub:
        command = words(problems, tmp_path / "out", stub.url, servers=budget(tokens=300), **SHORT)
        with start(command) as process:
            output, errors = process.communicate(timeout=30)
    assert process.returncode == 1
    [line] = errors.splitlines()
    assert line.startswith("python -m data_gen.sample: BudgetError: the budget leaves no room")
    assert " of 300 tokens spent" in line
    assert "Traceback" not in output


def test_the_budget_counts_what_earlier_starts_and_lost_requests_cost(problems, tmp_path):
    out = tmp_path / "out"
    kinds = ["broken_json", None, "broken_json"]
    with threaded_stub(answer="arithmetic", faults=kinds) as stub:
        off = {"loop_guard": {"enabled": False}, "endpoints": [{"url": stub.url, "concurrency": 1}]}
        for dollars in (0.3, 0.5):
            limit = {"servers": off | budget(dollars=dollars), "sampling": {"n": 1}}
            with pytest.raises(BudgetError, match=rf"of \${dollars:.2f} spent"):
                sample.main(words(problems, out, **SHORT | limit))
    with RequestStore(out.with_name("out-requests")) as store:
        assert store.num_replies == 1
        assert store.spent.dollars == pytest.approx(0.2 + 0.016 + 0.2)


def test_each_shard_has_its_part_of_the_budget(problems, tmp_path):
    with threaded_stub(answer="arithmetic") as stub:
        limits = {"servers": budget(dollars=0.2), "shard": "0/2"}
        with pytest.raises(BudgetError, match=r"of \$0.10 spent.*this shard has 1/2"):
            sample.main(words(problems, tmp_path / "out", stub.url, **SHORT | limits))
        assert stub.counts["generated_tokens"] <= 100


def test_a_lost_server_ends_the_job_and_what_was_answered_is_kept(problems, tmp_path):
    out = tmp_path / "out"
    patience = {"servers": {"patience": 0.5, "tries": 1000}} | SHORT

    def faults(number, _body):
        return None if number < 10 else "503"

    with threaded_stub(answer="arithmetic", faults=faults) as stub:
        with pytest.raises(GenerationError, match="the last fault: .*server_error: HTTP 503"):
            sample.main(words(problems, out, stub.url, **patience))
        assert num_kept(out) == 10
    with threaded_stub(answer="arithmetic") as stub:
        sample.main(words(problems, out, stub.url, **patience))
        assert stub.counts["requests"] == NUM * 4 - 10
    assert len(solutions(out)) == NUM * 4


def test_after_the_end_of_the_budget_what_was_paid_for_makes_records(problems, tmp_path):
    out = tmp_path / "out"
    with threaded_stub(answer="arithmetic") as stub:
        poor = {"servers": {"endpoints": [{"url": stub.url, "concurrency": 1}]}} | SHORT
        poor["servers"] |= budget(dollars=0.2)
        with pytest.raises(BudgetError, match="--remake true with a smaller sampling.n or fewer"):
            sample.main(words(problems, out, **poor))
        asked, kept = stub.counts["requests"], num_kept(out)
        fewer = sums(tmp_path / "fewer", 2)
        assert kept >= 2 * 4
        found = run_job(fewer, out, **poor, remake=True)
        assert stub.counts["requests"] == asked
        assert len(found) == 2 * 4
        poor["sampling"] = SHORT["sampling"] | {"n": kept // NUM}
        several = sums(tmp_path / "several", kept // 4)
        assert len(run_job(several, out, **poor, remake=True)) == kept // 4 * (kept // NUM)
        assert stub.counts["requests"] == asked


def test_what_failed_requests_may_have_cost_is_told(problems, tmp_path, capsys):
    out = tmp_path / "out"
    with threaded_stub(answer="arithmetic", faults=["broken_json", None, "broken_json"]) as stub:
        off = {"loop_guard": {"enabled": False}, "endpoints": [{"url": stub.url, "concurrency": 1}]}
        run_job(problems, out, servers=off | budget(), **SHORT)
    with RequestStore(out.with_name("out-requests")) as store:
        lost = store.lost
    assert lost.dollars > 0
    assert notes(out)["lost"] == dataclasses.asdict(lost)
    assert f"  {in_dollars(lost.dollars)} lost in failed requests" in capsys.readouterr().out


def test_the_usage_that_a_server_does_not_tell_is_estimated(problems, tmp_path, capsys):
    with threaded_stub(answer="arithmetic", no_usage=True) as stub:
        unknown = run_job(problems, tmp_path / "out", stub)
    told = f"  {NUM * 4} replies without usage: tokens estimated"
    assert told in capsys.readouterr().out
    assert notes(tmp_path / "out")["estimated"] == NUM * 4
    with threaded_stub(answer="arithmetic") as stub:
        known = run_job(problems, tmp_path / "known", stub)
    for id, one in unknown.items():
        assert one.usage.generated_tokens > 0
        assert dataclasses.replace(one, usage=known[id].usage) == known[id]


def test_an_error_of_ours_ends_the_process_with_code_1(problems, tmp_path, capsys):
    command = words(problems, tmp_path / "out", "http://127.0.0.1:1/v1", shard="2/2")
    with pytest.raises(SystemExit) as caught:
        run(lambda: sample.main(command), sample.COMMAND)
    assert caught.value.code == 1
    assert capsys.readouterr().err.startswith("python -m data_gen.sample: StoreError: shard '2/2'")
