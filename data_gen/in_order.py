"""Work on many items side by side, and write the results in the items' order."""

from __future__ import annotations

import asyncio
import dataclasses
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Iterator
from typing import Generic, TypeVar

T = TypeVar("T")
R = TypeVar("R")

# Sizes, added up, of the results that wait in memory for those before them; others are made again
# when it is their turn.
_KEPT = 1024
# Items that are begun and not written; each holds its input in memory.
_AHEAD = 4096


@dataclasses.dataclass
class _Item(Generic[T, R]):
    """An item that was begun; ``task`` is None once its result was dropped."""

    value: T
    size: int
    task: asyncio.Task[R] | None


async def run_in_order(
    items: Iterable[T],
    work: Callable[[T], Awaitable[R]],
    write: Callable[[T, R], None],
    *,
    size: Callable[[T], int],
    room: Callable[[], int],
    is_repeatable: bool,
) -> None:
    """Call ``work`` for each item and ``write`` for each result, these in order and one by one.

    Items are begun while the sizes of those under way are within ``room()``, but always one.
    ``is_repeatable``: working on an item again is cheap and gives the same result, so a result
    that must wait long for its turn is dropped and made again: memory does not grow with the
    items. After an error nothing more is begun; what is under way is finished, what is complete
    is written, and the error is raised.
    """
    source, begun = iter(items), deque[_Item[T, R]]()
    active: set[asyncio.Task[R]] = set()
    writing: asyncio.Task[None] | None = None
    error: BaseException | None = None
    try:
        while True:
            if error is None:
                _begin(source, begun, active, work, size, room)
            if writing is None and begun and _is_ready(begun[0]):
                writing = asyncio.ensure_future(_write_ready(begun, work, write))
            if not active and writing is None:
                break
            both = [*active, writing] if writing else [*active]
            done, _ = await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
            if writing in done:
                writing.result()
                writing = None
            # Every one is looked at: asyncio prints those that nobody has seen.
            errors = [e for task in active & done if (e := task.exception())]
            error = error or next(iter(errors), None)
            active -= done
            if is_repeatable:
                _drop(begun)
    finally:
        for task in active:
            task.cancel()
        # A write is not given up in the middle: its thread would go on beside us.
        await asyncio.gather(*active, *([writing] if writing else []), return_exceptions=True)
    if error is not None:
        raise error


def _begin(
    source: Iterator[T],
    begun: deque[_Item[T, R]],
    active: set[asyncio.Task[R]],
    work: Callable[[T], Awaitable[R]],
    size: Callable[[T], int],
    room: Callable[[], int],
) -> None:
    """Begin items while there is room, and the disk is not far behind."""
    if begun and _is_ready(begun[0]) and sum(i.size for i in begun if _is_kept(i)) > _KEPT:
        return
    under_way = sum(item.size for item in begun if item.task in active)
    while len(begun) < _AHEAD and (not active or under_way < room()):
        value = next(source, None)
        if value is None:
            return
        task = asyncio.ensure_future(_run(work, value))
        active.add(task)
        begun.append(_Item(value, size(value), task))
        under_way += begun[-1].size


async def _run(work: Callable[[T], Awaitable[R]], value: T) -> R:
    return await work(value)


def _is_ready(item: _Item[T, R]) -> bool:
    """Whether its result can be written."""
    if item.task is None:
        return True
    return item.task.done() and not item.task.cancelled() and item.task.exception() is None


def _is_kept(item: _Item[T, R]) -> bool:
    """Whether its result waits in memory."""
    return item.task is not None and _is_ready(item)


async def _write_ready(
    begun: deque[_Item[T, R]],
    work: Callable[[T], Awaitable[R]],
    write: Callable[[T, R], None],
) -> None:
    """Write the results whose turn it is, in a thread: the servers need not wait for the disk."""
    while begun and _is_ready(begun[0]):
        item = begun[0]
        result = item.task.result() if item.task else await work(item.value)
        await asyncio.to_thread(write, item.value, result)
        begun.popleft()


def _drop(begun: deque[_Item[T, R]]) -> None:
    """Forget results that wait behind many others for one that is not there yet."""
    if begun and _is_ready(begun[0]):
        return
    kept = 0
    for item in begun:
        if _is_kept(item):
            kept += item.size
            if kept > _KEPT:
                item.task = None
