"""Labels become targets: one a prefix, the undecided masked, every solution accounted for."""

import dataclasses
import math

import pytest
import torch

from prm.errors import RecordError, TrainingError
from prm.records import Evidence, LabelledSolution, StepLabel, Verdict
from prm.scoring import ScorerSpec
from prm.scoring.encoding import Encoder
from prm.store import StoreWriter
from prm.training.prm_data import Collator, Target, read_examples, target_of, targets_of
from tests.tiny import tiny_problem, tiny_solution, tiny_tokenizer

TOKENIZER = tiny_tokenizer()
PROBLEM = tiny_problem()
RIGHT = ["Step 1: 3 + 9 = 12", "Step 2: 12 + 4 = 16", "Answer: 16"]
WRONG = ["Step 1: 3 + 9 = 12", "Step 2: 12 + 4 = 17", "Answer: 17"]
NOTHING = Target(0.0, 0.0, 0.0, False)


def label(step, successes, trials, hard, *, verdict=False):
    evidence = (Evidence("verdict" if verdict else "rollouts", successes, trials, "tiny"),)
    rate = successes / trials if trials else None
    return StepLabel(step, successes, trials, rate, None, hard, evidence if trials else ())


def labelled(steps, counts, *, problem=PROBLEM, sample=0):
    """``counts`` are (successes, trials, hard) of each step; the last is by the verdict."""
    last = len(steps) - 1
    return LabelledSolution(
        solution=tiny_solution(problem, steps, sample),
        labels=tuple(label(i, *row, verdict=i == last) for i, row in enumerate(counts)),
        first_error={},
        verdict=Verdict("right" if counts[-1][0] else "wrong", "tiny"),
        labeler="test",
        stop_reason="test",
    )


def stored(folder, rows):
    with StoreWriter(folder, job="test", config={}, config_hash="0") as writer:
        writer.append("all", rows)
    return str(folder)


@pytest.fixture
def read(tmp_path):
    """`read_examples` of given rows."""

    def reader(rows, *, problems=(PROBLEM,), splits=("train",), labels="counts", **spec):
        encoder = Encoder(TOKENIZER, ScorerSpec(base_model="tiny", **spec))
        return read_examples(
            stored(tmp_path / f"labelled-{labels}", rows),
            stored(tmp_path / f"problems-{labels}", list(problems)),
            encoder,
            splits=splits,
            labels=labels,
        )

    return reader


def targets_by_text(example):
    """The target of each prefix, by its lines."""
    found = {}
    for path in example.tree.paths:
        for depth, node in enumerate(path):
            lines = tuple(step_text(example.tree, n) for n in path[: depth + 1])
            found[lines] = example.targets[node]
    assert len(found) == len(example.targets)
    return found


def step_text(tree, node):
    ids = [token for token, owner in zip(tree.ids, tree.node_of, strict=True) if owner == node]
    return TOKENIZER.decode(ids).removesuffix("\n")


def test_a_shared_prefix_is_one_target(read):
    rows = [
        labelled(RIGHT, [(3, 4, True), (4, 4, True), (1, 1, True)]),
        labelled(WRONG, [(3, 4, True), (0, 8, False), (0, 1, None)], sample=1),
    ]
    (example,) = read(rows).examples
    assert targets_by_text(example) == {
        tuple(RIGHT[:1]): Target(3.0, 4.0, 1.0, True),
        tuple(RIGHT[:2]): Target(4.0, 4.0, 1.0, True),
        tuple(RIGHT): Target(1.0, 1.0, 1.0, True),
        tuple(WRONG[:2]): Target(0.0, 8.0, 1.0, False),
        tuple(WRONG): Target(0.0, 1.0, 1.0, False),
    }


def test_the_first_solution_that_decides_a_prefix_gives_its_target(read):
    rows = [
        labelled(WRONG, [(0, 0, None), (0, 8, False), (0, 1, None)]),
        labelled(RIGHT, [(3, 4, True), (4, 4, True), (1, 1, True)], sample=1),
    ]
    (example,) = read(rows).examples
    assert targets_by_text(example)[tuple(RIGHT[:1])] == Target(3.0, 4.0, 1.0, True)


def test_undecided_steps_are_masked(read):
    # No trials; trials without a hard label; behind the first error but not judged.
    rows = [labelled(RIGHT, [(0, 0, None), (1, 8, None), (1, 1, True)])]
    (example,) = read(rows).examples
    targets = targets_by_text(example)
    assert targets[tuple(RIGHT[:1])] == targets[tuple(RIGHT[:2])] == NOTHING
    assert targets[tuple(RIGHT)].weight == 1.0


