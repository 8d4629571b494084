"""The scorer as a user has it: loaded from a folder, and what it says where it cannot load."""

import json
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import LlamaConfig, LlamaForCausalLM, MistralConfig, MistralForCausalLM

from prm.errors import EncodingError, SpecError, TooLongError
from prm.protocols import Generation
from prm.scoring import Scorer, ScorerSpec, aggregate
from prm.scoring.model import HEAD_FILE, StepScoringModel, save_head
from prm.search import best_of_n
from prm.steps import split_steps
from tests.tiny import tiny_head, tiny_model, tiny_scorer_folder, tiny_tokenizer

PROBLEM = "Calculate 3 + 9 + 4."
STEPS = ["Step 1: 3 + 9 = 12", "Step 2: 12 + 4 = 16", "Answer: 16"]
OTHER = ["Step 1: 3 + 9 = 12", "Step 2: 12 + 4 = 17", "Answer: 17"]


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    """What a published folder holds: model, tokenizer, head and spec."""
    return tiny_scorer_folder(tmp_path_factory.mktemp("scorer") / "prm")


@pytest.fixture
def copy(published, tmp_path):
    """A copy to damage."""
    return shutil.copytree(published, tmp_path / "copy")


def load(folder, **kwargs):
    return Scorer.from_pretrained(folder, device="cpu", **kwargs)


def in_memory():
    spec = ScorerSpec(base_model="tiny")
    model = StepScoringModel(tiny_model(tiny_tokenizer()), spec)
    model.head = tiny_head()
    return Scorer(model, tiny_tokenizer(), spec)


def test_a_folder_gives_the_scores_of_the_model_in_memory(published):
    from_folder, ours = load(published), in_memory()
    scores = from_folder.score(PROBLEM, STEPS)
    assert scores == pytest.approx(ours.score(PROBLEM, STEPS), abs=1e-6)
    assert from_folder.spec == ours.spec
    # Three different scores inside (0, 1): a head of zeros would say one half everywhere.
    assert len({round(score, 3) for score in scores}) == 3
    assert all(0.02 < score < 0.98 for score in scores)


def test_an_untrained_linear_head_says_one_half():
    spec = ScorerSpec(base_model="tiny", head="linear")
    scorer = Scorer(StepScoringModel(tiny_model(tiny_tokenizer()), spec), tiny_tokenizer(), spec)
    assert scorer.score(PROBLEM, STEPS) == [0.5, 0.5, 0.5]


def test_score_many_and_score_batch_are_score_in_order(published):
    scorer = load(published)
    one, two = scorer.score(PROBLEM, STEPS), scorer.score(PROBLEM, OTHER)
    third = scorer.score("Calculate 1.", ["Answer: 1"])
    many = scorer.score_many(PROBLEM, [OTHER, STEPS, OTHER[:1]])
    assert flat(many) == pytest.approx(flat([two, one, two[:1]]), abs=1e-5)
    batch = scorer.score_batch(
        [(PROBLEM, STEPS), ("Calculate 1.", ["Answer: 1"]), (PROBLEM, OTHER)]
    )
    assert flat(batch) == pytest.approx(flat([one, third, two]), abs=1e-5)
    assert [len(row) for row in batch] == [3, 1, 3]
    assert two[0] == pytest.approx(one[0], abs=1e-5)
    assert abs(two[1] - one[1]) > 1e-3


def flat(rows):
    return [score for row in rows for score in row]


def test_nothing_to_score_is_no_error(published):
    scorer = load(published)
    assert scorer.score_many(PROBLEM, []) == []
    assert scorer.score_batch([]) == []
    assert scorer.score_problems([(PROBLEM, []), (PROBLEM, [STEPS])])[0] == []
    assert scorer.num_tokens == len(scorer.encoder.encode(PROBLEM, STEPS).ids)


def test_any_sequences_will_do(published):
    scorer = load(published)
    assert scorer.score(PROBLEM, tuple(STEPS)) == scorer.score(PROBLEM, STEPS)
    assert scorer.score_many(PROBLEM, (tuple(STEPS),)) == [scorer.score(PROBLEM, STEPS)]


def test_more_than_a_batch_of_tokens_keeps_the_order(published):
    """Long and short problems, more tokens than one forward pass takes."""
    scorer = load(published)
    items = [
        (f"Calculate {'9 + ' * (n * 7 % 40)}{n}.", [f"Step 1: {n}", f"Answer: {n}"])
        for n in range(60)
    ]
    calls = []
    scorer.model.register_forward_pre_hook(lambda _, given: calls.append(given[0].ids_BU.shape))
    batch = scorer.score_batch(items)
    assert len(calls) > 1
    assert all(rows * width <= 4096 for rows, width in calls)
    for index in (0, 17, 33, 59):
        assert batch[index] == pytest.approx(scorer.score(*items[index]), abs=1e-5)


def test_scoring_leaves_no_gradients_behind(published):
    scorer = load(published)
    assert not scorer.model.training
    scorer.score(PROBLEM, STEPS)
    assert all(parameter.grad is None for parameter in scorer.model.parameters())


@pytest.mark.parametrize(
    ("steps", "message"),
    [
        ([], "solution 1 of 'Calculate 3 .*: has no steps"),
        ("Answer: 16", "solution 1 .* has no steps"),
        (["Step 1", ""], "solution 1 .* step 1 is empty"),
        (["Step 1\nAnswer"], "solution 1 .* step 0 contains the separator"),
    ],
)
def test_what_cannot_be_scored_is_named(published, steps, message):
    with pytest.raises(EncodingError, match=message):
        load(published).score_many(PROBLEM, [STEPS, steps])


