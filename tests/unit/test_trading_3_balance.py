"""TRADING 3: change in balance = sum of trades' pnl + sum of adjustments, to the cent whenever flat.

Over 100,000 random trades in three account currencies, filled by the paper broker at random prices, in parts,
with commission, slippage, moving rates and adjustments. The run's book, the broker's own cash and the guard's
own sum are three computations of it.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.risk.account import book_fill
from services.risk.state import State
from services.shared.commands import Costs
from services.shared.events import OrderFilled, Side
from services.shared.limits import Limits
from services.shared.market import Quote
from services.shared.money import ZERO, minor_unit, round_money
from services.trader.book import Book, Position
from services.trader.brokers.base import Filled, Ticket
from services.trader.brokers.paper import PaperBroker
from services.trader.brokers.paper_account import PaperRules
from services.trader.rates import Rates

D = Decimal
NOW = datetime(2024, 1, 8, tzinfo=UTC)
TRADES = 33_334
"""In each of three currencies."""

MIDDLE = {"EURUSD": 1.1, "USDJPY": 150.0, "EURCHF": 0.95, "GBPUSD": 1.27}
ACCOUNTS: dict[str, tuple[tuple[str, ...], dict[str, Decimal], tuple[str, ...], str]] = {
    "USD": (("EURUSD", "USDJPY"), {}, (), "100000"),
    "JPY": (("USDJPY", "EURUSD"), {}, ("USDJPY",), "15000000"),
    "CHF": (("EURCHF", "GBPUSD"), {"USDCHF": D("0.8837")}, (), "100000"),
}


@dataclass
class Account:
    """Book, broker and guard of one account, and what the trades and adjustments came to."""

    currency: str
    chance: random.Random
    pnl: Decimal = ZERO
    adjusted: Decimal = ZERO
    trades: int = 0
    order: int = 0
    quotes: dict[str, Quote] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.instruments, constants, priced, balance = ACCOUNTS[self.currency]
        self.rates = Rates(self.currency, self.instruments, constants, priced)
        self.opening = D(balance)
        rules = PaperRules(
            costs=Costs(spread=D(1), slippage=D("0.3"), commission=D("37.3"), leverage=D(1000))
        )
        self.broker = PaperBroker(rules, self.currency, self.rates, self.quotes, balance=self.opening)
        self.book = Book(currency=self.currency, balance=self.opening, peak=self.opening)
        self.guard = State("main", Limits(), currency=self.currency, balance=self.opening)
        for name in self.instruments:
            self.move(name)

    def move(self, name: str) -> None:
        """A new price."""
        digits = 3 if name.endswith("JPY") else 5
        bid = round(MIDDLE[name] * (1 + self.chance.gauss(0, 0.004)), digits)
        self.quotes[name] = Quote(
            name, NOW, bid, round(bid + 10**-digits * self.chance.randrange(30), digits)
        )
        self.rates.on_quote(self.quotes[name])

    def fill(self, name: str, side: Side, amount: Decimal, purpose: str) -> Filled:
        """Have the broker fill an order at once."""
        self.order += 1
        ticket = Ticket(
            order=self.order,
            trade=self.trades,
            instrument=name,
            purpose=purpose,  # type: ignore[arg-type]
            side=side,
            kind="market",
            amount=amount,
            stop=0.0001 if side == "buy" else 9999.0,
            stop_order=10_000_000 + self.order,
            urgent=True,
        )
        filled = next(news for news in self.broker.submit(ticket, NOW) if isinstance(news, Filled))
        book_fill(
            self.guard,
            OrderFilled(
                order=filled.order,
                fill=filled.fill,
                trade=self.trades,
                instrument=name,
                purpose=ticket.purpose,
                side=side,
                amount=filled.amount,
                price=filled.price,
                rate=filled.rate,
                commission=filled.commission,
                slippage=filled.slippage,
                filled_at=NOW,
            ),
        )
        return filled

    def open(self, name: str) -> None:
        """A position at the present price."""
        side: Side = self.chance.choice(("buy", "sell"))
        self.trades += 1
        filled = self.fill(name, side, D(self.chance.randrange(1000, 9000)), "entry")
        position = Position(
            trade=self.trades,
            instrument=name,
            side="long" if side == "buy" else "short",
            strategy="random",
            entry_time=NOW,
            reference=filled.price,
            reference_rate=filled.rate,
            first_stop=None,
            stop=None,
            target=None,
        )
        self.book.open(position)
        self.book.book_entry(position, filled.amount, filled.price, filled.commission, filled.slippage)

    def reduce(self, position: Position) -> None:
        """Some of a position, or all that is left of it."""
        some = (
            position.amount
            if self.chance.random() < 0.6
            else D(self.chance.randrange(1, int(position.amount) + 1))
        )
        filled = self.fill(position.instrument, "sell" if position.side == "long" else "buy", some, "exit")
        self.book.book_exit(position, some, filled.price, filled.rate, filled.commission, filled.slippage)
        if not position.amount:
            self.pnl += self.book.close(position, trade_time=NOW, exit_reason="random").pnl

    def adjust(self) -> None:
        """Financing, or a fee."""
        amount = round_money(D(self.chance.randrange(-500, 500)) / 100, self.currency)
        self.adjusted += amount
        self.book.adjust(amount)


@pytest.mark.parametrize("currency", ACCOUNTS)
def test_pnl_and_adjustments_are_the_change_in_balance_to_the_cent_whenever_flat(currency: str) -> None:
    account = Account(currency, random.Random(f"balance in {currency}"))
    while account.trades < TRADES:
        for name in account.instruments[: account.chance.randrange(1, 3)]:
            account.open(name)
        while account.book.positions:
            position = account.chance.choice(list(account.book.positions.values()))
            account.move(position.instrument)
            account.reduce(position)
        if account.chance.random() < 0.1:
            account.adjust()
        balance = account.book.balance
        assert balance == account.opening + account.pnl + account.adjusted
        assert balance == account.broker.state.cash + account.adjusted
        assert balance == account.guard.balance + account.adjusted
        if balance < account.opening / 2:  # costs eat it up: somebody pays in, which is no result
            for name in ("balance", "cash"):
                pot = {"balance": account.book, "cash": account.broker.state}[name]
                setattr(pot, name, getattr(pot, name) + account.opening)
            account.guard.balance += account.opening
            account.pnl += account.opening
    assert balance % minor_unit(currency) == 0
    assert account.book.trades == account.trades


@settings(deadline=None)
@given(
    parts=st.lists(
        st.tuples(st.integers(1, 5000), st.integers(100_000, 130_000), st.booleans()), min_size=1, max_size=12
    )
)
def test_entries_and_exits_in_any_order_of_parts_come_to_the_exact_result(
    parts: list[tuple[int, int, bool]],
) -> None:
    """Each booking is off by half a cent at most from the exact sum of what was paid and got."""
    book = Book(currency="USD", balance=D(0), peak=D(0))
    position = Position(
        trade=1,
        instrument="EURUSD",
        side="long",
        strategy="random",
        entry_time=NOW,
        reference=D(1),
        reference_rate=D(1),
        first_stop=None,
        stop=None,
        target=None,
    )
    book.open(position)
    exact, booked = Fraction(0), 0
    for amount, ticks, exits in [(1000, 110_000, False), *parts, (10**9, 120_000, True)]:
        price = D(ticks).scaleb(-5)
        if not exits or (not position.amount and amount < 10**9):
            book.book_entry(position, D(amount), price, D(0), D(0))
            exact -= amount * Fraction(ticks, 100_000)
            continue
        some = min(D(amount), position.amount)
        if not some:
            continue
        book.book_exit(position, some, price, D(1), D(0), D(0))
        exact += int(some) * Fraction(ticks, 100_000)
        booked += 1
    assert position.amount == 0
    assert abs(Fraction(book.balance) - exact) <= Fraction(booked, 200)
