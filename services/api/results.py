"""A run's results from what the recorder keeps up to date: totals, the last marks, daily equities.

Costs the same however long the run: totals and last rows are read by key, and the statistics of a run
are worked out again only when something new of it was recorded. The formulas are `statistics`'.
"""

from __future__ import annotations

import json
import time
from bisect import bisect_left
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from datetime import date, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from services.api.answers.state import EquityRow, Today
from services.api.ledger import Ledger
from services.shared.limit_use import day_opening
from services.shared.money import ZERO
from services.shared.statistics import Statistics, Totals, daily_returns, summarise

if TYPE_CHECKING:
    from services.api.ledger import Proxy, Record

_RUN = "select run_id, trader, terms, started, phase from runs where run_id = $1"
_LAST_RUN = (
    "select run_id, trader, terms, started, phase from runs where trader = $1"
    " order by recorded_started desc nulls last limit 1"
)
_TOTALS = "select * from run_totals where trader = $1 and run_id = $2"
_LAST_MARK = "select * from equity where run_id = $1 order by seq desc limit 1"
_FIRST_MARK = "select time from equity where run_id = $1 order by seq limit 1"
_LAST_STREAK = "select streak from trades where run_id = $1 order by seq desc limit 1"
_DAYS = (
    "select bucket, last_equity from equity_day"
    " where trader = $1 and run_id = $2 and bucket >= $3 order by bucket"
)
_LAST_DAYS = (
    "select bucket, first_equity, last_equity from equity_day where trader = $1 and run_id = $2"
    " order by bucket desc limit 2"
)
_TOTAL_FIELDS = tuple(each.name for each in fields(Totals))
_REMEMBERED = 32
_READ_ANEW = 300.0


@dataclass(frozen=True, slots=True)
class Run:
    """A deployment as recorded. `terms` is empty when the run's beginning is not recorded yet."""

    run_id: str
    trader: str
    phase: str
    terms: dict[str, Any]

    @property
    def currency(self) -> str | None:
        """What its money is in."""
        return self.terms.get("currency")

    @property
    def opening_balance(self) -> Decimal | None:
        """The account's balance at deploy."""
        return _decimal(self.terms.get("balance"))

    @property
    def risk_per_trade(self) -> Decimal | None:
        """Money that one trade may lose."""
        return _decimal(self.terms.get("risk_per_trade"))


def _decimal(text: Any) -> Decimal | None:
    return Decimal(str(text)) if text is not None else None


@dataclass(frozen=True, slots=True)
class Standing:
    """Where a run stands: its last mark, today, and its statistics."""

    mark: EquityRow | None
    today: Today | None
    statistics: Statistics | None
    streak: int | None
    last_mark_seq: int


@dataclass(slots=True)
class _Daily:
    """Last equities and returns by trading day, in order, and when they were last read in full."""

    read_at: float
    days: list[date] = field(default_factory=list)
    equities: list[Decimal] = field(default_factory=list)
    returns: list[float] = field(default_factory=list)

    def take(self, opening: Decimal, rows: Sequence[Record]) -> None:
        """Replace everything from the first of these days on."""
        keep = bisect_left(self.days, rows[0]["bucket"]) if rows else len(self.days)
        del self.days[keep:], self.equities[keep:]
        before = self.equities[-1] if self.equities else opening
        self.days += [row["bucket"] for row in rows]
        self.equities += [row["last_equity"] for row in rows]
        fresh = daily_returns(before, self.equities[keep:])
        # Without all of them there are none: `summarise` then finds out for itself.
        whole = fresh is not None and len(self.returns) >= keep
        self.returns = self.returns[:keep] + fresh if whole and fresh is not None else []

    @property
    def known_returns(self) -> list[float] | None:
        """The return of every day, or None."""
        return self.returns if len(self.returns) == len(self.days) else None


@dataclass(slots=True)
class _Known:
    """Statistics and what they were worked out from."""

    key: tuple[Any, ...]
    statistics: Statistics


