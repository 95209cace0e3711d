"""What was recorded: alerts, orders, positions."""

from __future__ import annotations

from typing import Annotated, Literal

from fastapi import APIRouter, Query

from services.api import queries
from services.api.answers.records import AlertsPage, OrdersPage, PositionsAnswer
from services.api.dashboard import chosen_run, status_or_none
from services.api.params import Cursor, DeskParts, Limit, RunId, Trader
from services.api.positions import open_positions
from services.api.problems import DatabaseAway, NothingThere, documented

router = APIRouter(tags=["records"])


@router.get(
    "/alerts", operation_id="alerts", summary="Alerts, newest first", responses=documented(DatabaseAway)
)
async def get_alerts(
    desk: DeskParts,
    trader: Trader,
    run_id: RunId = None,
    severity: Annotated[Literal["INFO", "WARNING", "CRITICAL"] | None, Query(examples=["CRITICAL"])] = None,
    acknowledged: Annotated[
        bool | None, Query(description="Only those that somebody has, or has not, acknowledged.")
    ] = None,
    cursor: Cursor = None,
    limit: Limit = 100,
) -> AlertsPage:
    """Alerts of the trader, over all its runs unless one is named, with who acknowledged each first."""
    async with desk.ledger.reading() as connection:
        page = await queries.alerts(
            connection,
            trader,
            run_id=run_id,
            severity=severity,
            acknowledged=acknowledged,
            cursor=cursor,
            limit=limit,
        )
    return AlertsPage(alerts=desk.acknowledgements.shown(page.alerts), next=page.next)


@router.get(
    "/orders",
    operation_id="orders",
    summary="Orders and their lives",
    responses=documented(NothingThere, DatabaseAway),
)
async def get_orders(
    desk: DeskParts,
    trader: Trader,
    run_id: RunId = None,
    order: Annotated[int | None, Query(ge=1, le=2**53, description="Only this order of the run.")] = None,
    denied: Annotated[bool, Query(description="Only orders that guard or trader refused.")] = False,
    cursor: Cursor = None,
    limit: Limit = 100,
) -> OrdersPage:
    """A run's orders, newest first: what was intended, what guard and broker said, what was filled."""
    status, _ = await status_or_none(desk, trader)
    async with desk.ledger.reading() as connection:
        run = await chosen_run(desk, connection, trader, run_id, status)
        if run is None:
            return OrdersPage(orders=[], next=None, run_id=status.run_id if status else None)
        return await queries.orders(
            connection, run.run_id, order=order, denied=denied, cursor=cursor, limit=limit
        )


@router.get(
    "/positions",
    operation_id="positions",
    summary="What is open",
    responses=documented(NothingThere, DatabaseAway),
)
async def get_positions(desk: DeskParts, trader: Trader, run_id: RunId = None) -> PositionsAnswer:
    """Open positions as recorded; `holding` is the trader's own word, and `unknown` is neither flat nor
    open."""
    status, _ = await status_or_none(desk, trader)
    async with desk.ledger.reading() as connection:
        run = await chosen_run(desk, connection, trader, run_id, status)
        if run is None:
            holding = status.holding if status is not None else "unknown"
            return PositionsAnswer(
                run_id=None, holding=holding, positions=[], unrealised=None, open_risk=None
            )
        found = await open_positions(connection, run.run_id)
        standing = await desk.results.standing(connection, run)
    mark = standing.mark
    holding = "open" if found else "flat"
    if status is not None and status.run_id == run.run_id:
        holding = status.holding
    return PositionsAnswer(
        run_id=run.run_id,
        holding=holding,
        positions=found,
        unrealised=mark.unrealised if mark else None,
        open_risk=mark.open_risk if mark else None,
    )
