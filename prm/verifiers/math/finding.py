"""Three results, and how those of the parts make that of the whole."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable


@dataclasses.dataclass(frozen=True, slots=True)
class Finding:
    """Are two things equal? None: it cannot be told, for ``reason``."""

    equal: bool | None
    reason: str = ""


SAME = Finding(True)
DIFFERENT = Finding(False)
SYMBOLIC = Finding(None, "symbolic")
"""Exact arithmetic cannot tell: ask for algebra."""


def unsure(reason: str) -> Finding:
    """A finding that decides nothing."""
    return Finding(None, reason)


def at_most_unsure(finding: Finding, reason: str) -> Finding:
    """The finding, but where it says "equal" there is still a reason to doubt it."""
    return unsure(reason) if finding.equal else finding


def all_same(findings: Iterable[Finding]) -> Finding:
    """Equal when all are; different as soon as one is."""
    doubt = SAME
    for finding in findings:
        if finding.equal is False:
            return DIFFERENT
        if finding.equal is None and doubt.reason != SYMBOLIC.reason:
            doubt = finding
    return doubt


def any_same(findings: Iterable[Finding]) -> Finding:
    """Equal as soon as one is; different when all are (and when there are none)."""
    doubt = DIFFERENT
    for finding in findings:
        if finding.equal:
            return SAME
        if finding.equal is None and doubt.reason != SYMBOLIC.reason:
            doubt = finding
    return doubt
