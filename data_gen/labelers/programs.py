"""Attach to labelled steps what a program says of them, which a model wrote for each."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

from data_gen.labelers.rollouts import generate_metered
from data_gen.prompting import load_strategy
from data_gen.step_programs import PARAMS, PROMPT, program_prompt
from prm.ledger import Ledger
from prm.protocols import ChatGenerator, Generation, Prompt
from prm.records import LabelledSolution, Problem
from prm.verifiers.sandbox import Job, Sandbox, default_sandbox
from prm.verifiers.step_programs import LIMITS, ProgramCheck, check_step_by_program

# By its prompt: the problem, and the steps up to the one to check.
_Tasks = Mapping[Prompt, tuple[Problem, tuple[str, ...]]]


def require_sandbox() -> None:
    """Run an empty program, to know that programs can be run here.

    Raises:
        SandboxUnavailable: they cannot.
    """
    default_sandbox().run(Job(""), LIMITS)


def with_programs(
    labelled: Sequence[LabelledSolution],
    problems: Mapping[str, Problem],
    generator: ChatGenerator,
    *,
    seed: int = 0,
    sandbox: Sandbox | None = None,
) -> tuple[list[LabelledSolution], Ledger]:
    """The same labels with one more evidence for each step, and what that cost.

    All programs are asked for in one call; solutions that share a prefix share its programs. Hard
    labels stay what they are. A program that says nothing is no evidence, but its tokens count.

    Raises:
        SandboxUnavailable: there is no sound sandbox here.
    """
    strategy = load_strategy(PROMPT)
    tasks: dict[Prompt, tuple[Problem, tuple[str, ...]]] = {}
    rows: list[list[Prompt]] = []
    for one in labelled:
        problem, steps = problems[one.solution.problem_id], one.solution.steps
        row = [program_prompt(problem, steps, label.step, strategy) for label in one.labels]
        for prompt, label in zip(row, one.labels, strict=True):
            tasks[prompt] = problem, steps[: label.step + 1]
        rows.append(row)
    if not tasks:
        return list(labelled), Ledger()
    texts, cost = generate_metered(generator, list(tasks), PARAMS, seed)
    written = {prompt: group[0] for prompt, group in zip(tasks, texts, strict=True)}
    checks = _check(tasks, written, sandbox or default_sandbox())
    return [
        _attach(one, [(checks[prompt], written[prompt]) for prompt in row], generator.name)
        for one, row in zip(labelled, rows, strict=True)
    ], cost


def _check(
    tasks: _Tasks, written: Mapping[Prompt, Generation], sandbox: Sandbox
) -> dict[Prompt, ProgramCheck]:
    """What the programs say, as many at a time as there are cores."""

    def check(prompt: Prompt) -> ProgramCheck:
        problem, steps = tasks[prompt]
        context = problem.statement, *steps[:-1]
        return check_step_by_program(steps[-1], context, written[prompt].text, sandbox=sandbox)

    with ThreadPoolExecutor(os.cpu_count(), "prm-programs") as pool:
        return dict(zip(tasks, pool.map(check, tasks), strict=True))


def _attach(
    labelled: LabelledSolution, said: Sequence[tuple[ProgramCheck, Generation]], author: str
) -> LabelledSolution:
    labels = []
    for label, (check, program) in zip(labelled.labels, said, strict=True):
        tokens = program.generated_tokens
        evidence = check.evidence(author, tokens)
        entries = (*label.evidence, evidence) if evidence else label.evidence
        labels.append(dataclasses.replace(label, evidence=entries, tokens=label.tokens + tokens))
    spent = sum(program.generated_tokens for _, program in said)
    return dataclasses.replace(labelled, labels=tuple(labels), tokens=labelled.tokens + spent)
