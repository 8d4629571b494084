"""Scores through a prefix tree are those of each solution alone; gradients too.

The reference here shares no code with the tree: it tokenizes by itself, runs a solution through
the plain model, without mask or positions, and applies the head's formula. The head's weights
are chosen so that no score is saturated: a score near 0 or 1 would hide an error. And the checks
are checked: a batch with one mistake in it must be found.
"""

import dataclasses
import itertools
import math
import random
from types import SimpleNamespace

import pytest
import torch
from transformers import (
    LlamaConfig,
    LlamaForCausalLM,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
)

from prm.scoring import Scorer, ScorerSpec
from prm.scoring.encoding import Encoder
from prm.scoring.model import StepScoringModel
from prm.scoring.prefix_tree import PADDING, PrefixTree, collate, pack
from prm.training.loss import binomial_loss, language_loss, tokens_of
from tests.tiny import tiny_head, tiny_tokenizer

TOLERANCE = 1e-5
GRADIENT_TOLERANCE = 1e-4
ARCHITECTURES = {
    "llama": (LlamaConfig, LlamaForCausalLM),
    "qwen2": (Qwen2Config, Qwen2ForCausalLM),
    "qwen3": (Qwen3Config, Qwen3ForCausalLM),
}
TOKENIZER = tiny_tokenizer()


def random_backbone(architecture, attention="eager"):
    config_class, model_class = ARCHITECTURES[architecture]
    torch.manual_seed(0)
    config = config_class(
        vocab_size=len(TOKENIZER),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=8,
        max_position_embeddings=1024,
        initializer_range=0.2,
        pad_token_id=TOKENIZER.pad_token_id,
    )
    return model_class._from_config(config, attn_implementation=attention).eval()


def scoring_model(architecture="llama", head="likelihood", attention="eager"):
    """Random weights, scores inside (0, 1)."""
    model = StepScoringModel(
        random_backbone(architecture, attention), ScorerSpec(base_model="tiny", head=head)
    )
    model.head = tiny_head(likelihood=head == "likelihood")
    return model


def scorer(*args, **kwargs):
    model = scoring_model(*args, **kwargs)
    return Scorer(model, TOKENIZER, model.spec)


def reference_logits(model, problem, steps):
    """(logit, log-likelihood) of each step, from one plain forward pass."""
    prompt = TOKENIZER(f"Problem: {problem}\n")["input_ids"]
    pieces = [TOKENIZER(f"{step}\n")["input_ids"] for step in steps]
    ids = torch.tensor([prompt + [token for piece in pieces for token in piece]])
    output = model.backbone(input_ids=ids, output_hidden_states=True, use_cache=False)
    hidden, logprobs = output.hidden_states[-1][0], output.logits[0].log_softmax(-1)
    weight, bias = model.head.linear.weight[0], model.head.linear.bias[0]
    found, at, least = [], len(prompt), torch.tensor(math.inf)
    for piece in pieces:
        own = sum(logprobs[at + i - 1, token] for i, token in enumerate(piece))
        at += len(piece)
        least = torch.minimum(least, own)
        logit = hidden[at - 1] @ weight + bias
        if model.head.likelihood is not None:
            logit = logit + model.head.likelihood[0] * own + model.head.likelihood[1] * least
        found.append((logit, own))
    return found


def reference_scores(model, problem, steps):
    with torch.no_grad():
        return [torch.sigmoid(logit).item() for logit, _ in reference_logits(model, problem, steps)]


def ragged(seed, num_problems=6):
    """Problems with solutions of 1 to 5 steps from few texts, so that prefixes are shared."""
    source = random.Random(seed)
    texts = ["a", "7", "Step 1: 3 + 9 = 12", "Step 1: 3 + 9 = 13", "so x = 4", "Answer: 16"]
    problems = []
    for number in range(num_problems):
        solutions = [
            [source.choice(texts) for _ in range(source.randint(1, 5))]
            for _ in range(source.randint(1, 9))
        ]
        solutions.append(solutions[0])  # a duplicate
        solutions.append(solutions[0][:1])  # a beginning of another
        solutions.append([*solutions[0], "b"])
        problems.append((f"Calculate {number} + {'9' * source.randint(1, 40)}.", solutions))
    return problems


def prefixes(problems):
    return {
        (problem, tuple(steps[: i + 1]))
        for problem, solutions in problems
        for steps in solutions
        for i in range(len(steps))
    }


