"""What the run did: its stages and their counts, what it published, how it was configured."""

from __future__ import annotations

from prm.report.data import ReportData, Stage
from prm.report.elements import badge, details, table
from prm.report.markup import Html, join, tag
from prm.report.wording import ABSENT, count, duration, plural

HEADER = (
    "Stage",
    "Time",
    "Tokens",
    "Tokens a second",
    "Peak memory",
    "In",
    "Out",
    "Skipped",
    "in = out + skipped",
)


def stages_section(data: ReportData) -> Html | None:
    """One row a stage and a total row; the last column checks that nothing was lost."""
    if not data.stages:
        return None
    rows = [_row(stage) for stage in data.stages]
    return table("What each stage did", HEADER, rows, left=(0, 7, 8), foot=_total(data.stages))


def total_tokens(stages: tuple[Stage, ...]) -> int:
    """Tokens of all stages that count tokens."""
    return sum(stage.tokens or 0 for stage in stages)


def total_seconds(stages: tuple[Stage, ...]) -> float:
    """Seconds of all stages."""
    return sum(stage.seconds for stage in stages)


def _row(stage: Stage) -> list[str]:
    unit = f" {stage.unit}" if stage.unit else ""
    reasons = [f"{count(n)} {reason}" for reason, n in stage.skipped.items() if n]
    return [
        stage.name,
        duration(stage.seconds),
        count(stage.tokens),
        count(stage.tokens_per_second),
        _memory(stage.peak_memory_mb),
        f"{count(stage.num_in)}{unit}",
        count(stage.num_out),
        ", ".join(reasons) or "none",
        _conservation(stage),
    ]


def _memory(megabytes: float | None) -> str:
    return ABSENT if megabytes is None else f"{count(megabytes)} MB"


def _conservation(stage: Stage) -> Html:
    skipped = sum(stage.skipped.values())
    numbers = f"{count(stage.num_in)} = {count(stage.num_out)} + {count(skipped)} "
    if stage.num_missing == 0:
        return join(numbers, badge("✓ holds", "right"))
    return join(
        numbers.replace("=", "≠"),
        badge(f"✗ {count(abs(stage.num_missing))} unaccounted", "wrong"),
    )


def _total(stages: tuple[Stage, ...]) -> list[str]:
    broken = sum(stage.num_missing != 0 for stage in stages)
    memory = max((s.peak_memory_mb for s in stages if s.peak_memory_mb is not None), default=None)
    # In and out are counted in another unit by each stage: their sums would mean nothing.
    check = (
        badge(f"✗ broken in {plural(broken, 'stage')}", "wrong")
        if broken
        else badge(f"✓ holds in all {len(stages)}", "right")
    )
    skipped = sum(sum(stage.skipped.values()) for stage in stages)
    tokens = count(total_tokens(stages))
    time = duration(total_seconds(stages))
    return ["Total", time, tokens, "", _memory(memory), "", "", f"{count(skipped)} in all", check]


def published_section(data: ReportData) -> Html | None:
    """Where the scorer lies and how to load it."""
    if data.published is None:
        return None
    return join(
        tag("p", "The scorer lies in ", tag("code", data.published.path), ". To score with it:"),
        tag("pre", tag("code", data.published.example.strip("\n")), tabindex="0"),
    )


def configs_section(data: ReportData) -> Html | None:
    """The resolved configuration of each job, folded."""
    if not data.configs:
        return None
    return join(
        *(
            details(name, tag("pre", text.strip("\n"), tabindex="0"))
            for name, text in data.configs.items()
        )
    )
