"""Programs that a model wrote: run in a sandbox, compared on the host."""

from prm.verifiers.code.check import check_code
from prm.verifiers.code.compare import Compare, compare
from prm.verifiers.code.extract import extract_program
from prm.verifiers.code.task import CallTest, CodeTask, StdioTest
from prm.verifiers.code.verifier import CodeVerifier

__all__ = [
    "CallTest",
    "CodeTask",
    "CodeVerifier",
    "Compare",
    "StdioTest",
    "check_code",
    "compare",
    "extract_program",
]
