"""Run a program that a model wrote where it can do no harm, and get back what it answered."""

from prm.verifiers.sandbox.backends import default_sandbox, make_sandbox
from prm.verifiers.sandbox.protocol import Call, Job, Limits, Outcome, RunResult, Sandbox

__all__ = [
    "Call",
    "Job",
    "Limits",
    "Outcome",
    "RunResult",
    "Sandbox",
    "default_sandbox",
    "make_sandbox",
]
