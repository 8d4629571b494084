"""Evaluation on hand-made samples: every number is computed again here, in the plainest way."""

import dataclasses
import itertools
import json
import math
import shutil
from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import pytest
from safetensors.torch import load_file, save_file

from prm import cli
from prm.critic import Dialect
from prm.errors import ConfigError, RecordError
from prm.evaluation import evaluate, methods, step_report
from prm.evaluation.evaluate import EvaluateConfig, read_evaluation, title
from prm.evaluation.samples import read_samples
from prm.evaluation.score_files import critic_scores, prm_scores
from prm.records import (
    Critique,
    Evidence,
    LabelledSolution,
    Problem,
    Solution,
    StepLabel,
    Usage,
    Verdict,
)
from prm.report.terminal import show_choice, show_evaluation
from prm.scoring import Scorer
from prm.scoring.spec import load_spec
from prm.store import StoreWriter, read_json
from tests.tiny import tiny_model_folder, tiny_scorer_folder

AGGREGATES = {
    "min": min,
    "prod": math.prod,
    "last": lambda scores: scores[-1],
    "mean": lambda scores: sum(scores) / len(scores),
}


def problem(number, split):
    a, b, c = number + 2, 3, 4
    return Problem(
        id=f"p/{split}-{number}",
        statement=f"Calculate {a} + {b} + {c}.",
        reference_answer=str(a + b + c),
        verifier="integer",
        source="test",
        split=split,
        meta={"operands": [a, b, c], "operators": ["+", "+"], "unseen_pair": number == 0},
    )


def steps_of(one, first, second):
    """The steps when the sums are off by ``first`` and ``second``."""
    a, b, c = one.meta["operands"]
    x = a + b + first
    y = x + c + second
    return [f"Step 1: {a} + {b} = {x}", f"Step 2: {x} + {c} = {y}", f"Answer: {y}"]


def solution(one, sample, steps, logprob=-3.0):
    last = steps[-1]
    return Solution(
        id=f"{one.id}#{sample}",
        problem_id=one.id,
        steps=tuple(steps),
        final_answer=last.removeprefix("Answer: ") if last.startswith("Answer: ") else None,
        finish_reason="stop",
        strategy="plain",
        model="tiny",
        usage=Usage(20, 10 * len(steps)),
        logprob=logprob,
    )


def samples_of(one, number):
    """Six samples: right, right in another way, wrong, wrong twice alike, without an answer.

    Their order changes with the problem, so that no position is always right.
    """
    right = steps_of(one, 0, 0)
    swapped = [right[0], right[1].replace(" = ", "  = "), right[2]]
    wrong, other = steps_of(one, 1, 0), steps_of(one, 0, 2)
    texts = [right, swapped, wrong, other, other, right[:1]]
    texts = texts[number % 6 :] + texts[: number % 6]
    return [solution(one, k, steps, -1.0 - (7 * k + number) % 5) for k, steps in enumerate(texts)]


# The separator is inside: no scorer can say where this step ends.
UNREADABLE_STEP = "Step 1: 2 + 3\n= 5"


def everything():
    """Problems and solutions of all splits."""
    problems = [problem(n, split) for split in ("train", "selection", "test") for n in range(4)]
    solutions = [s for p in problems for s in samples_of(p, int(p.id[-1]))]
    return problems, solutions


def stored(folder, rows):
    with StoreWriter(folder, job="test", config={}, config_hash="0") as writer:
        writer.append("all", rows)
    return str(folder)


def label(step, successes, trials, hard):
    evidence = (Evidence("rollouts", successes, trials, "tiny", 10 * trials),)
    rate = successes / trials if trials else None
    return StepLabel(step, successes, trials, rate, None, hard, evidence, 10 * trials)


def labelled_rows(problems, solutions):
    """Labels by the exact truth, eight trials a step; behind the first error unknown."""
    by_id = {p.id: p for p in problems}
    rows = []
    for s in solutions:
        if by_id[s.problem_id].split == "test":
            continue
        right = steps_of(by_id[s.problem_id], 0, 0)
        flags = [a.replace("  ", " ") == b for a, b in zip(s.steps, right, strict=False)]
        error = next((i for i, flag in enumerate(flags) if not flag), None)
        labels = tuple(
            label(i, 6 * flag, 8, flag) if error is None or i <= error else label(i, 0, 0, None)
            for i, flag in enumerate(flags)
        )
        first_error = {"none" if error is None else str(error): 1.0}
        rows.append(
            LabelledSolution(s, labels, first_error, Verdict("right", "x"), "test", "known")
        )
    return rows


