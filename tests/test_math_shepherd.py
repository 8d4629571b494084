import asyncio
import dataclasses
import json
import random

import pytest

from data_gen.labelers import MathShepherdLabeler
from data_gen.labelers.rollouts import GeneratorRollouts
from data_gen.prompting import Strategy
from prm.ledger import Ledger
from prm.protocols import Chat, Generation, Message, Rollout, SamplingParams
from prm.records import Evidence, LabelledSolution, from_json, to_json
from prm.steps import join_steps
from prm.verifiers import check_integer
from tests.tiny import tiny_problem, tiny_solution

PROBLEM = tiny_problem()
RIGHT = ["Step 1: 3 + 9 = 12", "Step 2: 12 + 4 = 16", "Answer: 16"]
WRONG = ["Step 1: 3 + 9 = 12", "Step 2: 12 + 4 = 17", "Answer: 17"]
TOKENS = 10
ALONE = MathShepherdLabeler(reuse_siblings=False)
FULL = MathShepherdLabeler(reuse_siblings=False, early_stop=False)


class Scripted:
    """Rollouts with known outcomes: for each prefix, a list that is gone through in order."""

    def __init__(self, *outcomes):
        """``outcomes[t]`` are those of every prefix that ends with step t."""
        self.outcomes = [iter(some) for some in outcomes]
        self.requests = []

    async def sample_many(self, requests):
        self.requests.append([(solution.steps[:kept], n) for solution, kept, n in requests])
        return [[self._next(kept) for _ in range(n)] for _, kept, n in requests]

    def _next(self, kept):
        correct = next(self.outcomes[kept - 1])
        return Rollout(correct, TOKENS, f"step {kept}: {correct}")

    @property
    def counts(self):
        """Rollouts of each prefix, by its number of steps, in order."""
        return [(len(steps), n) for batch in self.requests for steps, n in batch]


def solution(steps=RIGHT, sample=0, answer=True):
    made = tiny_solution(PROBLEM, steps, sample)
    return made if answer else dataclasses.replace(made, final_answer=None)


def check(one):
    return check_integer(one.final_answer, PROBLEM.reference_answer)


def label(labeler, pool, rollouts):
    return labeler.label(pool, rollouts, check=check)


def hard(row):
    return [one.hard for one in row.labels]


def test_counts_and_rates_are_those_of_the_rollouts():
    rollouts = Scripted([True, False, True, True], [True] * 4)
    labeler = dataclasses.replace(FULL, num_rollouts=4, completer="tiny-completer")
    [row] = label(labeler, [solution()], rollouts)
    assert [(one.successes, one.trials, one.success_rate) for one in row.labels] == [
        (3, 4, 0.75),
        (4, 4, 1.0),
        (1, 1, 1.0),
    ]
    assert [one.step for one in row.labels] == [0, 1, 2]
    assert {one.prefix_correct for one in row.labels} == {None}
    assert hard(row) == [True, True, True]
    assert (row.stop_reason, row.first_error) == ("all_steps_good", {"none": 1.0})
    assert row.labels[0].evidence == (
        Evidence("rollouts", 3, 4, "tiny-completer", 4 * TOKENS, "step 1: True"),
    )
    assert [one.tokens for one in row.labels] == [4 * TOKENS, 4 * TOKENS, 0]
    assert (row.tokens, row.labeler) == (8 * TOKENS, "math_shepherd")


def test_early_stop_saves_rollouts_once_a_prefix_is_good():
    rollouts = Scripted([True] * 2, [False, True, True, False, False, False])
    label(ALONE, [solution()], rollouts)
    assert rollouts.counts == [(1, 2), (2, 2), (2, 4)]


def test_without_early_stop_every_prefix_gets_every_rollout():
    rollouts = Scripted([True] * 8, [True] * 8)
    [row] = label(FULL, [solution()], rollouts)
    assert rollouts.counts == [(1, 2), (1, 4), (1, 2), (2, 2), (2, 4), (2, 2)]
    assert [one.trials for one in row.labels] == [8, 8, 1]


@pytest.mark.parametrize("num_rollouts", [1, 2, 3, 5, 8, 16])
def test_rounds_double_up_to_the_number_of_rollouts(num_rollouts):
    rollouts = Scripted([False] * 100)
    label(dataclasses.replace(ALONE, num_rollouts=num_rollouts), [solution()], rollouts)
    asked = [n for _, n in rollouts.counts]
    assert sum(asked) == num_rollouts
    assert all(n <= 2 * 2**i for i, n in enumerate(asked))


