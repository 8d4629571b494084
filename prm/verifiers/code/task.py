r"""What a program is asked to do, and the tests that its answers must pass.

As the reference of a problem, a task is JSON; values other than JSON's own are tagged
(`prm.verifiers.sandbox.values`):

    {"kind": "call", "entry": "add", "tests": [{"args": [1, 2], "expected": 3}, ...]}
    {"kind": "stdio", "tests": [{"stdin": "1 2\n", "expected": "3\n"}, ...],
     "compare": {"abs_tol": 1e-6}, "wall_s": 2.0}
"""

from __future__ import annotations

import dataclasses
import json
from typing import Any, Literal

from prm.errors import RecordError
from prm.records import build
from prm.verifiers.code.compare import EXACT, Compare, compare, compare_text
from prm.verifiers.sandbox.values import TAG, decode, encode, to_json

MAX_REFERENCE = 16 << 20
"""Characters of a reference, and bytes of the output that it expects."""


@dataclasses.dataclass(frozen=True, slots=True)
class CallTest:
    """The entry, called with these arguments, returns this value."""

    expected: Any
    args: tuple[Any, ...] = ()
    kwargs: dict[str, Any] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True, slots=True)
class StdioTest:
    """The program, given this text to read, prints that one."""

    expected: str
    stdin: str = ""


Test = CallTest | StdioTest


@dataclasses.dataclass(frozen=True, slots=True)
class CodeTask:
    """A program's tests. ``entry`` is ``"name"`` or ``"Class.method"``, for calls only.

    ``wall_s`` replaces the verifier's limit: all calls together, or each printed test, may take so
    long. A constant program must not pass, so with two tests or more not all may expect the same,
    unless ``allow_constant``.

    Raises:
        RecordError: the tests cannot be used.
    """

    kind: Literal["call", "stdio"]
    tests: tuple[Test, ...]
    entry: str | None = None
    compare: Compare = EXACT
    wall_s: float | None = None
    allow_constant: bool = False
    output_bytes: int = dataclasses.field(init=False, repr=False, compare=False)
    """What the expected values take on their way out of the sandbox, in one launch."""

    def __post_init__(self) -> None:
        """Refuse what could not be checked."""
        wanted = CallTest if self.kind == "call" else StdioTest
        if not self.tests or not all(isinstance(test, wanted) for test in self.tests):
            raise RecordError(f"code task: one {wanted.__name__} or more is needed")
        if (self.kind == "call") != bool(self.entry):
            raise RecordError(f"code task: kind {self.kind!r} with entry {self.entry!r:.60}")
        if self.entry and not all(part.isidentifier() for part in self.entry.split(".")):
            raise RecordError(f"code task: entry {self.entry!r:.60} is no name")
        if self.wall_s is not None and not 0 < self.wall_s <= 600:
            raise RecordError(f"code task: wall_s {self.wall_s} is not above 0 and up to 600")
        self._check_expected()
        for index, test in enumerate(self.tests):
            _check_arguments(test, f"code task: test {index}")
        size = _output_bytes(self.tests)
        if size > MAX_REFERENCE:
            raise RecordError(f"code task: {size} bytes are expected, more than {MAX_REFERENCE}")
        object.__setattr__(self, "output_bytes", size)

    def _check_expected(self) -> None:
        for index, test in enumerate(self.tests):
            if not self._equal(test.expected, test.expected):
                raise RecordError(
                    f"code task: the expected value of test {index} does not equal itself: "
                    f"{test.expected!r:.60}; is it NaN, or of a type that cannot travel?"
                )
        first, *others = (test.expected for test in self.tests)
        if others and not self.allow_constant and all(self._equal(first, it) for it in others):
            raise RecordError(
                f"code task: all {len(self.tests)} tests expect the same, so a constant would "
                "pass; add a test with another answer, or set allow_constant"
            )

    def _equal(self, left: Any, right: Any) -> bool:
        if self.kind == "stdio":
            return compare_text(left, right, self.compare)
        try:
            return compare(left, right, self.compare)
        except ValueError as err:
            raise RecordError(f"code task: expected value: {err}") from err

    @classmethod
    def from_reference(cls, reference: str) -> CodeTask:
        """The task in a problem's reference answer.

        Raises:
            RecordError: it is no task, or one whose tests cannot be used.
        """
        if len(reference) > MAX_REFERENCE:
            raise RecordError(f"code task: longer than {MAX_REFERENCE} characters")
        try:
            row = json.loads(reference)
        except (ValueError, RecursionError) as err:
            raise RecordError(f"code task: no JSON: {err}; it begins {reference!r:.60}") from err
        if not isinstance(row, dict) or row.get("kind") not in ("call", "stdio"):
            raise RecordError('code task: kind should be "call" or "stdio"')
        tests = row.pop("tests", None)
        if not isinstance(tests, list):
            raise RecordError("code task: tests should be a list")
        rest: _Fields = build(_Fields, row, "code task")
        values = {f.name: getattr(rest, f.name) for f in dataclasses.fields(_Fields)}
        return cls(tests=_tests(rest.kind, tests), **values)

    def to_reference(self) -> str:
        """The task as a problem's reference answer; `from_reference` reads it."""
        row = {f.name: getattr(self, f.name) for f in dataclasses.fields(_Fields)}
        row["compare"] = dataclasses.asdict(self.compare)
        row["tests"] = [_test_row(test) for test in self.tests]
        return json.dumps(row)


