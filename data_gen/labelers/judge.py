r"""Step labels by a judge: a model is asked for the first wrong step, several times.

    JudgeLabeler(votes=5).label(pool, rollouts)
    opinions(pool, problems, generator, votes=5)
        {"gsm8k/7#0": Opinion("judge", {"2": 3, "none": 1}, "QwQ-32B", 4102, note="1 no_box")}

The task is that of ProcessBench (arXiv 2412.06559): steps tagged with their index from 0, the
answer in ``\boxed{}``, -1 for none. An answer that cannot be read is no vote: it is counted in the
opinion's note, and lowers the leader's share of the votes asked for.
"""

from __future__ import annotations

import dataclasses
import re
from collections import Counter
from collections.abc import Mapping, Sequence

from data_gen.labelers.asking import charge, generator_of, problem_of, problems_of
from data_gen.labelers.places import NONE, labelled_by_opinion
from data_gen.labelers.rollouts import generate_some
from data_gen.labelers.verdicts import own_verdicts, wait_for
from data_gen.models import seed_of
from data_gen.prompting import Strategy, load_strategy
from prm.errors import ConfigError
from prm.ledger import Ledger
from prm.protocols import ChatGenerator, Check, Generation, Prompt, Rollouts, SamplingParams
from prm.records import LabelledSolution, Opinion, Problem, Solution
from prm.verifiers.extract import extract_boxed

PROMPT = "first_error"
SAMPLING = SamplingParams(temperature=1.0, top_p=0.9, max_tokens=8192)
"""What ProcessBench votes with (its code, n = 8)."""

_INDEX = re.compile(r"(?i)(?:\\text\s*\{)?\s*(?:(?:step|paragraph)[\s_\\]*)?(-1|[0-9]{1,4})\s*\}?")
# What ends a text before its author does, and what a server could not give.
_CUT = {"length": "truncated", "loop": "loop", "error": "error"}


@dataclasses.dataclass(frozen=True)
class JudgeLabeler:
    """The steps as the majority of a model's votes sees them."""

    votes: int = 5
    """How often the model is asked about a solution."""
    min_share: float = 0.5
    """Hard labels need one place with at least this share of the votes asked for, and no tie."""
    sampling: SamplingParams = SAMPLING
    """How the answers are sampled (n comes from votes)."""
    prompt: str = PROMPT
    """A name in data_gen/prompts, or the path of a .yaml file with checks: true."""
    seed: int = 0
    """The same seed gives the same answers."""
    at_once: bool = False
    """Ask for the index alone, without any reasoning: a few tokens, for models that cannot use
    more. The answer begins inside the box."""
    generator: ChatGenerator | None = None
    """Who judges; None: the model of the rollouts."""
    problems: Mapping[str, Problem] | None = None
    """By id; None: those of the rollouts."""

    name = "judge"

    def __post_init__(self) -> None:
        """Check the settings against each other."""
        _check_votes(self.votes, self.sampling)
        if not 0 < self.min_share <= 1:
            raise ConfigError(f"min_share should be in (0, 1], found {self.min_share}")

    def label(
        self, pool: Sequence[Solution], rollouts: Rollouts, *, check: Check | None = None
    ) -> list[LabelledSolution]:
        """One labelled solution for each of the pool, in order.

        One that a budget left no room to ask about says "budget" and nothing of its steps.

        Raises:
            ConfigError: there is no model to ask, or a solution's problem is not known.
        """
        generator = generator_of(self.generator, rollouts, "JudgeLabeler")
        problems = problems_of(self.problems, rollouts, "JudgeLabeler")
        verdicts = wait_for(own_verdicts(pool, rollouts, check))
        settings = _settings(self.votes, self.sampling, self.prompt, self.seed, self.at_once)
        said, cost = _ask(pool, problems, generator, settings)
        charge(rollouts, cost)
        labelled = [
            labelled_by_opinion(
                solution,
                said.get(solution.id),
                verdict,
                labeler=self.name,
                votes_needed=self.min_share * self.votes,
            )
            for solution, verdict in zip(pool, verdicts, strict=True)
        ]
        return [
            dataclasses.replace(one, stop_reason="budget")
            if one.solution.steps and one.id not in said
            else one
            for one in labelled
        ]


def opinions(
    pool: Sequence[Solution],
    problems: Mapping[str, Problem],
    generator: ChatGenerator,
    *,
    votes: int = 5,
    sampling: SamplingParams = SAMPLING,
    prompt: str = PROMPT,
    seed: int = 0,
) -> dict[str, Opinion]:
    """What the model says of each solution, by its id; a solution without steps has no opinion.

    Nor has one that a budget left no room for. All answers are asked for in one call. Equal
    solutions of a problem are judged once: the first of them carries the tokens, so that the sum is
    what was spent.

    Raises:
        ConfigError: several votes at temperature 0, or a solution's problem is not known.
    """
    return _ask(pool, problems, generator, _settings(votes, sampling, prompt, seed))[0]


