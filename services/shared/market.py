"""Prices as the services hand them around: closed bars and quotes, with both sides.

Plain slotted dataclasses, since every bar of a backtest passes through them. Prices are canonical
floats (see `money`) in the instrument's quote currency; times are aware and UTC.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime


@dataclass(slots=True, frozen=True)
class Bar:
    """One closed bar: known at `end`, which is also its time. `start` is what a file calls its time."""

    instrument: str
    start: datetime
    end: datetime
    bid_open: float
    bid_high: float
    bid_low: float
    bid_close: float
    ask_open: float
    ask_high: float
    ask_low: float
    ask_close: float
    volume: float = 0.0


@dataclass(slots=True)
class Quote:
    """The two sides at a moment. Not frozen, since one is made per bar; nobody changes one."""

    instrument: str
    time: datetime
    bid: float
    ask: float


def opening(price: Bar | Quote) -> Quote:
    """Where a bar opened, as the quote of its start; a quote is that already."""
    if isinstance(price, Quote):
        return price
    return Quote(price.instrument, price.start, price.bid_open, price.ask_open)
