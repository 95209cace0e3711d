"""The replay feed: recorded prices of one or more instruments as one sequence of market steps.

Bars come as a file has them or are built from its quotes; prices of pairs that are not traded ride along
with the next step. Any step can be gone to directly, so a restored trader reads nothing twice. Reading
and checking files is `price_files`' business, pace is the trader's.
"""

from __future__ import annotations

import re
from array import array
from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from importlib import resources
from pathlib import Path

import pyarrow as pa

from services.shared import instruments
from services.shared.errors import InvalidInput
from services.shared.market import Bar
from services.trader.feeds.arrow_scalars import byte
from services.trader.feeds.base import MarketStep
from services.trader.feeds.price_files import PriceTable, moment, read_prices
from services.trader.feeds.tracks import Track, bars_of_quotes, bars_of_table, quotes_of_table, spacing

SAMPLE_INSTRUMENT = "EURUSD"
QUOTE_BAR_SECONDS = 60
DEFAULT_SPREAD = Decimal("1.0")
_NAMED = re.compile(r"[A-Z0-9]{3,16}=")
_NEXT_NAMED = re.compile(r",(?=[A-Z0-9]{3,16}=)")
_CHUNK = 65_536


@dataclass(slots=True, frozen=True)
class FileReport:
    """What was found in one file. `gaps` are places where bars are missing, `weekends` those of them that
    hold a market's close; `crossed` are rows with a bid above its ask. `first` and `last` are the times of
    the first row and of when the last was known."""

    instrument: str
    file: str
    kind: str
    rows: int
    seconds: int
    gaps: int
    weekends: int
    crossed: int
    first: datetime
    last: datetime

    def __str__(self) -> str:
        """One line for reports."""
        return (
            f"{self.instrument} from {self.file}: {self.rows} {self.kind} of {self.seconds} s, "
            f"{self.first:%Y-%m-%d %H:%M} to {self.last:%Y-%m-%d %H:%M} UTC, {self.gaps} gaps "
            f"({self.weekends} weekends), {self.crossed} rows with bid above ask"
        )


def sample_path() -> Path:
    """The packaged sample: 5000 real hourly bars of EURUSD, mid prices."""
    return Path(str(resources.files("services.trader.feeds") / "sample" / "EURUSD-1h.csv"))


def parse_spec(spec: str, traded: Sequence[str]) -> dict[str, Path]:
    """The file of each traded instrument.

    `spec` is `replay:FILE` for a single instrument, `replay:EURUSD=F1,GBPUSD=F2` for several, the same
    without `replay:`, or empty for the packaged sample. Raises InvalidInput naming what is missing.
    """
    given = spec.removeprefix("replay").removeprefix(":") if spec.split(":")[0] == "replay" else spec
    if not given:
        if tuple(traded) != (SAMPLE_INSTRUMENT,):
            raise InvalidInput(
                f"feed: the packaged sample has {SAMPLE_INSTRUMENT} only, was asked for {', '.join(traded)}; "
                f"expected replay:{traded[0]}=FILE"
            )
        return {SAMPLE_INSTRUMENT: sample_path()}
    if not _NAMED.match(given):
        if len(traded) != 1:
            raise InvalidInput(
                f"feed: expected a file for each of {', '.join(traded)}, as in EURUSD=F1,GBPUSD=F2"
            )
        return {traded[0]: Path(given)}
    files = dict(part.split("=", 1) for part in _NEXT_NAMED.split(given))
    missing = [name for name in traded if not files.get(name)]
    if missing:
        raise InvalidInput(f"feed: no file for {', '.join(missing)}; it names {', '.join(files)}")
    return {name: Path(files[name]) for name in traded}


