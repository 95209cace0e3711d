"""The alert channels as far as they may be shown, with a button that sends a trial alert through each."""

from __future__ import annotations

import asyncio
from html import escape

from nicegui import ui

from services.api.alert_channels import AlertChannels
from services.api.console.sessions import Person
from services.api.console.tables import plain, table
from services.api.desk import Desk
from services.api.problems import Problem
from services.shared.errors import InvalidInput

_HOW = (
    '<p class="desk-minor">A channel is a line in <code>secrets/alert-urls</code> in the desk\'s data directory.'
    " It holds passwords, so it is edited there and never shown here."
    ' <a href="/docs/operations#alerts">How to add one</a>, and <code>desk alerts test</code> tries it before the'
    " desk is restarted.</p>"
)


class ChannelTrials:
    """A panel's content."""

    def __init__(self, desk: Desk, person: Person) -> None:
        self._desk = desk
        self._person = person
        ui.html("<h2>Alert channels</h2>", sanitize=False)
        self._list = ui.html(_seen(desk.channels, {}), sanitize=False)
        self._said = ui.html("", sanitize=False).props('aria-live="polite"')
        if person.may_act:
            self._try = (
                ui.button("Test every channel", on_click=self._send, color=None)
                .props("unelevated no-caps")
                .classes("desk-act")
            )
        ui.html(_HOW, sanitize=False)

    async def _send(self) -> None:
        if not self._person.may_act:
            return
        self._try.disable()
        self._said.set_content("<p>Sending a trial alert through each …</p>")
        try:
            taken = await self._desk.channels.try_all(self._desk.trader)
        except (Problem, InvalidInput) as error:
            said = getattr(error, "detail", str(error))
            self._said.set_content(f'<p class="desk-problem">{escape(said[:1].upper() + said[1:])}.</p>')
            self._try.enable()
            return
        told = ", ".join(f"{channel} {'taken' if well else 'failed'}" for channel, well in taken.items())
        self._desk.journal.note(self._person.name, self._person.role, "channels.try", detail=told)
        self._list.set_content(await asyncio.to_thread(_seen, self._desk.channels, taken))
        failed = sum(not well for well in taken.values())
        self._said.set_content(
            f'<p class="desk-problem">{failed} of {len(taken)} did not take it.</p>'
            if failed
            else f"<p>Sent: all {len(taken)} took it. Look whether it arrived.</p>"
        )
        self._try.enable()


def _seen(channels: AlertChannels, taken: dict[str, bool]) -> str:
    """The channels, and what each made of the trial."""
    try:
        found = channels.seen()
    except InvalidInput as error:
        return f'<p class="desk-problem">{escape(str(error))}</p>'
    answers = {True: ("✓ taken", "desk-up"), False: ("✕ failed", "desk-down")}
    rows = [
        [
            *plain(channel.label, channel.kind or "unknown", channel.host or "not shown"),
            answers[taken[channel.label]] if channel.label in taken else ("not tried", "desk-minor"),
        ]
        for channel in found
    ]
    shown = table(
        "Table of channels",
        ("Channel", "Kind", "Host", "Trial"),
        rows,
        empty="None: nobody is told when the desk halts or falls silent.",
    )
    if channels.changed:
        shown += '<p class="desk-problem">The file has changed: restart the desk so that it uses what stands there.</p>'
    return shown