def tagged(steps: Sequence[str]) -> str:
    """The steps between tags with their indices from 0."""
    return "\n\n".join(f"<step_{i}>\n{step}\n</step_{i}>" for i, step in enumerate(steps))


def read_answer(text: str, finish_reason: str, num_steps: int) -> tuple[str | None, str]:
    r"""The place in the last ``\boxed{}``, or None and why there is none.

    Reasons: truncated, loop, error, no_box, no_index, out_of_range. A text that was cut off may
    have had more to say: it is not read.
    """
    if finish_reason in _CUT:
        return None, _CUT[finish_reason]
    inside = extract_boxed(text)
    if inside is None:
        return None, "no_box"
    match = _INDEX.fullmatch(inside)
    if match is None:
        return None, "no_index"
    index = int(match[1])
    if index >= num_steps:
        return None, "out_of_range"
    return (NONE if index < 0 else str(index)), ""


@dataclasses.dataclass(frozen=True)
class _Settings:
    params: SamplingParams
    strategy: Strategy
    seed: int
    begin: str
    """What every answer begins with, and..."""
    end: str
    """...what stopped it."""


def _settings(
    votes: int, sampling: SamplingParams, prompt: str, seed: int, at_once: bool = False
) -> _Settings:
    _check_votes(votes, sampling)
    strategy = load_strategy(prompt)
    if not strategy.checks:
        raise ConfigError(f"prompt {strategy.id} asks for no check: set checks: true in its file")
    begin, end = ("\\boxed{", "}") if at_once else ("", "")
    stop = (end,) if at_once else sampling.stop
    params = dataclasses.replace(sampling, n=votes, stop=stop)
    return _Settings(params, strategy, seed, begin, end)


def _check_votes(votes: int, sampling: SamplingParams) -> None:
    if votes < 1:
        raise ConfigError(f"votes should be 1 or more, found {votes}")
    if votes > 1 and sampling.temperature == 0:
        raise ConfigError(
            f"{votes} votes at temperature 0 are one answer, counted {votes} times: "
            "set votes: 1, or a temperature"
        )


def _ask(
    pool: Sequence[Solution],
    problems: Mapping[str, Problem],
    generator: ChatGenerator,
    settings: _Settings,
) -> tuple[dict[str, Opinion], Ledger]:
    prompts = {one.id: _prompt(one, problems, settings) for one in pool if one.steps}
    # Prompts of like length side by side: less padding in the generator's batches.
    ordered = sorted(set(prompts.values()), key=lambda prompt: (len(str(prompt)), str(prompt)))
    if not ordered:
        return {}, Ledger()
    seed = seed_of(settings.seed, "judge", settings.strategy.id)
    texts, cost = generate_some(generator, ordered, settings.params, seed)
    answers = dict(zip(ordered, texts, strict=True))
    said: dict[str, Opinion] = {}
    for solution in pool:
        group = answers[prompts[solution.id]] if solution.id in prompts else []
        if group and solution.id not in said:
            said[solution.id] = _opinion(group, len(solution.steps), generator.name, settings)
            answers[prompts[solution.id]] = [_already_paid(text) for text in group]
    return said, cost


def _prompt(solution: Solution, problems: Mapping[str, Problem], settings: _Settings) -> Prompt:
    problem = problem_of(solution, problems)
    prompt = settings.strategy.render(problem, solution=tagged(solution.steps))
    if isinstance(prompt, str):
        return prompt + settings.begin
    return dataclasses.replace(prompt, prefix=prompt.prefix + settings.begin)


def _opinion(
    texts: Sequence[Generation], num_steps: int, author: str, settings: _Settings
) -> Opinion:
    read = [
        read_answer(settings.begin + text.text + settings.end, text.finish_reason, num_steps)
        for text in texts
    ]
    unread = Counter(reason for _, reason in read if reason)
    return Opinion(
        kind="judge",
        votes=dict(sorted(Counter(place for place, _ in read if place is not None).items())),
        author=author,
        tokens=sum(text.generated_tokens for text in texts),
        note=", ".join(f"{count} {reason}" for reason, count in sorted(unread.items())),
    )


def _already_paid(text: Generation) -> Generation:
    return dataclasses.replace(text, prompt_tokens=0, generated_tokens=0)
