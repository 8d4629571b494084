"""Worker processes that do algebra, each check with a hard limit on its time and memory.

Sympy can take for ever, and no timer inside a process stops arithmetic that runs in C: so a process
does it, and is killed when its time is up. A check that is lost with a worker which somebody else
killed is done again; a pool that broke altogether is built anew.
"""

from __future__ import annotations

import os
import threading
import time
import weakref
from collections.abc import Callable, Sequence
from concurrent.futures import CancelledError
from concurrent.futures.process import BrokenProcessPool
from types import TracebackType
from typing import TYPE_CHECKING, Any

from prm.errors import ConfigError, MissingExtraError
from prm.verifiers.math.cache import VerdictCache
from prm.verifiers.math.finding import Finding, unsure
from prm.verifiers.math.rule import MathRule

if TYPE_CHECKING:
    from pebble import ProcessFuture, ProcessPool

PATIENCE_S = 20.0
"""On top of a check's limit: how long nothing at all may come back before the pool is renewed."""

RETRIES = 3
"""Of a check that was lost: once with its worker, and perhaps with the pool that broke by it."""

MAX_WORKERS = 16
"""Of a pool that was not told how many; more are worth it for a labelling job only."""

Pair = tuple[str, str, MathRule]
"""Answer and reference, both evened out, and the rule."""


class MathPool:
    """Workers that compare answers. Threads may share it; it starts when it is first needed."""

    def __init__(
        self,
        *,
        workers: int | None = None,
        timeout_s: float = 5.0,
        memory_mb: int = 2048,
        max_checks: int = 2000,
        cache_size: int = 100_000,
    ) -> None:
        """``workers``: processes, None = one a core; a worker is replaced after ``max_checks``.

        Raises:
            ConfigError: a limit that no check could keep.
        """
        if timeout_s <= 0 or memory_mb < 256 or max_checks < 1 or (workers or 1) < 1:
            raise ConfigError("timeout_s > 0, memory_mb >= 256, max_checks >= 1, workers >= 1")
        self.workers = workers or min(MAX_WORKERS, os.cpu_count() or 1)
        self.timeout_s = timeout_s
        self.memory_mb = memory_mb
        self.max_checks = max_checks
        self.cache = VerdictCache(cache_size)
        self._lock = threading.Lock()
        self._pool: ProcessPool | None = None
        self._stop: weakref.finalize[Any, Any] | None = None
        self._owner = os.getpid()
        self._last_result = time.monotonic()

    def __enter__(self) -> MathPool:
        """Return the pool."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """End the workers."""
        self.close()

    def judge_many(self, pairs: Sequence[Pair]) -> list[Finding]:
        """Compare with all the algebra there is, side by side; results in order."""
        from prm.verifiers.math.remote import judge

        return self._run(judge, [(*pair, self.timeout_s) for pair in pairs])

    def unreadable(self, reference: str, rule: MathRule) -> Finding:
        """Whether the reference can be read: equal True, or the reason why not."""
        from prm.verifiers.math.remote import readable

        return self._run(readable, [(reference, rule, self.timeout_s)])[0]

    def close(self) -> None:
        """End the workers; they start again when they are needed."""
        with self._lock:
            self._drop()

    def _run(
        self, function: Callable[..., Finding], tasks: Sequence[tuple[Any, ...]]
    ) -> list[Finding]:
        futures = [self._schedule(function, task) for task in tasks]
        found = []
        for future, task in zip(futures, tasks, strict=True):
            result = self._wait(*future)
            for _ in range(RETRIES):
                if result is None:
                    result = self._wait(*self._schedule(function, task))
            found.append(result or unsure("error"))
        return found

    def _schedule(
        self, function: Callable[..., Finding], task: tuple[Any, ...]
    ) -> tuple[ProcessPool, ProcessFuture[Finding]]:
        for attempt in range(3):
            with self._lock:
                pool = self._running()
            try:
                return pool, pool.schedule(function, args=task, timeout=self.timeout_s)
            except (RuntimeError, BrokenProcessPool):
                # Closed by another thread, or broken since it was looked at.
                self._renew(pool)
                if attempt == 2:
                    raise
        raise AssertionError("the loop returns or raises")

    def _wait(self, pool: ProcessPool, future: ProcessFuture[Finding]) -> Finding | None:
        """What came of it; None when it was lost and should be done again."""
        from pebble import ProcessExpired

        began = time.monotonic()
        while True:
            try:
                return future.result(timeout=1.0)
            except TimeoutError:
                if future.done():
                    # It may have ended well just now, behind our second of waiting.
                    if isinstance(future.exception(), TimeoutError):
                        return unsure("timeout")
                    continue
                if time.monotonic() - max(began, self._last_result) > self.timeout_s + PATIENCE_S:
                    self._renew(pool)
                    return None
            except ProcessExpired:
                return None
            except MemoryError:
                return unsure("memory")
            except (BrokenProcessPool, CancelledError):
                self._renew(pool)
                return None
            finally:
                if future.done():
                    self._last_result = time.monotonic()

    def _running(self) -> ProcessPool:
        if self._pool is None or self._owner != os.getpid():
            # A forked copy of this process has the object, but not the threads behind it.
            self._pool = _new_pool(self.workers, self.max_checks, self.memory_mb)
            self._owner = os.getpid()
            self._stop = weakref.finalize(self, _end, self._pool, self._owner)
            self._last_result = time.monotonic()
        return self._pool

    def _renew(self, pool: ProcessPool) -> None:
        with self._lock:
            if self._pool is pool:
                self._drop()

    def _drop(self) -> None:
        stop, self._pool, self._stop = self._stop, None, None
        if stop is not None:
            stop()


def _new_pool(workers: int, max_checks: int, memory_mb: int) -> ProcessPool:
    try:
        import math_verify  # noqa: F401
        from pebble import ProcessPool
    except ModuleNotFoundError as error:
        raise MissingExtraError(
            f"comparing mathematics needs {error.name}: pip install 'stepwise-prm[verifiers]'"
        ) from error
    from prm.verifiers.math.processes import WarmContext
    from prm.verifiers.math.remote import prepare

    return ProcessPool(
        max_workers=workers,
        max_tasks=max_checks,
        initializer=prepare,
        initargs=(memory_mb,),
        context=WarmContext(),
    )


def _end(pool: ProcessPool, owner: int) -> None:
    if owner == os.getpid():
        pool.stop()  # type: ignore[no-untyped-call]
        pool.join()


_shared: dict[int, MathPool] = {}
_shared_lock = threading.Lock()


def shared_pool() -> MathPool:
    """The pool of this process, with the default limits; it starts when it is first needed."""
    with _shared_lock:
        if os.getpid() not in _shared:
            _shared.clear()
            _shared[os.getpid()] = MathPool()
        return _shared[os.getpid()]
