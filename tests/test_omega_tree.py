import dataclasses
import json
import math
import random

import pytest

from data_gen.labelers.omega_states import TreeSettings
from data_gen.labelers.omega_tree import OmegaTree, search_trees
from prm.errors import ConfigError, RecordError
from prm.protocols import Rollout
from prm.records import LabelledSolution, from_json, to_json
from prm.steps import join_steps

LENGTH = 9
SETTINGS = TreeSettings(completer="tiny")


class Chain:
    """A policy that writes LENGTH steps and goes wrong now and then, never to recover.

    The n-th rollout of a prefix is the same whoever asks. Every other one of a good prefix is right
    to its end, so that no good prefix looks bad.
    """

    def __init__(self, seed=0, budget=math.inf, recovery=0.0):
        self.seed, self.budget, self.recovery = seed, budget, recovery
        self.had = {}
        self.calls = []

    async def sample_many(self, requests):
        self.calls.append([(one.problem_id, one.steps[:kept], n) for one, kept, n in requests])
        return [self._group(*request) for request in requests]

    def _group(self, solution, kept, n):
        assert kept < max(1, len(solution.steps))
        group = []
        while len(group) < n and self.budget > 0:
            self.budget -= 1
            group.append(self._draw(solution.problem_id, solution.steps[:kept]))
        return group

    def _draw(self, problem, steps):
        number = self.had[problem, steps] = self.had.get((problem, steps), -1) + 1
        source = random.Random(f"{self.seed} {problem} {steps} {number}")
        written = []
        is_good = not any("wrong" in step for step in steps)
        recovers = source.random() < self.recovery
        error = source.randrange(len(steps), LENGTH) if number % 2 else LENGTH
        for t in range(len(steps), LENGTH - 1):
            style = source.choice("ab")
            written.append(f"{t} {style}{' wrong' if is_good and t == error else ''}")
        right = recovers or (is_good and error == LENGTH)
        written.append(f"Answer: {16 if right else 17}")
        return Rollout(right, 10 * len(written), join_steps(written))


def first_wrong(solution):
    """The truth: the step that says it, else the last one, which states a wrong answer."""
    return next((t for t, one in enumerate(solution.steps) if "wrong" in one), LENGTH - 1)


def grown(num_searches=12, **chain):
    tree, rollouts = OmegaTree("p", SETTINGS), Chain(**chain)
    return tree, rollouts, tree.search(rollouts, num_searches)


def by_hand(row):
    """[own successes, own trials, passing successes, passing trials] of every state."""
    row = json.loads(json.dumps(row))
    states, counts = row["states"], []
    for number, state in enumerate(states):
        mine = [0, 0, 0, 0]
        for index, one in enumerate(row["rollouts"]):
            begin = states[one["state"]]["steps"]
            steps = [*begin, *one["text"].split("\n")]
            if one["state"] == number:
                mine[0] += one["correct"]
                mine[1] += 1
            elif (
                len(begin) < len(state["steps"]) < len(steps)
                and steps[: len(state["steps"])] == state["steps"]
                and index != state["origin"]
            ):
                mine[2] += one["correct"]
                mine[3] += 1
        counts.append(mine)
    return counts


def test_the_first_errors_of_the_searched_rollouts_are_found():
    _, _, rows = grown()
    assert len(rows) == 12
    for row in rows:
        assert row.first_error == {str(first_wrong(row.solution)): 1.0}
        assert row.verdict.status == "wrong"
        assert row.stop_reason == "first_error_found"
        labels = [label.hard for label in row.labels]
        error = first_wrong(row.solution)
        assert labels == [True] * error + [False] + [None] * (LENGTH - error - 1)


def test_the_successes_of_a_state_are_those_of_its_rollouts():
    tree, _, _ = grown()
    row = tree.to_json()
    passing = 0
    for number, (won, tried, won_by, tried_by) in enumerate(by_hand(row)):
        counts = tree.statistics.counts(number)
        assert counts.rollouts == [won, tried]
        assert counts.siblings == [won_by, tried_by]
        assert (counts.successes, counts.trials) == (won + won_by, tried + tried_by)
        passing += tried_by
    # In this world prefixes are often written again: the law was not tested on nothing.
    assert passing > 10


