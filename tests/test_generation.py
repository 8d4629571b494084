import copy
import dataclasses
import math
from collections import Counter

import pytest
import torch
from tokenizers import processors
from transformers import Qwen2Config, Qwen2ForCausalLM, Qwen3Config, Qwen3ForCausalLM

from prm.device import choose_device, choose_dtype
from prm.errors import GenerationError
from prm.generation.forked_attention import ForkedCache
from prm.generation.in_process import TransformersGenerator, _common_prefix, _sample
from prm.protocols import Chat, Message, SamplingParams
from tests.tiny import tiny_model, tiny_tokenizer

# One token a character, without the critic's words: lengths are countable.
TOKENIZER = tiny_tokenizer(())
SIZES = {
    "vocab_size": len(TOKENIZER),
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "max_position_embeddings": 1024,
    "initializer_range": 0.2,
    "tie_word_embeddings": False,
    "pad_token_id": TOKENIZER.pad_token_id,
    "bos_token_id": TOKENIZER.bos_token_id,
    "eos_token_id": TOKENIZER.eos_token_id,
}
PROMPTS = {
    "shared prefix": [f"Problem: Calculate {x}." for x in ("3 + 9", "3 + 98 + 4", "7")],
    "shared prefix, one ends in it": ["Calculate 3", "Calculate 3 + 9 + 4"],
    "no shared prefix": ["3 + 9 = ", "a", "Calculate 12 + 4."],
    "one prompt": ["Calculate 3 + 9."],
    "one token": ["7"],
    "the same twice": ["Calculate 3 + 9.", "Calculate 3 + 9."],
}
GREEDY = SamplingParams(n=1, temperature=0.0, max_tokens=12)
SAMPLED = SamplingParams(n=3, temperature=1.0, max_tokens=12)


def model_of(family):
    """A random model; each call gives the same weights."""
    if family == "llama":
        return tiny_model(TOKENIZER)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        if family == "qwen2":
            values = {name: value for name, value in SIZES.items() if name != "head_dim"}
            return Qwen2ForCausalLM(Qwen2Config(**values)).eval()
        # Not hidden size / heads, as in the real Qwen3 models.
        return Qwen3ForCausalLM(Qwen3Config(**{**SIZES, "head_dim": 16})).eval()


def generator_of(family="llama", **kwargs):
    return TransformersGenerator(model_of(family), TOKENIZER, **kwargs)


TEMPLATE = (
    "<s>{% for one in messages %}[{{ one.role }}] {{ one.content }}\n{% endfor %}"
    "{% if add_generation_prompt %}[assistant] {% endif %}"
)
CHAT = Chat((Message("system", "Be brief."), Message("user", "Calculate 3 + 9.")))
WRITTEN = "<s>[system] Be brief.\n[user] Calculate 3 + 9.\n[assistant] "


def chat_generator():
    """With a chat template, and a tokenizer that begins each text by itself with <s>."""
    tokenizer = copy.deepcopy(TOKENIZER)
    tokenizer.chat_template = TEMPLATE
    tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A", special_tokens=[("<s>", tokenizer.bos_token_id)]
    )
    return TransformersGenerator(model_of("llama"), tokenizer)


def plain_logprobs(model, prompt, continuation_ids):
    """Teacher-forced log-probabilities of the continuation by the model's own attention."""
    prompt_ids = TOKENIZER(prompt)["input_ids"]
    with torch.inference_mode():
        logits = model(torch.tensor([[*prompt_ids, *continuation_ids]])).logits[0]
    logprobs = torch.log_softmax(logits[len(prompt_ids) - 1 : -1], dim=-1)
    return logprobs[torch.arange(len(continuation_ids)), torch.tensor(continuation_ids)]


