"""Labels read anew from the evidence that they keep."""

import pytest

from data_gen import relabel
from data_gen.labelers.bayes import redecode
from data_gen.relabel import by_progress, read_anew
from prm.errors import StoreError
from prm.records import Evidence, LabelledSolution, StepLabel, Verdict
from prm.store import StoreWriter, read_records
from tests.tiny import tiny_problem, tiny_solution


def labelled(counts, verdict="wrong", *, root=(0, 0), reason="undecided", number=0):
    """Successes and trials of the steps."""
    solution = tiny_solution(tiny_problem(number), [f"step {i}" for i in range(len(counts))])
    labels = tuple(
        StepLabel(t, won, tried, 0.5, 0.5, None, (Evidence("rollouts", won, tried, "m"),))
        for t, (won, tried) in enumerate(counts)
    )
    return LabelledSolution(
        solution, labels, {"none": 0.4, "0": 0.6}, Verdict(verdict, "t"), "m", reason,
        root_successes=root[0], root_trials=root[1], decoder="old",
    )  # fmt: skip


def hard(one):
    return [label.hard for label in one.labels]


@pytest.mark.parametrize(
    ("threshold", "expected"),
    [
        (None, [True, True, False, None]),
        (0.3, [True, False, None, None]),
        (0.9, [False] + [None] * 3),
    ],
)
def test_hard_labels_by_a_threshold(threshold, expected):
    [one] = read_anew([labelled([(6, 8), (2, 8), (0, 8), (0, 1)])], "hard", threshold)
    assert hard(one) == expected
    assert one.first_error == {str(expected.index(False)): 1.0}
    assert one.decoder == f"hard/{threshold or 0:g}"
    assert [label.prefix_correct for label in one.labels] == [None] * 4
    assert [(label.successes, label.trials) for label in one.labels] == [
        (6, 8),
        (2, 8),
        (0, 8),
        (0, 1),
    ]


def test_soft_labels_are_the_plain_shares():
    [one] = read_anew([labelled([(6, 8), (0, 0), (1, 4), (1, 1)], "right")], "soft")
    assert [label.success_rate for label in one.labels] == [0.75, None, 0.25, 1.0]
    [two] = read_anew([labelled([(6, 8), (0, 0), (1, 4), (1, 1)], "right")], "hard")
    assert [label.success_rate for label in two.labels] == [0.5] * 4


def test_progress_is_what_a_step_keeps_of_the_rate_before():
    # .75 of 1, then .5 of .75, each against 0.8 and 0.6.
    one = labelled([(8, 8), (6, 8), (3, 8), (0, 1)], root=(8, 8))
    assert hard(by_progress(one, 0.8)) == [True, False, None, None]
    assert hard(by_progress(one, 0.6)) == [True, True, False, None]
    assert hard(by_progress(one, 0.4)) == [True, True, True, False]
    # Without a known root the first step is not known, nor anything behind it.
    assert hard(by_progress(labelled([(8, 8), (6, 8)]), 0.8)) == [None, None]


@pytest.mark.parametrize("reading", ["hard", "progress"])
def test_a_budget_that_ended_is_still_the_reason_where_nothing_is_known(reading):
    [one] = read_anew([labelled([(0, 0), (0, 0)], "could_not_tell", reason="budget")], reading)
    assert (one.stop_reason, one.first_error) == ("budget", {})
    [empty] = read_anew([labelled([])], reading)
    assert (empty.stop_reason, empty.labels) == ("no_steps", ())


@pytest.fixture
def store(tmp_path):
    rows = [labelled([(6, 8), (k % 3, 8), (0, 1)], number=k) for k in range(7)]
    with StoreWriter(tmp_path / "labels", job="test", config={}, config_hash="0") as writer:
        writer.append("all", rows)
    return tmp_path / "labels"


def test_the_job_writes_every_row_and_says_what_it_found(store, tmp_path, capsys):
    words = ["--labels", str(store), "--batch_size", "3"]
    relabel.main([*words, "--output", str(tmp_path / "a"), "--threshold", "0.2"])
    out = capsys.readouterr().out
    assert "relabel: in 7 = out 7 + skipped 0" in out
    assert "labels: 7 first error found" in out
    found = list(read_records(tmp_path / "a", LabelledSolution))
    assert found == read_anew(list(read_records(store, LabelledSolution)), "hard", 0.2)
    # Read again in the old way, they are what that reading gives at once.
    again = ["--labels", str(tmp_path / "a"), "--output", str(tmp_path / "b")]
    relabel.main(again)
    relabel.main([*words, "--output", str(tmp_path / "c")])
    assert (tmp_path / "b" / "shard-00000-of-00001.jsonl").read_text() == (
        tmp_path / "c" / "shard-00000-of-00001.jsonl"
    ).read_text()


def test_a_store_is_not_finished_with_batches_of_another_size(store, tmp_path):
    words = ["--labels", str(store), "--output", str(tmp_path / "out"), "--batch_size"]
    relabel.main([*words, "3"])
    with pytest.raises(StoreError):
        relabel.main([*words, "2"])
    assert len(list(read_records(tmp_path / "out", LabelledSolution))) == 7


def test_the_posterior_is_read_from_the_counts_alone(store, tmp_path):
    words = ["--labels", str(store), "--reading", "posterior", "--output", str(tmp_path / "out")]
    relabel.main(words)
    before = list(read_records(store, LabelledSolution))
    found = list(read_records(tmp_path / "out", LabelledSolution))
    assert found == redecode(before)
    for row, old in zip(found, before, strict=True):
        assert sum(row.first_error.values()) == pytest.approx(1)
        trials = [[one.trials for one in label.labels[:-1]] for label in (row, old)]
        assert trials == [[8, 8], [8, 8]]


@pytest.mark.parametrize("words", [["posterior", "0.5"], ["hard", "1"], ["hard", "-0.1"]])
def test_a_threshold_that_means_nothing_is_refused(words, capsys):
    with pytest.raises(SystemExit):
        relabel.main(["--reading", words[0], "--threshold", words[1]])
    assert "threshold" in capsys.readouterr().err
