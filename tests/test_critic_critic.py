import math
from collections.abc import Sequence

import pytest

from prm.critic import Critic, Dialect, solution_score, step_scores
from prm.critic.critic import num_bytes
from prm.generation.in_process import TransformersGenerator
from prm.protocols import Generation, SamplingParams, Token
from prm.records import Usage
from tests.tiny import tiny_model_folder, tiny_tokenizer

PROBLEM = "Calculate 3 + 9 + 4."
STEPS = ["Step 1: 3 + 9 = 12", "Step 2: 12 + 4 = 17", "Answer: 17"]
TEXT = "1: 3 + 9 = 12, correct\n2: 12 + 4 = 16, wrong\nFirst error: 2"


class ScriptedGenerator:
    """Gives each prompt the text that the script has for it; notes the calls."""

    def __init__(
        self,
        script: dict[str, str],
        verdict_logprobs: Sequence[dict[str, float]] = (),
        gives_tokens: bool = True,
    ):
        self.gives_tokens = gives_tokens
        self.name = "scripted"
        self.script = script
        self.verdict_logprobs = verdict_logprobs
        self.calls: list[tuple[list[str], SamplingParams]] = []

    def generate(self, prompts, params, *, seed):
        assert seed == 0
        self.calls.append((list(prompts), params))
        return [[self.generation(self.script[prompt])] for prompt in prompts]

    def generation(self, text):
        pieces = [tiny_tokenizer().decode([i]) for i in tiny_tokenizer()(text)["input_ids"]]
        tops = iter(self.verdict_logprobs)
        tokens = []
        for piece, following in zip(pieces, [*pieces[1:], ""], strict=True):
            is_verdict = piece in (" correct", " wrong") and following == "\n"
            top = next(tops) if is_verdict and self.verdict_logprobs else {piece: -0.1}
            tokens.append(Token(piece, top[piece], top))
        kept = tuple(tokens) if self.gives_tokens else ()
        return Generation(text, "stop", 50, len(pieces), -1.0, kept)


def critic_for(*items, logprobs=(), gives_tokens=True, batch_size=128):
    """A critic whose generator has a text for each (steps, text)."""
    dialect = Dialect()
    script = {dialect.prompt(PROBLEM, steps): text for steps, text in items}
    generator = ScriptedGenerator(script, logprobs, gives_tokens)
    return Critic(generator, dialect, batch_size=batch_size)


def test_critique_is_read_into_a_record():
    critique = critic_for((STEPS, TEXT)).critique(PROBLEM, STEPS)
    assert (critique.status, critique.verdicts, critique.first_error) == ("ok", (True, False), 1)
    assert (critique.text, critique.author) == (TEXT, "scripted")
    assert critique.usage == Usage(50, len(tiny_tokenizer()(TEXT)["input_ids"]))


def test_probability_is_the_share_of_the_two_words():
    # 0.6 / (0.6 + 0.2) = 0.75; 0.1 / (0.1 + 0.4) = 0.2
    logprobs = [
        {" correct": math.log(0.6), " wrong": math.log(0.2)},
        {" wrong": math.log(0.4), " correct": math.log(0.1)},
    ]
    critique = critic_for((STEPS, TEXT), logprobs=logprobs).critique(PROBLEM, STEPS)
    assert critique.p_correct == pytest.approx((0.75, 0.2))
    assert step_scores(critique, 3) == pytest.approx([0.75, 0.2, 0.2])
    assert solution_score(critique) == pytest.approx(0.2)


def test_absent_word_is_bounded_by_the_least_likely_alternative():
    # " wrong" has at most 0.05: P(correct) >= 0.9 / 0.95. " correct": <= 0.01 / 0.81.
    logprobs = [
        {" correct": math.log(0.9), " right": math.log(0.05)},
        {" wrong": math.log(0.8), " false": math.log(0.19), " no": math.log(0.01)},
    ]
    critique = critic_for((STEPS, TEXT), logprobs=logprobs).critique(PROBLEM, STEPS)
    assert critique.p_correct == pytest.approx((0.9 / 0.95, 0.01 / 0.81))


