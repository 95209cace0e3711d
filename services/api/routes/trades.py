"""Closed trades: in pages, one with its whole story, and as a file."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator, AsyncIterator
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query
from fastapi.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from services.api import export
from services.api.answers.records import TradesPage
from services.api.answers.story import TradeStory
from services.api.dashboard import chosen_run, status_or_none
from services.api.desk import Desk
from services.api.params import (
    Cursor,
    DeskParts,
    Every,
    From,
    Instrument,
    Limit,
    Order,
    Outcome,
    RunId,
    RunPath,
    Sort,
    Strategy,
    To,
    TradePath,
    Trader,
    Wait,
)
from services.api.problems import DatabaseAway, NothingThere, TooManyStreams, documented
from services.api.trade_pages import TradeFilter, of_run, trades
from services.api.trade_story import read_story

router = APIRouter(tags=["records"])


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
    every: Every = False,
    strategy: Strategy = None,
    instrument: Instrument = None,
    outcome: Outcome = None,
    start: From = None,
    end: To = None,
    sort: Sort = "time",
    order: Order = "newest",
    cursor: Cursor = None,
    limit: Limit = 100,
) -> TradesPage:
    """Trades of the last run, of `run_id`, or of `all`. Follow `next` for more; a page stays as it is
    while new trades come in before it. `count` says how many match: exactly, unless dates are given and there
    are more than 20,000. A trade without a stop has no R and comes below all others by `r_multiple`."""
    wanted = TradeFilter(
        trader=trader, strategy=strategy, instrument=instrument, outcome=outcome, start=start, end=end
    )
    status, _ = await status_or_none(desk, trader)
    async with desk.ledger.reading() as connection:
        if not every:
            run = await chosen_run(desk, connection, trader, run_id, status)
            if run is None:
                return TradesPage(
                    trades=[],
                    next=None,
                    previous=None,
                    last=None,
                    count=0,
                    count_is="exact",
                    run_id=status.run_id if status else None,
                )
            wanted = of_run(wanted, run.run_id)
        return await trades(
            connection, wanted, sort=sort, order=order, cursor=cursor, limit=limit, counted=True
        )


@router.get(
    "/trades/{run_id}/{trade}",
    operation_id="trade",
    summary="A trade's whole story",
    responses=documented(NothingThere, DatabaseAway),
)
async def get_trade(desk: DeskParts, trader: Trader, run_id: RunPath, trade: TradePath) -> TradeStory:
    """Why it was made, how its amount came about, what the guard said, every order with its life, every fill,
    and the result worked out once more from the fills."""
    async with desk.ledger.reading() as connection:
        run = await desk.results.run(connection, trader, run_id)
        if run is None:
            raise NothingThere(f"trader {trader} has no such run")
        return await read_story(connection, run, trade)


def _export_ended(desk: Desk) -> None:
    desk.exports -= 1


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
            _export_ended(self._desk)
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
    every: Every = False,
    form: Annotated[Literal["csv", "parquet"], Query(alias="format", examples=["csv"])] = "csv",
    strategy: Strategy = None,
    instrument: Instrument = None,
    outcome: Outcome = None,
    start: From = None,
    end: To = None,
    wait: Wait = 10.0,
) -> StreamingResponse:
    """The trades file of the last deployment, of `run_id`, or of `all`: the very bytes a backtest writes.
    A finished run is waited for until it is recorded completely, up to `wait` seconds."""
    wanted = TradeFilter(
        trader=trader, strategy=strategy, instrument=instrument, outcome=outcome, start=start, end=end
    )
    return await download(desk, wanted, None if every else run_id, every=every, form=form, wait=wait)


async def download(
    desk: Desk,
    wanted: TradeFilter,
    run_id: str | None,
    *,
    every: bool,
    form: Literal["csv", "parquet"],
    wait: float,
) -> Download:
    """The file of what `wanted` leaves of a run, the last one when None, or of every one. Raises NothingThere
    for an unknown run, TooManyStreams."""
    if desk.exports >= export.MOST_AT_ONCE:
        raise TooManyStreams("too many exports at once", headers={"Retry-After": "5"})
    desk.exports += 1
    with contextlib.ExitStack() as given_up:
        given_up.callback(_export_ended, desk)
        selection = await export.select(desk, wanted.trader, run_id, every=every, wait=wait)
        if selection is None:
            raise NothingThere(f"trader {wanted.trader} has no such run")
        media_type, write = export.FORMATS[form]
        source: AsyncGenerator[bytes, None] = write(desk.ledger, selection, wanted)
        # The first part is made before the answer begins: a database that is away is still a 503.
        first = await anext(source)
        given_up.pop_all()  # from here on the download counts itself out
    name = f"{wanted.trader}-{'all' if every else selection.name}.{form}"
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
