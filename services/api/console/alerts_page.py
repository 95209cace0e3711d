"""Alerts: what happened, what to do, who has read it; acknowledging, and trying the channels."""

from __future__ import annotations

from html import escape
from uuid import UUID

from nicegui import ui

from services.api import queries
from services.api.answers.records import AlertRow
from services.api.console.channel_trial import ChannelTrials
from services.api.console.entrance import PERSON
from services.api.console.feed import Feed
from services.api.console.frame import Frame
from services.api.console.guidance import place
from services.api.console.renewed import Renewed, button
from services.api.console.sessions import Person
from services.api.console.wording import moment
from services.api.desk import Desk
from services.api.problems import Problem
from services.shared.errors import BusError, StorageUnavailable

_ROWS = 100
_EVERY = "every severity"
_SEVERITIES = {_EVERY: "Every severity", "CRITICAL": "Critical", "WARNING": "Warning", "INFO": "Info"}


def add(frame: Frame, desk: Desk, feed: Feed) -> None:
    """The page at `/alerts`."""

    async def content() -> None:
        await _AlertsPage(desk, feed, ui.context.client.request.scope[PERSON]).show()

    frame.add("/alerts", "Alerts", content)


class _AlertsPage:
    """One person's page."""

    def __init__(self, desk: Desk, feed: Feed, person: Person) -> None:
        self._desk = desk
        self._feed = feed
        self._person = person
        self._shown: list[AlertRow] = []
        with ui.element("div").classes("desk-panel desk-filter"):
            self._severity = ui.select(
                _SEVERITIES, value=_EVERY, label="Severity", on_change=self._choose
            ).props("outlined dense options-dense")
            self._only_open = ui.checkbox("Only unacknowledged", on_change=self._choose)
            self._problem = ui.html("", sanitize=False).classes("desk-problem").props("role=alert")
        does = {"acknowledge": self._acknowledge, "acknowledge-all": self._acknowledge_all}
        self._part = Renewed("alerts-news", self._read, does)
        with ui.element("section").classes("desk-panel desk-after").props('aria-label="Alert channels"'):
            ChannelTrials(desk, person)

    async def show(self) -> None:
        """Fill it."""
        await self._part.renew()

    async def _choose(self) -> None:
        await self._part.renew()

    async def _read(self) -> str:
        severity = None if self._severity.value == _EVERY else self._severity.value
        acknowledged = False if self._only_open.value else None
        async with self._desk.ledger.reading() as connection:
            page = await queries.alerts(
                connection, self._desk.trader, severity=severity, acknowledged=acknowledged, limit=_ROWS
            )
        shown = self._desk.acknowledgements.shown(page.alerts)
        if self._only_open.value:
            shown = [alert for alert in shown if alert.acknowledged_at is None]
        self._shown = shown
        return _list(shown, self._person.may_act)

    async def _acknowledge(self, alert: str) -> None:
        await self._write([row.id for row in self._shown if str(row.id) == alert])

    async def _acknowledge_all(self, _: str) -> None:
        await self._write([row.id for row in self._shown if row.acknowledged_at is None])

    async def _write(self, ids: list[UUID]) -> None:
        if not self._person.may_act or not ids:
            return
        try:
            await self._desk.acknowledgements.acknowledge(ids, by=self._person.name, role=self._person.role)
        except (Problem, BusError, StorageUnavailable) as error:
            said = getattr(error, "detail", str(error))
            self._problem.set_content(f"<p>Not acknowledged: {escape(said)}</p>")
            return
        self._problem.set_content("")
        self._feed.hurry()
        await self._part.renew()


def _list(alerts: list[AlertRow], may_act: bool) -> str:
    if not alerts:
        return '<section class="desk-panel"><p class="desk-minor">No alert like this.</p></section>'
    unread = sum(alert.acknowledged_at is None for alert in alerts)
    every = (
        button(f"Acknowledge all {unread} shown", "acknowledge-all", css="desk-act-button")
        if may_act and unread
        else ""
    )
    items = "".join(_alert(alert, may_act) for alert in alerts)
    newest = f"The newest {len(alerts)}" if len(alerts) == _ROWS else f"{len(alerts)}"
    return (
        f'<section class="desk-panel"><div class="desk-panel-head"><h2>{newest} alerts, newest first</h2>{every}</div>'
        f'<ul class="desk-alerts-all">{items}</ul></section>'
    )


def _alert(alert: AlertRow, may_act: bool) -> str:
    severity = alert.severity.lower()
    if alert.acknowledged_at is not None:
        by = escape(alert.acknowledged_by or "somebody")
        read = f'<span class="desk-minor">✓ {by}, {moment(alert.acknowledged_at, seconds=True)} UTC</span>'
    elif may_act:
        read = button("Acknowledge", "acknowledge", str(alert.id), label=f"Acknowledge: {alert.text[:80]}")
    else:
        read = '<span class="desk-minor">not acknowledged</span>'
    run = f" · {escape(alert.run_id)}" if alert.emitter != "api" and alert.run_id else ""
    return (
        f'<li data-alert="{alert.id}" data-open="{str(alert.acknowledged_at is None).lower()}">'
        f'<div class="desk-alert-head"><span class="desk-severity" data-is="{severity}">{severity}</span>'
        f'<span class="desk-minor"><time>{moment(alert.recorded, seconds=True)}</time> UTC · {escape(alert.code)}'
        f'{run}</span><span class="desk-read">{read}</span></div>'
        f'<div class="desk-alert-text">{escape(alert.text)}</div>'
        f'<div class="desk-minor">{escape(alert.action)} <a href="{place(alert.code, alert.severity)}">What to do'
        f'<span class="desk-unseen"> about {escape(alert.code)}</span></a></div></li>'
    )
