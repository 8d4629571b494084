"""`check_math`: is a mathematical answer the reference? Exact arithmetic first, then algebra.

What plain reading and exact fractions can decide is decided here, in microseconds and without any
other process. The rest goes to the workers of a `MathPool`. Wrong is said only of two answers that
were both read and are unequal.
"""

from __future__ import annotations

import asyncio
import dataclasses
import time
from collections.abc import Sequence

from prm.errors import RecordError
from prm.records import Status, Verdict
from prm.verifiers.extract import extract_boxed, extract_boxed_values, extract_stated
from prm.verifiers.math.amounts import no_algebra
from prm.verifiers.math.comparing import Comparison
from prm.verifiers.math.finding import DIFFERENT, SAME, SYMBOLIC, Finding, unsure
from prm.verifiers.math.labels import without_label
from prm.verifiers.math.numbers import TooLargeError
from prm.verifiers.math.pool import MathPool, Pair, shared_pool
from prm.verifiers.math.reading import leading_choice, read
from prm.verifiers.math.remote import expressions
from prm.verifiers.math.rule import MathRule
from prm.verifiers.math.spelling import depth, even_out, without_spaces
from prm.verifiers.math.values import Choice

BACKEND = "math"
DEFAULT_RULE = MathRule()
Item = tuple[str | None, str]
"""An answer (None: there is none) and its reference."""


def check_math(
    answer: str | None,
    reference: str,
    *,
    rule: MathRule = DEFAULT_RULE,
    pool: MathPool | None = None,
) -> Verdict:
    """Right, wrong or could-not-tell, by the rule; ``pool``: None = that of this process.

    Raises:
        RecordError: the reference is empty, or too long to compare anything with.
        MissingExtraError: algebra is needed, and the libraries for it are absent.
    """
    return check_math_many([(answer, reference)], rule=rule, pool=pool)[0]


async def check_math_async(
    answer: str | None,
    reference: str,
    *,
    rule: MathRule = DEFAULT_RULE,
    pool: MathPool | None = None,
) -> Verdict:
    """As `check_math`; the event loop goes on meanwhile."""
    return await asyncio.to_thread(check_math, answer, reference, rule=rule, pool=pool)


def check_math_many(
    items: Sequence[Item], *, rule: MathRule = DEFAULT_RULE, pool: MathPool | None = None
) -> list[Verdict]:
    """A verdict for each (answer, reference), in order; algebra is done side by side.

    Raises:
        RecordError: a reference is empty or too long.
        MissingExtraError: as `check_math`.
    """
    pool = pool or shared_pool()
    verdicts: dict[Item, Verdict] = {}
    waiting: dict[Item, Pair] = {}
    for item in items:
        if item in verdicts or item in waiting:
            pool.cache.hits += 1
            continue
        found = pool.cache.get((rule, item)) or _decide(item, rule)
        if isinstance(found, Verdict):
            verdicts[item] = found
        else:
            waiting[item] = found
    began = time.perf_counter()
    for item, finding in zip(waiting, pool.judge_many(list(waiting.values())), strict=True):
        verdicts[item] = _verdict(finding, item, time.perf_counter() - began)
    for item, verdict in verdicts.items():
        pool.cache.put((rule, item), verdict)
    return [verdicts[item] for item in items]


@dataclasses.dataclass(eq=False)
class MathVerifier:
    """The verifier ``math`` of the registry; its fields are its settings."""

    rule: MathRule = DEFAULT_RULE
    """What counts as the same answer."""
    timeout_s: float = 5.0
    """Seconds for one comparison."""
    workers: int | None = None
    """Processes; None = one a core."""
    memory_mb: int = 2048
    """Memory of each process."""

    def __post_init__(self) -> None:
        """Share the process's pool where nothing else was asked for."""
        is_usual = (self.timeout_s, self.workers, self.memory_mb) == (5.0, None, 2048)
        self._own = (
            None
            if is_usual
            else MathPool(workers=self.workers, timeout_s=self.timeout_s, memory_mb=self.memory_mb)
        )

    @property
    def pool(self) -> MathPool:
        """The pool that it uses."""
        return self._own or shared_pool()

    def __call__(self, answer: str | None, reference: str) -> Verdict:
        """As `check_math`."""
        return check_math(answer, reference, rule=self.rule, pool=self.pool)

    def check_many(self, items: Sequence[Item]) -> list[Verdict]:
        """As `check_math_many`."""
        return check_math_many(items, rule=self.rule, pool=self.pool)

    def check_reference(self, reference: str) -> None:
        """Read the reference as a comparison would.

        Raises:
            RecordError: it is empty, too long, out of all proportion, or cannot be read.
        """
        text = _reference(reference, self.rule)
        try:
            value = read(text, choices=self.rule.choices, words=self.rule.words)
        except TooLargeError:
            raise RecordError(f"reference answer {reference!r:.60} is too large") from None
        if expressions(value):
            found = self.pool.unreadable(text, self.rule)
            if not found.equal:
                raise RecordError(f"reference answer {reference!r:.60}: {found.reason}")

    def close(self) -> None:
        """End its own workers; those that the whole process shares go on."""
        if self._own is not None:
            self._own.close()


