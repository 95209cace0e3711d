"""Changing one limit: its meaning, its value, what a new one would come to, and the change itself.

Tightening goes at once; loosening is confirmed first. The guard decides, and its reason is shown.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from decimal import Decimal
from html import escape

import structlog
from nicegui import ui

from services.api.console.limit_form import Proposal, propose, takes, worth
from services.api.console.limit_use import title
from services.api.console.sessions import Person
from services.api.desk import Desk
from services.api.limit_change import change_limits
from services.api.problems import Problem
from services.shared.errors import BusError, InvalidInput
from services.shared.limits import MEANING, NAMES, Limits

log = structlog.get_logger(__name__)


class LimitDialog:
    """One page's dialog, filled by `open`; `done` is awaited after a change."""

    def __init__(self, desk: Desk, person: Person, done: Callable[[], Awaitable[None]]) -> None:
        self._desk = desk
        self._person = person
        self._done = done
        self._name = ""
        self._limits = Limits()
        self._risk: Decimal | None = None
        self._equity: Decimal | None = None
        with (
            ui.dialog().props('aria-labelledby="limit-title"') as self._dialog,
            ui.card().classes("desk-dialog"),
        ):
            self._head = ui.html("", sanitize=False)
            self._value = self._field("New value")
            self._means = ui.html("", sanitize=False).classes("desk-summary").props('aria-live="polite"')
            self._reason = self._field("Reason, written down with the change")
            self._sure = ui.checkbox("Let the guard allow more than it does now", on_change=self._look)
            self._problem = ui.html("", sanitize=False).classes("desk-problem").props("role=alert")
            with ui.element("div").classes("desk-dialog-actions"):
                ui.button("Cancel", on_click=self._dialog.close, color=None).props("flat no-caps")
                self._change = (
                    ui.button("Change", on_click=self._send, color=None)
                    .props("unelevated no-caps")
                    .classes("desk-act")
                )

    def _field(self, label: str) -> ui.input:
        made = ui.input(label, on_change=self._look)
        return made.props('outlined dense debounce="150" autocomplete="off"')

    def open(self, name: str, limits: Limits, risk: Decimal | None, equity: Decimal | None) -> None:
        """Show it for one limit. `risk` and `equity` are the run's, for what a value comes to."""
        if name not in NAMES or not self._person.may_act:
            return
        self._name, self._limits, self._risk, self._equity = name, limits, risk, equity
        action, meaning = MEANING[name]
        now = limits.as_text()[name]
        come_to = worth(name, getattr(limits, name), risk, equity)
        self._head.set_content(
            f'<h2 id="limit-title">{escape(title(name))}</h2>'
            f"<p>{escape(meaning[:1].upper() + meaning[1:])}. When reached: <strong>{action}</strong>.</p>"
            f"<p>Now <strong>{escape(now)}</strong>{f' ({escape(come_to)})' if come_to else ''}.</p>"
        )
        self._value.props(f'hint="{escape(takes(name), quote=True)}"')
        self._value.set_value(now)
        self._reason.set_value("")
        self._sure.set_value(False)
        self._problem.set_content("")
        self._look()
        self._dialog.open()

    def _proposal(self) -> Proposal:
        return propose(self._limits, self._name, (self._value.value or "").strip(), self._risk, self._equity)

    def _look(self) -> None:
        """Say what the value in the field would mean."""
        if not self._name:
            return
        wanted = self._proposal()
        self._value.props(f'aria-invalid="{str(bool(wanted.problem)).lower()}"')
        self._means.set_content(f"<p>{escape(_says(wanted))}</p>")
        self._sure.set_visibility(wanted.change == "looser")
        self._change.set_text({"tighter": "Tighten", "looser": "Loosen"}.get(wanted.change or "", "Change"))
        reasoned = bool((self._reason.value or "").strip())
        confirmed = wanted.change == "tighter" or (wanted.change == "looser" and bool(self._sure.value))
        self._change.set_enabled(confirmed and reasoned)

    async def _send(self) -> None:
        wanted = self._proposal()
        loosens_unasked = wanted.change == "looser" and not self._sure.value
        reason = (self._reason.value or "").strip()
        if not self._person.may_act or wanted.change is None or loosens_unasked or not reason:
            return
        values = {self._name: self._value.value.strip()}
        self._change.disable()
        try:
            await change_limits(
                self._desk, self._desk.trader, values, by=self._person.name, reason=reason[:2000]
            )
        except (Problem, BusError, InvalidInput) as error:
            said = getattr(error, "detail", str(error))
            self._problem.set_content(f"<p>Refused: {escape(said)}</p>")
            self._change.enable()
            return
        log.info("limit_changed", limit=self._name, by=self._person.name)
        self._dialog.close()
        await self._done()


def _says(wanted: Proposal) -> str:
    if wanted.problem:
        return wanted.problem
    if wanted.change is None:
        return "This is the value in force."
    means = f" It comes to {wanted.means}." if wanted.means else ""
    if wanted.change == "tighter":
        return f"Tighter: taken at any time, also in the middle of a trade.{means}"
    return f"Looser: taken only while flat and not deployed.{means}"
