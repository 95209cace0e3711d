"""The desk's events as server-sent events: from a place in the stream, live, resumable, never buffered.

A reader's place is a sequence of stream EVENTS, and nothing else is kept for it: what is stored is read
from there whenever plain copies say that there is more. A reader who does not keep up waits on its own
connection until that is dropped, and comes back with `Last-Event-ID`.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass

from sse_starlette import ServerSentEvent

from services.api.line import Line
from services.shared import subjects
from services.shared.bus import Stored
from services.shared.errors import BusError
from services.shared.events import BODIES

SEND_WITHIN = 10.0
BEAT_EVERY = 10
MOST_READERS = 64
_LOOK_AGAIN = 5.0
_BATCH = 200
TYPES: tuple[str, ...] = (*(kind for kind in BODIES if kind != "market.bar"), "signal")


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a reader wants: one trader's events, of these types or families (all when empty), at most
    `limit` (without end when None)."""

    trader: str
    types: frozenset[str] = frozenset()
    limit: int | None = None

    def __contains__(self, kind: str) -> bool:
        return not self.types or kind in self.types or kind.partition(".")[0] in self.types


def kind_of(subject: str) -> tuple[str, str]:
    """Trader and event type of a subject: `trade.main.closed` is `main` and `trade.closed`."""
    family, _, rest = subject.partition(".")
    trader, _, step = rest.partition(".")
    return trader, f"{family}.{step}" if step else family


def known_type(name: str) -> bool:
    """Whether `name` is an event type, or the family of some."""
    return name in TYPES or any(kind.startswith(f"{name}.") for kind in TYPES)


async def read_events(line: Line, wanted: Wanted, after: int | None) -> AsyncIterator[ServerSentEvent]:
    """Events above sequence `after` (None: only what is new), oldest first, then live, until `limit`, the
    API's end or the reader's. A `gap` says which sequences the stream no longer has."""
    first, last = await line.bounds(subjects.EVENTS)
    place = last if after is None else after
    yield ServerSentEvent(retry=2000, comment=f"from {place + 1}")
    gap = _gap(place, first, last)
    if gap is not None:
        yield gap
        place = first - 1 if place < first else last
    sent = 0
    while not line.closing:
        news = line.news
        with contextlib.suppress(BusError):  # NATS away: the reader's place is kept until it is back
            async for stored in line.bus.read(subjects.EVENTS, after=place, batch=_BATCH):
                if stored.seq > place + 1:
                    yield _lost(place + 1, stored.seq - 1)
                place = stored.seq
                trader, kind = kind_of(stored.subject)
                if trader != wanted.trader or kind not in wanted:
                    continue
                yield _as_sent(stored, kind)
                sent += 1
                if sent == wanted.limit:
                    return
                if line.closing:
                    return
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_LOOK_AGAIN if line.connected else 0.5):
                await news.wait()


def _gap(place: int, first: int, last: int) -> ServerSentEvent | None:
    if place > last:
        text = json.dumps({"requested": place, "last": last, "reason": "the stream ends before that"})
        return ServerSentEvent(event="gap", data=text)
    if place + 1 < first:
        return _lost(place + 1, first - 1)
    return None


def _lost(start: int, end: int) -> ServerSentEvent:
    text = json.dumps({"from": start, "to": end, "reason": "no longer in the stream; the database has them"})
    return ServerSentEvent(event="gap", data=text)


def _as_sent(stored: Stored, kind: str) -> ServerSentEvent:
    try:
        text = stored.data.decode("utf-8")
        json.loads(text)
    except (UnicodeDecodeError, ValueError, RecursionError):
        # Anybody may put anything on `signal.>`; it is counted here and kept in the dead letters.
        kind, text = "unreadable", json.dumps({"subject": stored.subject, "bytes": len(stored.data)})
    return ServerSentEvent(id=str(stored.seq), event=kind, data=text)
