"""The real pool: drawn once, gone on with after a kill, and served without replacement."""

import dataclasses
import json
import random
import re

import pytest

from benchmarks.labelling import pool as drawing
from benchmarks.labelling.chains import CHAINS, right_chain
from benchmarks.labelling.end_use import buy, in_turns
from benchmarks.labelling.end_use_report import judge, mean_f1, predict
from benchmarks.labelling.pool import Drawer, PoolConfig, fill, pool_problems
from benchmarks.labelling.pooled import Drawn, PooledRollouts, measure, read_drawn, read_pool
from benchmarks.labelling.real_model import join
from data_gen.arithmetic import make_problems
from data_gen.labelers import MathShepherdLabeler
from data_gen.labelers.verdicts import wait_for
from prm.errors import StoreError
from prm.evaluation.step_truth import first_error
from prm.protocols import Generation
from prm.records import Problem, Solution

SMALL = PoolConfig(seeds=2, problems=4, samples=3, rollouts=5, test_problems=3, test_samples=2)
PROBLEM = Problem(
    id="p",
    statement="Calculate 1 + 2 + 3.",
    reference_answer="6",
    verifier="integer",
    source="arithmetic",
    split="train",
    meta={"operands": [1, 2, 3], "operators": ["+", "+"]},
)
RIGHT = ("Step 1: 1 + 2 = 3", "Step 2: 3 + 3 = 6", "Answer: 6")
LATE = ("Step 1: 1 + 2 = 3", "Step 2: 3 + 3 = 7", "Answer: 7")
EARLY = ("Step 1: 1 + 2 = 4", "Step 2: 4 + 3 = 7", "Answer: 7")
HIDDEN = ("Step 1: 1 + 2 = 4", "Step 2: 3 + 3 = 6", "Answer: 6")


class Careless:
    """Works out chains from the prompt on, and adds wrongly one time in four."""

    name = "careless"

    def __init__(self, calls=None):
        self.calls = calls

    def generate(self, prompts, params, *, seed):
        if self.calls is not None and self.calls == 0:
            raise KeyboardInterrupt
        if self.calls is not None:
            self.calls -= 1
        rng = random.Random(seed)
        return [[self._write(prompt, rng) for _ in range(params.n)] for prompt in prompts]

    def _write(self, prompt, rng):
        statement, *steps = prompt.removeprefix("Problem: ").strip().split("\n")
        operands = [int(one) for one in re.findall("[0-9]+", statement)]
        total = int(steps[-1].rpartition("= ")[2]) if steps else operands[0]
        lines = []
        for index in range(len(steps) + 1, len(operands)):
            result = total + operands[index] + (rng.random() < 0.25)
            lines.append(f"Step {index}: {total} + {operands[index]} = {result}")
            total = result
        text = "\n".join([*lines, f"Answer: {total}"])
        return Generation(text, "stop", len(prompt), len(text))


def solution(steps, k=0, problem_id="p"):
    answer = steps[-1].removeprefix("Answer: ")
    return Solution(f"{problem_id}#{k}", problem_id, steps, answer, "stop", "test", "test")


def drawn(all_steps, labels, rollouts=()):
    solutions = tuple(solution(steps, k) for k, steps in enumerate(all_steps))
    made = {
        ("p", steps): [(won, 7, "") for won in group] for steps, group in dict(rollouts).items()
    }
    return Drawn((PROBLEM,), solutions, tuple(labels), made)


def ask(rollouts, *requests):
    return wait_for(rollouts.sample_many(requests))


def test_the_right_chain_is_right_to_the_truth():
    for problem in make_problems({"train": 20}, seed=3, **CHAINS):
        lines = right_chain(problem).split("\n")
        assert first_error(problem.meta, lines) is None
        assert len(lines) == len(problem.meta["operands"])


