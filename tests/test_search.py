import itertools
import math
import random
import subprocess
import sys
from collections.abc import Sequence
from fractions import Fraction

import pytest

from prm.errors import ConfigError, EncodingError, GenerationError, RecordError
from prm.evaluation import step_truth
from prm.protocols import Generation, SamplingParams
from prm.search import (
    Candidate,
    best_of_n,
    choose_best,
    choose_by_vote,
    majority_vote,
    sample_candidates,
    score_candidates,
    select_best,
    vote,
    weighted_vote,
)
from prm.search.best_of_n import expected_best
from prm.search.voting import expected_vote

PROBLEM = "Calculate 3 + 9 + 4."
META = {"operands": [3, 9, 4], "operators": ["+", "+"]}
NAN = math.nan


class CarelessAdder:
    """Adds from left to right; at temperature 0.5 every second sum or so is off by one."""

    name = "careless-adder"

    def __init__(self) -> None:
        self.prompts: list[str] = []

    def generate(
        self, prompts: Sequence[str], params: SamplingParams, *, seed: int
    ) -> list[list[Generation]]:
        self.prompts.extend(prompts)
        rng = random.Random(seed)
        return [[self._write(rng, params) for _ in range(params.n)] for _ in prompts]

    def _write(self, rng: random.Random, params: SamplingParams) -> Generation:
        first = 12 + (rng.random() < params.temperature)
        second = first + 4 + (rng.random() < params.temperature)
        lines = [f"Step 1: 3 + 9 = {first}", f"Step 2: {first} + 4 = {second}", f"Answer: {second}"]
        kept = lines[: 2 if rng.random() < params.temperature / 2 else 3]
        return Generation("\n".join(kept), "stop", 20, 10 * len(kept), -1.0)


class ExactScorer:
    """1 for every step before the first error, 0 from there on."""

    def score_many(self, problem: str, solutions: Sequence[Sequence[str]]) -> list[list[float]]:
        assert problem == PROBLEM
        rows = []
        for steps in solutions:
            error = step_truth.first_error(META, steps)
            end = len(steps) if error is None else error
            rows.append([float(step < end) for step in range(len(steps))])
        return rows


def parse(text: str) -> tuple[list[str], str | None]:
    steps = text.split("\n")
    answer = steps[-1].removeprefix("Answer: ")
    return steps, answer if answer != steps[-1] else None


def test_best_of_n_with_an_exact_scorer_is_right_whenever_a_sample_is() -> None:
    params = SamplingParams(temperature=0.5)
    outcomes = set()
    for seed in range(30):
        result = best_of_n(
            PROBLEM, CarelessAdder(), ExactScorer(), n=4, params=params, seed=seed, parse=parse
        )
        # 13 + 4 = 16 does not occur, so the answer 16 is right only by right steps.
        can_be_right = any(candidate.answer == "16" for candidate in result.candidates)
        assert (result.answer == "16") == can_be_right
        outcomes.add(can_be_right)
    assert outcomes == {True, False}


def test_a_search_counts_what_it_cost() -> None:
    result = best_of_n(
        PROBLEM, CarelessAdder(), ExactScorer(), parse=parse, params=SamplingParams(temperature=0.0)
    )
    # 8 samples of 3 lines, 10 tokens a line; the prompt of 20 tokens is read once.
    assert len(result.candidates) == 8
    assert (result.prompt_tokens, result.generated_tokens) == (20, 240)
    assert result.num_scored_steps == 24
    assert (result.answer, result.chosen) == ("16", 0)


def test_the_same_seed_gives_the_same_result_and_another_seed_another() -> None:
    params = SamplingParams(temperature=0.5)
    results = [
        weighted_vote(PROBLEM, CarelessAdder(), ExactScorer(), parse=parse, params=params, seed=s)
        for s in (3, 3, 4)
    ]
    assert results[0] == results[1]
    assert results[0] != results[2]


