"""Show what a run cost, for each solution, labelled step and right answer, also at other prices.

    prm cost runs/quickstart
    prm cost runs/qwq --prices o1,mine --table prices.yaml --json

Reads problems/, solutions/ and labels/ of the run, also while its jobs are running. "billed" is
what the requests cost when they were made; the other rows are what the same tokens cost at other
prices. "lost" is what failed requests may have cost, which gave no text. A row of your
own in prices.yaml, in dollars per million tokens:

    mine: {prompt: 0.1, generated: 0.4, cached: 0.05}
"""

from __future__ import annotations

import dataclasses
import json
import sys
from collections import Counter
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import yaml  # type: ignore[import-untyped]

from prm.errors import ConfigError, RecordError, StoreError
from prm.ledger import Ledger
from prm.prices import PRICES, Price
from prm.records import LabelledSolution, Problem, R, Solution, build
from prm.report.cost_tables import show
from prm.store import read_json, read_manifests, read_records
from prm.verifiers import Verifiers
from prm.verifiers.registry import DEFAULT

_STORES = {"sampling": "solutions", "labelling": "labels"}
_AT_ONCE = 1024
"""Solutions that are judged together."""
_UNITS = {"a solution": "solutions", "a labelled step": "labelled", "a right answer": "right"}


@dataclasses.dataclass(frozen=True)
class CostConfig:
    """Settings of `prm cost`."""

    run: str
    """Folder of the run, as data_gen.pipeline leaves it: runs/quickstart."""
    prices: str = ""
    """Prices to compare with, with commas between: o1,own-server. Empty = all that are known."""
    table: str | None = None
    """YAML file with prices of your own; a name that is known already is replaced."""
    verifiers: dict[str, dict[str, Any]] = dataclasses.field(default_factory=dict)
    """Settings of the verifiers that judge the answers, by name."""
    json: bool = False
    """Write JSON to standard output instead of tables."""


@dataclasses.dataclass(frozen=True)
class RunCost:
    """What was spent on each kind of work, and what came out of it.

    ``counts`` has right, wrong, could_not_tell and no_problem answers, labelled and undecided
    steps, and solutions. ``notes`` say what is missing or not finished.
    """

    run: str
    spent: dict[str, Ledger]
    counts: Counter[str]
    notes: tuple[str, ...]

    def amounts(self, prices: dict[str, Price]) -> dict[str, dict[str, float]]:
        """For each kind of work: its tokens, and its dollars as billed and at each price."""
        return {
            kind: {
                "tokens": ledger.tokens,
                "billed": ledger.dollars,
                **{name: price.dollars(ledger) for name, price in prices.items()},
            }
            for kind, ledger in self.spent.items()
        }

    def divided(self, amount: float) -> dict[str, float | None]:
        """An amount in all and for one of each unit; None where there is none of it."""
        counts = {unit: self.counts[key] for unit, key in _UNITS.items()}
        return {
            "in all": amount,
            **{unit: amount / count if count else None for unit, count in counts.items()},
        }


def run(config: CostConfig) -> None:
    """Measure and show."""
    prices = _chosen(config)
    with Verifiers(config.verifiers) as verifiers:
        cost = measure(config.run, verifiers)
    if config.json:
        sys.stdout.write(json.dumps(to_json(cost, prices), indent=2, ensure_ascii=False) + "\n")
    else:
        show(cost, prices)


def measure(folder: str | Path, verifiers: Verifiers = DEFAULT) -> RunCost:
    """Add up a run. Memory grows with the number of problems, not with that of solutions.

    Raises:
        StoreError: there is no such folder, or a store in it is damaged.
    """
    root = Path(folder)
    if not root.is_dir():
        raise StoreError(f"{root}: no such folder; give the folder of a run, as in runs/quickstart")
    manifests = {kind: read_manifests(root / store) for kind, store in _STORES.items()}
    spent = {
        kind: sum((Ledger(**one["ledger"]) for one in shards), Ledger())
        for kind, shards in manifests.items()
    }
    every = [one for shards in manifests.values() for one in shards]
    lost = sum((Ledger(**(one.get("notes", {}).get("lost") or {})) for one in every), Ledger())
    if lost != Ledger():
        spent["lost"] = lost
    notes = [note for store in ("problems", *_STORES.values()) if (note := _missing(root / store))]
    counts = _count_answers(root, verifiers) + _count_steps(root)
    if counts["no_problem"]:
        notes.append(
            f"{counts['no_problem']} solutions are of no problem in {root / 'problems'}: "
            "their answers were not checked"
        )
    if not sum(ledger.dollars for ledger in spent.values()):
        notes.append("nothing was billed: the model ran in the job itself, or no price was set")
    return RunCost(
        str(folder), {**spent, "total": sum(spent.values(), Ledger())}, counts, tuple(notes)
    )


