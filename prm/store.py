"""Append-only files of records, with a journal for resuming and a manifest that tells all.

A store is a folder; each shard of a job has three files of its own in it (one writer a file, so
that it is safe on a network file system):

    shard-00000-of-00001.jsonl     the records, one JSON line each, nothing else
    shard-00000-of-00001.journal   a line for each finished batch: its id, rows and the bytes so far
    shard-00000-of-00001.json      the manifest: settings, their hash, inputs, counts, cost, state

A batch counts once its journal line is written. A job that was killed in between finds bytes
behind the last journal line; they are cut off and the batch is made again, from the same seed:
the same records.
"""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import hashlib
import json
import os
import time
from array import array
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import IO, Any

from prm.errors import RecordError, StoreError
from prm.ledger import Ledger
from prm.records import R, Record, from_json, to_json


@dataclasses.dataclass(frozen=True, slots=True)
class Shard:
    """Part ``index`` of ``count`` of a job, by hash of the problem id."""

    index: int = 0
    count: int = 1

    @classmethod
    def parse(cls, text: str) -> Shard:
        """``"3/8"``: the fourth of eight.

        Raises:
            StoreError: the text is not of that form, or the index is not below the count.
        """
        index, _, count = text.partition("/")
        if not (index.isdigit() and count.isdigit() and int(index) < int(count)):
            raise StoreError(f"shard {text!r} should be i/n with 0 <= i < n, for example 0/8")
        return cls(int(index), int(count))

    @property
    def stem(self) -> str:
        """The name that this shard's files begin with."""
        return f"shard-{self.index:05d}-of-{self.count:05d}"

    def has(self, problem_id: str) -> bool:
        """Whether the problem belongs to this shard."""
        digest = hashlib.sha256(problem_id.encode()).digest()
        return int.from_bytes(digest[:8], "big") % self.count == self.index


class StoreWriter:
    """Writes one shard of a job's output, batch by batch, and resumes.

    Use as a context manager: a clean exit marks the shard as done.
    """

    def __init__(
        self,
        folder: str | Path,
        *,
        job: str,
        config: dict[str, Any],
        config_hash: str,
        inputs: dict[str, str] | None = None,
        shard: Shard | None = None,
        remedy: str = "Choose another output folder, or delete this one.",
    ) -> None:
        """Open a shard; ``inputs`` maps the names of what is read to hashes of the contents.

        ``remedy``: what to do when the shard was begun with others.

        Raises:
            StoreError: the shard was begun with other settings or inputs.
        """
        self.folder = Path(folder)
        self.shard = shard or Shard()
        self.folder.mkdir(parents=True, exist_ok=True)
        self._data = self.folder / f"{self.shard.stem}.jsonl"
        self._journal = self.folder / f"{self.shard.stem}.journal"
        self._manifest = self.folder / f"{self.shard.stem}.json"
        self._identity = {"job": job, "config_hash": config_hash, "inputs": inputs or {}}
        self._config = config
        self._remedy = remedy
        self.num_in = 0
        self.skipped: Counter[str] = Counter()
        self.ledger = Ledger()
        self.notes: dict[str, Any] = {}
        self._begun = time.monotonic()
        self._batches: dict[str, int] = {}
        self._lock = take_lock(self.folder, self.shard.stem)
        with contextlib.ExitStack() as undo:
            undo.callback(self._lock.close)
            self.is_done, self._past = self._check_manifest()
            self._recover()
            if not self._manifest.exists():
                # The settings guard the first batch too: a job may be killed in the middle of it.
                self._write_manifest("running")
            undo.pop_all()

    def __enter__(self) -> StoreWriter:
        """Return the writer."""
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        """Check the counts and mark the shard as done, unless an error ended the block."""
        try:
            if kind is None and not self.is_done:
                self.summary()
                self._write_manifest("done")
        finally:
            self._lock.close()

    @property
    def data_file(self) -> Path:
        """The file with the shard's records."""
        return self._data

    @property
    def num_rows(self) -> int:
        """Records that are safely written."""
        return sum(self._batches.values())

    def has(self, batch: str) -> bool:
        """Whether the batch is already written."""
        return batch in self._batches

    def append(
        self,
        batch: str,
        records: Sequence[Record],
        *,
        num_in: int | None = None,
        skipped: Counter[str] | None = None,
        ledger: Ledger | None = None,
    ) -> None:
        """Write a batch whole: afterwards it is on the disk and counted, or not there at all."""
        lines = [json.dumps(to_json(record), ensure_ascii=False) + "\n" for record in records]
        _append(self._data, "".join(lines))
        entry = {
            "batch": batch,
            "rows": len(records),
            "bytes": self._data.stat().st_size,
            "in": len(records) if num_in is None else num_in,
            "skipped": dict(skipped or {}),
            "ledger": dataclasses.asdict(ledger or Ledger()),
        }
        _append(self._journal, json.dumps(entry) + "\n")
        self._count(entry)
        self._write_manifest("running")

    def summary(self) -> str:
        """``in = out + skipped(by reason)`` in words.

        Raises:
            StoreError: the counts do not add up: a bug that loses records.
        """
        if self.num_in != self.num_rows + self.skipped.total():
            raise StoreError(
                f"{self.folder}: {self.num_in} in, but {self.num_rows} out and "
                f"{dict(self.skipped)} skipped: records were lost, please report this"
            )
        reasons = ", ".join(f"{n} {reason}" for reason, n in sorted(self.skipped.items()))
        return f"in {self.num_in} = out {self.num_rows} + skipped {self.skipped.total()}" + (
            f" ({reasons})" if reasons else ""
        )

    def _check_manifest(self) -> tuple[bool, float]:
        if not self._manifest.exists():
            return False, 0.0
        old = read_json(self._manifest)
        for key, value in self._identity.items():
            if old.get(key) != value:
                before, now = _changed(old.get(key), value)
                raise StoreError(
                    f"{self._manifest} was written with another {key} ({before!r}, now "
                    f"{now!r}). Settings that differ: {_differences(old, self._config)}. "
                    f"{self._remedy}"
                )
        self.notes = old.get("notes", {})
        return old.get("state") == "done", float(old.get("seconds", 0.0))

    def _recover(self) -> None:
        """Read the journal, cut what it does not cover, and count what it does."""
        text = self._journal.read_text() if self._journal.exists() else ""
        whole = text[: text.rfind("\n") + 1]
        if whole != text:
            os.truncate(self._journal, len(whole.encode()))
        end = 0
        for line in whole.splitlines():
            entry = _parse(line, self._journal)
            self._count(entry)
            end = entry["bytes"]
        size = self._data.stat().st_size if self._data.exists() else 0
        if size < end:
            raise StoreError(f"{self._data} has {size} bytes, its journal says {end}: damaged")
        if size > end:
            with self._data.open("r+b") as file:
                file.truncate(end)

    def _count(self, entry: dict[str, Any]) -> None:
        self._batches[entry["batch"]] = entry["rows"]
        self.num_in += entry["in"]
        self.skipped.update(entry["skipped"])
        self.ledger = self.ledger + Ledger(**entry["ledger"])

    def _write_manifest(self, state: str) -> None:
        manifest = {
            **self._identity,
            "state": state,
            "in": self.num_in,
            "out": self.num_rows,
            "skipped": dict(self.skipped),
            "ledger": dataclasses.asdict(self.ledger),
            "seconds": round(self._past + time.monotonic() - self._begun, 3),
            "notes": self.notes,
            "config": self._config,
        }
        write_json(self._manifest, manifest)