class ReplayFeed:
    """Recorded prices; see `base.Feed`. Made by `open_replay`."""

    def __init__(
        self,
        name: str,
        bars: Sequence[Track],
        quotes: Sequence[Track],
        rates: Sequence[Track],
        reports: Sequence[FileReport],
        bar_seconds: int,
    ) -> None:
        self.name = name
        self.bar_seconds = bar_seconds
        self.reports = tuple(reports)
        self.rate_pairs = tuple(track.instrument for track in rates)
        self.instruments = tuple(track.instrument for track in bars)
        self._bars = tuple(bars)
        self._tracks = (*bars, *quotes)
        self._rates = tuple(rates)
        self._order, self._bounds, self._times = _merge(self._tracks, len(bars))
        for track in rates:
            if len(self) and (not len(track) or track.known[0] > self._times[0]):
                raise InvalidInput(
                    f"rates: prices of {track.instrument} begin after the first of {self.instruments[0]}"
                )

    def __len__(self) -> int:
        return len(self._bounds) - 1

    @property
    def first(self) -> datetime:
        """When the first step's prices are known."""
        return moment(self._times[0])

    @property
    def last(self) -> datetime:
        """When the last step's prices are known."""
        return moment(self._times[-1])

    def time(self, index: int) -> datetime:
        """When the prices of step `index` are known."""
        return moment(self._times[index])

    def steps(self, start: int = 0) -> Iterator[MarketStep]:
        """The steps from number `start` to the end."""
        if len(self._tracks) == 1 and not self._rates:
            for bar in self._bars[0].bars(start):
                yield MarketStep(bar.end, (bar,))
            return
        yield from self._merged(start)

    def _merged(self, start: int) -> Iterator[MarketStep]:
        order, bounds, times = self._order, self._bounds, self._times
        begin, count = bounds[start], len(self._bars)
        rows = [order.count(channel, 0, begin) for channel in range(len(self._tracks))]
        bars = [track.bars(row) for track, row in zip(self._bars, rows, strict=False)]
        quotes = [track.quotes(row) for track, row in zip(self._tracks[count:], rows[count:], strict=True)]
        before = times[start - 1] if start else -1
        for index in range(start, len(self)):
            now = times[index]
            channels = order[bounds[index] : bounds[index + 1]]
            if channels[0] >= count:
                riding = [track.quote(row) for track, row in self._news(before, now)]
                yield MarketStep(moment(now), (), (*riding, next(quotes[channels[0] - count])))
            else:
                along = [track.point(row) for track, row in self._news(before, now)]
                yield MarketStep(moment(now), (*along, *[next(bars[channel]) for channel in channels]))
            before = now

    def _news(self, before: int, now: int) -> Iterator[tuple[Track, int]]:
        """The latest row of each rate that became known after `before` and up to `now`."""
        for track in self._rates:
            row = bisect_right(track.known, now) - 1
            if track.known[row] > before:
                yield track, row

    def history(self, cursor: int, count: int) -> list[MarketStep]:
        """Of each instrument the last `count` bars that closed in steps before `cursor`, a step each."""
        found: list[tuple[datetime, int, Bar]] = []
        for channel, track in enumerate(self._bars):
            until = self._order.count(channel, 0, self._bounds[cursor])
            since = max(0, until - count)
            found += [(bar.end, channel, bar) for bar in track.bars(since, until)]
        return [MarketStep(end, (bar,)) for end, _, bar in sorted(found, key=lambda item: item[:2])]


