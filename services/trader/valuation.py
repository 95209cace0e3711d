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

_LARGE = 1e6
"""Above so many minor units floats are not asked."""
_NEAR_MIDDLE = 0.49
"""A float further than this from the whole minor unit does not decide. Its own error is below 0.005."""


@dataclass(slots=True)
class _Held:
    """A position in floats: signed amount and cost. `same`: its quote currency is the account's."""

    name: str
    units: float
    paid: float
    same: bool


class Valuation:
    """Unrealised result and open risk of a book, longs at bid, shorts at ask. Whoever changes the book says so
    by `book_changed`."""

    def __init__(self, book: Book, rates: Rates) -> None:
        self._book = book
        self._rates = rates
        self._unit = minor_unit(book.currency)
        self._scale = float(1 / self._unit)
        self._held: list[_Held] = []
        self._looked = False
        self._fixed_risk: Decimal | None = None

    def book_changed(self) -> None:
        """A fill was booked, or a stop moved."""
        self._looked = False

    def of(self, quotes: Mapping[str, Quote]) -> tuple[Decimal, Decimal]:
        """Unrealised and open risk, each rounded half-even to the minor unit as one sum."""
        if not self._looked:
            self._look(quotes)
        gain = 0.0
        for held in self._held:
            quote = quotes[held.name]
            units = held.units
            change = (quote.bid if units > 0 else quote.ask) * units - held.paid
            gain += change if held.same else change * self._rate(held, quote)
        gain *= self._scale
        whole = round(gain)
        risk = self._fixed_risk
        if -_NEAR_MIDDLE < gain - whole < _NEAR_MIDDLE and -_LARGE < gain < _LARGE:
            return whole * self._unit, self._exact_risk(quotes) if risk is None else risk
        return self._exact_gain(quotes), self._exact_risk(quotes) if risk is None else risk

    def _rate(self, held: _Held, quote: Quote) -> float:
        return self._rates.nearly(held.name, quote.bid if held.units > 0 else quote.ask)

    def _look(self, quotes: Mapping[str, Quote]) -> None:
        currency = self._book.currency
        positions = self._book.positions.values()
        self._held = [_in_floats(position, currency) for position in positions]
        self._fixed_risk = self._exact_risk(quotes) if all(held.same for held in self._held) else None
        self._looked = True

    def _exact_gain(self, quotes: Mapping[str, Quote]) -> Decimal:
        gain = ZERO
        for position in self._book.positions.values():
            price = _exit_price(position, quotes)
            rate = self._rates.rate(position.instrument, price)
            gain += position.sign * (price * position.amount - position.held_cost) * rate
        # Adding zero makes a negative zero a plain one, as the way by floats has it.
        return round_money(gain, self._book.currency) + ZERO

    def _exact_risk(self, quotes: Mapping[str, Quote]) -> Decimal:
        risk = ZERO
        for position in self._book.positions.values():
            if position.stop is not None:
                at_stop = position.sign * (position.held_cost - exact(position.stop) * position.amount)
                if at_stop > 0:
                    risk += at_stop * self._rates.rate(position.instrument, _exit_price(position, quotes))
        return round_money(risk, self._book.currency) + ZERO


def _exit_price(position: Position, quotes: Mapping[str, Quote]) -> Decimal:
    quote = quotes[position.instrument]
    return exact(quote.bid if position.side == "long" else quote.ask)


def _in_floats(position: Position, currency: str) -> _Held:
    return _Held(
        name=position.instrument,
        units=float(position.sign * position.amount),
        paid=float(position.sign * position.held_cost),
        same=position.instrument.endswith(currency),
    )
