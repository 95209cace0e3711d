"""The runs: every deployment with its result, one in full, its report, and two side by side.

One address, `/runs`: with one `run` it shows that one, with two it compares them. Pages are made on the server
and need no script but the one that counts the ticks (`runs.js`). Words and figures are the report's.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import cast
from urllib.parse import urlencode

from fastapi import FastAPI
from fastapi.responses import HTMLResponse
from nicegui import ui
from starlette.datastructures import QueryParams

from services.api import queries, run_records
from services.api.answers.records import OrderRow
from services.api.answers.runs import RunAnswer, RunRow, RunsPage
from services.api.console.entrance import ASSETS_PATH
from services.api.console.frame import Frame
from services.api.console.story import denied_orders
from services.api.console.wording import UNKNOWN, moment, money, number, percent, sign
from services.api.desk import Desk
from services.api.params import RunPath
from services.api.routes.runs import reported
from services.api.run_drawing import Curve, Line, Unit, draw, drawn
from services.api.run_report import ending, figures, settings
from services.shared.errors import InvalidInput, StorageUnavailable

ROWS = 50
_SHOWN_DENIED = 20
_UNITS: dict[Unit, str] = {"percent": "Percent of the opening balance", "r": "R, the money risked a trade"}
_UNDER_WAY = frozenset({"STARTING", "MONITORING", "STOPPING"})


@dataclass(frozen=True, slots=True)
class Seen:
    """A run as it is shown: all about it, its curve and the orders that were refused."""

    answer: RunAnswer
    curve: Curve
    denied: list[OrderRow]
    more_denied: bool


def add(application: FastAPI, frame: Frame, desk: Desk) -> None:
    """The page at `/runs` and the reports."""
    frame.add("/runs", "Runs", lambda: _content(desk))

    @application.get("/runs/report/{run_id}")
    async def report(run_id: RunPath) -> HTMLResponse:
        return await reported(desk, desk.trader, run_id)


async def _content(desk: Desk) -> None:
    request = ui.context.client.request
    query = request.query_params if request is not None else QueryParams()
    ui.add_head_html(
        f'<link rel="stylesheet" href="{ASSETS_PATH}trades.css"><script src="{ASSETS_PATH}runs.js" defer></script>'
    )
    try:
        panels = await _panels(desk, query)
    except StorageUnavailable as error:
        panels = [f'<p role="alert">Not to be had now: {escape(str(error))}.</p>']
    except InvalidInput:
        panels = [_not_there("such a page")]
    with ui.element("div").classes("desk-stack"):
        for panel in panels:
            ui.html(panel, sanitize=False, tag="section").classes("desk-panel")


async def _panels(desk: Desk, query: QueryParams) -> list[str]:
    wanted = query.getlist("run")[:2]
    if not wanted:
        async with desk.ledger.reading() as connection:
            page = await run_records.runs(connection, desk.trader, cursor=query.get("cursor"), limit=ROWS)
        return [runs_table(page, later=query.get("cursor") is not None)]
    seen = []
    for run_id in wanted:
        found = await _see(desk, run_id)
        if found is None:
            return [_not_there(f"run {run_id[:64]}")]
        seen.append(found)
    if len(seen) == 1:
        return run_panels(seen[0])
    unit = cast("Unit", query.get("unit")) if query.get("unit") in _UNITS else "percent"
    return comparison(seen[0], seen[1], unit)


async def _see(desk: Desk, run_id: str) -> Seen | None:
    async with desk.ledger.reading() as connection:
        run = await desk.results.run(connection, desk.trader, run_id)
        if run is None:
            return None
        denied = await queries.orders(connection, run.run_id, denied=True, limit=_SHOWN_DENIED)
        return Seen(
            answer=await run_records.run_answer(connection, desk.results, run),
            curve=await drawn(connection, run),
            denied=denied.orders,
            more_denied=denied.next is not None,
        )


def _not_there(what: str) -> str:
    return f'<h2>There is no {escape(what)}</h2><p><a href="/runs">All runs</a></p>'


def runs_table(page: RunsPage, *, later: bool) -> str:
    """A page of deployments, newest first; two of them can be ticked to be compared."""
    if not page.runs:
        return '<h2>Deployments</h2><p class="desk-minor">Nothing has been deployed yet.</p>'
    head = "".join(
        f'<th scope="col"{" class=desk-number" if name.startswith("#") else ""}>{name.lstrip("#")}</th>'
        for name in (
            '<span class="desk-unseen">Compare</span>',
            "Deployed (UTC)",
            "How it ended",
            "Strategy",
            "Instruments",
            "#Risk",
            "#Trades",
            "#Win rate",
            "#PnL",
            "#R",
            "#Max drawdown",
            "By",
            "Report",
        )
    )
    steps = '<a class="desk-plain" href="/runs">Newest</a>' if later else ""
    if page.next is not None:
        steps += f'<a class="desk-plain" href="/runs?{urlencode({"cursor": page.next})}">Older</a>'
    return (
        '<h2>Deployments, newest first</h2><form method="get" action="/runs" data-compare>'
        '<div class="desk-scroll" tabindex="0" role="region" aria-label="Deployments">'
        f'<table class="desk-runs"><thead><tr>{head}</tr></thead><tbody>{"".join(map(_run_row, page.runs))}</tbody>'
        '</table></div><div class="desk-panel-actions"><button type="submit" class="desk-plain" disabled>Compare two'
        f"</button>{steps}</div></form>"
    )


def _run_row(run: RunRow) -> str:
    terms = run.terms or {}
    name = escape(run.run_id, quote=True)
    share = run.wins / run.trades if run.trades else None
    address = f"/runs?{urlencode({'run': run.run_id})}"
    cells = (
        ("desk-wrap", escape(ending(run))),
        ("", escape(str(terms.get("strategy", UNKNOWN)))),
        ("", escape(", ".join(terms.get("instruments", ())) or UNKNOWN)),
        ("desk-number", escape(str(terms.get("risk_per_trade", UNKNOWN)))),
        ("desk-number", f"{run.trades:,}"),
        ("desk-number", percent(share)),
        (f"desk-number desk-{sign(run.pnl)}", money(run.pnl, signed=True)),
        (f"desk-number desk-{sign(run.r_sum)}", number(float(run.r_sum), 2, signed=True)),
        ("desk-number", money(run.max_drawdown)),
        ("", escape(run.deployed_by or UNKNOWN)),
        (
            "",
            f'<a href="{report_address(run)}" target="_blank" aria-label="Report of {name}">report</a>',
        ),
    )
    return (
        f'<tr><td><input type="checkbox" name="run" value="{name}" aria-label="Compare {name}"></td>'
        f'<th scope="row"><a href="{address}" title="{name}">{moment(run.recorded_started)}</a></th>'
        + "".join(f'<td class="{css}">{text}</td>' for css, text in cells)
        + "</tr>"
    )


def report_address(run: RunRow) -> str:
    """Where a run's report is."""
    return f"/runs/report/{run.run_id}"


