"""The curves of the overview: equity with drawdown and trades, and price with its trades; always bounded.

Wholes are for a page that has just opened or wants another range, and what came after a moment is for the
feed. Times are milliseconds, as browsers count them.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, TypeAlias

from services.api.answers.records import TradeRow
from services.api.chart import chart
from services.api.console.wording import milliseconds
from services.api.trade_pages import TradeFilter, trades

if TYPE_CHECKING:
    from services.api.ledger import Proxy, Record
    from services.api.results import Run

Point: TypeAlias = tuple[int, float, float]
"""Time, equity, drawdown."""
Bar: TypeAlias = tuple[int, float, float, float, float]
"""Its end; open, close, low and high of the bid, the order ECharts wants."""

MOST_POINTS = 1200
MOST_MARKERS = 300
SHOWN_BARS = 160
_END = datetime(2200, 1, 1, tzinfo=UTC)
_NEW_POINTS = 40
RANGES = {"day": timedelta(days=1), "week": timedelta(days=7), "month": timedelta(days=30)}
_BARS = (
    "select time, bid_open::float8, bid_close::float8, bid_low::float8, bid_high::float8 from bars"
    " where instrument = $1 and run_id = $2"
)


async def points_after(connection: Proxy, run: Run, after: datetime) -> list[Point]:
    """What the curve has since a moment, in a few points."""
    found = await chart(connection, run, _NEW_POINTS, after + timedelta.resolution)
    return [
        (milliseconds(at), equity, drawdown)
        for at, equity, drawdown in zip(found.times, found.equities, found.drawdowns, strict=True)
    ]


async def equity_curve(
    connection: Proxy, run: Run, start: datetime | None, end: datetime | None
) -> dict[str, Any]:
    """The curve from `start` up to before `end`, and the trades that ended in it, the newest few hundred."""
    found = await chart(connection, run, MOST_POINTS, start, end)
    points = [
        (milliseconds(at), equity, drawdown)
        for at, equity, drawdown in zip(found.times, found.equities, found.drawdowns, strict=True)
    ]
    rows: list[TradeRow] = []
    if points:
        within = TradeFilter(
            trader=run.trader,
            run_id=run.run_id,
            start=found.times[0],
            end=found.times[-1] + timedelta.resolution,
        )
        rows = (await trades(connection, within, limit=MOST_MARKERS)).trades
    markers = [(milliseconds(row.trade_time), float(row.equity), float(row.pnl), row.seq) for row in rows]
    return {"run": run.run_id, "points": points, "trades": markers[::-1], "complete": found.meta.complete}


def instrument_of(run: Run) -> str | None:
    """The instrument whose price is shown: the run's first."""
    traded = run.terms.get("instruments") or ()
    return str(traded[0]) if traded else None


async def bars_after(connection: Proxy, run: Run, after: datetime) -> list[Bar]:
    """The bars that ended since a moment, the newest few."""
    rows = await connection.fetch(
        f"{_BARS} and time > $3 order by time desc limit $4",
        instrument_of(run),
        run.run_id,
        after,
        SHOWN_BARS,
    )
    return [_bar(row) for row in reversed(rows)]


async def price_curve(connection: Proxy, run: Run, end: datetime | None) -> dict[str, Any]:
    """The last bars of the run's instrument, and the entries and exits among them."""
    instrument = instrument_of(run)
    rows = await connection.fetch(
        f"{_BARS} and time <= $3 order by time desc limit $4",
        instrument,
        run.run_id,
        end or _END,
        SHOWN_BARS,
    )
    traded: list[TradeRow] = []
    if rows:
        since = TradeFilter(
            trader=run.trader, run_id=run.run_id, instrument=instrument, start=rows[-1]["time"]
        )
        traded = (await trades(connection, since, limit=SHOWN_BARS)).trades
    return {
        "run": run.run_id,
        "instrument": instrument,
        "bars": [_bar(row) for row in reversed(rows)],
        "trades": [
            {
                "side": row.side,
                "entered": milliseconds(row.entry_time),
                "entry": float(row.entry_price),
                "left": milliseconds(row.trade_time),
                "exit": float(row.exit_price),
                "pnl": float(row.pnl),
            }
            for row in reversed(traded)
        ],
    }


def _bar(row: Record) -> Bar:
    return (milliseconds(row["time"]), row["bid_open"], row["bid_close"], row["bid_low"], row["bid_high"])
