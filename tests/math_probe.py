"""What the tests let a worker process run, to look at it from within."""

import os
import resource
import sys

from prm.verifiers.math.finding import Finding, unsure


def eat_memory(num_mb: int) -> Finding:
    kept = bytearray(num_mb * 1024 * 1024)
    return unsure(f"kept {len(kept)}")


def look_around() -> Finding:
    facts = {
        "environment": dict(os.environ),
        "parent": os.getppid(),
        "memory_mb": resource.getrlimit(resource.RLIMIT_AS)[0] // 2**20,
        "main": getattr(sys.modules["__main__"], "__file__", None),
        "has_torch": "torch" in sys.modules,
    }
    return unsure(repr(facts))
