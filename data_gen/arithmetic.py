"""Multi-step integer arithmetic with exact answers, repeatable for a seed.

    Calculate 3 + 9 - 4.      operands 3 9 4, operators + -

A pair is what one step works on: (running total, operator, next operand). A fifth of all pairs,
chosen by hash, is held out: it never occurs in a training problem, so that test figures can be
given for sums that were never trained on. (reasoning-gym's ``chain_sum`` always mixes + and -
and takes digit counts only.)
"""

from __future__ import annotations

import hashlib
import itertools
import random
import typing
from collections.abc import Iterator, Sequence
from typing import Any

from prm.errors import ConfigError
from prm.evaluation.step_truth import problem_pairs
from prm.records import Problem, Split

SOURCE = "arithmetic"
HELD_OUT_SHARE = 5  # one pair in five

Pair = tuple[int, str, int]


def is_held_out(pair: Pair) -> bool:
    """Whether the pair is kept out of training; the order of a sum does not matter."""
    left, operator, right = pair
    if operator == "+":
        left, right = sorted((left, right))
    digest = hashlib.sha256(f"{left} {operator} {right}".encode()).digest()
    return int.from_bytes(digest[:8], "big") % HELD_OUT_SHARE == 0


def make_problems(
    sizes: dict[str, int],
    *,
    num_operands: Sequence[int],
    low: int,
    high: int,
    operators: Sequence[str],
    seed: int,
) -> Iterator[Problem]:
    """``sizes[split]`` distinct problems for each split, the training split first.

    Training problems have no held-out pair; the other splits are drawn from all that is left.
    ``meta["unseen_pair"]`` says whether a problem has one.

    Raises:
        ConfigError: there are not enough distinct problems in these ranges, or a split that does
            not exist is asked for.
    """
    if unknown := sorted(set(sizes) - set(typing.get_args(Split))):
        raise ConfigError(f"sizes: no such split {unknown}; there are {typing.get_args(Split)}")
    rng = random.Random(seed)
    used: set[str] = set()
    for split in ("train", "selection", "test"):
        wanted = sizes.get(split, 0)
        for index in range(wanted):
            problem = _draw(rng, used, split, index, num_operands, (low, high), operators)
            used.add(problem.statement)
            yield problem


def _draw(
    rng: random.Random,
    used: set[str],
    split: Split,
    index: int,
    num_operands: Sequence[int],
    bounds: tuple[int, int],
    operators: Sequence[str],
) -> Problem:
    """The next problem of a split that was not drawn before."""
    for _ in range(20_000):
        count = rng.choice(list(num_operands))
        meta = {
            "operands": [rng.randint(*bounds) for _ in range(count)],
            "operators": [rng.choice(list(operators)) for _ in range(count - 1)],
        }
        meta["unseen_pair"] = any(map(is_held_out, problem_pairs(meta)))
        statement = state(meta)
        if statement not in used and not (split == "train" and meta["unseen_pair"]):
            return Problem(
                id=f"{SOURCE}/{split}-{index:05d}",
                statement=statement,
                reference_answer=str(evaluate(meta)),
                verifier="integer",
                source=SOURCE,
                split=split,
                meta=meta,
            )
    raise ConfigError(
        f"no new {split} problem after 20,000 draws ({len(used)} made): widen the range of the "
        "operands, allow more of them, or ask for fewer problems"
    )


def state(meta: dict[str, Any]) -> str:
    """The problem in words."""
    pairs = zip(meta["operators"], meta["operands"][1:], strict=True)
    rest = itertools.chain.from_iterable(pairs)
    return f"Calculate {' '.join(map(str, (meta['operands'][0], *rest)))}."


def evaluate(meta: dict[str, Any]) -> int:
    """The answer, from left to right."""
    total: int = meta["operands"][0]
    for operator, operand in zip(meta["operators"], meta["operands"][1:], strict=True):
        total = total + operand if operator == "+" else total - operand
    return total