def test_a_killed_pool_goes_on_and_is_the_same(tmp_path):
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    whole.mkdir(), killed.mkdir()
    fill(whole, SMALL, Drawer(Careless(), SMALL))
    with pytest.raises(KeyboardInterrupt):
        fill(killed, SMALL, Drawer(Careless(calls=3), SMALL))
    with (killed / "seed-0.jsonl").open("a") as file:
        file.write('{"problems": [{"sch')
    fill(killed, SMALL, Drawer(Careless(), SMALL))
    names = sorted(path.name for path in whole.iterdir())
    assert names == ["seed-0.jsonl", "seed-1.jsonl", "test.jsonl"]
    assert all((whole / name).read_bytes() == (killed / name).read_bytes() for name in names)
    asleep = Drawer(Careless(calls=0), SMALL)
    fill(killed, SMALL, asleep)


def test_every_inner_prefix_has_the_same_number_of_rollouts_and_the_test_has_none(tmp_path):
    fill(tmp_path, SMALL, Drawer(Careless(), SMALL))
    pool = read_pool(tmp_path)
    for name in ("seed-0", "seed-1"):
        one = pool[name]
        assert len(one.solutions) == SMALL.problems * SMALL.samples
        inner = {
            (s.problem_id, s.steps[:kept]) for s in one.solutions for kept in range(1, len(s.steps))
        }
        assert set(one.rollouts) == inner
        assert {len(group) for group in one.rollouts.values()} == {SMALL.rollouts}
        by_id = {problem.id: problem for problem in one.problems}
        for each, label in zip(one.solutions, one.labels, strict=True):
            assert label == (each.final_answer == by_id[each.problem_id].reference_answer)
    assert not pool["test"].rollouts
    assert len(pool["test"].solutions) == SMALL.test_problems * SMALL.test_samples


def test_more_problems_leave_those_that_are_there():
    more = pool_problems(dataclasses.replace(SMALL, problems=9))
    for name, problems in pool_problems(SMALL).items():
        assert more[name][: len(problems)] == problems
    ids = [problem.id for problems in more.values() for problem in problems]
    assert len(set(ids)) == len(ids)


def test_other_settings_are_refused(tmp_path):
    drawing.check_settings(tmp_path / "pool.json", {"samples": 3})
    drawing.check_settings(tmp_path / "pool.json", {"samples": 3})
    with pytest.raises(SystemExit, match="other settings"):
        drawing.check_settings(tmp_path / "pool.json", {"samples": 4})


def test_no_pool_is_an_error(tmp_path):
    with pytest.raises(StoreError, match=r"labelling\.pool"):
        read_pool(tmp_path)


def test_a_line_comes_back_as_it_was(tmp_path):
    one = drawn([RIGHT, LATE], [True, None], {RIGHT[:1]: [True, False, None]})
    (tmp_path / "x.jsonl").write_text(json.dumps(one.to_json()) + "\n")
    assert read_drawn(tmp_path / "x.jsonl") == [one]


def test_a_rollout_is_served_once_also_when_solutions_share_the_prefix():
    one = drawn([RIGHT, LATE], [True, False], {RIGHT[:1]: [True, False, True]})
    right, late = one.solutions
    rollouts = PooledRollouts(one)
    groups = ask(rollouts, (right, 1, 2), (late, 1, 2), (late, 2, 1))
    assert [[made.correct for made in group] for group in groups] == [[True, False], [True], []]
    assert ask(rollouts, (right, 1, 1)) == [[]]
    assert len(ask(PooledRollouts(one), (late, 1, 3))[0]) == 3


def test_a_whole_solution_is_its_own_verdict_for_no_tokens():
    one = drawn([RIGHT, LATE], [True, False])
    groups = ask(PooledRollouts(one), (one.solutions[0], 3, 1), (one.solutions[1], 3, 2))
    assert [[(made.correct, made.num_tokens) for made in g] for g in groups] == [
        [(True, 0)],
        [(False, 0)] * 2,
    ]


