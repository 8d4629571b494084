"""Verifiers: is a final answer right, wrong, or can it not be told? By the problem's name."""

from prm.verifiers.extract import extract_answer
from prm.verifiers.integer import check_integer
from prm.verifiers.registry import get_verifier

__all__ = ["check_integer", "extract_answer", "get_verifier"]
