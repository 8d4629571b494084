"""Write one shard of a store, batch by batch, and go on where an earlier start ended."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from prm.errors import StoreError
from prm.ledger import Ledger
from prm.records import Record, to_json
from prm.store.files import append, explained, parse, read_json, take_lock, write_json
from prm.store.shards import Shard


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
            StoreError: the shard was begun with other settings or inputs, it is damaged, another
                process writes it, or the disk refused.
        """
        self.folder = Path(folder)
        self.shard = shard or Shard()
        with explained(self.folder):
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
        """Write a batch whole: afterwards it is on the disk and counted, or not there at all.

        Raises:
            StoreError: the disk refused; the next start makes the batch again.
        """
        lines = [json.dumps(to_json(record), ensure_ascii=False) + "\n" for record in records]
        append(self._data, "".join(lines))
        entry = {
            "batch": batch,
            "rows": len(records),
            "bytes": self._data.stat().st_size,
            "in": len(records) if num_in is None else num_in,
            "skipped": dict(skipped or {}),
            "ledger": dataclasses.asdict(ledger or Ledger()),
        }
        append(self._journal, json.dumps(entry) + "\n")
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
            with explained(self._journal):
                os.truncate(self._journal, len(whole.encode()))
        end = 0
        for line in whole.splitlines():
            entry = parse(line, self._journal)
            self._count(entry)
            end = entry["bytes"]
        size = self._data.stat().st_size if self._data.exists() else 0
        if size < end:
            raise StoreError(f"{self._data} has {size} bytes, its journal says {end}: damaged")
        if size > end:
            with explained(self._data):
                os.truncate(self._data, end)

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


def discard(folder: str | Path, shard: Shard, *, unless: Mapping[str, Any] | None = None) -> None:
    """Delete a shard's records, so that they can be written anew.

    ``unless``: job, config_hash and inputs of a writer; what was begun with the same and is not
    done stays, so that it goes on.

    Raises:
        StoreError: another process is writing it.
    """
    where = Path(folder)
    if not where.exists():
        return
    manifest = where / f"{shard.stem}.json"
    with take_lock(where, shard.stem), explained(manifest):
        if unless is not None and manifest.exists():
            old = read_json(manifest)
            if old.get("state") != "done" and all(old.get(k) == v for k, v in unless.items()):
                return
        # The manifest last: without it a journal would be taken for damage.
        for suffix in (".journal", ".jsonl", ".json"):
            (where / f"{shard.stem}{suffix}").unlink(missing_ok=True)


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