def run_panels(seen: Seen) -> list[str]:
    """One run in full."""
    answer, run = seen.answer, seen.answer.run
    terms = [(name, (value,)) for name, value in settings(run)]
    phases = "".join(
        f"<tr><td>{moment(step.recorded, seconds=True)}</td><td>{moment(step.time)}</td>"
        f'<td>{escape(step.phase.replace("_", " ").lower())}</td><td class="desk-wrap">{escape(step.reason)}</td></tr>'
        for step in answer.phases
    )
    return [
        _run_head(run),
        (
            f'<div class="desk-two"><div><h2>Settings</h2>{_pairs(terms)}</div>'
            f"<div><h2>Result</h2>{_figures([answer])}</div></div>"
        ),
        f"<h2>Equity and drawdown</h2>{_pictures(seen.curve)}",
        f"<h2>Trades by month</h2>{_months(answer)}",
        (
            '<h2>How it went</h2><div class="desk-scroll" tabindex="0" role="region" aria-label="Phases">'
            "<table><thead><tr>"
            '<th scope="col">When (UTC)</th><th scope="col">The run\'s clock</th><th scope="col">Phase</th>'
            f'<th scope="col">Why</th></tr></thead><tbody>{phases}</tbody></table></div>'
        ),
        "<h2>Orders that were refused</h2>" + denied_orders(seen.denied, run.run_id, more=seen.more_denied),
    ]


