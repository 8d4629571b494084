"""Replies that were paid for, under the hash of their requests: nothing is asked or paid twice.

One SQLite file a shard of the job, ``requests-00003-of-00008.sqlite``, in a folder of its own:

    replies     what it cost (the columns of `Ledger`), the request's key (32 bytes), the body
    set_aside   key, reason and detail of requests that no server can answer
    losses      what failed requests may have cost (the columns of `Ledger`)

The body is the rest of a `Reply` as JSON under zlib: even 500 bytes shrink to half in 13
microseconds, and zlib's checksum tells a damaged body. So what a folder cost is a matter of
``sqlite3 FILE "SELECT count(*), sum(dollars) FROM replies"``.

Safe on a network file system: one process a file (flock), and a rollback journal, as a write-ahead
log needs memory that processes share. A thread writes all that is waiting in one transaction.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import sqlite3
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from prm.errors import StoreError
from prm.generation.request_file import (
    COSTS,
    COUNT,
    INSERT,
    costs,
    encode,
    explain,
    explained,
    lock,
    may_share,
    of_other_counts,
    open_to_read,
    open_to_write,
    packed,
    select,
    sums,
)
from prm.generation.requests import Reply
from prm.ledger import Ledger
from prm.store import Shard


@dataclasses.dataclass(frozen=True, slots=True)
class _Write:
    """Rows that wait for the writer; ``done`` belongs to who waits for them, if anyone does."""

    table: str
    rows: list[tuple[Any, ...]]
    done: asyncio.Future[None] | None


class RequestStore:
    """Keeps the replies of one shard: what a `put` has returned from survives any kill.

    Use as a context manager, or `close` it. Replies in files of other shard counts are found too;
    requests that were set aside there are not, they are asked once more.
    """

    def __init__(self, folder: str | Path, shard: Shard | None = None) -> None:
        """Open the shard's file, or make it.

        Raises:
            StoreError: another process writes it, it is damaged, not ours or of another version,
                or the folder cannot be written.
        """
        self.folder = Path(folder)
        self.shard = shard or Shard()
        self._path = self.folder / f"requests{self.shard.stem.removeprefix('shard')}.sqlite"
        self._others: list[tuple[Path, sqlite3.Connection]] | None = None
        self._queued: list[_Write] = []
        self._wake = threading.Condition()
        self._is_closed = False
        self._unheard: StoreError | None = None
        # Held over a whole transaction: a reader must not see what is not on the disk yet.
        self._guard = threading.Lock()
        with contextlib.ExitStack() as undo:
            lock(undo, self._path)
            self._db = open_to_write(undo, self._path)
            with explained(self._path):
                self._paid, self._lost = sums(self._db)
                self._num_replies: int = self._db.execute(COUNT["replies"]).fetchone()[0]
                self._num_set_aside: int = self._db.execute(COUNT["set_aside"]).fetchone()[0]
            self._held = undo.pop_all()
        self._writer = threading.Thread(target=self._write_all, name="request-store", daemon=True)
        self._writer.start()

    def __enter__(self) -> RequestStore:
        """Return the store."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the store."""
        self.close()

    @property
    def spent(self) -> Ledger:
        """What all replies and losses in this shard's file cost, in this run and before it."""
        return self._paid + self._lost

    @property
    def lost(self) -> Ledger:
        """The losses alone: what was spent without a reply, in this run and before it."""
        return self._lost

    def spent_elsewhere(self) -> Ledger:
        """What the files of other shard counts in the folder cost, all together.

        Raises:
            StoreError: a file is damaged, or a process is still writing it.
        """
        total = Ledger()
        for path, _ in of_other_counts(self.folder, self.shard.count):
            with contextlib.ExitStack() as held:
                lock(held, path, shared=True)
                db = open_to_read(held, path)
                with explained(path):
                    total += Ledger() if db is None else sum(sums(db), Ledger())
        return total

    @property
    def num_replies(self) -> int:
        """Replies in this shard's file."""
        return self._num_replies

    @property
    def num_set_aside(self) -> int:
        """Requests of this shard that are set aside."""
        return self._num_set_aside

    def get(self, key: str) -> Reply | None:
        """The reply to the request of that key, or None.

        Raises:
            StoreError: a file is damaged, or another process writes one of another shard count.
        """
        return self.get_many([key]).get(key)

    def get_many(self, keys: Sequence[str]) -> dict[str, Reply]:
        """The replies that there are, by key; raises as `get` does."""
        with self._guard, explained(self._path):
            found = select(self._db, keys)
        if len(found) < len(keys):
            with self._guard:
                for path, db in self._files_of_other_counts():
                    with explained(path):
                        found |= select(db, [key for key in keys if key not in found])
        return found

    async def put(self, replies: Mapping[str, Reply]) -> None:
        """Keep replies; returns when they are on the disk.

        The first reply to a key stays, and only its cost counts. Who is cancelled while waiting
        loses nothing: the rows are written all the same.

        Raises:
            StoreError: the store is closed, or the disk refused (full, quota, broken).
        """
        rows = [(*costs(r.cost), bytes.fromhex(key), encode(r)) for key, r in replies.items()]
        await self._submit("replies", rows)

    async def set_aside(self, key: str, reason: str, detail: str) -> None:
        """Note that no server can answer a request, and why; the first reason stays."""
        texts = (text.encode("utf-8", "backslashreplace").decode() for text in (reason, detail))
        await self._submit("set_aside", [(bytes.fromhex(key), *texts)])

    async def add_loss(self, cost: Ledger) -> None:
        """Count what a failed request may have cost."""
        await self._submit("losses", [costs(cost)])

    def note_loss(self, cost: Ledger) -> None:
        """The same for who must not wait, being cancelled: it is on the disk soon.

        An error of the disk is raised to the next who waits for the store.
        """
        self._enqueue(_Write("losses", [costs(cost)], None))

    def is_set_aside(self, key: str) -> tuple[str, str] | None:
        """Reason and detail of a request that was set aside, else None."""
        query = "SELECT reason, detail FROM set_aside WHERE key = ?"
        with self._guard, explained(self._path):
            row = self._db.execute(query, (bytes.fromhex(key),)).fetchone()
        return None if row is None else (row[0], row[1])

    def forget_set_aside(self) -> int:
        """Have the requests that are set aside asked again; returns how many they are."""
        with self._guard, explained(self._path):
            num_forgotten = self._db.execute("DELETE FROM set_aside").rowcount
            self._num_set_aside = 0
        return num_forgotten

    def close(self) -> None:
        """Write what is waiting and let go of the files."""
        with self._wake:
            self._is_closed = True
            self._wake.notify()
        self._writer.join()
        # A look-up in another thread may be under way.
        with self._guard:
            self._held.close()

    async def _submit(self, table: str, rows: list[tuple[Any, ...]]) -> None:
        if self._unheard is not None:
            error, self._unheard = self._unheard, None
            raise error
        done = asyncio.get_running_loop().create_future()
        self._enqueue(_Write(table, rows, done))
        await done

    def _enqueue(self, write: _Write) -> None:
        with self._wake:
            if self._is_closed:
                raise StoreError(f"{self._path}: the store is closed; keep it open while you ask")
            self._queued.append(write)
            self._wake.notify()

    def _write_all(self) -> None:
        """The writer thread: all that is waiting, then again, until the store is closed."""
        while True:
            with self._wake:
                self._wake.wait_for(lambda: self._queued or self._is_closed)
                batch, self._queued = self._queued, []
            if not batch:
                return
            error = self._commit(batch)
            if error is None or len(batch) == 1:
                self._tell(batch, error)
            else:
                # One row that cannot be kept must not fail the others.
                for write in batch:
                    self._tell([write], self._commit([write]))

    def _tell(self, batch: Sequence[_Write], error: StoreError | None) -> None:
        _settle([write.done for write in batch if write.done is not None], error)
        if error is not None and any(write.done is None for write in batch):
            self._unheard = error

    def _commit(self, batch: list[_Write]) -> StoreError | None:
        """Write a batch in one transaction; what went wrong, if anything did."""
        rows = [(write.table, row) for write in batch for row in map(packed, write.rows)]
        with self._guard:
            try:
                self._db.execute("BEGIN IMMEDIATE")
                new = [(t, row) for t, row in rows if self._db.execute(INSERT[t], row).rowcount]
                self._db.execute("COMMIT")
            except (sqlite3.Error, OverflowError) as error:
                # After some errors SQLite has rolled back by itself; the next BEGIN will tell.
                with contextlib.suppress(sqlite3.Error):
                    self._db.execute("ROLLBACK")
                return explain(self._path, error)
            for table, row in new:
                self._num_replies += table == "replies"
                self._num_set_aside += table == "set_aside"
                if table == "replies":
                    self._paid += Ledger(*row[: len(COSTS)])
                elif table == "losses":
                    self._lost += Ledger(*row)
        return None

    def _files_of_other_counts(self) -> list[tuple[Path, sqlite3.Connection]]:
        """Files of runs with more or fewer shards that may hold problems of this shard."""
        if self._others is None:
            others = []
            for path, shard in of_other_counts(self.folder, self.shard.count):
                if may_share(self.shard, shard):
                    lock(self._held, path, shared=True)
                    db = open_to_read(self._held, path)
                    others += [] if db is None else [(path, db)]
            self._others = others
        return self._others


def _settle(waiting: Sequence[asyncio.Future[None]], error: StoreError | None) -> None:
    """Tell those who wait, each in its own event loop."""
    for loop in {future.get_loop() for future in waiting}:
        futures = [future for future in waiting if future.get_loop() is loop]
        # A loop that has ended has nobody left who waits.
        with contextlib.suppress(RuntimeError):
            loop.call_soon_threadsafe(_resolve, futures, error)


def _resolve(futures: Sequence[asyncio.Future[None]], error: StoreError | None) -> None:
    for future in futures:
        if future.done():
            continue
        if error is None:
            future.set_result(None)
        else:
            future.set_exception(error)
