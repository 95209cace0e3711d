"""The equity curve in a bounded number of points, at a bounded cost, with every peak and trough in it.

The level is chosen by how many marks there are: the marks themselves, or the recorder's rollups by
minute, hour or trading day. What is still too many is merged into buckets of up to four points: first,
lowest, highest and last equity, so that no extreme is lost. Points are numbers for a drawing.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from services.api.answers.records import ChartAnswer, ChartMeta
from services.shared.calendar import day_end, trading_day

if TYPE_CHECKING:
    from services.api.ledger import Proxy, Record
    from services.api.results import Run

Level: TypeAlias = Literal["raw", "minute", "hour", "day"]
Point: TypeAlias = tuple[datetime, float, float]
"""Time, equity, drawdown."""

FEWEST_POINTS = 20
MOST_POINTS = 5000
_ROWS_A_POINT = 4
_START = datetime(1970, 1, 1, tzinfo=UTC)
_END = datetime(2200, 1, 1, tzinfo=UTC)
_MARKS = (
    "select time, step, equity::float8 as equity, drawdown::float8 as drawdown, peak::float8 as peak,"
    " max_drawdown::float8 as deepest from equity"
)
_FIRST = _MARKS + " where run_id = $1 and time >= $2 order by time, seq limit 1"
_LAST = _MARKS + " where run_id = $1 and time < $2 order by time desc, seq desc limit 1"
_RAW = _MARKS + " where run_id = $1 and time >= $2 and time < $3 order by time, seq"
# Merged where the rows are: as many even stretches of time as wanted, those without rows left out.
_ROLLUP = """
with stretches as (
    select width_bucket(date_part('epoch', bucket), $5::float8, $6::float8, $7::int) as stretch,
        min(bucket) as start, max(bucket) as until, min(low) as low, max(high) as high,
        max(max_drawdown) as max_drawdown, count(*) as rows
    from equity_{level} where trader = $1 and run_id = $2 and bucket >= $3 and bucket <= $4 group by stretch)
select start, until, f.first_equity::float8, s.low::float8, s.high::float8, l.last_equity::float8,
    s.max_drawdown::float8, rows
from stretches s
    join equity_{level} f on f.trader = $1 and f.run_id = $2 and f.bucket = s.start
    join equity_{level} l on l.trader = $1 and l.run_id = $2 and l.bucket = s.until
