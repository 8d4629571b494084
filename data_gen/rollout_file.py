"""The SQLite file of a store of rollouts: its tables, how it is opened, rows to rollouts."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import re
import sqlite3
import zlib
from collections.abc import Iterator
from pathlib import Path

from prm.errors import StoreError
from prm.generation.request_file import COSTS, costs, explained, lock
from prm.ledger import Ledger
from prm.protocols import Generation, Rollout, Token
from prm.store import Shard

_VERSION = 1
_APPLICATION = int.from_bytes(b"PRMR", "big")

_TYPED = ", ".join(f"{name} {kind} NOT NULL" for name, kind in COSTS.items())
SUMS = ", ".join(f"ifnull(sum({name}), 0)" for name in COSTS)
_TABLES = (
    "CREATE TABLE settings (body TEXT NOT NULL)",
    "CREATE TABLE rollouts (key BLOB NOT NULL, ordinal int NOT NULL, correct int,"
    " tokens int NOT NULL, finish_reason TEXT NOT NULL, text BLOB, PRIMARY KEY (key, ordinal))",
    "CREATE TABLE answers (key BLOB NOT NULL PRIMARY KEY, body BLOB NOT NULL)",
    f"CREATE TABLE calls (owner TEXT NOT NULL, kind TEXT NOT NULL, seed int NOT NULL,"
    f" num_calls int NOT NULL, {_TYPED})",
    f"PRAGMA application_id = {_APPLICATION}",
    f"PRAGMA user_version = {_VERSION}",
)
_SELECT = "SELECT ordinal, correct, tokens, finish_reason, text FROM rollouts WHERE key = ?"


@dataclasses.dataclass(frozen=True, slots=True)
class Spent:
    """What a step of a job cost: ``kind`` is rollouts, judge or program, ``owner`` the batch.

    ``num_calls`` of the generator drew from ``seed``: the next start counts on from there.
    """

    owner: str
    kind: str
    cost: Ledger
    seed: int = 0
    num_calls: int = 0


def files_of(folder: Path) -> list[tuple[Path, Shard]]:
    """The files of rollouts in a folder, in order."""
    found = []
    for path in sorted(folder.glob("rollouts-*-of-*.sqlite")):
        if match := re.fullmatch(r"rollouts-(\d+)-of-(\d+)\.sqlite", path.name):
            found.append((path, Shard(int(match[1]), int(match[2]))))
    return found


def open_file(held: contextlib.ExitStack, path: Path, mode: str) -> sqlite3.Connection:
    """A connection that is closed with ``held``; mode rwc writes the file, rw reads it."""
    with explained(path):
        db = sqlite3.connect(
            f"{path.absolute().as_uri()}?mode={mode}",
            uri=True,
            timeout=30,
            isolation_level=None,
            check_same_thread=False,
        )
        held.callback(db.close)
        if mode == "rwc":
            db.execute("PRAGMA locking_mode = EXCLUSIVE")
            db.execute("PRAGMA journal_mode = TRUNCATE")
            db.execute("PRAGMA synchronous = FULL")
        else:
            db.execute("PRAGMA query_only = 1")
    return db


def open_to_read(held: contextlib.ExitStack, path: Path) -> Iterator[sqlite3.Connection]:
    """A file that no process writes; nothing when its writer was killed before it had tables."""
    lock(held, path, shared=True)
    db = open_file(held, path, "rw")
    with explained(path):
        if is_whole(db, path):
            yield db


def make_tables(db: sqlite3.Connection, settings: str) -> None:
    """Make the tables of an empty file."""
    with db:
        db.execute("BEGIN IMMEDIATE")
        for statement in _TABLES:
            db.execute(statement)
        db.execute("INSERT INTO settings VALUES (?)", (settings,))


def is_whole(db: sqlite3.Connection, path: Path) -> bool:
    """Whether the tables are there; False for an empty file."""
    if db.execute("SELECT count(*) FROM sqlite_schema").fetchone() == (0,):
        return False
    application, version = (
        db.execute(f"PRAGMA {name}").fetchone()[0] for name in ("application_id", "user_version")
    )
    if (application, version) != (_APPLICATION, _VERSION):
        raise StoreError(
            f"{path}: made by another program, or version {version} of this one (this is "
            f"{_VERSION}); choose another folder"
        )
    return True


def check_settings(db: sqlite3.Connection, path: Path, wanted: str) -> None:
    """Refuse a file of other settings.

    Raises:
        StoreError: its rollouts were made in another way.
    """
    with explained(path):
        (body,) = db.execute("SELECT body FROM settings").fetchone()
    if body == wanted:
        return
    old, new = json.loads(body), json.loads(wanted)
    changed = "; ".join(
        f"{key} was {old.get(key)!r}, now {new.get(key)!r}"
        for key in sorted({*old, *new})
        if old.get(key) != new.get(key)
    )
    raise StoreError(
        f"{path} holds rollouts that were made with other settings: {changed}. They do not mix: "
        "set `rollouts` to another folder, or the settings back"
    )


def select(
    path: Path, db: sqlite3.Connection, key: bytes, begin: int, end: int
) -> dict[int, Rollout]:
    """The rollouts of a prefix with ordinals from ``begin`` to before ``end``."""
    query = f"{_SELECT} AND ordinal >= ? AND ordinal < ?"
    with explained(path):
        rows = db.execute(query, (key, begin, end)).fetchall()
        return {
            ordinal: Rollout(
                None if correct is None else bool(correct), tokens, unpack(text), finish_reason
            )
            for ordinal, correct, tokens, finish_reason, text in rows
        }


def add_call(db: sqlite3.Connection, spent: Spent) -> None:
    """Note what a call cost."""
    row = (spent.owner, spent.kind, spent.seed, spent.num_calls, *costs(spent.cost))
    db.execute(f"INSERT INTO calls VALUES (?, ?, ?, ?, {', '.join('?' * len(COSTS))})", row)


def pack(text: str | None) -> bytes | None:
    """The text as it is stored."""
    # A model may emit half a letter (a lone surrogate).
    return None if text is None else zlib.compress(text.encode("utf-8", "surrogatepass"), 1)


def unpack(body: bytes | None) -> str | None:
    """The text that was stored."""
    if body is None:
        return None
    try:
        return zlib.decompress(body).decode("utf-8", "surrogatepass")
    except zlib.error as error:
        raise sqlite3.DatabaseError(f"a text that cannot be read ({error})") from error


def read_texts(body: bytes) -> list[Generation]:
    """The texts of a prompt that were stored."""
    return [
        Generation(**{**row, "tokens": tuple(Token(**token) for token in row["tokens"])})
        for row in json.loads(zlib.decompress(body))
    ]
