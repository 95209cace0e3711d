"""How the desk stands: health, status, dashboard, statistics, chart, risk."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Body, Query
from pydantic import BaseModel, ConfigDict, Field

from services.api import queries
from services.api.answers.commands import LimitsAnswer
from services.api.answers.records import ChartAnswer
from services.api.answers.state import (
    DashboardAnswer,
    HealthAnswer,
    Missing,
    RiskAnswer,
    StatisticsAnswer,
    StatusAnswer,
)
from services.api.chart import EMPTY, FEWEST_POINTS, MOST_POINTS, chart
from services.api.dashboard import (
    CHART_POINTS,
    Recorded,
    chosen_run,
    dashboard,
    limits_in_use,
    status_or_none,
)
from services.api.limit_change import change_limits
from services.api.params import DeskParts, From, RunId, To, Trader
from services.api.positions import open_positions
from services.api.problems import (
    BusAway,
    CommandRefused,
    DatabaseAway,
    ForeignOrigin,
    MediaTypeUnknown,
    NobodyAnswered,
    NothingThere,
    RequestTooLarge,
    ViewerMayNot,
    documented,
)
from services.api.status import health, read_status
from services.api.verdicts import verdicts
from services.shared.commands import Setting
from services.shared.errors import StorageUnavailable
from services.shared.events import Name, Text

router = APIRouter(tags=["overview"])
without_token = APIRouter(tags=["overview"])

_POINTS = Query(ge=FEWEST_POINTS, le=MOST_POINTS, description="At most so many points of the equity curve.")


@without_token.get("/health", operation_id="health", summary="Does everything run?", responses=documented())
async def get_health(desk: DeskParts) -> HealthAnswer:
    """What of the desk answers. Always 200 while the API runs; `degraded` names what is away."""
    return health(desk)


@router.get("/status", operation_id="status", summary="The deployment", responses=documented(BusAway))
async def get_status(desk: DeskParts, trader: Trader) -> StatusAnswer:
    """Where the trader's deployment stands, by its own word; works without the database."""
    return await read_status(desk, trader)


@router.get(
    "/dashboard",
    operation_id="dashboard",
    summary="Everything in one answer",
    responses=documented(NothingThere),
)
async def get_dashboard(
    desk: DeskParts, trader: Trader, run_id: RunId = None, points: Annotated[int, _POINTS] = CHART_POINTS
) -> DashboardAnswer:
    """Status, equity, statistics, last trades and alerts, positions, limits and chart. As quick with a
    million trades as with ten thousand."""
    return await dashboard(desk, trader, run_id, points)


@router.get(
    "/metrics",
    operation_id="statistics",
    summary="A run's statistics",
    responses=documented(NothingThere, DatabaseAway),
)
async def get_statistics(desk: DeskParts, trader: Trader, run_id: RunId = None) -> StatisticsAnswer:
    """Win rate, profit factor, expectancy, drawdown, Sharpe and the rest; undefined is null.
    (Prometheus reads `/metrics`, without `/api`.)"""
    status, _ = await status_or_none(desk, trader)
    async with desk.ledger.reading() as connection:
        run = await chosen_run(desk, connection, trader, run_id, status)
        if run is None:
            return StatisticsAnswer(run_id=None, currency=None, opening_balance=None, statistics=None)
        standing = await desk.results.standing(connection, run)
    return StatisticsAnswer(
        run_id=run.run_id,
        currency=run.currency,
        opening_balance=run.opening_balance,
        statistics=standing.statistics,
    )


@router.get(
    "/chart-data",
    operation_id="chart",
    summary="The equity curve",
    responses=documented(NothingThere, DatabaseAway),
)
async def get_chart(
    desk: DeskParts,
    trader: Trader,
    run_id: RunId = None,
    start: From = None,
    end: To = None,
    points: Annotated[int, _POINTS] = 1000,
) -> ChartAnswer:
    """`times` and `equities`, equally long and bounded however long the run; peaks and troughs survive."""
    status, _ = await status_or_none(desk, trader)
    async with desk.ledger.reading() as connection:
        run = await chosen_run(desk, connection, trader, run_id, status)
        if run is None:
            return EMPTY
        return await chart(connection, run, points, start, end)


@router.get("/risk", operation_id="risk", summary="Limits and their use", responses=documented(NothingThere))
async def get_risk(desk: DeskParts, trader: Trader) -> RiskAnswer:
    """The guard's limits, how much of each is used, whether the account is halted, and the last changes."""
    status, why = await status_or_none(desk, trader)
    missing: list[Missing] = [] if why is None else [why]
    recorded = Recorded()
    history = []
    said = None
    try:
        async with desk.ledger.reading() as connection:
            recorded.run = await chosen_run(desk, connection, trader, None, status)
            history = await queries.limit_history(connection, trader)
            if recorded.run is not None:
                recorded.standing = await desk.results.standing(connection, recorded.run)
                recorded.positions = await open_positions(connection, recorded.run.run_id)
                said = await verdicts(connection, trader, recorded.run.run_id)
    except StorageUnavailable as error:
        missing.append(Missing(part="database", reason=str(error)))
    limits, why = await limits_in_use(desk, trader, recorded)
    if why is not None:
        missing.append(why)
    return RiskAnswer(
        trader=trader,
        run_id=recorded.run.run_id if recorded.run else None,
        halted=None if status is None else status.halted,
        reason=status.reason if status is not None else "",
        limits=limits,
        verdicts=said,
        history=history,
        missing=tuple(missing),
    )


class LimitsChangeRequest(BaseModel):
    """Limits to change, by name, as text or number; `off` switches off those that can be."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [{"values": {"drawdown": "2500", "losing_streak": "5"}, "reason": "smaller account"}]
        }
    )

    values: dict[Name, Setting] = Field(min_length=1, max_length=32)
    by: Text = ""
    reason: Text = ""


@router.put(
    "/risk",
    operation_id="limits",
    summary="Change limits",
    responses=documented(
        CommandRefused,
        NobodyAnswered,
        BusAway,
        ForeignOrigin,
        ViewerMayNot,
        RequestTooLarge,
        MediaTypeUnknown,
    ),
)
async def put_risk(
    desk: DeskParts, trader: Trader, change: Annotated[LimitsChangeRequest, Body()]
) -> LimitsAnswer:
    """Tighten at any time; loosen only while flat and not deployed. The guard decides, and refuses with
    its reason."""
    reply = await change_limits(desk, trader, change.values, by=change.by or "api", reason=change.reason)
    return LimitsAnswer(status="accepted", limits=reply.limits, reason=reply.reason)
