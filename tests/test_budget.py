import math
import random

import pytest

from prm.errors import ConfigError, GenerationError
from prm.generation.budget import Budget, BudgetConfig, max_prompt_tokens
from prm.ledger import Ledger
from prm.prices import PRICES, Price
from prm.protocols import Chat, Message, SamplingParams

PRICE = Price(0.6, 1.8, 0.3)
# 3 bytes + 64 read, 33 written: 100 tokens, (67 * 0.6 + 33 * 1.8) / 1e6 = 99.6 microdollars.
PROMPT, PARAMS, TOKENS, DOLLARS = "abc", SamplingParams(max_tokens=33), 100, 99.6e-6


def budget(*, dollars=0.0, tokens=0, price=PRICE, spent=None, num_shards=1):
    return Budget(BudgetConfig(dollars, tokens), price, spent or Ledger(), num_shards)


def picodollars(dollars):
    return round(dollars * 1e12)


def random_request(rng):
    text = "".join(rng.choice("aé錯🙂") for _ in range(rng.randrange(40)))
    prompt = text if rng.random() < 0.5 else Chat((Message("user", text),), text[:3])
    return prompt, SamplingParams(max_tokens=rng.randrange(1, 200)), rng.randrange(1, 5)


def random_cost(rng, prompt, params, n, price):
    """Anything up to what was reserved, sometimes all of it."""
    whole = rng.random() < 0.3
    read, written = max_prompt_tokens(prompt), n * params.max_tokens
    if not whole:
        read, written = rng.randrange(read + 1), rng.randrange(written + 1)
    return price.priced(Ledger(read, written, rng.random(), rng.randrange(read + 1)))


@pytest.mark.parametrize("seed", range(40))
@pytest.mark.parametrize("price", [PRICE, PRICES["o1"], Price(0.1, 0.7, 0.9), Price(1 / 3, 1 / 7)])
def test_a_budget_is_never_passed_whatever_the_order(seed, price):
    rng = random.Random(seed)
    limit = BudgetConfig(rng.choice([0.0, 0.001, 0.01]), rng.choice([0, 2000, 20_000]))
    money, in_flight, refused = Budget(limit, price, Ledger()), [], 0
    for _ in range(400):
        if rng.random() < 0.6:
            request = random_request(rng)
            reservation = money.try_reserve(*request)
            if reservation:
                in_flight.append((reservation, random_cost(rng, *request, price)))
            refused += reservation is None
        elif in_flight:
            reservation, cost = in_flight.pop(rng.randrange(len(in_flight)))
            if rng.random() < 0.2:
                money.release(reservation)
            else:
                money.settle(reservation, cost)
        tokens, dollars = money.reserved
        if limit.tokens:
            assert money.spent.tokens + tokens <= limit.tokens
        if limit.dollars:
            held = picodollars(money.spent.dollars) + picodollars(dollars)
            assert held <= picodollars(limit.dollars)
    assert (refused > 0) == bool(limit.dollars or limit.tokens)
    for reservation, cost in in_flight:
        money.settle(reservation, cost)
    assert money.reserved == (0, 0.0)


@pytest.mark.parametrize("limit", [{"dollars": 10 * DOLLARS}, {"tokens": 10 * TOKENS}])
def test_what_fits_exactly_is_let_in_and_no_more(limit):
    money = budget(**limit)
    assert all(money.try_reserve(PROMPT, PARAMS, 1) for _ in range(10))
    assert money.reserved == (10 * TOKENS, pytest.approx(10 * DOLLARS))
    assert money.try_reserve("", SamplingParams(max_tokens=1), 1) is None


@pytest.mark.parametrize("limit", [{"dollars": 10 * DOLLARS}, {"tokens": 10 * TOKENS}])
def test_near_the_end_fewer_run_side_by_side_until_the_next_fits_no_more(limit):
    money, sizes, cost = budget(**limit), [], PRICE.priced(Ledger(30, 15))
    while not money.is_exhausted(PROMPT, PARAMS, 1):
        open_now = []
        while reservation := money.try_reserve(PROMPT, PARAMS, 1):
            open_now.append(reservation)
        assert not money.is_exhausted(PROMPT, PARAMS, 1), "those in flight may leave room"
        sizes.append(len(open_now))
        for reservation in open_now:
            money.settle(reservation, cost)
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[0] == 10
    assert sizes[-1] == 1
    # Another one at the true cost would still fit, one at the worst would not.
    one = {"dollars": cost.dollars, "tokens": cost.tokens}
    worst = {"dollars": DOLLARS, "tokens": TOKENS}
    for kind, total in limit.items():
        left = total - getattr(money.spent, kind)
        assert one[kind] < worst[kind]
        assert 0 <= left < worst[kind]


def test_a_reservation_counts_each_sample_and_the_prompt_once():
    money = budget(tokens=10**6)
    money.try_reserve(PROMPT, PARAMS, 4)
    assert money.reserved == (67 + 4 * 33, pytest.approx((67 * 0.6 + 4 * 33 * 1.8) / 1e6))


def test_a_cache_that_costs_more_than_reading_is_reserved_for():
    money = budget(dollars=1.0, price=Price(0.6, 1.8, 2.0))
    money.try_reserve(PROMPT, PARAMS, 1)
    assert money.reserved[1] == pytest.approx((67 * 2.0 + 33 * 1.8) / 1e6)


