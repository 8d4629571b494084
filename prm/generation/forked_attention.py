"""Attention over a prefix that is kept once and continued by many rows.

A batch whose prompts all begin with the same tokens (few-shot exemplars) keeps the keys and
values of that prefix once, not once a row. Each row adds its own suffix. The result equals plain
causal attention over prefix + suffix; the two parts share one softmax (the split is that of
Hydragen, arXiv 2402.05099, section 3, without its log-sum-exp merge: on a CPU the scores of both
parts fit in memory).

Registered with transformers under the name ``prm_fork``; the model's code stays untouched.

Shapes: B rows, H heads, K key heads, G = H / K, T new tokens, P prefix tokens, S suffix
tokens so far, D head size.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from transformers import AttentionInterface

NAME = "prm_fork"


class ForkedCache:
    """Keys and values of one shared prefix and of B growing suffixes, layer by layer."""

    def __init__(self, capacity: int) -> None:
        """``capacity`` is the number of suffix tokens a row may reach."""
        self.capacity = capacity
        self.prefix: list[tuple[Tensor, Tensor]] = []
        self.suffix: list[tuple[Tensor, Tensor]] = []
        self.length = 0
        self.visible_BS: Tensor | None = None
        self._new = 0

    def begin(self, visible_BT: Tensor) -> None:
        """Announce the next forward pass: T new tokens a row, False where a row is padding."""
        num_rows, self._new = visible_BT.shape
        if self.visible_BS is None:
            self.visible_BS = visible_BT.new_zeros((num_rows, self.capacity))
        self.visible_BS[:, self.length : self.length + self._new] = visible_BT
        self.length += self._new

    def freeze_as_prefix(self) -> None:
        """Make what was read so far (by a single row) the prefix of all later rows."""
        length = self.length
        self.prefix = [(k[0, :, :length].clone(), v[0, :, :length].clone()) for k, v in self.suffix]
        self.suffix, self.length, self.visible_BS = [], 0, None

    def fork(self, prefix_of: ForkedCache) -> ForkedCache:
        """Use another cache's prefix; returns self."""
        self.prefix = prefix_of.prefix
        return self

    def select(self, rows: Tensor) -> None:
        """Keep only these rows, in this order; a row may be repeated."""
        self.suffix = [(k.index_select(0, rows), v.index_select(0, rows)) for k, v in self.suffix]
        if self.visible_BS is not None:
            self.visible_BS = self.visible_BS.index_select(0, rows)

    def attend(self, layer: int, q: Tensor, k: Tensor, v: Tensor, scaling: float) -> Tensor:
        """Attention of the new tokens; q is [B, H, T, D], k and v are [B, K, T, D].

        Returns:
            [B, T, H, D]
        """
        keys_BKSD, values_BKSD = self._append(layer, k, v)
        num_rows, num_heads, num_new, size = q.shape
        num_keys = k.shape[1]
        grouped = q.reshape(num_rows, num_keys, -1, size) * scaling  # [B, K, G*T, D]
        own = torch.matmul(grouped, keys_BKSD.transpose(2, 3))
        mask = self._mask(num_new).repeat(1, 1, num_heads // num_keys, 1)
        own = own.masked_fill(~mask, torch.finfo(own.dtype).min)
        if not self.prefix:
            out = torch.matmul(_softmax(own, q.dtype), values_BKSD)
        else:
            shared_k, shared_v = self.prefix[layer]
            flat = grouped.transpose(0, 1).reshape(num_keys, -1, size)  # [K, B*G*T, D]
            shared = torch.matmul(flat, shared_k.transpose(1, 2))
            shared = shared.view(num_keys, num_rows, grouped.shape[2], -1).transpose(0, 1)
            weights = _softmax(torch.cat((shared, own), dim=-1), q.dtype)
            at_prefix, at_own = weights.split((shared.shape[-1], own.shape[-1]), dim=-1)
            flat = at_prefix.transpose(0, 1).reshape(num_keys, -1, shared.shape[-1])
            out = torch.matmul(flat, shared_v).view(num_keys, num_rows, -1, size).transpose(0, 1)
            out = out + torch.matmul(at_own, values_BKSD)
        return out.reshape(num_rows, num_heads, num_new, size).transpose(1, 2)

    def _append(self, layer: int, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """Store the new keys and values; return all of the suffix so far."""
        if layer == len(self.suffix):
            shape = (*k.shape[:2], self.capacity, k.shape[3])
            self.suffix.append((k.new_zeros(shape), v.new_zeros(shape)))
        keys, values = self.suffix[layer]
        begin = self.length - self._new
        keys[:, :, begin : self.length] = k
        values[:, :, begin : self.length] = v
        return keys[:, :, : self.length], values[:, :, : self.length]

    def _mask(self, num_new: int) -> Tensor:
        """[B, 1, T, S]: causal within the suffix, never padding, always at least oneself."""
        assert self.visible_BS is not None
        position = torch.arange(self.length, device=self.visible_BS.device)
        new = position[self.length - num_new :, None]
        visible = self.visible_BS[:, None, : self.length] & (position <= new)
        return (visible | (position == new))[:, None]


def _softmax(scores: Tensor, dtype: torch.dtype) -> Tensor:
    return torch.softmax(scores, dim=-1, dtype=torch.float32).to(dtype)


def _attention(
    module: Any, query: Tensor, key: Tensor, value: Tensor, attention_mask: Any, **kwargs: Any
) -> tuple[Tensor, None]:
    """The function that transformers calls in every layer; the cache knows the mask."""
    del attention_mask
    cache: ForkedCache = kwargs["fork"]
    return cache.attend(module.layer_idx, query, key, value, kwargs["scaling"]), None


AttentionInterface.register(NAME, _attention)
