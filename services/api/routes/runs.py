"""Deployments: all of them, one with its results, and its report to save or print."""

from __future__ import annotations

from fastapi import APIRouter
from fastapi.responses import HTMLResponse, Response

from services.api import run_records
from services.api.answers.runs import RunAnswer, RunsPage
from services.api.desk import Desk
from services.api.params import Cursor, DeskParts, Limit, RunPath, Trader
from services.api.problems import DatabaseAway, NothingThere, documented
from services.api.run_drawing import drawn
from services.api.run_report import HEADERS, report

router = APIRouter(tags=["records"])


@router.get(
    "/runs", operation_id="runs", summary="Deployments, newest first", responses=documented(DatabaseAway)
)
async def get_runs(desk: DeskParts, trader: Trader, cursor: Cursor = None, limit: Limit = 100) -> RunsPage:
    """Every deployment of the trader, with its terms, who deployed it, its result and how it ended."""
    async with desk.ledger.reading() as connection:
        return await run_records.runs(connection, trader, cursor=cursor, limit=limit)


@router.get(
    "/runs/{run_id}",
    operation_id="run",
    summary="One deployment with its results",
    responses=documented(NothingThere, DatabaseAway),
)
async def get_run(desk: DeskParts, trader: Trader, run_id: RunPath) -> RunAnswer:
    """Its terms, statistics, results by month of trading days, and the phases it went through. Two runs are
    compared by asking for both; their curves are at `/api/chart-data`."""
    async with desk.ledger.reading() as connection:
        run = await desk.results.run(connection, trader, run_id)
        if run is None:
            raise NothingThere(f"trader {trader} has no such run")
        return await run_records.run_answer(connection, desk.results, run)


@router.get(
    "/runs/{run_id}/report",
    operation_id="report",
    summary="A run's report as a page",
    response_class=Response,  # HTMLResponse would have every problem said in HTML too
    responses={
        200: {
            "description": "One page that needs nothing else, to save or print: no script, no link.",
            "content": {"text/html": {"schema": {"type": "string"}}},
        },
        **documented(NothingThere, DatabaseAway),
    },
)
async def get_report(desk: DeskParts, trader: Trader, run_id: RunPath) -> HTMLResponse:
    """Costs and assumptions first, then the result, equity with drawdown, and trades by month."""
    return await reported(desk, trader, run_id)


async def reported(desk: Desk, trader: str, run_id: str) -> HTMLResponse:
    """The report of a run. Raises NothingThere when the trader has no such run."""
    async with desk.ledger.reading() as connection:
        run = await desk.results.run(connection, trader, run_id)
        if run is None:
            raise NothingThere(f"trader {trader} has no such run")
        found = await run_records.run_answer(connection, desk.results, run)
        curve = await drawn(connection, run)
    return HTMLResponse(report(found, curve), headers=HEADERS)
