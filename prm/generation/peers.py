"""What is known of one endpoint: its client, its price, and what its server can do.

Servers differ in what they support. What a refusal shows is found by trying (usage in streams,
several samples a request); what a server would ignore in silence is probed before it matters
(going on with an answer that was begun).
"""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Callable
from typing import get_args

from prm.errors import GenerationError
from prm.generation.calls import Call, Prefill
from prm.generation.client import Client, StreamUsage
from prm.generation.faults import Fault
from prm.generation.loop_guard import LoopGuardConfig
from prm.generation.replies import Answer
from prm.ledger import Ledger
from prm.prices import Price
from prm.protocols import Chat, Message, SamplingParams

_USAGES: tuple[StreamUsage, ...] = get_args(StreamUsage)
_ONE_TOKEN = SamplingParams(max_tokens=1, temperature=0)
# Sent three times at most, for one token each.
_PROBE = Chat((Message("user", "Count."),), "The first five whole numbers are 1, 2, 3,")
_BEGUN = Chat((*_PROBE.messages, Message("assistant", _PROBE.prefix)))


class Peer:
    """An endpoint as we know it."""

    def __init__(self, client: Client, price: Price) -> None:
        """Nothing is asked yet."""
        self.client = client
        self.price = price
        self.has_several = True
        self._usage_level = 0
        self._prefill: Prefill | None = None
        self._is_checked = False
        self._is_probed = False
        self._lock = asyncio.Lock()

    @property
    def name(self) -> str:
        """Host and port."""
        return self.client.endpoint.name

    def must_probe(self, call: Call) -> bool:
        """Whether something must be known before this call that is not."""
        return not self._is_checked or self.probing_costs(call)

    def probing_costs(self, call: Call) -> bool:
        """Whether finding that out takes tokens."""
        return _is_begun(call) and not self._is_probed

    async def probe(self, call: Call) -> Ledger:
        """Find that out; what the finding cost.

        Raises:
            Fault: the endpoint does not serve the model, or cannot be asked.
        """
        cost = Ledger()
        async with self._lock:
            if not self._is_checked:
                await self._check_model(call.model)
                self._is_checked = True
            if self.probing_costs(call):
                self._prefill, cost = await self._probe_prefill(call.model)
                self._is_probed = True
        return cost

    async def ask(
        self, call: Call, guard: LoopGuardConfig, level: int, alive: Callable[[], None]
    ) -> Answer:
        """The call's samples; ``level``: how much the request was reduced after refusals.

        ``alive`` is called when a stream begins to come.

        Raises:
            GenerationError: the call begins an answer, and the server cannot go on with it.
        """
        if _is_begun(call) and self._prefill is None:
            raise GenerationError(
                f"{self.name} cannot go on with an answer that was begun (tried "
                f"{', '.join(get_args(Prefill))}): use a strategy of kind text, which "
                "needs /v1/completions, or a server such as vLLM"
            )
        if self._prefill is not None:
            call = dataclasses.replace(call, prefill=self._prefill)
        if not guard.enabled:
            answer = await self.client.ask(call)
            self.has_several = self.has_several and len(answer.generations) >= call.n
            return answer
        level = min(max(level, self._usage_level), len(_USAGES) - 1)
        answer = await self.client.stream(call, guard, _USAGES[level], alive)
        # It was answered at this level: the fields that were left out are not known there.
        self._usage_level = level
        return answer

    def can_reduce(self, guard: LoopGuardConfig, level: int) -> bool:
        """Whether a refused request can be tried again with fewer fields."""
        return guard.enabled and max(level, self._usage_level) < len(_USAGES) - 1

    async def _check_model(self, model: str) -> None:
        """A wrong model name ends the job at once, with the right ones."""
        try:
            names = await self.client.models()
        except Fault as fault:
            if fault.kind != "no_model":
                raise
            return  # A server without such a list: the first request will tell.
        if names and model not in names:
            raise Fault("no_model", f"no model {model!r} there, but {', '.join(names[:8])}")

    async def _probe_prefill(self, model: str) -> tuple[Prefill | None, Ledger]:
        """How this server is told to go on with an answer, if it can.

        A server that does not know the fields ignores them in silence and begins a new turn; its
        prompt then has more tokens: those that end a turn and begin another.
        """
        one = Call(_BEGUN, _ONE_TOKEN, model)
        reference = await self.client.ask(one)
        cost = reference.cost
        for style in get_args(Prefill):
            try:
                answer = await self.client.ask(
                    dataclasses.replace(one, prompt=_PROBE, prefill=style)
                )
            except Fault as fault:
                if not fault.is_poison:
                    fault.may_have_cost += cost
                    raise
                continue
            cost += answer.cost
            known = not (answer.is_estimated or reference.is_estimated)
            if known and answer.cost.prompt_tokens < reference.cost.prompt_tokens:
                return style, cost
        return None, cost


def with_probe(call: Call) -> Call:
    """A call that costs as much as this one and a probe before it, at most."""
    if not isinstance(call.prompt, Chat):
        return call
    # Six of them are more than three and what a chat template adds to each.
    prompt = dataclasses.replace(call.prompt, messages=call.prompt.messages + _BEGUN.messages * 6)
    written = call.n * call.params.max_tokens + 3 * _ONE_TOKEN.max_tokens
    params = dataclasses.replace(call.params, max_tokens=written)
    return dataclasses.replace(call, prompt=prompt, params=params, n=1)


def _is_begun(call: Call) -> bool:
    return isinstance(call.prompt, Chat) and bool(call.prompt.prefix)