def test_the_prompt_is_counted_in_bytes_with_room_for_a_template():
    assert max_prompt_tokens("é🙂") == 6 + 64
    assert max_prompt_tokens("\ud83d") == 3 + 64
    chat = Chat((Message("system", "ab"), Message("user", "é")), "🙂")
    assert max_prompt_tokens(chat) == (6 + 2) + (4 + 2) + 4 + 2 * 16 + 64


@pytest.mark.slow
def test_a_real_tokenizer_and_its_template_stay_below_the_count():
    from prm.generation.embedded import embedded_model
    from prm.libraries import load_tokenizer

    tokenizer = load_tokenizer(str(embedded_model()))
    for text in ("", "a", "🙂" * 50, "ﷺ錯ᄀ\u0301" * 20, "\x00\x07" * 30, "<|im_start|>" * 9):
        assert len(tokenizer(text)["input_ids"]) <= max_prompt_tokens(text)
        for count in (1, 2, 9):
            turns = [Message("user" if i % 2 == 0 else "assistant", text) for i in range(count)]
            rendered = tokenizer.apply_chat_template(
                [{"role": turn.role, "content": turn.content} for turn in turns],
                tokenize=False,
                add_generation_prompt=True,
            )
            assert len(tokenizer(rendered)["input_ids"]) <= max_prompt_tokens(Chat(tuple(turns)))


def test_what_was_spent_before_a_restart_counts():
    first = budget(tokens=250)
    first.settle(first.try_reserve(PROMPT, PARAMS, 1), PRICE.priced(Ledger(60, 30)))
    second = budget(tokens=250, spent=first.spent)
    assert second.spent == first.spent == PRICE.priced(Ledger(60, 30))
    assert second.try_reserve(PROMPT, PARAMS, 1)
    assert second.try_reserve(PROMPT, PARAMS, 1) is None
    assert not second.is_exhausted(PROMPT, PARAMS, 1)
    spent_up = budget(tokens=250, spent=Ledger(200, 100))
    assert spent_up.is_exhausted(PROMPT, PARAMS, 1)


@pytest.mark.parametrize("num_shards", [2, 3, 7])
def test_the_shards_together_stay_within_the_budget(num_shards):
    total = BudgetConfig(1000 * DOLLARS, 1000 * TOKENS)
    shards = [Budget(total, PRICE, Ledger(), num_shards) for _ in range(num_shards)]
    for money in shards:
        while money.try_reserve(PROMPT, PARAMS, 1):
            pass
    counts = {money.reserved[0] // TOKENS for money in shards}
    assert counts == {1000 // num_shards}


def test_without_a_limit_everything_fits_and_is_counted():
    money = budget(price=Price())
    reservation = money.try_reserve("x" * 10**6, SamplingParams(max_tokens=10**9), 1000)
    assert not money.is_exhausted(PROMPT, PARAMS, 1)
    money.settle(reservation, Ledger(5, 6, 0.5, 1))
    assert money.spent == Ledger(5, 6, 0.5, 1)


def test_a_bill_above_the_reservation_is_believed_and_ends_the_spending():
    money = budget(tokens=150)
    money.settle(money.try_reserve(PROMPT, PARAMS, 1), Ledger(100, 100))
    assert money.spent.tokens == 200
    assert money.is_exhausted("", SamplingParams(max_tokens=1), 1)


@pytest.mark.parametrize("again", ["settle", "release"])
def test_a_reservation_is_given_back_once(again):
    money = budget(tokens=1000)
    reservation = money.try_reserve(PROMPT, PARAMS, 1)
    other = money.try_reserve(PROMPT, PARAMS, 1)
    money.release(reservation)
    with pytest.raises(GenerationError, match="settled or released before"):
        money.release(reservation) if again == "release" else money.settle(reservation, Ledger())
    assert money.reserved[0] == TOKENS
    money.settle(other, Ledger())


def test_many_small_bills_do_not_drift():
    money = budget(dollars=1000.0, price=Price(0.1, 0.1))
    for _ in range(20_000):
        reservation = money.try_reserve("", SamplingParams(max_tokens=1), 1)
        money.settle(reservation, Price(0.1, 0.1).priced(Ledger(1, 0)))
    # As floats, 20,000 times 1e-7 add up to 0.0020000000000024.
    assert money.spent.dollars == 0.002


def test_the_state_is_told_in_words():
    money = budget(dollars=4.0, tokens=10_000, num_shards=2, spent=Ledger(900, 100, dollars=1.996))
    money.try_reserve(PROMPT, PARAMS, 1)
    assert money.describe() == (
        "$1.99 of $2.00 spent, $0.00 reserved; 1,000 of 5,000 tokens spent, 100 reserved; "
        "this shard has 1/2 of the budget"
    )
    assert budget(price=Price()).describe() == "0 tokens spent, 0 reserved"


@pytest.mark.parametrize("dollars", [-1.0, math.nan, math.inf])
def test_dollars_that_are_no_limit_are_refused(dollars):
    with pytest.raises(ConfigError, match="budget.dollars"):
        BudgetConfig(dollars=dollars)


def test_limits_that_cannot_be_held_are_refused():
    with pytest.raises(ConfigError, match="budget.tokens is -1"):
        BudgetConfig(tokens=-1)
    with pytest.raises(ConfigError, match="every price is 0"):
        budget(dollars=1.0, price=Price())
    with pytest.raises(ConfigError, match="nothing for each of 8 shards"):
        budget(tokens=5, num_shards=8)
