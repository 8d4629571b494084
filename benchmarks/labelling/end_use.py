"""What labels are worth in the end: PRMs trained on equal token budgets of three labelers.

    python -m benchmarks.labelling.end_use --pool DIR --output DIR     killed: goes on

For each seed of the real pool and each labeler: it labels as many of the same solutions, in the
same order, as its budget of rollout tokens pays for; a PRM is trained on that from the embedded
model, the same number of steps everywhere; and it looks for the first errors of other problems'
solutions, whose truth is computed. The measure is the package's first-error F1. The Bayesian
labeler has a price to fit a budget with: it takes the lowest of a few at which all can be labelled.
Each half of the test problems is judged with the threshold that is best on the other half.
Intervals are from a bootstrap over the test problems, differences are paired.
"""

from __future__ import annotations

import argparse
import dataclasses
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from benchmarks.labelling.end_use_report import OURS, Row, report
from benchmarks.labelling.outcomes import likeliest, run_labeler
from benchmarks.labelling.pooled import Drawn, PooledRollouts, read_pool
from benchmarks.table import say
from data_gen.labelers.bayes import BayesLabeler
from data_gen.labelers.math_shepherd import MathShepherdLabeler
from data_gen.labelers.omega import OmegaLabeler
from prm.evaluation.step_truth import first_error
from prm.protocols import Labeler
from prm.publish.publish import PublishConfig, publish
from prm.records import LabelledSolution, Record, Solution
from prm.scoring import Scorer
from prm.store import StoreWriter, read_json, write_json

BUDGET = 15_000
"""Rollout tokens a seed."""
STEPS = 120
SETTINGS = {"problems_per_step": 2, "epochs": 100, "checkpoint_steps": 10, "report_to": "none"}
"""All others are the defaults of the training job, which are the quickstart's."""


@dataclasses.dataclass(frozen=True)
class Arm:
    """A labeler, and how a PRM is trained on its labels."""

    labelers: Sequence[Labeler]
    """Its settings, the most thorough first: that is taken which a whole pool can be paid for."""
    labels: str


ARMS = {
    "Math-Shepherd K=8": Arm(
        [MathShepherdLabeler(8, everywhere=True, reuse_siblings=False)], "counts"
    ),
    "OmegaPRM K=8": Arm([OmegaLabeler(8)], "hard"),
    OURS: Arm(
        [BayesLabeler(price=BayesLabeler().price * factor) for factor in (1, 2, 4, 8, 16)],
        "posterior",
    ),
}
"""As published, but OmegaPRM with early stop, which gives the same labels for fewer tokens."""


@dataclasses.dataclass(frozen=True)
class Bought:
    """The labels that a budget pays for."""

    labelled: list[LabelledSolution]
    tokens: int


