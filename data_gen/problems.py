"""Make the problems, or take them from public sets: split, with known answers, each once.

    python -m data_gen.problems --config configs/quickstart/problems.yaml
    python -m data_gen.problems --sources '[game24]' --puzzles '{game24: {sizes: {train: 100}}}'

Writes a store of `Problem`. Arithmetic is seeded: test and selection problems may have operand
pairs that no training problem has; `meta.unseen_pair` tells. Of a public set the test problems stay
test problems, and the others are divided into train and selection by hash. A problem is refused
when its verifier cannot use its reference answer.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

from data_gen.arithmetic import make_problems
from data_gen.code_problems import SOURCE as OWN_CODE
from data_gen.code_problems import make_own_problems
from data_gen.console import finish, say
from data_gen.public_sets import SETS, part_names, read_part, statement_hash
from data_gen.puzzles import PUZZLES, check_settings, make
from prm.config import fingerprint, operational, parse, resolved, run
from prm.errors import ConfigError
from prm.records import Problem
from prm.store import StoreWriter, content_hash, read_records, unique
from prm.verifiers import Verifiers

COMMAND = "python -m data_gen.problems"
_ARITHMETIC = "arithmetic"
_NUM_NAMED = 10
"""Refused problems that are named in a line of their own."""


@dataclasses.dataclass(frozen=True)
class ProblemsConfig:
    """Settings of `data_gen.problems`."""

    output: str = operational("runs/quickstart/problems")
    """Folder of the store."""
    sources: list[str] = dataclasses.field(default_factory=lambda: [_ARITHMETIC])
    """Where the problems come from: arithmetic (made here), the puzzles parentheses, game24,
    countdown, polynomial_roots, linear_system and arithmetic_chain (made here too), own_code
    (programs to write, with hidden tests), gsm8k and math (public sets, from the hub or its cache),
    or a .jsonl file of problems as this job writes."""
    locations: dict[str, str] = dataclasses.field(default_factory=dict)
    """Read instead of the hub, by gsm8k/train, gsm8k/test, math/train, math/test: a .jsonl,
    .jsonl.gz or .parquet file, or a folder like the hub's."""
    selection_share: float = 0.05
    """Public sets: the share of the training problems that become selection problems."""
    sizes: dict[str, int] = dataclasses.field(
        default_factory=lambda: {"train": 100, "selection": 50, "test": 60}
    )
    """Arithmetic: problems in each split: train, selection, test."""
    num_operands: list[int] = dataclasses.field(default_factory=lambda: [3])
    """Arithmetic: how many operands; each problem draws one of these counts."""
    low: int = 1
    """Arithmetic: smallest operand."""
    high: int = 12
    """Arithmetic: largest operand."""
    operators: list[str] = dataclasses.field(default_factory=lambda: ["+"])
    """Arithmetic: operators to draw from: + and -."""
    seed: int = 0
    """Arithmetic: the same seed makes the same problems."""
    puzzles: dict[str, dict[str, Any]] = dataclasses.field(default_factory=dict)
    """Puzzles, by name: sizes (as above), seed, and how hard they are: the fields of the puzzle's
    maker in prm.verifiers.puzzles, such as {game24: {sizes: {train: 100}, max_solutions: 3}}."""
    verifiers: dict[str, dict[str, Any]] = dataclasses.field(default_factory=dict)
    """Settings of the verifiers that check the reference answers, by name."""

    def __post_init__(self) -> None:
        """Check what can be checked without reading anything.

        Raises:
            ConfigError: an unknown source, part or puzzle setting, or a share that is none.
        """
        known = (_ARITHMETIC, *PUZZLES, OWN_CODE, *SETS)
        if unknown := [one for one in self.sources if one not in known and not _is_file(one)]:
            raise ConfigError(f"sources: {unknown} are none of {known}, nor .jsonl files")
        if len(set(self.sources)) < len(self.sources) or not self.sources:
            raise ConfigError(f"sources: each once, and at least one; found {self.sources}")
        if unknown := sorted(set(self.locations) - set(part_names())):
            raise ConfigError(f"locations: {unknown} are none of {part_names()}")
        check_settings(self.puzzles, self.sources)
        if not 0 <= self.selection_share <= 1:
            raise ConfigError(f"selection_share should be from 0 to 1, not {self.selection_share}")