@pytest.fixture(scope="module")
def material(tmp_path_factory):
    """Two PRMs of different heads on hand-made samples, as settings."""
    folder = tmp_path_factory.mktemp("evaluate")
    problems, solutions = everything()
    prms = [str(tiny_scorer_folder(folder / f"prm-{seed}", seed=seed)) for seed in (1, 2)]
    return EvaluateConfig(
        prms=prms,
        problems=stored(folder / "problems", problems),
        solutions=stored(folder / "solutions", solutions),
        labelled=stored(folder / "labels", labelled_rows(problems, solutions)),
        output=str(folder / "evaluation"),
        ns=[1, 2, 4, 6],
        dtype="float32",
    )


def changed(material, folder, **changes):
    return dataclasses.replace(material, output=str(folder), **changes)


@pytest.fixture(scope="module")
def chosen(material):
    return evaluate.run(dataclasses.replace(material, split="selection"))


@pytest.fixture(scope="module")
def measured(material, chosen):
    assert chosen.split == "selection"
    return evaluate.run(material)


# The plainest way: every subset, every rule, one line after the other.


def direct_scores(folder, split):
    """(samples, step scores) of each problem, straight from the scorer."""
    problems, solutions = everything()
    scorer = Scorer.from_pretrained(folder, device="cpu", dtype="float32")
    found = []
    for one in problems:
        if one.split == split:
            own = [s for s in solutions if s.problem_id == one.id]
            found.append((one, own, scorer.score_many(one.statement, [s.steps for s in own])))
    return found


def share_right(tied, right):
    return sum(right[i] for i in tied) / len(tied) if tied else 0.0


def best_of(chosen, answers, right, scores):
    answered = [i for i in chosen if answers[i] is not None]
    top = max((scores[i] for i in answered), default=None)
    return share_right([i for i in answered if scores[i] == top], right)


def voted(chosen, answers, right, weights):
    sums = Counter()
    for i in chosen:
        if answers[i] is not None:
            sums[answers[i]] += weights[i]
    if not sums:
        return 0.0
    top = max(sums.values())
    winners = [answer for answer, total in sums.items() if total >= top * (1 - 1e-12)]
    is_right = {answers[i]: right[i] for i in chosen}
    return sum(is_right[answer] for answer in winners) / len(winners)


def mean_over_subsets(rule, n, answers, right, scores):
    subsets = list(itertools.combinations(range(len(answers)), n))
    return sum(rule(subset, answers, right, scores) for subset in subsets) / len(subsets)


def direct_accuracy(folders, split, role, score_of, n):
    """Mean over the PRMs and the problems. ``score_of`` maps (solution, its scores) to a score."""
    rule = {"best_of_n": best_of, "weighted_vote": voted}[role]
    values = []
    for folder in folders:
        for one, own, scores in direct_scores(folder, split):
            answers = [s.final_answer for s in own]
            right = [answer == one.reference_answer for answer in answers]
            solution_scores = [score_of(s, x) for s, x in zip(own, scores, strict=True)]
            values.append(mean_over_subsets(rule, n, answers, right, solution_scores))
    return sum(values) / len(values)


def accuracy(evaluation, name, n):
    (curve,) = [method for method in evaluation.methods if method.name == name]
    (point,) = [point for point in curve.points if point.n == n]
    assert point.low <= point.accuracy <= point.high
    return point.accuracy


@pytest.mark.parametrize("role", ["best_of_n", "weighted_vote"])
@pytest.mark.parametrize("how", AGGREGATES)
def test_the_prms_curves_are_those_of_direct_computation(material, measured, role, how):
    for n in (1, 2, 4, 6):
        expected = direct_accuracy(
            material.prms, "test", role, lambda _, scores: AGGREGATES[how](scores), n
        )
        found = accuracy(measured, title(f"{role}:prm-{how}"), n)
        assert found == pytest.approx(expected, abs=1e-9)
        assert 0 < expected < 1


@pytest.mark.parametrize("role", ["best_of_n", "weighted_vote"])
def test_the_rivals_curves_use_the_policys_own_likelihood(material, measured, role):
    forms = {
        "sum": lambda s, _: math.exp(s.logprob),
        "mean": lambda s, _: math.exp(s.logprob / s.usage.generated_tokens),
    }
    for form, score_of in forms.items():
        expected = direct_accuracy(material.prms[:1], "test", role, score_of, 4)
        found = accuracy(measured, title(f"{role}:logprob-{form}"), 4)
        assert found == pytest.approx(expected, abs=1e-9)


