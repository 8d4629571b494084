"""Bring models and public problem sets into the caches, on a machine that reaches the hub.

    python -m data_gen.prefetch --config configs/qwq/prefetch.yaml

Afterwards the jobs run without the hub (HF_HUB_OFFLINE=1, which slurm/env.sh sets). All ids are
looked up and the disk is measured before anything is fetched; what is here is not fetched again, so
that a run that was stopped goes on with the files that it lacks. HF_HOME says where the caches lie.
"""

from __future__ import annotations

import dataclasses
import shutil
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path

from rich.filesize import decimal

from data_gen.console import say
from data_gen.hub import Wanted, wanted_model, wanted_rows
from data_gen.public_sets import SETS
from prm.config import parse, run
from prm.errors import ConfigError

COMMAND = "python -m data_gen.prefetch"


@dataclasses.dataclass(frozen=True)
class PrefetchConfig:
    """Settings of `data_gen.prefetch`."""

    models: list[str] = dataclasses.field(default_factory=list)
    """Hub ids, such as Qwen/QwQ-32B."""
    sources: list[str] = dataclasses.field(default_factory=list)
    """Public problem sets, as data_gen.problems names them: gsm8k, math."""
    patterns: list[str] = dataclasses.field(
        default_factory=lambda: ["*.safetensors", "*.json", "*.jinja", "*.txt", "*.model"]
    )
    """Which files of a model: weights, configuration, tokenizer."""

    def __post_init__(self) -> None:
        """Check what can be checked without the hub.

        Raises:
            ConfigError: nothing is asked for, or a set that is not known.
        """
        if not self.models and not self.sources:
            raise ConfigError("nothing to fetch: name models or sources")
        if unknown := sorted(set(self.sources) - set(SETS)):
            raise ConfigError(f"sources: {unknown} are none of {sorted(SETS)}")


def main(argv: list[str] | None = None) -> None:
    """Run the job."""
    config = parse(PrefetchConfig, COMMAND, __doc__, argv)
    wanted = list(_wanted(config))
    for one in wanted:
        say(f"prefetch: {one.name}: {_words(one.missing)}")
    check_space(wanted)
    for one in wanted:
        folder = one.fetch()
        say(f"prefetch: {one.name}: {decimal(_size(folder))} in {folder}")
    say("prefetch: all is here; jobs run with HF_HUB_OFFLINE=1")


def _wanted(config: PrefetchConfig) -> Iterator[Wanted]:
    """Everything that is named, each once; ids are looked up here."""
    for model in dict.fromkeys(config.models):
        yield wanted_model(model, config.patterns)
    parts = [part for source in config.sources for part in SETS[source]]
    rows = {(part.hub_id, name): part for part in parts for name in part.configs}
    for (_, name), part in rows.items():
        yield wanted_rows(part, name)


def check_space(wanted: Sequence[Wanted]) -> None:
    """Compare what is missing with the room on the disks of the caches.

    Raises:
        ConfigError: it does not fit, as far as the hub tells sizes.
    """
    needs: dict[int, int] = defaultdict(int)
    for one in wanted:
        place = _existing(one.cache)
        needs[place.stat().st_dev] += one.missing or 0
        free = shutil.disk_usage(place).free
        if needs[place.stat().st_dev] > free:
            raise ConfigError(
                f"{one.name}: {decimal(needs[place.stat().st_dev])} to fetch up to here, but "
                f"{decimal(free)} free at {one.cache}; make room, or set HF_HOME to another disk"
            )


def _existing(folder: Path) -> Path:
    """The folder, or the nearest one above it that exists."""
    return next(one for one in (folder, *folder.parents) if one.exists())


def _words(missing: int | None) -> str:
    if missing is None:
        return "to fetch, of unknown size"
    return f"{decimal(missing)} to fetch" if missing else "is here"


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


if __name__ == "__main__":
    run(main, COMMAND)
