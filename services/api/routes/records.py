"""What was recorded: trades, alerts, orders, positions, runs, and the export."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query
from fastapi.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from services.api import export, queries
from services.api.answers.records import AlertsPage, OrdersPage, PositionsAnswer, RunsPage, TradesPage
from services.api.dashboard import chosen_run, status_or_none
from services.api.desk import Desk
from services.api.params import (
    Cursor,
    DeskParts,
    From,
    Instrument,
    Limit,
    Order,
    RunId,
    Strategy,
    To,
    Trader,
    Wait,
)
from services.api.positions import open_positions
from services.api.problems import DatabaseAway, NothingThere, TooManyStreams, documented

router = APIRouter(tags=["records"])

_OUTCOME = Query(description="Only trades that ended so.", examples=["win"])
_ALL = Query(alias="all", description="Over all runs of the trader, instead of one.")


@router.get(
    "/trades",
    operation_id="trades",
    summary="Closed trades, in pages",
    responses=documented(NothingThere, DatabaseAway),
)
async def get_trades(
    desk: DeskParts,
    trader: Trader,
    run_id: RunId = None,
    every: Annotated[bool, _ALL] = False,
    strategy: Strategy = None,
    instrument: Instrument = None,
    outcome: Annotated[Literal["win", "loss", "breakeven"] | None, _OUTCOME] = None,
    start: From = None,
    end: To = None,
    order: Order = "newest",
    cursor: Cursor = None,
    limit: Limit = 100,
) -> TradesPage:
    """Trades of the last run, of `run_id`, or of `all`. Follow `next` for more; a page stays as it is
    while new trades come in before it."""
    status, _ = await status_or_none(desk, trader)
    async with desk.ledger.reading() as connection:
        wanted_run = None
        if not every:
            run = await chosen_run(desk, connection, trader, run_id, status)
            if run is None:
                return TradesPage(trades=[], next=None, run_id=status.run_id if status else None)
            wanted_run = run.run_id
        wanted = queries.TradeFilter(
            trader=trader,
            run_id=wanted_run,
            strategy=strategy,
            instrument=instrument,
            outcome=outcome,
            start=start,
            end=end,
        )
        return await queries.trades(connection, wanted, order=order, cursor=cursor, limit=limit)


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
    cursor: Cursor = None,
    limit: Limit = 100,
) -> OrdersPage:
    """A run's orders, newest first: what was intended, what guard and broker said, what was filled."""
    status, _ = await status_or_none(desk, trader)
    async with desk.ledger.reading() as connection:
        run = await chosen_run(desk, connection, trader, run_id, status)
        if run is None:
            return OrdersPage(orders=[], next=None, run_id=status.run_id if status else None)
        return await queries.orders(connection, run.run_id, order=order, cursor=cursor, limit=limit)


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


@router.get(
    "/runs", operation_id="runs", summary="Deployments, newest first", responses=documented(DatabaseAway)
)
async def get_runs(desk: DeskParts, trader: Trader, cursor: Cursor = None, limit: Limit = 100) -> RunsPage:
    """Every deployment of the trader, with its terms and result."""
    async with desk.ledger.reading() as connection:
        return await queries.runs(connection, trader, cursor=cursor, limit=limit)


class Download(StreamingResponse):
    """A file on its way. Its source is closed whatever ends it, so that its connection goes back at once."""

    def __init__(self, desk: Desk, first: bytes, source: AsyncGenerator[bytes, None], **how: Any) -> None:
        super().__init__(_joined(first, source), **how)
        self._desk = desk
        self._source = source

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._desk.exports -= 1
            await self._source.aclose()


async def _joined(first: bytes, rest: AsyncGenerator[bytes, None]) -> AsyncIterator[bytes]:
    yield first
    async for part in rest:
        yield part


@router.get(
    "/export",
    operation_id="export",
    summary="Trades as a file",
    response_class=StreamingResponse,
    responses={
        200: {
            "description": "The file. `X-Desk-Complete` says whether the runs in it are over and recorded.",
            "content": {
                "text/csv": {"schema": {"type": "string"}},
                "application/vnd.apache.parquet": {"schema": {"type": "string", "format": "binary"}},
            },
            "headers": {
                "X-Desk-Complete": {
                    "schema": {"type": "string", "enum": ["true", "false"]},
                    "description": "false while the run goes on, or when its end is not recorded yet.",
                }
            },
        },
        **documented(NothingThere, TooManyStreams, DatabaseAway),
    },
)
async def get_export(
    desk: DeskParts,
    trader: Trader,
    run_id: RunId = None,
    every: Annotated[bool, _ALL] = False,
    form: Annotated[Literal["csv", "parquet"], Query(alias="format", examples=["csv"])] = "csv",
    strategy: Strategy = None,
    instrument: Instrument = None,
    outcome: Annotated[Literal["win", "loss", "breakeven"] | None, _OUTCOME] = None,
    start: From = None,
    end: To = None,
    wait: Wait = 10.0,
) -> StreamingResponse:
    """The trades file of the last deployment, of `run_id`, or of `all`: the very bytes a backtest writes.
    A finished run is waited for until it is recorded completely, up to `wait` seconds."""
    if desk.exports >= export.MOST_AT_ONCE:
        raise TooManyStreams("too many exports at once", headers={"Retry-After": "5"})
    desk.exports += 1
    try:
        selection = await export.select(desk, trader, None if every else run_id, every=every, wait=wait)
        if selection is None:
            raise NothingThere(f"trader {trader} has no such run")
        wanted = queries.TradeFilter(
            trader=trader, strategy=strategy, instrument=instrument, outcome=outcome, start=start, end=end
        )
        media_type, write = export.FORMATS[form]
        source: AsyncGenerator[bytes, None] = write(desk.ledger, selection, wanted)
        # The first part is made before the answer begins: a database that is away is still a 503.
        first = await anext(source)
    except BaseException:
        desk.exports -= 1
        raise
    name = f"{trader}-{'all' if every else selection.name}.{form}"
    return Download(
        desk,
        first,
        source,
        media_type=media_type,
        headers={
            "Content-Disposition": f'attachment; filename="{name}"',
            "X-Desk-Complete": "true" if selection.complete else "false",
        },
    )
