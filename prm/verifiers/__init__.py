"""Verifiers: is a final answer right, wrong, or can it not be told? By the problem's name."""

from prm.verifiers.code import CodeTask, check_code
from prm.verifiers.extract import extract_answer, extract_boxed, extract_final_answer
from prm.verifiers.integer import check_integer
from prm.verifiers.math import MathRule, check_math
from prm.verifiers.registry import Verifiers, get_verifier

__all__ = [
    "CodeTask",
    "MathRule",
    "Verifiers",
    "check_code",
    "check_integer",
    "check_math",
    "extract_answer",
    "extract_boxed",
    "extract_final_answer",
    "get_verifier",
]
