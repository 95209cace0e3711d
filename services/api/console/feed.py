"""What all consoles see, read once for everybody: looks once a second, and pushes what has changed.

A message is a dictionary for the page's own script (`desk.js`): texts and attributes by key, and rows and
points that are new. One goes out every second even when nothing changed, since a page takes silence for a
lost server. Nothing is read while nobody looks. How a value is worded is `wording`'s business.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import structlog
from nats.aio.msg import Msg

from services.api.console.picture import Picture, look
from services.api.desk import Desk
from services.shared.errors import BusError, StorageUnavailable

log = structlog.get_logger(__name__)

Message = dict[str, Any]
Tell = Callable[[str, Message], Awaitable[bool]]
"""Sends a message to one page, by its socket's id; False when it is gone."""

EVERY = 1.0
_SOON = 0.15
_STAYS_EAGER = 1.2
"""Seconds of closer looking after an event: it takes the recorder a moment to write it down."""
_URGENT = ("trade.>", "status.*", "alert.*", "outcome.*")


class Feed:
    """Pages are added by their socket's id and told by `run` until they are gone. Made before the desk's
    line runs."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._pages: dict[str, Tell] = {}
        self._seen = Picture()
        self._eager_until = 0.0
        self._woken = asyncio.Event()
        self._looking = asyncio.Lock()
        for subject in _URGENT:
            desk.line.listen(subject, self._hear)

    @property
    def seen(self) -> Picture:
        """What was seen last."""
        return self._seen

    async def _hear(self, message: Msg) -> None:  # noqa: ARG002 - that it came is all
        self.hurry()

    def hurry(self) -> None:
        """Something has just happened: look now, and more often for a moment."""
        self._eager_until = asyncio.get_running_loop().time() + _STAYS_EAGER
        self._woken.set()

    async def add(self, page: str, tell: Tell) -> None:
        """A page that wants to be told; it gets everything at once."""
        first = not self._pages
        self._pages[page] = tell
        if first:
            await self._look()
        await tell(page, self._seen.whole())

    async def run(self) -> None:
        """Look and tell, for ever."""
        loop = asyncio.get_running_loop()
        told = loop.time()
        while True:
            eager = loop.time() < self._eager_until
            self._woken.clear()
            try:
                async with asyncio.timeout(_SOON if eager else max(told + EVERY - loop.time(), _SOON)):
                    await self._woken.wait()
                    await asyncio.sleep(_SOON)
            except TimeoutError:
                pass
            if not self._pages:
                continue
            changes = await self._look()
            if changes or loop.time() - told >= EVERY - _SOON:
                told = loop.time()
                await self._tell({**changes, "beat": True})

    async def _look(self) -> Message:
        async with self._looking:
            try:
                picture = await look(self._desk, self._seen)
            except (BusError, StorageUnavailable) as error:
                log.info("feed_without_news", detail=str(error))
                return {}
            changes = picture.changes_since(self._seen)
            self._seen = picture
            return changes

    async def _tell(self, message: Message) -> None:
        for page, tell in list(self._pages.items()):
            if not await tell(page, message):
                self._pages.pop(page, None)