@pytest.mark.parametrize("labels", ["counts", "hard"])
def test_the_verdict_of_the_last_step_behind_an_error_is_used(labels):
    wrong = label(2, 0, 1, None, verdict=True)
    assert target_of(wrong, labels) == Target(0.0, 1.0, 1.0, False)
    # By luck the answer is right: the final answer counts, the step teaches no language.
    lucky = label(2, 1, 1, None, verdict=True)
    assert target_of(lucky, labels) == Target(1.0, 1.0, 1.0, False)


@pytest.mark.parametrize(
    ("successes", "trials", "hard", "counts", "hard_target"),
    [
        (5, 8, True, Target(5.0, 8.0, 1.0, True), Target(1.0, 1.0, 1.0, True)),
        (0, 8, False, Target(0.0, 8.0, 1.0, False), Target(0.0, 1.0, 1.0, False)),
        (8, 8, True, Target(8.0, 8.0, 1.0, True), Target(1.0, 1.0, 1.0, True)),
        (1, 8, None, NOTHING, NOTHING),
        (0, 0, None, NOTHING, NOTHING),
        (0, 0, True, NOTHING, NOTHING),
    ],
)
def test_target_of_a_label(successes, trials, hard, counts, hard_target):
    one = label(0, successes, trials, hard)
    assert target_of(one, "counts") == counts
    assert target_of(one, "hard") == hard_target


def believed(steps, chances, *, sample=0, hard=(True, None, None)):
    """A solution whose steps have these P(right so far) and not one trial."""
    row = labelled(steps, [(0, 0, one) for one in hard], sample=sample)
    labels = [
        dataclasses.replace(one, prefix_correct=p)
        for one, p in zip(row.labels, chances, strict=True)
    ]
    return dataclasses.replace(row, labels=tuple(labels))


def test_the_posterior_is_weighted_by_what_is_known_and_by_the_chance_to_get_there():
    targets = targets_of(believed(RIGHT, [1.0, 0.25, 0.0], hard=(True, False, None)), "posterior")
    entropy = -(0.25 * math.log(0.25) + 0.75 * math.log(0.75)) / math.log(2)
    assert [target.successes for target in targets] == [1.0, 0.25, 0.0]
    assert [target.trials for target in targets] == [1.0, 1.0, 1.0]
    # Surely right and surely reached; unsure; surely wrong, but reached with a chance of 1/4 only.
    assert [target.weight for target in targets] == pytest.approx([1.0, 1 - entropy, 0.25])
    assert [target.is_good for target in targets] == [True, False, False]


def test_a_posterior_of_one_half_says_nothing():
    targets = targets_of(believed(RIGHT, [0.5, 0.5, 0.5]), "posterior")
    assert [target.weight for target in targets] == pytest.approx([0.0, 0.0, 0.0])


def test_a_step_without_a_posterior_is_masked_and_so_is_the_one_behind_it():
    targets = targets_of(believed(RIGHT, [1.0, None, 0.0]), "posterior")
    assert targets == [Target(1.0, 1.0, 1.0, True), NOTHING, NOTHING]


def test_a_shared_prefix_has_the_surest_posterior(read):
    rows = [
        believed(WRONG, [0.9, 0.1, 0.0]),
        believed(RIGHT, [0.99, 0.98, 0.97], sample=1),
        believed([*RIGHT[:2], "Answer: 3"], [0.8, 0.7, 0.0], sample=2),
    ]
    (example,) = read(rows, labels="posterior").examples
    targets = targets_by_text(example)
    assert targets[tuple(RIGHT[:1])].successes == 0.99
    assert targets[tuple(RIGHT[:2])].successes == 0.98


def test_a_posterior_needs_no_trials_and_counts_need_no_posterior(read):
    rows = [believed(RIGHT, [0.9, 0.8, 0.7]), labelled(WRONG, GOOD, sample=1)]
    believing, counting = read(rows, labels="posterior"), read(rows, labels="counts")
    assert believing.skipped == counting.skipped == {"undecided": 1}
    assert believing.texts == [(PROBLEM.statement, tuple(RIGHT))]
    assert counting.texts == [(PROBLEM.statement, tuple(WRONG))]


GOOD = [(3, 4, True), (4, 4, True), (1, 1, True)]