def _run_head(run: RunRow) -> str:
    trades = f"/trades?{urlencode({'run': run.run_id})}"
    export = f"/api/export?{urlencode({'format': 'csv', 'run_id': run.run_id})}"
    going = " It is under way: figures are as of now." if run.phase in _UNDER_WAY else ""
    return (
        f"<h2>Run {escape(run.run_id)}</h2><p>Deployed {moment(run.recorded_started)} by"
        f" {escape(run.deployed_by or 'somebody unknown')}; data from {moment(run.started)} to {moment(run.ended)};"
        f" {escape(ending(run))}.{going}</p>"
        f'<div class="desk-panel-actions"><a class="desk-plain" href="{trades}">Its trades</a>'
        f'<a class="desk-plain" href="{report_address(run)}" target="_blank">Report to save or print</a>'
        f'<a class="desk-plain" href="{export}" download>Trades as CSV</a>'
        '<a class="desk-plain" href="/runs">All runs</a></div>'
    )


def _pairs(rows: Sequence[tuple[str, tuple[str, ...]]], heads: Sequence[str] = ()) -> str:
    """Names and values, one column a run; rows whose values differ are marked."""
    lines = []
    for name, values in rows:
        differs = len(set(values)) > 1
        said = '<span class="desk-unseen"> differs</span>' if differs else ""
        cells = "".join(f"<td>{escape(value)}</td>" for value in values)
        lines.append(
            f'<tr{" data-differs" if differs else ""}><th scope="row">{escape(name)}{said}</th>{cells}</tr>'
        )
    return _pair_table("".join(lines), heads, "Settings")


def _figures(answers: Sequence[RunAnswer], heads: Sequence[str] = ()) -> str:
    columns = [figures(answer.statistics) for answer in answers]
    if not all(columns):
        return '<p class="desk-minor">No figures are recorded yet.</p>'
    lines = "".join(
        f'<tr{_differing(rows)}><th scope="row" title="{escape(rows[0][3], quote=True)}">{escape(rows[0][1])}</th>'
        + "".join(f'<td class="desk-number">{escape(value)}</td>' for _, _, value, _ in rows)
        + "</tr>"
        for rows in zip(*columns, strict=True)
    )
    return _pair_table(lines, heads, "Figures", numbers=True)


def _differing(rows: Sequence[tuple[str, str, str, str]]) -> str:
    return " data-differs" if len({value for _, _, value, _ in rows}) > 1 else ""


def _pair_table(lines: str, heads: Sequence[str], name: str, *, numbers: bool = False) -> str:
    css = ' class="desk-number"' if numbers else ""
    head = "".join(f'<th scope="col"{css}>{escape(text)}</th>' for text in heads)
    shown = f'<thead><tr><th scope="col">{name}</th>{head}</tr></thead>' if heads else ""
    return (
        f'<div class="desk-scroll" tabindex="0" role="region" aria-label="{name}">'
        f'<table class="desk-pairs">{shown}<tbody>{lines}</tbody></table></div>'
    )


def _pictures(curve: Curve) -> str:
    above = draw(
        [Line(list(zip(curve.times, curve.equities, strict=True)), "plot-a")],
        height=250,
        label="Equity over time",
        across="dates",
    )
    if not above:
        return '<p class="desk-minor">No equity is recorded yet.</p>'
    falls = [(at, -down) for at, down in zip(curve.times, curve.drawdowns, strict=True)]
    below = draw(
        [Line(falls, "plot-fall", filled=True)],
        height=120,
        label="Drawdown over time",
        across="dates",
        zero=True,
    )
    return f'<div class="desk-scroll" tabindex="0" role="region" aria-label="Equity and drawdown">{above}{below}</div>'