T, F, N = True, False, None


@pytest.mark.parametrize(
    ("outcomes", "min_successes", "min_rate", "expected"),
    [
        ([F] * 8, 2, 0.2, False),
        ([F] * 7 + [T], 2, 0.2, None),
        ([F] * 6 + [T, T], 2, 0.2, True),
        ([F] * 6 + [T, T], 2, 0.3, None),
        ([F] * 6 + [T, T], 3, 0.2, None),
        ([F] * 7 + [T], 1, 0.0, True),
        ([N] * 8, 2, 0.2, None),
        ([N] * 4 + [F] * 4, 2, 0.2, False),
        ([N] * 5 + [F] * 3, 2, 0.2, None),
        ([N] * 6 + [T] * 2, 2, 0.2, True),
    ],
)
def test_a_prefix_is_good_bad_or_undecided(outcomes, min_successes, min_rate, expected):
    labeler = dataclasses.replace(ALONE, min_successes=min_successes, min_rate=min_rate)
    [row] = label(labeler, [solution()], Scripted(outcomes, [T] * 8))
    assert row.labels[0].hard is expected
    assert row.labels[0].trials == 8 - outcomes.count(N)
    assert row.labels[0].successes == outcomes.count(T)


def test_a_rollout_that_could_not_tell_costs_tokens_and_counts_for_nothing():
    rollouts = Scripted([None] * 8)
    [row] = label(ALONE, [solution()], rollouts)
    first = row.labels[0]
    assert (first.successes, first.trials, first.success_rate) == (0, 0, None)
    assert first.tokens == 8 * TOKENS == row.tokens
    assert first.evidence == (Evidence("rollouts", 0, 0, "completer", 8 * TOKENS),)
    assert rollouts.counts == [(1, 2), (1, 4), (1, 2)]


def test_nothing_is_rolled_out_behind_a_bad_prefix():
    rollouts = Scripted([False] * 8)
    [row] = label(ALONE, [solution()], rollouts)
    assert {length for length, _ in rollouts.counts} == {1}
    assert hard(row) == [False, None, None]
    assert (row.stop_reason, row.first_error) == ("first_error_found", {"0": 1.0})
    assert (row.labels[1].trials, row.labels[1].success_rate) == (0, None)
    # The verdict of the right answer is kept as a count, but labels no step behind an error.
    assert (row.labels[2].successes, row.labels[2].trials) == (1, 1)


def test_nothing_is_rolled_out_behind_an_undecided_prefix():
    rollouts = Scripted([True] + [False] * 7)
    [row] = label(ALONE, [solution()], rollouts)
    assert {length for length, _ in rollouts.counts} == {1}
    assert hard(row)[:2] == [None, None]
    assert (row.stop_reason, row.first_error) == ("undecided", {})


def test_the_first_error_is_the_first_bad_step():
    [row] = label(ALONE, [solution(WRONG)], Scripted([True] * 8, [False] * 8))
    assert hard(row) == [True, False, None]
    assert (row.stop_reason, row.first_error) == ("first_error_found", {"1": 1.0})


def test_the_last_step_is_judged_by_the_verdict_and_not_rolled_out():
    steps = [*RIGHT[:2], "Answer: 17"]
    rollouts = Scripted([True] * 8, [True] * 8)
    [row] = label(ALONE, [solution(steps)], rollouts)
    assert hard(row) == [True, True, False]
    assert row.labels[2].evidence == (Evidence("verdict", 0, 1, "integer"),)
    assert (row.labels[2].success_rate, row.labels[2].tokens) == (0.0, 0)
    assert row.first_error == {"2": 1.0}
    assert {length for length, _ in rollouts.counts} == {1, 2}
    assert (row.verdict.status, row.verdict.seconds) == ("wrong", 0.0)


def test_a_solution_of_one_step_needs_no_rollouts():
    rollouts = Scripted()
    rows = label(ALONE, [solution(["Answer: 16"]), solution(["Answer: 17"], 1)], rollouts)
    assert [hard(row) for row in rows] == [[True], [False]]
    assert rollouts.requests == []


def test_a_solution_without_an_answer_is_rolled_out_to_its_end():
    rollouts = Scripted([True] * 8, [True] * 8)
    [row] = label(MathShepherdLabeler(), [solution(RIGHT[:2], answer=False)], rollouts)
    assert rollouts.counts == [(1, 2), (2, 2)]
    assert hard(row) == [True, True]
    assert row.verdict.label is None
    # It is no continuation of its own prefixes: nobody knows where it ends.
    assert {one.kind for step in row.labels for one in step.evidence} == {"rollouts"}


