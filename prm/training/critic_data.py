"""Critiques as token ids with labels, and what must hold of them before the first step.

The rows are complete: the trainer neither tokenizes nor cuts anything. The prompt's tokens have
the label -100; the critique's tokens and the end-of-text token behind them are learnt.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Sequence
from typing import Any

from prm.critic.critic import verdict_positions
from prm.critic.dialect import Dialect
from prm.errors import RecordError, TooLongError, TrainingError
from prm.records import Critique, LabelledSolution, Problem
from prm.store import read_records, unique

IGNORED = -100


@dataclasses.dataclass(frozen=True, slots=True)
class Example:
    """A prompt and the critique that should follow it, as text."""

    id: str
    prompt: str
    critique: str
    verdicts: tuple[bool, ...]


@dataclasses.dataclass(frozen=True, slots=True)
class Row:
    """The same as token ids; ``labels`` is as long as ``input_ids``, -100 at the prompt."""

    id: str
    input_ids: list[int]
    labels: list[int]

    @property
    def prompt_ids(self) -> list[int]:
        """The tokens that are not learnt."""
        return self.input_ids[: self.labels.count(IGNORED)]


@dataclasses.dataclass(frozen=True, slots=True)
class CriticData:
    """The rows that are trained on and the count of what was not, by reason."""

    examples: list[Example]
    rows: list[Row]
    skipped: Counter[str]

    @property
    def summary(self) -> str:
        """``in = out + skipped`` in words."""
        reasons = ", ".join(f"{n} {reason}" for reason, n in sorted(self.skipped.items()))
        num_in = len(self.rows) + self.skipped.total()
        return f"in {num_in} = out {len(self.rows)} + skipped {self.skipped.total()}" + (
            f" ({reasons})" if reasons else ""
        )


def read_examples(
    critiques: str, labelled: str, problems: str, dialect: Dialect
) -> tuple[list[Example], Counter[str]]:
    """Join critiques with their solutions and problems; unusable critiques are counted.

    Raises:
        RecordError: a critique's solution or problem is in neither store.
    """
    statements = {p.id: p.statement for p in read_records(problems, Problem)}
    steps = {row.id: row.solution.steps for row in read_records(labelled, LabelledSolution)}
    examples, skipped = [], Counter[str]()
    for critique in unique(read_records(critiques, Critique), critiques):
        if critique.id not in steps or critique.problem_id not in statements:
            raise RecordError(f"critique {critique.id!r}: its solution or problem is not stored")
        if critique.status != "ok":
            skipped["could_not_tell"] += 1
        elif critique.agrees_with_labels is False:
            skipped["disagrees_with_labels"] += 1
        else:
            prompt = dialect.prompt(statements[critique.problem_id], steps[critique.id])
            examples.append(Example(critique.id, prompt, critique.text, critique.verdicts))
    return examples, skipped


def encode(example: Example, tokenizer: Any, max_length: int) -> Row:
    """The row of an example.

    Raises:
        TooLongError: it has more than ``max_length`` tokens.
    """
    prompt = list(tokenizer(example.prompt, add_special_tokens=True)["input_ids"])
    critique = list(tokenizer(example.critique, add_special_tokens=False)["input_ids"])
    critique.append(tokenizer.eos_token_id)
    if len(prompt) + len(critique) > max_length:
        raise TooLongError(
            f"{example.id}: {len(prompt) + len(critique)} tokens, max_length is {max_length}"
        )
    return Row(example.id, prompt + critique, [IGNORED] * len(prompt) + critique)


def encode_all(
    examples: Sequence[Example], skipped: Counter[str], tokenizer: Any, max_length: int
) -> CriticData:
    """The rows of all examples that are short enough.

    Raises:
        TrainingError: none is left.
    """
    data = CriticData([], [], Counter(skipped))
    for example in examples:
        try:
            data.rows.append(encode(example, tokenizer, max_length))
            data.examples.append(example)
        except TooLongError:
            data.skipped["too_long"] += 1
    if not data.rows:
        raise TrainingError(f"no critique to train on: {data.summary}")
    return data


def check_rows(data: CriticData, tokenizer: Any, max_length: int, dialect: Dialect) -> None:
    """Check every row before the first step.

    Raises:
        TrainingError: a row would teach something else than its critique.
    """
    if tokenizer.eos_token_id is None:
        raise TrainingError("the tokenizer has no end-of-text token: set its eos_token")
    for example, row in zip(data.examples, data.rows, strict=True):
        _check_learnt_span(example, row, tokenizer)
        if len(row.input_ids) > max_length:
            raise TrainingError(f"{row.id}: longer than max_length; raise it, rows are never cut")
        _check_border(example, row, tokenizer)
        _check_verdicts(example, row, tokenizer, dialect)


def check_same_prompts(data: CriticData, saved_tokenizer: Any) -> None:
    """Check that the tokenizer which will be used with the critic reads the prompts alike.

    Raises:
        TrainingError: it does not.
    """
    for example, row in zip(data.examples, data.rows, strict=True):
        if list(saved_tokenizer(example.prompt)["input_ids"]) != row.prompt_ids:
            raise TrainingError(
                f"{row.id}: the saved tokenizer encodes the prompt differently than in training; "
                "load the base with its fast tokenizer"
            )


def _check_learnt_span(example: Example, row: Row, tokenizer: Any) -> None:
    learnt = [label for label in row.labels if label != IGNORED]
    begin = len(row.labels) - len(learnt)
    if not learnt or learnt[-1] != tokenizer.eos_token_id or row.input_ids[begin:] != learnt:
        raise TrainingError(
            f"{row.id}: the learnt tokens do not end with end-of-text, so the critic would never "
            "stop; encode rows with `encode`"
        )
    if (text := tokenizer.decode(learnt[:-1])) != example.critique:
        raise TrainingError(
            f"{row.id}: the learnt tokens read {text!r:.200}, the critique is "
            f"{example.critique!r:.200}; the tokenizer does not keep this text, use another base"
        )


def _check_border(example: Example, row: Row, tokenizer: Any) -> None:
    together = list(tokenizer(example.prompt + example.critique)["input_ids"])
    if together[: len(row.prompt_ids)] != row.prompt_ids:
        raise TrainingError(
            f"{row.id}: the end of the prompt and the beginning of the critique merge into one "
            "token; change the end of the dialect's prompt_template"
        )


def _check_verdicts(example: Example, row: Row, tokenizer: Any, dialect: Dialect) -> None:
    learnt = row.input_ids[len(row.prompt_ids) :]
    texts = tokenizer.batch_decode([[token] for token in learnt])
    words = [texts[position] for position in verdict_positions(texts, dialect)]
    expected = [dialect.correct if right else dialect.wrong for right in example.verdicts]
    if words != expected:
        raise TrainingError(
            f"{row.id}: found the verdict tokens {words}, expected {expected}: each verdict must "
            "be one token at the end of its line; choose other verdict words in the dialect "
            f"({dialect.correct!r}, {dialect.wrong!r}) for this tokenizer"
        )