def test_rates_are_those_of_the_truth():
    one = drawn(
        [RIGHT, LATE, EARLY, HIDDEN],
        [True, False, False, True],
        {
            RIGHT[:1]: [True, True, False, False],
            RIGHT[:2]: [True, False, False, False, False],
            LATE[:2]: [False, False, False, True],
            EARLY[:1]: [False] * 4,
            EARLY[:2]: [False] * 4,
            HIDDEN[:2]: [True, None, True, True],
        },
    )
    rates = measure(one)
    assert (rates.num_solutions, rates.num_wrong, rates.num_hidden, rates.p0) == (4, 2, 1, 0.5)
    assert rates.places == {0: 1, 1: 1}
    assert rates.recovery == pytest.approx((0.25 + 0 + 0 + 1) / 4)
    assert rates.high_recovery == pytest.approx(2 / 4)
    # The second right prefix has 0.2, less than half of the 0.5 before; the first has the root's.
    assert rates.dips == pytest.approx(1 / 2)


def test_joined_pools_have_everything_of_each():
    a = drawn([RIGHT], [True], {RIGHT[:1]: [True]})
    other = dataclasses.replace(PROBLEM, id="q")
    b = Drawn((other,), (solution(LATE, problem_id="q"),), (False,), {("q", LATE[:1]): []})
    both = join([a, b])
    assert both.first_errors() == [None, 1]
    assert set(both.rollouts) == {("p", RIGHT[:1]), ("q", LATE[:1])}


def test_a_budget_buys_the_first_solutions_in_turns(tmp_path):
    fill(tmp_path, SMALL, Drawer(Careless(), SMALL))
    one = read_pool(tmp_path)["seed-0"]
    order = in_turns(one)
    assert [s.id for s in order[:4]] == [f"{problem.id}#0" for problem in one.problems]
    labeler = MathShepherdLabeler(2, everywhere=True, reuse_siblings=False)
    everything = buy([labeler], order, one, 10**9)
    assert [label.id for label in everything.labelled] == [s.id for s in order]
    bought = buy([labeler], order, one, everything.tokens // 2)
    count = len(bought.labelled)
    assert 0 < count < len(order)
    assert bought.tokens <= everything.tokens // 2
    assert buy([labeler], order[: count + 1], one, 10**9).tokens > everything.tokens // 2
    assert buy([labeler], order, one, bought.tokens).labelled == bought.labelled
    cheaper = dataclasses.replace(labeler, num_rollouts=1)
    spread = buy([labeler, cheaper], order, one, everything.tokens - 1)
    assert len(spread.labelled) == len(order)
    assert spread.tokens < everything.tokens


def test_the_threshold_of_a_half_comes_from_the_other_half():
    truth = {"a": 1, "b": None, "c": 1, "d": None}
    halves = {"a": 0, "b": 0, "c": 1, "d": 1}
    scores = {"a": [0.9, 0.6], "b": [0.9, 0.8], "c": [0.5, 0.1], "d": [0.5, 0.4]}
    # The first half is told apart between .6 and .8, the second between .1 and .4.
    assert predict(scores, truth, halves) == {"a": None, "b": None, "c": 0, "d": 0}
    same = {name: scores[name.translate(str.maketrans("cd", "ab"))] for name in scores}
    assert predict(same, truth, halves) == truth


def test_the_f1_is_the_mean_over_prms():
    other = dataclasses.replace(PROBLEM, id="q")
    solutions = [solution(s, k, p) for p in "pq" for k, s in enumerate((RIGHT, LATE))]
    test = Drawn((PROBLEM, other), tuple(solutions), (True, False) * 2, {})
    good = {one.id: [0.9, 0.9 if one.steps == RIGHT else 0.1, 0.9] for one in solutions}
    blind = {one.id: [0.9, 0.9, 0.9] for one in solutions}
    names = dataclasses.make_dataclass("Named", ["scores"])
    groups = judge([names(good), names(blind)], test)
    assert [len(group) for group in groups] == [2, 2]
    assert mean_f1(groups, [0]) == 1.0
    assert mean_f1(groups, [1]) == 0.0
    assert mean_f1(groups, [0, 1]) == 0.5
    assert mean_f1([groups[0][:1]], [0]) is None
