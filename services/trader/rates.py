"""What one unit of an instrument's quote currency is worth in the account's currency, as an exact decimal.

Pure. TRADING 2: nothing to convert when both are the same; the instrument's own price when its base is
the account's; otherwise a rate that was given, as a number or as the latest prices of a pair that is not
traded, in either direction. Such prices come with the feed's steps (`feeds.rate_files` reads them).
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from decimal import ROUND_HALF_EVEN, Decimal
from typing import Literal, TypeAlias

from services.shared import instruments
from services.shared.errors import InvalidInput
from services.shared.instruments import Instrument
from services.shared.market import Quote
from services.shared.money import exact

_DIGITS = Decimal("1E-12")
_ONE = Decimal(1)
_TWO = Decimal(2)
_Way: TypeAlias = Literal["same", "own", "given"]


def inverse(price: Decimal) -> Decimal:
    """One over `price`, half-even at twelve decimals."""
    return (_ONE / price).quantize(_DIGITS, rounding=ROUND_HALF_EVEN)


class Rates:
    """The rates of a run: the latest of each, by quote currency in `known` where it was given."""

    def __init__(
        self,
        currency: str,
        traded: Iterable[str],
        constants: Mapping[str, Decimal] | None = None,
        priced: Collection[str] = (),
    ) -> None:
        """`constants` are rates given as numbers, `priced` the pairs whose prices come by `on_quote`.

        Raises InvalidInput when an instrument's quote currency cannot be converted, naming the option that
        would help.
        """
        self.currency = currency
        self.known: dict[str, Decimal] = {}
        self._constants = dict(constants or {})
        self._priced = frozenset(priced)
        self._quote_currency: dict[str, str] = {}
        self._way: dict[str, _Way] = {}
        self._currency_of: dict[str, str] = {}
        for symbol in traded:
            pair = instruments.find(symbol)
            self._quote_currency[symbol] = pair.quote
            self._way[symbol] = self._find_way(pair)

    def _find_way(self, pair: Instrument) -> _Way:
        if pair.quote == self.currency:
            return "same"
        if pair.base == self.currency:
            return "own"
        for source in (pair.quote + self.currency, self.currency + pair.quote):
            if source in self._priced:
                self._currency_of[source] = pair.quote
                return "given"
            if source in self._constants:
                self.known[pair.quote] = self._turned(source, self._constants[source])
                return "given"
        wanted = self.currency + pair.quote
        raise InvalidInput(
            f"{pair.symbol}: no rate from {pair.quote} to {self.currency}; give --rates {wanted}=FILE or "
            f"--rates {wanted}=NUMBER (or {pair.quote}{self.currency})"
        )

    def _turned(self, source: str, price: Decimal) -> Decimal:
        return price if source.endswith(self.currency) else inverse(price)

    @property
    def follows_prices(self) -> bool:
        """Whether any rate comes by `on_quote`."""
        return bool(self._currency_of)

    def on_quote(self, quote: Quote) -> None:
        """Take a pair's latest prices; one that no rate comes from changes nothing."""
        currency = self._currency_of.get(quote.instrument)
        if currency is not None:
            mid = (exact(quote.bid) + exact(quote.ask)) / _TWO
            self.known[currency] = self._turned(quote.instrument, mid)

    def nearly(self, instrument: str, price: float) -> float:
        """The rate as a float, quickly: to within its twelve decimals. Raises as `rate` does."""
        way = self._way[instrument]
        if way == "same":
            return 1.0
        return 1.0 / price if way == "own" else float(self.rate(instrument, _ONE))

    def rate(self, instrument: str, price: Decimal) -> Decimal:
        """Account currency for one unit of `instrument`'s quote currency, its price being `price`.

        Raises InvalidInput while a rate that comes by prices has had none.
        """
        way = self._way[instrument]
        if way == "same":
            return _ONE
        if way == "own":
            return inverse(price)
        try:
            return self.known[self._quote_currency[instrument]]
        except KeyError:
            raise InvalidInput(
                f"{instrument}: no price of {self._quote_currency[instrument]} known yet"
            ) from None
