"""Work on many items side by side, and write the results in the items' order."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import functools
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
# How often to look for room: an item that is half done may already leave some.
_LOOK_SECONDS = 0.02


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

    Items are begun as long as their sizes are within ``room()``, what may be added to all that is
    under way now, but always one. ``is_repeatable``: working on an item again is cheap and gives
    the same result, so a result that must wait long for its turn is dropped and made again: memory
    does not grow with the items. After an error, also of ``write``, nothing more is begun; what is
    under way is finished, what is complete is written (if it can be), and the error is raised.
    """
    run = _Run(iter(items), work, write, size, room)
    try:
        while run.goes_on():
            # Whatever ends from here on wakes us.
            run.changed.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_LOOK_SECONDS if run.lacks_room else None):
                    await run.changed.wait()
            if is_repeatable and run.changed.is_set():
                run.drop()
    finally:
        await run.end()
    if run.error is not None:
        raise run.error


@dataclasses.dataclass
class _Item(Generic[T, R]):
    """An item that was begun; ``task`` is None once its result was dropped."""

    value: T
    size: int
    task: asyncio.Task[R] | None

    @property
    def is_ready(self) -> bool:
        """Whether its result can be written."""
        return self.task is None or (self.task.done() and _error(self.task) is None)


@dataclasses.dataclass(eq=False)
class _Run(Generic[T, R]):
    """What is begun, under way and being written."""

    source: Iterator[T]
    work: Callable[[T], Awaitable[R]]
    write: Callable[[T, R], None]
    size: Callable[[T], int]
    room: Callable[[], int]
    changed: asyncio.Event = dataclasses.field(default_factory=asyncio.Event)
    error: BaseException | None = None
    lacks_room: bool = False
    _begun: deque[_Item[T, R]] = dataclasses.field(default_factory=deque)
    _kept: int = 0
    _active: set[asyncio.Task[R]] = dataclasses.field(default_factory=set)
    _writing: asyncio.Task[None] | None = None
    _can_write: bool = True

    def goes_on(self) -> bool:
        """Begin and write what can be; False when all is done that will be."""
        self.lacks_room = False
        if self.error is None:
            self._begin()
        if self._writing is None and self._can_write and self._begun and self._begun[0].is_ready:
            self._writing = asyncio.ensure_future(self._write_ready())
            self._writing.add_done_callback(self._written)
        return bool(self._active or self._writing)

    def drop(self) -> None:
        """Forget results that wait behind many others for one that is not there yet."""
        if self._kept <= _KEPT or (self._begun and self._begun[0].is_ready):
            return
        self._kept = 0
        for item in self._begun:
            if item.task is None or not item.is_ready:
                continue
            if self._kept + item.size > _KEPT:
                item.task = None
            else:
                self._kept += item.size

    async def end(self) -> None:
        """Cancel what is under way."""
        for task in self._active:
            task.cancel()
        # A write is not given up in the middle: its thread would go on beside us.
        rest = [*self._active, *([self._writing] if self._writing else [])]
        await asyncio.gather(*rest, return_exceptions=True)

    def _begin(self) -> None:
        """Begin items while there is room, and the disk is not far behind."""
        if self._kept > _KEPT and self._begun[0].is_ready:
            return
        room = self.room()
        while len(self._begun) < _AHEAD and (not self._active or room > 0):
            value = next(self.source, None)
            if value is None:
                return
            task = asyncio.ensure_future(self._work(value))
            item = _Item(value, self.size(value), task)
            task.add_done_callback(functools.partial(self._done, item))
            self._active.add(task)
            self._begun.append(item)
            room -= item.size
        self.lacks_room = len(self._begun) < _AHEAD

    async def _work(self, value: T) -> R:
        return await self.work(value)

    async def _write_ready(self) -> None:
        """Write the results whose turn it is, in a thread: the servers need not wait for it."""
        while self._begun and self._begun[0].is_ready:
            item = self._begun[0]
            result = item.task.result() if item.task else await self.work(item.value)
            await asyncio.to_thread(self.write, item.value, result)
            self._begun.popleft()
            self._kept -= item.size if item.task else 0
            self.changed.set()

    def _done(self, item: _Item[T, R], task: asyncio.Task[R]) -> None:
        self._active.discard(task)
        if not self._note(task):
            self._kept += item.size

    def _written(self, task: asyncio.Task[None]) -> None:
        self._writing = None
        self._can_write = not self._note(task)

    def _note(self, task: asyncio.Task[R] | asyncio.Task[None]) -> bool:
        """Keep the first error. Every one is looked at: asyncio prints those nobody has seen."""
        self.changed.set()
        error = _error(task)
        self.error = self.error or error
        return error is not None


def _error(task: asyncio.Task[R]) -> BaseException | None:
    return asyncio.CancelledError() if task.cancelled() else task.exception()
