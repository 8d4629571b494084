"""What a user must know at the end of sampling: money lost, tokens estimated, what has no answer.

It stands under ``notes`` in the manifest, and is said in the closing lines:

    lost         the ledger of what failed requests may have cost, over all starts
    estimated    how many replies told no usage
    set_aside    for each reason the words of the first request that was set aside for it
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any

from prm.generation.requests import Reply, SetAside
from prm.ledger import Ledger
from prm.prices import in_dollars
from prm.store import StoreWriter

_NO_STEPS = (
    "no_steps: a text, or the part that steps_from names, was empty; look at sampling.stop, "
    "sampling.max_tokens, steps_from and opens_thinking"
)


def note(notes: dict[str, Any], reply: Reply | SetAside) -> None:
    """Note what is to be said of a reply, if there is anything."""
    if isinstance(reply, SetAside):
        notes.setdefault("set_aside", {}).setdefault(reply.reason, reply.detail)
    elif reply.is_estimated:
        notes["estimated"] = notes.get("estimated", 0) + 1


def note_lost(notes: dict[str, Any], lost: Ledger) -> None:
    """Note what failed requests may have cost so far."""
    if lost.tokens:
        notes["lost"] = dataclasses.asdict(lost)


def lost_in_words(notes: dict[str, Any]) -> str:
    """What failed requests may have cost; empty where that is nothing."""
    lost = Ledger(**notes.get("lost", {}))
    if not lost.tokens:
        return ""
    amount = in_dollars(lost.dollars) if lost.dollars else f"{lost.tokens:,} tokens"
    return f"{amount} lost in failed requests"


def closing_lines(writer: StoreWriter) -> Iterator[str]:
    """The lines under the closing count."""
    notes, skipped = writer.notes, writer.skipped
    if writer.num_in and not writer.num_rows:
        reasons = ", ".join(f"{count} {reason}" for reason, count in sorted(skipped.items()))
        yield f"warning: no solution came of {writer.num_in} samples: {reasons}"
        if skipped["no_steps"]:
            yield f"  {_NO_STEPS}"
    for reason, detail in sorted(notes.get("set_aside", {}).items()):
        yield f"  {skipped[reason]} {reason}, for example: {' '.join(detail.split()):.300}"
    parts = [lost_in_words(notes)]
    if estimated := notes.get("estimated", 0):
        parts.append(f"{estimated:,} replies without usage: tokens estimated")
    if any(parts):
        yield f"  {'; '.join(filter(None, parts))}"
