"""Rows of files and of sets on the hub, one by one, each with the place that an error names.

A .jsonl or .jsonl.gz file is read line by line, a .parquet file in pieces; a .json file is one
list, and is held in memory. A folder is all its files. `org/set:split` is a set on the hub or in
the cache of `datasets`; without a split it is train.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from data_gen.hub import explained
from data_gen.importing.fields import Row, refuse
from data_gen.public_sets import import_datasets
from prm.errors import ConfigError, RecordError
from prm.store import content_hash

_SUFFIXES = (".jsonl", ".jsonl.gz", ".parquet", ".json")


def inputs_of(sources: list[str], hub_config: str) -> dict[str, str]:
    """Hashes of what will be read, for the manifest, by the names of the files.

    Raises:
        ConfigError: a file is not there, or of no kind that can be read.
    """
    hashes = {}
    for source in sources:
        if _is_local(source):
            for path in files_of(source):
                hashes[str(path)] = content_hash(path)
        else:
            hashes[source] = str(_hub_rows(source, hub_config)._fingerprint)
    return hashes


def files_of(source: str) -> list[Path]:
    """The file, or all of a folder in the order of their names.

    Raises:
        ConfigError: there is none.
    """
    path = Path(source)
    found = sorted(one for one in path.rglob("*") if one.name.endswith(_SUFFIXES))
    found = [path] if path.is_file() and path.name.endswith(_SUFFIXES) else found
    if not found:
        raise ConfigError(
            f"sources: {source} is no {', '.join(_SUFFIXES)} file and no folder with any; a set on "
            "the hub is written org/set:split"
        )
    return found


def read_rows(sources: list[str], hub_config: str) -> Iterator[tuple[str, Row | RecordError]]:
    """For each row its place (file:line) and the row, or the error of a line that is none.

    Raises:
        ConfigError: something cannot be read at all.
    """
    for source in sources:
        if not _is_local(source):
            for number, row in enumerate(_hub_rows(source, hub_config), 1):
                yield f"{source}:{number}", row
            continue
        for path in files_of(source):
            for number, row in enumerate(_file_rows(path), 1):
                yield f"{path.name}:{number}", _checked(row, f"{path.name}:{number}")


def _is_local(source: str) -> bool:
    """A path; ids of the hub have one slash, no suffix of ours, and are no folder here."""
    return (
        source.endswith(_SUFFIXES)
        or Path(source).exists()
        or source.count("/") != 1
        or source.startswith(("/", "."))
    )


def _checked(row: object, where: str) -> Row | RecordError:
    if isinstance(row, bytes):
        try:
            row = json.loads(row)
        except ValueError as error:
            return RecordError(
                f"{where}: not JSON: {error}. Is the file whole (a Git LFS pointer is not), and of "
                "the kind that its name says? Mend it, or skip the line with --on_bad_row skip"
            )
    if not isinstance(row, Mapping):
        return refuse(where, f"a row should be an object, found {row!r:.60}")
    return row


def _file_rows(path: Path) -> Iterator[object]:
    """Bytes of lines, or rows."""
    try:
        if path.name.endswith(".parquet"):
            datasets = import_datasets()
            files = {"train": str(path)}
            yield from datasets.load_dataset(
                "parquet", data_files=files, split="train", streaming=True
            )
        elif path.name.endswith(".json"):
            yield from _listed(path)
        else:
            with gzip.open(path) if path.name.endswith(".gz") else path.open("rb") as file:
                yield from (line for line in file if line.strip())
    except (OSError, EOFError) as error:
        raise ConfigError(f"sources: {path} cannot be read: {error}") from error


def _listed(path: Path) -> Iterator[object]:
    try:
        rows = json.loads(path.read_bytes())
    except ValueError as error:
        raise ConfigError(f"sources: {path} is not JSON: {error}") from error
    if not isinstance(rows, list):
        raise ConfigError(f"sources: {path} should hold one list of rows; lines want .jsonl")
    yield from rows


def _hub_rows(source: str, config: str) -> Any:
    """A `datasets.Dataset`: rows stay on the disk."""
    datasets = import_datasets()
    name, _, split = source.partition(":")
    try:
        return datasets.load_dataset(name, config or None, split=split or "train")
    except (OSError, ValueError, datasets.exceptions.DatasetsError) as error:
        raise explained(f"labels {source}", f"datasets/{name}", error) from error
