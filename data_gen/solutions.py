"""From a generated text to a `Solution`: steps, final answer, how it lies in the text."""

from __future__ import annotations

import dataclasses
import re
from typing import Any

from data_gen.drafts import Draft, solution_part
from prm.errors import ConfigError
from prm.generation.requests import Reply
from prm.protocols import Generation
from prm.records import Solution, Trace, Usage
from prm.traces import StepsFrom, find_answer, find_thinking, split_trace
from prm.verifiers import extract_answer
from prm.verifiers.extract import BOXED, WHOLE


@dataclasses.dataclass(frozen=True)
class Reader:
    """Reads solutions; what it does not read off the text goes into every record."""

    model: str
    sampling: dict[str, Any]
    steps_from: StepsFrom
    opens_thinking: bool
    answer_pattern: str
    endpoint: str | None = None

    def solution(self, draft: Draft, reply: Reply, seed: int | None) -> Solution | None:
        """The record, or None when the text has no step."""
        made = reply.generation
        steps, trace, answer = self._read(made, draft)
        if not steps:
            return None
        return Solution(
            id=draft.solution_id,
            problem_id=draft.problem.id,
            steps=steps,
            final_answer=answer,
            finish_reason=made.finish_reason,
            strategy=draft.strategy,
            model=self.model,
            sampling=self.sampling,
            usage=Usage(made.prompt_tokens, made.generated_tokens, made.saved_tokens),
            logprob=made.logprob,
            endpoint=self.endpoint,
            seed=seed,
            trace=trace,
            parent=draft.parent,
            round=draft.round,
        )

    def said(self, draft: Draft, made: Generation) -> str:
        """The solution as it is shown for refinement: what a model said after its thoughts.

        All of the text where the thoughts are closed and nothing follows, or there are none; empty
        where it was cut off in its thoughts.
        """
        text, is_open = made.text, self._is_open(made)
        begin = solution_part(text, is_open=is_open) if draft.round else 0
        thinking = find_thinking(text, is_open=is_open)
        if not begin and thinking is not None and thinking[1] == len(text):
            return ""
        return text[begin or find_answer(text, is_open=is_open) :].strip() or text.strip()

    def _is_open(self, made: Generation) -> bool:
        """Whether the text begins inside the thoughts.

        A text without tags that came to its end is an answer: the server has kept the thoughts.
        """
        was_stopped = made.finish_reason in ("length", "loop")
        return self.opens_thinking and (was_stopped or find_thinking(made.text) is not None)

    def _read(
        self, made: Generation, draft: Draft
    ) -> tuple[tuple[str, ...], Trace | None, str | None]:
        """Steps, their place in the text, and the final answer."""
        text, is_open = made.text, self._is_open(made)
        begin = solution_part(text, is_open=is_open) if draft.round else 0
        # What stands behind "New solution:" is said, not thought.
        is_open = is_open and not begin
        # Line breaks around a solution are no part of its first or last step.
        part = text[begin:].strip("\n")
        thinking = find_thinking(part, is_open=is_open)
        is_cut_off = thinking is not None and thinking[1] == len(part)
        steps, trace = split_trace(part, self.steps_from, is_open=is_open)
        said = steps
        if self.steps_from == "thinking":
            said = split_trace(part, "answer", is_open=is_open)[0] or steps
        answer = None if is_cut_off else extract_answer(said, self.answer_pattern)
        if self.steps_from == "text" and not begin:
            return steps, None, answer
        first = text.index(part, begin)
        around = text[:first] + trace.before, trace.after + text[first + len(part) :]
        return steps, dataclasses.replace(trace, before=around[0], after=around[1]), answer


def check_pattern(pattern: str) -> None:
    """Refuse an ``answer_pattern`` that finds nothing.

    Raises:
        ConfigError: it is neither "boxed", "whole" nor a regular expression with a group.
    """
    try:
        has_group = pattern in (BOXED, WHOLE) or re.compile(pattern).groups > 0
    except re.error as error:
        raise ConfigError(f"answer_pattern {pattern!r} is no regular expression: {error}") from None
    if not has_group:
        raise ConfigError(
            f"answer_pattern {pattern!r} has no group: put the answer in brackets, as in "
            r"'^Answer: (.+)$', or say 'boxed' or 'whole'"
        )
