"""Progress of sampling: rate, tokens, cost, time left and failures, on screen and in wandb."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any

from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
from rich.table import Table
from rich.text import Text

from data_gen.console import console, say
from prm.errors import MissingExtraError
from prm.ledger import Ledger

if TYPE_CHECKING:
    from prm.generation.server import ServerSampler

_SCREEN_SECONDS = 0.5
_LINE_SECONDS = 30.0


class SamplingProgress:
    """Counts samples as they are asked for and written.

    On a terminal a bar and a line under it; elsewhere a line every 30 seconds and one at the end.
    """

    def __init__(
        self,
        total: int,
        *,
        done: int = 0,
        wandb_project: str = "",
        settings: dict[str, Any] | None = None,
    ) -> None:
        """``done`` samples of ``total`` were written by earlier starts."""
        self.total, self.written = total, done
        self._first = done
        self._in_process = Ledger()
        self._shown = time.monotonic()
        self._sampler: ServerSampler | None = None
        self._begun = time.monotonic()
        self._run = _start_wandb(wandb_project, settings or {}) if wandb_project else None

    def watch(self, sampler: ServerSampler) -> None:
        """Take replies, cost and faults from this sampler."""
        self._sampler = sampler

    def wrote(self, num_samples: int, cost: Ledger) -> None:
        """A batch of samples is safely written."""
        self.written += num_samples
        self._in_process += cost
        # A model in this process leaves the ticker no time.
        if self._sampler is None and time.monotonic() - self._shown > _LINE_SECONDS:
            self._log()

    @contextlib.asynccontextmanager
    async def shown(self) -> AsyncIterator[None]:
        """Show it while the block runs."""
        ticker = asyncio.create_task(self._tick())
        try:
            yield
        finally:
            ticker.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await ticker
            self._log()
            if self._run is not None:
                self._run.finish()

    def facts(self) -> dict[str, float]:
        """What is shown, as numbers."""
        seconds = max(1e-9, time.monotonic() - self._begun)
        counts = self._sampler.counts if self._sampler else None
        cost = counts.ledger if counts else self._in_process
        asked = counts.replies if counts else self.written - self._first
        reached = max(self.written, self._first + asked) if counts else self.written
        facts = {
            "samples_written": self.written,
            "samples_per_second": asked / seconds,
            "tokens_per_second": cost.generated_tokens / seconds,
            "generated_tokens": cost.generated_tokens,
            "dollars": cost.dollars + (counts.lost.dollars if counts else 0.0),
            "seconds_left": self._seconds_left(seconds, reached),
        }
        if self._sampler and counts:
            facts |= {
                "replies": counts.replies,
                "from_store": counts.from_store,
                "set_aside": counts.set_aside,
                "loops": counts.loops,
                "faults": counts.faults.total(),
                "in_flight": self._sampler.pool.in_flight,
            }
            facts |= {f"faults/{kind}": count for kind, count in counts.faults.items()}
        return facts

    def line(self) -> str:
        """``480 samples/s, 12,000 tokens/s, $1.20, 3:20 left, in flight 512; faults: ...``."""
        facts = self.facts()
        parts = [
            f"{facts['samples_per_second']:.1f} samples/s",
            f"{facts['tokens_per_second']:,.0f} tokens/s",
        ]
        if facts["dollars"]:
            parts.append(f"${facts['dollars']:,.2f}")
        if facts["seconds_left"]:
            parts.append(f"{_clock(facts['seconds_left'])} left")
        return ", ".join(parts) + self._servers()

    def _servers(self) -> str:
        if self._sampler is None:
            return ""
        counts = self._sampler.counts
        words = [f", in flight {self._sampler.pool.in_flight}"]
        if counts.from_store:
            words.append(f", {counts.from_store} kept from before")
        if counts.faults:
            kinds = ", ".join(f"{n} {kind}" for kind, n in sorted(counts.faults.items()))
            words.append(f"; faults: {kinds}")
        if counts.set_aside:
            words.append(f"; {counts.set_aside} set aside")
        resting = [
            f"{state.name} {state.status.replace('_', ' ')} ({state.reason})"
            for state in self._sampler.pool.state()
            if state.status != "awake"
        ]
        return "".join(words) + (f"; {', '.join(resting)}" if resting else "")

    def _seconds_left(self, seconds: float, reached: int) -> float:
        made = reached - self._first
        return (self.total - reached) * seconds / made if made > 0 else 0.0

    async def _tick(self) -> None:
        if not console.is_terminal:
            while True:
                await asyncio.sleep(_LINE_SECONDS)
                self._log()
        bar = Progress(TextColumn("sample"), BarColumn(), MofNCompleteColumn(), console=console)
        task = bar.add_task("sample", total=self.total, completed=self.written)
        with Live(console=console, refresh_per_second=4, transient=True) as live:
            while True:
                bar.update(task, completed=self.written)
                grid = Table.grid()
                grid.add_row(bar)
                grid.add_row(Text(self.line(), overflow="fold"))
                live.update(grid)
                self._to_wandb()
                await asyncio.sleep(_SCREEN_SECONDS)

    def _log(self) -> None:
        self._shown = time.monotonic()
        say(f"sample: {self.written}/{self.total}, {self.line()}")
        self._to_wandb()

    def _to_wandb(self) -> None:
        if self._run is not None:
            self._run.log(self.facts())


def _start_wandb(project: str, settings: dict[str, Any]) -> Any:
    try:
        import wandb
    except ImportError as error:
        raise MissingExtraError("wandb_project needs wandb: pip install wandb") from error
    return wandb.init(project=project, job_type="sample", config=settings)


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
