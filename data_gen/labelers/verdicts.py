"""What every labeler does first: the verdicts of the solutions' own final answers."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from prm.protocols import Check, Rollouts
from prm.records import Solution, Status, Verdict

T = TypeVar("T")

CUT_OFF = ("length", "loop")
OWN_END = "rollouts"
"""Backend of a verdict that came from a rollout with all steps kept."""


def wait_for(work: Coroutine[Any, Any, T]) -> T:
    """The result of the work, also where an event loop runs already (a notebook)."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(work)
    with ThreadPoolExecutor(1, "prm-labeler") as thread:
        return thread.submit(asyncio.run, work).result()


async def own_verdicts(
    pool: Sequence[Solution], rollouts: Rollouts, check: Check | None
) -> list[Verdict]:
    """The verdict of each solution's final answer, in order.

    Without ``check`` a solution that was cut off is not asked for: its rollouts would go on.
    """
    if check is not None:
        return [check(solution) for solution in pool]
    ended = [one for one in pool if one.finish_reason not in CUT_OFF]
    groups = (
        await rollouts.sample_many([(one, len(one.steps), 1) for one in ended]) if ended else []
    )
    said = {one.id: group[0].correct for one, group in zip(ended, groups, strict=True) if group}
    return [_verdict(said.get(one.id)) for one in pool]


def _verdict(correct: bool | None) -> Verdict:
    status: Status = "could_not_tell"
    if correct is not None:
        status = "right" if correct else "wrong"
    return Verdict(status, OWN_END)