def test_pass_random_and_majority_by_hand(measured):
    # Two of six are right: random 1/3. pass@n = 1 - C(4, n) / C(6, n): 1/3, 9/15, 14/15, 1.
    for n, expected in ((1, 1 / 3), (2, 9 / 15), (4, 14 / 15), (6, 1.0)):
        assert accuracy(measured, "random sample", n) == pytest.approx(1 / 3)
        assert accuracy(measured, "pass@n (bound)", n) == pytest.approx(expected)
    # At n = 6 the right answer has two votes, one wrong answer has two, one has one: a tie.
    assert accuracy(measured, "majority vote", 6) == pytest.approx(0.5)


def test_each_seed_is_reported_and_the_curve_is_their_mean(material, measured):
    name = "best_of_n:prm-min"
    by_seed = [measured.methods_by_seed[str(i)][name] for i in range(2)]
    for value, folder in zip(by_seed, material.prms, strict=True):
        assert value == pytest.approx(
            direct_accuracy([folder], "test", "best_of_n", lambda _, x: min(x), 6)
        )
    assert accuracy(measured, title(name), 6) == pytest.approx(sum(by_seed) / 2)


def test_the_choice_is_the_best_of_ours_on_selection(material, chosen):
    ours = [f"{role}:prm-{how}" for role in ("best_of_n", "weighted_vote") for how in AGGREGATES]
    for name in ours:
        role, how = name.split(":prm-")
        expected = direct_accuracy(
            material.prms, "selection", role, lambda _, x, how=how: AGGREGATES[how](x), 6
        )
        assert chosen.accuracy[name] == pytest.approx(expected, abs=1e-9)
    assert chosen.method == max(ours, key=lambda name: chosen.accuracy[name])
    assert chosen.aggregate == chosen.method.rpartition("-")[2]
    rivals = [name for name in chosen.accuracy if "logprob" in name]
    assert len(rivals) == 4
    assert chosen.rival == max(rivals, key=lambda name: chosen.accuracy[name])
    assert chosen.split == "selection"
    assert read_json(Path(material.output) / "choice.json") == plain(chosen)


def plain(value):
    """A dataclass as JSON has it."""
    return json.loads(json.dumps(dataclasses.asdict(value)))


def first_error_f1(pairs):
    """ProcessBench's F1 of (predicted, true) first errors."""
    wrong = [guess == truth for guess, truth in pairs if truth is not None]
    right = [guess is None for guess, truth in pairs if truth is None]
    a, b = sum(wrong) / len(wrong), sum(right) / len(right)
    return 2 * a * b / (a + b) if a + b else 0.0


def predictions(folder, split, threshold):
    pairs = []
    for one, own, scores in direct_scores(folder, split):
        for s, x in zip(own, scores, strict=True):
            right = steps_of(one, 0, 0)
            truth = next(
                (i for i, t in enumerate(s.steps) if t.replace("  ", " ") != right[i]), None
            )
            guess = next((i for i, score in enumerate(x) if score < threshold), None)
            pairs.append((guess, truth))
    return pairs


def test_the_threshold_is_the_best_on_selection_and_used_as_it_is_on_test(
    material, chosen, measured
):
    folder = material.prms[0]
    scores = [x for _, _, rows in direct_scores(folder, "selection") for row in rows for x in row]
    best = max(first_error_f1(predictions(folder, "selection", t)) for t in [0.0, *scores, 1.1])
    own = first_error_f1(predictions(folder, "selection", chosen.thresholds[0]))
    assert own == pytest.approx(best, abs=1e-9)
    assert measured.threshold == chosen.thresholds[0]
    (row,) = [row for row in measured.step_metrics[0].rows if row.scorer == "PRM"]
    expected = first_error_f1(predictions(folder, "test", chosen.thresholds[0]))
    assert row.first_error_f1.value == pytest.approx(expected, abs=1e-9)


def test_tables_of_steps_name_every_scorer_and_the_unseen_part(measured):
    assert [table.title for table in measured.step_metrics] == [
        "All problems", "Problems with an unseen operand pair",
    ]  # fmt: skip
    assert [table.num_solutions for table in measured.step_metrics] == [24, 6]
    names = [row.scorer for row in measured.step_metrics[0].rows]
    assert names == ["PRM", "logistic control", "random", "PRM, seed 1"]


