"""The training losses against numbers worked out by hand."""

import math

import pytest
import torch

from prm.training.loss import binomial_loss, language_loss, tokens_of

LN2, LN3 = math.log(2), math.log(3)


def tensor(*rows):
    return torch.tensor(rows, dtype=torch.float64)


def test_binomial_loss_is_the_cross_entropy_of_the_share():
    # sigmoid(ln 3) = 3/4. Three of four: -(3/4 ln 3/4 + 1/4 ln 1/4) = ln 4 - 3/4 ln 3.
    loss = binomial_loss(tensor([LN3]), tensor([3]), tensor([4]), tensor([1]))
    assert loss.item() == pytest.approx(2 * LN2 - 0.75 * LN3, abs=1e-12)


def test_binomial_loss_is_the_mean_over_weights():
    # Logit 0: ln 2 whatever the share. sigmoid(ln 3) = 3/4: a success costs ln 4/3, a failure ln 4.
    # With weights 1, 2, 1: (ln 2 + 2 ln 4/3 + ln 4) / 4.
    loss = binomial_loss(
        tensor([0, LN3, LN3]), tensor([5, 1, 0]), tensor([7, 1, 1]), tensor([1, 2, 1])
    )
    expected = (LN2 + 2 * (2 * LN2 - LN3) + 2 * LN2) / 4
    assert loss.item() == pytest.approx(expected, abs=1e-12)


def test_rows_are_one_mean():
    # Two rows of one step each: ln 2 and ln 4/3, not a mean of row means with padding in it.
    loss = binomial_loss(
        tensor([0, 9], [LN3, 9]), tensor([1, 0], [1, 0]), tensor([1, 0], [1, 0]),
        tensor([1, 0], [1, 0]),
    )  # fmt: skip
    assert loss.item() == pytest.approx((LN2 + 2 * LN2 - LN3) / 2, abs=1e-12)


@pytest.mark.parametrize("trials", [1, 4, 16])
@pytest.mark.parametrize("good", [True, False])
def test_hard_and_soft_are_equal_where_all_trials_agree(trials, good):
    logits = tensor([-1.5, 0.3])
    hard = binomial_loss(logits, tensor([good, good]), tensor([1, 1]), tensor([1, 1]))
    counts = tensor([good * trials, good * trials])
    soft = binomial_loss(logits, counts, tensor([trials, trials]), tensor([1, 1]))
    assert soft.item() == pytest.approx(hard.item(), abs=1e-12)
    split = binomial_loss(logits, tensor([1, 1]), tensor([2, 2]), tensor([1, 1]))
    assert abs(split.item() - hard.item()) > 0.1


def test_how_often_a_step_was_tried_does_not_weigh():
    logits, weights = tensor([0.7, -0.2]), tensor([1, 1])
    few = binomial_loss(logits, tensor([1, 2]), tensor([2, 4]), weights)
    many = binomial_loss(logits, tensor([8, 2]), tensor([16, 4]), weights)
    assert few.item() == pytest.approx(many.item(), abs=1e-12)


def test_the_gradient_is_score_minus_share():
    # d/dz of -(s ln p + (1 - s) ln(1 - p)) is p - s; over a sum of weights of 4.
    logits = tensor([LN3, 0, 0]).requires_grad_()
    binomial_loss(logits, tensor([1, 3, 0]), tensor([2, 3, 0]), tensor([1, 3, 0])).backward()
    expected = [(0.75 - 0.5) / 4, 3 * (0.5 - 1.0) / 4, 0.0]
    assert logits.grad[0].tolist() == pytest.approx(expected, abs=1e-12)


def test_the_least_loss_lies_at_the_share():
    at_share = binomial_loss(tensor([LN3]), tensor([3]), tensor([4]), tensor([1]))
    for logit in (LN3 - 0.1, LN3 + 0.1):
        assert binomial_loss(tensor([logit]), tensor([3]), tensor([4]), tensor([1])) > at_share


def test_steps_without_weight_do_not_count():
    kept = binomial_loss(tensor([0.4]), tensor([1]), tensor([2]), tensor([1]))
    more = binomial_loss(tensor([0.4, 30]), tensor([1, 0]), tensor([2, 8]), tensor([1, 0]))
    assert more.item() == kept.item()


def test_nothing_to_learn_is_a_loss_of_zero_without_gradient():
    logits = tensor([0.4, -3]).requires_grad_()
    loss = binomial_loss(logits, tensor([0, 0]), tensor([0, 0]), tensor([0, 0]))
    loss.backward()
    assert loss.item() == 0.0
    assert logits.grad.tolist() == [[0.0, 0.0]]


def test_saturated_logits_stay_finite():
    loss = binomial_loss(tensor([200, -200]), tensor([0, 1]), tensor([1, 1]), tensor([1, 1]))
    assert loss.item() == pytest.approx(200.0)


def test_language_loss_is_the_mean_of_the_tokens_that_count():
    # (ln 2 + ln 4) / 2; the third token does not count.
    logprobs = tensor([-LN2, -2 * LN2, -50])
    assert language_loss(logprobs, tensor([1, 1, 0])).item() == pytest.approx(1.5 * LN2)


def test_language_loss_of_nothing_is_zero():
    assert language_loss(tensor([-1, -2]), tensor([0, 0])).item() == 0.0


def test_tokens_of_chosen_nodes():
    # Tokens: problem (-1), node 0, node 0, node 1, node 2, padding (-2).
    node_of = torch.tensor([[-1, 0, 0, 1, 2, -2], [-1, 1, 1, 0, -2, -2]])
    chosen = torch.tensor([[1, 0, 1], [1, 0, 0]])
    assert tokens_of(chosen, node_of).tolist() == [[0, 1, 1, 0, 1, 0], [0, 0, 0, 1, 0, 0]]
