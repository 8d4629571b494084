"""Rollouts that were paid for: none is paid twice, whichever labeler asks, and none is lost.

One SQLite file a shard of the job, ``rollouts-00003-of-00008.sqlite``, in a folder of its own:

    settings   what all its rollouts were made with, one row of JSON: other settings are refused
    rollouts   key (32 bytes: problem and steps kept), ordinal, correct, tokens, finish reason, text
    answers    key (32 bytes: prompt, parameters, seed) and the texts of a judge
    calls      what each call of a model cost, for whom (owner, kind), and from which seed it drew

The text is UTF-8 under zlib. A call and what it gave are one transaction: a job that is killed
finds both or neither. One writer a file (flock), a rollback journal: safe on a network file system.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import math
import sqlite3
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from data_gen.rollout_file import (
    SUMS,
    Spent,
    add_call,
    check_settings,
    files_of,
    is_whole,
    make_tables,
    open_file,
    open_to_read,
    pack,
    read_texts,
    select,
)
from prm.errors import StoreError
from prm.generation.request_file import explained, lock, may_share
from prm.ledger import Ledger
from prm.protocols import Generation, Rollout
from prm.records import Problem
from prm.store import Shard


def prefix_key(problem: Problem, steps: Sequence[str]) -> bytes:
    """The name of a prefix: a hash of the problem, its reference answer and the steps kept."""
    parts = [problem.id, problem.statement, problem.reference_answer, list(steps)]
    return hashlib.sha256(json.dumps(parts).encode()).digest()


class RolloutStore:
    """The rollouts of one shard; those in files of other shard counts are found too."""

    def __init__(
        self, folder: str | Path, shard: Shard | None = None, *, settings: Mapping[str, Any]
    ) -> None:
        """Open the shard's file, or make it; ``settings`` are all that decides a rollout.

        Raises:
            StoreError: made with other settings, damaged, not ours, or another process writes it.
        """
        self.folder, self.shard = Path(folder), shard or Shard()
        self.path = self.folder / f"rollouts{self.shard.stem.removeprefix('shard')}.sqlite"
        with contextlib.ExitStack() as undo:
            lock(undo, self.path)
            self._db = open_file(undo, self.path, "rwc")
            body = json.dumps(settings, sort_keys=True)
            with explained(self.path):
                if not is_whole(self._db, self.path):
                    make_tables(self._db, body)
            check_settings(self._db, self.path, body)
            self._others = [
                (path, db)
                for path, other in files_of(self.folder)
                if other.count != self.shard.count and may_share(self.shard, other)
                for db in open_to_read(undo, path)
            ]
            for path, db in self._others:
                check_settings(db, path, body)
            self._held = undo.pop_all()

    def __enter__(self) -> RolloutStore:
        """Return the store."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the store."""
        self.close()

    def get(self, key: bytes, first: int, count: int) -> dict[int, Rollout]:
        """The kept ones of ``count`` rollouts from the ordinal ``first`` on, by ordinal."""
        found: dict[int, Rollout] = {}
        for path, db in ((self.path, self._db), *self._others):
            if len(found) < count:
                found = select(path, db, key, first, first + count) | found
        return found

    def put(self, rows: Iterable[tuple[bytes, int, Rollout]], spent: Spent) -> None:
        """Keep the rollouts of a call (key, ordinal, rollout); they are on the disk afterwards."""
        packed = [
            (key, ordinal, r.correct, r.num_tokens, r.finish_reason, pack(r.text))
            for key, ordinal, r in rows
        ]
        with self._transaction() as db:
            db.executemany("INSERT INTO rollouts VALUES (?, ?, ?, ?, ?, ?)", packed)
            add_call(db, spent)

    def answers(self, key: bytes) -> list[Generation] | None:
        """The texts that were kept under the key, or None."""
        for path, db in ((self.path, self._db), *self._others):
            with explained(path):
                row = db.execute("SELECT body FROM answers WHERE key = ?", (key,)).fetchone()
                if row is not None:
                    return read_texts(row[0])
        return None

    def put_answers(self, texts: Mapping[bytes, Sequence[Generation]], spent: Spent) -> None:
        """Keep the texts of a call, by key; they are on the disk afterwards."""
        rows = [
            (key, zlib.compress(json.dumps([dataclasses.asdict(one) for one in group]).encode(), 1))
            for key, group in texts.items()
        ]
        with self._transaction() as db:
            db.executemany("INSERT INTO answers VALUES (?, ?)", rows)
            add_call(db, spent)

    def num_calls(self, seed: int) -> int:
        """Calls of the generator so far that drew from the seed."""
        query = "SELECT ifnull(sum(num_calls), 0) FROM calls WHERE seed = ?"
        with explained(self.path):
            return int(self._db.execute(query, (seed,)).fetchone()[0])

    def spent(self, owner: str = "") -> dict[str, Ledger]:
        """The cost by kind, of the owners whose name begins with ``owner``, in all starts."""
        query = f"SELECT kind, {SUMS} FROM calls WHERE substr(owner, 1, ?) = ? GROUP BY kind"
        with explained(self.path):
            rows = self._db.execute(query, (len(owner), owner)).fetchall()
        return {kind: Ledger(*cost) for kind, *cost in rows}

    def close(self) -> None:
        """Let go of the files."""
        self._held.close()

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        with explained(self.path), self._db:
            self._db.execute("BEGIN IMMEDIATE")
            yield self._db


class KeptReader:
    """All rollouts of a folder, of whatever shards; for reading only."""

    def __init__(self, held: contextlib.ExitStack, folder: str | Path) -> None:
        """Open the files until ``held`` is closed.

        Raises:
            StoreError: there are none, one is damaged, or a process is writing one.
        """
        paths = [path for path, _ in files_of(Path(folder))]
        self._files = [(path, db) for path in paths for db in open_to_read(held, path)]
        if not self._files:
            raise StoreError(
                f"{folder}: no rollouts here; give the folder that data_gen.label keeps them in "
                "(the output's name and -rollouts)"
            )

    @property
    def settings(self) -> dict[str, Any]:
        """What the rollouts of the first file were made with."""
        path, db = self._files[0]
        with explained(path):
            settings: dict[str, Any] = json.loads(
                db.execute("SELECT body FROM settings").fetchone()[0]
            )
        return settings

    def fingerprint(self) -> str:
        """A hash of how many rollouts there are, and of what settings."""
        found = []
        for path, db in self._files:
            with explained(path):
                found.append(db.execute("SELECT count(*), sum(tokens) FROM rollouts").fetchone())
        text = json.dumps([found, self.settings], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def get(self, key: bytes) -> list[Rollout]:
        """All rollouts of a prefix, of all files, in the order in which they were made."""
        found: dict[int, Rollout] = {}
        for path, db in self._files:
            found = select(path, db, key, 0, 1 << 62) | found
        return [found[ordinal] for ordinal in sorted(found)]


def spent_with_other_counts(folder: Path, shard: Shard) -> Ledger:
    """This shard's part of what was spent when the job had other numbers of shards.

    Raises:
        StoreError: a file is damaged, or a process is still writing it.
    """
    total = Ledger()
    with contextlib.ExitStack() as held:
        for path, other in files_of(folder):
            for db in open_to_read(held, path) if other.count != shard.count else ():
                with explained(path):
                    total += Ledger(*db.execute(f"SELECT {SUMS} FROM calls").fetchone())
    return Ledger(
        prompt_tokens=math.ceil(total.prompt_tokens / shard.count),
        generated_tokens=math.ceil(total.generated_tokens / shard.count),
        dollars=total.dollars / shard.count,
    )
