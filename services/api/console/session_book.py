"""The sessions there are, what each holds, and until when. Pure: time is an argument, in seconds since 1970.

A session is known by the hash of the secret in its cookie, is of the token it was begun with, and holds for
a week after it was last used, a month at most. Where sessions are kept, and their cookies, are `sessions`'.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from dataclasses import dataclass, replace

from pydantic import TypeAdapter, ValidationError

from services.api.auth import Role

LASTS = 7 * 24 * 3600.0
LONGEST = 30 * 24 * 3600.0
MOST = 200
"""Sessions there may be at once: a new one ends the longest unused beyond that."""
_SEEN_WRITTEN_EVERY = 300.0
_LONGEST_LABEL = 40


@dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    """Somebody's session. `key` names it and opens nothing; `token` is a fingerprint of the token it was begun
    with; `label` is what they call themselves, or their role; `agent` the browser, in words."""

    key: str
    label: str
    role: Role
    token: str
    created: float
    seen: float
    agent: str = ""

    @property
    def until(self) -> float:
        """When it ends if it is not used again."""
        return min(self.seen + LASTS, self.created + LONGEST)


_WIRE = TypeAdapter(Session)


def write_session(session: Session) -> bytes:
    """As it is kept."""
    return _WIRE.dump_json(session)


def read_session(data: bytes) -> Session | None:
    """What was kept, or None when nothing can be read there."""
    try:
        return _WIRE.validate_json(data)
    except ValidationError:
        return None


@dataclass(slots=True)
class _Entry:
    session: Session
    revision: int
    written: float
    """Its `seen` as it is kept."""


class SessionBook:
    """Every session known. `fingerprint` gives that of a role's present token, or None without one: a session of
    another token does not hold."""

    def __init__(self, fingerprint: Callable[[Role], str | None]) -> None:
        self._fingerprint = fingerprint
        self._entries: dict[str, _Entry] = {}
        self._ended: set[str] = set()

    def find(self, key: str, now: float) -> Session | None:
        """The session of that key if it holds."""
        entry = self._entries.get(key)
        return entry.session if entry is not None and self._holds(entry.session, now) else None

    def use(self, key: str, now: float) -> None:
        """It was used just now."""
        entry = self._entries.get(key)
        if entry is not None and self._holds(entry.session, now) and now > entry.session.seen:
            entry.session = replace(entry.session, seen=now)

    def keep(self, session: Session, revision: int) -> None:
        """What is kept under its key now. What has been ended here stays ended, whatever was still under way."""
        if session.key in self._ended:
            return
        known = self._entries.get(session.key)
        if known is None:
            self._entries[session.key] = _Entry(session, revision, session.seen)
        elif revision > known.revision:
            newest = replace(session, seen=max(session.seen, known.session.seen))
            self._entries[session.key] = _Entry(newest, revision, session.seen)

    def end(self, key: str) -> None:
        """It holds no more."""
        self._entries.pop(key, None)
        self._ended.add(key)

    def holding(self, now: float) -> list[Session]:
        """Every session that holds, the last used first."""
        held = [entry.session for entry in self._entries.values() if self._holds(entry.session, now)]
        return sorted(held, key=lambda session: session.seen, reverse=True)

    def over(self, now: float) -> list[Session]:
        """Those whose time is up, and the longest unused of more than `MOST`."""
        known = [entry.session for entry in self._entries.values()]
        return [session for session in known if session.until <= now] + self.holding(now)[MOST:]

    def unwritten(self) -> list[tuple[Session, int]]:
        """Those used since that was last kept, long enough ago to be worth it, with the revision to replace."""
        return [
            (entry.session, entry.revision)
            for entry in self._entries.values()
            if entry.session.seen - entry.written >= _SEEN_WRITTEN_EVERY
        ]

    def _holds(self, session: Session, now: float) -> bool:
        return now < session.until and session.token == self._fingerprint(session.role)


def key_of(secret: str) -> str:
    """The key of the session whose cookie has `secret`."""
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).hexdigest()


def label_of(name: str) -> str:
    """A name as somebody typed it, fit for a journal; empty when nothing is left of it."""
    printable = "".join(sign if sign.isprintable() else " " for sign in name)
    return " ".join(printable.split())[:_LONGEST_LABEL].strip()


_BROWSERS = (
    ("Edg", "Edge"),
    ("OPR", "Opera"),
    ("Firefox", "Firefox"),
    ("FxiOS", "Firefox"),
    ("Chrome", "Chrome"),
    ("CriOS", "Chrome"),
    ("Safari", "Safari"),
)
_SYSTEMS = (
    ("Android", "Android"),
    ("iPhone", "iPhone"),
    ("iPad", "iPad"),
    ("Windows", "Windows"),
    ("Mac OS X", "macOS"),
    ("Linux", "Linux"),
)


def agent_of(header: str) -> str:
    """A browser's `User-Agent` in words: `Firefox on Linux`. Whoever says nothing known is named by its first word."""
    browser = next((name for mark, name in _BROWSERS if mark + "/" in header), "")
    system = next((name for mark, name in _SYSTEMS if mark in header), "")
    if not browser:
        return re.sub(r"[^A-Za-z0-9._/-].*", "", header)[:_LONGEST_LABEL]
    return f"{browser} on {system}" if system else browser
