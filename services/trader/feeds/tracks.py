"""One instrument's prices in columns, and the bars and quotes made of them row by row.

A track knows when each of its rows became known: a bar at its end, a quote at its time. It holds floats
in columns, so that a million rows take tens of megabytes; objects are made as they are asked for.
"""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Iterator
from datetime import timedelta
from decimal import Decimal
from functools import cached_property

import pyarrow as pa
import pyarrow.compute as pc

from services.shared.calendar import week_close
from services.shared.errors import InvalidInput
from services.shared.market import Bar, Quote
from services.shared.money import canonical
from services.trader.feeds.arrow_scalars import first_true, real, whole
from services.trader.feeds.price_files import EPOCH, SIDES, PriceTable, canonical_column, moment

_SECOND = 1_000_000
_CHUNK = 4096


class Track:
    """Rows of one instrument: bars when `sides` has eight columns, quotes when it has two."""

    def __init__(
        self,
        instrument: str,
        starts: pa.Int64Array,
        known: pa.Int64Array,
        sides: list[pa.DoubleArray],
        volume: pa.DoubleArray | None = None,
    ) -> None:
        self.instrument = instrument
        self._starts = starts
        self.known_array = known
        self._sides = sides
        self._volume = volume

    def __len__(self) -> int:
        return len(self.known_array)

    @cached_property
    def known(self) -> array[int]:
        """When each row became known, in microseconds since 1970."""
        times = array("q")
        for begin in range(0, len(self), _CHUNK):
            times.extend(self.known_array.slice(begin, _CHUNK).to_pylist())
        return times

    def bars(self, start: int = 0, stop: int | None = None) -> Iterator[Bar]:
        """The bars from row `start` on, up to row `stop`."""
        name, epoch, step = self.instrument, EPOCH, timedelta
        until = len(self) if stop is None else stop
        for begin in range(start, until, _CHUNK):
            count = min(_CHUNK, until - begin)
            columns = [
                column.slice(begin, count).to_pylist()
                for column in (self._starts, self.known_array, *self._sides)
            ]
            volumes = [0.0] * count if self._volume is None else self._volume.slice(begin, count).to_pylist()
            for opened, closed, bo, bh, bl, bc, ao, ah, al, ac, volume in zip(*columns, volumes, strict=True):
                start_time, end = epoch + step(0, 0, opened), epoch + step(0, 0, closed)
                yield Bar(name, start_time, end, bo, bh, bl, bc, ao, ah, al, ac, volume)

    def quotes(self, start: int = 0) -> Iterator[Quote]:
        """The quotes from row `start` on."""
        for begin in range(start, len(self), _CHUNK):
            columns = [column.slice(begin, _CHUNK).to_pylist() for column in (self.known_array, *self._sides)]
            for time, bid, ask in zip(*columns, strict=True):
                yield Quote(self.instrument, moment(time), bid, ask)

    def quote(self, row: int) -> Quote:
        """The last two sides of a row."""
        half = len(self._sides) // 2
        bid, ask = self._sides[half - 1][row].as_py(), self._sides[-1][row].as_py()
        return Quote(self.instrument, moment(self.known_array[row].as_py()), bid, ask)

    def point(self, row: int) -> Bar:
        """The last two sides of a row as a bar without extent: what a rate is taken from."""
        last = self.quote(row)
        bid, ask = last.bid, last.ask
        return Bar(self.instrument, last.time, last.time, bid, bid, bid, bid, ask, ask, ask, ask)

    def gaps(self) -> tuple[int, int]:
        """How many times bars are missing between two, and how many of these hold a week's close."""
        if len(self) < 2:
            return 0, 0
        until, since = self.known_array.slice(0, len(self) - 1), self._starts.slice(1)
        missing = pc.less(until, since)
        before = until.filter(missing).to_pylist()
        after = since.filter(missing).to_pylist()
        weekends = sum(
            week_close(moment(end)) < moment(begin) for end, begin in zip(before, after, strict=True)
        )
        return len(before), weekends


def spacing(table: PriceTable) -> int:
    """The commonest distance of a file's bars in seconds; the shorter of two that are as common."""
    if len(table) < 2:
        raise InvalidInput(f"{table.path}: one bar alone does not tell its length; give --bar")
    counts: Counter[int] = Counter()
    for item in pc.value_counts(pc.pairwise_diff(table.times).slice(1)):
        counts[item["values"].as_py()] = item["counts"].as_py()
    commonest = min(counts, key=lambda distance: (-counts[distance], distance))
    if commonest % _SECOND:
        raise InvalidInput(f"{table.path}: bars {commonest} µs apart; expected whole seconds, give --bar")
    return int(commonest // _SECOND)


def bars_of_table(instrument: str, table: PriceTable, seconds: int, half_spread: Decimal) -> Track:
    """A file's bars; mid prices get `half_spread` taken off for the bid and put on for the ask.

    Raises PriceFileError for a bar that begins before the one before has ended, and where nothing is left
    of a price after the spread.
    """
    known = pc.add(table.times, whole(seconds * _SECOND))
    overlap = first_true(pc.less(table.times.slice(1), known.slice(0, len(table) - 1)))
    if overlap >= 0:
        raise table.error(
            overlap + 1,
            f"time {moment(table.times[overlap + 1].as_py()):%Y-%m-%dT%H:%M:%SZ} is within the bar "
            f"before, of {seconds} s; give --bar for shorter bars",
        )
    volume = table.columns.get("volume")
    if table.kind == "sides":
        return Track(instrument, table.times, known, [table.columns[name] for name in SIDES], volume)
    half = real(canonical(float(half_spread)))
    mids = [table.columns[name] for name in ("open", "high", "low", "close")]
    bids = [canonical_column(pc.subtract(mid, half)) for mid in mids]
    asks = [canonical_column(pc.add(mid, half)) for mid in mids]
    gone = first_true(pc.less_equal(bids[2], real(0.0)))
    if gone >= 0:
        raise table.error(
            gone, f"low {mids[2][gone].as_py():.10g} is not above half the spread, {half_spread}"
        )
    return Track(instrument, table.times, known, [*bids, *asks], volume)


def quotes_of_table(instrument: str, table: PriceTable) -> Track:
    """A file's quotes, known at once."""
    return Track(instrument, table.times, table.times, [table.columns["bid"], table.columns["ask"]])


def bars_of_quotes(instrument: str, table: PriceTable, seconds: int) -> Track:
    """Bars built from quotes at multiples of `seconds` (UTC); the volume is the number of quotes. A quote
    at a bar's end belongs to the next; the last bar counts only if the file goes on to its end."""
    length = whole(seconds * _SECOND)
    start = pc.multiply(pc.divide(table.times, length), length)
    groups = pa.table({"start": start, "bid": table.columns["bid"], "ask": table.columns["ask"]}).group_by(
        "start", use_threads=False
    )
    parts = ("first", "max", "min", "last")
    wanted = [(side, part) for side in ("bid", "ask") for part in parts]
    built = groups.aggregate([*wanted, ("bid", "count")]).combine_chunks()
    if pc.add(built["start"], length)[-1].as_py() > table.times[-1].as_py():
        built = built.slice(0, built.num_rows - 1)
    columns = {name: built[name].combine_chunks() for name in built.column_names}
    return Track(
        instrument,
        columns["start"],
        pc.add(columns["start"], length),
        [columns[f"{side}_{part}"] for side, part in wanted],
        pc.cast(columns["bid_count"], pa.float64()),
    )
