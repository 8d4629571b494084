"""What the stub server writes when it plays a model on the own problems: their scripts.

What it begins is the right program or one with a slip, fenced, chosen by the request's hash; what
is begun goes on as the right program does, and now and then slips behind what is kept.
"""

from __future__ import annotations

from data_gen.code_problems import OwnProblem, own_problems
from prm.steps import join_steps
from prm.traces.programs import split_program
from tests.stub_answers import _write

SLIPS_ONE_IN = 16
"""Of the continuations of a right beginning, so many end in a wrong program."""
OWN = own_problems()


def fenced(program: str) -> str:
    return f"```python\n{program}\n```"


def scripts(own: OwnProblem) -> list[list[str]]:
    """The steps of the right program, then those of each with a slip."""
    programs = [own.right, *(own.with_slip(i) for i in range(len(own.wrong)))]
    return [split_program(fenced(one)) for one in programs]


def first_error(own: OwnProblem, steps: list[str]) -> int | None:
    """Where the script put the first wrong step; None in the right program."""
    right = scripts(own)[0]
    differing = [i for i, pair in enumerate(zip(right, steps, strict=True)) if pair[0] != pair[1]]
    return differing[0] if differing else None


def write_program(
    mode: str, context: tuple[str, str], digest: bytes, limit: int, think_words: int
) -> str:
    """In the place of ``tests.stub_answers._write``."""
    said, begun = context
    found = [one for one in OWN if one.statement in said]
    if not found:  # the client tries out whether the server continues a prefix
        return _write(mode, context, digest, limit, think_words)
    [own] = found
    known = scripts(own)
    if not begun:
        return join_steps(known[digest[0] % len(known)])
    kept = next(
        number
        for steps in known
        for number in range(1, len(steps) + 1)
        if join_steps(steps[:number]) + "\n" == begun
    )
    is_right = join_steps(known[0][:kept]) + "\n" == begun
    later = [one for one in known[1:] if (first_error(own, one) or 0) >= kept]
    if is_right and later and digest[0] % SLIPS_ONE_IN == 0:
        return join_steps(later[digest[1] % len(later)][kept:])
    return join_steps(known[0][kept:])
