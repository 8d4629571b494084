"""The verifier of programs: a model's text against a task in JSON."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from prm.errors import ConfigError, RecordError
from prm.records import Verdict, build
from prm.verifiers.code.check import check_code
from prm.verifiers.code.extract import MAX_TEXT, extract_program
from prm.verifiers.code.task import CodeTask
from prm.verifiers.sandbox.backends import make_sandbox
from prm.verifiers.sandbox.protocol import Limits, count_workers


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
        self.workers = count_workers(workers)
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
        if answer is not None and len(answer) > MAX_TEXT:
            detail = f"{len(answer)} characters, more than {MAX_TEXT}"
            return self._untold("too_long", detail, len(task.tests))
        program = extract_program(answer, task.entry) if answer else None
        return check_code(program, task, sandbox=self.sandbox, limits=self.limits)

    def check_reference(self, reference: str) -> None:
        """Raise RecordError when the reference is no task whose tests can be used."""
        self._task(reference)

    def check_many(self, items: Sequence[tuple[str | None, str]]) -> list[Verdict]:
        """A verdict for each (answer, reference), in order; ``workers`` at a time.

        One whose reference is no task is could_not_tell, with reason ``error``.
        """
        with ThreadPoolExecutor(self.workers, "prm-code") as pool:
            return list(pool.map(self._check_one, items))

    def _check_one(self, item: tuple[str | None, str]) -> Verdict:
        try:
            return self(*item)
        except RecordError as err:
            return self._untold("error", str(err))

    def _untold(self, reason: str, detail: str, total: int = 0) -> Verdict:
        backend = f"code/{self.sandbox.name}"
        return Verdict("could_not_tell", backend, detail=detail, reason=reason, total=total)

    def close(self) -> None:
        """Give back what the sandbox holds."""
        self.sandbox.close()
