"""Make the problems: seeded, split, with exact answers.

    python -m data_gen.problems --config configs/quickstart/problems.yaml

Writes a store of `Problem`. Test and selection problems may have operand pairs that no training
problem has; `meta.unseen_pair` tells.
"""

from __future__ import annotations

import dataclasses

from data_gen.arithmetic import make_problems
from data_gen.console import finish, say
from prm.config import fingerprint, operational, parse, resolved, run
from prm.store import StoreWriter

COMMAND = "python -m data_gen.problems"


@dataclasses.dataclass(frozen=True)
class ProblemsConfig:
    """Settings of `data_gen.problems`."""

    output: str = operational("runs/quickstart/problems")
    """Folder of the store."""
    sizes: dict[str, int] = dataclasses.field(
        default_factory=lambda: {"train": 100, "selection": 50, "test": 60}
    )
    """Problems in each split: train, selection, test."""
    num_operands: list[int] = dataclasses.field(default_factory=lambda: [3])
    """How many operands; each problem draws one of these counts."""
    low: int = 1
    """Smallest operand."""
    high: int = 12
    """Largest operand."""
    operators: list[str] = dataclasses.field(default_factory=lambda: ["+"])
    """Operators to draw from: + and -."""
    seed: int = 0
    """The same seed makes the same problems."""


def main(argv: list[str] | None = None) -> None:
    """Run the job."""
    config = parse(ProblemsConfig, COMMAND, __doc__, argv)
    writer = StoreWriter(
        config.output,
        job="problems",
        config=resolved(config),
        config_hash=fingerprint(config),
    )
    with writer:
        if not writer.has("all"):
            problems = make_problems(
                config.sizes,
                num_operands=config.num_operands,
                low=config.low,
                high=config.high,
                operators=config.operators,
                seed=config.seed,
            )
            writer.append("all", list(problems))
    say(f"problems: {config.sizes}")
    finish("problems", writer)


if __name__ == "__main__":
    run(main, COMMAND)
