"""Settings of the labelling job."""

from __future__ import annotations

import dataclasses
from typing import Any, Literal

from data_gen.labelers.active import ChooseConfig
from data_gen.labelers.bayes import BayesLabeler
from data_gen.labelers.implicit import ImplicitLabeler
from data_gen.labelers.judge import SAMPLING, JudgeLabeler
from data_gen.labelers.math_shepherd import MathShepherdLabeler
from data_gen.labelers.omega import OmegaLabeler
from data_gen.labelers.program_labeler import ProgramLabeler
from data_gen.models import ModelConfig
from data_gen.solutions import check_pattern
from prm.config import operational
from prm.errors import ConfigError
from prm.generation.budget import BudgetConfig
from prm.protocols import Labeler, SamplingParams

Method = Literal["math_shepherd", "omega", "bayes", "judge", "program", "implicit"]


@dataclasses.dataclass(frozen=True)
class JudgeConfig:
    """A model that names the first wrong step."""

    model: ModelConfig | None = None
    """Who judges; null = the completer."""
    votes: int = 5
    """How often it is asked about a solution."""
    min_share: float = 0.5
    """A hard label needs one place with at least this share of the votes, and no tie."""
    sampling: SamplingParams = SAMPLING
    """How the answers are sampled (n comes from votes)."""
    prompt: str = "first_error"
    """A name in data_gen/prompts, or the path of a .yaml file with checks: true."""

    def labeler(self, seed: int) -> JudgeLabeler:
        """The labeler with these settings."""
        return JudgeLabeler(self.votes, self.min_share, self.sampling, self.prompt, seed)


@dataclasses.dataclass(frozen=True)
class ProgramConfig:
    """What can be checked by calculating."""

    equations_are_whole: bool = False
    """A step whose equations all hold is right: true of chains of arithmetic, not of words."""
    programs: bool = False
    """The completer writes a program for each step; what it confirms is right."""

    def labeler(self, seed: int) -> ProgramLabeler:
        """The labeler with these settings."""
        return ProgramLabeler(self.equations_are_whole, self.programs, seed)


@dataclasses.dataclass(frozen=True)
class ImplicitConfig:
    """The log-likelihood ratio of two models."""

    policy: str = ""
    """The model that was trained on outcomes: a folder, or a hub id."""
    reference: str = ""
    """The model that it was trained from."""
    beta: float = 0.05
    """Scale of the rewards: the one that the policy was trained with."""
    threshold: float | None = None
    """The first step with a reward below it is the first wrong one; null: no hard labels."""
    template: str = "Problem: {problem}\n"
    """Text before the first step, as the policy was trained on it."""
    separator: str = "\n"
    """Text after every step."""
    max_tokens: int = 4096
    """A longer problem with its solution is not read."""
    batch_tokens: int = operational(8192)
    """Tokens read side by side, padding included."""
    device: str | None = operational(None)
    """cpu or cuda; by default the GPU where there is one."""
    dtype: str | None = None
    """float32 or bfloat16; by default float32 on a CPU, bfloat16 on a GPU."""

    def labeler(self) -> ImplicitLabeler:
        """The labeler with these settings."""
        return ImplicitLabeler(**{f.name: getattr(self, f.name) for f in dataclasses.fields(self)})