def test_sampled_solutions_count_as_continuations_of_their_prefixes():
    pool = [solution(WRONG, 0), solution(RIGHT, 1), solution(RIGHT, 2)]
    rollouts = Scripted([], [True] * 16)
    rows = label(MathShepherdLabeler(), pool, rollouts)
    for row in rows:
        first = row.labels[0]
        assert (first.successes, first.trials, first.tokens) == (2, 3, 0)
        assert first.evidence == (Evidence("siblings", 2, 3, "tiny", 0, join_steps(RIGHT[1:])),)
        assert first.hard is True
    # Step 2 of the right ones is good by its two siblings; that of the wrong one has one failure.
    assert rollouts.counts == [(2, 2)]
    assert (rows[0].labels[1].successes, rows[0].labels[1].trials) == (2, 3)
    assert [row.id for row in rows] == [one.id for one in pool]


def test_siblings_take_the_place_of_rollouts_under_early_stop_only():
    pool = [solution(WRONG, k) for k in range(5)]
    rollouts = Scripted([False] * 8)
    rows = label(MathShepherdLabeler(), pool, rollouts)
    assert rollouts.counts == [(1, 2), (1, 1)]
    assert rows[0].labels[0].trials == 8
    rollouts = Scripted([False] * 8)
    rows = label(MathShepherdLabeler(early_stop=False), pool, rollouts)
    assert sum(n for _, n in rollouts.counts) == 8
    assert rows[0].labels[0].trials == 13


def test_a_solution_is_no_continuation_of_itself_as_a_whole():
    # The second goes on where the first has ended: the first says nothing of how one goes on.
    pool = [solution(["Answer: 16"]), solution(["Answer: 16", "Answer: 17"], 1)]
    rows = label(MathShepherdLabeler(), pool, Scripted([False] * 8))
    assert rows[1].labels[0].evidence[0] == Evidence("siblings", 0, 1, "tiny")
    assert [row.labels[0].hard for row in rows] == [True, False]


def test_solutions_of_other_problems_are_no_siblings():
    other = dataclasses.replace(solution(RIGHT, 7), problem_id="tiny/9999")
    rollouts = Scripted([True] * 8, [True] * 8)
    rows = label(MathShepherdLabeler(), [solution(WRONG), other], rollouts)
    assert rows[0].labels[0].evidence[0].trials == 1
    assert rows[1].labels[0].evidence[0].trials == 1


def test_a_shared_prefix_is_rolled_out_once():
    pool = [solution(WRONG, 0), solution(RIGHT, 1)]
    rollouts = Scripted([True] * 2, [True] * 8)
    rows = label(ALONE, pool, rollouts)
    assert rollouts.counts.count((1, 2)) == 1
    assert rows[0].labels[0] == rows[1].labels[0]


def test_all_prefixes_of_a_level_are_asked_for_together():
    pool = [solution([f"Step 1: 3 + {k} = 12", "Answer: 16"], k) for k in range(5)]
    rollouts = Scripted([True] * 10)
    label(ALONE, pool, rollouts)
    assert [len(batch) for batch in rollouts.requests] == [5]


def test_the_evidence_keeps_a_continuation_that_was_right():
    rollouts = Scripted([False, True, True, False, True, True], [False] * 8)
    [row] = label(ALONE, [solution()], rollouts)
    assert row.labels[0].evidence[0].right_continuation == "step 1: True"
    assert row.labels[1].evidence[0].right_continuation is None


def test_labels_come_back_from_their_json_line():
    rollouts = Scripted([True, False, True] * 3, [False, True] + [False] * 14)
    pool = [solution(WRONG), solution(RIGHT, 1), solution(RIGHT[:2], 2, answer=False)]
    for row in label(MathShepherdLabeler(num_rollouts=6), pool, rollouts):
        assert from_json(LabelledSolution, json.loads(json.dumps(to_json(row))), "here") == row


def test_no_solutions_have_no_labels():
    assert label(MathShepherdLabeler(), [], Scripted()) == []


def chances(p, seed):
    source = random.Random(seed)
    return iter(lambda: source.random() < p, None)


@pytest.mark.parametrize("p", [0.15, 0.5, 0.9])
def test_the_success_rate_is_the_known_chance_of_the_completer(p):
    labeler = dataclasses.replace(FULL, num_rollouts=1000)
    [row] = label(labeler, [solution(RIGHT[:1], answer=False)], Scripted(chances(p, 0)))
    # Four standard deviations of a share of 1,000.
    assert row.labels[0].success_rate == pytest.approx(p, abs=4 * (p * (1 - p) / 1000) ** 0.5)


