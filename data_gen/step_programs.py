"""Ask a model for programs that check the steps of solutions, and run them in a sandbox."""

from __future__ import annotations

from collections.abc import Sequence

from data_gen.prompting import Strategy, load_strategy
from prm.protocols import ChatGenerator, Generation, Prompt, SamplingParams
from prm.records import Evidence, Problem
from prm.verifiers.sandbox import Limits, Sandbox
from prm.verifiers.step_programs import LIMITS, ProgramCheck, check_step_by_program

PROMPT = "check_program"
PARAMS = SamplingParams(temperature=0.0, max_tokens=1024)


def program_prompt(
    problem: Problem, steps: Sequence[str], index: int, strategy: Strategy | None = None
) -> Prompt:
    """The prompt for a program that checks step ``index``; later steps are not shown."""
    before = "\n".join(f"Step {i}: {step}" for i, step in enumerate(steps[:index], 1)) or "None."
    shown = (
        f"Steps before, which are taken to be right:\n\n{before}\n\n"
        f"The last step:\n\nStep {index + 1}: {steps[index]}"
    )
    return (strategy or load_strategy(PROMPT)).render(problem, solution=shown)


def program_checks(
    problem: Problem,
    steps: Sequence[str],
    generator: ChatGenerator,
    *,
    params: SamplingParams = PARAMS,
    seed: int = 0,
    sandbox: Sandbox | None = None,
    limits: Limits = LIMITS,
) -> list[list[ProgramCheck]]:
    """For each step what ``params.n`` programs said; all are asked for in one call.

    Raises:
        SandboxUnavailable: there is no sound sandbox here.
    """
    return [
        [
            check_step_by_program(
                steps[i],
                (problem.statement, *steps[:i]),
                text.text,
                sandbox=sandbox,
                limits=limits,
            )
            for text in texts
        ]
        for i, texts in enumerate(_written(problem, steps, generator, params, seed))
    ]


def program_evidence(checks: Sequence[ProgramCheck], author: str) -> Evidence | None:
    """The programs' word on one step: how many said it holds, of those that said anything."""
    said = [check.holds for check in checks if check.holds is not None]
    return Evidence("program", sum(said), len(said), author) if said else None


def _written(
    problem: Problem,
    steps: Sequence[str],
    generator: ChatGenerator,
    params: SamplingParams,
    seed: int,
) -> list[list[Generation]]:
    strategy = load_strategy(PROMPT)
    prompts = [program_prompt(problem, steps, i, strategy) for i in range(len(steps))]
    return generator.generate(prompts, params, seed=seed) if prompts else []