def test_no_state_gets_more_rollouts_than_it_needs():
    tree, rollouts, rows = grown()
    for number, (_, tried, _, tried_by) in enumerate(by_hand(tree.to_json())):
        assert tried <= SETTINGS.num_rollouts <= tried + tried_by
        assert tree.statistics.num_missing(number) <= 0
    asked = [steps for call in rollouts.calls for _, steps, _ in call]
    assert len(asked) == len(set(asked))
    # One for the root, then those of 12 binary searches over at most 9 steps.
    assert len(asked) <= 1 + 12 * math.ceil(math.log2(LENGTH))
    assert len(rows) == sum(one.is_searched for one in tree.statistics.rollouts)


def test_the_selected_rollout_is_the_best_by_the_rule_of_the_paper():
    tree, rollouts = OmegaTree("p", SETTINGS), Chain()
    tree.search(rollouts, 0)
    for _ in range(10):
        before = tree.to_json()
        counts = by_hand(before)
        visits = [state["visits"] for state in before["states"]]
        scores = {}
        steps = [one.steps for one in tree.statistics.solutions]
        done = {steps[i] for i, one in enumerate(before["rollouts"]) if one["is_searched"]}
        for index, one in enumerate(before["rollouts"]):
            won, tried, won_by, tried_by = counts[one["state"]]
            rate = (won + won_by) / (tried + tried_by)
            if not one["correct"] and steps[index] not in done and 0 < rate < 1:
                value = 0.5 ** (1 - rate) * 0.9 ** (one["num_tokens"] / 500)
                bonus = 0.125 * sum(visits) ** 0.5 / (1 + visits[one["state"]])
                scores[index] = value + bonus
        [row] = tree.search(rollouts, 1)
        chosen = int(row.id.removeprefix("p#tree"))
        assert scores[chosen] == pytest.approx(max(scores.values()))
        after = tree.to_json()
        assert after["rollouts"][chosen]["is_searched"]
        state = before["rollouts"][chosen]["state"]
        assert after["states"][state]["visits"] == visits[state] + 1
    assert sum(state["visits"] for state in tree.to_json()["states"]) == 10


def test_labels_are_the_counts_of_the_states_on_the_way():
    tree, _, rows = grown(1)
    [row] = rows
    root = tree.statistics.counts(0)
    assert (row.root_successes, row.root_trials) == (root.successes, root.trials - 1)
    for label in row.labels[:-1]:
        number = tree.statistics.numbers.get(row.solution.steps[: label.step + 1])
        if number is None:
            assert (label.trials, label.success_rate, label.evidence) == (0, None, ())
        else:
            counts = tree.statistics.counts(number)
            assert (label.successes, label.trials) == (counts.successes, counts.trials)
            assert label.tokens == counts.tokens
    assert row.tokens == sum(label.tokens for label in row.labels) > 0
    assert row.tokens_by_kind == {"rollouts": row.tokens}
    assert (row.labeler, row.completer) == ("omega_tree", "tiny")


@pytest.mark.parametrize("cut", [0, 1, 3, 7])
def test_a_tree_from_json_goes_on_as_if_undisturbed(cut):
    whole, _, rows = grown()
    tree, rollouts = OmegaTree("p", SETTINGS), Chain()
    found = tree.search(rollouts, cut)
    tree = OmegaTree.from_json(json.loads(json.dumps(tree.to_json())))
    found += tree.search(rollouts, 12 - cut)
    assert found == rows
    assert tree.to_json() == whole.to_json()
    assert tree.right_solutions() == whole.right_solutions()


