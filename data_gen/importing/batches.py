"""Rows to records in batches, with little in memory: only what is not complete yet waits.

The same rows give the same batches, so that a job that was stopped finds what it wrote.
"""

from __future__ import annotations

import dataclasses
import hashlib
import itertools
from array import array
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Literal

import numpy as np

from data_gen.importing.formats import ReadRow
from data_gen.importing.imported import Imported, Options, reason_to_skip
from data_gen.importing.merging import merge
from data_gen.importing.sources import read_rows
from data_gen.public_sets import split_of, statement_hash
from prm.errors import RecordError
from prm.records import LabelledSolution, Problem

Key = tuple[str, tuple[str, ...]]
"""Problem id and steps."""


@dataclasses.dataclass(frozen=True)
class Reader:
    """The rows of all sources, as one format reads them."""

    sources: list[str]
    hub_config: str
    read_row: ReadRow
    options: Options
    skips_bad_rows: bool = False
    name: str = ""

    def rows(self) -> Iterator[list[Imported | str]]:
        """For each row its solutions, and the reasons why others are left out.

        Raises:
            RecordError: a bad row, unless these are skipped.
            ConfigError: something cannot be read.
        """
        for where, row in read_rows(self.sources, self.hub_config):
            try:
                if isinstance(row, RecordError):
                    raise row
                found = list(self.read_row(row, self.options, where))
            except RecordError:
                if not self.skips_bad_rows:
                    raise
                found = ["bad_row"]
            yield [self._judged(one) for one in found]

    def _judged(self, one: Imported | str) -> Imported | str:
        if isinstance(one, str):
            return one
        named = dataclasses.replace(one, source=self.name) if self.name else one
        return reason_to_skip(named) or named


def problem_id_of(one: Imported) -> str:
    """The source, and a hash of the statement: the same whatever file or row it comes from."""
    return f"{one.source}/{statement_hash(one.statement)}"


def count_repeats(reader: Reader) -> tuple[int, dict[int, int]]:
    """How many rows there are, and how often solutions occur that do so more than once.

    Eight bytes a solution: the keys of the result are hashes (`_hash`).
    """
    hashes, num_rows = array("Q"), 0
    for found in reader.rows():
        num_rows += 1
        hashes.extend(_hash(_key(one)) for one in found if isinstance(one, Imported))
    if not hashes:
        return num_rows, {}
    values, counts = np.unique(np.frombuffer(hashes, dtype=np.uint64), return_counts=True)
    again = counts > 1
    return num_rows, dict(zip(values[again].tolist(), counts[again].tolist(), strict=True))


@dataclasses.dataclass
class Batch:
    """What a piece of the rows gives."""

    problems: list[Problem] = dataclasses.field(default_factory=list)
    labelled: list[LabelledSolution] = dataclasses.field(default_factory=list)
    skipped: Counter[str] = dataclasses.field(default_factory=Counter)
    skipped_problems: Counter[str] = dataclasses.field(default_factory=Counter)
    num_rows: int = 0


class Batches:
    """Makes the batches, in the order of the rows."""

    def __init__(
        self,
        reader: Reader,
        repeats: Mapping[int, int],
        excluded: frozenset[str],
        split: Literal["train", "selection", "test", "by_hash"],
        selection_share: float,
        verifier: str,
    ) -> None:
        """``repeats`` are those of `count_repeats`, ``excluded`` hashes of statements."""
        self._reader = reader
        self._repeats = repeats
        self._excluded = excluded
        self._split = split
        self._selection_share = selection_share
        self._verifier = verifier
        self._waiting: dict[Key, list[Imported]] = {}
        self._answers: dict[str, str] = {}
        self._num_solutions: Counter[str] = Counter()

    def batches(self, size: int) -> Iterator[Batch]:
        """A batch for each ``size`` rows, and one of what still waits at the end."""
        rows = self._reader.rows()
        while piece := list(itertools.islice(rows, size)):
            batch = Batch(num_rows=len(piece))
            for one in itertools.chain.from_iterable(piece):
                self._take(one, batch)
            yield batch
        batch = Batch()
        for group in self._waiting.values():
            self._add(group, batch)
        self._waiting = {}
        yield batch

    def _take(self, one: Imported | str, batch: Batch) -> None:
        if isinstance(one, str):
            batch.skipped[one] += 1
        elif statement_hash(one.statement) in self._excluded:
            batch.skipped["excluded_problem"] += 1
        elif (total := self._repeats.get(_hash(key := _key(one)), 1)) == 1:
            self._add([one], batch)
        else:
            group = self._waiting.setdefault(key, [])
            group.append(one)
            if len(group) == total:
                self._add(self._waiting.pop(key), batch)

    def _add(self, group: list[Imported], batch: Batch) -> None:
        """Write down one solution and, when it is the first of its problem, the problem."""
        distinct = _distinct(group)
        batch.skipped.update(repeated=len(group) - len(distinct), merged=len(distinct) - 1)
        batch.skipped += Counter()  # without zeros
        first = distinct[0]
        problem_id = problem_id_of(first)
        number = self._num_solutions[problem_id]
        self._num_solutions[problem_id] += 1
        batch.labelled.append(merge(distinct, f"{problem_id}#{number}", problem_id))
        if number == 0:
            self._answers[problem_id] = first.reference_answer
            batch.problems.append(self._problem(first, problem_id))
        elif self._answers[problem_id] == first.reference_answer:
            batch.skipped_problems["same_problem"] += 1
        else:
            batch.skipped_problems["same_problem_other_answer"] += 1

    def _problem(self, one: Imported, problem_id: str) -> Problem:
        split = self._split
        rate = one.root.success_rate
        return Problem(
            id=problem_id,
            statement=one.statement,
            reference_answer=one.reference_answer,
            verifier=self._verifier,
            source=one.source,
            split=split_of(problem_id, self._selection_share) if split == "by_hash" else split,
            meta=dict(one.meta) | ({} if rate is None else {"success_rate": rate}),
        )


def _distinct(group: list[Imported]) -> list[Imported]:
    """Without what is there twice: one row, annotator and time, and the same labels.

    Rows with ids of their own are labels of their own, also where nobody signs.
    """
    seen: dict[tuple[object, ...], Imported] = {}
    for one in group:
        key = (one.row_id, one.annotator, one.time, one.said, one.final_is_right)
        seen.setdefault(key, one)
    return list(seen.values())


def _key(one: Imported) -> Key:
    return problem_id_of(one), one.steps


def _hash(key: Key) -> int:
    digest = hashlib.sha256("\x1f".join((key[0], *key[1])).encode(errors="surrogatepass"))
    return int.from_bytes(digest.digest()[:8], "big")