def unique_tokens(problems):
    """Characters of every problem once, and of the last step of every distinct prefix once."""
    statements = {problem for problem, _ in problems}
    return sum(len(f"Problem: {statement}\n") for statement in statements) + sum(
        len(f"{path[-1]}\n") for _, path in prefixes(problems)
    )


def flat(nested):
    return [score for problem in nested for steps in problem for score in steps]


def largest_difference(a, b):
    assert len(a) == len(b)
    return max(abs(x - y) for x, y in zip(a, b, strict=True))


@pytest.mark.parametrize("head", ["linear", "likelihood"])
@pytest.mark.parametrize("attention", ["eager", "sdpa"])
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_scores_are_those_of_each_solution_alone(architecture, attention, head):
    ours = scorer(architecture, head, attention)
    problems = ragged(seed=1)
    found = ours.score_problems(problems)
    plain = [[reference_scores(ours.model, p, steps) for steps in s] for p, s in problems]
    alone = [[ours.score(p, steps) for steps in s] for p, s in problems]
    # Unsaturated and apart, so that an error shows.
    assert min(flat(plain)) > 0.02
    assert max(flat(plain)) < 0.98
    assert max(flat(plain)) - min(flat(plain)) > 0.2
    assert [[len(x) for x in s] for s in found] == [[len(x) for x in s] for _, s in problems]
    assert largest_difference(flat(found), flat(plain)) < TOLERANCE
    assert largest_difference(flat(alone), flat(plain)) < TOLERANCE


@pytest.mark.parametrize("seed", range(2, 8))
def test_scores_hold_on_other_trees(seed):
    ours = scorer()
    problems = ragged(seed, num_problems=3)
    plain = [[reference_scores(ours.model, p, steps) for steps in s] for p, s in problems]
    assert largest_difference(flat(ours.score_problems(problems)), flat(plain)) < TOLERANCE


