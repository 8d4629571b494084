"""What is known of one endpoint: its client, its price, and what its server can do.

Servers differ in what they support. What a refusal shows is found by trying (usage in streams,
several samples a request); what a server would ignore in silence is probed before it matters
(going on with an answer that was begun).
"""

from __future__ import annotations

import asyncio
import dataclasses
from typing import get_args

from prm.errors import GenerationError
from prm.generation.calls import Call, Prefill, Watch
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


class Unable(GenerationError):
    """The endpoint cannot answer requests of this kind; another one may."""


class Peer:
    """An endpoint as we know it."""

    def __init__(self, client: Client, price: Price) -> None:
        """Nothing is asked yet."""
        self.client = client
        self.price = price
        self.has_several = True
        self._usage_level = 0
        self._prefill: Prefill | None = None
        self._is_checked = self._has_model = False
        self._is_probed = False
        self._missing: dict[str, str] = {}
        self._finding: asyncio.Future[Fault | None] | None = None

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

    def cannot(self, call: Call) -> str:
        """Why it cannot answer such a call, as a sentence; empty where it may."""
        if _is_begun(call) and self._is_probed and self._prefill is None:
            return (
                f"{self.name} cannot go on with an answer that was begun (tried "
                f"{', '.join(get_args(Prefill))}): use a strategy of kind text, which "
                "needs /v1/completions, or a server such as vLLM"
            )
        return self._missing.get(call.path, "")

    async def probe(self, call: Call, watch: Watch) -> Ledger:
        """Find that out; what the finding cost. Who comes meanwhile shares what is found.

        Raises:
            Fault: the endpoint does not serve the model, or cannot be asked.
        """
        cost = Ledger()
        while self.must_probe(call):
            if self._finding is None:
                cost += await self._find_out(call, watch)
            elif fault := await asyncio.shield(self._finding):
                raise fault
        return cost

    async def _find_out(self, call: Call, watch: Watch) -> Ledger:
        finding = self._finding = asyncio.get_running_loop().create_future()
        found = None
        try:
            if not self._is_checked:
                await self._check_model(call.model)
                self._is_checked = True
            cost = Ledger()
            if self.probing_costs(call):
                self._prefill, cost = await self._probe_prefill(call.model, watch)
                self._is_probed = True
            return cost
        except Fault as fault:
            # Without its cost, which is counted once.
            found = Fault(
                fault.kind,
                fault.detail,
                retry_after=fault.retry_after,
                is_unreachable=fault.is_unreachable,
            )
            raise
        finally:
            # Where it was cancelled, one of those that wait begins again.
            self._finding = None
            finding.set_result(found)

    async def ask(self, call: Call, guard: LoopGuardConfig, level: int, watch: Watch) -> Answer:
        """The call's samples; ``level``: how much the request was reduced after refusals.

        Raises:
            Unable: the server has no such API, or cannot go on with an answer that was begun.
        """
        if reason := self.cannot(call):
            raise Unable(reason)
        if self._prefill is not None:
            call = dataclasses.replace(call, prefill=self._prefill)
        try:
            return await self._ask(call, guard, level, watch)
        except Fault as fault:
            # Its list has the model: it is the API that is not there.
            if fault.kind != "no_model" or not self._has_model:
                raise
            self._missing[call.path] = f"{self.name} has no /v1{call.path} ({fault.detail})"
        raise Unable(self._missing[call.path])

    async def _ask(self, call: Call, guard: LoopGuardConfig, level: int, watch: Watch) -> Answer:
        if not guard.enabled:
            answer = await self.client.ask(call, watch)
            num_choices = len(answer.generations) + answer.num_empty
            self.has_several = self.has_several and num_choices >= call.n
            return answer
        level = min(max(level, self._usage_level), len(_USAGES) - 1)
        answer = await self.client.stream(call, guard, _USAGES[level], watch)
        # It was answered at this level: the fields that were left out are not known there.
        self._usage_level = level
        return answer

    def can_reduce(self, guard: LoopGuardConfig, level: int) -> bool:
        """Whether a refused request can be tried again with fewer fields."""
        return guard.enabled and max(level, self._usage_level) < len(_USAGES) - 1

    async def _check_model(self, model: str) -> None:
        """A wrong model name ends the job at once, with the right ones.

        Where the server is there and gives no list, whatever it says, the first request will tell.
        """
        try:
            names = await self.client.models()
        except Fault as fault:
            if fault.kind in ("refused", "connection") or fault.is_unreachable:
                raise
            return
        if names and model not in names:
            raise Fault("no_model", f"no model {model!r} there, but {', '.join(names[:8])}")
        self._has_model = bool(names)

    async def _probe_prefill(self, model: str, watch: Watch) -> tuple[Prefill | None, Ledger]:
        """How this server is told to go on with an answer, if it can.

        A server that does not know the fields ignores them in silence and begins a new turn; its
        prompt then has more tokens: those that end a turn and begin another.
        """
        one = Call(_BEGUN, _ONE_TOKEN, model)
        calls = [dataclasses.replace(one, prompt=_PROBE, prefill=s) for s in get_args(Prefill)]
        cost, reference = Ledger(), None
        for call in (one, *calls):
            try:
                answer = await self.client.ask(call, watch)
            except asyncio.CancelledError:
                watch.lost += cost
                raise
            except Fault as fault:
                if not fault.is_poison:
                    fault.may_have_cost += cost
                    raise
                if reference is None:
                    break
                continue
            cost += answer.cost
            reference = reference or answer
            known = not (answer.is_estimated or reference.is_estimated)
            if known and answer.cost.prompt_tokens < reference.cost.prompt_tokens:
                return call.prefill, cost
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
