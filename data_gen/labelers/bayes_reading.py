"""Keep the posteriors of a pool true while evidence comes in."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from data_gen.labelers.bayes_model import LEVELS, Array, Hyper
from data_gen.labelers.bayes_posterior import (
    Evidence,
    Posterior,
    Reader,
    emissions,
    posterior,
    roots,
)

_MAX_CELLS = 4_000_000
"""Numbers in one array of foretold outcomes: long solutions are read few at a time."""


class PoolReader:
    """Reads the solutions of a pool in parts of like length, each with its siblings' messages."""

    def __init__(self, hyper: Hyper, evidence: Evidence) -> None:
        """All messages are worked out once."""
        self.evidence = evidence
        self.hyper = hyper
        self._said = np.zeros((len(evidence.lengths), len(LEVELS)))
        self.use(hyper)

    def use(self, hyper: Hyper) -> None:
        """Read with other parameters from now on."""
        self.hyper = hyper
        self._reader = Reader(hyper, [int(n) for n in np.unique(self.evidence.lengths)])
        everyone = np.arange(len(self.evidence.lengths))
        for part in parts(everyone, self.evidence.lengths, 0):
            cropped = self.evidence.rows(part)
            emit = emissions(cropped, hyper, 0)
            self._said[part] = self._reader.messages(cropped, emit).root

    def read(self, index: Array, ahead: int) -> Iterator[tuple[Array, Posterior]]:
        """The posteriors of these solutions, part by part."""
        for part in parts(index, self.evidence.lengths, ahead):
            cropped = self.evidence.rows(part)
            emit = emissions(cropped, self.hyper, ahead)
            said = self._reader.messages(cropped, emit)
            self._said[part] = said.root
            root = roots(self.evidence.groups, self._said, self.hyper.root_prior)[part]
            yield part, posterior(self._reader, cropped, root, said, emit)


def parts(index: Array, lengths: Array, ahead: int) -> Iterator[Array]:
    """The solutions in parts that fit in memory, those of like length together."""
    order = index[np.argsort(lengths[index], kind="stable")]
    begin = 0
    while begin < len(order):
        end, room = begin, _MAX_CELLS
        while end < len(order):
            width = int(lengths[order[end]]) + 1
            cells = width * width * (ahead + 1) + width * len(LEVELS) * (ahead + 3)
            if end > begin and cells * (end - begin + 1) > room:
                break
            end += 1
        yield order[begin:end]
        begin = end