def test_differences_are_paired_and_have_their_interval(measured):
    pairs = [(difference.a, difference.b) for difference in measured.differences]
    ours, (majority, rival) = measured.chosen, measured.references
    assert pairs == [
        (ours, majority), (ours, rival), (ours, "random sample"), (rival, majority),
    ]  # fmt: skip
    for difference in measured.differences:
        gap = accuracy(measured, difference.a, 6) - accuracy(measured, difference.b, 6)
        assert difference.difference == pytest.approx(gap, abs=1e-9)
        assert difference.low <= difference.difference <= difference.high


def test_the_gap_that_is_closed(measured):
    # From majority 1/2 to pass@6 = 1.
    expected = (accuracy(measured, measured.chosen, 6) - 0.5) / 0.5
    assert measured.gap_closed == pytest.approx(expected)


def test_costs_count_a_prompt_once_and_shared_prefixes_once(material, measured):
    problems, solutions = everything()
    own = [s for s in solutions if s.problem_id.startswith("p/test")]
    written = sum(s.usage.generated_tokens for s in own)
    assert measured.tokens["policy"] == 20 * 4 + written
    paths = {(s.problem_id, s.steps[: i + 1]) for s in own for i in range(len(s.steps))}
    expected = sum(len(f"{path[-1]}\n") for _, path in paths)
    expected += sum(len(f"Problem: {p.statement}\n") for p in problems if p.split == "test")
    assert measured.tokens["prm"] == expected
    curves = {curve.name: curve for curve in measured.methods}
    per_problem = (measured.tokens["policy"] + expected) / 4
    assert curves[title("best_of_n:prm-min")].tokens_per_problem == pytest.approx(per_problem)
    assert curves["majority vote"].tokens_per_problem == measured.tokens["policy"] / 4


def test_what_is_written_is_read_back(material, measured):
    found = read_evaluation(Path(material.output) / "evaluation.json")
    assert plain(found) == plain(measured)
    assert dataclasses.replace(found, choice={}) == dataclasses.replace(measured, choice={})


def test_an_evaluation_that_is_none_is_refused(tmp_path):
    with pytest.raises(RecordError, match="no evaluation here; run `prm evaluate` first"):
        read_evaluation(tmp_path / "evaluation.json")
    (tmp_path / "evaluation.json").write_text("{}")
    with pytest.raises(RecordError, match="evaluation.json"):
        read_evaluation(tmp_path / "evaluation.json")


def test_the_test_split_is_refused_before_anything_was_chosen(material, tmp_path):
    with pytest.raises(ConfigError, match=r"choice\.json: nothing was chosen.*--split selection"):
        evaluate.run(changed(material, tmp_path))


@pytest.fixture
def copied(material, measured, tmp_path):
    """An output folder with the choice and all score files of the run above."""
    assert measured.split == "test"
    folder = Path(shutil.copytree(material.output, tmp_path / "evaluation"))
    (folder / "evaluation.json").unlink()
    return folder


def test_the_choice_is_never_fitted_on_test(material, chosen, copied):
    """Another choice is used as it stands, however it does on test; the file stays as it was."""
    other = dataclasses.replace(
        chosen, method="weighted_vote:prm-last", rival="majority", thresholds=(0.123456, 0.5)
    )
    path = copied / "choice.json"
    path.write_text(json.dumps(dataclasses.asdict(other)))
    before = path.read_bytes()
    result = evaluate.run(changed(material, copied))
    assert path.read_bytes() == before
    assert result.chosen == title("weighted_vote:prm-last")
    assert result.references == ("majority vote", "majority vote")
    assert result.threshold == 0.123456


def test_a_committed_choice_can_be_used(material, chosen, copied, tmp_path):
    (copied / "choice.json").unlink()
    other = dataclasses.replace(chosen, method="best_of_n:prm-last")
    path = tmp_path / "committed.json"
    path.write_text(json.dumps(dataclasses.asdict(other)))
    result = evaluate.run(changed(material, copied, choice=str(path)))
    assert result.chosen == title("best_of_n:prm-last")
    assert not (copied / "choice.json").exists()