class Written:
    """A generator that answers every prompt with given texts, in turn."""

    name = "written"

    def __init__(self, *texts):
        self.texts = texts
        self.calls = []

    def generate(self, prompts, params, *, seed):
        self.calls.append((list(prompts), params, seed))
        return [
            [
                Generation(self.texts[k % len(self.texts)], "stop", len(prompt), 7, -1.0)
                for k in range(params.n)
            ]
            for prompt in prompts
        ]


PLAIN = Strategy("plain", 1, "the problem", "text", text="Problem: {problem}\n")


def rollouts_by(generator, seed=0, strategy=PLAIN):
    return GeneratorRollouts(
        generator,
        {PROBLEM.id: PROBLEM_OF_INTEGERS},
        strategy=strategy,
        params=SamplingParams(max_tokens=8, stop=("\n\n",)),
        answer_pattern=r"^Answer: (.+)$",
        seed=seed,
    )


PROBLEM_OF_INTEGERS = dataclasses.replace(PROBLEM, verifier="integer")


def sample(rollouts, *requests):
    return asyncio.run(rollouts.sample_many(requests))


def test_a_rollout_continues_the_steps_kept_and_is_judged_by_its_own_end():
    generator = Written("Step 2: 12 + 4 = 16\nAnswer: 16", "Answer: 17", "Answer: no", "")
    [group] = sample(rollouts_by(generator), (solution(), 1, 4))
    prompt = f"Problem: {PROBLEM.statement}\n{RIGHT[0]}\n"
    assert [call[0] for call in generator.calls] == [[prompt]]
    assert [one.correct for one in group] == [True, False, None, None]
    assert group[0].text == "Step 2: 12 + 4 = 16\nAnswer: 16"
    assert {one.num_tokens for one in group} == {7}


def test_a_rollout_of_a_chat_goes_on_from_the_steps_kept():
    class Answering(Written):
        def generate(self, prompts, params, *, seed):
            return super().generate([one.prefix for one in prompts], params, seed=seed)

    generator = Answering("Answer: 16")
    strategy = Strategy("chat", 1, "the problem", "chat", user="Solve: {problem}")
    rollouts = rollouts_by(generator, strategy=strategy)
    one, none = sample(rollouts, (solution(), 1, 1), (solution(), 0, 1))
    assert [call[0] for call in generator.calls] == [["", f"{RIGHT[0]}\n"]]
    assert [group[0].correct for group in (one, none)] == [True, True]
    messages = (Message("user", f"Solve: {PROBLEM.statement}"),)
    assert rollouts._prompt(solution(), 2) == Chat(messages, "\n".join(RIGHT[:2]) + "\n")


def test_rollouts_come_back_in_the_order_of_the_requests():
    class Echo(Written):
        def generate(self, prompts, params, *, seed):
            groups = super().generate(prompts, params, seed=seed)
            return [
                [dataclasses.replace(text, text=prompt) for text in group]
                for prompt, group in zip(prompts, groups, strict=True)
            ]

    unfinished = solution(answer=False)
    requests = [(unfinished, kept, n) for kept, n in [(3, 2), (0, 1), (2, 2), (1, 3), (1, 2)]]
    groups = sample(rollouts_by(Echo("")), *requests)
    assert [len(group) for group in groups] == [2, 1, 2, 3, 2]
    for (_, kept, _), group in zip(requests, groups, strict=True):
        steps = "".join(step + "\n" for step in RIGHT[:kept])
        assert {one.text for one in group} == {f"Problem: {PROBLEM.statement}\n{steps}"}


def test_every_call_of_the_generator_has_a_seed_of_its_own_that_repeats():
    def seeds(seed):
        generator = Written("Answer: 16")
        rollouts = rollouts_by(generator, seed)
        for _ in range(2):
            sample(rollouts, (solution(), 1, 2), (solution(), 2, 3))
        return [call[2] for call in generator.calls]

    assert len(set(seeds(0))) == 4
    assert seeds(0) == seeds(0)
    assert not set(seeds(0)) & set(seeds(1))


def test_the_ledger_counts_a_prompt_once_and_every_text():
    generator = Written("Answer: 16")
    rollouts = rollouts_by(generator)
    sample(rollouts, (solution(), 1, 2), (solution(), 2, 3))
    num_read = sum(len(prompt) for call in generator.calls for prompt in call[0])
    assert rollouts.ledger == Ledger(num_read, 5 * 7)
