"""The log-likelihood of each step of solutions under a causal language model.

Shapes: B rows, U tokens a row, N steps a row (see `prm.scoring.prefix_tree`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from prm.device import choose_device, choose_dtype
from prm.errors import ConfigError, EncodingError, SpecError, TooLongError
from prm.libraries import load_tokenizer
from prm.scoring.encoding import Encoded, Encoder
from prm.scoring.model import StepScoringModel, load_backbone
from prm.scoring.prefix_tree import PrefixTree, collate
from prm.scoring.spec import ScorerSpec

Item = tuple[str, Sequence[str]]
"""A problem's statement and the steps of a solution."""


class LogLikelihood:
    """What a model thinks of the steps of solutions, given the problem and the steps before."""

    def __init__(self, backbone: Any, tokenizer: Any, spec: ScorerSpec) -> None:
        """Use `from_pretrained`; this is for models at hand."""
        self.model = StepScoringModel(backbone, spec).eval()
        self.encoder = Encoder(tokenizer, spec)
        self.path = spec.base_model

    @classmethod
    def from_pretrained(
        cls,
        path: str,
        *,
        device: str | None = None,
        dtype: str | None = None,
        template: str,
        separator: str,
        max_tokens: int,
    ) -> LogLikelihood:
        """Load a folder or a hub id (safetensors only; no code from it is run).

        Raises:
            SpecError: weights that cannot be loaded, or a kind of attention that a tree cannot
                stand in for.
        """
        if Path(path).is_dir() and not (Path(path) / "config.json").is_file():
            raise SpecError(f"{path}: no model here (config.json is missing)")
        where = choose_device(device)
        number = choose_dtype(dtype or ("float32" if where.type == "cpu" else None), where)
        backbone = load_backbone(path, number, where, use_safetensors=True, trust_remote_code=False)
        spec = ScorerSpec(
            base_model=path, template=template, separator=separator, max_tokens=max_tokens
        )
        model = cls(backbone, load_tokenizer(path), spec)
        model.model.to(where)
        return model

    def check_same_tokens(self, other: LogLikelihood) -> None:
        """Make sure that a ratio of the two compares the same tokens.

        Raises:
            ConfigError: their vocabularies differ.
        """
        mine, theirs = (one.encoder.tokenizer.get_vocab() for one in (self, other))
        if mine != theirs:
            differing = len(set(mine.items()) ^ set(theirs.items()))
            raise ConfigError(
                f"{self.path} and {other.path} have different tokens ({differing} entries of their "
                "vocabularies differ): a ratio needs a model and the one that it was trained from"
            )

    def encode(self, items: Mapping[str, Item]) -> tuple[dict[str, Encoded], dict[str, str]]:
        """The solutions as tokens, by name; and why the others cannot be read, in one word."""
        encoded: dict[str, Encoded] = {}
        faults: dict[str, str] = {}
        for name, (problem, steps) in items.items():
            try:
                encoded[name] = self.encoder.encode(problem, steps, name)
            except TooLongError:
                faults[name] = "too_long"
            except EncodingError:
                faults[name] = "cannot_encode" if steps else "no_steps"
        return encoded, faults

    @torch.inference_mode()
    def log_likelihoods(
        self, encoded: Mapping[str, Encoded], batch_tokens: int
    ) -> dict[str, list[float]]:
        """The sum of the log-probabilities of each step's tokens, separator included."""
        device = next(self.model.parameters()).device
        found: dict[str, list[float]] = {}
        for batch in _batches(_trees(encoded, batch_tokens), batch_tokens):
            rows = collate([tree for _, tree in batch]).to(device)
            logprob_BU = self.model(rows).token_logprob_BU
            node_BU = rows.node_of_BU.clamp(min=0)
            # Tokens of problems and padding have log-probability 0 here.
            sums_BN = torch.zeros(rows.node_end_BN.shape, dtype=torch.float64, device=device)
            sums_BN.scatter_add_(1, node_BU, logprob_BU.double())
            for (names, tree), sums in zip(batch, sums_BN.tolist(), strict=True):
                for name, path in zip(names, tree.paths, strict=True):
                    found[name] = [sums[node] for node in path]
        return {name: found[name] for name in encoded}


def _trees(encoded: Mapping[str, Encoded], batch_tokens: int) -> list[tuple[list[str], PrefixTree]]:
    """Solutions of one problem in trees of at most an eighth of a batch, so that it is filled."""
    most = batch_tokens // 8
    groups: list[tuple[list[str], int]] = []
    for name in sorted(encoded, key=lambda name: (encoded[name].prompt, encoded[name].steps)):
        one = encoded[name]
        length = len(one.ids)
        if groups and encoded[groups[-1][0][0]].prompt == one.prompt:
            names, size = groups[-1]
            if size + length <= most:
                groups[-1] = [*names, name], size + length
                continue
        groups.append(([name], length))
    return [(names, PrefixTree.of([encoded[name] for name in names])) for names, _ in groups]


def _batches(
    trees: Sequence[tuple[list[str], PrefixTree]], batch_tokens: int
) -> list[list[tuple[list[str], PrefixTree]]]:
    """Rows of like length together, at most ``batch_tokens`` with padding (a longer one alone)."""
    batches: list[list[tuple[list[str], PrefixTree]]] = []
    for tree in sorted(trees, key=lambda one: len(one[1])):
        if batches and len(tree[1]) * (len(batches[-1]) + 1) <= batch_tokens:
            batches[-1].append(tree)
        else:
            batches.append([tree])
    return batches
