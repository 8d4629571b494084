"""Training losses: pure functions of tensors.

Shapes: B rows, N steps (nodes of the prefix trees), U tokens.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional


def binomial_loss(
    logits_BN: Tensor, successes_BN: Tensor, trials_BN: Tensor, weights_BN: Tensor
) -> Tensor:
    """Mean negative log-likelihood a step, of ``successes`` in ``trials`` at sigmoid(logit).

    Divided by the trials, so that a step counts by its weight and not by how often it was tried;
    steps of weight 0 (undecided, padding) do not count. A hard label is one trial. 0 when no step
    counts.
    """
    share = successes_BN / trials_BN.clamp(min=1)
    losses = functional.binary_cross_entropy_with_logits(logits_BN, share, reduction="none")
    return (losses * weights_BN).sum() / weights_BN.sum().clamp(min=1e-12)


def language_loss(token_logprob_BU: Tensor, counts_BU: Tensor) -> Tensor:
    """Mean negative log-likelihood of the tokens that count; 0 when none does."""
    return -(token_logprob_BU * counts_BU).sum() / counts_BU.sum().clamp(min=1)


def tokens_of(nodes_BN: Tensor, node_of_BU: Tensor) -> Tensor:
    """[B, U] float: 1 for the tokens of the chosen nodes, 0 elsewhere."""
    chosen = torch.gather(nodes_BN.float(), 1, node_of_BU.clamp(min=0))
    return chosen * (node_of_BU >= 0)