@dataclasses.dataclass(frozen=True, slots=True)
class _Fields:
    """The fields of a task beside its tests, as they stand in JSON."""

    kind: Literal["call", "stdio"]
    entry: str | None = None
    compare: Compare = EXACT
    wall_s: float | None = None
    allow_constant: bool = False


def _tests(kind: str, rows: list[Any]) -> tuple[Test, ...]:
    places = [f"code task: test {index}" for index in range(len(rows))]
    if kind == "stdio":
        return tuple(build(StdioTest, r, where) for r, where in zip(rows, places, strict=True))
    return tuple(_call_test(row, where) for row, where in zip(rows, places, strict=True))


def _call_test(row: Any, where: str) -> CallTest:
    test: CallTest = build(CallTest, row, where)
    if TAG in test.kwargs:
        raise RecordError(f"{where}: kwargs should be a plain object")
    try:
        kwargs = {key: decode(value) for key, value in test.kwargs.items()}
        return CallTest(decode(test.expected), tuple(decode(list(test.args))), kwargs)
    except (ValueError, TypeError) as err:
        raise RecordError(f"{where}: {err}") from err


def _check_arguments(test: Test, where: str) -> None:
    """Refuse arguments that would not arrive: that would look like the program's fault."""
    if isinstance(test, CallTest):
        try:
            decode(encode([list(test.args), test.kwargs]))
        except ValueError as err:
            raise RecordError(f"{where}: an argument cannot travel: {err}") from err


def _output_bytes(tests: tuple[Test, ...]) -> int:
    """Printed tests have a launch each, all calls have one together."""
    printed = [_size(test.expected) for test in tests if isinstance(test, StdioTest)]
    returned = [
        _size(to_json({"call": index, "value": encode(test.expected)})) + 1
        for index, test in enumerate(tests)
        if isinstance(test, CallTest)
    ]
    return max([sum(returned), *printed])


def _size(text: str) -> int:
    return len(text.encode("utf-8", "surrogatepass"))


def _test_row(test: Test) -> dict[str, Any]:
    if isinstance(test, StdioTest):
        return dataclasses.asdict(test)
    kwargs = {key: encode(value) for key, value in test.kwargs.items()}
    return {"expected": encode(test.expected), "args": encode(list(test.args)), "kwargs": kwargs}
