"""Chains of sums: the problems of the real pool, and how right solutions of them look."""

from __future__ import annotations

from typing import Any

from prm.evaluation.step_truth import problem_pairs
from prm.records import Problem

CHAINS: dict[str, Any] = {"num_operands": [5, 6, 7], "low": 1, "high": 9, "operators": ["+"]}
"""Solutions have five to seven lines, the answer among them."""
ANSWER_PATTERN = r"^Answer: (.+)$"


def right_chain(problem: Problem) -> str:
    """The right solution, in the form that `prm.evaluation.step_truth` asks for."""
    pairs = enumerate(problem_pairs(problem.meta), 1)
    lines = [
        f"Step {i}: {total} + {operand} = {total + operand}" for i, (total, _, operand) in pairs
    ]
    return "\n".join([*lines, f"Answer: {problem.reference_answer}"])
