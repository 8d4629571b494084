"""Keep the labels on which sources agree, and say how far each source can be trusted.

    found = ConsensusFilter().compare({"rollouts": by_rollouts, "judge": by_judge})
    print(found)            # in = kept + dropped (by reason), agreement, errors
    found.kept              # labelled solutions of the source named first

Rollouts and a judge that name the same first error are right far more often than either (Zhang et
al., arXiv 2501.07301, keep about 40%). What is kept is easier than what is not: the share kept, and
who agreed, stand in the result. Reading a judge as a likelihood (`BayesLabeler`) drops nothing.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Literal

from data_gen.labelers.agreement import Pair, pairs, verdict_of
from data_gen.labelers.consensus_table import as_text
from data_gen.labelers.dawid_skene import SourceError, Spoken, source_errors
from data_gen.labelers.places import leader
from prm.errors import ConfigError, RecordError
from prm.records import LabelledSolution, Opinion

Reason = Literal["missing", "undecided", "disagree"]
_BySource = Mapping[str, Mapping[str, LabelledSolution]]


@dataclasses.dataclass(frozen=True, slots=True)
class Dropped:
    """A solution that is not kept, and what each source that says anything says of it.

    ``missing``: too few sources have it. ``undecided``: too few of them say anything.
    """

    id: str
    reason: Reason
    said: dict[str, str]


@dataclasses.dataclass(frozen=True, slots=True)
class Consensus:
    """What is kept and what is not; prints as tables."""

    sources: tuple[str, ...]
    agree_on: str
    kept: tuple[LabelledSolution, ...]
    dropped: tuple[Dropped, ...]
    pairs: tuple[Pair, ...]
    errors: tuple[SourceError, ...]

    @property
    def num_in(self) -> int:
        """All solutions that any source has."""
        return len(self.kept) + len(self.dropped)

    @property
    def reasons(self) -> dict[str, int]:
        """How many were dropped, by reason."""
        return dict(sorted(Counter[str](one.reason for one in self.dropped).items()))

    def __str__(self) -> str:
        """The count, the agreement of every two sources, and the error of each."""
        head = (
            f"consensus of {', '.join(self.sources)} on the {self.agree_on.replace('_', ' ')}: "
            f"{self.num_in} in = {len(self.kept)} kept"
        )
        for reason, count in self.reasons.items():
            head += f" + {count} {reason}"
        return f"{head}\n\n{as_text(self.pairs, self.errors)}"


@dataclasses.dataclass(frozen=True)
class ConsensusFilter:
    """Keeps a solution when enough sources say the same of it, and none says otherwise."""

    agree_on: Literal["first_error", "verdict"] = "first_error"
    """first_error: the same place; verdict: that there is an error, or that there is none."""
    min_sources: int = 2
    """So many must say something; a source that says nothing is no obstacle."""
    min_share: float = 0.5
    """A source says where it puts at least this much of its belief, and no tie."""
    num_resamples: int = 200
    """Bootstrap resamples for the interval of each source's error."""
    seed: int = 0
    """Of the bootstrap."""

    def __post_init__(self) -> None:
        """Refuse settings that ask for no agreement."""
        if self.min_sources < 2:
            raise ConfigError(f"min_sources should be 2 or more, found {self.min_sources}")
        if self.agree_on not in ("first_error", "verdict"):
            raise ConfigError(f"agree_on should be first_error or verdict, found {self.agree_on!r}")

    def compare(self, sources: Mapping[str, Sequence[LabelledSolution]]) -> Consensus:
        """Compare labels of the same solutions, by the name of their source.

        Raises:
            ConfigError: fewer sources than must agree.
            RecordError: a source has a solution twice, or two have other steps under one id.
        """
        if len(sources) < self.min_sources:
            raise ConfigError(f"{len(sources)} sources for min_sources={self.min_sources}")
        by_source = {name: _by_id(name, rows) for name, rows in sources.items()}
        ids = list(dict.fromkeys(id_ for rows in by_source.values() for id_ in rows))
        kept, dropped, spoken = [], [], []
        for id_ in ids:
            rows = {name: row[id_] for name, row in by_source.items() if id_ in row}
            said = self._said(id_, rows)
            if said:
                solution = next(iter(rows.values())).solution
                spoken.append(Spoken(solution.problem_id, len(solution.steps), said))
            reason = self._reason(rows, said)
            if reason is None:
                kept.append(_merged(rows, said))
            else:
                dropped.append(Dropped(id_, reason, said))
        names = tuple(by_source)
        return Consensus(
            sources=names,
            agree_on=self.agree_on,
            kept=tuple(kept),
            dropped=tuple(dropped),
            pairs=pairs(names, [one.said for one in spoken]),
            errors=source_errors(names, spoken, num_resamples=self.num_resamples, seed=self.seed),
        )

    def _said(self, id_: str, rows: Mapping[str, LabelledSolution]) -> dict[str, str]:
        """The place that each source names, of those that name one."""
        if len({row.solution.steps for row in rows.values()}) > 1:
            raise RecordError(
                f"solution {id_!r} has other steps in {' than in '.join(rows)}: "
                "compare labels of the same solutions"
            )
        places = {name: leader(row.first_error, self.min_share) for name, row in rows.items()}
        return {name: place for name, place in places.items() if place is not None}

    def _reason(
        self, rows: Mapping[str, LabelledSolution], said: Mapping[str, str]
    ) -> Reason | None:
        """Why the solution is not kept."""
        if len(rows) < self.min_sources:
            return "missing"
        if len(said) < self.min_sources:
            return "undecided"
        read = verdict_of if self.agree_on == "verdict" else str
        return "disagree" if len({read(place) for place in said.values()}) > 1 else None


def _by_id(name: str, rows: Sequence[LabelledSolution]) -> dict[str, LabelledSolution]:
    found = {row.id: row for row in rows}
    if len(found) < len(rows):
        twice = next(id_ for id_, count in Counter(row.id for row in rows).items() if count > 1)
        raise RecordError(f"source {name!r} has solution {twice!r} more than once")
    return found


def _merged(rows: Mapping[str, LabelledSolution], said: Mapping[str, str]) -> LabelledSolution:
    """The labels of the first source that speaks, with the opinions of all and who agreed."""
    opinions = dict[str, Opinion]()
    for row in rows.values():
        opinions.update({repr(one): one for one in row.opinions})
    return dataclasses.replace(
        rows[next(iter(said))],
        labeler=f"consensus({'+'.join(said)})",
        opinions=tuple(opinions.values()),
    )
