"""NiceGUI put together: one application with the console's pages and the data that their charts fetch.

Importing this imports NiceGUI. What a page shows is its own module's business, what surrounds it `frame`'s.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from fastapi import FastAPI
from nicegui import core, ui

from services.api.console import (
    alerts_page,
    docs_pages,
    overview,
    risk_page,
    runs_page,
    settings_page,
    trades_page,
)
from services.api.console.entrance import ASSETS_PATH
from services.api.console.feed import Feed, Message
from services.api.console.frame import Frame
from services.api.console.sessions import Sessions
from services.api.desk import Desk
from services.api.problems import install

_HEAD = f'<link rel="stylesheet" href="{ASSETS_PATH}pages.css"><script src="{ASSETS_PATH}pages.js" defer></script>'
"""Of every page: it also shows in the navigation how many alerts wait."""
_RECONNECT_WITHIN = 5.0
"""Seconds for which a page that lost its connection is kept, to go on where it was."""


def build(desk: Desk, feed: Feed, sessions: Sessions, channels: int) -> FastAPI:
    """The console's application; to be called once in a process, since NiceGUI is one for all of it."""
    application = FastAPI(openapi_url=None, docs_url=None, redoc_url=None)
    install(application)
    frame = Frame(desk, feed, sessions, channels)
    overview.add(application, frame, desk)
    trades_page.add(application, frame, desk)
    runs_page.add(application, frame, desk)
    risk_page.add(frame, desk, feed)
    alerts_page.add(frame, desk, feed)
    settings_page.add(frame, desk, sessions)
    docs_pages.add(application, frame)
    ui.add_head_html(_HEAD, shared=True)
    core.app.config.socket_io_js_transports = ["websocket"]
    ui.run_with(
        application,
        title="tradedesk",
        favicon=None,
        dark=None,
        language="en-US",
        binding_refresh_interval=None,
        reconnect_timeout=_RECONNECT_WITHIN,
        message_history_length=200,
        gzip_middleware_factory=None,  # loopback is quick, and pages get their nonce on the way out
        tailwind=False,
        show_welcome_message=False,
    )
    core.sio.eio.transports = ["websocket"]
    core.sio.on("desk_here", _joining(feed))
    return application


def _joining(feed: Feed) -> Callable[[str], Awaitable[None]]:
    """A page's script says that it listens: what was told before that would have been lost."""

    async def tell(socket: str, message: Message) -> bool:
        if not core.sio.manager.is_connected(socket, "/"):
            return False
        await core.sio.emit("desk", message, room=socket)
        return True

    async def join(socket: str) -> None:
        await feed.add(socket, tell)

    return join