def test_verdict_words_within_the_work_are_not_read():
    steps = ["Step 1: the wrong way, is correct here"]
    text = "1: the wrong way, is correct here, correct\nFirst error: none"
    logprobs = [{" correct": math.log(0.5), " wrong": math.log(0.5)}]
    critique = critic_for((steps, text), logprobs=logprobs).critique(PROBLEM, steps)
    assert critique.status == "ok"
    assert critique.p_correct == pytest.approx((0.5,))


def test_could_not_tell_has_no_scores():
    text = "1: 3 + 9 = 12, correct\nFirst error: 2"
    critique = critic_for((STEPS, text)).critique(PROBLEM, STEPS)
    assert critique.status == "wrong_number_of_steps"
    assert (critique.p_correct, critique.first_error) == ((), None)
    assert step_scores(critique, 3) is None
    assert solution_score(critique) is None


def test_generator_without_logprobs_gives_verdicts_but_no_scores():
    critique = critic_for((STEPS, TEXT), gives_tokens=False).critique(PROBLEM, STEPS)
    assert (critique.status, critique.first_error) == ("ok", 1)
    assert step_scores(critique, 3) is None


def test_identical_items_are_written_and_paid_once():
    other = ["Answer: 16"]
    critic = critic_for((STEPS, TEXT), (other, "1: Answer: 16, correct\nFirst error: none"))
    items = [(PROBLEM, STEPS), (PROBLEM, other), (PROBLEM, STEPS)]
    first, second, third = critic.critique_many(items, ids=["p/1#0", "p/1#1", "p/1#2"])
    assert [len(prompts) for prompts, _ in critic.generator.calls] == [2]
    assert (first.id, first.problem_id, third.id) == ("p/1#0", "p/1", "p/1#2")
    assert (third.text, third.p_correct) == (first.text, first.p_correct)
    assert third.usage == Usage()
    assert first.usage.generated_tokens > 0 < second.usage.generated_tokens


def test_same_text_is_read_for_each_number_of_steps():
    """Steps that join to the same text share the prompt, not the verdict about their number."""
    text = "1: a, correct\n2: b, correct\nFirst error: none"
    critic = critic_for((["a", "b"], text))
    whole, parts = critic.critique_many([(PROBLEM, ["a\nb"]), (PROBLEM, ["a", "b"])])
    assert (whole.status, parts.status) == ("out_of_range", "ok")


def test_solution_without_steps_could_not_be_judged():
    critic = critic_for()
    assert critic.critique(PROBLEM, []).status == "no_steps"
    assert critic.critique_many([]) == []
    assert critic.generator.calls == []


def test_requests_are_greedy_with_room_for_the_longest_legal_critique():
    critic = critic_for((STEPS, TEXT))
    critic.critique(PROBLEM, STEPS)
    ((_, params),) = critic.generator.calls
    assert (params.temperature, params.n, params.top_logprobs) == (0.0, 1, 20)
    assert params.max_tokens == critic.max_tokens(STEPS) > num_bytes(TEXT)


def test_prompts_go_in_batches_of_similar_length():
    solutions = [["x" * length] for length in (30, 1, 20, 2)]
    items = [(steps, f"1: {steps[0]}, correct\nFirst error: none") for steps in solutions]
    critic = critic_for(*items, batch_size=2)
    critiques = critic.critique_many([(PROBLEM, steps) for steps in solutions])
    assert [critique.text for critique in critiques] == [text for _, text in items]
    lengths = [len(prompt) for prompts, _ in critic.generator.calls for prompt in prompts]
    assert lengths == sorted(lengths)
    caps = [params.max_tokens for _, params in critic.generator.calls]
    assert caps == [critic.max_tokens(["xx"]), critic.max_tokens(["x" * 30])]


def test_untrained_model_could_not_tell(tmp_path):
    """A random model writes no critique, and the reader does not make one up."""
    tiny_model_folder(tmp_path)
    Dialect().save(tmp_path)
    critic = Critic.from_pretrained(tmp_path, device="cpu", dtype="float32")
    assert isinstance(critic.generator, TransformersGenerator)
    critiques = critic.critique_many([(PROBLEM, STEPS), (PROBLEM, STEPS[:1])])
    assert all(critique.status != "ok" for critique in critiques)
    assert all(step_scores(critique, 3) is None for critique in critiques)
    assert critiques[0].usage.generated_tokens <= critic.max_tokens(STEPS)