def test_the_generator_gets_the_prompt_and_the_scorer_the_problem() -> None:
    generator = CarelessAdder()
    best_of_n(PROBLEM, generator, ExactScorer(), parse=parse, prompt=lambda p: f"Problem: {p}\n")
    assert generator.prompts == [f"Problem: {PROBLEM}\n"]


def test_majority_vote_asks_no_scorer() -> None:
    result = majority_vote(PROBLEM, CarelessAdder(), parse=parse, n=5)
    assert result.num_scored_steps == 0
    assert len(result.candidates) == 5


def test_n_is_said_once() -> None:
    with pytest.raises(ConfigError, match=r"n = 8 with params\.n = 4"):
        majority_vote(PROBLEM, CarelessAdder(), parse=parse, params=SamplingParams(n=4))
    with pytest.raises(ConfigError, match="n = 0"):
        majority_vote(PROBLEM, CarelessAdder(), parse=parse, n=0)


def test_a_generator_that_writes_too_few_is_refused() -> None:
    class Lazy(CarelessAdder):
        def generate(
            self, prompts: Sequence[str], params: SamplingParams, *, seed: int
        ) -> list[list[Generation]]:
            return [texts[1:] for texts in super().generate(prompts, params, seed=seed)]

    with pytest.raises(GenerationError, match=r"wrote \[7\] texts where \[8\]"):
        sample_candidates(PROBLEM, Lazy(), parse=parse)


def test_a_candidate_without_an_answer_is_neither_scored_nor_chosen() -> None:
    candidates = (
        Candidate(("Step 1: 3 + 9 = 12",), None, generated_tokens=7),
        Candidate(("Step 1: 3 + 9 = 13", "Answer: 13"), "13", generated_tokens=9),
    )
    scored = score_candidates(PROBLEM, candidates, ExactScorer())
    assert scored[0] == candidates[0]
    assert scored[1].step_scores == (0.0, 0.0)
    result = choose_best(scored)
    assert (result.answer, result.chosen, result.generated_tokens) == ("13", 1, 16)


def test_when_no_candidate_has_an_answer_nothing_is_chosen() -> None:
    candidates = [Candidate(("a",), None), Candidate(("b",), None)]
    assert score_candidates(PROBLEM, candidates, ExactScorer()) == tuple(candidates)
    for result in (choose_best(candidates), choose_by_vote(candidates, weighted=True)):
        assert (result.answer, result.chosen) == (None, None)


def test_an_unscored_candidate_is_not_worth_zero() -> None:
    candidates = [Candidate(("a",), "1", score=0.2), Candidate(("b",), "2")]
    with pytest.raises(EncodingError, match="candidate 1 has no score"):
        choose_best(candidates)
    assert choose_by_vote(candidates, weighted=False).answer == "1"


def test_a_scorer_that_loses_a_step_is_refused() -> None:
    class Forgetful(ExactScorer):
        def score_many(self, problem: str, solutions: Sequence[Sequence[str]]) -> list[list[float]]:
            return [row[1:] for row in super().score_many(problem, solutions)]

    with pytest.raises(EncodingError, match="candidate 0: 1 scores for 2 steps"):
        score_candidates(PROBLEM, [Candidate(("a", "b"), "1")], Forgetful())


def test_the_best_candidate_with_the_voted_answer_is_chosen() -> None:
    candidates = [
        Candidate(("a",), "16", score=0.3),
        Candidate(("b",), "15", score=0.7),
        Candidate(("c",), "16", score=0.5),
    ]
    result = choose_by_vote(candidates, weighted=True)
    assert (result.answer, result.chosen) == ("16", 2)
    assert choose_by_vote(candidates, weighted=False).chosen == 0


def test_selection_breaks_ties_by_the_first_seen() -> None:
    assert select_best(["a", "b", "c"], [0.1, 0.9, 0.9]) == 1
    assert vote(["b", "a", "a", "b"]) == "b"
    assert vote(["a", "b", "b"], [0.3, 0.1, 0.2]) == "a"  # 0.1 + 0.2 is a tie with 0.3
    assert vote([None, "a"], [5.0, 0.0]) == "a"
    assert vote([]) is None
    assert select_best([None], [0.9]) is None


