"""What surrounds every page: the header with the desk's state, the way around, Deploy and Stop.

Values are filled in by the page's own script from what the feed tells; the header's elements only say
where each goes (`data-live`) and what colours it (`data-mark`). Deploying and stopping are the dialogs'.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from html import escape

from fastapi import Request
from nicegui import ui

from services.api.console.deploy_dialog import DeployDialog
from services.api.console.entrance import ASSETS_PATH, PERSON
from services.api.console.feed import Feed
from services.api.console.sessions import MAY_NOT_ACT, Person, Sessions
from services.api.console.stop_dialog import StopDialog
from services.api.desk import Desk

PAGES: tuple[tuple[str, str], ...] = (
    ("/", "Overview"),
    ("/trades", "Trades"),
    ("/runs", "Runs"),
    ("/risk", "Risk"),
    ("/alerts", "Alerts"),
    ("/settings", "Settings"),
)
Content = Callable[[], Awaitable[None] | None]
_HEAD = (
    f'<link rel="icon" href="{ASSETS_PATH}desk.svg"><link rel="stylesheet" href="{ASSETS_PATH}desk.css">'
    f'<script src="{ASSETS_PATH}desk.js" defer></script>'
)


def live(key: str, *, mark: str = "", classes: str = "", before: str = "–") -> str:
    """Where the text of `key` goes, as HTML; `mark` names what colours it."""
    coloured = f' data-mark="{mark}"' if mark else ""
    return f'<span class="{classes}" data-live="{key}"{coloured}>{escape(before)}</span>'


class Frame:
    """Puts a page into its surroundings: `with frame.page("Trades"): ...`"""

    def __init__(self, desk: Desk, feed: Feed, sessions: Sessions, channels: int) -> None:
        self.sessions = sessions
        self._desk = desk
        self._feed = feed
        self._channels = channels

    def add(self, path: str, title: str, content: Content) -> None:
        """Have `content` built whenever somebody opens `path`."""

        async def show(request: Request) -> None:
            person: Person = request.scope[PERSON]
            self._build(path, title, person, request.query_params.get("open", ""))
            with ui.element("div").classes("desk-page"):
                made = content()
                if made is not None:
                    await made

        ui.page(path, title=f"{title} · {self._desk.trader} · tradedesk")(show)

    def _build(self, path: str, title: str, person: Person, opened: str) -> None:
        """`opened` is the dialog that an address like `/?open=stop` asks for, as Grafana's control row does."""
        ui.add_head_html(_HEAD)
        deploy = DeployDialog(self._desk, self._feed, person, self._channels)
        stop = StopDialog(self._desk, self._feed, person)
        with ui.element("header").classes("desk-header").props('aria-label="The desk"'):
            with ui.element("div").classes("desk-bar"):
                ui.html(_identity(self._desk.trader), sanitize=False, tag="div").classes("desk-identity")
                ui.html(_FIGURES, sanitize=False, tag="div").classes("desk-figures")
                with ui.element("div").classes("desk-actions"):
                    for name, dialog in (("Deploy", deploy), ("Stop", stop)):
                        made = ui.button(name, on_click=dialog.open, color=None).classes(
                            f"desk-{name.lower()}"
                        )
                        made.props('unelevated no-caps aria-haspopup="dialog"')
                        if opened == name.lower():
                            ui.timer(0, dialog.open, once=True)
                        if not person.may_act:
                            made.props(f'disable title="{MAY_NOT_ACT}"')
            ui.html(_navigation(path, person), sanitize=False, tag="div").classes("desk-row")
        ui.html(_NOTES, sanitize=False, tag="div").classes("desk-notes")
        ui.html(f"<h1>{escape(title)}</h1>", sanitize=False, tag="div").classes("desk-title")


def _identity(trader: str) -> str:
    return (
        f'<span class="desk-name">{escape(trader)}</span>'
        + live("mode", mark="mode", classes="desk-mode")
        + live("phase", mark="phase", classes="desk-phase")
        + '<span class="desk-connection" data-connection="connecting" role="status">'
        '<span class="desk-dot" aria-hidden="true"></span><span data-connection-text>connecting</span></span>'
    )


_FIGURES = (
    '<dl class="desk-dl">'
    f'<div><dt>Equity <span data-live="currency"></span></dt><dd>{live("equity")}</dd></div>'
    f"<div><dt>Today</dt><dd>{live('today', mark='today', classes='desk-signed')}"
    f" {live('today_percent', classes='desk-minor', before='')}</dd></div>"
    '<div class="desk-wide"><dt data-clock-label>Deployed for</dt><dd data-clock="since">–</dd></div>'
    '<div class="desk-wide"><dt>Time left</dt><dd data-clock="left">–</dd></div></dl>'
)
_NOTES = (
    '<div class="desk-note desk-lost" data-lost role="alert" hidden></div>'
    '<div class="desk-note desk-trouble" data-trouble role="status" hidden></div>'
    '<div class="desk-note desk-lost" data-standing role="status" hidden></div>'
    '<section class="desk-progress" data-stop aria-label="Stop under way" aria-live="polite" hidden></section>'
)


def _navigation(path: str, person: Person) -> str:
    links = "".join(
        f'<a href="{address}"{_here(address == path)}>{name}</a>'
        for address, name in (*PAGES, ("/docs", "Docs"))
    )
    return (
        f'<nav class="desk-nav" aria-label="Pages">{links}</nav>'
        f'<div class="desk-tools">{_who(person)}<button type="button" class="desk-tool" data-theme>'
        "<span data-theme-text>Theme: system</span></button>"
        '<form method="post" action="/logout"><button type="submit" class="desk-tool">Log out</button></form></div>'
    )


def _who(person: Person) -> str:
    only = "" if person.may_act else f' · <span title="{MAY_NOT_ACT}">only looks</span>'
    return f'<span class="desk-who" data-role="{person.role}">{escape(person.label)}{only}</span>'


def _here(here: bool) -> str:
    return ' aria-current="page"' if here else ""