def test_a_choice_of_a_method_that_is_not_measured_is_refused(material, chosen, copied):
    other = dataclasses.replace(chosen, method="best_of_n:critic")
    (copied / "choice.json").write_text(json.dumps(dataclasses.asdict(other)))
    with pytest.raises(ConfigError, match="best_of_n:critic"):
        evaluate.run(changed(material, copied))


# Score files.


@pytest.fixture
def scored(material, tmp_path):
    """A function that scores the test split into a file, and the material to change."""
    folder = Path(shutil.copytree(material.prms[0], tmp_path / "prm"))
    samples = read_samples(material.problems, material.solutions, "test")
    file = tmp_path / "scores.json"

    def score(samples=samples, dtype="float32"):
        return prm_scores(str(folder), samples, file, dtype)

    return SimpleNamespace(score=score, folder=folder, samples=samples, file=file)


def mark(file):
    """Change a number in the file: who reads the file sees it."""
    kept = read_json(file)
    name = next(iter(kept["scores"]))
    kept["scores"][name][0] = 0.987654
    file.write_text(json.dumps(kept))
    return name


def test_scores_are_used_again_for_the_same_weights_and_solutions(scored):
    first = scored.score()
    name = mark(scored.file)
    again = scored.score()
    assert again.scores[name][0] == 0.987654
    assert {**again.scores, name: first.scores[name]} == first.scores
    assert (again.tokens, again.seconds) == (first.tokens, first.seconds)


def test_other_weights_are_scored_anew(scored):
    first = scored.score()
    name = mark(scored.file)
    head = load_file(scored.folder / "head.safetensors")
    head["linear.bias"] += 1.0
    save_file(head, scored.folder / "head.safetensors")
    again = scored.score()
    assert all(a > b for a, b in zip(again.scores[name], first.scores[name], strict=True))
    assert again.scores[name][0] != 0.987654


def test_other_solutions_are_scored_anew(scored):
    scored.score()
    name = mark(scored.file)
    group = scored.samples[0]
    steps = ("Step 1: another", *group.solutions[1].steps[1:])
    changed_one = dataclasses.replace(group.solutions[1], steps=steps)
    solutions = (group.solutions[0], changed_one, *group.solutions[2:])
    changed_group = dataclasses.replace(group, solutions=solutions)
    again = scored.score([changed_group, *scored.samples[1:]])
    assert again.scores[name][0] != 0.987654


def test_another_number_format_is_scored_anew(scored):
    scored.score()
    name = mark(scored.file)
    assert scored.score(dtype="bfloat16").scores[name][0] != 0.987654


def test_an_evaluation_that_was_stopped_goes_on_with_its_files(material, measured, copied):
    name = mark(copied / "scores" / "test-prm-0.json")
    (copied / "scores" / "test-prm-1.json").unlink()
    result = evaluate.run(changed(material, copied))
    shown = {s.steps[0].score for s in result.solutions}
    assert 0.987654 in shown, name
    assert (
        result.methods_by_seed["1"]["best_of_n:prm-min"]
        == measured.methods_by_seed["1"]["best_of_n:prm-min"]
    )


# Solutions that have no scores.


def test_a_solution_that_cannot_be_encoded_scores_zero_and_the_run_goes_on(material, tmp_path):
    """Its answer is right, but nothing speaks for it: best-of-n takes any other answer."""
    _, solutions = everything()
    hit = "p/test-0#0"
    solutions = [
        dataclasses.replace(s, steps=(UNREADABLE_STEP, *s.steps[1:])) if s.id == hit else s
        for s in solutions
    ]
    config = changed(
        material, tmp_path / "out", solutions=stored(tmp_path / "s", solutions),
        prms=material.prms[:1],
    )  # fmt: skip
    evaluate.run(dataclasses.replace(config, split="selection"))
    result = evaluate.run(config)
    scores = read_json(tmp_path / "out" / "scores" / "test-prm-0.json")["scores"]
    assert scores[hit] is None
    assert all(row is not None for name, row in scores.items() if name != hit)
    group = next(g for g in read_samples(config.problems, config.solutions, "test")
                 if g.problem.id == "p/test-0")  # fmt: skip
    table = methods._solution_scores(group, scores, None)
    for how in AGGREGATES:
        assert table[f"prm-{how}"][0] == 0.0
        assert min(table[f"prm-{how}"][1:]) > 0.0
    assert hit not in {s.id for g in [group] for s in g.solutions if scores[s.id]}
    assert result.num_samples == 6
    # The steps that were scored are measured, the others are not readable: one of 24.
    assert result.step_metrics[0].num_solutions == 24


