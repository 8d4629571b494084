"""A causal model with a head that scores every step of a tree of solutions.

Two heads (see `ScorerSpec.head`): ``linear`` reads the hidden state at the end of a step;
``likelihood`` adds the log-likelihood of the step's tokens under this same model, and the least
of those so far. The second lets a small model check a step by what it would have written
itself: one forward pass has no room to work a sum out and compare it, but it does predict it.
(Verifiers trained jointly as language models: Cobbe et al., arXiv 2110.14168, section 4.2.)

Shapes: B rows, U tokens a row, N nodes a row, D hidden size.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import AutoModelForCausalLM

from prm.attention import check_plain_attention
from prm.errors import SpecError
from prm.scoring.prefix_tree import TreeBatch
from prm.scoring.spec import ScorerSpec

HEAD_FILE = "head.safetensors"


@dataclasses.dataclass(frozen=True, slots=True)
class TreeOutput:
    """What a forward pass gives."""

    logits_BN: Tensor
    """Raw score of each node; its sigmoid is the score."""
    token_logprob_BU: Tensor | None
    """Log-probability of each step token given its path (0 elsewhere); likelihood head only."""


class StepHead(nn.Module):
    """The step's logit from the hidden state at its end and, it may be, from likelihoods."""

    def __init__(self, hidden_size: int, *, likelihood: bool) -> None:
        """Zero weights: an untrained linear head says 0.5 to everything."""
        super().__init__()
        self.linear = nn.Linear(hidden_size, 1)
        nn.init.zeros_(self.linear.weight)
        nn.init.zeros_(self.linear.bias)
        # Weights of the step's own log-likelihood and of the least of its path.
        self.likelihood = nn.Parameter(torch.tensor([0.0, 0.5])) if likelihood else None

    def forward(self, end_BND: Tensor, logprob_BN: Tensor | None, least_BN: Tensor) -> Tensor:
        """[B, N] logits, in float32."""
        logits: Tensor = self.linear(end_BND.to(self.linear.weight.dtype))[..., 0]
        if self.likelihood is not None and logprob_BN is not None:
            logits = logits + self.likelihood[0] * logprob_BN + self.likelihood[1] * least_BN
        return logits


class StepScoringModel(nn.Module):
    """Backbone and head. The backbone may be wrapped by peft."""

    def __init__(self, backbone: Any, spec: ScorerSpec) -> None:
        """``backbone`` is a causal language model of transformers."""
        super().__init__()
        self.backbone = backbone
        self.spec = spec
        self.head = StepHead(backbone.config.hidden_size, likelihood=spec.head == "likelihood")

    def forward(self, batch: TreeBatch) -> TreeOutput:
        """Score all nodes of a batch of rows."""
        causal = self.backbone.get_base_model() if _is_peft(self.backbone) else self.backbone
        dtype = causal.get_input_embeddings().weight.dtype
        blocked = torch.zeros(batch.visible_BUU.shape, dtype=dtype, device=batch.ids_BU.device)
        blocked = blocked.masked_fill(~batch.visible_BUU, torch.finfo(dtype).min)
        hidden_BUD = causal.model(
            input_ids=batch.ids_BU,
            attention_mask=blocked[:, None],
            position_ids=batch.positions_BU,
            use_cache=False,
        ).last_hidden_state
        rows = torch.arange(len(hidden_BUD), device=hidden_BUD.device)[:, None]
        end_BND = hidden_BUD[rows, batch.node_end_BN]
        if self.head.likelihood is None:
            return TreeOutput(self.head(end_BND, None, end_BND[..., 0]), None)
        token_logprob_BU = _token_logprobs(causal.lm_head, hidden_BUD, batch)
        logprob_BN = _sum_by_node(token_logprob_BU, batch)
        least_BN = _least_on_path(logprob_BN, batch.on_path_BNN)
        return TreeOutput(self.head(end_BND, logprob_BN, least_BN), token_logprob_BU)


def load_backbone(path: str, dtype: torch.dtype, device: torch.device, **kwargs: Any) -> Any:
    """A causal model with an attention that takes our mask.

    On a CPU the plain attention is faster than the fused one, whose backward pass there is slow.

    Raises:
        SpecError: there are no weights, some are missing or do not fit, or the model has
            attention of a kind that a tree mask cannot express.
    """
    attention = "eager" if device.type == "cpu" else "sdpa"
    try:
        loaded: Any = AutoModelForCausalLM.from_pretrained(
            path, dtype=dtype, attn_implementation=attention, output_loading_info=True, **kwargs
        )
    except (OSError, RuntimeError, SafetensorError) as error:
        raise SpecError(f"{path}: the weights cannot be loaded: {error}") from error
    model, found = loaded
    if missing := sorted(found["missing_keys"]):
        # transformers warns only, and fills them with random numbers.
        raise SpecError(f"{path}: {len(missing)} weights are missing, among them {missing[:3]}")
    check_plain_attention(path, model.config)
    return model.to(device)


def save_head(head: StepHead, folder: Path) -> None:
    """Write the head's weights, float32."""
    tensors = {name: value.detach().float().cpu() for name, value in head.state_dict().items()}
    save_file(tensors, folder / HEAD_FILE)


def load_head(head: StepHead, folder: Path) -> None:
    """Read the head's weights.

    Raises:
        SpecError: the file is absent or of another head.
    """
    file = folder / HEAD_FILE
    if not file.is_file():
        raise SpecError(f"{file}: the scorer's head is missing; publish the run again")
    try:
        head.load_state_dict(load_file(file))
    except (RuntimeError, SafetensorError) as error:
        raise SpecError(f"{file} does not fit the head that the spec names: {error}") from error


def _is_peft(model: Any) -> bool:
    return hasattr(model, "get_base_model")


def _token_logprobs(lm_head: nn.Module, hidden_BUD: Tensor, batch: TreeBatch) -> Tensor:
    """[B, U]; the vocabulary is projected for step tokens only."""
    row, token = (batch.node_of_BU >= 0).nonzero(as_tuple=True)
    logits = lm_head(hidden_BUD[row, batch.before_BU[row, token]]).float()
    loss = nn.functional.cross_entropy(logits, batch.ids_BU[row, token], reduction="none")
    return hidden_BUD.new_zeros(batch.ids_BU.shape, dtype=torch.float32).index_put(
        (row, token), -loss
    )


def _sum_by_node(token_logprob_BU: Tensor, batch: TreeBatch) -> Tensor:
    """[B, N]: the log-probability of each step, summed over its tokens."""
    node = batch.node_of_BU.clamp(min=0)
    values = token_logprob_BU.masked_fill(batch.node_of_BU < 0, 0.0)
    return token_logprob_BU.new_zeros(batch.node_end_BN.shape).scatter_add(1, node, values)


def _least_on_path(logprob_BN: Tensor, on_path_BNN: Tensor) -> Tensor:
    """[B, N]: the least log-probability of the steps on each node's path."""
    spread = logprob_BN[:, None, :].masked_fill(~on_path_BNN, 0.0)  # log-probabilities are <= 0
    return spread.amin(-1)
