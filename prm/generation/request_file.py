"""The SQLite file of a request store: its tables, how it is opened, rows to replies and back."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import math
import operator
import re
import sqlite3
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import orjson

from prm.errors import StoreError
from prm.generation.requests import Reply
from prm.ledger import Ledger
from prm.protocols import Generation, Token
from prm.store import Shard, take_lock

# Changes with the tables or the body; "PRM1" in SQLite's header tells our files from others'.
_VERSION = 1
_APPLICATION = int.from_bytes(b"PRM1", "big")
# Name and type of the columns of cost: "int" and "float" are SQLite's words too.
COSTS = {field.name: field.type for field in dataclasses.fields(Ledger)}
costs = operator.attrgetter(*COSTS)
_COLUMNS = ", ".join(COSTS)
_TYPED = ", ".join(f"{name} {kind} NOT NULL" for name, kind in COSTS.items())
# A table of replies without row ids would be in the order of the keys: 4 times the time to write,
# 3 times the file, as each new row lands on a page of its own.
_TABLES = (
    f"CREATE TABLE replies ({_TYPED}, key BLOB NOT NULL PRIMARY KEY, body BLOB NOT NULL)",
    "CREATE TABLE set_aside (key BLOB NOT NULL PRIMARY KEY, reason TEXT NOT NULL,"
    " detail TEXT NOT NULL) WITHOUT ROWID",
    f"CREATE TABLE losses ({_TYPED})",
    f"PRAGMA application_id = {_APPLICATION}",
)
# The first answer (or reason) under a key is the one that stays.
INSERT = {
    "replies": "INSERT INTO replies VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT (key) DO NOTHING",
    "set_aside": "INSERT INTO set_aside VALUES (?, ?, ?) ON CONFLICT (key) DO NOTHING",
    "losses": "INSERT INTO losses VALUES (?, ?, ?, ?, ?)",
}
_SUMS = ", ".join(f"ifnull(sum({name}), 0)" for name in COSTS)
SPENT = {table: f"SELECT {_SUMS} FROM {table}" for table in ("replies", "losses")}
COUNT = {table: f"SELECT count(*) FROM {table}" for table in INSERT}
_KEYS_A_QUERY = 500
_WRITABLE = "make file and folder writable, or choose another folder"
_DAMAGED = "it is damaged: move it away (its requests are paid again), or `sqlite3 FILE .recover`"
_REMEDIES = {
    "DatabaseError": _DAMAGED,
    "SQLITE_NOTADB": _DAMAGED,
    "SQLITE_CORRUPT": _DAMAGED,
    "SQLITE_READONLY": _WRITABLE,
    "SQLITE_CANTOPEN": _WRITABLE,
    "SQLITE_FULL": "free some space on the disk, or raise the quota or file size limit",
    "SQLITE_BUSY": "another program has it open: close that one first",
}


def of_other_counts(folder: Path, count: int) -> list[tuple[Path, Shard]]:
    """The files of runs with more or fewer shards, in order."""
    found = []
    for path in sorted(folder.glob("requests-*-of-*.sqlite")):
        match = re.fullmatch(r"requests-(\d+)-of-(\d+)\.sqlite", path.name)
        if match is not None and int(match[2]) != count:
            found.append((path, Shard(int(match[1]), int(match[2]))))
    return found


def may_share(shard: Shard, other: Shard) -> bool:
    """Whether a problem of the shard can be in the file of the other, of another shard count.

    A problem's shard is its hash modulo the count, so the two agree modulo what divides both.
    """
    return (other.index - shard.index) % math.gcd(other.count, shard.count) == 0


def sums(db: sqlite3.Connection) -> tuple[Ledger, Ledger]:
    """What the replies of a file cost, and its losses."""
    replies, losses = (Ledger(*db.execute(query).fetchone()) for query in SPENT.values())
    return replies, losses


def lock(held: contextlib.ExitStack, path: Path, *, shared: bool = False) -> None:
    """Hold the file's lock until ``held`` is closed; raises StoreError as `take_lock` does."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        held.enter_context(take_lock(path.parent, path.stem, shared=shared))
    except OSError as error:
        raise StoreError(f"{path}: cannot be written ({error}); {_WRITABLE}") from error


def open_to_write(held: contextlib.ExitStack, path: Path) -> sqlite3.Connection:
    """The file that this process writes, made if need be, locked for SQLite's programs too."""
    with explained(path):
        db = _connect(held, path, "rwc")
        db.execute("PRAGMA locking_mode = EXCLUSIVE")
        db.execute("PRAGMA journal_mode = TRUNCATE")
        db.execute("PRAGMA synchronous = FULL")
        db.execute("BEGIN IMMEDIATE")
        if not _is_whole(db, path):
            for statement in _TABLES:
                db.execute(statement)
        # Written each time: a folder or file that cannot be written is found now.
        db.execute(f"PRAGMA user_version = {_VERSION}")
        db.execute("COMMIT")
    return db