def test_too_long_solutions_score_zero_too(material, tmp_path):
    folder = tiny_scorer_folder(tmp_path / "prm", max_tokens=70)
    samples = read_samples(material.problems, material.solutions, "test")
    found = prm_scores(str(folder), samples, tmp_path / "scores.json", "float32")
    short = {s.id for g in samples for s in g.solutions if len(s.steps) == 1}
    assert {name for name, row in found.scores.items() if row is not None} == short
    assert len(short) == 4


# The critic.


@pytest.fixture(scope="module")
def critic_folder(tmp_path_factory):
    """A critic that never learnt its dialect: what it writes cannot be read."""
    folder = tiny_model_folder(tmp_path_factory.mktemp("critic") / "critic")
    Dialect().save(folder)
    return str(folder)


def test_critiques_that_cannot_be_read_are_counted_and_judge_nothing(
    material, critic_folder, copied
):
    evaluate.run(changed(material, copied, critic=critic_folder, split="selection"))
    result = evaluate.run(changed(material, copied, critic=critic_folder))
    assert sum(result.critic.statuses.values()) == 24
    assert "ok" not in result.critic.statuses
    assert result.critic.parse_rate.value == 0.0
    assert result.critic.parse_rate.high < 0.25
    # Without scores its best-of-n is a draw among the samples with an answer: 2 of 5.
    assert accuracy(result, "best-of-n by critic", 6) == pytest.approx(2 / 5)
    rows = {row.scorer: row for row in result.step_metrics[0].rows}
    assert rows["critic (verdict)"].first_error_f1.value == 0.0
    assert rows["critic (scores)"].step_auc is None
    assert result.tokens["critic"] > 0


def test_critiques_are_kept_and_used_again(material, critic_folder, tmp_path):
    samples = read_samples(material.problems, material.solutions, "test")[:1]
    file = tmp_path / "critic.json"
    scores, critiques = critic_scores(critic_folder, samples, file, "float32")
    assert set(critiques) == {s.id for s in samples[0].solutions}
    texts = tmp_path / "critic.critiques.json"
    texts.write_text(texts.read_text().replace(next(iter(critiques.values())).status, "marked", 1))
    again = critic_scores(critic_folder, samples, file, "float32")
    assert again[0] == scores
    assert Counter(c.status for c in again[1].values())["marked"] == 1


def test_statuses_of_critiques_are_counted():
    """Two of three could be read."""
    kinds = ("ok", "no_verdict", "ok")
    critiques = {
        f"p/0#{i}": Critique(f"p/0#{i}", "p/0", "", status, (), None, "tiny")
        for i, status in enumerate(kinds)
    }
    scored = evaluate._Scored([], [], None, critiques, [], {})
    found = evaluate._critic(scored)
    assert found.statuses == {"ok": 2, "no_verdict": 1}
    assert found.parse_rate.value == pytest.approx(2 / 3)
    assert evaluate._critic(evaluate._Scored([], [], None, {}, [], {})) is None


# Calibration and label statistics.


def counted(one, sample, steps, counts):
    labels = tuple(label(i, *row, None) for i, row in enumerate(counts))
    return LabelledSolution(
        solution(one, sample, steps), labels, {}, Verdict("right", "x"), "test", "known"
    )


CALIBRATION = [
    # Prefixes: a (8 trials), a b (2 trials), a c (8 trials); a again in the second solution.
    counted(problem(0, "selection"), 0, ["a", "b"], [(6, 8), (2, 2)]),
    counted(problem(0, "selection"), 1, ["a", "c"], [(6, 8), (0, 8)]),
    counted(problem(0, "selection"), 2, ["d"], [(8, 8)]),
]


def calibration(scores, min_trials):
    return step_report.measure_calibration("PRM", "success_rate", CALIBRATION, scores, min_trials)


def test_calibration_counts_prefixes_with_enough_trials_once():
    names = [row.id for row in CALIBRATION]
    scores = dict(zip(names, [[0.75, 0.5], [0.75, 0.0], None], strict=True))
    # Six trials or more: a (score 3/4, rate 6/8) and a c (0, 0/8): no error at all.
    found = calibration(scores, 6)
    assert sum(one.count for one in found.bins) == 2
    assert found.ece == pytest.approx(0.0, abs=1e-9)
    # Two or more: a b (1/2 against 2/2) too. One of three steps is off by one half.
    found = calibration(scores, 2)
    assert sum(one.count for one in found.bins) == 3
    assert found.ece == pytest.approx(0.5 / 3)


