"""Clearing a halt: with a reason, and only from a flat account, as `POST /api/reset` does it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from html import escape

import structlog
from nicegui import ui

from services.api.answers.state import StatusAnswer
from services.api.console.feed import Feed
from services.api.console.sessions import Person
from services.api.dashboard import status_or_none
from services.api.desk import Desk
from services.api.problems import Problem
from services.shared.commands import Reset
from services.shared.errors import BusError

log = structlog.get_logger(__name__)

_ANSWERED_WITHIN = 3.0


def why_not(status: StatusAnswer | None) -> str:
    """Why there is nothing to reset, or why it cannot be done now; nothing when it can."""
    if status is None:
        return "Where the desk stands is not known: NATS does not answer."
    if not status.halted and status.phase != "STOPPING":
        return "Nothing is halted."
    if status.holding != "flat" or status.phase == "STOPPING":
        return (
            f"Not yet: the account is {status.holding} and the desk is {status.phase.lower().replace('_', ' ')}."
            " A reset needs a flat account. Positions are being closed; if that does not end, see Emergency."
        )
    return ""


class ResetDialog:
    """One page's dialog; `done` is awaited after a reset."""

    def __init__(self, desk: Desk, feed: Feed, person: Person, done: Callable[[], Awaitable[None]]) -> None:
        self._desk = desk
        self._feed = feed
        self._person = person
        self._done = done
        with (
            ui.dialog().props('aria-labelledby="reset-title"') as self._dialog,
            ui.card().classes("desk-dialog"),
        ):
            ui.html('<h2 id="reset-title">Reset the halt</h2>', sanitize=False)
            ui.html(_WHAT, sanitize=False)
            self._reason = ui.input("Reason, written down with your name", on_change=self._look).props(
                'outlined dense debounce="150" autocomplete="off" autofocus'
            )
            self._problem = ui.html("", sanitize=False).classes("desk-problem").props("role=alert")
            with ui.element("div").classes("desk-dialog-actions"):
                ui.button("Stay halted", on_click=self._dialog.close, color=None).props("flat no-caps")
                self._reset = (
                    ui.button("Reset now", on_click=self._send, color=None)
                    .props("unelevated no-caps")
                    .classes("desk-act")
                )

    async def open(self) -> None:
        """Show it, with why not where it cannot be done now."""
        if not self._person.may_act:
            return
        self._reason.set_value("")
        status, _ = await status_or_none(self._desk, self._desk.trader)
        problem = why_not(status)
        self._problem.set_content(f"<p>{escape(problem)}</p>" if problem else "")
        self._look()
        self._dialog.open()

    def _look(self) -> None:
        self._reset.set_enabled(bool((self._reason.value or "").strip()))

    async def _send(self) -> None:
        reason = (self._reason.value or "").strip()
        if not self._person.may_act or not reason:
            return
        self._reset.disable()
        command = Reset(reason=reason[:2000], by=self._person.name)
        try:
            progress = await self._desk.verbs.send(self._desk.trader, command, wait=_ANSWERED_WITHIN)
        except (Problem, BusError) as error:
            said = getattr(error, "detail", str(error))
            self._problem.set_content(f"<p>Refused: {escape(said)}</p>")
            self._reset.enable()
            return
        log.info("reset_asked", command_id=progress.command_id, by=self._person.name)
        self._feed.hurry()
        self._dialog.close()
        await self._done()


_WHAT = (
    "<p>Clears the latch. Peak, day's opening and losing streak begin anew from now; the old values and your"
    " reason are kept. Nothing is deployed by it: only a deploy trades again.</p>"
)