def open_to_read(held: contextlib.ExitStack, path: Path) -> sqlite3.Connection | None:
    """A file that no process writes; None when its writer was killed before it had tables.

    Opened for writing: SQLite must undo what a killed writer left half done before it can read.
    The transaction stays open, so that no look-up locks anew (slow on a network file system).
    """
    with explained(path):
        db = _connect(held, path, "rw")
        db.execute("PRAGMA query_only = 1")
        db.execute("BEGIN")
        return db if _is_whole(db, path) else None


def _connect(held: contextlib.ExitStack, path: Path, mode: str) -> sqlite3.Connection:
    db = sqlite3.connect(
        f"{path.absolute().as_uri()}?mode={mode}",
        uri=True,
        timeout=30,
        isolation_level=None,
        check_same_thread=False,
    )
    held.callback(db.close)
    return db


def _is_whole(db: sqlite3.Connection, path: Path) -> bool:
    """Whether the tables are there; False for an empty file.

    Raises:
        StoreError: tables of another program or version.
    """
    (application,) = db.execute("PRAGMA application_id").fetchone()
    (version,) = db.execute("PRAGMA user_version").fetchone()
    if db.execute("SELECT count(*) FROM sqlite_schema").fetchone() == (0,):
        return False
    if application != _APPLICATION:
        raise StoreError(f"{path}: made by another program; choose another folder")
    if version != _VERSION:
        remedy = "choose another folder, or the version of this package that made it"
        raise StoreError(f"{path}: of version {version}, not {_VERSION}; {remedy}")
    return True


def select(db: sqlite3.Connection, keys: Sequence[str]) -> dict[str, Reply]:
    """The replies under these keys; keys without one are left out."""
    found: dict[str, Reply] = {}
    for begin in range(0, len(keys), _KEYS_A_QUERY):
        some = [bytes.fromhex(key) for key in keys[begin : begin + _KEYS_A_QUERY]]
        marks = ", ".join("?" * len(some))
        query = f"SELECT {_COLUMNS}, key, body FROM replies WHERE key IN ({marks})"
        rows = db.execute(query, some)
        found.update((row[-2].hex(), _decode(Ledger(*row[:-2]), row[-1])) for row in rows)
    return found


def encode(reply: Reply) -> bytes:
    """All but the cost as JSON.

    A model may emit half a letter (a lone surrogate) and a server an infinite log-probability;
    orjson refuses the one and drops the other, so these go through the slower json, in UTF-8 that
    lets surrogates pass.
    """
    rest = {"endpoint": reply.endpoint, "is_estimated": reply.is_estimated}
    if _is_finite(reply.generation):
        with contextlib.suppress(orjson.JSONEncodeError):
            return orjson.dumps({"generation": reply.generation, **rest})
    plain = {"generation": dataclasses.asdict(reply.generation), **rest}
    return json.dumps(plain, ensure_ascii=False).encode("utf-8", "surrogatepass")


def _is_finite(generation: Generation) -> bool:
    total = generation.logprob or 0.0
    for token in generation.tokens:
        total += token.logprob + sum(token.top.values())
    return math.isfinite(total)


def packed(row: tuple[Any, ...]) -> tuple[Any, ...]:
    """The row with its body compressed, if it has one."""
    return (*row[:-1], zlib.compress(row[-1], 1)) if isinstance(row[-1], bytes) else row


def _decode(cost: Ledger, body: bytes) -> Reply:
    try:
        value = _loads(zlib.decompress(body))
        fields = value.pop("generation")
        tokens = tuple(Token(**token) for token in fields.pop("tokens"))
        return Reply(generation=Generation(**fields, tokens=tokens), cost=cost, **value)
    except (zlib.error, ValueError, KeyError, TypeError) as error:
        raise sqlite3.DatabaseError(f"a body that is no reply ({error})") from error


def _loads(text: bytes) -> dict[str, Any]:
    try:
        value: dict[str, Any] = orjson.loads(text)
    except orjson.JSONDecodeError:
        value = json.loads(text.decode("utf-8", "surrogatepass"))
    return value


@contextlib.contextmanager
def explained(path: Path) -> Iterator[None]:
    """Turn what SQLite says into an error that says what to do."""
    try:
        yield
    except sqlite3.Error as error:
        raise explain(path, error) from error


def explain(path: Path, error: Exception) -> StoreError:
    """What SQLite says, and what to do about it."""
    name = getattr(error, "sqlite_errorname", type(error).__name__)
    remedy = _REMEDIES.get("_".join(name.split("_")[:2]), "see what the disk and its mount say")
    return StoreError(f"{path}: {error} ({name}); {remedy}")
