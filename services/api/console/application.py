"""The console's life beside the API: loaded once the API answers, then one feed for all who look.

NiceGUI takes about a second to import, which the API's first answer must not wait for, so it happens in a
thread, after. What is on the pages is `pages`' business.
"""

from __future__ import annotations

import asyncio
import importlib

import structlog
from starlette.types import ASGIApp

from services.api.console.feed import Feed
from services.api.console.sessions import Sessions
from services.api.desk import Desk

log = structlog.get_logger(__name__)


class Console:
    """`run()` loads and runs the pages; `application()` is theirs, or None until then."""

    def __init__(self, desk: Desk, sessions: Sessions, *, channels: int) -> None:
        """To be made before the desk's line runs. `channels`: how many ways there are to alert a person."""
        self._channels = channels
        self._desk = desk
        self._sessions = sessions
        self._application: ASGIApp | None = None
        self._feed = Feed(desk)

    def application(self) -> ASGIApp | None:
        """NiceGUI's application, or None while there is none."""
        return self._application

    async def run(self) -> None:
        """Until cancelled. A console that fails is logged and missing; the API goes on without its pages."""
        try:
            await asyncio.to_thread(importlib.import_module, "services.api.console.pages")
            from services.api.console.pages import build

            inner = build(self._desk, self._feed, self._sessions, self._channels)
            async with inner.router.lifespan_context(inner):
                self._application = inner
                log.info("console_loaded")
                await self._feed.run()
        except Exception as error:
            self._application = None
            log.error("console_failed", exc_info=error)
