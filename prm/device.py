"""Where to compute and in which number format, decided once and told to the user."""

from __future__ import annotations

import torch

from prm.errors import ConfigError


def choose_device(device: str | None = None) -> torch.device:
    """The device asked for, else the GPU if there is one, else the CPU."""
    if device:
        return torch.device(device)
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def choose_dtype(dtype: str | None, device: torch.device) -> torch.dtype:
    """The format asked for ("float32", "bfloat16"), else bfloat16 where the hardware has it.

    On a CPU that means AVX512-BF16 or AMX instructions: without them bfloat16 is slower than
    float32.
    """
    if dtype:
        named = getattr(torch, dtype, None)
        if not isinstance(named, torch.dtype) or not named.is_floating_point:
            raise ConfigError(f"dtype {dtype!r} is unknown; use float32, bfloat16 or float16")
        return named
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float16
    return torch.bfloat16 if _cpu_has_bfloat16() else torch.float32


def _cpu_has_bfloat16() -> bool:
    return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())
