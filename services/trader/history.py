"""What a strategy may look back on: the last closed bars of an instrument, per timeframe, as mid prices.

Columns hold exactly the declared number of bars, so that a restored engine, which is primed with as many,
sees the same. Longer timeframes are built from closed bars only (TRADING 4).
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from services.shared.calendar import trading_day_end
from services.shared.market import Bar

_DAY = 86_400
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class History:
    """Closed bars of one timeframe, oldest first; `close[-1]` is the newest.

    Mid prices, canonical floats. `true_range` is the largest of high-low and the distances of both to the
    close before.
    """

    __slots__ = ("close", "depth", "end", "high", "low", "open", "true_range")

    def __init__(self, depth: int) -> None:
        self.depth = depth
        self.end: list[datetime] = []
        self.open: list[float] = []
        self.high: list[float] = []
        self.low: list[float] = []
        self.close: list[float] = []
        self.true_range: list[float] = []

    def __len__(self) -> int:
        return len(self.close)

    def append(self, end: datetime, open_: float, high: float, low: float, close: float) -> None:
        """Add a closed bar and forget the oldest beyond the depth."""
        closes = self.close
        reach = high - low
        if closes:
            before = closes[-1]
            if high - before > reach:
                reach = high - before
            elif before - low > reach:
                reach = before - low
        self.end.append(end)
        self.open.append(open_)
        self.high.append(high)
        self.low.append(low)
        closes.append(close)
        self.true_range.append(reach)
        if len(closes) > self.depth:
            del self.end[0], self.open[0], self.high[0], self.low[0], closes[0], self.true_range[0]


class _Building:
    """A longer bar under way."""

    __slots__ = ("close", "end", "high", "low", "open")

    def __init__(self, end: datetime, open_: float, high: float, low: float, close: float) -> None:
        self.end = end
        self.open = open_
        self.high = high
        self.low = low
        self.close = close


class Timeframes:
    """All timeframes of one instrument, fed with the bars of the feed."""

    __slots__ = ("_base_seconds", "_building", "_longer", "base", "by_seconds")

    def __init__(self, base_seconds: int, timeframes: tuple[int, ...], depth: int) -> None:
        self._base_seconds = base_seconds
        self.by_seconds = {seconds: History(depth) for seconds in {base_seconds, *timeframes}}
        self.base = self.by_seconds[base_seconds]
        self._longer = tuple(sorted(set(timeframes) - {base_seconds}))
        self._building: dict[int, _Building] = {}

    def append(self, bar: Bar) -> None:
        """A bar of the feed has closed."""
        open_, high, low, close = bar.bid_open, bar.bid_high, bar.bid_low, bar.bid_close
        # Mostly two prices differ on all four or on none.
        if not (
            open_ == bar.ask_open and high == bar.ask_high and low == bar.ask_low and close == bar.ask_close
        ):
            open_, high = round((open_ + bar.ask_open) / 2, 10), round((high + bar.ask_high) / 2, 10)
            low, close = round((low + bar.ask_low) / 2, 10), round((close + bar.ask_close) / 2, 10)
        self.base.append(bar.end, open_, high, low, close)
        for seconds in self._longer:
            self._aggregate(seconds, bar, open_, high, low, close)

    def _aggregate(self, seconds: int, bar: Bar, open_: float, high: float, low: float, close: float) -> None:
        building = self._building.get(seconds)
        if building is not None and bar.start >= building.end:
            self._finish(seconds, building)
            building = None
        if building is None:
            building = self._building[seconds] = _Building(
                bucket_end(bar.start, seconds), open_, high, low, close
            )
        else:
            building.high = max(building.high, high)
            building.low = min(building.low, low)
            building.close = close
        if bar.end >= building.end:
            self._finish(seconds, building)

    def _finish(self, seconds: int, done: _Building) -> None:
        del self._building[seconds]
        self.by_seconds[seconds].append(done.end, done.open, done.high, done.low, done.close)


def bucket_end(start: datetime, seconds: int) -> datetime:
    """When the bar of `seconds` that holds `start` ends: multiples of UTC, and for a day the trading day."""
    if seconds == _DAY:
        return trading_day_end(start + timedelta(microseconds=1))
    since = int((start - _EPOCH).total_seconds())
    return _EPOCH + timedelta(seconds=(since // seconds + 1) * seconds)


def bars_to_prime(depth: int, base_seconds: int, timeframes: tuple[int, ...]) -> int:
    """How many bars of the feed rebuild every column exactly: one more than the depth of the longest."""
    longest = max((base_seconds, *timeframes))
    return (depth + 2) * -(-longest // base_seconds)
