"""Settings of the sampling job."""

from __future__ import annotations

import dataclasses
from typing import Any

from data_gen.models import ModelConfig
from data_gen.solutions import check_pattern
from prm.config import operational
from prm.errors import ConfigError
from prm.protocols import SamplingParams
from prm.traces import StepsFrom


@dataclasses.dataclass(frozen=True)
class SampleConfig:
    """Settings of `data_gen.sample`."""

    problems: str = operational("runs/quickstart/problems")
    """Store of problems to solve."""
    output: str = operational("runs/quickstart/solutions")
    """Folder of the store."""
    generator: ModelConfig = dataclasses.field(default_factory=ModelConfig)
    """The model that writes the solutions, and where it runs."""
    strategies: dict[str, float] = dataclasses.field(
        default_factory=lambda: {"few_shot_arithmetic": 1.0}
    )
    """Prompts and their weights: the samples are spread over them. Names of data_gen/prompts, or
    paths of .yaml files like those there."""
    refine: str = ""
    """Prompt that improves each solution, such as find_and_fix; empty = none."""
    refine_rounds: int = 0
    """How often; each round is a record of its own, linked to its parent."""
    sampling: SamplingParams = dataclasses.field(
        default_factory=lambda: SamplingParams(n=8, max_tokens=64)
    )
    """Samples a problem, temperature, token limit, stop strings."""
    steps_from: StepsFrom = "text"
    """text: each line is a step. thinking, answer: that part of a text with <think> tags, cut at
    paragraphs and turns of thought. program: the answer, cut at plan lines and blocks of code."""
    opens_thinking: bool = False
    """The model's chat template opens the thinking (QwQ, DeepSeek-R1): a text without </think> that
    reached its limit was cut off in its thoughts and has no answer. One that came to its end is an
    answer: the server has kept the thoughts to itself."""
    answer_pattern: str = r"^Answer: (.+)$"
    """Regular expression; its first group in the last step is the final answer. "boxed": the last
    \\boxed{}. "whole": all steps (programs)."""
    problems_per_batch: int = 16
    """A batch is written whole; a model in this process also makes and seeds it whole."""
    seed: int = 0
    """The same seed gives the same solutions, for the same number of shards."""
    verifiers: dict[str, dict[str, Any]] = operational(dict)
    """Settings of the verifiers that judge the answers for the summary, by name."""
    shard: str = operational("0/1")
    """Which part of the problems: i/n."""
    remake: bool = operational(False)
    """Write this shard's records anew, and ask again what was set aside. Kept answers are used.
    Interrupted, the same command goes on."""
    wandb_project: str = operational("")
    """Log progress to this project of Weights & Biases; empty = do not."""

    def __post_init__(self) -> None:
        """Refuse what would sample nothing, or read nothing off what was sampled."""
        least = {
            "problems_per_batch": self.problems_per_batch,
            "sampling.n": self.sampling.n,
            "sampling.max_tokens": self.sampling.max_tokens,
        }
        for name, value in least.items():
            if value < 1:
                raise ConfigError(f"{name} is {value}, should be 1 or more")
        check_pattern(self.answer_pattern)
