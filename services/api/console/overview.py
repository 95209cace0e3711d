"""The overview: equity with drawdown and trades, price with the open trade, statistics, last trades and
alerts; on an empty desk the first steps instead."""

from __future__ import annotations

from datetime import UTC, datetime
from html import escape
from typing import Annotated, Any, Literal

from fastapi import FastAPI, Query
from nicegui import ui

from services.api.console.curves import RANGES, equity_curve, price_curve
from services.api.console.entrance import ASSETS_PATH
from services.api.console.frame import Frame, live
from services.api.console.wording import TILES, tile_help
from services.api.dashboard import chosen_run, status_or_none
from services.api.desk import Desk

Range = Literal["day", "week", "month", "all"]
Milliseconds = Annotated[int | None, Query(ge=0, le=7_258_118_400_000)]
_RANGE_NAMES: tuple[tuple[Range, str], ...] = (
    ("day", "1 D"),
    ("week", "1 W"),
    ("month", "1 M"),
    ("all", "All"),
)


def add(application: FastAPI, frame: Frame, desk: Desk) -> None:
    """The page at `/` and what its charts fetch."""
    frame.add("/", "Overview", _content)

    @application.get("/console/data/equity")
    async def equity(
        shown: Annotated[Range, Query(alias="range")] = "all",
        start: Milliseconds = None,
        end: Milliseconds = None,
    ) -> dict[str, Any]:
        status, _ = await status_or_none(desk, desk.trader)
        async with desk.ledger.reading() as connection:
            run = await chosen_run(desk, connection, desk.trader, None, status)
            if run is None:
                return {"run": None, "points": [], "trades": [], "complete": True}
            since = _moment(start)
            if shown != "all" and since is None:
                last = (await desk.results.standing(connection, run)).mark
                since = last.time - RANGES[shown] if last else None
            return await equity_curve(connection, run, since, _moment(end))

    @application.get("/console/data/price")
    async def price() -> dict[str, Any]:
        status, _ = await status_or_none(desk, desk.trader)
        async with desk.ledger.reading() as connection:
            run = await chosen_run(desk, connection, desk.trader, None, status)
            if run is None:
                return {"run": None, "instrument": None, "bars": [], "trades": []}
            mark = (await desk.results.standing(connection, run)).mark
            return await price_curve(connection, run, mark.time if mark else None)


def _moment(milliseconds: int | None) -> datetime | None:
    return None if milliseconds is None else datetime.fromtimestamp(milliseconds / 1000, UTC)


def _content() -> None:
    ui.add_head_html(f'<script src="{ASSETS_PATH}charts.js" defer></script>')
    ui.html(_FIRST_STEPS, sanitize=False, tag="section").props(
        'data-first-steps hidden aria-label="First steps"'
    ).classes("desk-panel desk-first")
    with ui.element("div").classes("desk-results").props("data-results"):
        with ui.element("section").classes("desk-panel desk-equity").props('aria-label="Equity"'):
            ui.html(_equity_head(), sanitize=False, tag="div").classes("desk-panel-head")
            ui.echart({}).props(
                'data-chart="equity" role="img" aria-label="Equity over time, drawdown beneath, trades as markers"'
            ).classes("desk-chart desk-chart-tall")
        ui.html(_tiles(), sanitize=False, tag="section").classes("desk-panel desk-statistics")
        with ui.element("section").classes("desk-panel desk-price").props('aria-label="Price"'):
            ui.html(_PRICE_HEAD, sanitize=False, tag="div").classes("desk-panel-head")
            ui.echart({}).props(
                'data-chart="price" role="img" aria-label="Price bars with entries and exits, stop and target"'
            ).classes("desk-chart")
        ui.html(_ALERTS, sanitize=False, tag="section").classes("desk-panel desk-alerts")
        ui.html(_TRADES, sanitize=False, tag="section").classes("desk-panel desk-trades")


_FIRST_STEPS = (
    "<h2>Nothing has been deployed yet</h2><ol>"
    "<li><strong>Try it on paper now.</strong> <span>Press <em>Deploy</em>, then <em>Start on paper</em>:"
    " recorded prices, no broker, no money.</span></li>"
    '<li><strong><a href="/risk">Set limits.</a></strong> <span>The guard refuses orders beyond them and halts'
    " the desk at the drawdown you choose.</span></li>"
    '<li><strong><a href="/alerts">Add an alert channel.</a></strong> <span>So that a halt reaches you where you'
    " are.</span></li></ol>"
)


def _equity_head() -> str:
    buttons = "".join(
        f'<button type="button" data-range="{name}" aria-pressed="{str(name == "all").lower()}">{label}</button>'
        for name, label in _RANGE_NAMES
    )
    return (
        f'<h2>Equity</h2><span class="desk-minor">{live("running")} · to {live("marked_at")} UTC'
        f" · drawdown {live('drawdown')}</span>"
        f'<div class="desk-ranges" role="group" aria-label="Range of the equity chart">{buttons}</div>'
    )


_PRICE_HEAD = (
    f'<h2>Price <span data-price-instrument></span></h2><span class="desk-minor">'
    f"{live('position', mark='position')}"
    f" · unrealised {live('unrealised', mark='unrealised', classes='desk-signed')} · open risk {live('open_risk')}"
    "</span>"
)
_ALERTS = '<h2>Last alerts</h2><ul class="desk-alert-list" data-alerts><li class="desk-minor">none</li></ul>'
_NUMBERS = ("Amount", "Entry", "Exit", "PnL", "R")


def _of_number(column: str) -> str:
    return ' class="desk-number"' if column in _NUMBERS else ""


_COLUMNS = ("Closed (UTC)", "Instrument", "Side", "Amount", "Entry", "Exit", "PnL", "R", "Exit by")
_TRADES = (
    '<h2>Last trades</h2><div class="desk-scroll" tabindex="0" role="region" aria-label="Last trades">'
    "<table><thead><tr>"
    + "".join(f'<th scope="col"{_of_number(name)}>{name}</th>' for name in _COLUMNS)
    + '</tr></thead><tbody data-trades><tr><td colspan="9" class="desk-minor">none yet</td></tr></tbody></table></div>'
)


def _tiles() -> str:
    tiles = "".join(
        f'<div title="{escape(tile_help(name), quote=True)}"><dt>{label}</dt><dd>{live(f"tile-{name}")}</dd></div>'
        for name, label in TILES
    )
    return f'<h2>Statistics</h2><dl class="desk-tiles">{tiles}</dl>'
