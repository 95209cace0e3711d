"""Conversion from an instrument's quote currency to the account's (TRADING 2). Pure.

1 where they are the same; the instrument's own price where its base is the account's; otherwise a rate that
was given, constant or from a price file, by the pair in either direction. None of these: deploy is refused.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from decimal import Decimal

from services.shared import instruments
from services.shared.errors import InvalidInput
from services.shared.market import Quote
from services.shared.money import exact

_ONE = Decimal(1)
_DIGITS = Decimal("1e-15")


class Rates:
    """The rates of one run. `constants` are given ones by pair; `files` are pairs that the feed prices."""

    def __init__(
        self,
        currency: str,
        traded: Iterable[str],
        constants: Mapping[str, Decimal] | None = None,
        files: Iterable[str] = (),
    ) -> None:
        self.currency = currency
        self.known: dict[str, Decimal] = {}
        self._own: dict[str, bool] = {}
        self._quote_of: dict[str, str] = {}
        self._pairs: dict[str, tuple[str, bool]] = {}
        for pair, value in (constants or {}).items():
            other, inverse = self._sides(pair)
            self.known[other] = (_ONE / value if inverse else value).quantize(_DIGITS)
        for pair in files:
            self._pairs[pair] = self._sides(pair)
        for symbol in traded:
            self._declare(symbol)

    def _sides(self, pair: str) -> tuple[str, bool]:
        """The other currency of a conversion pair, and whether its price must be turned over."""
        found = instruments.find(pair)
        if found.quote == self.currency:
            return found.base, False
        if found.base == self.currency:
            return found.quote, True
        raise InvalidInput(
            f"--rates {pair}: expected a pair with the account's currency {self.currency} in it"
        )

    def _declare(self, symbol: str) -> None:
        found = instruments.find(symbol)
        self._quote_of[symbol] = found.quote
        self._own[symbol] = found.base == self.currency
        given = {other for other, _ in self._pairs.values()}
        if found.quote == self.currency:
            self.known[found.quote] = _ONE
        elif not self._own[symbol] and found.quote not in self.known and found.quote not in given:
            pair = self.currency + found.quote
            raise InvalidInput(
                f"{symbol} is priced in {found.quote} and the account is in {self.currency}: give the rate between "
                f"them, for example --rates {pair}=FILE or --rates {pair}=1.0"
            )

    def on_quote(self, quote: Quote) -> None:
        """Take on the newest price of a conversion pair; any other instrument is ignored."""
        pair = self._pairs.get(quote.instrument)
        if pair is not None:
            mid = (exact(quote.bid) + exact(quote.ask)) / 2
            self.known[pair[0]] = (_ONE / mid if pair[1] else mid).quantize(_DIGITS)

    def knows(self, symbol: str) -> bool:
        """Whether results of this instrument can be converted now."""
        return self._own[symbol] or self._quote_of[symbol] in self.known

    def rate(self, symbol: str, price: Decimal) -> Decimal:
        """Account currency for one unit of the instrument's quote currency, when it trades at `price`.

        Raises InvalidInput before the first price of a conversion pair.
        """
        if self._own[symbol]:
            return (_ONE / price).quantize(_DIGITS)
        rate = self.known.get(self._quote_of[symbol])
        if rate is None:
            raise InvalidInput(f"there is no rate from {self._quote_of[symbol]} to {self.currency} yet")
        return rate
