"""The formats by name."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator

from data_gen.importing import (
    math_shepherd_rows,
    mr_gsm8k,
    omega_rows,
    prm800k,
    processbench,
    step_labels,
    trl_stepwise,
)
from data_gen.importing.fields import Row
from data_gen.importing.imported import Imported, Options

ReadRow = Callable[[Row, Options, str], Iterator[Imported | str]]


@dataclasses.dataclass(frozen=True, slots=True)
class Format:
    """How the rows of a set are read; ``is_test``: the set is there to measure on."""

    read_row: ReadRow
    is_test: bool = False


FORMATS: dict[str, Format] = {
    prm800k.NAME: Format(prm800k.read_row),
    math_shepherd_rows.NAME: Format(math_shepherd_rows.read_row),
    processbench.NAME: Format(processbench.read_row, is_test=True),
    mr_gsm8k.NAME: Format(mr_gsm8k.read_row, is_test=True),
    trl_stepwise.NAME: Format(trl_stepwise.read_row),
    omega_rows.NAME: Format(omega_rows.read_row),
    step_labels.NAME: Format(step_labels.read_row, is_test=True),
}
