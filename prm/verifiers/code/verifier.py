"""The verifier of programs: a model's text against a task in JSON."""

from __future__ import annotations

import functools
import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from prm.errors import ConfigError, RecordError
from prm.records import Verdict, build
from prm.verifiers.code.check import check_code
from prm.verifiers.code.extract import extract_program
from prm.verifiers.code.task import CodeTask
from prm.verifiers.sandbox.backends import make_sandbox
from prm.verifiers.sandbox.protocol import Limits


class CodeVerifier:
    """Checks the program in an answer on the tests of its problem.

    Thread-safe; from asyncio, call it by ``asyncio.to_thread``.

    Args:
        backend: the sandbox, ``bwrap`` or ``vm``.
        workers: programs at the same time; None = one a core.
        limits: the fields of `Limits` that differ from the default.
        sandbox: further settings of the backend.

    Raises:
        ConfigError: a setting is unknown or out of range.
    """

    def __init__(
        self,
        backend: str = "bwrap",
        workers: int | None = None,
        limits: Mapping[str, Any] | None = None,
        sandbox: Mapping[str, Any] | None = None,
    ) -> None:
        """Start nothing yet."""
        self.workers = workers or os.cpu_count() or 1
        try:
            self.limits: Limits = build(Limits, dict(limits or {}), "verifiers, code")
        except RecordError as err:
            raise ConfigError(str(err)) from err
        self.sandbox = make_sandbox(backend, {"workers": self.workers, **(sandbox or {})})
        self._task = functools.lru_cache(maxsize=1024)(CodeTask.from_reference)

    def __call__(self, answer: str | None, reference: str) -> Verdict:
        """Check one answer.

        Raises:
            RecordError: the reference is no task.
            SandboxUnavailable: there is no sound sandbox here.
        """
        task = self._task(reference)
        program = extract_program(answer, task.entry) if answer else None
        return check_code(program, task, sandbox=self.sandbox, limits=self.limits)

    def check_reference(self, reference: str) -> None:
        """Raise RecordError when the reference is no task whose tests can be used."""
        self._task(reference)

    def check_many(self, items: Sequence[tuple[str | None, str]]) -> list[Verdict]:
        """A verdict for each (answer, reference), in order; ``workers`` at a time."""
        with ThreadPoolExecutor(self.workers, "prm-code") as pool:
            return list(pool.map(self, *zip(*items, strict=True))) if items else []

    def close(self) -> None:
        """Give back what the sandbox holds."""
        self.sandbox.close()