def test_a_solution_beyond_the_limit_is_refused_and_never_cut(copy):
    ScorerSpec(base_model="tiny", max_tokens=60).save(copy)
    with pytest.raises(TooLongError, match="the scorer takes 60"):
        load(copy).score(PROBLEM, STEPS)


def test_a_spec_can_be_given_from_outside(copy, tmp_path):
    elsewhere = tmp_path / "spec.json"
    (copy / "prm_spec.json").rename(elsewhere)
    with pytest.raises(SpecError, match="no scorer spec"):
        load(copy)
    changed = {**json.loads(elsewhere.read_text()), "template": "Q: {problem}\n"}
    elsewhere.write_text(json.dumps(changed))
    scorer = load(copy, spec=elsewhere)
    assert scorer.spec.template == "Q: {problem}\n"
    assert scorer.score(PROBLEM, STEPS) != in_memory().score(PROBLEM, STEPS)


def test_a_folder_without_a_head_is_refused(copy):
    (copy / HEAD_FILE).unlink()
    with pytest.raises(SpecError, match="head is missing"):
        load(copy)


@pytest.mark.parametrize("head", [tiny_head(16), tiny_head(likelihood=False)])
def test_another_head_is_refused(copy, head):
    save_head(head, copy)
    with pytest.raises(SpecError, match="does not fit the head that the spec names"):
        load(copy)


def test_a_damaged_head_is_refused(copy):
    (copy / HEAD_FILE).write_bytes(b"not safetensors")
    with pytest.raises(SpecError, match=HEAD_FILE):
        load(copy)


def test_a_folder_without_a_model_is_refused(copy):
    (copy / "config.json").unlink()
    with pytest.raises(SpecError, match=r"no model here \(config.json is missing\)"):
        load(copy)


def test_a_folder_without_weights_is_refused(copy):
    (copy / "model.safetensors").unlink()
    with pytest.raises(SpecError, match=r"model\.safetensors"):
        load(copy)


def test_weights_that_could_run_code_are_not_read(copy):
    tensors = load_file(copy / "model.safetensors")
    (copy / "model.safetensors").unlink()
    torch.save(tensors, copy / "pytorch_model.bin")
    with pytest.raises(SpecError, match=r"safetensors"):
        load(copy)


def test_tied_weights_are_no_hole(tmp_path):
    """The embeddings are the vocabulary's layer too, and are stored once."""
    config = LlamaConfig(
        vocab_size=len(tiny_tokenizer()), hidden_size=32, intermediate_size=64,
        num_hidden_layers=1, num_attention_heads=4, tie_word_embeddings=True,
    )  # fmt: skip
    LlamaForCausalLM(config).save_pretrained(tmp_path)
    tiny_tokenizer().save_pretrained(tmp_path)
    save_head(tiny_head(), tmp_path)
    ScorerSpec(base_model="tiny").save(tmp_path)
    assert "lm_head.weight" not in load_file(tmp_path / "model.safetensors")
    assert len(load(tmp_path).score(PROBLEM, STEPS)) == 3


def test_weights_of_another_size_are_refused(copy):
    tensors = load_file(copy / "model.safetensors")
    tensors["model.norm.weight"] = tensors["model.norm.weight"][:16].clone()
    save_file(tensors, copy / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(SpecError, match="cannot be loaded"):
        load(copy)


def test_weights_with_a_hole_are_refused(copy):
    """A tensor that is absent would be filled with random numbers."""
    tensors = load_file(copy / "model.safetensors")
    del tensors["model.layers.1.mlp.up_proj.weight"]
    save_file(tensors, copy / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(SpecError, match=r"layers\.1\.mlp\.up_proj"):
        load(copy)


def test_a_model_with_a_sliding_window_is_refused(copy):
    """Its layers cut what a token sees by its place in the row, not on its path."""
    config = MistralConfig(
        vocab_size=len(tiny_tokenizer()), hidden_size=32, intermediate_size=64,
        num_hidden_layers=1, num_attention_heads=4, num_key_value_heads=2, sliding_window=8,
    )  # fmt: skip
    MistralForCausalLM(config).save_pretrained(copy)
    with pytest.raises(SpecError, match="full attention"):
        load(copy)


class Dice:
    """A user's own generator: the texts are given."""

    name = "dice"

    def generate(self, prompts, params, *, seed):
        assert (len(prompts), params.n, seed) == (1, 2, 0)
        return [[Generation("\n".join(steps), "stop", 9, 30, -1.0) for steps in (STEPS, OTHER)]]


def test_the_scorer_guides_a_search_of_the_users_own(published):
    scorer = load(published)

    def parse(text):
        steps = split_steps(text)
        return steps, steps[-1].removeprefix("Answer: ")

    result = best_of_n(PROBLEM, Dice(), scorer, n=2, parse=parse, aggregate="last")
    scores = [aggregate(scorer.score(PROBLEM, steps), "last") for steps in (STEPS, OTHER)]
    assert abs(scores[0] - scores[1]) > 1e-3
    assert [candidate.score for candidate in result.candidates] == pytest.approx(scores, abs=1e-5)
    assert result.answer == ("16" if scores[0] > scores[1] else "17")


def test_bfloat16_is_near_and_asked_for_by_name(published):
    rough = load(published, dtype="bfloat16")
    assert next(rough.model.backbone.parameters()).dtype is torch.bfloat16
    assert rough.score(PROBLEM, STEPS) == pytest.approx(in_memory().score(PROBLEM, STEPS), abs=0.1)