def test_calibration_of_nothing_is_not_measured():
    names = [row.id for row in CALIBRATION]
    assert calibration({name: [0.5, 0.5] for name in names}, 9) is None
    assert calibration(dict.fromkeys(names, None), 1) is None


def test_calibration_is_measured_on_selection(material, measured):
    """Every prefix there has eight trials, but those behind an error have none."""
    problems, solutions = everything()
    rows = [
        row for row in labelled_rows(problems, solutions)
        if row.solution.problem_id.startswith("p/selection")
    ]  # fmt: skip
    expected = {
        (row.solution.problem_id, row.solution.steps[: one.step + 1])
        for row in rows for one in row.labels if one.trials >= 6
    }  # fmt: skip
    assert sum(one.count for one in measured.reliability.bins) == len(expected)
    assert measured.reliability.target == "success_rate"


def test_label_statistics_by_hand():
    one = problem(0, "train")  # 2 + 3 + 4
    right, wrong = steps_of(one, 0, 0), steps_of(one, 0, 1)
    rows = [
        dataclasses.replace(
            counted(one, 0, right, [(4, 8), (8, 8), (8, 8)]), first_error={"none": 1.0}
        ),
        dataclasses.replace(
            counted(one, 1, wrong, [(4, 8), (0, 4), (0, 0)]), first_error={"1": 1.0}
        ),
    ]
    hard = [[True, False, None], [True, True, None]]
    rows = [
        dataclasses.replace(
            row,
            labels=tuple(
                dataclasses.replace(x, hard=h) for x, h in zip(row.labels, flags, strict=True)
            ),
        )
        for row, flags in zip(rows, hard, strict=True)
    ]
    found = step_report.label_statistics(rows, {one.id: one})
    # Step 1 is shared: once. Right: it, said good. Wrong: the right step 2 said bad, and the
    # wrong one said good. Undecided: the two answers.
    assert found.accuracy.value == pytest.approx(1 / 3)
    assert (found.num_solutions, found.num_steps, found.num_undecided) == (2, 6, 2)
    assert found.tokens_by_kind == {"rollouts": 80 + 80 + 80 + 40}
    assert found.right_labels_per_1000_tokens == pytest.approx(1000 / 280)
    assert [(r.num_steps, r.by_step, r.none) for r in found.first_error] == [(3, (0, 1, 0), 1)]
    # Rates: 0.5 twice, 1.0 twice (in the last bar), 0.0 once.
    assert [bar.count for bar in found.success_rates] == [1, 0, 0, 0, 0, 2, 0, 0, 0, 2]


def test_labels_of_training_solutions_are_measured(measured):
    assert measured.labels.num_solutions == 24
    assert measured.labels.accuracy.value == 1.0


# Samples.


def test_an_answer_that_cannot_be_checked_is_not_right(tmp_path):
    one = problem(0, "test")
    texts = [["Answer: 9"], ["Answer: nine"], ["Step 1: 2 + 3 = 5"], ["Answer: 8"]]
    solutions = [solution(one, k, steps) for k, steps in enumerate(texts)]
    (group,) = read_samples(
        stored(tmp_path / "p", [one]), stored(tmp_path / "s", solutions), "test"
    )
    assert group.right == (True, False, False, False)
    assert group.answers == ["9", "nine", None, "8"]
    # An answer while operands are unused is a wrong step; stopping early is none.
    assert group.first_errors() == [0, 0, None, 0]
    assert group.has_truth


def test_samples_that_are_missing_are_named(material, tmp_path):
    with pytest.raises(RecordError, match="no problem has split 'dev'"):
        read_samples(material.problems, material.solutions, "dev")
    _, solutions = everything()
    some = stored(tmp_path / "s", [s for s in solutions if not s.problem_id.startswith("p/test")])
    with pytest.raises(RecordError, match="no solution of a test problem; sample them first"):
        read_samples(material.problems, some, "test")


