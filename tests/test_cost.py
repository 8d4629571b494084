"""`prm cost` on runs written by hand, so that each figure can be worked out."""

import dataclasses
import json
import tracemalloc

import pytest

from prm.cli import main
from prm.errors import ConfigError, StoreError
from prm.ledger import Ledger
from prm.prices import PRICES, Price
from prm.records import LabelledSolution, Problem, Solution, StepLabel, Verdict
from prm.report.cost import measure, read_prices, read_so_far
from prm.store import Shard, StoreWriter

SAMPLING = Ledger(4000, 1000, 20.0, cached_tokens=1000, dollars=0.03)
LABELLING = Ledger(6000, 3000, 40.0, dollars=0.09)


def problem(number):
    return Problem(f"p/{number}", "Calculate 1 + 1.", "2", "integer", "test", "train")


def solution(number, answer, problem_number=0):
    return Solution(
        id=f"p/{problem_number}#{number}",
        problem_id=f"p/{problem_number}",
        steps=("1 + 1 = 2", f"Answer: {answer}"),
        final_answer=answer,
        finish_reason="stop",
        strategy="by_hand/1",
        model="hand",
    )


# Four right, three wrong, one that states no number, two without an answer.
ANSWERS = ["2", "2", "02", "+2", "3", "4", "5", "two", None, ""]


def labelled(one, *hard):
    labels = tuple(StepLabel(i, 1, 2, 0.5, None, value) for i, value in enumerate(hard))
    return LabelledSolution(one, labels, {}, Verdict("right", "hand"), "hand", "all_done")


def open_store(folder, shard=None):
    return StoreWriter(folder, job="test", config={}, config_hash="0", shard=shard)


def store(folder, records, ledger=None, shard=None):
    with open_store(folder, shard) as writer:
        writer.append("all", records, ledger=ledger)


@pytest.fixture
def whole(tmp_path):
    """10 solutions, 4 of them right; 5 labelled steps and 3 undecided ones."""
    solutions = [solution(k, answer) for k, answer in enumerate(ANSWERS)]
    store(tmp_path / "problems", [problem(0), problem(1)])
    store(tmp_path / "solutions", solutions, SAMPLING)
    labels = [labelled(solutions[0], True, True), labelled(solutions[1], True, None)]
    labels += [labelled(solutions[4], True, False), labelled(solutions[5], None, None)]
    store(tmp_path / "labels", labels, LABELLING)
    return tmp_path


def shown(capsys, *words):
    main(["cost", *map(str, words)])
    return capsys.readouterr().out


def as_json(capsys, *words):
    return json.loads(shown(capsys, *words, "--json"))


def test_what_came_out_is_counted_and_could_not_tell_apart(whole):
    assert dict(measure(whole).counts) == {
        "solutions": 10,
        "right": 4,
        "wrong": 3,
        "could_not_tell": 3,
        "labelled": 5,
        "undecided": 3,
    }


def test_each_figure_is_the_spent_divided_by_what_came_out(whole, capsys):
    cost = as_json(capsys, whole)["cost"]
    assert cost["sampling"]["tokens"] == {
        "in all": 5000,
        "a solution": 500.0,
        "a labelled step": 1000.0,
        "a right answer": 1250.0,
    }
    assert cost["labelling"]["billed"] == pytest.approx(
        {
            "in all": 0.09,
            "a solution": 0.009,
            "a labelled step": 0.018,
            "a right answer": 0.0225,
        }
    )
    # (9,000 read * 15 + 1,000 cached * 7.5 + 4,000 written * 60) / 1e6
    assert cost["total"]["o1"]["in all"] == pytest.approx(0.3825)
    assert cost["total"]["o1"]["a right answer"] == pytest.approx(0.3825 / 4)
    assert cost["total"]["o1-generated-only"]["in all"] == pytest.approx(0.24)
    assert set(cost["total"]) == {"tokens", "billed", *PRICES}


def test_the_total_is_sampling_and_labelling_together(whole, capsys):
    found = as_json(capsys, whole)
    assert Ledger(**found["spent"]["total"]) == SAMPLING + LABELLING
    for name in found["cost"]["total"]:
        parts = (found["cost"][kind][name]["in all"] for kind in ("sampling", "labelling"))
        assert found["cost"]["total"][name]["in all"] == pytest.approx(sum(parts))


