"""Which models our own attention (shared prefixes, prefix trees) can stand in for."""

from __future__ import annotations

from typing import Any

from prm.errors import SpecError

# Settings that change the attention or the logits in ways that we do not compute.
_FOREIGN = ("attn_logit_softcapping", "final_logit_softcapping", "logits_scaling", "logit_scale")


def check_plain_attention(path: str, config: Any) -> None:
    """Refuse a model that is not a plain causal transformer.

    Raises:
        SpecError: sliding windows, linear attention, or scaled or capped logits.
    """
    kinds = set(getattr(config, "layer_types", None) or ["full_attention"])
    if not getattr(config, "layer_types", None) and getattr(config, "sliding_window", None):
        kinds = {"sliding_attention"}  # in all layers, as in the first Mistral
    found = [name for name in _FOREIGN if getattr(config, name, None) not in (None, 1.0)]
    if kinds != {"full_attention"} or found:
        raise SpecError(
            f"{path}: layers of kind {sorted(kinds)}{', ' + ', '.join(found) if found else ''}; "
            "shared prefixes need full attention in all layers and plain logits (sliding-window "
            "and linear-attention models are not supported)"
        )