def discard(folder: str | Path, shard: Shard) -> None:
    """Delete a shard's records, so that they can be written anew.

    Raises:
        StoreError: another process is writing it.
    """
    where = Path(folder)
    if not where.exists():
        return
    with take_lock(where, shard.stem):
        # The manifest last: without it a journal would be taken for damage.
        for suffix in (".journal", ".jsonl", ".json"):
            (where / f"{shard.stem}{suffix}").unlink(missing_ok=True)


def take_lock(folder: Path, stem: str, *, shared: bool = False) -> IO[str]:
    """Hold ``{folder}/{stem}.lock`` as long as this process lives, also when its parent was killed.

    ``shared``: beside others that do so too, against one who writes. Closing the file lets go.

    Raises:
        StoreError: another process holds it, or the file system has no locks.
    """
    # For reading and writing: NFS turns flock into locks that each need one of the two.
    file = (folder / f"{stem}.lock").open("a+")
    try:
        fcntl.flock(file, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except BlockingIOError as error:
        file.close()
        raise StoreError(
            f"{folder}: another process is writing {stem}; wait for it or stop it first"
        ) from error
    except OSError as error:
        file.close()
        raise StoreError(
            f"{folder}: this file system cannot lock files ({error}); mount it with "
            "flock, or write to another one"
        ) from error
    return file


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


def write_json(path: Path, value: object) -> None:
    """Write a JSON file in one piece: readers see the old one or the new one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(path.suffix + ".tmp")
    temporary.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    os.replace(temporary, path)


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


def read_ids(folder: str | Path, cls: type[R]) -> Iterator[str]:
    """The ids of all records, in 8 bytes of memory each.

    Raises:
        RecordError: when the last was given: an id occurs twice.
    """
    hashes = array("Q")
    for record in read_records(folder, cls):
        hashes.append(_hash(record.id))
        yield record.id
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


def _append(path: Path, text: str) -> None:
    with path.open("a", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object from a file.

    Raises:
        StoreError: it is not readable.
    """
    return _parse(path.read_text(), path)


def _parse(text: str, path: Path) -> dict[str, Any]:
    try:
        value: dict[str, Any] = json.loads(text)
    except ValueError as error:
        raise StoreError(f"{path} is not readable JSON ({error}); delete the folder") from error
    return value


def _changed(old: Any, new: Any) -> tuple[Any, Any]:
    """The two; of mappings, the entries that differ."""
    if not (isinstance(old, dict) and isinstance(new, dict)):
        return old, new
    keys = [key for key in {**old, **new} if old.get(key) != new.get(key)]
    return {k: old[k] for k in keys if k in old}, {k: new[k] for k in keys if k in new}


def _differences(old: dict[str, Any], new: dict[str, Any]) -> str:
    before = old.get("config", {})
    changed = [
        f"{key} was {before.get(key)!r}, now {new.get(key)!r}"
        for key in sorted({*before, *new})
        if before.get(key) != new.get(key)
    ]
    return "; ".join(changed) or "none (an input changed)"