def _months(answer: RunAnswer) -> str:
    if not answer.months:
        return '<p class="desk-minor">No trade has been closed yet.</p>'
    lines = "".join(
        f'<tr><th scope="row">{row.month:%Y-%m}</th><td class="desk-number">{row.trades:,}</td>'
        f'<td class="desk-number">{row.wins:,}</td><td class="desk-number">{row.losses:,}</td>'
        f'<td class="desk-number desk-{sign(row.pnl)}">{money(row.pnl, signed=True)}</td>'
        f'<td class="desk-number desk-{sign(row.r_sum)}">{number(float(row.r_sum), 2, signed=True)}</td></tr>'
        for row in answer.months
    )
    head = "".join(
        f'<th scope="col"{" class=desk-number" if place else ""}>{name}</th>'
        for place, name in enumerate(("Month", "Trades", "Wins", "Losses", "PnL", "R"))
    )
    return (
        '<div class="desk-scroll" tabindex="0" role="region" aria-label="Trades by month">'
        f"<table><thead><tr>{head}</tr></thead><tbody>{lines}</tbody></table></div>"
    )


def comparison(first: Seen, second: Seen, unit: Unit) -> list[str]:
    """Two runs side by side: curves on one chart from their beginnings, settings and figures with what differs
    marked."""
    runs = (first.answer.run, second.answer.run)
    words = [f"{moment(run.recorded_started)} {(run.terms or {}).get('strategy', '')}" for run in runs]
    links = "".join(
        f'<li class="{css}"><a href="/runs?{urlencode({"run": run.run_id})}">{escape(run.run_id)}</a>'
        f" {escape(name)}, {escape(ending(run))}</li>"
        for css, run, name in zip(("desk-first-line", "desk-second"), runs, words, strict=True)
    )
    heads = [run.run_id for run in runs]
    values = [dict(settings(run)) for run in runs]
    names = dict.fromkeys(name for each in values for name in each)
    # Of strategies that differ, the parameters of both stand together.
    ordered = sorted(names, key=lambda name: (name != "Strategy", not name.startswith("Parameter")))
    rows = [(name, tuple(each.get(name, UNKNOWN) for each in values)) for name in ordered]
    return [
        (
            f'<h2>Two runs</h2><ul class="desk-legend">{links}</ul>{_chart(first, second, unit)}'
            '<div class="desk-panel-actions"><a class="desk-plain" href="/runs">All runs</a></div>'
        ),
        f"<h2>Settings</h2>{_pairs(rows, heads)}",
        f"<h2>Result</h2>{_figures([first.answer, second.answer], heads)}",
    ]


def _chart(first: Seen, second: Seen, unit: Unit) -> str:
    both = [("run", seen.answer.run.run_id) for seen in (first, second)]
    choices = "".join(
        f'<a class="desk-plain" href="/runs?{escape(urlencode([*both, ("unit", name)]), quote=True)}"'
        f"{' aria-current=true' if name == unit else ''}>{words}</a>"
        for name, words in _UNITS.items()
    )
    lines = [
        Line(points, css)
        for seen, css in ((first, "plot-a"), (second, "plot-b"))
        if (points := seen.curve.line(unit)) is not None
    ]
    picture = draw(
        lines,
        height=300,
        label=f"Results of both runs since their beginnings, in {_UNITS[unit].lower()}",
        across="days",
        zero=True,
    )
    shown = picture or '<p class="desk-minor">There is no curve to draw yet.</p>'
    return (
        f'<div class="desk-panel-actions" role="group" aria-label="Unit of the chart">{choices}</div>'
        f'<div class="desk-scroll" tabindex="0" role="region" aria-label="Both curves">{shown}</div>'
    )
