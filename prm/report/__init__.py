"""The report that a run ends with: one self-contained HTML file.

    data = ReportData(title="Quickstart", run=RunFacts(...), methods=(...))
    write_report(data, Path("report.html"))

What a run did not measure is left out of `ReportData`, and the page says that it is missing.
"""

from prm.report.data import (
    Bin,
    CriticStatistics,
    Difference,
    Estimate,
    FirstErrorCounts,
    LabelStatistics,
    MethodCurve,
    MethodPoint,
    Published,
    Reliability,
    ReliabilityBin,
    ReportData,
    RunFacts,
    ScoredSolution,
    ScoredStep,
    Stage,
    StepMetrics,
    StepMetricsRow,
    TrainingPoint,
    TrainingRun,
)
from prm.report.html import write_report

__all__ = [
    "Bin",
    "CriticStatistics",
    "Difference",
    "Estimate",
    "FirstErrorCounts",
    "LabelStatistics",
    "MethodCurve",
    "MethodPoint",
    "Published",
    "Reliability",
    "ReliabilityBin",
    "ReportData",
    "RunFacts",
    "ScoredSolution",
    "ScoredStep",
    "Stage",
    "StepMetrics",
    "StepMetricsRow",
    "TrainingPoint",
    "TrainingRun",
    "write_report",
]
