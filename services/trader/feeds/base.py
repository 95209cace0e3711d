"""What a feed gives: market steps, each everything that became known at one moment.

The loop takes steps in order and counts them; that count is the cursor a restored trader goes on from.
Where prices come from is the adapters' business.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from services.shared.market import Bar, Quote


@dataclass(slots=True, frozen=True)
class MarketStep:
    """Everything that became known at `time`: bars that closed then, or one quote.

    Sides are as the source has them: a bid may be above its ask (TRADING 5), and whoever fills orders
    takes the higher to buy at and the lower to sell at.
    """

    time: datetime
    bars: tuple[Bar, ...] = ()
    quotes: tuple[Quote, ...] = ()


class Feed(Protocol):
    """A source of recorded prices that can be read from any step, and again."""

    @property
    def name(self) -> str:
        """What reports call it."""

    @property
    def instruments(self) -> tuple[str, ...]:
        """The instruments it has prices of, in the order of bars within a step."""

    @property
    def bar_seconds(self) -> int:
        """The length of its bars."""

    def __len__(self) -> int:
        """How many steps there are."""

    def steps(self, start: int = 0) -> Iterator[MarketStep]:
        """The steps from number `start` (counted from 0) to the end, times never falling."""

    def history(self, cursor: int, count: int) -> Sequence[Bar]:
        """Of each instrument the last `count` bars that closed in steps before `cursor`, by time."""
