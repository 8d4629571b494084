"""How a critique is asked for and written: data that lies as ``critic.json`` beside the weights.

The short dialect works each step out anew, then judges it, and stops at the first wrong step.
The order matters: with the verdict first, the same model trained on the same words has to judge
before it has worked anything out.

    Problem: Calculate 3 + 9 + 4.
    Step 1: 3 + 9 = 13
    Answer: 13
    Check:
    1: 3 + 9 = 12, wrong
    First error: 1

The critic writes the last two lines; the rest is the prompt.
"""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from prm.errors import SpecError
from prm.store import write_json

FILE_NAME = "critic.json"
SCHEMA = "critic/1"


@dataclasses.dataclass(frozen=True)
class Dialect:
    """The words of a critique. The defaults are the short dialect."""

    name: str = "short"
    prompt_template: str = "Problem: {problem}\n{steps}\nCheck:\n"
    """What the critic reads; ``steps`` are the solution's own lines, unchanged."""
    step_template: str = "{index}: {work},{verdict}"
    """One line a judged step."""
    final_template: str = "First error: {first_error}"
    """The last line."""
    correct: str = " correct"
    """The verdict of a right step, with its leading blank; a single token of the tokenizer."""
    wrong: str = " wrong"
    """The verdict of a wrong step; after it only the last line may follow."""
    no_error: str = "none"
    """What the last line says when every step is right."""
    index_base: int = 1
    """The number that the critique gives to the first step. Our records count from 0."""
    stop: str = "\n\n"
    """Ends generation; no critique contains it."""
    step_label: str = r"Step \d+: "
    """A regular expression: what of a step's beginning is its label and is not restated."""
    max_work_characters: int = 500
    """A longer restated step is refused."""

    def __post_init__(self) -> None:
        """Refuse templates that could not be read back."""
        for field, names in _PLACEHOLDERS.items():
            template = getattr(self, field)
            if any(template.count(f"{{{name}}}") != 1 for name in names):
                raise SpecError(f"critic: {field} {template!r} must hold each of {names} once")
        self._try_out()
        frame = re.sub(r"{\w+}", "", self.step_template + self.final_template) + self.no_error
        for word in (self.correct, self.wrong):
            if not word.strip() or "\n" in word or word.strip() in frame:
                raise SpecError(
                    f"critic: the verdict word {word!r} must be one word that occurs nowhere "
                    f"else in the lines of a critique ({self.step_template!r}, "
                    f"{self.final_template!r})"
                )
        if self.correct == self.wrong or "\n" in self.step_template + self.final_template:
            raise SpecError("critic: two different verdict words and one-line templates, please")

    def _try_out(self) -> None:
        try:
            self.prompt("", [])
            self.step_template.format(index=1, work="", verdict="")
            self.final_template.format(first_error=1)
            re.compile(self.step_label)
        except (LookupError, ValueError, re.error) as error:
            raise SpecError(f"critic: a template or pattern cannot be used: {error!r}") from error

    def prompt(self, problem: str, steps: Sequence[str]) -> str:
        """The text that the critic continues."""
        return self.prompt_template.format(problem=problem, steps="\n".join(steps))

    def work_of(self, step: str) -> str:
        """The step without its label: what a critique restates when the step is right."""
        return re.sub(rf"^(?:{self.step_label})", "", step.lstrip()).strip()

    def work_fault(self, work: str) -> str | None:
        """Why the text cannot stand in a critique's line; None if it can."""
        if not work or work != work.strip() or len(work.splitlines()) != 1:
            return "it must be one line, without blanks around it"
        if len(work) > self.max_work_characters:
            return f"it is longer than {self.max_work_characters} characters"
        if work.endswith((self.correct, self.wrong)):
            return "it ends with a verdict word"
        return None

    def save(self, folder: str | Path) -> None:
        """Write ``critic.json``."""
        write_json(Path(folder) / FILE_NAME, {"schema": SCHEMA, **dataclasses.asdict(self)})

    @classmethod
    def load(cls, folder: str | Path) -> Dialect:
        """The dialect in a folder (or in a file).

        Raises:
            SpecError: there is none, or it is not one.
        """
        path = Path(folder) / FILE_NAME if Path(folder).is_dir() else Path(folder)
        if not path.is_file():
            raise SpecError(f"{path}: no such file; a critic's folder holds its {FILE_NAME}")
        try:
            row = json.loads(path.read_text(encoding="utf-8"))
        except ValueError as error:
            raise SpecError(f"{path}: not JSON: {error}") from error
        return cls.from_json(row, str(path))

    @classmethod
    def from_json(cls, row: object, where: str) -> Dialect:
        """The dialect in a JSON object; ``where`` goes into the error.

        Raises:
            SpecError: another schema, an unknown key, a value of the wrong type.
        """
        if not isinstance(row, Mapping) or row.get("schema") != SCHEMA:
            raise SpecError(f"{where}: expected an object with schema {SCHEMA!r}")
        values: dict[str, Any] = {key: row[key] for key in row if key != "schema"}
        types = {field.name: type(field.default) for field in dataclasses.fields(cls)}
        for key, value in values.items():
            if key not in types or type(value) is not types[key]:
                raise SpecError(f"{where}: {key}={value!r} is unknown or of the wrong type")
        return cls(**values)


_PLACEHOLDERS = {
    "prompt_template": ("problem", "steps"),
    "step_template": ("index", "work", "verdict"),
    "final_template": ("first_error",),
}