@pytest.mark.parametrize(
    ("answers", "right", "weights", "expected"),
    [
        (["4", "4", "5"], [True, True, False], None, 1.0),
        (["4", "5"], [True, False], None, 1 / 2),
        (["4", "5", "6"], [True, False, False], None, 1 / 3),
        (["4", "4.0", "6"], [True, True, False], None, 2 / 3),  # two right answers, unlike strings
        ([None, None, "4"], [False, False, True], None, 1.0),
        ([None, None], [False, False], None, 0.0),
        (["4", "5", "5"], [True, False, False], [0.9, 0.4, 0.4], 1.0),
        (["4", "5", "5"], [True, False, False], [0.3, 0.1, 0.2], 1 / 2),
        (["4", "5"], [True, False], [0.0, 0.0], 1 / 2),
        ([], [], None, 0.0),
    ],
)
def test_a_tied_vote_counts_as_its_expected_value(
    answers: list[str | None], right: list[bool], weights: list[float] | None, expected: float
) -> None:
    assert expected_vote(answers, right, weights) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("answers", "right", "scores", "expected"),
    [
        (["4", "5"], [True, False], [0.9, 0.1], 1.0),
        (["4", "4", "5"], [True, True, False], [0.9, 0.9, 0.9], 2 / 3),  # over candidates
        (["4", None], [True, False], [0.1, 0.9], 1.0),
        ([None], [False], [0.9], 0.0),
        (["4", "5"], [True, False], [-2.0, -1.0], 0.0),  # any scale will do for best-of-n
    ],
)
def test_a_tied_best_score_counts_as_its_expected_value(
    answers: list[str | None], right: list[bool], scores: list[float], expected: float
) -> None:
    assert expected_best(answers, right, scores) == pytest.approx(expected)


def test_expected_values_are_means_of_the_selection_over_all_orders() -> None:
    # First-seen tie-breaking over all orders of the samples is a uniform choice among the tied
    # candidates; among the tied answers too where each has one sample.
    answers, scores = ["4", "5", "6", "7"], [0.5, 0.5, 0.1, 0.5]
    right = [True, False, True, False]
    chosen_right = voted_right = 0
    for order in itertools.permutations(range(4)):
        shuffled, moved = [answers[i] for i in order], [scores[i] for i in order]
        best = select_best(shuffled, moved)
        assert best is not None
        chosen_right += right[order[best]]
        voted_right += right[answers.index(vote(shuffled, moved) or "")]
    assert Fraction(chosen_right, 24) == Fraction(voted_right, 24) == Fraction(1, 3)
    assert expected_best(answers, right, scores) == pytest.approx(1 / 3)
    assert expected_vote(answers, right, scores) == pytest.approx(1 / 3)


@pytest.mark.parametrize("weight", [-0.1, NAN, math.inf])
def test_a_weight_that_cannot_be_summed_is_refused(weight: float) -> None:
    with pytest.raises(EncodingError, match="sample 1"):
        vote(["4", "5"], [0.5, weight])


def test_contradictions_are_refused() -> None:
    with pytest.raises(EncodingError, match="sample 1 is NaN"):
        select_best(["4", "5"], [0.5, NAN])
    with pytest.raises(ConfigError, match="1 scores for 2 answers"):
        select_best(["4", "5"], [0.5])
    with pytest.raises(ConfigError, match="1 correctness flags for 2"):
        expected_vote(["4", "5"], [True])
    with pytest.raises(RecordError, match="sample 1: answer '4' is called wrong"):
        expected_vote(["4", "4"], [True, False])
    with pytest.raises(RecordError, match="sample 0: answer None is called right"):
        expected_best([None], [True], [0.5])


def test_importing_search_loads_neither_torch_nor_numpy() -> None:
    code = "import prm.search, sys; print([m for m in ('torch', 'numpy') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
