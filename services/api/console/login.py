"""Logging in and out: what is answered to a browser at `/login`, `/logout` and `/logout/everywhere`.

A token becomes a session here, wrong ones are counted and cost time, and all of it lands in the journal,
without the token. The gate has looked at host and origin before. Keeping sessions is `sessions`' business.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from html import escape
from urllib.parse import parse_qs, urlsplit

import structlog
from starlette.datastructures import Headers
from starlette.responses import JSONResponse, PlainTextResponse, RedirectResponse, Response
from starlette.types import Receive, Scope

from services.api.auth import Doorkeeper
from services.api.console.attempts import Attempts
from services.api.console.headers import STORED_NOWHERE
from services.api.console.login_page import LOGIN, plain_page
from services.api.console.session_book import agent_of, label_of
from services.api.console.sessions import Sessions, forget, journal_name
from services.api.journal import Journal
from services.shared.errors import BusError

log = structlog.get_logger(__name__)

LOGIN_PATH = "/login"
LOGOUT_PATHS = ("/logout", "/logout/everywhere")
STATE_PATH = "/console/session"
_MOST_FORM_BYTES = 4096
_LONGEST_PATH = 500
_KNOWN_WITHIN = 2.0
"""Seconds to wait for the sessions to be read: somebody may be quick after the desk's start."""
_STRANGER = "somebody (console)"
_SAID = {
    "ended": "Your session has ended. Log in to go on where you were.",
    "everywhere": "Every session has been ended, this one too.",
}
_NOT_NOW = (
    "Nobody can log in just now: the desk cannot reach NATS, where sessions are kept. Try again in a moment."
)


@dataclass(frozen=True, slots=True)
class _Form:
    token: str = ""
    name: str = ""
    next: str = "/"


class Login:
    """Answers the addresses of logging in and out."""

    def __init__(
        self,
        sessions: Sessions,
        doorkeeper: Doorkeeper,
        journal: Journal,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._sessions = sessions
        self._doorkeeper = doorkeeper
        self._journal = journal
        self._clock = clock
        self._attempts = Attempts()

    async def login(self, scope: Scope, receive: Receive) -> Response:
        """The page to log in at, and what comes of it."""
        if scope["method"] == "POST":
            form = await _form_of(receive)
            return await self._begin(scope, form)
        if scope["method"] not in ("GET", "HEAD"):
            return PlainTextResponse("expected GET or POST\n", 405, {**STORED_NOWHERE, "Allow": "GET, POST"})
        asked = _fields(scope["query_string"])
        wanted = own_path(asked.get("next", ""))
        if self._sessions.who(scope) is not None:
            return RedirectResponse(wanted, 303, STORED_NOWHERE)
        return _page(wanted, notice=_SAID.get(asked.get("said", ""), ""))

    async def _begin(self, scope: Scope, form: _Form) -> Response:
        if not await self._sessions.until_known(_KNOWN_WITHIN):
            return _page(form.next, _NOT_NOW, 503, {"Retry-After": "2"})
        address, now = _address(scope), self._clock()
        wait = math.ceil(self._attempts.wait(address, now))
        if wait > 0:
            problem = f"Too many wrong tokens. Try again in {_seconds(wait)}."
            return _page(form.next, problem, 429, {"Retry-After": str(wait)})
        role = self._doorkeeper.role_of(form.token)
        agent = agent_of(Headers(scope=scope).get("user-agent", ""))
        if role is None:
            self._attempts.failed(address, now)
            # Not even the name: somebody may have put a token there.
            self._journal.note(_STRANGER, "none", "login.refused", subject=address, detail=agent)
            return _page(form.next, "That is not this desk's token.", 401)
        label = "" if self._doorkeeper.role_of(form.name) else label_of(form.name)
        try:
            cookie = await self._sessions.begin(role, label, scope)
        except BusError as error:
            log.warning("session_not_begun", detail=str(error))
            return _page(form.next, _NOT_NOW, 503, {"Retry-After": "2"})
        self._journal.note(journal_name(label or role), role, "login", subject=address, detail=agent)
        return RedirectResponse(form.next, 303, {**STORED_NOWHERE, "Set-Cookie": cookie})

    async def logout(self, scope: Scope) -> Response:
        """End the request's session, or everybody's, and forget the cookie."""
        person = self._sessions.who(scope)
        everywhere = scope["path"] == LOGOUT_PATHS[1]
        gone = {**STORED_NOWHERE, "Set-Cookie": forget(scope)}
        if person is None:
            return RedirectResponse(LOGIN_PATH, 303, gone)
        if not everywhere:
            await self._sessions.end(person.session)
            self._journal.note(person.name, person.role, "logout")
            return RedirectResponse(LOGIN_PATH, 303, gone)
        if not person.may_act:
            self._journal.note(person.name, person.role, "logout.everywhere.refused")
            return PlainTextResponse("a viewer may not log others out\n", 403, STORED_NOWHERE)
        ended = await self._sessions.end_everybody()
        self._journal.note(person.name, person.role, "logout.everywhere", detail=f"{ended} sessions")
        return RedirectResponse(f"{LOGIN_PATH}?said=everywhere", 303, gone)

    def state(self, scope: Scope) -> Response:
        """For a page's script that has lost its socket: whether the session holds. Always 200, for no browser
        is to call an ended session an error."""
        without = "ended" if self._sessions.known else "unknown"
        word = without if self._sessions.who(scope) is None else "holds"
        return JSONResponse({"session": word}, headers=STORED_NOWHERE)


def own_path(text: str) -> str:
    """The path of a page of ours that `text` names, otherwise `/`: after a login nobody is sent elsewhere."""
    plain = len(text) <= _LONGEST_PATH and text.isascii() and text.isprintable() and "\\" not in text
    if not plain or not text.startswith("/") or text.startswith("//"):
        return "/"
    path = urlsplit(text).path
    return "/" if path.startswith(("//", LOGIN_PATH, "/logout", "/api", "/_nicegui", "/console/")) else path


def _page(
    wanted: str, problem: str = "", status: int = 200, headers: dict[str, str] | None = None, notice: str = ""
) -> Response:
    html = LOGIN.format(problem=escape(problem), notice=escape(notice), next=escape(wanted, quote=True))
    return plain_page(html, status, headers)


def _seconds(wait: int) -> str:
    if wait < 120:
        return f"{wait} second{'' if wait == 1 else 's'}"
    return f"{math.ceil(wait / 60)} minutes"


def _address(scope: Scope) -> str:
    client = scope.get("client")
    return str(client[0]) if client else "unknown"


async def _form_of(receive: Receive) -> _Form:
    """The fields of a posted form; an empty form for what is no small one."""
    body = bytearray()
    more = True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            return _Form()
        body += message.get("body", b"")
        if len(body) > _MOST_FORM_BYTES:
            return _Form()
        more = message.get("more_body", False)
    given = _fields(bytes(body))
    return _Form(given.get("token", "").strip(), given.get("name", ""), own_path(given.get("next", "")))


def _fields(encoded: bytes) -> dict[str, str]:
    """The fields that are there once, each; none at all where it is no form in UTF-8."""
    try:
        found = parse_qs(encoded.decode("ascii"), errors="strict", max_num_fields=8)
    except ValueError:
        return {}
    return {name: values[0] for name, values in found.items() if len(values) == 1}


__all__ = ["LOGIN_PATH", "LOGOUT_PATHS", "STATE_PATH", "Login", "own_path"]