def test_every_solution_is_in_out_or_skipped_by_reason(read):
    selection = dataclasses.replace(tiny_problem(1, (1, 1)), split="selection")
    rows = [
        labelled(RIGHT, GOOD),
        labelled(RIGHT, GOOD, sample=1),
        labelled(RIGHT, GOOD, sample=2),
        labelled(["Step 1: what?"], [(0, 0, None)], sample=3),
        labelled(["Answer: 2"], [(1, 1, True)], problem=selection),
        labelled(["Step 1: two\nlines"], [(1, 1, True)], sample=4),
        labelled(["Step 1: " + "9" * 200], [(0, 1, False)], sample=5),
        labelled(WRONG, [(3, 4, True), (0, 8, False), (0, 1, None)], sample=6),
    ]
    data = read(rows, problems=[PROBLEM, selection], max_tokens=120)
    assert data.skipped == {
        "repeated_solution": 2,
        "undecided": 1,
        "other_split": 1,
        "not_encodable": 1,
        "too_long": 1,
    }
    assert (data.num_in, data.num_out) == (8, 2)
    assert data.num_in == data.num_out + data.skipped.total()
    assert data.summary == (
        "in 8 = out 2 + skipped 6 (1 not_encodable, 1 other_split, 2 repeated_solution, "
        "1 too_long, 1 undecided)"
    )
    assert data.texts == [(PROBLEM.statement, tuple(RIGHT)), (PROBLEM.statement, tuple(WRONG))]


def test_other_splits_are_read_when_asked_for(read):
    selection = dataclasses.replace(tiny_problem(1, (1, 1)), split="selection")
    rows = [
        labelled(RIGHT, GOOD),
        labelled(["Answer: 2"], [(1, 1, True)], problem=selection),
    ]
    data = read(rows, problems=[PROBLEM, selection], splits=["selection"])
    assert [example.problem_id for example in data.examples] == [selection.id]
    assert data.skipped == {"other_split": 1}


def test_the_same_steps_of_two_problems_are_two_solutions(read):
    other = tiny_problem(1, (9, 3, 4))
    data = read([labelled(RIGHT, GOOD), labelled(RIGHT, GOOD, problem=other)],
                problems=[PROBLEM, other])  # fmt: skip
    assert [example.problem_id for example in data.examples] == [PROBLEM.id, other.id]
    assert not data.skipped


def test_a_problem_that_is_not_stored_is_an_error(read):
    with pytest.raises(RecordError, match="tiny/0009#0.*not in .*problems"):
        read([labelled(RIGHT, GOOD, problem=tiny_problem(9))])


def test_an_id_that_occurs_twice_is_an_error(read):
    with pytest.raises(RecordError, match="tiny/0000#0.* twice"):
        read([labelled(RIGHT, GOOD), labelled(WRONG, GOOD)])


def test_nothing_to_train_on_is_an_error_with_the_reasons(read):
    with pytest.raises(TrainingError, match=r"no labelled solution .*'undecided': 1"):
        read([labelled(["Step 1: what?"], [(0, 0, None)])])


def test_a_row_with_too_few_labels_is_an_error(read):
    with pytest.raises(RecordError, match="tiny/0000#0.*2 labels for 3 steps"):
        read([labelled(RIGHT, GOOD[:2])])


def test_the_batch_has_each_target_at_its_node(read):
    """Many problems of different lengths; a target is found again by the text that it ends."""
    problems = [tiny_problem(n, (n, 9, 4) * (1 + n % 3)) for n in range(7)]
    rows, expected = [], {}
    for n, problem in enumerate(problems):
        for k in range(1 + n % 3):
            steps = ["Step 1: a", f"Step 2: {k}", *["Step 3: b"] * (n % 2)]
            # A number of trials for each prefix that no other prefix has.
            counts = [
                (n, 100 * n + 7 if i == 0 else 100 * n + 10 * k + i + 20, True)
                for i in range(len(steps))
            ]
            rows.append(labelled(steps, counts, problem=problem, sample=k))
            for i, (successes, trials, _) in enumerate(counts):
                text = f"Problem: {problem.statement}\n" + "".join(f"{s}\n" for s in steps[: i + 1])
                expected[text] = [successes, trials, 1.0, 1.0]
    batch = Collator(row_tokens=150)(read(rows, problems=problems).examples)
    assert len(batch["ids_BU"]) > 1
    found = {}
    for b, node in batch["is_node_BN"].nonzero().tolist():
        visible = batch["visible_BUU"][b, batch["node_end_BN"][b, node]]
        text = TOKENIZER.decode(batch["ids_BU"][b, visible])
        names = ("successes", "trials", "weights", "good")
        found[text] = [batch[name][b, node].item() for name in names]
    assert found == expected
    padding = ~batch["is_node_BN"]
    assert padding.any()
    assert torch.equal(batch["weights"][padding], torch.zeros(int(padding.sum())))