def _decide(item: Item, rule: MathRule) -> Verdict | Pair:
    began = time.perf_counter()
    found = _quick(*item, rule)
    return (
        _verdict(found, item, time.perf_counter() - began) if isinstance(found, Finding) else found
    )


def _quick(answer: str | None, reference: str, rule: MathRule) -> Finding | Pair:
    """What can be found without algebra, or the evened-out pair for those who have it."""
    expected = _reference(reference, rule)
    text = _answer(answer, rule)
    if text is None:
        return unsure("no_answer")
    if len(text) > rule.max_length:
        return unsure("too_long")
    found = even_out(text)
    if not found:
        return unsure("no_answer")
    if without_spaces(found) == without_spaces(expected):
        return SAME
    if depth(found) > rule.max_depth:
        return unsure("too_long")
    try:
        finding, texts = _without_labels(expected, found, rule)
    except TooLargeError:
        return unsure("too_large")
    return (texts[1], texts[0], rule) if finding == SYMBOLIC else finding


def _without_labels(expected: str, found: str, rule: MathRule) -> tuple[Finding, tuple[str, str]]:
    """The finding, and what was compared: without the letter of "(B) 12"."""
    if not rule.choices:
        return _compare(expected, found, rule), (expected, found)
    (one, is_sure), (other, is_sure_too) = (
        without_label(expected, found),
        without_label(found, expected),
    )
    if not (is_sure and is_sure_too):
        return unsure("notation"), (expected, found)
    return _compare(one, other, rule), (one, other)


def _compare(expected: str, found: str, rule: MathRule) -> Finding:
    values = [read(text, choices=rule.choices, words=rule.words) for text in (expected, found)]
    if isinstance(values[0], Choice) and not isinstance(values[1], Choice):
        values[1] = leading_choice(found) or values[1]
    finding = Comparison(rule, no_algebra).compare(values[0], values[1])
    is_in_doubt = finding == DIFFERENT and _differ_in_separators(expected, found)
    return unsure("separators") if is_in_doubt else finding


def _differ_in_separators(one: str, other: str) -> bool:
    """1,234 and 1, 234 may be a number and a list, or not; 3,5 may be the decimal 3.5."""
    changes = ((" ", ""), (",", ""), (",", ".")) if "," in one + other else ()
    if ("," in one) != ("," in other):
        changes = (*changes, (", ", ""))
    return any(one.replace(*change) == other.replace(*change) for change in changes)


def _answer(answer: str | None, rule: MathRule) -> str | None:
    """The part of a text that is the answer: its last box, what it states, or all of it."""
    if answer is None or not answer.strip():
        return None
    boxed = extract_boxed_values(answer)
    if boxed is not None or rule.boxed == "required":
        return boxed
    return extract_stated(answer) or answer


def _reference(reference: str, rule: MathRule) -> str:
    text = even_out(extract_boxed(reference) or reference[: rule.max_length + 1])
    if not text:
        raise RecordError("reference answer is empty")
    if len(text) > rule.max_length or depth(text) > rule.max_depth:
        raise RecordError(f"reference answer {reference!r:.60} is too long or too deep")
    return text


def _verdict(found: Finding, item: Item, seconds: float) -> Verdict:
    if found.equal is not None:
        status: Status = "right" if found.equal else "wrong"
        return Verdict(status, BACKEND, seconds)
    reason, _, cause = found.reason.partition(": ")
    detail = f"{cause or reason}: {item[0]!r:.80} against {item[1]!r:.80}"
    return Verdict("could_not_tell", BACKEND, seconds, detail, reason)
