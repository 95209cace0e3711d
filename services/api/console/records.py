"""The pages that list what is recorded: limits and their use, alerts, services.

Each is read when it is opened, from the queries that the API's routes use; what moves by the second is in
the header and on the overview.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Sequence
from html import escape

from nicegui import ui

from services.api import queries
from services.api.answers.state import LimitRow
from services.api.console.frame import Frame
from services.api.console.wording import UNKNOWN, moment, number
from services.api.dashboard import Recorded, chosen_run, limits_in_use, status_or_none
from services.api.desk import Desk
from services.api.positions import open_positions
from services.api.status import pulses
from services.shared import __version__
from services.shared.errors import StorageUnavailable

_ROWS = 100

Cell = tuple[str, str]
"""A cell's text and its class."""


def add(frame: Frame, desk: Desk, channels: int) -> None:
    """All of them."""
    for path, title, read in (
        ("/risk", "Risk", _risk),
        ("/alerts", "Alerts", _alerts),
    ):
        frame.add(path, title, _reading(desk, read))
    frame.add("/settings", "Settings", lambda: _panel(_settings(desk, channels)))


def _reading(desk: Desk, read: Callable[[Desk], Awaitable[str]]) -> Callable[[], Awaitable[None]]:
    async def content() -> None:
        try:
            html = await read(desk)
        except StorageUnavailable as error:
            html = f'<p role="alert">Not to be had now: {escape(str(error))}.</p>'
        _panel(html)

    return content


def _panel(html: str) -> None:
    ui.html(html, sanitize=False, tag="section").classes("desk-panel")


def table(name: str, columns: Sequence[str], rows: Iterable[Sequence[Cell]], *, empty: str) -> str:
    """A table as HTML; a column whose name begins with `#` has numbers."""
    head = "".join(
        f'<th scope="col"{" class=desk-number" if column.startswith("#") else ""}>{escape(column.lstrip("#"))}</th>'
        for column in columns
    )
    body = "".join(
        "<tr>" + "".join(f'<td class="{css}">{escape(text)}</td>' for text, css in row) + "</tr>"
        for row in rows
    )
    if not body:
        return f'<p class="desk-minor">{escape(empty)}</p>'
    return (
        f'<div class="desk-scroll" tabindex="0" role="region" aria-label="{escape(name, quote=True)}"><table>'
        f"<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"
    )


def _plain(*texts: str) -> list[Cell]:
    return [(text, "") for text in texts]


async def _risk(desk: Desk) -> str:
    status, _ = await status_or_none(desk, desk.trader)
    recorded = Recorded()
    async with desk.ledger.reading() as connection:
        recorded.run = await chosen_run(desk, connection, desk.trader, None, status)
        history = await queries.limit_history(connection, desk.trader)
        if recorded.run is not None:
            recorded.standing = await desk.results.standing(connection, recorded.run)
            recorded.positions = await open_positions(connection, recorded.run.run_id)
    limits, missing = await limits_in_use(desk, desk.trader, recorded)
    if limits is None:
        shown = f'<p role="alert">The limits are not known: {escape(missing.reason if missing else "")}.</p>'
    else:
        columns = ("Limit", "#Value", "When reached", "#Used", "What it counts")
        shown = table("Limits", columns, [_limit(row) for row in limits], empty="None.")
    changes = [
        _plain(moment(row.recorded, seconds=True), row.action, row.by, row.reason, _change(row.old, row.new))
        for row in history
    ]
    columns = ("When (UTC)", "What", "Who", "Why", "Change")
    return (
        f"<h2>Limits in force</h2>{shown}"
        f"<h2>Changes, halts and resets</h2>{table('History', columns, changes, empty='None yet.')}"
    )


def _limit(row: LimitRow) -> list[Cell]:
    used = UNKNOWN if row.used_percent is None else f"{number(row.used_percent, 1)} %"
    tint = "desk-down" if row.used_percent is not None and row.used_percent >= 80 else ""
    return [
        *_plain(row.name.replace("_", " ")),
        (row.value, "desk-number"),
        *_plain(row.action),
        (used, f"desk-number {tint}"),
        (row.meaning, "desk-wrap"),
    ]


def _change(old: dict[str, object], new: dict[str, object]) -> str:
    return ", ".join(
        f"{name}: {old.get(name) or UNKNOWN} → {value or UNKNOWN}" for name, value in new.items()
    )


async def _alerts(desk: Desk) -> str:
    async with desk.ledger.reading() as connection:
        page = await queries.alerts(connection, desk.trader, limit=_ROWS)
    rows = [
        [
            *_plain(moment(row.recorded, seconds=True)),
            (row.severity.lower(), f"desk-severity-{row.severity.lower()}"),
            (row.text, "desk-wrap"),
            (row.action, "desk-wrap"),
        ]
        for row in page.alerts
    ]
    columns = ("When (UTC)", "Severity", "What happened", "What to do")
    return "<h2>Alerts, newest first</h2>" + table("Alerts", columns, rows, empty="None yet.")


def _settings(desk: Desk, channels: int) -> str:
    services = [
        _plain(pulse.service, pulse.instance, pulse.version, pulse.state, f"{pulse.age:.1f} s ago")
        for pulse in pulses(desk)
    ]
    columns = ("Service", "Instance", "Version", "State", "Heard")
    told = f"{channels} in the alert file" if channels else "none: nobody is told when the desk halts"
    return (
        f'<h2>Desk</h2><dl class="desk-facts"><div><dt>Name</dt><dd>{escape(desk.trader)}</dd></div>'
        f"<div><dt>Version</dt><dd>{escape(__version__)}</dd></div>"
        f"<div><dt>Broker</dt><dd>paper; a broker's credentials will have their place here</dd></div>"
        f"<div><dt>Alert channels</dt><dd>{told}</dd></div></dl>"
        f"<h2>Services</h2>{table('Services', columns, services, empty='None has been heard yet.')}"
    )