def test_a_sample_that_had_no_step_counts_as_one_without_an_answer(material, tmp_path):
    """One problem has lost a right sample, another all of its samples."""
    _, solutions = everything()
    lost = [s for s in solutions if s.problem_id == "p/test-2" or s.id == "p/test-0#0"]
    some = stored(tmp_path / "s", [s for s in solutions if s not in lost])
    config = changed(material, tmp_path / "out", solutions=some, prms=material.prms[:1])
    evaluate.run(dataclasses.replace(config, split="selection"))
    result = evaluate.run(config)
    # Right at random: 1/6, 2/6, none, 2/6. Whether any of all six is right: 1, 1, 0, 1.
    assert accuracy(result, "random sample", 6) == pytest.approx(5 / 24)
    assert accuracy(result, "pass@n (bound)", 6) == pytest.approx(3 / 4)
    assert result.num_problems == 4


def test_a_choice_of_other_models_is_refused(material, chosen, copied, tmp_path):
    other = str(tiny_scorer_folder(tmp_path / "prm", seed=3))
    with pytest.raises(ConfigError, match="the choice was made for the PRMs"):
        evaluate.run(changed(material, copied, prms=[material.prms[0], other]))
    assert chosen.models[0] != chosen.models[1]


def test_scores_outlive_what_the_report_writes_into_the_spec(scored):
    """The report writes aggregate and threshold into the published spec."""
    first = scored.score()
    name = mark(scored.file)
    spec = load_spec(scored.folder)
    dataclasses.replace(spec, aggregate="prod", threshold=0.1, chosen_on="x").save(scored.folder)
    assert scored.score().scores[name][0] == 0.987654
    dataclasses.replace(spec, template="{problem}\n").save(scored.folder)
    assert scored.score().scores[name] != first.scores[name]
    assert scored.score().scores[name][0] != 0.987654


# Without truth, without labels, without likelihoods.


def test_other_problems_have_fewer_measures(material, tmp_path):
    """No operands: no step truth. No log-probabilities: the majority vote is the rival."""
    problems, solutions = everything()
    config = changed(
        material,
        tmp_path / "out",
        problems=stored(tmp_path / "p", [dataclasses.replace(p, meta={}) for p in problems]),
        solutions=stored(tmp_path / "s", [dataclasses.replace(s, logprob=None) for s in solutions]),
        labelled=None,
        prms=material.prms[:1],
    )
    choice = evaluate.run(dataclasses.replace(config, split="selection"))
    assert (choice.rival, choice.thresholds) == ("majority", (0.5,))
    result = evaluate.run(config)
    assert (result.step_metrics, result.solutions) == ((), ())
    assert (result.labels, result.reliability, result.critic) == (None, None, None)
    assert not any("log-probability" in curve.name for curve in result.methods)


# What is shown.


def test_the_terminal_shows_the_numbers_of_the_file(
    material, chosen, measured, capsys, monkeypatch
):
    monkeypatch.setenv("COLUMNS", "160")  # wide enough that no line is folded
    show_choice(chosen, material.output)
    shown = capsys.readouterr().out
    assert f"chosen: {chosen.method} (accuracy {chosen.accuracy[chosen.method]:.3f}" in shown
    assert f"rival {chosen.rival} ({chosen.accuracy[chosen.rival]:.3f})" in shown
    show_evaluation(measured)
    lines = capsys.readouterr().out.splitlines()
    for curve in measured.methods:
        (line,) = [line for line in lines if line.split("│")[1:2] and curve.name in line]
        assert all(f"{point.accuracy:.3f}" in line for point in curve.points)
        assert ("*" in line) == (curve.name in (measured.chosen, measured.references[1]))
    assert any("4 test problems" in line for line in lines)
    (line,) = [line for line in lines if "calibration error" in line]
    assert line.strip() == f"calibration error against success_rate: {measured.reliability.ece:.3f}"
    for difference in measured.differences:
        (line,) = [x for x in lines if f"{difference.a} minus {difference.b}: " in x]
        assert f"{difference.difference:+.3f}" in line
        is_shown = difference.low > 0 or difference.high < 0
        assert line.endswith("no difference shown") != is_shown


def test_the_command_evaluates_from_a_settings_file(material, copied, tmp_path, capsys):
    path = tmp_path / "evaluate.yaml"
    path.write_text(json.dumps(dataclasses.asdict(changed(material, copied))))
    cli.main(["evaluate", "--config", str(path), "--split", "selection"])
    assert "evaluate: on selection chosen: " in capsys.readouterr().out
    cli.main(["evaluate", "--config", str(path), "--split", "test"])
    assert "4 test problems" in capsys.readouterr().out
    assert (copied / "evaluation.json").is_file()