def plain_greedy(model, prompt, params):
    """The ids that the model's own `generate` gives."""
    ids = torch.tensor([TOKENIZER(prompt)["input_ids"]])
    out = model.generate(
        ids,
        attention_mask=torch.ones_like(ids),
        do_sample=False,
        max_new_tokens=params.max_tokens,
        pad_token_id=TOKENIZER.pad_token_id,
    )
    return out[0, ids.shape[1] :].tolist()


def ids_of(generation):
    """The ids of the generated tokens, from their texts: one text, one id in this tokenizer."""
    return TOKENIZER.convert_tokens_to_ids([token.text for token in generation.tokens])


@pytest.mark.parametrize("family", ["llama", "qwen2", "qwen3"])
@pytest.mark.parametrize("prompts", PROMPTS.values(), ids=PROMPTS.keys())
def test_greedy_texts_are_those_of_the_plain_model(prompts, family):
    plain = model_of(family)
    params = dataclasses.replace(GREEDY, top_logprobs=2)
    groups = generator_of(family).generate(prompts, params, seed=0)
    assert len(groups) == len(prompts)
    for prompt, group in zip(prompts, groups, strict=True):
        expected = plain_greedy(plain, prompt, params)
        assert len(group) == 1
        assert ids_of(group[0]) == expected
        assert group[0].text == TOKENIZER.decode(expected, skip_special_tokens=True)
        logprobs = plain_logprobs(plain, prompt, expected)
        found = torch.tensor([token.logprob for token in group[0].tokens])
        torch.testing.assert_close(found, logprobs, atol=1e-5, rtol=0)


@pytest.mark.parametrize("family", ["llama", "qwen2", "qwen3"])
@pytest.mark.parametrize("prompts", PROMPTS.values(), ids=PROMPTS.keys())
def test_logprob_of_a_sample_is_the_teacher_forced_sum(prompts, family):
    plain = model_of(family)
    params = dataclasses.replace(SAMPLED, top_logprobs=1, temperature=1.3)
    groups = generator_of(family).generate(prompts, params, seed=1)
    for prompt, group in zip(prompts, groups, strict=True):
        assert len(group) == params.n
        for generation in group:
            logprobs = plain_logprobs(plain, prompt, ids_of(generation))
            found = torch.tensor([token.logprob for token in generation.tokens])
            torch.testing.assert_close(found, logprobs, atol=1e-5, rtol=0)
            assert generation.logprob == pytest.approx(logprobs.sum().item(), abs=1e-4)
            assert generation.generated_tokens == len(generation.tokens)
            assert generation.prompt_tokens == len(prompt)


