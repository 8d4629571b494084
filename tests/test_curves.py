import itertools
import random
import time

import numpy as np
import pytest

from prm.errors import ConfigError, EncodingError, RecordError
from prm.evaluation.curves import SampledProblem, accuracy_curves, pass_at_n
from prm.search.best_of_n import expected_best
from prm.search.voting import expected_vote

METHODS = (
    "pass",
    "random",
    "best_of_n:a",
    "best_of_n:b",
    "majority",
    "weighted_vote:a",
    "weighted_vote:b",
)


def some_problems(num: int, num_samples: int = 8, seed: int = 0) -> list[SampledProblem]:
    """Problems with answer 0, ties in votes and scores, and samples without an answer."""
    rng = random.Random(seed)
    problems = []
    for _ in range(num):
        answers = [rng.choice(["0", "0", "1", "2", None]) for _ in range(num_samples)]
        scores = {name: [rng.randrange(5) / 4 for _ in answers] for name in "ab"}
        problems.append(SampledProblem(answers, [answer == "0" for answer in answers], scores))
    return problems


def test_a_problem_worked_out_by_hand() -> None:
    problem = SampledProblem(["4", "5", "5"], [True, False, False], {"a": [0.9, 0.5, 0.1]})
    values = accuracy_curves([problem], ns=(1, 2, 3)).values
    assert values["pass", 2][0] == pytest.approx(2 / 3)  # pairs with the right one: 2 of 3
    assert values["random", 2][0] == pytest.approx(1 / 3)
    assert values["best_of_n:a", 2][0] == pytest.approx(2 / 3)
    # Pairs: {4,5} twice, a tie worth 1/2; {5,5} is wrong.
    assert values["majority", 2][0] == pytest.approx(1 / 3)
    assert values["weighted_vote:a", 2][0] == pytest.approx(2 / 3)
    assert values["majority", 3][0] == 0.0
    assert values["weighted_vote:a", 3][0] == 1.0  # 0.9 against 0.6


def test_with_one_sample_every_method_is_a_random_choice() -> None:
    curves = accuracy_curves(some_problems(40))
    assert curves.methods == METHODS
    for method in METHODS:
        assert curves.values[method, 1] == pytest.approx(curves.values["random", 1])


def test_with_all_samples_every_method_is_the_direct_computation() -> None:
    problems = some_problems(40)
    values = accuracy_curves(problems).values
    for i, p in enumerate(problems):
        assert values["pass", 8][i] == float(any(p.right))
        assert values["random", 8][i] == pytest.approx(sum(p.right) / 8)
        assert values["majority", 8][i] == pytest.approx(expected_vote(p.answers, p.right))
        for name in "ab":
            best = expected_best(p.answers, p.right, p.scores[name])
            voted = expected_vote(p.answers, p.right, p.scores[name])
            assert values[f"best_of_n:{name}", 8][i] == pytest.approx(best)
            assert values[f"weighted_vote:{name}", 8][i] == pytest.approx(voted)


def test_between_every_method_is_the_mean_over_all_subsets() -> None:
    problems = some_problems(10, num_samples=6)
    values = accuracy_curves(problems, ns=(1, 2, 3, 5)).values
    for (i, p), n in itertools.product(enumerate(problems), (2, 3, 5)):
        best, voted, majority, passed = [], [], [], []
        for subset in itertools.combinations(range(6), n):
            answers = [p.answers[k] for k in subset]
            right, scores = [p.right[k] for k in subset], [p.scores["a"][k] for k in subset]
            best.append(expected_best(answers, right, scores))
            voted.append(expected_vote(answers, right, scores))
            majority.append(expected_vote(answers, right))
            passed.append(any(right))
        assert values["best_of_n:a", n][i] == pytest.approx(np.mean(best))
        assert values["weighted_vote:a", n][i] == pytest.approx(np.mean(voted))
        assert values["majority", n][i] == pytest.approx(np.mean(majority))
        assert values["pass", n][i] == pytest.approx(np.mean(passed))


def test_pass_at_n_rises_with_n_and_bounds_every_method() -> None:
    curves = accuracy_curves(some_problems(60))
    for small, large in itertools.pairwise(curves.ns):
        assert (curves.values["pass", small] <= curves.values["pass", large] + 1e-12).all()
    for method, n in curves.values:
        assert (curves.values[method, n] <= curves.values["pass", n] + 1e-12).all()


def test_pass_at_n_by_hand() -> None:
    assert pass_at_n(4, 1, 2) == pytest.approx(1 / 2)  # 1 - C(3,2)/C(4,2)
    assert pass_at_n(4, 0, 4) == 0.0
    assert pass_at_n(4, 3, 2) == 1.0
    with pytest.raises(ConfigError, match="pass@5"):
        pass_at_n(4, 1, 5)