def main(argv: list[str] | None = None) -> None:
    """Run the job."""
    config = parse(ProblemsConfig, COMMAND, __doc__, argv)
    writer = StoreWriter(
        config.output,
        job="problems",
        config=resolved(config),
        config_hash=fingerprint(config),
        inputs={one: content_hash(one) for one in config.sources if _is_file(one)},
    )
    with writer:
        if not writer.has("all"):
            _make(config, writer)
    splits = Counter(problem.split for problem in read_records(config.output, Problem))
    say(f"problems: {dict(splits)}")
    finish("problems", writer)


def _make(config: ProblemsConfig, writer: StoreWriter) -> None:
    """Read all sources and write them in one batch."""
    found: list[Problem] = []
    skipped: Counter[str] = Counter()
    for source in config.sources:
        before, lost = len(found), 0
        for one in _read(source, config):
            if isinstance(one, Problem):
                found.append(one)
            else:
                skipped[one] += 1
                lost += 1
        say(f"problems: {source}: {len(found) - before} with an answer, {lost} without")
    kept = unique(merge(found, skipped), "problems")
    with Verifiers(config.verifiers) as verifiers:
        usable = with_usable_references(kept, verifiers, skipped)
    num_in = len(usable) + skipped.total()
    writer.append("all", usable, num_in=num_in, skipped=skipped)


def merge(found: list[Problem], skipped: Counter[str]) -> list[Problem]:
    """Each statement once, in the order given; what is dropped is added to ``skipped``.

    A test problem is kept as one: its copies among the training problems are dropped.
    """
    of_test = {statement_hash(one.statement) for one in found if one.split == "test"}
    seen: set[str] = set()
    kept = []
    for problem in found:
        key = statement_hash(problem.statement)
        if problem.split != "test" and key in of_test:
            skipped["copy_of_test_problem"] += 1
        elif key in seen:
            skipped["duplicate"] += 1
        else:
            seen.add(key)
            kept.append(problem)
    return kept


def with_usable_references(
    problems: Sequence[Problem], verifiers: Verifiers, skipped: Counter[str]
) -> list[Problem]:
    """Those that can be judged; the others are named, and added to ``skipped``.

    After `merge`: a copy of a test problem stays out of training also when that one is refused.
    """
    bad = verifiers.check_references(problems)
    for name, why in list(bad.items())[:_NUM_NAMED]:
        say(f"problems: {name}: refused, {why}")
    if len(bad) > _NUM_NAMED:
        say(f"problems: and {len(bad) - _NUM_NAMED} more references that cannot be used")
    if bad:
        skipped["bad_reference"] += len(bad)
    return [problem for problem in problems if problem.id not in bad]


def _read(source: str, config: ProblemsConfig) -> Iterator[Problem | str]:
    """The problems of a source, and the reasons of rows that are none."""
    if source == _ARITHMETIC:
        yield from make_problems(
            config.sizes,
            num_operands=config.num_operands,
            low=config.low,
            high=config.high,
            operators=config.operators,
            seed=config.seed,
        )
    elif source in PUZZLES:
        yield from make(source, config.puzzles.get(source, {}))
    elif source == OWN_CODE:
        yield from make_own_problems()
    elif _is_file(source):
        yield from read_records(source, Problem)
    else:
        for part in SETS[source]:
            location = config.locations.get(part.name, "")
            yield from read_part(part, location, config.selection_share)


def _is_file(source: str) -> bool:
    return source.endswith(".jsonl")


if __name__ == "__main__":
    run(main, COMMAND)
