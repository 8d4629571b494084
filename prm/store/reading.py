"""The records of a store, shard by shard, and what its manifests say."""

from __future__ import annotations

import hashlib
import json
from array import array
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from prm.errors import RecordError, StoreError
from prm.records import R, from_json
from prm.store.files import read_json
from prm.store.shards import Shard


def read_records(folder: str | Path, cls: type[R]) -> Iterator[R]:
    """All records of a store, shard by shard; also reads a single ``.jsonl`` file.

    Raises:
        StoreError: there is nothing there, shards are missing, or one is not done.
        RecordError: a line is not such a record; the message names file and line.
    """
    for path in _data_files(Path(folder)):
        with path.open("rb") as file:
            for number, line in enumerate(file, 1):
                yield _record(cls, line, f"{path}:{number}")


def _record(cls: type[R], line: bytes, where: str) -> R:
    remedy = "(mend the line, or run the job that makes it again, into a new folder)"
    try:
        return from_json(cls, json.loads(line), where)
    except RecordError as error:
        raise RecordError(f"{error} {remedy}") from error
    except ValueError as error:
        raise RecordError(f"{where}: not JSON: {error} {remedy}") from error


def content_hash(folder: str | Path) -> str:
    """A short hash of the records of a store (or file), independent of where it lies."""
    digest = hashlib.sha256()
    for path in _data_files(Path(folder)):
        with path.open("rb") as file:
            while piece := file.read(1 << 20):
                digest.update(piece)
    return digest.hexdigest()[:16]


def read_manifests(folder: str | Path) -> list[dict[str, Any]]:
    """The manifests of all shards of a store."""
    return [read_json(path) for path in sorted(Path(folder).glob("shard-*-of-*.json"))]


def unique(records: Iterable[R], where: str) -> list[R]:
    """The records as a list.

    Raises:
        RecordError: two of them have the same id.
    """
    seen: dict[str, R] = {}
    for record in records:
        if record.id in seen:
            raise RecordError(f"{where}: id {record.id!r} occurs twice; ids must be unique")
        seen[record.id] = record
    return list(seen.values())


def read_unique(folder: str | Path, cls: type[R]) -> Iterator[R]:
    """All records, as `read_records`, and a check of their ids in 8 bytes of memory each.

    Raises:
        RecordError: when the last was given: an id occurs twice.
    """
    hashes = array("Q")
    for record in read_records(folder, cls):
        hashes.append(_hash(record.id))
        yield record
    repeated = _repeated(hashes)
    if repeated is not None:
        twice = next(r.id for r in read_records(folder, cls) if _hash(r.id) == repeated)
        raise RecordError(f"{folder}: id {twice!r} occurs twice; ids must be unique")


def _hash(name: str) -> int:
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big")


def _repeated(hashes: array[int]) -> int | None:
    import numpy as np

    ordered = np.sort(np.frombuffer(hashes, dtype=np.uint64)) if hashes else np.empty(0)
    (places,) = np.nonzero(ordered[1:] == ordered[:-1])
    return int(ordered[places[0]]) if len(places) else None


def _data_files(folder: Path) -> list[Path]:
    if folder.is_file():
        return [folder]
    manifests = sorted(folder.glob("shard-*-of-*.json"))
    if not manifests:
        raise StoreError(f"{folder}: no records here; run the job that makes them first")
    count = int(manifests[0].stem.rpartition("-")[2])
    expected = [folder / f"{Shard(i, count).stem}.json" for i in range(count)]
    for path in expected:
        if not path.exists() or read_json(path)["state"] != "done":
            raise StoreError(f"{path.with_suffix('')} is not finished; run that shard to its end")
    if len(manifests) != count:
        raise StoreError(f"{folder}: shards of different counts lie together; use a new folder")
    return [path.with_suffix(".jsonl") for path in expected if path.with_suffix(".jsonl").exists()]