@dataclasses.dataclass(frozen=True)
class LabelConfig:
    """Settings of `data_gen.label`."""

    problems: str = operational("runs/quickstart/problems")
    """Store of problems."""
    solutions: str = operational("runs/quickstart/solutions")
    """Store of solutions to label."""
    output: str = operational("runs/quickstart/labels")
    """Folder of the store."""
    rollouts: str = operational("")
    """Folder of the rollouts that were paid for; by default the output's name and "-rollouts".
    Another method uses those that are there, and asks only for what is missing."""
    method: Method = "math_shepherd"
    """Who labels; its settings stand in the section of that name."""
    splits: list[str] = dataclasses.field(default_factory=lambda: ["train"])
    """Label the solutions of these splits; the others are skipped and counted."""
    exhaustive_splits: list[str] = dataclasses.field(default_factory=list)
    """Splits that math_shepherd labels without early stop, whatever the method: unbiased success
    rates, for measuring calibration."""
    completer: ModelConfig = dataclasses.field(default_factory=ModelConfig)
    """The model that continues the prefixes; it is recorded in every label. One that does not
    think and does not correct what it is given shows errors best."""
    strategy: str = "few_shot_arithmetic"
    """Prompt of the rollouts: a name in data_gen/prompts, or the path of a .yaml file."""
    sampling: SamplingParams = dataclasses.field(
        default_factory=lambda: SamplingParams(max_tokens=56)
    )
    """Temperature, token limit and stop strings of the rollouts (n comes from the labeler)."""
    math_shepherd: MathShepherdLabeler = dataclasses.field(default_factory=MathShepherdLabeler)
    """Rollouts at every prefix, with early stop and reuse of sibling solutions."""
    omega: OmegaLabeler = dataclasses.field(default_factory=OmegaLabeler)
    """Binary search for the first error."""
    bayes: BayesLabeler = dataclasses.field(default_factory=BayesLabeler)
    """One posterior a solution; the next rollout where it tells most for its tokens. It learns from
    the batch: give it problems_per_batch: 500."""
    judge: JudgeConfig | None = None
    """A model that names the first wrong step: the method judge. With the method bayes its answers
    are evidence; null = none is asked."""
    program: ProgramConfig = dataclasses.field(default_factory=ProgramConfig)
    """Exact checks of the steps; no rollouts."""
    implicit: ImplicitConfig = dataclasses.field(default_factory=ImplicitConfig)
    """Log-likelihood ratio of two models; no rollouts."""
    scores: str | None = None
    """Folder of a published PRM whose step scores are evidence for the method bayes."""
    choose: ChooseConfig | None = None
    """Label a part of the solutions: those that a PRM is unsure of. null = all."""
    budget: BudgetConfig = operational(BudgetConfig)
    """What the job may spend over all its starts, completer and judge together; each shard has an
    equal part. At its end the labels are what could be known by then; started again with a larger
    budget, the job goes on with what was paid for."""
    answer_pattern: str = r"^Answer: (.+)$"
    """Regular expression; its first group in the last step is the final answer. "boxed": the last
    \\boxed{}. "whole": all steps (programs)."""
    verifiers: dict[str, dict[str, Any]] = dataclasses.field(default_factory=dict)
    """Settings of verifiers, by name: {math: {timeout_s: 3.0}}."""
    equations: bool = False
    """Add to each step's evidence which of its equations hold; hard labels stay as they are."""
    step_programs: bool = False
    """A program that the completer writes checks each step; one more piece of evidence."""
    hold_out_pairs: bool = True
    """Skip training solutions that write a held-out operand pair (arithmetic problems only)."""
    problems_per_batch: int = 24
    """A batch is labelled, seeded and written whole."""
    seed: int = 0
    """The same seed gives the same rollouts, without servers for the same number of shards."""
    shard: str = operational("0/1")
    """Which part of the problems: i/n."""

    def __post_init__(self) -> None:
        """Refuse settings that contradict each other."""
        check_pattern(self.answer_pattern)
        if self.problems_per_batch < 1:
            raise ConfigError(
                f"problems_per_batch is {self.problems_per_batch}, should be 1 or more"
            )
        for name, model in (("completer", self.completer), ("judge.model", self.judge_model)):
            if model.servers is not None and model.servers.budget != BudgetConfig():
                raise ConfigError(
                    f"{name}.servers.budget: the job has one budget for all its models; set "
                    "`budget` instead"
                )
        if self.method != "bayes" and self.scores is not None:
            raise ConfigError(f"scores are evidence for the method bayes, not for {self.method}")
        if self.method not in ("bayes", "judge") and self.judge is not None:
            raise ConfigError(f"judge is for the methods judge and bayes, not for {self.method}")

    @property
    def needs_completer(self) -> bool:
        """Whether a model continues prefixes or writes programs."""
        by_rollouts = self.method in ("math_shepherd", "omega", "bayes")
        programs = self.step_programs or (self.method == "program" and self.program.programs)
        return by_rollouts or programs or bool(self.exhaustive_splits)

    @property
    def needs_judge(self) -> bool:
        """Whether a model is asked for first errors."""
        return self.method == "judge" or (self.method == "bayes" and self.judge is not None)

    @property
    def judge_model(self) -> ModelConfig:
        """Who judges."""
        named = self.judge.model if self.judge else None
        return named or self.completer

    def labeler(self, completer: str) -> Labeler:
        """The labeler of the method; the completer's name goes into its labels."""
        match self.method:
            case "judge":
                return (self.judge or JudgeConfig()).labeler(self.seed)
            case "program":
                return self.program.labeler(self.seed)
            case "implicit":
                return self.implicit.labeler()
            case "omega":
                return dataclasses.replace(self.omega, completer=completer)
            case "bayes":
                return dataclasses.replace(self.bayes, completer=completer)
        return dataclasses.replace(self.math_shepherd, completer=completer)

    def exhaustive_labeler(self, completer: str) -> MathShepherdLabeler:
        """The labeler of the exhaustive splits."""
        return dataclasses.replace(self.math_shepherd, completer=completer, early_stop=False)