def test_a_problem_without_any_answer_is_wrong() -> None:
    problem = SampledProblem([None] * 8, [False] * 8, {"a": [0.5] * 8})
    assert all(value == [0.0] for value in accuracy_curves([problem]).values.values())


def test_a_vote_of_weights_zero_is_a_tie_of_the_answers() -> None:
    problem = SampledProblem(["4", "5", "5"], [True, False, False], {"a": [0.0, 0.0, 0.0]})
    assert accuracy_curves([problem], ns=(3,)).values["weighted_vote:a", 3] == [0.5]


def test_sums_that_only_rounding_tells_apart_are_tied() -> None:
    problem = SampledProblem(["4", "5", "5"], [True, False, False], {"a": [0.3, 0.1, 0.2]})
    assert accuracy_curves([problem], ns=(3,)).values["weighted_vote:a", 3] == [0.5]


def test_up_to_seventy_subsets_are_all_used_and_more_are_sampled_and_said() -> None:
    exact = accuracy_curves(some_problems(2)).subsets
    assert {n: (used.used, used.exact) for (_, n), used in exact.items()} == {
        1: (8, True),
        2: (28, True),
        4: (70, True),
        8: (1, True),
    }
    sampled = accuracy_curves(some_problems(2, 12), max_subsets=10).subsets
    assert sampled[12, 1] == (12, 12)
    assert sampled[12, 4] == (10, 495)
    assert not sampled[12, 4].exact


def test_sampled_subsets_follow_the_seed_and_come_near_the_exact_values() -> None:
    problems = some_problems(100, num_samples=10)
    exact = accuracy_curves(problems, ns=(5,), max_subsets=252).values["majority", 5]
    near = accuracy_curves(problems, ns=(5,), max_subsets=60).values["majority", 5]
    again = accuracy_curves(problems, ns=(5,), max_subsets=60).values["majority", 5]
    other = accuracy_curves(problems, ns=(5,), max_subsets=60, seed=1).values["majority", 5]
    assert (near == again).all()
    assert (near != other).any()
    assert near.mean() == pytest.approx(exact.mean(), abs=0.02)
    # Best-of-n needs no subsets: sampling does not touch it.
    small, large = (
        accuracy_curves(problems, ns=(5,), max_subsets=k).values["best_of_n:a", 5] for k in (1, 252)
    )
    assert (small == large).all()


def test_scores_below_zero_choose_but_do_not_vote() -> None:
    problem = SampledProblem(["4", "5"], [True, False], {"logprob": [-1.0, -2.0]})
    curves = accuracy_curves([problem], ns=(2,), weighted=())
    assert curves.values["best_of_n:logprob", 2] == [1.0]
    assert "weighted_vote:logprob" not in curves.methods
    with pytest.raises(EncodingError, match="a weighted vote needs"):
        accuracy_curves([problem], ns=(2,))


def test_problems_may_have_unlike_numbers_of_samples() -> None:
    problems = [*some_problems(2, 8), *some_problems(2, 9)]
    curves = accuracy_curves(problems, ns=(2,))
    assert curves.subsets == {(8, 2): (28, 28), (9, 2): (36, 36)}
    alone = accuracy_curves(problems[2:], ns=(2,))
    assert (curves.values["majority", 2][2:] == alone.values["majority", 2]).all()


def test_six_hundred_problems_with_twelve_scorers_take_seconds_of_cpu() -> None:
    rng = random.Random(0)
    problems = [
        SampledProblem(
            p.answers, p.right, {str(k): [rng.random() for _ in range(8)] for k in range(12)}
        )
        for p in some_problems(600)
    ]
    start = time.process_time()
    curves = accuracy_curves(problems)
    assert time.process_time() - start < 10
    assert {value.shape for value in curves.values.values()} == {(600,)}


def test_what_cannot_be_measured_is_refused() -> None:
    good = some_problems(1)[0]
    with pytest.raises(ConfigError, match="0 problems"):
        accuracy_curves([])
    with pytest.raises(ConfigError, match="fewer than n = 16"):
        accuracy_curves([good], ns=(16,))
    with pytest.raises(ConfigError, match="problem 1 has scores of"):
        accuracy_curves([good, SampledProblem(good.answers, good.right)])
    with pytest.raises(RecordError, match="called wrong"):
        accuracy_curves([SampledProblem(["4", "4"], [True, False])], ns=(1,))
    with pytest.raises(EncodingError, match="NaN"):
        accuracy_curves([SampledProblem(["4"], [True], {"a": [float("nan")]})], ns=(1,))