def read_so_far(folder: str | Path, cls: type[R]) -> Iterator[R]:
    """The records of a store that is still being written, as far as its manifests count them.

    Raises:
        StoreError: a shard has fewer records than its manifest says.
    """
    for path in sorted(Path(folder).glob("shard-*-of-*.json")):
        expected, found = read_json(path)["out"], 0
        if expected:
            # Behind these there may be the first bytes of a batch that is not counted yet.
            rows = islice(read_records(path.with_suffix(".jsonl"), cls), expected)
            for record in rows:
                found += 1
                yield record
        if found < expected:
            raise StoreError(f"{path} counts {expected} records, there are {found}: damaged")


def _missing(store: Path) -> str | None:
    """What a reader must know of a store that is not whole."""
    manifests = {path.stem: read_json(path) for path in store.glob("shard-*-of-*.json")}
    if not manifests:
        return f"{store.name}: none yet"
    counts = {int(stem.rpartition("-")[2]) for stem in manifests}
    if len(counts) > 1:
        raise StoreError(f"{store}: shards of different counts lie together; use a new folder")
    done = sum(manifest["state"] == "done" for manifest in manifests.values())
    total = counts.pop()
    if done == total:
        return None
    return f"{store.name}: so far; of {total} shards {done} are done, {len(manifests)} begun"


def _count_answers(root: Path, verifiers: Verifiers) -> Counter[str]:
    known = {problem.id: problem for problem in read_so_far(root / "problems", Problem)}
    # The answers alone: whole solutions may be long, and many are judged together.
    answers = (
        (known.get(one.problem_id), one.final_answer)
        for one in read_so_far(root / "solutions", Solution)
    )
    counts = Counter[str]()
    while some := list(islice(answers, _AT_ONCE)):
        items = [(problem, answer) for problem, answer in some if problem is not None]
        counts.update(solutions=len(some), no_problem=len(some) - len(items))
        counts.update(verdict.status for verdict in verifiers.check_many(items))
    return counts


def _count_steps(root: Path) -> Counter[str]:
    counts = Counter[str]()
    for labelled in read_so_far(root / "labels", LabelledSolution):
        known = sum(label.hard is not None for label in labelled.labels)
        counts["labelled"] += known
        counts["undecided"] += len(labelled.labels) - known
    return counts


def _chosen(config: CostConfig) -> dict[str, Price]:
    known = {**PRICES, **(read_prices(config.table) if config.table else {})}
    names = [name.strip() for name in config.prices.split(",") if name.strip()] or list(known)
    unknown = [name for name in names if name not in known]
    if unknown:
        raise ConfigError(f"no price is called {unknown}; there are {', '.join(known)}")
    return {name: known[name] for name in names}


def read_prices(path: str | Path) -> dict[str, Price]:
    """Prices by name from a YAML file.

    Raises:
        ConfigError: the file is absent, or is not of the form that `prm cost --help` shows.
    """
    try:
        rows = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror})") from error
    except (UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigError(f"{path}: not YAML: {error}") from error
    if not isinstance(rows, dict) or not rows:
        raise ConfigError(f"{path}: expected rows such as 'mine: {{prompt: 0.1, generated: 0.4}}'")
    try:
        return {str(name): build(Price, row, f"{path}: {name}") for name, row in rows.items()}
    except (ConfigError, RecordError) as error:
        raise ConfigError(f"{error} (a price is dollars per million tokens)") from error


def to_json(cost: RunCost, prices: dict[str, Price]) -> dict[str, Any]:
    """All that the tables show, unrounded; null where there is nothing to divide by."""
    return {
        "run": cost.run,
        "notes": list(cost.notes),
        "counts": dict(cost.counts),
        "spent": {kind: dataclasses.asdict(ledger) for kind, ledger in cost.spent.items()},
        "prices": {name: dataclasses.asdict(price) for name, price in prices.items()},
        "cost": {
            kind: {name: cost.divided(amount) for name, amount in amounts.items()}
            for kind, amounts in cost.amounts(prices).items()
        },
    }