order by start"""
_LENGTHS: dict[Level, timedelta] = {
    "minute": timedelta(minutes=1),
    "hour": timedelta(hours=1),
    "day": timedelta(days=1),
}


@dataclass(frozen=True, slots=True)
class Candle:
    """A stretch of time: where equity began, how low and high it went, where it ended, and the deepest
    drawdown of the run up to its end."""

    start: datetime
    end: datetime
    first: float
    low: float
    high: float
    last: float
    max_drawdown: float


EMPTY = ChartAnswer(
    run_id=None,
    times=[],
    equities=[],
    drawdowns=[],
    meta=ChartMeta(level="none", rows=0, bound=0, complete=True),
)


async def chart(
    connection: Proxy, run: Run, points: int, start: datetime | None = None, end: datetime | None = None
) -> ChartAnswer:
    """At most `points` points of `run` from `start` up to before `end`. Merged buckets at the edges are
    whole, so they may hold an extreme from just outside."""
    first = await connection.fetchrow(_FIRST, run.run_id, start or _START)
    last = await connection.fetchrow(_LAST, run.run_id, end or _END)
    if first is None or last is None or first["time"] > last["time"]:
        return EMPTY.model_copy(update={"run_id": run.run_id})
    marks = max(last["step"] - first["step"] + 1, 1)
    level = choose_level(marks, last["time"] - first["time"], points)
    if level == "raw":
        rows = await connection.fetch(_RAW, run.run_id, first["time"], last["time"] + timedelta.resolution)
        raw = [(row["time"], row["equity"], row["drawdown"]) for row in rows]
        made = raw if len(raw) <= points else list(thin(raw, points))
        return _answer(run.run_id, made, level, len(raw), points)
    edges = [_bucket(level, moment) for moment in (first["time"], last["time"])]
    seconds = [_epoch(edges[0]), _epoch(edges[1]) + 1]
    sql = _ROLLUP.format(level=level)
    rows = await connection.fetch(sql, run.trader, run.run_id, *edges, *seconds, max(points // 4, 1))
    candles = [_candle(level, row) for row in rows]
    made = list(unfold(candles, first["time"], last["time"], first["peak"], first["deepest"]))
    if made:  # the ends are known to the moment
        made[0] = (first["time"], *made[0][1:])
        made[-1] = (last["time"], last["equity"], last["drawdown"])
    return _answer(run.run_id, made, level, sum(row["rows"] for row in rows), points)


def choose_level(marks: int, span: timedelta, points: int) -> Level:
    """The finest level with a bounded number of rows; trading days when even hours are too many."""
    most = points * _ROWS_A_POINT
    if marks <= most:
        return "raw"
    for level in ("minute", "hour"):
        known: Level = level
        if min(marks, span / _LENGTHS[known] + 2) <= most:
            return known
    return "day"


def thin(marks: Sequence[Point], points: int) -> Iterator[Point]:
    """At most `points` of `marks`: of each even share its first, lowest, highest and last."""
    for share in _shares(marks, max(points // 4, 1)):
        places = range(len(share))
        lowest = min(places, key=lambda place: share[place][1])
        highest = max(places, key=lambda place: share[place][1])
        deepest = max(mark[2] for mark in share)
        for place in sorted({0, lowest, highest, len(share) - 1}):
            moment, equity, drawdown = share[place]
            yield moment, equity, deepest if place == lowest else drawdown


def unfold(
    candles: Sequence[Candle], earliest: datetime, latest: datetime, peak: float, deepest: float
) -> Iterator[Point]:
    """Each candle as its path: down to the low and up to the high when it rose, the other way round when
    it fell; what repeats is left out.

    Drawdowns count from `peak`, the highest before the first candle. Which came first within a candle is
    not known; where the run's deepest drawdown (`deepest` before) grew in one, that is shown at its low,
    and elsewhere no more than that ever was.
    """
    for candle in candles:
        quarter = (candle.end - candle.start) / 4
        rose = candle.last >= candle.first
        path = (
            candle.first,
            *((candle.low, candle.high) if rose else (candle.high, candle.low)),
            candle.last,
        )
        before: float | None = None
        for place, equity in enumerate(path):
            peak = max(peak, equity)
            if equity != before:
                moment = min(max(candle.start + place * quarter, earliest), latest)
                grew = equity == candle.low and candle.max_drawdown > deepest
                drawdown = candle.max_drawdown if grew else min(round(peak - equity, 8), candle.max_drawdown)
                yield moment, equity, drawdown
            before = equity
        deepest = max(deepest, candle.max_drawdown)


def _shares(items: Sequence[Any], count: int) -> Iterator[Sequence[Any]]:
    """`items` in `count` parts, as even as can be, none empty."""
    count = min(count, len(items))
    for number in range(count):
        yield items[number * len(items) // count : (number + 1) * len(items) // count]


def _bucket(level: Level, moment: datetime) -> datetime | date:
    if level == "day":
        return trading_day(moment)
    length = _LENGTHS[level]
    return moment - (moment - _START) % length


def _epoch(bucket: datetime | date) -> float:
    """Seconds since 1970, as the database counts them for times and for dates."""
    if isinstance(bucket, datetime):
        return bucket.timestamp()
    return (bucket - _START.date()).days * 86400.0


def _candle(level: Level, row: Record) -> Candle:
    start, until, *values = tuple(row)[:-1]
    if level == "day":
        return Candle(day_end(start - timedelta(days=1)), day_end(until), *values)
    return Candle(start, until + _LENGTHS[level], *values)


def _answer(run_id: str, points: Sequence[Point], level: Level, rows: int, bound: int) -> ChartAnswer:
    return ChartAnswer.model_construct(
        run_id=run_id,
        times=[point[0] for point in points],
        equities=[point[1] for point in points],
        drawdowns=[point[2] for point in points],
        meta=ChartMeta(level=level, rows=rows, bound=bound, complete=level == "raw" and rows == len(points)),
    )
