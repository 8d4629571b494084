"""What a worker process of the pool runs: limits first, then one comparison at a time.

Importing this module is cheap; sympy is imported in the worker.
"""

from __future__ import annotations

import gc
import multiprocessing
import os
import signal
import threading

from prm.verifiers.math.comparing import Comparison
from prm.verifiers.math.finding import SAME, Finding, unsure
from prm.verifiers.math.numbers import TooLargeError
from prm.verifiers.math.reading import read
from prm.verifiers.math.rule import MathRule
from prm.verifiers.math.values import Group, Matrix, Named, Region, Scalar, Value


def prepare(memory_mb: int) -> None:
    """Limit this process: its memory, its environment, and how it ends."""
    import resource

    # Ends at once: arithmetic in C would not let a handler of Python's run.
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    os.environ.clear()
    limit = memory_mb * 1024 * 1024
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    threading.Thread(target=_end_with_owner, daemon=True).start()
    gc.freeze()


def judge(answer: str, reference: str, rule: MathRule, timeout_s: float) -> Finding:
    """Compare two evened-out texts with all the algebra there is."""
    from prm.verifiers.math.symbolic import SympyAlgebra

    _limit_cpu(timeout_s)
    try:
        expected, found = (
            read(text, choices=rule.choices, words=rule.words) for text in (reference, answer)
        )
        return Comparison(rule, SympyAlgebra(rule.tolerance)).compare(expected, found)
    except TooLargeError:
        return unsure("too_large")
    except MemoryError:
        return unsure("memory")
    # The border: whatever sympy raises on an odd expression, it is no verdict on the answer.
    except Exception as error:  # noqa: BLE001
        return unsure(f"error: {type(error).__name__}")


def readable(reference: str, rule: MathRule, timeout_s: float) -> Finding:
    """Whether algebra can read every expression of the reference."""
    from prm.verifiers.math.symbolic import parse

    _limit_cpu(timeout_s)
    value = read(reference, choices=rule.choices, words=rule.words)
    is_bad = any(parse(text) is None for text in expressions(value))
    return unsure("unparsed") if is_bad else SAME


def expressions(value: Value) -> list[str]:
    """The parts of a value that only algebra can read."""
    if isinstance(value, Scalar):
        return [] if value.value is not None else [value.text]
    if isinstance(value, Named):
        return expressions(value.value)
    inner: list[Value] = []
    if isinstance(value, Group):
        inner = list(value.items)
    elif isinstance(value, Region):
        inner = list(value.parts)
    elif isinstance(value, Matrix):
        inner = [cell for row in value.rows for cell in row]
    return [text for one in inner for text in expressions(one)]


def _end_with_owner() -> None:
    owner = multiprocessing.parent_process()
    if owner is not None:
        owner.join()
        os._exit(1)


def _limit_cpu(timeout_s: float) -> None:
    """Bound this check where nobody is left to end it, and no thread gets its turn."""
    import resource

    used = resource.getrusage(resource.RUSAGE_SELF)
    seconds = int(used.ru_utime + used.ru_stime + timeout_s) + 2
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, resource.RLIM_INFINITY))
