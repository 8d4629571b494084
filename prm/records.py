"""The records that travel between the jobs, and their JSON form. Standard library only.

Identity travels in the ids: ``problem_id``, ``solution_id = problem_id#k``, step index from 0.
One JSON line a record, with the record's ``schema`` on each:

    {"schema": "problem/1", "id": "chain/0041", "statement": "Calculate 3 + 9 + 4.", ...}

Token ids are never stored: they belong to a tokenizer, and one function makes them.
"""

from __future__ import annotations

import collections.abc
import dataclasses
import functools
import typing
from collections.abc import Mapping
from typing import Any, Literal, TypeVar

from prm.errors import RecordError

Split = Literal["train", "selection", "test"]
Status = Literal["right", "wrong", "could_not_tell"]
MAX_DETAIL = 300
"""Characters of a verdict's detail."""


@dataclasses.dataclass(frozen=True, slots=True)
class Problem:
    """A problem with a known answer; ``meta`` belongs to the source that made it."""

    id: str
    statement: str
    reference_answer: str
    verifier: str
    source: str
    split: Split
    meta: dict[str, Any] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True, slots=True)
class Usage:
    """What a piece of generated text cost: tokens read and tokens written.

    ``saved_tokens``: what the limit would still have allowed when the loop guard stopped it.
    """

    prompt_tokens: int = 0
    generated_tokens: int = 0
    saved_tokens: int = 0


@dataclasses.dataclass(frozen=True, slots=True)
class Trace:
    """How the steps of a solution lie in the text that the model wrote.

    The text is ``before + steps[0] + joints[0] + steps[1] + ... + after``
    (`prm.traces.join_trace`). ``corrections`` are the indices of the steps in which the writer
    takes something back or checks it ("Wait", "Let me recheck").
    """

    before: str = ""
    joints: tuple[str, ...] = ()
    after: str = ""
    corrections: tuple[int, ...] = ()


@dataclasses.dataclass(frozen=True, slots=True)
class Solution:
    """One sampled attempt at a problem, as steps that join back to the generated text.

    ``logprob`` is the sum of the log-probabilities of the generated tokens at temperature 1.
    ``finish_reason`` is ``stop``, ``length`` or ``loop`` (it repeated itself and was stopped); a
    cut-off solution is kept, the next job decides. ``strategy`` is the prompt's name and version.
    ``trace`` is None where the steps are plain lines. ``parent`` is the solution that this one
    refines, in round ``round``.
    """

    id: str
    problem_id: str
    steps: tuple[str, ...]
    final_answer: str | None
    finish_reason: str
    strategy: str
    model: str
    sampling: dict[str, Any] = dataclasses.field(default_factory=dict)
    usage: Usage = Usage()
    logprob: float | None = None
    endpoint: str | None = None
    seed: int | None = None
    trace: Trace | None = None
    parent: str | None = None
    round: int = 0


@dataclasses.dataclass(frozen=True, slots=True)
class Verdict:
    """What a verifier says of a final answer. A failure is never a label: it is could_not_tell.

    ``reason`` is the cause in one word, for counting: no_answer, unparsed, too_long, timeout,
    memory, output_limit, crash, bad_output, or error, which is the verifier's own failure and
    always could_not_tell. ``passed`` of ``total`` tests went well, where there are tests.
    ``detail`` is for people: one line, at most 300 characters, nothing unprintable.

    Raises:
        RecordError: an error of the verifier is given as right or wrong.
    """

    status: Status
    backend: str
    seconds: float = 0.0
    detail: str = ""
    reason: str = ""
    passed: int = 0
    total: int = 0

    def __post_init__(self) -> None:
        """Make the detail safe to print and to store."""
        object.__setattr__(self, "detail", _printable(self.detail))
        if self.reason == "error" and self.status != "could_not_tell":
            raise RecordError(f"verdict {self.status}: an error of the verifier is no label")

    @property
    def label(self) -> bool | None:
        """True, False, or None where the verifier could not tell."""
        return None if self.status == "could_not_tell" else self.status == "right"


