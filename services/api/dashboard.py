"""Everything a page shows, in one answer, at a cost that does not grow with the number of trades.

Reads running totals, rollups and last rows by index, in one view of the database; the deployment's
status comes from the trader itself, the limits from the guard. What cannot be had is named, not waited
for.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from services.api import queries, trade_pages
from services.api.answers.records import AlertRow, ChartAnswer, PositionRow, TradeRow
from services.api.answers.state import DashboardAnswer, LimitRow, Missing, StatusAnswer
from services.api.chart import EMPTY, chart
from services.api.desk import Desk
from services.api.positions import open_positions
from services.api.problems import NothingThere
from services.api.results import Run, Standing
from services.api.risk_in_use import limit_rows
from services.api.status import pulses, read_status
from services.shared.errors import BusError, StorageUnavailable

if TYPE_CHECKING:
    from services.api.ledger import Proxy

LAST_TRADES = 20
LAST_ALERTS = 20
CHART_POINTS = 400


@dataclass(slots=True)
class Recorded:
    """What the database has of a run."""

    run: Run | None = None
    standing: Standing | None = None
    chart: ChartAnswer | None = None
    trades: list[TradeRow] = field(default_factory=list)
    alerts: list[AlertRow] = field(default_factory=list)
    positions: list[PositionRow] = field(default_factory=list)


async def chosen_run(
    desk: Desk, connection: Proxy, trader: str, run_id: str | None, status: StatusAnswer | None
) -> Run | None:
    """The run a request means: the one it names, else the trader's last as the trader says, else the last
    recorded. None when nothing of it is recorded yet. Raises NothingThere for an unknown name."""
    last = status.run_id if status is not None else None
    found = await desk.results.run(connection, trader, run_id or last)
    if found is None and run_id is not None and run_id != last:
        raise NothingThere(f"trader {trader} has no such run")
    return found


async def status_or_none(desk: Desk, trader: str) -> tuple[StatusAnswer | None, Missing | None]:
    """The trader's status, or why it is not known."""
    try:
        return await read_status(desk, trader), None
    except BusError as error:
        return None, Missing(part="status", reason=str(error))


async def dashboard(desk: Desk, trader: str, run_id: str | None, points: int) -> DashboardAnswer:
    """The whole page. Raises NothingThere for an unknown run; the database away is a part missing."""
    missing: list[Missing] = []
    status, why = await status_or_none(desk, trader)
    if why is not None:
        missing.append(why)
    recorded = Recorded()
    try:
        async with desk.ledger.reading() as connection:
            recorded = await _recorded(desk, connection, trader, run_id, status, points)
    except StorageUnavailable as error:
        missing.append(Missing(part="database", reason=str(error)))
    limits, why = await limits_in_use(desk, trader, recorded)
    if why is not None:
        missing.append(why)
    run, standing = recorded.run, recorded.standing
    return DashboardAnswer.model_construct(
        trader=trader,
        at=datetime.now(UTC),
        status=status,
        run_id=run.run_id if run else (run_id or (status.run_id if status else None)),
        currency=run.currency if run else None,
        opening_balance=run.opening_balance if run else None,
        equity=standing.mark if standing else None,
        today=standing.today if standing else None,
        statistics=standing.statistics if standing else None,
        trades=recorded.trades,
        alerts=recorded.alerts,
        positions=recorded.positions,
        limits=limits,
        chart=recorded.chart,
        services=pulses(desk),
        missing=missing,
    )


async def _recorded(
    desk: Desk,
    connection: Proxy,
    trader: str,
    run_id: str | None,
    status: StatusAnswer | None,
    points: int,
) -> Recorded:
    async with connection.transaction(isolation="repeatable_read", readonly=True):
        run = await chosen_run(desk, connection, trader, run_id, status)
        alerts = await queries.alerts(connection, trader, limit=LAST_ALERTS)
        if run is None:
            return Recorded(alerts=alerts.alerts, chart=EMPTY)
        last = trade_pages.TradeFilter(trader=trader, run_id=run.run_id)
        return Recorded(
            run=run,
            standing=await desk.results.standing(connection, run),
            chart=await chart(connection, run, points),
            trades=(await trade_pages.trades(connection, last, limit=LAST_TRADES)).trades,
            alerts=alerts.alerts,
            positions=await open_positions(connection, run.run_id),
        )


async def limits_in_use(
    desk: Desk, trader: str, recorded: Recorded
) -> tuple[list[LimitRow] | None, Missing | None]:
    """The guard's limits and their use, or why they are not known."""
    known = await desk.limits.get(trader)
    if known.limits is None:
        return None, Missing(part="limits", reason=known.problem or "not known")
    return limit_rows(known.limits, recorded.run, recorded.standing, recorded.positions), None
