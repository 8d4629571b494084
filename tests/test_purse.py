"""Who waits for the budget goes on in order."""

import asyncio

import pytest

from prm.errors import BudgetError
from prm.generation.budget import Budget, BudgetConfig, max_prompt_tokens
from prm.generation.calls import Call
from prm.generation.purse import Purse
from prm.ledger import Ledger
from prm.prices import Price
from prm.protocols import SamplingParams


def call(tokens: int) -> Call:
    """A call whose worst case is so many tokens."""
    return Call("", SamplingParams(max_tokens=tokens - max_prompt_tokens("")), "m")


def purse(tokens: int) -> Purse:
    return Purse(Budget(BudgetConfig(tokens=tokens), Price(), Ledger()))


async def settle() -> None:
    for _ in range(3):
        await asyncio.sleep(0)


def test_each_settlement_wakes_those_that_fit_and_no_others(monkeypatch):
    looks = []
    try_reserve = Budget.try_reserve
    monkeypatch.setattr(
        Budget, "try_reserve", lambda *given: looks.append(1) or try_reserve(*given)
    )

    async def scene():
        money = purse(1000)
        first = [await money.reserve(call(100)) for _ in range(10)]
        order = []

        async def one(number):
            reservation = await money.reserve(call(100))
            order.append(number)
            return reservation

        waiting = [asyncio.create_task(one(number)) for number in range(500)]
        await settle()
        looks.clear()
        money.settle(first[0], Ledger())
        await settle()
        assert order == [0]
        # The one that fits and the next, which does not; not all 500.
        assert len(looks) == 2
        for task in waiting:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)

    asyncio.run(scene())


def test_a_small_one_does_not_overtake_a_large_one_that_waits():
    async def scene():
        money = purse(1000)
        held = await money.reserve(call(600))
        large = asyncio.create_task(money.reserve(call(900)))
        small = asyncio.create_task(money.reserve(call(100)))
        await settle()
        assert not large.done()
        assert not small.done()
        money.settle(held, Ledger())
        await asyncio.gather(large, small)

    asyncio.run(scene())


def test_who_is_cancelled_gives_back_what_it_was_given_and_lets_others_go_on():
    async def scene():
        money = purse(1000)
        held = await money.reserve(call(600))
        large = asyncio.create_task(money.reserve(call(900)))
        small = asyncio.create_task(money.reserve(call(100)))
        await settle()
        large.cancel()
        money.budget.release(await small)
        given = asyncio.create_task(money.reserve(call(900)))
        await settle()
        money.settle(held, Ledger())
        given.cancel()  # its room is reserved, and it has not run yet
        await asyncio.gather(given, large, return_exceptions=True)
        assert money.budget.reserved == (0, 0.0)

    asyncio.run(scene())


def test_where_there_will_never_be_room_it_is_said_and_others_still_get_theirs():
    async def scene():
        money = purse(1000)
        held = await money.reserve(call(600))
        large = asyncio.create_task(money.reserve(call(1001)))
        small = asyncio.create_task(money.reserve(call(100)))
        await settle()
        money.settle(held, Ledger(generated_tokens=500))
        with pytest.raises(BudgetError, match="500 of 1,000 tokens spent"):
            await large
        await small

    asyncio.run(scene())
