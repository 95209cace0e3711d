"""What `desk up` shows: one screen of what runs where, then a line for each trade, alert and phase."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path

from rich.console import Console, Group, RenderableType
from rich.markup import escape
from rich.panel import Panel
from rich.table import Table

from services.launcher.supervisor import Keeper

_QUIET_FOR = 5.0
_STATES = {"running": "[green]running[/]", "starting": "[yellow]starting[/]", "down": "[red]down[/]"}
_WHAT = {
    "nats": "carries and keeps every event",
    "postgres": "the database",
    "trader": "decides and trades",
    "risk": "the guard: permits and halts",
    "recorder": "writes everything down",
    "api": "the way in",
}


class _Terminal(Console):
    def on_broken_pipe(self) -> None:
        """Whoever read our lines is gone (`desk up | head`): the desk goes on without them."""


class Screen:
    """Prints to a terminal in colour and to a file plainly, a line at a time."""

    def __init__(self, console: Console | None = None) -> None:
        self._console = console or _Terminal(highlight=False, soft_wrap=True)
        self._quiet_until: dict[str, float] = {}

    def _print(self, what: RenderableType) -> None:
        """A closed pipe or a full disk is no reason to stop the desk."""
        with contextlib.suppress(OSError):
            self._console.print(what)

    def say(self, text: str) -> None:
        """One line of news."""
        self._print(f"[dim]·[/] {escape(text)}")

    def overview(
        self, *, api_url: str, token: str, root: Path, keepers: Mapping[str, Keeper], took: float
    ) -> None:
        """The one screen: address, token, what runs."""
        parts = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
        for name, keeper in keepers.items():
            parts.add_row(name, _STATES.get(keeper.state, keeper.state), f"[dim]{_WHAT.get(name, '')}[/]")
        head = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
        head.add_row(
            "address",
            f"[bold]{escape(api_url)}[/]   [dim]console and API, with this token[/]",
        )
        head.add_row("token", escape(token))
        head.add_row("data", escape(str(root)))
        tips = (
            "[dim]in another shell:[/] desk status   desk trades   desk stop   desk doctor"
            "\n[dim]Ctrl-C stops the desk; the next desk up continues where it was[/]"
        )
        title = f"[bold]the desk is up[/] [dim]after {took:.1f} s[/]"
        self._print(Panel(Group(head, "", parts, "", tips), title=title, title_align="left", expand=False))

    def child_changed(self, keeper: Keeper) -> None:
        """A child died or came back; its first start is no news, nor is each death of one that keeps dying."""
        now = time.monotonic()
        if keeper.state == "down":
            if now < self._quiet_until.get(keeper.name, 0.0):
                return
            self._quiet_until[keeper.name] = now + _QUIET_FOR
            self._print(f"[red]✖[/] {keeper.name} {escape(keeper.problem)}; starting it again")
        elif keeper.state == "running" and keeper.restarts > 0:
            self._print(f"[green]✔[/] {keeper.name} is back")

    def line(self, when: datetime, text: str) -> None:
        """One event, as `lines.describe` put it, at its run's time."""
        self._print(f"[dim]{when:%Y-%m-%d %H:%M}[/]  {text}")


__all__ = ["Screen"]
