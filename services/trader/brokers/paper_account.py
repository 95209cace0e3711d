"""The paper broker's account: cash, net positions, orders at work, and whether the margin is enough. Pure.

What fills an order, and at what price, is in `paper`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal

from services.shared.commands import Costs
from services.shared.events import Reason
from services.shared.instruments import Instrument
from services.shared.market import Quote
from services.shared.money import ZERO, exact, round_money
from services.trader.brokers.base import Cancelled, Filled, Ticket
from services.trader.rates import Rates


@dataclass(slots=True, kw_only=True)
class PaperOrder:
    """A ticket at work. `since` is when it was taken: no price from before can fill it."""

    ticket: Ticket
    amount: Decimal
    since: datetime


@dataclass(slots=True, kw_only=True)
class PaperPosition:
    """A net position at this broker: positive long. `cost` is amount times price, signed."""

    amount: Decimal = ZERO
    cost: Decimal = ZERO


@dataclass(slots=True, kw_only=True)
class PaperState:
    """All of the paper account that has to survive a restart. `finished` is the last news of the orders that
    came to an end latest, for whoever looks one up."""

    cash: Decimal
    orders: dict[int, PaperOrder] = field(default_factory=dict)
    positions: dict[str, PaperPosition] = field(default_factory=dict)
    quoted: list[str] = field(default_factory=list)
    last_order: datetime | None = None
    fills: int = 0
    ambiguous: int = 0
    finished: dict[int, Filled | Cancelled] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class PaperRules:
    """How it fills. `limit_through`: ticks the market must pass a limit by; `order_interval`: the least
    time between two new orders, as a real broker's rate limit."""

    costs: Costs
    limit_through: int = 1
    target_first: bool = False
    order_interval: timedelta = timedelta()


class PaperAccount:
    """Money and positions as a broker keeps them: it knows nothing of trades or R."""

    def __init__(
        self, rules: PaperRules, currency: str, rates: Rates, quotes: Mapping[str, Quote], state: PaperState
    ) -> None:
        """`quotes` are the last known prices, kept by whoever drives the broker."""
        self.rules = rules
        self.state = state
        self._quotes = quotes
        self._currency = currency
        self._rates = rates

    def net_position(self, instrument: str) -> Decimal:
        """Positive long, negative short."""
        held = self.state.positions.get(instrument)
        return ZERO if held is None else held.amount

    def _margin_refusal(self, ticket: Ticket) -> Reason | None:
        quote = self._quotes.get(ticket.instrument)
        if quote is None:
            return Reason(code="no_price", text=f"there is no price of {ticket.instrument} yet")
        needed = self._margin(ticket.instrument, ticket.amount, quote)
        used = gain = ZERO
        for name, held in self.state.positions.items():
            at = self._quotes[name]
            used += self._margin(name, abs(held.amount), at)
            price = exact(at.bid if held.amount > 0 else at.ask)
            gain += (price * held.amount - held.cost) * self._rates.rate(name, price)
        for order in self.state.orders.values():
            if order.ticket.purpose == "entry":
                used += self._margin(
                    order.ticket.instrument, order.amount, self._quotes[order.ticket.instrument]
                )
        free = self.state.cash + gain - used
        if needed > free:
            text = (
                f"the margin needed is {round_money(needed, self._currency)} {self._currency}, free are "
                f"{round_money(free, self._currency)}"
            )
            return Reason(code="margin", text=text)
        return None

    def _margin(self, instrument: str, amount: Decimal, quote: Quote) -> Decimal:
        price = exact(max(quote.bid, quote.ask))
        return amount * price * self._rates.rate(instrument, price) / self.rules.costs.leverage

    def _settle(
        self, pair: Instrument, change: Decimal, price: Decimal, rate: Decimal, commission: Decimal
    ) -> None:
        state = self.state
        held = state.positions.get(pair.symbol)
        if held is None:
            held = state.positions[pair.symbol] = PaperPosition()
        if held.amount * change < 0:
            share = held.cost * -change / held.amount
            state.cash += round_money((-change * price - share) * rate, self._currency)
            held.cost -= share
        else:
            held.cost += change * price
        held.amount += change
        state.cash -= commission
        if not held.amount:
            del state.positions[pair.symbol]
