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

from prm.store.files import read_json, take_lock, write_json
from prm.store.reading import (
    content_hash,
    read_manifests,
    read_records,
    read_unique,
    unique,
)
from prm.store.shards import Shard
from prm.store.writing import StoreWriter, discard

__all__ = [
    "Shard",
    "StoreWriter",
    "content_hash",
    "discard",
    "read_json",
    "read_manifests",
    "read_records",
    "read_unique",
    "take_lock",
    "unique",
    "write_json",
]