def test_a_tree_whose_rollouts_end_anywhere_goes_on_as_if_undisturbed():
    whole, _, rows = grown(6)
    for budget in range(0, 60, 7):
        tree, rollouts = OmegaTree("p", SETTINGS), Chain(budget=budget)
        found = tree.search(rollouts, 6)
        assert found == rows[: len(found)]
        rollouts.budget = math.inf
        tree = OmegaTree.from_json(json.loads(json.dumps(tree.to_json())))
        found += tree.search(rollouts, 6 - len(found))
        assert found == rows
        assert tree.to_json() == whole.to_json()


def test_trees_of_many_problems_are_searched_in_the_same_calls_and_as_if_alone():
    names = [f"p{k}" for k in range(5)]
    trees, rollouts = [OmegaTree(name, SETTINGS) for name in names], Chain()
    found = search_trees(trees, rollouts, 4)
    alone_calls = []
    for name, rows in zip(names, found, strict=True):
        alone = Chain()
        assert OmegaTree(name, SETTINGS).search(alone, 4) == rows
        alone_calls.append(len(alone.calls))
    assert len(rollouts.calls) == max(alone_calls)
    assert len(rollouts.calls[0]) == 5


def test_a_problem_that_is_always_or_never_solved_is_not_searched():
    class Same:
        def __init__(self, correct):
            self.correct = correct

        async def sample_many(self, requests):
            text = f"0 a\nAnswer: {16 if self.correct else 17}"
            return [[Rollout(self.correct, 5, text)] * n for _, _, n in requests]

    for correct in (True, False, None):
        tree = OmegaTree("p", SETTINGS)
        assert tree.search(Same(correct)) == []
        assert len(tree.right_solutions()) == (correct is True)


def test_no_rollout_is_searched_twice_even_if_it_was_written_twice():
    tree, _, rows = grown(10**6)
    texts = [row.solution.steps for row in rows]
    assert len(texts) == len(set(texts)) > 12
    assert tree.search(Chain()) == []


def test_right_rollouts_are_right_throughout_and_make_no_state():
    tree, _, _ = grown()
    rows = tree.right_solutions()
    assert {label.hard for row in rows for label in row.labels} == {True}
    assert {row.solution.final_answer for row in rows} == {"16"}
    assert {(row.stop_reason, str(row.first_error)) for row in rows} == {
        ("right_answer", "{'none': 1.0}")
    }
    assert all(
        state.origin is None or not tree.statistics.rollouts[state.origin].correct
        for state in tree.statistics.states
    )


def test_solutions_of_a_tree_have_ids_steps_and_parents():
    tree, _, rows = grown()
    ids = [one.id for one in tree.statistics.solutions]
    assert len(ids) == len(set(ids))
    for row in rows:
        one = row.solution
        assert one.problem_id == "p"
        assert len(one.steps) == LENGTH
        assert one.final_answer == "17"
        if one.parent is not None:
            parent = tree.statistics.solutions[ids.index(one.parent)]
            assert parent.steps[0] == one.steps[0]
        assert from_json(LabelledSolution, json.loads(json.dumps(to_json(row))), "here") == row
    assert {row.solution.parent is None for row in rows} == {True, False}


def test_where_wrong_prefixes_recover_a_threshold_finds_what_any_success_does_not():
    def share_right(threshold):
        settings = dataclasses.replace(SETTINGS, threshold=threshold, num_rollouts=24)
        tree = OmegaTree("p", settings)
        rows = tree.search(Chain(recovery=0.1), 30)
        assert len(rows) == 30
        return sum(row.first_error == {str(first_wrong(row.solution)): 1.0} for row in rows) / 30

    assert share_right(0.3) > 0.9 > 0.6 > share_right(0.0)


def test_rollouts_without_text_and_other_records_are_refused():
    class Mute(Chain):
        def _draw(self, *_):
            return Rollout(True, 1, None)

    with pytest.raises(ConfigError, match="text"):
        OmegaTree("p").search(Mute())
    tree, _, _ = grown(1)
    row = tree.to_json()
    for wrong in (
        row | {"schema": "omega_tree/0"},
        row | {"more": 1},
        row | {"rollouts": [row["rollouts"][0] | {"state": 99}]},
    ):
        with pytest.raises(RecordError):
            OmegaTree.from_json(wrong)
