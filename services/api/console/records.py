"""The pages that list what is recorded: trades and runs.

Each is read when it is opened, from the queries that the API's routes use; what moves by the second is in
the header and on the overview.
"""

from __future__ import annotations

from services.api import queries
from services.api.console.frame import Frame
from services.api.console.tables import plain, reading, table
from services.api.console.wording import UNKNOWN, moment, money, trade
from services.api.dashboard import chosen_run, status_or_none
from services.api.desk import Desk

_ROWS = 100
_TRADE_STYLES = ("", "", "", "desk-number", "desk-number", "desk-number")


def add(frame: Frame, desk: Desk) -> None:
    """Both of them."""
    for path, title, read in (("/trades", "Trades", _trades), ("/runs", "Runs", _runs)):
        frame.add(path, title, reading(desk, read))


async def _trades(desk: Desk) -> str:
    status, _ = await status_or_none(desk, desk.trader)
    async with desk.ledger.reading() as connection:
        run = await chosen_run(desk, connection, desk.trader, None, status)
        wanted = queries.TradeFilter(trader=desk.trader, run_id=run.run_id if run else None)
        page = await queries.trades(connection, wanted, limit=_ROWS)
    rows = []
    for row in page.trades:
        shown = trade(row)
        styles = [
            *_TRADE_STYLES,
            "desk-number desk-" + shown["sign"],
            "desk-number desk-" + shown["sign"],
            "",
        ]
        rows.append(list(zip(shown["cells"], styles, strict=True)))
    columns = ("Closed (UTC)", "Instrument", "Side", "#Amount", "#Entry", "#Exit", "#PnL", "#R", "Exit by")
    head = (
        f"<h2>The last {len(rows)} trades of this deployment, newest first</h2>"
        if rows
        else "<h2>Trades</h2>"
    )
    return head + table("Trades", columns, rows, empty="No trade has been closed yet.")


async def _runs(desk: Desk) -> str:
    async with desk.ledger.reading() as connection:
        page = await queries.runs(connection, desk.trader, limit=_ROWS)
    rows = []
    for run in page.runs:
        terms = run.terms or {}
        rows.append(
            [
                *plain(
                    moment(run.recorded_started),
                    run.phase.lower(),
                    str(terms.get("strategy", UNKNOWN)),
                    ", ".join(terms.get("instruments", ())),
                ),
                (str(terms.get("risk_per_trade", UNKNOWN)), "desk-number"),
                (f"{run.trades:,}", "desk-number"),
                (money(run.pnl, signed=True), "desk-number"),
                *plain(moment(run.started), moment(run.ended)),
            ]
        )
    columns = (
        "Deployed (UTC)",
        "Phase",
        "Strategy",
        "Instruments",
        "#Risk",
        "#Trades",
        "#PnL",
        "Data from",
        "Data to",
    )
    return "<h2>Deployments, newest first</h2>" + table(
        "Runs", columns, rows, empty="Nothing has been deployed yet."
    )
