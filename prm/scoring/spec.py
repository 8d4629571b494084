"""A scorer describes itself: the spec that lies beside its weights as ``prm_spec.json``.

No code asks for a model's name: template, separator, head, target, aggregate and threshold are
read from here by training, scoring and everything that publishes.
"""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any, Literal

from prm.aggregate import Aggregate
from prm.errors import RecordError, SpecError
from prm.records import build

FILE = "prm_spec.json"
SCHEMA = "scorer_spec/1"
PROBLEM = "{problem}"

Head = Literal["linear", "likelihood"]
Target = Literal["success_rate", "prefix_correct", "step_correct", "other"]


@dataclasses.dataclass(frozen=True, slots=True)
class ScorerSpec:
    """How text becomes tokens, where the score is read, and what it means."""

    base_model: str
    """What the weights were trained from."""
    template: str = "Problem: {problem}\n"
    """Text before the first step; {problem} stands for the statement."""
    separator: str = "\n"
    """Text after every step; a step must not contain it. The score is read at its last token."""
    head: Head = "likelihood"
    """linear: logit = w.h + b. likelihood: the log-likelihood of the step, and the least of all
    steps so far, are added with learnt weights; the model is trained as a language model on good
    steps at the same time."""
    target: Target = "success_rate"
    """What a score predicts: success_rate = the chance that the completer still reaches the right
    answer; prefix_correct = P(this step and all before it are right)."""
    aggregate: Aggregate = "min"
    """Step scores to solution score, chosen on the selection split."""
    threshold: float = 0.5
    """The first step with a score below it is the predicted first error; chosen likewise."""
    max_tokens: int = 2048
    """A longer problem with its solution is refused."""
    chosen_on: str = "default"
    """The split on which aggregate and threshold were chosen."""
    schema: str = SCHEMA

    def __post_init__(self) -> None:
        """Refuse a spec that cannot work."""
        if self.schema != SCHEMA:
            raise SpecError(f"spec schema {self.schema!r} is not {SCHEMA!r}: another version?")
        if self.template.count(PROBLEM) != 1:
            raise SpecError(f"template {self.template!r} needs {PROBLEM} exactly once")
        if not 0 <= self.threshold <= 1:
            raise SpecError(f"threshold {self.threshold} is not in [0, 1]")
        if not self.separator:
            raise SpecError("separator is empty: the end of a step could not be found")

    def save(self, folder: str | Path) -> None:
        """Write ``prm_spec.json``."""
        text = json.dumps(dataclasses.asdict(self), indent=2, ensure_ascii=False) + "\n"
        (Path(folder) / FILE).write_text(text, encoding="utf-8")


_EXAMPLE = json.dumps(dataclasses.asdict(ScorerSpec(base_model="your/base-model")), indent=2)


def load_spec(path: str | Path) -> ScorerSpec:
    """The spec of a folder, or of a JSON file.

    Raises:
        SpecError: there is none, or it is not one of ours; says what to write.
    """
    where = Path(path)
    file = where / FILE if where.is_dir() else where
    if not file.is_file():
        raise SpecError(
            f"{file}: no scorer spec here. A scorer folder carries {FILE} beside its weights "
            "(`prm publish` writes it); for another PRM pass spec=FILE with, for example:\n"
            f"{_EXAMPLE}"
        )
    try:
        values: Any = json.loads(file.read_text(encoding="utf-8"))
        spec: ScorerSpec = build(ScorerSpec, values, str(file))
    except (ValueError, RecordError) as error:
        raise SpecError(f"{file} is not a scorer spec: {error}. An example:\n{_EXAMPLE}") from error
    return spec
