r"""MATH-APS and what openr's OmegaPRM writes: the tree of a problem (arXiv:2406.06592).

    {"question": "...", "final_answer": "64", "question_id": "...", "reasoning_steps": [
        {"solution_prefix": "<question>\n\nThe roots are ...", "mc_value": 0.75}, ...]}

Each prefix begins with the question and belongs to the longest other one that it goes on from.
A path from the question to a prefix that none goes on from is a solution; the steps are what each
adds. ``mc_value`` is the share of rollouts that reach the answer; of how many is not told, so there
are no counts unless ``rollouts_per_prefix`` says so. Those trees enter a right rollout with 1.0
without a measurement of their own: a 1.0 at the end of a path has the note "unmeasured". A prefix
that occurs twice was measured twice, and has the mean.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from itertools import pairwise

from data_gen.importing.fields import Row, mappings, refuse, text, text_or
from data_gen.importing.imported import SILENT, Imported, Options, Said
from prm.verifiers import extract_boxed

NAME = "math_aps"


def read_row(row: Row, options: Options, where: str) -> Iterator[Imported | str]:
    """A solution for each path through the tree."""
    question = text(row, "question", where)
    values = _values(row, question, where)
    parents = _parents(list(values))
    inner = set(parents.values())
    if not inner:
        yield "no_steps"
    for leaf in (prefix for prefix in parents if prefix not in inner):
        yield _solution(row, _path(leaf, parents), values, options, where)


def _values(row: Row, question: str, where: str) -> dict[str, list[float]]:
    """The values of each prefix, without the white space at its end; the question is the root."""
    values: dict[str, list[float]] = defaultdict(list)
    values[question.rstrip()] = []
    for node in mappings(row, "reasoning_steps", where):
        prefix, value = text(node, "solution_prefix", where), node.get("mc_value")
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1:
            raise refuse(where, f"mc_value should be from 0 to 1, found {value!r:.60}")
        if not prefix.startswith(question.rstrip()):
            raise refuse(where, f"a prefix does not begin with the question: {prefix!r:.60}")
        values[prefix.rstrip()].append(float(value))
    return dict(values)


def _parents(prefixes: list[str]) -> dict[str, str]:
    """Of each prefix but the shortest the longest one that it goes on from."""
    parents = {}
    stack: list[str] = []
    for prefix in sorted(prefixes):
        # Sorted, all that go on from a prefix follow it at once.
        while stack and not prefix.startswith(stack[-1]):
            stack.pop()
        if stack:
            parents[prefix] = stack[-1]
        stack.append(prefix)
    return {prefix: parents[prefix] for prefix in prefixes if prefix in parents}


def _path(leaf: str, parents: dict[str, str]) -> list[str]:
    """From the question to the leaf."""
    path = [leaf]
    while path[-1] in parents:
        path.append(parents[path[-1]])
    return path[::-1]


def _solution(
    row: Row, path: list[str], values: dict[str, list[float]], options: Options, where: str
) -> Imported:
    steps = [end[len(begin) :].strip() for begin, end in pairwise(path)]
    said = [_said(values[prefix], options, where) for prefix in path]
    answer = extract_boxed(steps[-1])
    reference = text_or(row, "final_answer", where)
    if said[-1].value == 1:
        said[-1] = Said(said[-1].is_right, value=1.0, note="unmeasured", success_rate=1.0)
    return Imported(
        statement=path[0].strip(),
        steps=tuple(steps),
        said=tuple(said[1:]),
        source=NAME,
        kind="rollouts",
        author=NAME,
        row_id=text_or(row, "question_id", where),
        reference_answer=reference,
        final_answer=answer,
        final_is_right=_is_right(answer, reference, said[-1]),
        finish_reason="stop" if answer is not None else "cut",
        root=said[0],
        where=where,
    )


def _is_right(answer: str | None, reference: str, last: Said) -> bool | None:
    """What the tree says of a boxed answer: some right rollouts went on to another question."""
    if answer is None or last.value not in (0, 1):
        return None
    if last.value == 0:
        return False
    return True if answer == reference.strip() else None


def _said(values: list[float], options: Options, where: str) -> Said:
    if not values:
        return SILENT
    rate, each = sum(values) / len(values), options.rollouts_per_prefix
    is_right = True if rate > options.min_success_rate else None if rate else False
    if not each:
        return Said(is_right, value=rate, success_rate=rate)
    successes = sum(round(value * each) for value in values)
    if any(abs(round(value * each) - value * each) > 1e-6 for value in values):
        raise refuse(where, f"mc_value {values} is no share of {each}, the rollouts_per_prefix")
    return Said(is_right, successes, each * len(values), rate, success_rate=rate)