class Results:
    """Reads runs and their standing; remembers the daily equities of the last few."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._daily: OrderedDict[str, _Daily] = OrderedDict()
        self._known: OrderedDict[str, _Known] = OrderedDict()

    async def run(self, connection: Proxy, trader: str, run_id: str | None) -> Run | None:
        """The named run of this trader, or its last; None when there is none such."""
        if run_id is None:
            found = await connection.fetchrow(_LAST_RUN, trader)
        else:
            found = await connection.fetchrow(_RUN, run_id)
        if found is None or found["trader"] != trader:
            return None
        return Run(found["run_id"], found["trader"], found["phase"], json.loads(found["terms"] or "{}"))

    async def standing(self, connection: Proxy, run: Run) -> Standing:
        """Where `run` stands, in one view of the database."""
        totals = await connection.fetchrow(_TOTALS, run.trader, run.run_id)
        last = await connection.fetchrow(_LAST_MARK, run.run_id)
        streak = await connection.fetchval(_LAST_STREAK, run.run_id)
        mark = EquityRow.model_validate(dict(last)) if last is not None else None
        statistics = None
        if totals is not None and run.opening_balance is not None:
            statistics = await self._statistics(connection, run, totals, last, streak)
        return Standing(
            mark=mark,
            today=await self._today(connection, run, mark),
            statistics=statistics,
            streak=streak,
            last_mark_seq=last["seq"] if last is not None else 0,
        )

    async def _today(self, connection: Proxy, run: Run, mark: EquityRow | None) -> Today | None:
        days = await connection.fetch(_LAST_DAYS, run.trader, run.run_id)
        if not days or mark is None:
            return None
        before = days[1]["last_equity"] if len(days) > 1 else None
        opening = day_opening(days[0]["first_equity"], before, run.opening_balance)
        pnl = mark.equity - opening
        percent = round(float(pnl / opening * 100), 4) if opening > 0 else None
        return Today(day=days[0]["bucket"], opening_equity=opening, pnl=pnl, percent=percent)

    async def _statistics(
        self, connection: Proxy, run: Run, totals: Record, last: Record | None, streak: int | None
    ) -> Statistics:
        key = (totals["trader_events"], totals["last_seq"], last["seq"] if last else 0)
        known = self._known.get(run.run_id)
        if known is not None and known.key == key:
            return known.statistics
        first: datetime | None = await connection.fetchval(_FIRST_MARK, run.run_id)
        daily = await self._daily_equity(connection, run)
        statistics = summarise(
            totals_of(totals),
            opening_balance=run.opening_balance or ZERO,
            daily_equity=daily.equities,
            returns=daily.known_returns,
            equity=last["equity"] if last else None,
            peak=last["peak"] if last else None,
            drawdown=last["drawdown"] if last else None,
            max_drawdown=last["max_drawdown"] if last else None,
            streak=streak,
            span=last["time"] - first if last and first else None,
        )
        _remember(self._known, run.run_id, _Known(key, statistics))
        return statistics

    async def _daily_equity(self, connection: Proxy, run: Run) -> _Daily:
        """Every day's last equity. Days that are over are read once; all are read anew every few minutes,
        since a recorder that was away may still bring in some of an older day."""
        now = time.monotonic()
        daily = self._daily.get(run.run_id)
        if daily is None or now - daily.read_at > _READ_ANEW:
            daily = _Daily(now)
        start = daily.days[-2] if len(daily.days) > 1 else date.min
        rows = await connection.fetch(_DAYS, run.trader, run.run_id, start)
        daily.take(run.opening_balance or ZERO, rows)
        _remember(self._daily, run.run_id, daily)
        return daily


def _remember(cache: OrderedDict[str, Any], key: str, value: Any) -> None:
    cache[key] = value
    cache.move_to_end(key)
    while len(cache) > _REMEMBERED:
        cache.popitem(last=False)


def totals_of(row: Record) -> Totals:
    """The recorder's running totals as `statistics` takes them. A sum's columns begin at zero; the largest
    win of a run without wins is no number."""
    values: dict[str, Any] = {name: row[name] for name in _TOTAL_FIELDS}
    if not values["wins"]:
        values["largest_win"] = None
    if not values["losses"]:
        values["largest_loss"] = None
    return Totals(**values)
