"""The trades: filters, a table in any order a page at a time, each trade's story, and what is shown as a file.

What is shown is in the page's address (`trades.js`), so that a link or a reload shows it again. Rows come worded
from here; which rows, their order and number are `trade_pages`' business, as for the API.
"""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta
from html import escape
from typing import Annotated, Any
from urllib.parse import urlencode

from fastapi import FastAPI, Query
from nicegui import ui

from services.api import queries, run_records
from services.api.answers.records import OrderRow, TradeRow, TradesPage
from services.api.answers.runs import RunRow
from services.api.console.entrance import ASSETS_PATH
from services.api.console.frame import Frame
from services.api.console.story import denied_orders, story
from services.api.console.wording import UNKNOWN, moment, money, number, sign
from services.api.dashboard import chosen_run, status_or_none
from services.api.desk import Desk
from services.api.params import (
    Cursor,
    Instrument,
    Order,
    Outcome,
    RunPath,
    Sort,
    Strategy,
    TradePath,
)
from services.api.problems import NothingThere
from services.api.trade_pages import Choices, TradeFilter, choices, of_run, trades
from services.api.trade_story import read_story
from services.shared.errors import StorageUnavailable

ROWS = 50
ALL = "all"
_SHOWN_RUNS = 200
_SHOWN_DENIED = 50
_RunChoice = Annotated[str | None, Query(max_length=64, pattern=r"^[A-Za-z0-9_.:-]+$")]
_Day = Annotated[date | None, Query(ge=date(1970, 1, 2), le=date(2199, 12, 30))]

COLUMNS: tuple[tuple[str, str, bool], ...] = (
    ("time", "Closed (UTC)", False),
    ("instrument", "Instrument", False),
    ("side", "Side", False),
    ("pnl", "PnL", True),
    ("r_multiple", "R", True),
    ("outcome", "Outcome", False),
    ("", "Exit by", False),
    ("", "Amount", True),
    ("", "Entry", True),
    ("", "Exit", True),
    ("", "Strategy", False),
    ("", "Run", False),
)
"""Of each column: what it sorts by or nothing, its name, whether it has numbers."""


def add(application: FastAPI, frame: Frame, desk: Desk) -> None:
    """The page at `/trades` and what its script fetches."""
    frame.add("/trades", "Trades", lambda: _content(desk))
    _add_table(application, desk)
    _add_stories(application, desk)


def _add_table(application: FastAPI, desk: Desk) -> None:
    @application.get("/console/data/trades")
    async def table(
        run: _RunChoice = None,
        strategy: Strategy = None,
        instrument: Instrument = None,
        outcome: Outcome = None,
        first: Annotated[_Day, Query(alias="from")] = None,
        last: Annotated[_Day, Query(alias="to")] = None,
        sort: Sort = "time",
        order: Order = "descending",
        cursor: Cursor = None,
    ) -> dict[str, Any]:
        wanted = TradeFilter(
            trader=desk.trader,
            strategy=strategy,
            instrument=instrument,
            outcome=outcome,
            start=midnight(first),
            end=midnight(last, days=1),
        )
        status, _ = await status_or_none(desk, desk.trader)
        async with desk.ledger.reading() as connection:
            if run != ALL:
                chosen = await chosen_run(desk, connection, desk.trader, run, status)
                if chosen is None:
                    return {"rows": [], "count": "Nothing has been deployed yet.", "export": "", "run": None}
                wanted = of_run(wanted, chosen.run_id)
            page = await trades(
                connection, wanted, sort=sort, order=order, cursor=cursor, limit=ROWS, counted=True
            )
        return {
            "rows": [row_of(trade) for trade in page.trades],
            "count": counted(page),
            "next": page.next,
            "previous": page.previous,
            "last": page.last,
            "run": wanted.run_id,
            "export": export_query(wanted),
        }


def _add_stories(application: FastAPI, desk: Desk) -> None:
    @application.get("/console/data/trade/{run_id}/{trade}")
    async def one(run_id: RunPath, trade: TradePath) -> dict[str, str]:
        async with desk.ledger.reading() as connection:
            run = await desk.results.run(connection, desk.trader, run_id)
            if run is None:
                raise NothingThere("there is no such run")
            return story(await read_story(connection, run, trade))

    @application.get("/console/data/denied")
    async def denied(run: _RunChoice = None) -> dict[str, str]:
        status, _ = await status_or_none(desk, desk.trader)
        found: list[OrderRow] = []
        more = False
        async with desk.ledger.reading() as connection:
            chosen = await chosen_run(desk, connection, desk.trader, None if run == ALL else run, status)
            if chosen is not None:
                page = await queries.orders(connection, chosen.run_id, denied=True, limit=_SHOWN_DENIED)
                found, more = page.orders, page.next is not None
        return {"html": denied_orders(found, chosen.run_id if chosen else None, more=more)}


def midnight(day: date | None, days: int = 0) -> datetime | None:
    """The beginning of a day in UTC, so many days later."""
    return None if day is None else datetime.combine(day, time(), UTC) + timedelta(days=days)


def row_of(trade: TradeRow) -> dict[str, Any]:
    """A trade as a row of the table."""
    r_multiple = None if trade.r_multiple is None else float(trade.r_multiple)
    return {
        "run": trade.run_id,
        "trade": trade.trade,
        "sign": sign(trade.pnl),
        "cells": [
            moment(trade.trade_time),
            trade.instrument,
            trade.side,
            money(trade.pnl, signed=True),
            UNKNOWN if r_multiple is None else number(r_multiple, 2, signed=True),
            trade.outcome,
            trade.exit_reason.replace("_", " "),
            f"{trade.amount:,f}",
            f"{trade.entry_price:f}",
            f"{trade.exit_price:f}",
            trade.strategy,
            trade.run_id,
        ],
    }


