"""Verifiers: is this final answer right, wrong, or can it not be told? By name, from the problem."""

from prm.verifiers.extract import extract_answer
from prm.verifiers.integer import check_integer
from prm.verifiers.registry import get_verifier

__all__ = ["check_integer", "extract_answer", "get_verifier"]
