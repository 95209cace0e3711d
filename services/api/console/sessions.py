"""Who is at the console: sessions begun with one of the desk's tokens and kept in NATS, so that they outlive
the API's process and can be ended.

All of them are in memory, so that whose a request is costs no wait; the bucket `sessions` is followed by
sequence, what was used is written back now and then, and what was ended here is ended at once and written as
soon as NATS takes it. What the rules of a session are is `session_book`'s business, what is answered to a
browser `login`'s and `entrance`'s.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http.cookies import CookieError, SimpleCookie

import structlog
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from services.api.auth import Doorkeeper, Role
from services.api.console.session_book import (
    LONGEST,
    Session,
    SessionBook,
    agent_of,
    key_of,
    read_session,
    write_session,
)
from services.api.console.sockets import Sockets
from services.api.line import Line
from services.shared import subjects
from services.shared.bus import told_to_leave
from services.shared.errors import BusError, Conflict

log = structlog.get_logger(__name__)

MAY_NOT_ACT = "You are logged in as a viewer: only an operator may do this."
"""What somebody who may not act is told."""
_PURPOSE = "console session"
_AT_CONSOLE = " (console)"
_LOOK_EVERY = 1.0
_STREAM = subjects.bucket_stream(subjects.SESSIONS)


@dataclass(frozen=True, slots=True)
class Person:
    """Somebody who has logged in; `name` stands in the journal beside what they did. A viewer only looks.

    `holds` says whether their session still does: a page may be open longer than that.
    """

    name: str
    role: Role = "operator"
    session: str = ""
    holds: Callable[[], bool] = field(default=lambda: True, compare=False)

    @property
    def label(self) -> str:
        """What they call themselves, or their role."""
        return self.name.removesuffix(_AT_CONSOLE)

    @property
    def may_act(self) -> bool:
        """Whether this person may deploy, stop, reset and change anything. To be asked when they do."""
        return self.role == "operator" and self.holds()


class Sessions:
    """Begins and ends sessions, and knows whose a request is. `run()` follows the bucket."""

    def __init__(self, line: Line, doorkeeper: Doorkeeper, clock: Callable[[], float] = time.time) -> None:
        self._line = line
        self._doorkeeper = doorkeeper
        self._clock = clock
        self._book = SessionBook(self._fingerprint)
        self._sockets = Sockets()
        self._read_to = 0
        self._to_end: set[str] = set()
        self._known = asyncio.Event()
        self._problem = ""

    @property
    def known(self) -> bool:
        """Whether the sessions of before have been read. Until then nobody has one, and nobody can begin one."""
        return self._known.is_set()

    async def until_known(self, patience: float) -> bool:
        """Wait for that, for `patience` seconds at most; whether they are known then."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(patience):
                await self._known.wait()
        return self.known

    def who(self, scope: Scope) -> Person | None:
        """The person a request or socket comes from, or None without a session that still holds."""
        key = self._key(scope)
        if key is None:
            return None
        now = self._clock()
        session = self._book.find(key, now)
        if session is None:
            return None
        self._book.use(key, now)
        return Person(
            journal_name(session.label),
            session.role,
            key,
            lambda: self._book.find(key, self._clock()) is not None,
        )

    def has_cookie(self, scope: Scope) -> bool:
        """Whether a request comes with the cookie of a session, ended or not."""
        return self._key(scope) is not None

    def everybody(self) -> list[Session]:
        """Every session that holds, the last used first."""
        return self._book.holding(self._clock())

    async def begin(self, role: Role, label: str, scope: Scope) -> str:
        """The `Set-Cookie` value of a new session, which is kept by then. The request's own session is ended.

        Raises BusError where it cannot be kept.
        """
        token = self._fingerprint(role)
        if not self.known or token is None:
            raise BusError("the sessions have not been read yet")
        secret, now = secrets.token_urlsafe(32), self._clock()
        session = Session(
            key=key_of(secret),
            label=label or role,
            role=role,
            token=token,
            created=now,
            seen=now,
            agent=agent_of(Headers(scope=scope).get("user-agent", "")),
        )
        data = write_session(session)
        revision = await self._line.bus.put(subjects.SESSIONS, session.key, data, revision=0)
        self._book.keep(session, revision)
        old = self._key(scope)
        if old is not None and self._book.find(old, now) is not None:
            await self.end(old)
        return _cookie(scope, secret, int(LONGEST))

    async def end(self, *keys: str) -> None:
        """End sessions: their sockets close at once, and it is written down before this returns, if NATS takes
        it now."""
        for key in keys:
            self._book.end(key)
            self._sockets.close(key)
            self._to_end.add(key)
        try:
            await self._write_ends()
        except BusError as error:
            log.warning("session_end_not_written", sessions=len(self._to_end), detail=str(error))

    async def end_everybody(self) -> int:
        """End every session that holds; returns how many there were."""
        keys = [session.key for session in self.everybody()]
        await self.end(*keys)
        return len(keys)

    async def carry(self, app: ASGIApp, scope: Scope, receive: Receive, send: Send, person: Person) -> None:
        """Have `app` serve a person's socket, no longer than their session holds."""
        await self._sockets.carry(app, scope, receive, send, person.session)

    async def run(self) -> None:
        """Follow the bucket, for ever: read what others wrote, end what is over, write what was used."""
        while not told_to_leave():
            try:
                await self._read()
                await self._end_what_is_over()
                await self._write_ends()
                await self._write_used()
                self._problem = ""
            except BusError as error:
                await self._end_what_is_over()
                if str(error) != self._problem:
                    self._problem = str(error)
                    log.warning("sessions_not_followed", detail=self._problem)
            await asyncio.sleep(_LOOK_EVERY if self.known else 0.1)

    async def _read(self) -> None:
        async for stored in self._line.bus.read(_STREAM, after=self._read_to):
            self._read_to = stored.seq
            session = read_session(stored.data) if stored.data else None
            if session is not None:
                self._book.keep(session, stored.seq)
                continue
            key = stored.subject.rpartition(".")[2]
            self._book.end(key)
            self._sockets.close(key)
        self._known.set()

    async def _end_what_is_over(self) -> None:
        now = self._clock()
        for key in self._sockets.of():
            self._book.use(key, now)  # who looks on is there
        over = [session.key for session in self._book.over(now)]
        if over:
            await self.end(*over)
        for key in self._sockets.of():
            if self._book.find(key, now) is None:
                self._sockets.close(key)

    async def _write_ends(self) -> None:
        for key in tuple(self._to_end):
            await self._line.bus.put(subjects.SESSIONS, key, b"")
            self._to_end.discard(key)

    async def _write_used(self) -> None:
        for session, revision in self._book.unwritten():
            try:
                data = write_session(session)
                written = await self._line.bus.put(subjects.SESSIONS, session.key, data, revision=revision)
            except Conflict:
                continue  # somebody else wrote it: that is read next
            self._book.keep(session, written)

    def _fingerprint(self, role: Role) -> str | None:
        key = self._doorkeeper.key(role, _PURPOSE)
        return None if key is None else key.hex()

    def _key(self, scope: Scope) -> str | None:
        secret = _cookies(scope).get(_name(scope), "")
        return key_of(secret) if secret else None


def journal_name(label: str) -> str:
    """How somebody at the console is called in the journal and in commands."""
    return label + _AT_CONSOLE


def forget(scope: Scope) -> str:
    """The `Set-Cookie` value that makes the browser forget its session."""
    return _cookie(scope, "", 0)


def _name(scope: Scope) -> str:
    """Browsers share cookies between the ports of a host: each desk's has the port in its name."""
    port = Headers(scope=scope).get("host", "").rpartition(":")[2]
    return f"desk_session_{port}" if port.isascii() and port.isdigit() else "desk_session"


def _cookies(scope: Scope) -> Mapping[str, str]:
    jar: SimpleCookie = SimpleCookie()
    try:
        jar.load("; ".join(Headers(scope=scope).getlist("cookie")))
    except CookieError:
        return {}
    return {name: morsel.value for name, morsel in jar.items()}


def _cookie(scope: Scope, value: str, seconds: int) -> str:
    parts = [f"{_name(scope)}={value}", "Path=/", f"Max-Age={seconds}", "HttpOnly", "SameSite=Strict"]
    if scope.get("scheme") == "https":
        parts.append("Secure")
    return "; ".join(parts)
