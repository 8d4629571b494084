"""The exact truth of the steps of an arithmetic problem, from the problem itself.

A problem's ``meta`` is ``{"operands": [3, 9, 4], "operators": ["+", "+"]}``. Its right solution
works from left to right, one operator a step, and the answer line is a step too:

    Step 1: 3 + 9 = 12
    Step 2: 12 + 4 = 16
    Answer: 16

The format rule. Step i must combine the running total with the next operand, by the problem's
operator, and state the right result; the last step must state the total. So these are wrong:
another pair of numbers, also where the result would lead to the right answer; a merged step
(``3 + 9 + 4 = 16``); an answer while operands are unused; any step after the answer; a line that
cannot be read. These are not: the two numbers of a ``+`` in either order; another number after
"Step"; other spaces around the symbols; one full stop at the end.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from prm.errors import RecordError

# 15 digits hold every honest number; Python refuses to read an endless one.
_NUMBER = r"(-?[0-9]{1,15})"
_EQUATION = re.compile(rf"Step [0-9]+: *{_NUMBER} *([+-]) *{_NUMBER} *= *{_NUMBER} *\.?")
_ANSWER = re.compile(rf"Answer: *{_NUMBER} *\.?")
_PAIR = re.compile(r"(?<![0-9])(-?[0-9]{1,15})[ \t]*([+-])[ \t]*(-?[0-9]{1,15})(?![0-9])")


class _Link(NamedTuple):
    """One step of the right chain: total operator operand = result."""

    total: int
    operator: str
    operand: int
    result: int


def first_error(meta: Mapping[str, Any], steps: Sequence[str]) -> int | None:
    """The 0-based index of the first wrong step, None when all are right.

    A solution that stops before its answer is judged as far as it goes: stopping is no wrong
    step. A wrong value that a later step copies rightly is no new error, and only the first
    error counts in any case.

    Raises:
        RecordError: ``meta`` does not describe such a problem.
    """
    # The steps before are right when step i is judged, so the total that they state is the
    # chain's own and each step can be held against the chain.
    chain = _chain(meta)
    total = chain[-1].result if chain else meta["operands"][0]
    for i, step in enumerate(steps):
        if i < len(chain):
            is_right = _follows(step, chain[i])
        else:
            is_right = i == len(chain) and _answers(step, total)
        if not is_right:
            return i
    return None


def problem_pairs(meta: Mapping[str, Any]) -> list[tuple[int, str, int]]:
    """The (total, operator, operand) of each step of the right chain, in step order.

    Raises:
        RecordError: ``meta`` does not describe such a problem.
    """
    return [(link.total, link.operator, link.operand) for link in _chain(meta)]


def operand_pairs(steps: Sequence[str]) -> list[tuple[int, str, int]]:
    """Every ``a + b`` or ``a - b`` written in the steps, readable lines or not, in order.

    For hold-out checks, hence generous: ``7 + 5 + 4`` gives (7, +, 5) and (5, +, 4).
    """
    pairs = []
    for step in steps:
        match = _PAIR.search(step)
        while match:
            pairs.append((int(match[1]), match[2], int(match[3])))
            match = _PAIR.search(step, match.start(3))
    return pairs


def _follows(step: str, link: _Link) -> bool:
    match = _EQUATION.fullmatch(step.strip())
    if not match:
        return False
    left, operator, right = int(match[1]), match[2], int(match[3])
    in_order = (left, right) == (link.total, link.operand)
    swapped = link.operator == "+" and (right, left) == (link.total, link.operand)
    return operator == link.operator and (in_order or swapped) and int(match[4]) == link.result


def _answers(step: str, total: int) -> bool:
    match = _ANSWER.fullmatch(step.strip())
    return match is not None and int(match[1]) == total


def _chain(meta: Mapping[str, Any]) -> list[_Link]:
    operands, operators = meta.get("operands"), meta.get("operators")
    if (
        not isinstance(operands, list | tuple)
        or not isinstance(operators, list | tuple)
        or any(type(operand) is not int for operand in operands)
        or any(operator not in ("+", "-") for operator in operators)
        or len(operands) != len(operators) + 1
    ):
        raise RecordError(
            "meta of an arithmetic problem should hold whole-number operands and one + or - "
            f"between each two, found operands {operands!r:.80} and operators {operators!r:.80}"
        )
    chain: list[_Link] = []
    total = operands[0]
    for operator, operand in zip(operators, operands[1:], strict=True):
        result = total + operand if operator == "+" else total - operand
        chain.append(_Link(total, operator, operand, result))
        total = result
    return chain
