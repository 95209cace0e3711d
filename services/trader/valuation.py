"""What the open positions are worth at each mark: exact money, found by floats wherever a float can tell.

A float decides the cent unless the sum comes near the middle between two, or is large; then decimals do. Pure;
holds nothing that the book does not know, so there is nothing to snapshot.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal

from services.shared.market import Quote
from services.shared.money import ZERO, exact, minor_unit, round_money
from services.trader.book import Book, Position
from services.trader.rates import Rates

_LARGE = 1e8
"""Above this, in quote currency, floats are not asked."""
_NEAR_MIDDLE = 0.49
"""A float further than this from the whole minor unit does not decide. Its own error is below 0.005."""


@dataclass(slots=True)
class _Held:
    """A position in floats: signed amount and cost, and the signed distance from cost to its stop's value.
    Good as long as the three exact numbers are the very ones it was made of."""

    amount: Decimal
    cost: Decimal
    stop: float | None
    units: float
    paid: float
    at_risk: float


class Valuation:
    """Unrealised result and open risk of a book, longs at bid, shorts at ask."""

    def __init__(self, book: Book, rates: Rates) -> None:
        self._book = book
        self._rates = rates
        self._unit = minor_unit(book.currency)
        self._scale = float(1 / self._unit)
        self._held: dict[str, _Held] = {}

    def of(self, quotes: Mapping[str, Quote]) -> tuple[Decimal, Decimal]:
        """Unrealised and open risk, each rounded half-even to the minor unit as one sum."""
        gain = risk = 0.0
        large = False
        for name, position in self._book.positions.items():
            held = self._held.get(name)
            if (
                held is None
                or held.amount is not position.amount
                or held.cost is not position.held_cost
                or held.stop != position.stop
            ):
                held = self._held[name] = _in_floats(position)
            quote = quotes[name]
            price = quote.bid if held.units > 0 else quote.ask
            rate = self._rates.nearly(name, price)
            gain += (price * held.units - held.paid) * rate
            risk += held.at_risk * rate
            large = large or abs(held.paid) > _LARGE
        gain *= self._scale
        risk *= self._scale
        gained, risked = round(gain), round(risk)
        if large or abs(gain - gained) > _NEAR_MIDDLE or abs(risk - risked) > _NEAR_MIDDLE:
            return self._exactly(quotes)
        return gained * self._unit, risked * self._unit

    def _exactly(self, quotes: Mapping[str, Quote]) -> tuple[Decimal, Decimal]:
        gain = risk = ZERO
        for name, position in self._book.positions.items():
            price = exact(quotes[name].bid if position.side == "long" else quotes[name].ask)
            rate = self._rates.rate(name, price)
            gain += position.sign * (price * position.amount - position.held_cost) * rate
            if position.stop is not None:
                at_stop = position.held_cost - exact(position.stop) * position.amount
                risk += max(position.sign * at_stop * rate, ZERO)
        currency = self._book.currency
        # Adding zero makes a negative zero a plain one, as the way by floats has it.
        return round_money(gain, currency) + ZERO, round_money(risk, currency) + ZERO


def _in_floats(position: Position) -> _Held:
    sign, at_risk = position.sign, ZERO
    if position.stop is not None:
        at_risk = max(ZERO, sign * (position.held_cost - exact(position.stop) * position.amount))
    return _Held(
        amount=position.amount,
        cost=position.held_cost,
        stop=position.stop,
        units=float(sign * position.amount),
        paid=float(sign * position.held_cost),
        at_risk=float(at_risk),
    )