def counted(page: TradesPage) -> str:
    """How many there are, in words; never more exactly than it is known."""
    count = page.count or 0
    if page.count_is == "more_than":
        return f"more than {count:,} trades"
    return f"{count:,} trade{'' if count == 1 else 's'}"


def export_query(wanted: TradeFilter) -> str:
    """The query that has the export hold just these trades; the API's takes the same."""
    known = {
        "run_id": wanted.run_id,
        "all": None if wanted.run_id else "true",
        "strategy": wanted.strategy,
        "instrument": wanted.instrument,
        "outcome": wanted.outcome,
        "from": wanted.start.isoformat() if wanted.start else None,
        "to": wanted.end.isoformat() if wanted.end else None,
    }
    return urlencode({name: value for name, value in known.items() if value is not None})


async def _content(desk: Desk) -> None:
    ui.add_head_html(
        f'<link rel="stylesheet" href="{ASSETS_PATH}trades.css"><script src="{ASSETS_PATH}trades.js" defer></script>'
    )
    known, runs = Choices([], []), []
    try:
        async with desk.ledger.reading() as connection:
            known = await choices(connection, desk.trader)
            runs = (await run_records.runs(connection, desk.trader, limit=_SHOWN_RUNS)).runs
    except StorageUnavailable:
        pass  # the page's script says so, and asks again
    ui.html(_filters(known, runs) + _TABLE, sanitize=False, tag="section").classes("desk-panel").props(
        'aria-label="Closed trades"'
    )
    ui.html(_DENIED, sanitize=False, tag="section").classes("desk-panel desk-below")
    ui.html(_DIALOG, sanitize=False, tag="div")


def _filters(known: Choices, runs: list[RunRow]) -> str:
    labels = [
        ("", "last deployment"),
        (ALL, "all deployments"),
        *((run.run_id, run_label(run)) for run in runs),
    ]
    plain = {
        "strategy": ("Strategy", [("", "any"), *((name, name) for name in known.strategies)]),
        "instrument": ("Instrument", [("", "any"), *((name, name) for name in known.instruments)]),
        "outcome": ("Outcome", [("", "any"), *((name, name) for name in ("win", "loss", "breakeven"))]),
    }
    selects = _select("run", "Run", labels) + "".join(
        _select(name, label, options) for name, (label, options) in plain.items()
    )
    return (
        f'<form class="desk-filters" data-filters role="search" aria-label="Filter the trades">{selects}'
        f"{_day('from', 'From (UTC)')}{_day('to', 'To')}"
        '<button type="reset" class="desk-plain">Clear</button></form>'
    )


def run_label(run: RunRow) -> str:
    """A run for a list to choose from."""
    terms = run.terms or {}
    return f"{moment(run.recorded_started)} · {terms.get('strategy', UNKNOWN)} · {run.run_id}"


def _select(name: str, label: str, options: list[tuple[str, str]]) -> str:
    inner = "".join(
        f'<option value="{escape(value, quote=True)}">{escape(text)}</option>' for value, text in options
    )
    return (
        f'<div class="desk-field"><label for="filter-{name}">{label}</label>'
        f'<select name="{name}" id="filter-{name}">{inner}</select></div>'
    )


def _day(name: str, label: str) -> str:
    return (
        f'<div class="desk-field"><label for="filter-{name}">{label}</label><input type="date" name="{name}"'
        f' id="filter-{name}" min="1970-01-02" max="2199-12-30"></div>'
    )


def _head(sort: str, name: str, *, numbers: bool) -> str:
    css = ' class="desk-number"' if numbers else ""
    if not sort:
        return f'<th scope="col"{css}>{name}</th>'
    return (
        f'<th scope="col"{css} data-sort="{sort}"><button type="button" class="desk-sort">{name}'
        '<span class="desk-arrow" aria-hidden="true"></span></button></th>'
    )


_TABLE = (
    '<div class="desk-table-head"><p data-count role="status" aria-live="polite">Reading …</p><p class="desk-exports">'
    'Export what is filtered: <a data-export="csv" href="/api/export?format=csv" download>CSV</a>'
    ' <a data-export="parquet" href="/api/export?format=parquet" download>Parquet</a></p></div>'
    '<div class="desk-scroll" tabindex="0" role="region" aria-label="Closed trades"><table class="desk-rows">'
    "<thead><tr>"
    + "".join(_head(sort, name, numbers=numbers) for sort, name, numbers in COLUMNS)
    + '</tr></thead><tbody data-rows></tbody></table></div><nav class="desk-pager" aria-label="Pages of trades">'
    + "".join(
        f'<button type="button" class="desk-plain" data-page="{name.lower()}" disabled>{name}</button>'
        for name in ("First", "Previous", "Next", "Last")
    )
    + "</nav>"
)
_DENIED = (
    '<details data-denied><summary>Orders that were refused</summary><div data-denied-rows class="desk-minor">'
    "Reading …</div></details>"
)
_DIALOG = (
    '<dialog class="desk-trade-story" data-story aria-labelledby="story-title"><div class="desk-trade-story-head">'
    '<h2 id="story-title"></h2><button type="button" class="desk-plain" data-close>Close</button></div>'
    "<div data-story-body></div></dialog>"
)