@dataclasses.dataclass(frozen=True, slots=True)
class Evidence:
    """One thing that is known about a step.

    ``kind`` is ``rollouts``, ``siblings`` (other samples through the same prefix), ``verdict``
    (the final answer itself), ``equations`` (the step's equations that hold, of those that could
    be checked), ``program`` (a program that checks the step), ``implicit`` (the log-likelihood
    ratio of two models) or ``human``. ``completer`` is who says so: a model, a checker, or the set
    that the label comes from. ``right_continuation`` is one text that followed this step and
    reached the right answer: what a right next step looks like, kept for critiques.
    ``annotator`` and ``time`` (ISO 8601) are those of a person; ``value`` is what the source said
    as a number, where it did (a rating, a ratio); ``note`` is one word on it, such as "neutral".
    """

    kind: str
    successes: int
    trials: int
    completer: str
    tokens: int = 0
    right_continuation: str | None = None
    annotator: str | None = None
    time: str | None = None
    value: float | None = None
    note: str = ""


@dataclasses.dataclass(frozen=True, slots=True)
class Opinion:
    """Where one source sees the first error of a solution.

    ``votes`` counts its answers by place: ``"none"`` or the index of a step (as a string).
    ``kind`` is ``judge`` (a model was asked), ``human``, ``program`` or ``prm``; ``author`` is
    the model, the annotator or the checker. ``tokens`` is what the answers cost, those that could
    not be read among them. ``time`` (ISO 8601) is a person's.
    """

    kind: str
    votes: dict[str, int]
    author: str
    tokens: int = 0
    time: str | None = None
    note: str = ""


@dataclasses.dataclass(frozen=True, slots=True)
class StepLabel:
    """What is known of the prefix that ends with this step.

    ``success_rate``: the chance that the completer still reaches the right answer, successes /
    trials or, where a labeler reads all counts together, its expectation. ``prefix_correct`` =
    P(this step and all before it are right). Two different quantities. None means not known, and
    such a step is masked, never guessed.
    """

    step: int
    successes: int
    trials: int
    success_rate: float | None
    prefix_correct: float | None
    hard: bool | None
    evidence: tuple[Evidence, ...] = ()
    tokens: int = 0


@dataclasses.dataclass(frozen=True, slots=True)
class LabelledSolution:
    """A solution with a label for each step.

    ``first_error`` maps ``"none"`` and step indices (as strings) to P(first error there);
    empty when nothing is known. ``completer`` is the model of the rollouts. ``root_successes`` of
    ``root_trials`` continuations of no step at all reached the right answer, the solution itself
    not counted. ``opinions`` are what sources say of the whole solution. ``tokens_by_kind`` splits
    ``tokens`` (rollouts, judge, program). ``propensity`` is the chance with which the solution was
    chosen to be labelled, ``chosen_by`` the rule. ``decoder`` names the parameters with which the
    evidence was read, where a labeler learns them.
    """

    solution: Solution
    labels: tuple[StepLabel, ...]
    first_error: dict[str, float]
    verdict: Verdict
    labeler: str
    stop_reason: str
    tokens: int = 0
    completer: str = ""
    root_successes: int = 0
    root_trials: int = 0
    opinions: tuple[Opinion, ...] = ()
    tokens_by_kind: dict[str, int] = dataclasses.field(default_factory=dict)
    propensity: float = 1.0
    chosen_by: str = "all"
    decoder: str = ""

    @property
    def id(self) -> str:
        """The solution's id: a labelled solution has no identity of its own."""
        return self.solution.id


@dataclasses.dataclass(frozen=True, slots=True)
class Critique:
    """A written judgement of a solution, up to and including its first wrong step.

    ``status`` is ``ok`` or the reason why the text could not be read; ``verdicts`` and
    ``first_error`` (0-based, None = no error) mean something only when it is ``ok``.
    ``p_correct`` is the author's probability that each judged step is right, where known.
    """

    id: str
    problem_id: str
    text: str
    status: str
    verdicts: tuple[bool, ...]
    first_error: int | None
    author: str
    p_correct: tuple[float, ...] = ()
    agrees_with_labels: bool | None = None
    usage: Usage = Usage()


