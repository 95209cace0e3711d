"""The console's own door: which of its addresses need a session, and what its pages may load.

Answers the console's assets and the page shown while NiceGUI is still being loaded; logging in and out is
`login`'s. Everything else goes on to NiceGUI, for people with a session only, its socket included and no
longer than the session holds. A page leaves with a strict Content-Security-Policy. Hosts and origins of
requests that change something are the gate's business; the socket's origin is looked at here, since it is
opened with a GET.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from pathlib import Path
from urllib.parse import quote, urlsplit

from starlette.datastructures import Headers
from starlette.responses import FileResponse, PlainTextResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from services.api.console.grafana_door import (
    DASHBOARD_PATH,
    GRAFANA_LOGIN_PATH,
    grafana_login,
    to_dashboard,
)
from services.api.console.headers import FIXED, STORED_NOWHERE
from services.api.console.login import LOGIN_PATH, LOGOUT_PATHS, STATE_PATH, Login, own_path
from services.api.console.login_page import STARTING, UNREAD, plain_page
from services.api.console.sessions import Sessions
from services.api.desk import Desk

ASSETS = Path(__file__).parent / "assets"
ASSETS_PATH = "/console/assets/"
_SOCKET = "/_nicegui_ws"
_INNER = ("/_nicegui", "/console/data/")
PERSON = "desk.person"
"""Where in a request's scope its person is left for the pages."""
_TYPES = {".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml"}
Loaded = Callable[[], ASGIApp | None]


def policy(nonce: str) -> str:
    """What a page of NiceGUI may do. It compiles its templates in the browser, hence 'unsafe-eval', and
    sets styles on elements; it loads nothing from elsewhere and runs no script that this page did not name."""
    return (
        f"default-src 'none'; script-src 'self' 'nonce-{nonce}' 'unsafe-eval'; style-src 'self' 'unsafe-inline';"
        " img-src 'self' data:; font-src 'self'; connect-src 'self'; base-uri 'none'; form-action 'self';"
        " frame-ancestors 'none'; object-src 'none'"
    )


class Entrance:
    """The ASGI application behind every address that is no route of the API.

    `loaded` gives NiceGUI's application, or None until there is one; `otherwise` answers what is under
    `/api` and no route.
    """

    def __init__(
        self, desk: Desk, sessions: Sessions, login: Login, loaded: Loaded, otherwise: ASGIApp
    ) -> None:
        self._desk = desk
        self._sessions = sessions
        self._login = login
        self._loaded = loaded
        self._otherwise = otherwise

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        path: str = scope["path"]
        if path == "/api" or path.startswith("/api/") or scope["type"] not in ("http", "websocket"):
            await self._otherwise(scope, receive, send)
        elif path == _SOCKET or path.startswith(_SOCKET + "/"):
            await self._socket(scope, receive, send)
        elif scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008})
        elif path == LOGIN_PATH:
            await (await self._login.login(scope, receive))(scope, receive, send)
        elif path in LOGOUT_PATHS and scope["method"] == "POST":
            await (await self._login.logout(scope))(scope, receive, send)
        elif path == STATE_PATH and scope["method"] in ("GET", "HEAD"):
            await self._login.state(scope)(scope, receive, send)
        elif path == GRAFANA_LOGIN_PATH and scope["method"] in ("GET", "HEAD"):
            await grafana_login(self._sessions, scope)(scope, receive, send)
        elif path.startswith(ASSETS_PATH):
            await _asset(path.removeprefix(ASSETS_PATH))(scope, receive, send)
        else:
            await self._page(scope, receive, send)

    async def _page(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["method"] not in ("GET", "HEAD"):
            await self._otherwise(scope, receive, send)
            return
        person = self._sessions.who(scope)
        if person is None:
            await self._without_session(scope)(scope, receive, send)
            return
        if scope["path"] == DASHBOARD_PATH:
            await (await to_dashboard(self._desk))(scope, receive, send)
            return
        console = self._loaded()
        if console is None:
            await plain_page(STARTING)(scope, receive, send)
            return
        await _Page(send).carry(console, {**scope, PERSON: person}, receive)

    def _without_session(self, scope: Scope) -> Response:
        if scope["path"].startswith(_INNER):
            return _refusal()
        if not self._sessions.known and self._sessions.has_cookie(scope):
            return plain_page(UNREAD)
        wanted = own_path(scope["path"])
        to = LOGIN_PATH if wanted == "/" else f"{LOGIN_PATH}?next={quote(wanted)}"
        return RedirectResponse(to, 303, STORED_NOWHERE)

    async def _socket(self, scope: Scope, receive: Receive, send: Send) -> None:
        """A page of another site must not open a socket here, and without a session nobody may."""
        console = self._loaded()
        person = self._sessions.who(scope) if _own_origin(scope) else None
        if console is not None and person is not None and scope["type"] == "websocket":
            await self._sessions.carry(console, scope, receive, send, person)
        elif console is not None and person is not None:
            await console(scope, receive, send)
        elif scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008})
        else:
            await _refusal()(scope, receive, send)


class _Page:
    """Sends what NiceGUI answers on, with the headers of the console; a page gets its policy, and its
    scripts the nonce that goes with it, which NiceGUI itself has no place for."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self._begun: Message | None = None
        self._body = bytearray()

    async def carry(self, console: ASGIApp, scope: Scope, receive: Receive) -> None:
        """Have `console` answer."""
        # A forwarded prefix would be written into the page, and there is no proxy to send one.
        headers = [pair for pair in scope["headers"] if pair[0] != b"x-forwarded-prefix"]
        await console({**scope, "headers": headers}, receive, self._take)

    async def _take(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = Headers(raw=message["headers"])
            if headers.get("x-nicegui-content") == "page":
                self._begun = message
                return
            await self._send(_with_headers(message, FIXED))
        elif self._begun is None:
            await self._send(message)
        else:
            self._body += message.get("body", b"")
            if not message.get("more_body", False):
                await self._finish(self._begun)

    async def _finish(self, begun: Message) -> None:
        nonce = secrets.token_urlsafe(16)
        body = bytes(self._body).replace(b"<script", f'<script nonce="{nonce}"'.encode())
        kept = [pair for pair in begun["headers"] if pair[0] != b"content-length"]
        fresh = {
            **STORED_NOWHERE,
            "Content-Length": str(len(body)),
            "Content-Security-Policy": policy(nonce),
        }
        await self._send(_with_headers({**begun, "headers": kept}, fresh))
        await self._send({"type": "http.response.body", "body": body})


def _with_headers(message: Message, headers: dict[str, str]) -> Message:
    present = {name.lower() for name, _ in message["headers"]}
    added = [
        (name.lower().encode(), value.encode())
        for name, value in headers.items()
        if name.lower().encode() not in present
    ]
    return {**message, "headers": [*message["headers"], *added]}


def _own_origin(scope: Scope) -> bool:
    headers = Headers(scope=scope)
    try:
        return urlsplit(headers.get("origin", "")).netloc.lower() == headers.get("host", "").lower() != ""
    except ValueError:
        return False


def _refusal() -> Response:
    return PlainTextResponse("log in at /login\n", 401, STORED_NOWHERE)


def _asset(name: str) -> Response:
    path = ASSETS / name
    if "/" in name or path.suffix not in _TYPES or not path.is_file():
        return PlainTextResponse("no such asset\n", 404, FIXED)
    # Checked again each time (by its tag): a page must never run an older desk's script.
    return FileResponse(path, media_type=_TYPES[path.suffix], headers={**FIXED, "Cache-Control": "no-cache"})


__all__ = ["ASSETS_PATH", "PERSON", "Entrance", "policy"]