def main(argv: Sequence[str] | None = None) -> None:
    """Do the runs that are missing, and compare; exit with 1 when a target is short."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.labelling.end_use")
    parser.add_argument("--pool", type=Path, required=True)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--budget", type=int, default=BUDGET, help="rollout tokens a seed")
    parser.add_argument("--steps", type=int, default=STEPS, help="of training")
    options = parser.parse_args(argv)
    pool = read_pool(options.pool)
    test = pool.pop("test")
    results = [
        result(name, seed, drawn, test, options) for seed, drawn in pool.items() for name in ARMS
    ]
    report(results, test)


def result(name: str, seed: str, drawn: Drawn, test: Drawn, options: argparse.Namespace) -> Row:
    """What one PRM says of the test solutions; kept in a file, and not done again.

    Raises:
        SystemExit: the file was made with other settings.
    """
    folder: Path = options.output / f"{name.replace(' ', '-')}-{seed}"
    path = folder / "result.json"
    settings = {"budget": options.budget, "steps": options.steps, "pool": str(options.pool)}
    begun_with = folder / "settings.json"
    if begun_with.exists() and read_json(begun_with) != settings:
        raise SystemExit(f"{folder} was begun with other settings; delete it")
    if path.exists():
        kept = read_json(path)
        if kept.pop("settings") != settings:
            raise SystemExit(f"{path} was made with other settings; delete {folder}")
        return Row(**kept)
    folder.mkdir(parents=True, exist_ok=True)
    write_json(begun_with, settings)
    bought = buy(ARMS[name].labelers, in_turns(drawn), drawn, options.budget)
    say(f"{name}, {seed}: {len(bought.labelled)} solutions for {bought.tokens:,} tokens")
    begun = time.monotonic()
    run = train(ARMS[name], int(seed.rpartition("-")[2]), drawn, bought, folder, options.steps)
    seconds = round(time.monotonic() - begun, 1)
    right = accuracy(bought.labelled, drawn)
    scores = score(run, test, folder)
    distinct = len({(one.solution.problem_id, one.solution.steps) for one in bought.labelled})
    row = Row(name, seed, len(bought.labelled), distinct, bought.tokens, right, seconds, scores)
    write_json(path, {"settings": settings, **dataclasses.asdict(row)})
    say(f"{name}, {seed}: trained in {seconds:.0f} s")
    return row


def in_turns(drawn: Drawn) -> list[Solution]:
    """The first solution of every problem, then the second of every problem, and so on."""
    turn: dict[str, int] = {}
    turns = []
    for solution in drawn.solutions:
        turn[solution.problem_id] = turn.get(solution.problem_id, -1) + 1
        turns.append((turn[solution.problem_id], solution))
    return [solution for _, solution in sorted(turns, key=lambda one: one[0])]


def buy(
    labelers: Sequence[Labeler], order: Sequence[Solution], drawn: Drawn, budget: int
) -> Bought:
    """Everything with the first labeler that the budget allows it, else as much as with the last.

    As much: so many of the first solutions, found by halving.
    """
    for labeler in labelers:
        bought = _label(labeler, order, drawn)
        if bought.tokens <= budget:
            return bought
    best, low, high = Bought([], 0), 0, len(order) - 1
    while low < high:
        count = (low + high + 1) // 2
        bought = _label(labelers[-1], order[:count], drawn)
        if bought.tokens <= budget:
            best, low = bought, count
        else:
            high = count - 1
    return best


def _label(labeler: Labeler, solutions: Sequence[Solution], drawn: Drawn) -> Bought:
    labelled, charged = run_labeler(labeler, solutions, lambda: PooledRollouts(drawn))
    return Bought(labelled, int(charged.tokens.sum()))


def accuracy(labelled: Sequence[LabelledSolution], drawn: Drawn) -> float:
    """The share of the solutions whose likeliest first error is the true one."""
    meta = {problem.id: problem.meta for problem in drawn.problems}
    hits = 0
    for one in labelled:
        place, _ = likeliest(one.first_error)
        truth = first_error(meta[one.solution.problem_id], one.solution.steps)
        hits += place == (-1 if truth is None else truth)
    return hits / len(labelled)


def train(arm: Arm, seed: int, drawn: Drawn, bought: Bought, folder: Path, num_steps: int) -> Path:
    """Run the training job on the labels; the folder of the run. It goes on where it stopped."""
    stores: dict[str, Sequence[Record]] = {"problems": drawn.problems, "labels": bought.labelled}
    for name, records in stores.items():
        with StoreWriter(folder / name, job="end_use", config={}, config_hash="0") as writer:
            if not writer.is_done:
                writer.append("all", records)
    words = {
        "problems": folder / "problems",
        "labelled": folder / "labels",
        "output": folder / "run",
        "labels": arm.labels,
        "seed": seed,
        "max_steps": num_steps,
        **SETTINGS,
    }
    command = [sys.executable, "-m", "prm.training.train_prm"]
    command += [word for key, value in words.items() for word in (f"--{key}", str(value))]
    subprocess.run(command, check=True)
    return folder / "run"


def score(run: Path, test: Drawn, folder: Path) -> dict[str, list[float]]:
    """The published PRM's scores of the steps of each test solution."""
    publish(PublishConfig({"prm": str(run)}, output=str(folder / "published")))
    scorer = Scorer.from_pretrained(folder / "published" / "prm")
    statements = {problem.id: problem.statement for problem in test.problems}
    pairs = [(statements[one.problem_id], one.steps) for one in test.solutions]
    scores = scorer.score_batch(pairs)
    shutil.rmtree(folder / "published")
    shutil.rmtree(folder / "run" / "checkpoints", ignore_errors=True)
    return {one.id: row for one, row in zip(test.solutions, scores, strict=True)}


if __name__ == "__main__":
    main()