def test_what_failed_requests_may_have_cost_is_billed_in_a_row_of_its_own(whole, capsys):
    lost = [Ledger(500, 0, dollars=0.01), Ledger(100, 300, dollars=0.03), Ledger(dollars=0.02)]
    for shard, one in enumerate(lost[:2]):
        with open_store(whole / "more" / "solutions", Shard(shard, 2)) as writer:
            writer.notes["lost"] = dataclasses.asdict(one)
            writer.append("all", [solution(shard, "2")], ledger=SAMPLING)
    with open_store(whole / "more" / "labels") as writer:
        writer.notes["lost"] = dataclasses.asdict(lost[2])
    found = as_json(capsys, whole / "more")
    assert Ledger(**found["spent"]["lost"]) == sum(lost, Ledger())
    assert Ledger(**found["spent"]["sampling"]) == SAMPLING + SAMPLING
    assert Ledger(**found["spent"]["total"]) == sum(lost, SAMPLING + SAMPLING)
    assert found["cost"]["total"]["billed"]["in all"] == pytest.approx(0.12)
    assert found["cost"]["lost"]["billed"]["in all"] == pytest.approx(0.06)
    lines = [line.split() for line in shown(capsys, whole / "more").splitlines()]
    assert ["│", "lost", "│", "600", "│", "0", "│", "300", "│", "0", "│", "$0.0600", "│"] in lines


def test_where_nothing_was_lost_there_is_no_such_row(whole, capsys):
    for name in ("solutions", "labels"):
        path = whole / name / f"{Shard().stem}.json"
        manifest = json.loads(path.read_text())
        manifest["notes"]["lost"] = dataclasses.asdict(Ledger()) if name == "labels" else None
        path.write_text(json.dumps(manifest))
    assert list(as_json(capsys, whole)["spent"]) == ["sampling", "labelling", "total"]
    assert "│ lost" not in shown(capsys, whole)


def test_a_whole_run_has_no_notes(whole):
    assert measure(whole).notes == ()


def test_the_tables_tell_it_in_words(whole, capsys):
    text = shown(capsys, whole, "--prices", "o1")
    assert "10 solutions: 4 right answers, 3 wrong, 3 could not tell" in text
    assert "5 labelled steps, 3 undecided" in text
    lines = [line for line in text.splitlines() if "│" in line]
    cells = [[cell.strip() for cell in line.strip("│").split("│")] for line in lines]
    assert ["total", "10,000", "1,000", "4,000", "60", "$0.120"] in cells
    assert ["", "o1", "$0.383", "$0.0382", "$0.0765", "$0.0956"] in cells
    assert all(len(line) <= 100 for line in text.splitlines())
    assert "ubicloud" not in text


def test_without_labels_sampling_is_told_and_the_rest_is_said_to_be_missing(whole, capsys):
    for path in (whole / "labels").iterdir():
        path.unlink()
    found = as_json(capsys, whole)
    assert found["notes"] == ["labels: none yet"]
    assert found["cost"]["sampling"]["tokens"]["a labelled step"] is None
    assert found["cost"]["sampling"]["tokens"]["a right answer"] == 1250.0
    assert found["cost"]["labelling"]["tokens"]["in all"] == 0
    assert "labels: none yet" in shown(capsys, whole)


def test_an_empty_run_says_that_nothing_is_there_yet(tmp_path, capsys):
    found = as_json(capsys, tmp_path)
    assert found["notes"][:3] == ["problems: none yet", "solutions: none yet", "labels: none yet"]
    assert "-" in shown(capsys, tmp_path)


def test_shards_that_are_being_written_count_as_far_as_they_are(tmp_path, capsys):
    store(tmp_path / "problems", [problem(0)])
    folder, first, second = tmp_path / "solutions", Shard(0, 4), Shard(2, 4)
    store(folder, [solution(0, "2")], Ledger(100, 10), first)
    writer = open_store(folder, second)
    writer.append("one", [solution(1, "2"), solution(2, "3")], ledger=Ledger(200, 20))
    writer.__exit__(KeyboardInterrupt)
    # What a killed job leaves behind the last whole batch.
    with (folder / f"{second.stem}.jsonl").open("a") as file:
        file.write('{"schema": "solution/1", "id": "p/0#3", "pro')
    found = as_json(capsys, tmp_path)
    assert found["counts"] == {"solutions": 3, "right": 2, "wrong": 1}
    assert found["spent"]["sampling"]["prompt_tokens"] == 300
    assert "solutions: so far; of 4 shards 1 are done, 2 begun" in found["notes"]


def test_a_store_with_fewer_records_than_counted_is_damaged(whole):
    data = whole / "solutions" / f"{Shard().stem}.jsonl"
    data.write_text("".join(data.read_text().splitlines(keepends=True)[:-1]))
    with pytest.raises(StoreError, match="counts 10 records, there are 9"):
        measure(whole)


def test_shards_of_two_runs_are_not_added_up(whole):
    store(whole / "solutions", [solution(99, "2")], shard=Shard(0, 2))
    with pytest.raises(StoreError, match="different counts"):
        measure(whole)


