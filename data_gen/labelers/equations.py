"""Attach to labelled steps which of their equations hold."""

from __future__ import annotations

import dataclasses

from prm.records import LabelledSolution
from prm.verifiers.step_checks import equation_evidence


def with_equations(labelled: LabelledSolution) -> LabelledSolution:
    """The same labels with one more evidence for each step that has equations to check.

    Hard labels stay what they are: what a false equation means for a label is for the reader of
    the evidence to say.
    """
    labels = []
    for label in labelled.labels:
        evidence = equation_evidence(labelled.solution.steps[label.step])
        entries = (*label.evidence, evidence) if evidence else label.evidence
        labels.append(dataclasses.replace(label, evidence=entries))
    return dataclasses.replace(labelled, labels=tuple(labels))
