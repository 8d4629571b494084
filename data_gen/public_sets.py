r"""Public problem sets: where they lie on the hub, and how their rows become problems.

    gsm8k   openai/gsm8k, config main: question, answer ("... #### 18")
    math    EleutherAI/hendrycks_math, train: problem, level, type, solution ("... \boxed{5}")
            HuggingFaceH4/MATH-500, test: problem, solution, answer, subject, level, unique_id

docs/data.md has sources and licences. Rows come through `datasets`, which reads its own cache when
HF_HUB_OFFLINE=1 is set; `data_gen.prefetch` fills it.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from prm.errors import ConfigError, MissingExtraError, RecordError
from prm.records import Problem, Split
from prm.verifiers import extract_boxed

Row = Mapping[str, Any]

_MATH_SUBJECTS = (
    "algebra",
    "counting_and_probability",
    "geometry",
    "intermediate_algebra",
    "number_theory",
    "prealgebra",
    "precalculus",
)
_FILE_KINDS = {".jsonl": "json", ".jsonl.gz": "json", ".parquet": "parquet"}


@dataclasses.dataclass(frozen=True, slots=True)
class Part:
    """A part of a set that becomes one split, or train and selection."""

    name: str
    hub_id: str
    configs: tuple[str | None, ...]
    """The hub's configurations, all of which are read; None = the only one."""
    hub_split: str
    statement: str
    """The column that holds it."""
    answer: Callable[[Row], str | None]
    meta: tuple[str, ...] = ()
    """Columns that are kept, where there are any."""

    @property
    def is_test(self) -> bool:
        """Whether its problems are for measuring only."""
        return self.hub_split == "test"


def after_hashes(row: Row) -> str | None:
    """What follows the ``####`` at the end of a GSM8K answer."""
    _, hashes, answer = _text(row, "answer").rpartition("####")
    return answer.strip() if hashes else None


def stated_or_boxed(row: Row) -> str | None:
    """The answer column of MATH-500, or the last box of the solution, as in MATH."""
    if "answer" in row:
        return _text(row, "answer").strip()
    return extract_boxed(_text(row, "solution"))


_GSM8K = ("openai/gsm8k", ("main",))
SETS: dict[str, tuple[Part, ...]] = {
    "gsm8k": (
        Part("gsm8k/train", *_GSM8K, "train", "question", after_hashes),
        Part("gsm8k/test", *_GSM8K, "test", "question", after_hashes),
    ),
    "math": (
        Part(
            "math/train",
            "EleutherAI/hendrycks_math",
            _MATH_SUBJECTS,
            "train",
            "problem",
            stated_or_boxed,
            ("level", "type"),
        ),
        Part(
            "math/test",
            "HuggingFaceH4/MATH-500",
            (None,),
            "test",
            "problem",
            stated_or_boxed,
            ("level", "subject", "unique_id"),
        ),
    ),
}
"""By the name that is the source of the problems and the beginning of their ids."""


def part_names() -> list[str]:
    """Of all parts, such as ``gsm8k/train``."""
    return [part.name for parts in SETS.values() for part in parts]


def read_part(part: Part, location: str, selection_share: float) -> Iterator[Problem | str]:
    """For each row the problem, or the reason why there is none.

    ``location`` is read instead of the hub: a file, or a folder laid out as the hub's.

    Raises:
        ConfigError: the rows cannot be loaded.
        RecordError: they are rows of something else.
    """
    for config in part.configs[:1] if _file_kind(location) else part.configs:
        for row in load_rows(part, config, location):
            statement, answer = _text(row, part.statement).strip(), part.answer(row)
            if not statement:
                yield "no_statement"
            elif not answer:
                yield "no_answer"
            else:
                yield _problem(part, row, statement, answer, selection_share)


def load_rows(part: Part, config: str | None, location: str = "") -> Any:
    """The rows of one configuration, as a `datasets.Dataset`.

    Raises:
        ConfigError: they are not there; the message names the remedy.
    """
    datasets = import_datasets()
    try:
        if kind := _file_kind(location):
            files = {part.hub_split: location}
            return datasets.load_dataset(kind, data_files=files, split=part.hub_split)
        return datasets.load_dataset(location or part.hub_id, config, split=part.hub_split)
    except (OSError, ValueError, datasets.exceptions.DatasetsError) as error:
        raise ConfigError(
            f"{part.name}: {location or part.hub_id} cannot be loaded. Fetch it where the hub is "
            "reached: python -m data_gen.prefetch --config configs/qwq/prefetch.yaml; or name a "
            f"{' or '.join(_FILE_KINDS)} file under locations: {part.name}. {_first_line(error)}"
        ) from error


def import_datasets() -> Any:
    """The library, without its bars.

    Raises:
        MissingExtraError: it is not installed.
    """
    try:
        import datasets
    except ImportError as error:
        raise MissingExtraError(
            "public problem sets are read with datasets: pip install 'stepwise-prm[datagen]'"
        ) from error
    datasets.disable_progress_bars()
    return datasets


def statement_hash(statement: str) -> str:
    """12 hex digits that stay when rows change their order; line breaks do not count.

    Nothing else is evened out: problems that differ only in a sign or a bracket are different.
    """
    return hashlib.sha256(" ".join(statement.split()).encode()).hexdigest()[:12]


def split_of(problem_id: str, selection_share: float) -> Split:
    """Train or selection, by hash of the id alone."""
    digest = hashlib.sha256(f"split/{problem_id}".encode()).digest()
    share = int.from_bytes(digest[:8], "big") / 2**64
    return "selection" if share < selection_share else "train"


def _problem(part: Part, row: Row, statement: str, answer: str, selection_share: float) -> Problem:
    source = part.name.partition("/")[0]
    problem_id = f"{source}/{statement_hash(statement)}"
    return Problem(
        id=problem_id,
        statement=statement,
        reference_answer=answer,
        verifier="math",
        source=source,
        split="test" if part.is_test else split_of(problem_id, selection_share),
        meta={name: row[name] for name in part.meta if row.get(name) is not None},
    )


def _text(row: Row, column: str) -> str:
    value = row.get(column)
    if column not in row or not isinstance(value, str | None):
        raise RecordError(
            f"column {column!r} should hold text, found {value!r:.60} in a row with the columns "
            f"{sorted(row)}; is this the right set? (data_gen/public_sets.py says what each has)"
        )
    return value or ""


def _file_kind(location: str) -> str | None:
    """What reads the file; None for a folder or a hub id."""
    kinds = (kind for suffix, kind in _FILE_KINDS.items() if location.endswith(suffix))
    return next(kinds, None)


def _first_line(error: Exception) -> str:
    return f"{type(error).__name__}: {str(error).partition(chr(10))[0]:.300}"