def test_solutions_of_unknown_problems_are_counted_and_said(whole):
    store(whole / "labels2", [])  # a folder that is no part of a run changes nothing
    other = whole / "other"
    store(other / "problems", [problem(0)])
    store(other / "solutions", [solution(0, "2"), solution(0, "2", 7)], SAMPLING)
    cost = measure(other)
    assert (cost.counts["right"], cost.counts["no_problem"]) == (1, 1)
    assert any("1 solutions are of no problem" in note for note in cost.notes)


def test_a_run_that_billed_nothing_says_so(tmp_path):
    store(tmp_path / "problems", [problem(0)])
    store(tmp_path / "solutions", [solution(0, "2")], Ledger(10, 10, 1.0))
    assert any("nothing was billed" in note for note in measure(tmp_path).notes)


def test_manifests_from_before_dollars_were_counted_are_read(whole):
    path = whole / "solutions" / f"{Shard().stem}.json"
    manifest = json.loads(path.read_text())
    manifest["ledger"] = {"prompt_tokens": 1, "generated_tokens": 2, "seconds": 3.0}
    path.write_text(json.dumps(manifest))
    assert measure(whole).spent["sampling"] == Ledger(1, 2, 3.0)


def test_prices_of_your_own_stand_beside_the_others_and_replace_them(whole, tmp_path, capsys):
    table = tmp_path / "prices.yaml"
    table.write_text("mine: {prompt: 1, generated: 2.5, cached: 0}\no1: {generated: 100}\n")
    assert read_prices(table)["mine"] == Price(1.0, 2.5, 0.0)
    cost = as_json(capsys, whole, "--table", table, "--prices", "mine, o1")["cost"]["total"]
    # 9,000 read at $1, 1,000 cached at $0, 4,000 written at $2.5; then only the written at $100.
    assert cost["mine"]["in all"] == pytest.approx(0.019)
    assert cost["o1"]["in all"] == pytest.approx(0.4)
    assert set(cost) == {"tokens", "billed", "mine", "o1"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("mine: {prompts: 1}", "unknown fields"),
        ("mine: {prompt: one}", "should be float"),
        ("mine: {prompt: -1}", "price.prompt is -1"),
        ("mine: 3", "should be an object"),
        ("- mine", "expected rows"),
        ("", "expected rows"),
        ("a: {", "not YAML"),
    ],
)
def test_a_bad_price_table_is_refused_with_its_place(text, message, tmp_path):
    path = tmp_path / "prices.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=message):
        read_prices(path)


def test_a_price_table_that_is_not_there_is_named(tmp_path):
    with pytest.raises(ConfigError, match="nix.yaml: cannot be read"):
        read_prices(tmp_path / "nix.yaml")


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["nix"], 1, "nix: no such folder"),
        (["RUN", "--prices", "o2"], 1, "no price is called ['o2']; there are own-server"),
        ([], 2, "arguments are required: run"),
        (["RUN", "more"], 2, "unrecognized arguments: more"),
    ],
)
def test_wrong_words_end_with_a_message(words, code, message, whole, capsys):
    with pytest.raises(SystemExit) as stopped:
        main(["cost", *(str(whole) if word == "RUN" else word for word in words)])
    assert stopped.value.code == code
    assert message in capsys.readouterr().err


def test_json_may_stand_before_the_run(whole, capsys):
    main(["cost", "--json", str(whole)])
    assert json.loads(capsys.readouterr().out)["run"] == str(whole)


def test_help_teaches(capsys):
    with pytest.raises(SystemExit) as stopped:
        main(["cost", "--help"])
    assert stopped.value.code == 0
    text = capsys.readouterr().out
    assert "\n    prm cost runs/quickstart\n" in text
    assert "Folder of the run" in text
    assert "mine: {prompt: 0.1" in text


@pytest.mark.slow
def test_memory_does_not_grow_with_the_solutions(tmp_path):
    peaks = []
    for number in (50, 400):
        folder = tmp_path / str(number)
        store(folder / "problems", [problem(0)])
        store(folder / "solutions", [solution(k, "2") for k in range(number)], SAMPLING)
        store(folder / "labels", [labelled(solution(k, "2"), True) for k in range(number)])
        measure(folder)  # what is loaded once does not count
        tracemalloc.start()
        assert measure(folder).counts["right"] == number
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    # A read buffer is up to 128 kB; 350 more records in memory are over 400 kB.
    assert peaks[1] < peaks[0] + 200_000


def test_reading_so_far_gives_the_records_in_order(whole):
    found = list(read_so_far(whole / "solutions", Solution))
    assert [one.final_answer for one in found] == ANSWERS
    assert list(read_so_far(whole / "none", Solution)) == []
