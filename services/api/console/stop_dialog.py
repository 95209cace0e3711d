"""Stop, from every page: what will be closed, how, and then the command itself, sent as the API sends it.

Its progress is not the dialog's: the feed tells it to every page from the command's own record.
"""

from __future__ import annotations

from html import escape
from typing import cast

import structlog
from nicegui import ui

from services.api import queries
from services.api.answers.records import OrderRow
from services.api.console.feed import Feed
from services.api.console.sessions import MAY_NOT_ACT, Person
from services.api.console.wording import position
from services.api.dashboard import chosen_run, status_or_none
from services.api.desk import Desk
from services.api.positions import open_positions
from services.api.problems import Problem
from services.shared.commands import Stop, StopMode
from services.shared.errors import BusError, StorageUnavailable

log = structlog.get_logger(__name__)

MODES: dict[StopMode, str] = {
    "flatten": "Flatten – cancel every order and close the position now",
    "graceful": "Graceful – no new trades; ends when the open trade ends",
    "freeze": "Freeze – stop now and leave the position to its stop at the broker",
}
_BECOMES: dict[StopMode, tuple[str, str]] = {
    "flatten": ("Closes at market", "Cancels"),
    "graceful": (
        "Leaves open until its stop, its target or the strategy ends it",
        "Leaves working for open trades",
    ),
    "freeze": ("Leaves open, with nobody managing it", "Leaves working at the broker"),
}
"""What each mode makes of positions and of working orders."""
_LOOKED_AT = 50
_RENEWED_EVERY = 1.0
_ANSWERED_WITHIN = 0.2


class StopDialog:
    """One page's dialog; `open` fills it anew each time."""

    def __init__(self, desk: Desk, feed: Feed, person: Person) -> None:
        self._desk = desk
        self._feed = feed
        self._person = person
        with (
            ui.dialog().props('aria-labelledby="stop-title"') as self._dialog,
            ui.card().classes("desk-dialog"),
        ):
            ui.html('<h2 id="stop-title">Stop the deployment</h2>', sanitize=False)
            self._closes = ui.html("", sanitize=False).classes("desk-closes")
            self._mode = ui.radio(cast("dict[str, str]", MODES), value="flatten").props(
                'aria-label="How to stop"'
            )
            self._problem = ui.html("", sanitize=False).classes("desk-problem").props("role=alert")
            with ui.element("div").classes("desk-dialog-actions"):
                ui.button("Keep running", on_click=self._dialog.close, color=None).props("flat no-caps")
                self._confirm = (
                    ui.button("Stop now", on_click=self._stop, color=None)
                    .props("unelevated no-caps autofocus")
                    .classes("desk-stop")
                )
        self._again = ui.timer(_RENEWED_EVERY, self._renew, active=False)
        self._dialog.on_value_change(lambda change: setattr(self._again, "active", bool(change.value)))

    async def open(self) -> None:
        """Show it at once; what will be closed follows as soon as it is read. A viewer gets nothing to see."""
        if not self._person.may_act:
            ui.notify(MAY_NOT_ACT)
            return
        self._problem.set_content("")
        self._closes.set_content("<p>Reading what is open …</p>")
        self._mode.set_value("flatten")
        self._confirm.enable()
        self._dialog.open()
        await self._renew()

    async def _renew(self) -> None:
        """What is open may change while somebody reads it."""
        if self._dialog.value:
            self._closes.set_content(await self._what_is_open(cast(StopMode, self._mode.value)))

    async def _what_is_open(self, mode: StopMode) -> str:
        status, _ = await status_or_none(self._desk, self._desk.trader)
        try:
            async with self._desk.ledger.reading() as connection:
                run = await chosen_run(self._desk, connection, self._desk.trader, None, status)
                if run is None:
                    return "<p>Nothing has been deployed: there is nothing to close.</p>"
                positions = await open_positions(connection, run.run_id)
                found = await queries.orders(connection, run.run_id, limit=_LOOKED_AT)
        except StorageUnavailable as error:
            return f"<p>What is open is not known here ({escape(str(error))}); the trader knows, and closes it.</p>"
        working = [order for order in found.orders if order.state == "accepted"]
        held = [f"<li>{escape(position(row))}</li>" for row in positions]
        orders = [f"<li>{escape(_order(order))}</li>" for order in working]
        if held or orders:
            return "".join(
                f"<p>{words}</p><ul>{''.join(lines)}</ul>"
                for words, lines in zip(_BECOMES[mode], (held, orders), strict=True)
                if lines
            )
        holding = "unknown" if status is None else status.holding
        if holding == "flat":
            return "<p>No open position and no working order: stopping ends the run.</p>"
        return (
            f"<p>The trader says it is <strong>{escape(holding)}</strong>; no position is recorded yet.</p>"
        )

    async def _stop(self) -> None:
        if not self._person.may_act:
            self._problem.set_content(f"<p>{MAY_NOT_ACT}</p>")
            log.warning("stop_refused", by=self._person.name)
            return
        self._confirm.disable()
        command = Stop(mode=cast(StopMode, self._mode.value), by=self._person.name)
        try:
            progress = await self._desk.verbs.send(self._desk.trader, command, wait=_ANSWERED_WITHIN)
        except (Problem, BusError) as error:
            self._problem.set_content(f"<p>{escape(getattr(error, 'detail', str(error)))}</p>")
            self._confirm.enable()
            return
        log.info("stop_asked", command_id=progress.command_id, mode=command.mode, by=self._person.name)
        self._feed.hurry()
        self._dialog.close()


def _order(order: OrderRow) -> str:
    price = "" if order.price is None else f" at {order.price:f}"
    amount = "" if order.amount is None else f"{order.amount:,f} "
    return f"{order.purpose} order {order.order}: {order.side} {amount}{order.instrument}{price}"