Record = Problem | Solution | LabelledSolution | Critique
R = TypeVar("R", Problem, Solution, LabelledSolution, Critique)

SCHEMAS: dict[type, str] = {
    Problem: "problem/1",
    Solution: "solution/1",
    LabelledSolution: "labelled_solution/1",
    Critique: "critique/1",
}


def to_json(record: Record) -> dict[str, Any]:
    """The record as plain JSON values, its schema first."""
    return {"schema": SCHEMAS[type(record)], **dataclasses.asdict(record)}


def from_json(cls: type[R], row: object, where: str) -> R:
    """The record in ``row``; ``where`` (file and line) goes into the error.

    Raises:
        RecordError: no object, another schema, an unknown, missing or mistyped field.
    """
    if not isinstance(row, Mapping):
        raise RecordError(f"{where}: expected a JSON object, found {type(row).__name__}")
    fields = dict(row)
    schema = fields.pop("schema", None)
    name = f"{where}, id {fields.get('id', fields.get('solution', {}))!r:.80}"
    if schema != SCHEMAS[cls]:
        raise RecordError(
            f"{name}: schema is {schema!r}, expected {SCHEMAS[cls]!r}; "
            "is this the output of the right job?"
        )
    return typing.cast(R, build(cls, fields, name))


def build(cls: Any, row: Any, where: str) -> Any:
    """An instance of any dataclass from a mapping, checked field by field.

    Raises:
        RecordError: an unknown, missing or mistyped field; ``where`` is named.
    """
    if not isinstance(row, Mapping):
        raise RecordError(f"{where}: {cls.__name__} should be an object, found {row!r:.60}")
    hints = _hints(cls)
    unknown = sorted(set(row) - set(hints))
    required = {f.name for f in dataclasses.fields(cls) if _is_required(f)}
    missing = sorted(required - set(row))
    if unknown or missing:
        raise RecordError(
            f"{where}: {cls.__name__} has "
            + "; ".join(
                text
                for text in (
                    f"unknown fields {unknown}" if unknown else "",
                    f"missing fields {missing}" if missing else "",
                )
                if text
            )
        )
    return cls(**{key: _value(hints[key], row[key], f"{where}: {key}") for key in row})


@functools.cache
def _hints(cls: Any) -> dict[str, Any]:
    """The types of the fields; working them out anew took a quarter of a job's time."""
    return typing.get_type_hints(cls)


def _printable(text: str) -> str:
    """The text in one line, cut to `MAX_DETAIL`; what cannot be printed is escaped."""
    safe = "".join(
        c if c.isprintable() else c.encode("unicode_escape").decode() for c in text[:MAX_DETAIL]
    )
    is_cut = len(text) > MAX_DETAIL or len(safe) > MAX_DETAIL
    return safe[: MAX_DETAIL - 3] + "..." if is_cut else safe


def _is_required(field: dataclasses.Field[Any]) -> bool:
    return field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING


def _value(hint: Any, value: Any, where: str) -> Any:
    """The value as the hint wants it (tuples from lists, nested records), or a RecordError."""
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if dataclasses.is_dataclass(hint):
        return build(hint, value, where)
    if origin is tuple:
        if not isinstance(value, list | tuple):
            raise RecordError(f"{where} should be a list, found {value!r:.60}")
        return tuple(_value(args[0], item, f"{where}[{i}]") for i, item in enumerate(value))
    if type(None) in args:
        return None if value is None else _value(_without_none(args), value, where)
    if origin is Literal:
        if value not in args:
            raise RecordError(f"{where} should be one of {list(args)}, found {value!r:.60}")
        return value
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    expected = origin if origin in (dict, collections.abc.Mapping) else hint
    if expected is not Any and (
        not isinstance(value, expected) or (isinstance(value, bool) and expected is not bool)
    ):
        raise RecordError(
            f"{where} should be {getattr(expected, '__name__', expected)}, found {value!r:.60}"
        )
    return value


def _without_none(args: tuple[Any, ...]) -> Any:
    return next(arg for arg in args if arg is not type(None))