def test_the_cache_holds_the_attention_of_the_plain_formula():
    # One prefix of 3 tokens, two rows of 2 and 1 tokens (the second padded), 4 heads on 2 keys.
    source = torch.Generator().manual_seed(0)
    k_prefix, v_prefix = (torch.randn(1, 2, 3, 8, generator=source) for _ in range(2))
    q = torch.randn(2, 4, 2, 8, generator=source)
    k, v = (torch.randn(2, 2, 2, 8, generator=source) for _ in range(2))
    prefix = ForkedCache(3)
    prefix.begin(torch.ones(1, 3, dtype=torch.bool))
    prefix.attend(0, torch.zeros(1, 4, 3, 8), k_prefix, v_prefix, 0.5)
    prefix.freeze_as_prefix()
    cache = ForkedCache(2).fork(prefix)
    cache.begin(torch.tensor([[True, True], [False, True]]))
    found = cache.attend(0, q, k, v, 0.5)
    assert found.shape == (2, 2, 4, 8)
    for row, head, new in [(0, 0, 0), (0, 3, 1), (1, 1, 1), (1, 2, 1)]:
        first = 1 if row == 1 else 0  # without the padding
        keys = torch.cat((k_prefix[0, head // 2], k[row, head // 2, first : new + 1]))
        values = torch.cat((v_prefix[0, head // 2], v[row, head // 2, first : new + 1]))
        weights = torch.softmax(0.5 * keys @ q[row, head, new], dim=0)
        torch.testing.assert_close(found[row, new, head], weights @ values)


def test_rows_that_are_selected_go_on_as_they_would_have_alone():
    source = torch.Generator().manual_seed(0)
    q, k, v = (torch.randn(3, 2, 4, 8, generator=source) for _ in range(3))
    together, alone = ForkedCache(4), ForkedCache(4)
    together.begin(torch.ones(3, 3, dtype=torch.bool))
    together.attend(0, *(x[:, :, :3] for x in (q, k, v)), 1.0)
    together.select(torch.tensor([2, 0, 2]))
    together.begin(torch.ones(3, 1, dtype=torch.bool))
    rows = torch.tensor([2, 0, 2])
    found = together.attend(0, *(x[rows, :, 3:] for x in (q, k, v)), 1.0)
    alone.begin(torch.ones(3, 4, dtype=torch.bool))
    expected = alone.attend(0, q, k, v, 1.0)[rows, 3:]
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize(
    ("rows", "shared"),
    [
        ([[1, 2, 3], [1, 2, 4]], [1, 2]),
        ([[1, 2], [1, 2, 3]], [1]),
        ([[1, 2, 3]], [1, 2]),
        ([[1, 2], [1, 2]], [1]),
        ([[1], [1, 2]], []),
        ([[2, 1], [1, 2]], []),
        ([[1, 2, 9], [1, 3], [1, 2, 4, 5]], [1]),
    ],
)
def test_the_common_prefix_leaves_every_row_a_token(rows, shared):
    assert _common_prefix(rows) == shared


def test_the_same_call_gives_the_same_texts_and_another_seed_gives_others():
    prompts = PROMPTS["shared prefix"]
    generator = generator_of()
    first = generator.generate(prompts, SAMPLED, seed=5)
    generator.generate(["Something else."], SAMPLED, seed=6)
    assert generator.generate(prompts, SAMPLED, seed=5) == first
    assert generator_of().generate(prompts, SAMPLED, seed=5) == first
    assert generator.generate(prompts, SAMPLED, seed=6) != first


def test_samples_of_a_prompt_differ_from_each_other():
    group = generator_of().generate(["Calculate 3 + 9."], SAMPLED, seed=0)[0]
    assert len({generation.text for generation in group}) == 3


@pytest.mark.parametrize("max_rows", [1, 2, 3])
def test_greedy_texts_do_not_depend_on_how_many_are_written_side_by_side(max_rows):
    prompts = PROMPTS["no shared prefix"] + PROMPTS["shared prefix"]
    expected = generator_of().generate(prompts, GREEDY, seed=0)
    found = generator_of(max_rows=max_rows).generate(prompts, GREEDY, seed=0)
    for one, other in zip(expected, found, strict=True):
        assert one[0].text == other[0].text
        assert one[0].logprob == pytest.approx(other[0].logprob, abs=1e-4)
    twice = dataclasses.replace(GREEDY, n=2)
    for one, group in zip(
        expected, generator_of(max_rows=max_rows).generate(prompts, twice, seed=0), strict=True
    ):
        assert [generation.text for generation in group] == [one[0].text] * 2


# The tiny model continues it with 40 characters, none of them a special token.
PROMPT = "a"


def greedy_text(max_tokens=40):
    params = dataclasses.replace(GREEDY, max_tokens=max_tokens)
    return generator_of().generate([PROMPT], params, seed=0)[0][0]


def test_a_text_that_reaches_the_limit_says_so():
    generation = greedy_text(7)
    assert (generation.finish_reason, generation.generated_tokens) == ("length", 7)
    nothing = greedy_text(0)
    assert (nothing.text, nothing.finish_reason, nothing.generated_tokens) == ("", "length", 0)


@pytest.mark.parametrize(("begin", "length"), [(5, 1), (5, 3), (2, 20), (0, 2)])
def test_a_stop_string_ends_the_text_and_is_no_part_of_it(begin, length):
    text = greedy_text().text
    assert len(text) == 40
    stop = text[begin : begin + length]
    at = text.index(stop)
    params = dataclasses.replace(GREEDY, max_tokens=40, stop=("~~never~~", stop))
    found = generator_of().generate([PROMPT, "b"], params, seed=0)[0][0]
    assert found.text == text[:at]
    assert found.finish_reason == "stop"
    assert found.generated_tokens == at + len(stop)


def test_the_earliest_of_several_stop_strings_cuts():
    text = greedy_text().text
    stops = (text[4:7], text[4:6])
    params = dataclasses.replace(GREEDY, max_tokens=40, stop=stops)
    found = generator_of().generate([PROMPT], params, seed=0)[0][0]
    assert found.text == text[: min(text.index(stop) for stop in stops)]


def test_the_end_token_ends_the_text_and_is_counted():
    generator = generator_of()
    params = dataclasses.replace(SAMPLED, n=48, max_tokens=40, top_logprobs=1)
    group = generator.generate([PROMPT], params, seed=0)[0]
    ended = [generation for generation in group if generation.finish_reason == "stop"]
    assert 0 < len(ended) < len(group)
    for generation in ended:
        assert ids_of(generation)[-1] == TOKENIZER.eos_token_id
        assert TOKENIZER.eos_token not in generation.text
        assert len(generation.text) <= generation.generated_tokens - 1
    for generation in group:
        assert TOKENIZER.eos_token_id not in ids_of(generation)[:-1]


def test_every_end_token_of_the_model_ends_the_text():
    model = model_of("llama")
    third = greedy_text().text[2]
    model.generation_config.eos_token_id = [
        TOKENIZER.eos_token_id,
        TOKENIZER.convert_tokens_to_ids(third),
    ]
    found = TransformersGenerator(model, TOKENIZER).generate([PROMPT], GREEDY, seed=0)[0][0]
    assert (found.finish_reason, found.generated_tokens) == ("stop", 3)


def test_alternatives_are_sorted_and_contain_the_greedy_token():
    params = dataclasses.replace(GREEDY, top_logprobs=5)
    for token in generator_of().generate([PROMPT], params, seed=0)[0][0].tokens:
        values = list(token.top.values())
        assert len(values) == 5
        assert values == sorted(values, reverse=True)
        assert next(iter(token.top)) == token.text
        assert token.top[token.text] == pytest.approx(token.logprob, abs=1e-6)
        assert sum(map(math.exp, values)) <= 1 + 1e-5


def test_no_tokens_are_kept_unless_they_are_asked_for():
    assert greedy_text().tokens == ()


def test_a_small_nucleus_is_greedy():
    params = dataclasses.replace(SAMPLED, n=2, top_p=1e-6)
    group = generator_of().generate([PROMPT], params, seed=3)[0]
    assert [generation.text for generation in group] == [greedy_text(12).text] * 2


def test_a_low_temperature_is_greedy():
    params = dataclasses.replace(SAMPLED, n=2, temperature=1e-4)
    group = generator_of().generate([PROMPT], params, seed=3)[0]
    assert [generation.text for generation in group] == [greedy_text(12).text] * 2


@pytest.mark.parametrize("prefix", ["", "Step 1: 3 + 9 = 12\n"])
def test_a_chat_is_answered_as_the_text_that_its_template_writes(prefix):
    chat = dataclasses.replace(CHAT, prefix=prefix)
    by_hand = generator_of().generate([WRITTEN + prefix], SAMPLED, seed=3)
    assert chat_generator().generate([chat], SAMPLED, seed=3) == by_hand
    # One token a character, and one for <s>: it is not set twice.
    assert by_hand[0][0].prompt_tokens == len(WRITTEN + prefix) - len("<s>") + 1


def test_chats_and_texts_are_answered_in_one_call():
    generator = chat_generator()
    # This tokenizer sets <s> before a text, but not before a chat.
    mixed = generator.generate(["Calculate 3", CHAT, WRITTEN.removeprefix("<s>")], GREEDY, seed=0)
    [alone] = generator.generate(["Calculate 3"], GREEDY, seed=0)
    [chat] = generator.generate([CHAT], GREEDY, seed=0)
    assert [[one.text for one in group] for group in mixed] == [
        [one.text for one in group] for group in (alone, chat, chat)
    ]
    assert [group[0].prompt_tokens for group in mixed] == [
        group[0].prompt_tokens for group in (alone, chat, chat)
    ]


def test_a_chat_needs_a_tokenizer_with_a_chat_template():
    with pytest.raises(GenerationError, match="tokenizer of 'model' has no chat template"):
        generator_of().generate([CHAT], GREEDY, seed=0)


def test_an_empty_prompt_is_an_error_and_no_prompts_are_no_texts():
    with pytest.raises(GenerationError, match="empty prompt"):
        generator_of().generate(["Calculate.", ""], GREEDY, seed=0)
    assert generator_of().generate([], GREEDY, seed=0) == []


def draw(probs, num_draws, top_p=1.0, seed=0):
    logits = torch.tensor(probs).log().expand(num_draws, -1)
    drawn = _sample(logits, top_p, torch.Generator().manual_seed(seed))
    assert drawn.shape == (num_draws,)
    return Counter(drawn.tolist())


def chi_square(counts, probs):
    total = sum(counts.values())
    return sum((counts[i] - p * total) ** 2 / (p * total) for i, p in enumerate(probs) if p)


@pytest.mark.parametrize("seed", range(3))
def test_tokens_are_drawn_with_their_probabilities(seed):
    probs = [0.4, 0.0, 0.25, 0.2, 0.1, 0.05, 0.0]
    counts = draw(probs, 200_000, seed=seed)
    assert counts[1] == counts[6] == 0
    # Four degrees of freedom: 18.5 is the 99.9th percentile.
    assert chi_square(counts, probs) < 18.5


def test_the_nucleus_is_drawn_with_its_probabilities_and_nothing_else_is():
    # The nucleus at 0.6: 0.4 + 0.25 reaches it.
    counts = draw([0.1, 0.25, 0.05, 0.4, 0.2], 200_000, top_p=0.6)
    assert set(counts) == {1, 3}
    expected = [0, 0.25 / 0.65, 0, 0.4 / 0.65, 0]
    # One degree of freedom: 10.8 is the 99.9th percentile.
    assert chi_square(counts, expected) < 10.8


def test_the_check_of_the_distribution_sees_a_wrong_one():
    counts = draw([0.4, 0.25, 0.2, 0.15], 20_000)
    assert chi_square(counts, [0.38, 0.27, 0.2, 0.15]) > 18.5


def test_a_saved_model_generates_as_the_one_in_memory(tiny_folder):
    loaded = TransformersGenerator.from_pretrained(str(tiny_folder), device="cpu", dtype="float32")
    assert loaded.name == tiny_folder.name
    found = loaded.generate(["Calculate 3 + 9."], GREEDY, seed=0)
    tokenizer = tiny_tokenizer()
    in_memory = TransformersGenerator(tiny_model(tokenizer), tokenizer)
    assert found == in_memory.generate(["Calculate 3 + 9."], GREEDY, seed=0)


def test_the_device_and_format_asked_for_are_taken():
    assert choose_device("meta") == torch.device("meta")
    assert choose_device().type == ("cuda" if torch.cuda.is_available() else "cpu")
    assert choose_dtype("float16", torch.device("cpu")) == torch.float16
    assert choose_dtype(None, torch.device("cpu")) in (torch.bfloat16, torch.float32)


@pytest.mark.parametrize("dtype", ["float23", "nn", "int64", "bool"])
def test_a_format_that_no_model_has_is_refused(dtype):
    with pytest.raises(ValueError, match="use float32, bfloat16 or float16"):
        choose_dtype(dtype, torch.device("cpu"))