def test_neither_order_nor_batch_mates_move_a_score():
    ours = scorer()
    items = [(p, tuple(steps)) for p, solutions in ragged(seed=3) for steps in solutions]
    before = dict(zip(items, ours.score_batch(items), strict=True))
    for seed in range(3):
        some = random.Random(seed).sample(items, len(items) // (seed + 1))
        for item, scores in zip(some, ours.score_batch(some), strict=True):
            assert largest_difference(scores, before[item]) < TOLERANCE


def test_a_later_step_never_moves_an_earlier_score():
    ours = scorer()
    steps = ["Step 1: 3 + 9 = 12", "a", "Step 2: 12 + 4 = 16", "Answer: 16"]
    whole = ours.score("Calculate 3 + 9 + 4.", steps)
    for count in range(1, len(steps)):
        part = ours.score("Calculate 3 + 9 + 4.", steps[:count])
        assert largest_difference(part, whole[:count]) < 1e-6
    other = ours.score("Calculate 3 + 9 + 4.", [*steps[:2], "Answer: 99"])
    assert largest_difference(other[:2], whole[:2]) < 1e-6
    assert abs(other[2] - whole[2]) > 1e-3


@pytest.mark.parametrize("seed", range(4))
def test_every_prefix_is_encoded_once_and_counted_exactly(seed):
    ours = scorer()
    problems = ragged(seed)
    widths = []
    ours.model.register_forward_pre_hook(
        lambda _, given: widths.append(int((given[0].node_of_BU > PADDING).sum()))
    )
    ours.score_problems(problems)
    assert ours.num_tokens == sum(widths) == unique_tokens(problems)
    ours.score_problems(problems[:1])
    assert ours.num_tokens == unique_tokens(problems) + unique_tokens(problems[:1])
    apart = sum(
        len(f"Problem: {p}\n") + sum(len(f"{step}\n") for step in steps)
        for p, solutions in problems
        for steps in solutions
    )
    assert ours.num_tokens < apart  # the material does share


def trees_of(problems):
    own = Encoder(TOKENIZER, ScorerSpec(base_model="tiny"))
    return [PrefixTree.of([own.encode(p, steps) for steps in s]) for p, s in problems]


def test_rows_hold_whole_trees_up_to_their_limit_in_order():
    trees = trees_of(ragged(seed=5, num_problems=12))
    assert len({len(tree) for tree in trees}) > 6
    limit = sorted(map(len, trees))[-2]  # the longest tree does not fit
    rows = pack(trees, limit)
    assert 1 < len(rows) < len(trees)
    assert [token for row in rows for token in row.ids] == [t for tree in trees for t in tree.ids]
    assert [len(p) for row in rows for p in row.paths] == [
        len(p) for tree in trees for p in tree.paths
    ]
    longer = [row for row in rows if len(row) > limit]
    assert [len(row) for row in longer] == [max(map(len, trees))]
    # Greedy: the first tree of a row did not fit into the row before.
    for before, after in itertools.pairwise(rows):
        first = after.tree_of.count(0)
        assert len(before) + first > limit


def test_a_step_lies_behind_its_path_and_one_token_deeper():
    (tree,) = trees_of(ragged(seed=6, num_problems=1))
    for path in tree.paths:
        ends = [tree.node_end[node] for node in path]
        assert ends == sorted(ends)
    for i, before in enumerate(tree.before):
        assert tree.positions[i] == (tree.positions[before] + 1 if i else 0)
        assert before < i or i == 0


# Gradients: the tree has one target a prefix, so the reference takes each prefix once.


def one_by_one_loss(model, problems, targets, language_weight):
    """Each solution through the model alone; every distinct prefix counts once."""
    losses, weights, logprobs, num_tokens = [], [], [], 0
    seen = set()
    for problem, solutions in problems:
        for steps in solutions:
            for i, (logit, own) in enumerate(reference_logits(model, problem, steps)):
                key = (problem, tuple(steps[: i + 1]))
                if key in seen:
                    continue
                seen.add(key)
                successes, trials, weight, good = targets[key]
                share = successes / max(trials, 1)
                score = torch.sigmoid(logit)
                entropy = share * score.log() + (1 - share) * (1 - score).log()
                losses.append(-entropy * weight)
                weights.append(weight)
                if good:
                    logprobs.append(own)
                    num_tokens += len(f"{steps[i]}\n")
    loss = sum(losses) / sum(weights)
    if not language_weight:
        return loss
    return loss + language_weight * -sum(logprobs) / num_tokens


def random_targets(problems, seed=0):
    source = random.Random(seed)
    targets = {}
    for key in sorted(prefixes(problems)):
        trials = source.choice([0, 4, 8])
        successes = source.randint(0, trials)
        targets[key] = (successes, trials, float(trials > 0), successes > 2)
    return targets


def tree_batch(problems, targets, row_tokens=256):
    """The batch, and the targets of its nodes by reading the text that each node ends."""
    rows = pack(trees_of(problems), row_tokens)
    batch = collate(rows)
    values = torch.zeros((4, *batch.is_node_BN.shape))
    for b, row in enumerate(rows):
        for node, end in enumerate(row.node_end):
            visible = batch.visible_BUU[b, end].nonzero()[:, 0]
            lines = TOKENIZER.decode(batch.ids_BU[b, visible]).removesuffix("\n").split("\n")
            key = (lines[0].removeprefix("Problem: "), tuple(lines[1:]))
            values[:, b, node] = torch.tensor([float(x) for x in targets[key]])
    return batch, values


def tree_loss(model, batch, values, language_weight):
    output = model(batch)
    successes, trials, weights, good = values
    loss = binomial_loss(output.logits_BN, successes, trials, weights)
    if output.token_logprob_BU is not None:
        counts = tokens_of(good, batch.node_of_BU)
        loss = loss + language_weight * language_loss(output.token_logprob_BU, counts)
    return loss


def gradients(model, loss):
    model.zero_grad()
    loss.backward()
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


def worst_relative_difference(a, b):
    assert set(a) == set(b)
    assert all(value.norm() > 1e-6 for value in b.values())
    return max(((a[name] - b[name]).norm() / b[name].norm()).item() for name in b)


@pytest.mark.parametrize("head", ["linear", "likelihood"])
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_gradients_are_those_of_the_solutions_one_by_one(architecture, head):
    model = scoring_model(architecture, head)
    problems = ragged(seed=1, num_problems=4)
    targets = random_targets(problems)
    weight = 0.3 if head == "likelihood" else 0.0
    plain = one_by_one_loss(model, problems, targets, weight)
    expected = gradients(model, plain)
    assert len(expected) >= 20  # all layers, norms and embeddings take part
    batch, values = tree_batch(problems, targets)
    assert len(batch.ids_BU) > 1
    assert (~batch.is_node_BN).any()  # rows are padded
    found = tree_loss(model, batch, values, weight)
    assert found.item() == pytest.approx(plain.item(), rel=1e-5)
    assert worst_relative_difference(gradients(model, found), expected) < GRADIENT_TOLERANCE


def test_rows_and_padding_do_not_move_the_gradients():
    model = scoring_model()
    problems = ragged(seed=2, num_problems=4)
    targets = random_targets(problems)
    kinds = [
        gradients(model, tree_loss(model, *tree_batch(problems, targets, row_tokens), 0.3))
        for row_tokens in (1, 256, 10_000)
    ]
    assert worst_relative_difference(kinds[0], kinds[1]) < GRADIENT_TOLERANCE
    assert worst_relative_difference(kinds[2], kinds[1]) < GRADIENT_TOLERANCE


# Controls: with one mistake in the batch, the comparisons above must fail.


def leak_one_sibling_key(batch, rows):
    """One token sees one key of a sibling step."""
    visible = batch.visible_BUU.clone()
    of_other = next(
        (end, key)
        for end in rows[0].node_end
        for key in rows[0].node_end
        if key < end and not visible[0, end, key] and rows[0].tree_of[end] == rows[0].tree_of[key]
    )
    visible[(0, *of_other)] = True
    return dataclasses.replace(batch, visible_BUU=visible)


def shift_positions_of_one_node(batch, _):
    positions = batch.positions_BU.clone()
    positions[0][batch.node_of_BU[0] == 1] += 1
    return dataclasses.replace(batch, positions_BU=positions)


def positions_of_the_row(batch, _):
    """Siblings run on as if they were one text."""
    positions = torch.arange(batch.ids_BU.shape[1]).expand_as(batch.ids_BU)
    return dataclasses.replace(batch, positions_BU=positions)


def plain_causal_mask(batch, _):
    size = batch.ids_BU.shape[1]
    visible = torch.ones((size, size), dtype=torch.bool).tril().expand_as(batch.visible_BUU)
    return dataclasses.replace(batch, visible_BUU=visible)


def predict_from_the_row(batch, _):
    """The first token of a step is predicted from the token that lies before it in the row."""
    before = torch.arange(batch.ids_BU.shape[1]).sub(1).clamp(min=0).expand_as(batch.before_BU)
    return dataclasses.replace(batch, before_BU=before)


CONTROLS = [
    leak_one_sibling_key,
    shift_positions_of_one_node,
    positions_of_the_row,
    plain_causal_mask,
    predict_from_the_row,
]


@pytest.fixture(scope="module")
def material():
    """A model, trees, and what is right for them."""
    model = scoring_model()
    problems = ragged(seed=1, num_problems=4)
    targets = random_targets(problems)
    batch, values = tree_batch(problems, targets)
    rows = pack(trees_of(problems), 256)
    with torch.no_grad():
        scores = torch.sigmoid(model(batch).logits_BN)[batch.is_node_BN]
    right = gradients(model, one_by_one_loss(model, problems, targets, 0.3))
    return SimpleNamespace(
        model=model, batch=batch, values=values, rows=rows, scores=scores, right=right
    )


@pytest.mark.parametrize("break_it", CONTROLS)
def test_a_mistake_in_the_batch_is_seen_in_scores_and_gradients(material, break_it):
    broken = break_it(material.batch, material.rows)
    with torch.no_grad():
        scores = torch.sigmoid(material.model(broken).logits_BN)[broken.is_node_BN]
    assert (scores - material.scores).abs().max() > 10 * TOLERANCE
    found = gradients(material.model, tree_loss(material.model, broken, material.values, 0.3))
    assert worst_relative_difference(found, material.right) > 10 * GRADIENT_TOLERANCE


def test_a_target_counted_for_each_solution_is_seen(material):
    """The control for one target a prefix: shared prefixes weighed by their solutions."""
    values = material.values.clone()
    for b, row in enumerate(material.rows):
        for node in range(len(row.node_end)):
            values[2, b, node] *= sum(node in path for path in row.paths)
    found = gradients(material.model, tree_loss(material.model, material.batch, values, 0.3))
    assert worst_relative_difference(found, material.right) > 0.05
