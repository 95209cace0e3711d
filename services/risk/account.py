"""The guard's own account: positions and balance from fills alone, and where each position's stop is.

Pure functions over `state`. What breaks a rule comes back as a violation; what to do about one is decided
in `guard`. Booking follows TRADING 2 and 3, so that the balance is the trader's to the cent.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal

from services.risk.judge import conversion
from services.risk.state import JUDGED_KEPT, Approved, Holding, State
from services.shared.events import OrderAccepted, OrderFilled
from services.shared.market import Quote
from services.shared.money import exact, round_money


@dataclass(frozen=True, slots=True)
class Violation:
    """A rule the trader broke: a code to count by and a sentence to read."""

    code: str
    text: str


def book_fill(state: State, fill: OrderFilled) -> Violation | None:
    """Book a fill; a violation when it made a position larger than was approved."""
    holding = state.holdings.get(fill.instrument)
    left = fill.amount
    if holding is not None and (fill.side == "buy") != (holding.side == "long"):
        left = _reduce(state, holding, fill)
    state.balance -= fill.commission
    return _enlarge(state, fill, left) if left > 0 else None


def _reduce(state: State, holding: Holding, fill: OrderFilled) -> Decimal:
    """Book what a fill takes off a position; returns the amount by which it goes beyond."""
    amount = min(fill.amount, holding.amount)
    share = holding.entry_cost * amount / holding.opened
    gain = holding.sign * (fill.price * amount - share) * fill.rate
    state.balance += round_money(gain, state.currency)
    holding.amount -= amount
    holding.opened -= amount
    holding.entry_cost -= share
    if holding.amount:
        holding.refresh()
    else:
        del state.holdings[fill.instrument]
        state.stops_seen.pop(fill.instrument, None)
    return fill.amount - amount


def _enlarge(state: State, fill: OrderFilled, amount: Decimal) -> Violation | None:
    """Book what a fill adds to a position: only what was approved may."""
    approved = state.approved.get(fill.order)
    holding = state.holdings.get(fill.instrument)
    if holding is None:
        holding = Holding(
            fill.instrument,
            "long" if fill.side == "buy" else "short",
            fill.instrument.endswith(state.currency),
        )
        holding.stop_order = state.stops_seen.get(fill.instrument)
        state.holdings[fill.instrument] = holding
    holding.amount += amount
    holding.opened += amount
    holding.entry_cost += amount * fill.price
    holding.refresh()
    if (
        approved is None
        or not approved.adds
        or (approved.instrument, approved.side) != (fill.instrument, fill.side)
        or amount > approved.left
    ):
        text = f"order {fill.order} made {fill.instrument} larger by {amount:f} without approval"
        return Violation("unapproved_fill", text)
    if holding.stop is None:
        holding.stop = approved.stop
    approved.left -= amount
    if approved.left == 0:
        del state.approved[fill.order]
    return None


def follow_stop(state: State, order: OrderAccepted) -> Violation | None:
    """Note where a position's stop is; a violation when it moved away without approval."""
    state.stops_seen[order.instrument] = order.order
    holding = state.holdings.get(order.instrument)
    if holding is None or order.price is None or (order.side == "buy") == (holding.side == "long"):
        return None
    holding.stop_order, holding.unprotected = order.order, False
    price = order.price
    away = _is_away(holding, state.approved.get(order.order), price)
    holding.stop = price
    if away:
        text = f"the stop of {order.instrument} moved away to {price:f} without approval"
        return Violation("stop_widened", text)
    return None


def _is_away(holding: Holding, approved: Approved | None, price: Decimal) -> bool:
    """Whether a stop at `price` is further away than it was and than was approved for its order."""
    away = False
    for bound in (holding.stop, None if approved is None else approved.stop):
        if bound is not None:
            if holding.sign * (price - bound) >= 0:
                return False
            away = True
    return away


def withdraw(state: State, order: int) -> None:
    """Forget an order that will not go, or not any more: live, the trader may say so before it is judged."""
    state.approved.pop(order, None)
    state.withdrawn.append(order)
    del state.withdrawn[:-JUDGED_KEPT]


def cancel(state: State, order: int) -> bool:
    """Forget an order that works no more; whether it was the stop of an open position.

    Live, an entry can be cancelled before it is judged too: approved after that it would rest here for ever.
    """
    withdraw(state, order)
    bare = False
    for holding in state.holdings.values():
        if holding.stop_order == order:
            holding.unprotected = bare = True
    return bare


def equity_at(state: State, prices: Mapping[str, Quote], rates: Mapping[str, Decimal]) -> Decimal | None:
    """Balance and unrealised at `prices`, unrounded; None where a price or a rate is missing."""
    equity = state.balance
    for name, holding in state.holdings.items():
        quote = prices.get(name)
        rate = None if quote is None else conversion(name, state.currency, prices, rates)
        if quote is None or rate is None:
            return None
        price = exact(quote.bid if holding.side == "long" else quote.ask)
        share = holding.entry_cost * holding.amount / holding.opened
        equity += holding.sign * (price * holding.amount - share) * rate
    return equity


def unrealised_at(state: State, prices: Mapping[str, Quote], rates: Mapping[str, Decimal]) -> float | None:
    """The unrealised alone, quickly and nearly: at every bar a position is open."""
    total = 0.0
    for name, holding in state.holdings.items():
        quote = prices.get(name)
        if quote is None:
            return None
        gain = holding.units * ((quote.bid if holding.units > 0 else quote.ask) - holding.entry)
        if not holding.same:
            rate = conversion(name, state.currency, prices, rates)
            if rate is None:
                return None
            gain *= float(rate)
        total += gain
    return total
