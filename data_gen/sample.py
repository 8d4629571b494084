"""Sample solutions: n a problem, step-wise, from any generator.

    python -m data_gen.sample --config configs/quickstart/sample.yaml
    python -m data_gen.sample --config F --shard 3/8        one of eight shards

Batches are planned from the settings and seeded by their names, and written whole: a resumed run
gives the same records as an undisturbed one.
"""

from __future__ import annotations

import dataclasses
import time
from collections import Counter

from data_gen.console import batches, finish, progress, say
from data_gen.models import ModelConfig, load_generator, seed_of
from data_gen.prompting import load_prompt, prompt_for
from prm.config import fingerprint, operational, parse, resolved, run
from prm.ledger import Ledger
from prm.protocols import Generation, Generator, SamplingParams
from prm.records import Problem, Solution, Usage
from prm.steps import split_steps
from prm.store import Shard, StoreWriter, content_hash, read_records, unique
from prm.verifiers import extract_answer

COMMAND = "python -m data_gen.sample"


@dataclasses.dataclass(frozen=True)
class SampleConfig:
    """Settings of `data_gen.sample`."""

    problems: str = operational("runs/quickstart/problems")
    """Store of problems to solve."""
    output: str = operational("runs/quickstart/solutions")
    """Folder of the store."""
    generator: ModelConfig = dataclasses.field(default_factory=ModelConfig)
    """The model that writes the solutions."""
    strategy: str = "few_shot_arithmetic"
    """Prompt: a name in data_gen/prompts, or the path of a .txt file with {problem} in it."""
    sampling: SamplingParams = dataclasses.field(
        default_factory=lambda: SamplingParams(n=8, max_tokens=64, stop=("\n\n",))
    )
    """Samples a problem, temperature, token limit, stop strings."""
    answer_pattern: str = r"^Answer: (.+)$"
    """Regular expression; its first group in the last step is the final answer."""
    problems_per_batch: int = 16
    """A batch is made, seeded and written whole."""
    seed: int = 0
    """The same seed gives the same solutions, for the same number of shards."""
    shard: str = operational("0/1")
    """Which part of the problems: i/n."""


def main(argv: list[str] | None = None) -> None:
    """Run the job."""
    config = parse(SampleConfig, COMMAND, __doc__, argv)
    shard = Shard.parse(config.shard)
    every = unique(read_records(config.problems, Problem), config.problems)
    problems = [problem for problem in every if shard.has(problem.id)]
    writer = StoreWriter(
        config.output,
        job="sample",
        config=resolved(config),
        config_hash=fingerprint(config),
        inputs={"problems": content_hash(config.problems)},
        shard=shard,
    )
    with writer:
        plan = batches(problems, config.problems_per_batch)
        todo = [(i, batch) for i, batch in enumerate(plan) if not writer.has(f"batch-{i}")]
        if todo:
            say(f"sample: {len(todo)} of {len(plan)} batches to do")
            _sample(config, todo, writer)
    finish("sample", writer)


def _sample(
    config: SampleConfig, todo: list[tuple[int, list[Problem]]], writer: StoreWriter
) -> None:
    """Make and write the batches."""
    generator = load_generator(config.generator)
    template = load_prompt(config.strategy)
    for index, batch in progress(todo, "sample"):
        begun = time.monotonic()
        seed = seed_of(config.seed, "sample", config.shard, index)
        prompts = [prompt_for(template, problem.statement) for problem in batch]
        texts = generator.generate(prompts, config.sampling, seed=seed)
        solutions, skipped = _solutions(config, generator, batch, texts, seed)
        flat = [text for group in texts for text in group]
        cost = Ledger(
            sum(group[0].prompt_tokens for group in texts),
            sum(text.generated_tokens for text in flat),
            time.monotonic() - begun,
        )
        writer.append(f"batch-{index}", solutions, num_in=len(flat), skipped=skipped, ledger=cost)


def _solutions(
    config: SampleConfig,
    generator: Generator,
    batch: list[Problem],
    texts: list[list[Generation]],
    seed: int,
) -> tuple[list[Solution], Counter[str]]:
    """The records of a batch; a text without any step is skipped and counted."""
    sampling = dataclasses.asdict(config.sampling)
    solutions, skipped = [], Counter[str]()
    for problem, group in zip(batch, texts, strict=True):
        for k, text in enumerate(group):
            # Line breaks around a solution are no part of its first or last step.
            steps = tuple(split_steps(text.text.strip("\n")))
            if not steps:
                skipped["no_steps"] += 1
                continue
            solutions.append(
                Solution(
                    id=f"{problem.id}#{k}",
                    problem_id=problem.id,
                    steps=steps,
                    final_answer=extract_answer(steps, config.answer_pattern),
                    finish_reason=text.finish_reason,
                    strategy=config.strategy,
                    model=generator.name,
                    sampling=sampling,
                    usage=Usage(text.prompt_tokens, text.generated_tokens),
                    logprob=text.logprob,
                    seed=seed,
                )
            )
    return solutions, skipped


if __name__ == "__main__":
    run(main, COMMAND)
