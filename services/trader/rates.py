"""What one unit of an instrument's quote currency is worth in the account's currency, as an exact decimal.

Pure. TRADING 2: nothing to convert when both are the same; the instrument's own price when its base is
the account's; otherwise a rate that was given, as a number or as the latest price of a pair that is not
traded, in either direction. Reading such prices from files is `feeds.rate_files`' business.
"""

from __future__ import annotations

from array import array
from bisect import bisect_right
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import ROUND_HALF_EVEN, Decimal
from typing import Literal, TypeAlias

from services.shared import instruments
from services.shared.errors import InvalidInput
from services.shared.money import exact

DIGITS = Decimal("1E-12")
_ONE = Decimal(1)
_TWO = Decimal(2)


@dataclass(slots=True, frozen=True)
class Series:
    """Prices of a pair over time: both sides' closes, and when each was known, in microseconds."""

    known: array[int]
    bids: array[float]
    asks: array[float]

    def mid(self, at: int) -> Decimal | None:
        """The middle of the latest prices known at `at`, None before the first."""
        row = bisect_right(self.known, at) - 1
        return None if row < 0 else (exact(self.bids[row]) + exact(self.asks[row])) / _TWO


Given: TypeAlias = Mapping[str, Decimal | Series]
_Way: TypeAlias = Literal["same", "own", "given"]


def inverse(price: Decimal) -> Decimal:
    """One over `price`, half-even at twelve decimals."""
    return (_ONE / price).quantize(DIGITS, rounding=ROUND_HALF_EVEN)


class Rates:
    """The rates of a run. Given series move with `advance`, to be called once a step before any use."""

    def __init__(self, currency: str, traded: Iterable[str], given: Given | None = None) -> None:
        """Raises InvalidInput when an instrument's quote currency cannot be converted, naming the option
        that would help."""
        self.currency = currency
        self._given = dict(given or {})
        self._way: dict[str, _Way] = {}
        self._quote: dict[str, str] = {}
        self._sources: dict[str, str] = {}
        self.known: dict[str, Decimal] = {}
        for symbol in traded:
            pair = instruments.find(symbol)
            self._quote[symbol] = pair.quote
            self._way[symbol] = self._find_way(pair)
        self._series = {
            quote: source
            for quote, source in self._sources.items()
            if isinstance(self._given[source], Series)
        }
        for quote, source in self._sources.items():
            constant = self._given[source]
            if isinstance(constant, Decimal):
                self.known[quote] = self._turned(source, constant)

    def _find_way(self, pair: instruments.Instrument) -> _Way:
        if pair.quote == self.currency:
            return "same"
        if pair.base == self.currency:
            return "own"
        for source in (pair.quote + self.currency, self.currency + pair.quote):
            if source in self._given:
                self._sources[pair.quote] = source
                return "given"
        wanted = self.currency + pair.quote
        raise InvalidInput(
            f"{pair.symbol}: no rate from {pair.quote} to {self.currency}; give --rates {wanted}=FILE or "
            f"--rates {wanted}=NUMBER (or {pair.quote}{self.currency})"
        )

    def _turned(self, source: str, price: Decimal) -> Decimal:
        return price if source.endswith(self.currency) else inverse(price)

    def advance(self, now: datetime) -> None:
        """Take the given series' prices known at `now`. Before a series begins its rate is not known."""
        if not self._series:
            return
        at = (now - _EPOCH) // _MICROSECOND
        for quote, source in self._series.items():
            series = self._given[source]
            mid = series.mid(at) if isinstance(series, Series) else series
            if mid is not None:
                self.known[quote] = self._turned(source, mid)

    def knows(self, instrument: str) -> bool:
        """Whether results of `instrument` can be converted now."""
        return self._way[instrument] != "given" or self._quote[instrument] in self.known

    def rate(self, instrument: str, price: Decimal) -> Decimal:
        """Account currency for one unit of `instrument`'s quote currency, its price being `price`.

        Raises KeyError while `knows` says no.
        """
        way = self._way[instrument]
        if way == "same":
            return _ONE
        if way == "own":
            return inverse(price)
        return self.known[self._quote[instrument]]

    @property
    def sources(self) -> dict[str, str]:
        """For reports: by quote currency the given pair its rate comes from."""
        return dict(self._sources)


_EPOCH = datetime.fromisoformat("1970-01-01T00:00:00+00:00")
_MICROSECOND = timedelta(microseconds=1)