def open_replay(
    files: Mapping[str, Path],
    *,
    rate_files: Mapping[str, Path] | None = None,
    spread: Decimal = DEFAULT_SPREAD,
    bar_seconds: int | None = None,
    name: str | None = None,
) -> ReplayFeed:
    """Read the files of the traded instruments and of the pairs that only rates come from.

    `spread` in pips is put around mid prices. Bars are as long as their commonest spacing, those built
    from quotes a minute, or `bar_seconds`. Raises PriceFileError for a file that cannot be, InvalidInput
    when bars of several instruments differ in length.
    """
    bars: list[Track] = []
    quotes: list[Track] = []
    reports: list[FileReport] = []
    lengths: dict[str, int] = {}
    for instrument, path in files.items():
        table = read_prices(path)
        lengths[instrument] = _length(table, bar_seconds)
        track = _bar_track(instrument, table, lengths[instrument], spread)
        bars.append(track)
        if table.kind == "quotes":
            quotes.append(quotes_of_table(instrument, table))
        reports.append(_report(instrument, table, track, lengths[instrument]))
    if len(set(lengths.values())) > 1:
        shown = ", ".join(f"{pair} {seconds} s" for pair, seconds in lengths.items())
        raise InvalidInput(f"feed: expected bars of one length, was {shown}")
    if quotes and len(quotes) < len(bars):
        raise InvalidInput("feed: expected quotes of every instrument or bars of every one, was a mixture")
    rates = [
        _rate_track(pair, path, spread, bar_seconds)
        for pair, path in (rate_files or {}).items()
        if pair not in files
    ]
    shown_name = name or "replay:" + ",".join(path.name for path in files.values())
    return ReplayFeed(shown_name, bars, quotes, rates, reports, next(iter(lengths.values())))


def _length(table: PriceTable, given: int | None) -> int:
    if given is not None:
        if given <= 0:
            raise InvalidInput(f"bar length: expected more than 0 s, was {given}")
        return given
    return QUOTE_BAR_SECONDS if table.kind == "quotes" else spacing(table)


def _bar_track(instrument: str, table: PriceTable, seconds: int, spread: Decimal) -> Track:
    if table.kind == "quotes":
        return bars_of_quotes(instrument, table, seconds)
    return bars_of_table(instrument, table, seconds, spread * instruments.find(instrument).pip / 2)


def _rate_track(pair: str, path: Path, spread: Decimal, bar_seconds: int | None) -> Track:
    table = read_prices(path)
    if table.kind == "quotes":
        return quotes_of_table(pair, table)
    seconds = spacing(table) if len(table) > 1 or bar_seconds is None else bar_seconds
    return bars_of_table(pair, table, seconds, spread * instruments.find(pair).pip / 2)


def _report(instrument: str, table: PriceTable, track: Track, seconds: int) -> FileReport:
    gaps, weekends = track.gaps()
    return FileReport(
        instrument=instrument,
        file=table.path.name,
        kind={"mid": "mid bars", "sides": "bid and ask bars", "quotes": "quotes, in bars"}[table.kind],
        rows=len(table),
        seconds=seconds,
        gaps=gaps,
        weekends=weekends,
        crossed=table.crossed,
        first=moment(table.times[0].as_py()),
        last=moment(max(track.known[-1] if len(track) else 0, table.times[-1].as_py())),
    )


def _merge(tracks: Sequence[Track], bar_tracks: int) -> tuple[bytes, Sequence[int], Sequence[int]]:
    """Which track each row comes from in order of time, where each step begins in that order, and its
    time. At one time bars come first and are one step; every quote is a step of its own."""
    if len(tracks) == 1:
        return bytes(len(tracks[0])), range(len(tracks[0]) + 1), tracks[0].known
    known = pa.chunked_array([track.known_array for track in tracks])
    channel = pa.chunked_array([pa.repeat(byte(n), len(track)) for n, track in enumerate(tracks)])
    table = pa.table({"known": known, "channel": channel})
    table = table.sort_by([("known", "ascending"), ("channel", "ascending")])
    channels, bounds, times = bytearray(), array("q"), array("q")
    last = -1
    for block in table.to_batches(max_chunksize=_CHUNK):
        for now, which in zip(block["known"].to_pylist(), block["channel"].to_pylist(), strict=True):
            if now != last or which >= bar_tracks:
                bounds.append(len(channels))
                times.append(now)
            channels.append(which)
            last = now if which < bar_tracks else -1
    bounds.append(len(channels))
    return bytes(channels), bounds, times
