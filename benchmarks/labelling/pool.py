"""Draw the real pool: solutions of a small model, and rollouts from all of their prefixes.

    python -m benchmarks.labelling.pool --output DIR        killed, or started again: goes on

The model is SmolLM2 warmed up with right chains (`benchmarks.labelling.policy`). For each seed it
solves chains of sums, sixteen times each, at temperature 0.8; the truth of the steps is computed.
Then every distinct inner prefix gets the same number of rollouts, once, however many solutions
share it: all labelers draw from this pool (`benchmarks.labelling.pooled`). The seeds take turns,
so what is there at any time is a whole pool, only smaller.

    policy/            the model
    pool.json          the settings; other ones are refused
    test.jsonl         solutions without rollouts, of other problems: what PRMs are tested on
    seed-0.jsonl ...   a line for a few problems: problems, solutions, labels, rollouts
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.labelling.chains import ANSWER_PATTERN, CHAINS
from benchmarks.labelling.policy import warmed_up
from benchmarks.labelling.pooled import Drawn, describe, read_drawn, read_pool
from benchmarks.table import say
from data_gen.arithmetic import make_problems
from data_gen.labelers.prefix import Key, key_of
from data_gen.labelers.rollouts import GeneratorRollouts
from data_gen.labelers.verdicts import wait_for
from data_gen.models import ModelConfig, load_generator, seed_of
from data_gen.prompting import load_strategy
from prm.protocols import ChatGenerator, SamplingParams
from prm.records import Problem, Solution, Usage
from prm.steps import split_steps
from prm.store import read_json, take_lock, write_json
from prm.store.files import append
from prm.verifiers import Verifiers, extract_answer

STRATEGY = Path(__file__).with_name("chains.yaml")
PARAMS = SamplingParams(temperature=0.8, max_tokens=100, stop=("\n\n",))


@dataclasses.dataclass(frozen=True)
class PoolConfig:
    """How much is drawn."""

    seeds: int = 3
    problems: int = 30
    """Of each seed; a pool can be started again with more."""
    samples: int = 16
    """Solutions a problem."""
    rollouts: int = 24
    """Of each distinct inner prefix."""
    test_problems: int = 40
    test_samples: int = 8
    problems_per_line: int = 2


class Drawer:
    """Draws solutions and rollouts from one model."""

    def __init__(self, generator: ChatGenerator, config: PoolConfig) -> None:
        """``generator`` continues texts."""
        self._generator, self._config = generator, config
        self._strategy = load_strategy(str(STRATEGY))
        self._verifiers = Verifiers({})

    def draw(self, problems: Sequence[Problem], seed: int, samples: int, rollouts: int) -> Drawn:
        """Everything of some problems; no rollouts where ``rollouts`` is 0."""
        solutions = self._sample(problems, seed, samples)
        by_id = {problem.id: problem for problem in problems}
        items = ((by_id[one.problem_id], one.final_answer) for one in solutions)
        labels = [verdict.label for verdict in self._verifiers.check_many(items)]
        drawn = Drawn(tuple(problems), tuple(solutions), tuple(labels), {})
        if rollouts:
            drawn.rollouts.update(self._roll(by_id, solutions, seed, rollouts))
        return drawn

    def _sample(self, problems: Sequence[Problem], seed: int, samples: int) -> list[Solution]:
        """Solutions with at least one step; a text without any is none."""
        prompts = [self._strategy.render(problem) for problem in problems]
        params = dataclasses.replace(PARAMS, n=samples)
        groups = self._generator.generate(prompts, params, seed=seed_of(seed, "solutions"))
        return [
            Solution(
                id=f"{problem.id}#{k}",
                problem_id=problem.id,
                steps=steps,
                final_answer=extract_answer(steps, ANSWER_PATTERN),
                finish_reason=made.finish_reason,
                strategy=self._strategy.id,
                model=self._generator.name,
                usage=Usage(made.prompt_tokens, made.generated_tokens),
            )
            for problem, group in zip(problems, groups, strict=True)
            for k, made in enumerate(group)
            if (steps := tuple(split_steps(made.text)))
        ]

    def _roll(
        self, problems: dict[str, Problem], solutions: Sequence[Solution], seed: int, count: int
    ) -> dict[Key, list[tuple[bool | None, int, str]]]:
        """Rollouts of each distinct inner prefix: (correct, tokens, text)."""
        prefixes: dict[Key, tuple[Solution, int]] = {}
        for solution in solutions:
            for step in range(len(solution.steps) - 1):
                prefixes.setdefault(key_of(solution, step), (solution, step + 1))
        source = GeneratorRollouts(
            self._generator,
            problems,
            strategy=self._strategy,
            params=PARAMS,
            answer_pattern=ANSWER_PATTERN,
            seed=seed_of(seed, "rollouts"),
            verifiers=self._verifiers,
        )
        requests = [(solution, kept, count) for solution, kept in prefixes.values()]
        groups = wait_for(source.sample_many(requests))
        return {
            key: [(one.correct, one.num_tokens, one.text or "") for one in group]
            for key, group in zip(prefixes, groups, strict=True)
        }


def pool_problems(config: PoolConfig) -> dict[str, list[Problem]]:
    """The problems by the name of their file; each occurs once."""
    train = list(make_problems({"train": config.seeds * config.problems}, seed=0, **CHAINS))
    test = list(make_problems({"test": config.test_problems}, seed=1, **CHAINS))
    seen = {problem.statement for problem in train}
    parts = {f"seed-{seed}": train[seed :: config.seeds] for seed in range(config.seeds)}
    return {**parts, "test": [problem for problem in test if problem.statement not in seen]}


def fill(folder: Path, config: PoolConfig, drawer: Drawer) -> None:
    """Draw what is missing, line by line, the seeds in turns."""
    todo = [
        (index, name, lines[index])
        for name, lines in _lines(config).items()
        for index in range(len(lines))
    ]
    for name in _lines(config):
        _cut_torn_line(folder / f"{name}.jsonl")
    for index, name, problems in sorted(todo, key=lambda one: (one[1] == "test", one[0], one[1])):
        path = folder / f"{name}.jsonl"
        if index < len(read_drawn(path)):
            continue
        begun, is_test = time.monotonic(), name == "test"
        samples = config.test_samples if is_test else config.samples
        rollouts = 0 if is_test else config.rollouts
        drawn = drawer.draw(problems, seed_of(0, name, index), samples, rollouts)
        append(path, json.dumps(drawn.to_json()) + "\n")
        seconds = time.monotonic() - begun
        say(f"pool: {name}, line {index}: {drawn.summary}, {drawn.tokens / seconds:.0f} tokens/s")


def _cut_torn_line(path: Path) -> None:
    """What a killed run left in its middle is drawn anew; only the one writer may do this."""
    if path.exists():
        text = path.read_bytes()
        path.write_bytes(text[: text.rfind(b"\n") + 1])


def _lines(config: PoolConfig) -> dict[str, list[list[Problem]]]:
    """The problems of each line; one of the test has more, as it needs no rollouts."""
    lines = {}
    for name, problems in pool_problems(config).items():
        size = 20 if name == "test" else config.problems_per_line
        lines[name] = [problems[begin : begin + size] for begin in range(0, len(problems), size)]
    return lines


def main(argv: Sequence[str] | None = None) -> None:
    """Draw the pool and say what it is like."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.labelling.pool")
    parser.add_argument("--output", type=Path, required=True)
    for field in dataclasses.fields(PoolConfig):
        parser.add_argument(
            f"--{field.name.replace('_', '-')}", type=int, default=field.default, help="%(default)s"
        )
    values = vars(parser.parse_args(argv))
    folder, config = values.pop("output"), PoolConfig(**values)
    folder.mkdir(parents=True, exist_ok=True)
    with take_lock(folder, "pool"):
        settings = dataclasses.asdict(config)
        del settings["problems"]
        check_settings(folder / "pool.json", settings)
        model = ModelConfig(model=str(warmed_up(folder / "policy")), max_rows=256)
        fill(folder, config, Drawer(load_generator(model), config))
    for line in describe(read_pool(folder)):
        say(line)


def check_settings(path: Path, settings: dict[str, Any]) -> None:
    """Keep the settings beside the pool, and refuse others.

    Raises:
        SystemExit: the pool was begun with others.
    """
    if path.exists() and (before := read_json(path)) != settings:
        raise SystemExit(f"{path} was begun with other settings: {before}; choose another folder")
    write_json(path, settings)


if __name__ == "__main__":
    main()
