"""Who may spend next: requests wait in order for room in the budget."""

from __future__ import annotations

import asyncio
import dataclasses
from collections import deque

from prm.errors import BudgetError
from prm.generation.budget import Budget, Reservation
from prm.generation.calls import Call
from prm.ledger import Ledger


@dataclasses.dataclass(slots=True, eq=False)
class _Waiter:
    call: Call
    turn: asyncio.Future[Reservation]


class Purse:
    """A budget and those who wait for it, first come, first served."""

    def __init__(self, budget: Budget) -> None:
        """Nobody waits yet."""
        self.budget = budget
        self._waiting: deque[_Waiter] = deque()

    async def reserve(self, call: Call) -> Reservation:
        """Room in the budget, as soon as there is some.

        Raises:
            BudgetError: there never will be.
        """
        turn: asyncio.Future[Reservation] = asyncio.get_running_loop().create_future()
        self._waiting.append(_Waiter(call, turn))
        self._wake()
        try:
            return await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled() and turn.exception() is None:
                self.budget.release(turn.result())
            self._wake()
            raise

    def settle(self, reservation: Reservation, cost: Ledger) -> None:
        """Put what a request did cost in the place of what it might have; others may go on."""
        self.budget.settle(reservation, cost)
        self._wake()

    def stop(self, error: Exception) -> None:
        """Raise the error to all who wait."""
        for waiter in self._waiting:
            if not waiter.turn.done():
                waiter.turn.set_exception(error)
        self._waiting.clear()

    def _wake(self) -> None:
        """Let those who wait go on, in order, until one does not fit."""
        while self._waiting:
            waiter = self._waiting[0]
            if not waiter.turn.done():
                words = waiter.call.prompt, waiter.call.params, waiter.call.n
                reservation = self.budget.try_reserve(*words)
                if reservation is not None:
                    waiter.turn.set_result(reservation)
                elif self.budget.is_exhausted(*words):
                    waiter.turn.set_exception(self._no_room())
                else:
                    return
            self._waiting.popleft()

    def _no_room(self) -> BudgetError:
        return BudgetError(
            f"the budget leaves no room for the next request: {self.budget.describe()}. "
            "Raise servers.budget and start again: what was paid for is kept"
        )
