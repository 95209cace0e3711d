"""The open sockets of sessions: each is closed the moment its session ends, whatever it was about to say."""

from __future__ import annotations

import asyncio
from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send

SESSION_ENDED = 4401
"""The close code: of those free for applications, the one that reads like HTTP's 401."""


class Sockets:
    """Carries sockets between browser and application, by the key of the session they belong to."""

    def __init__(self) -> None:
        self._open: dict[str, set[asyncio.Future[None]]] = {}

    def of(self) -> tuple[str, ...]:
        """The sessions that have a socket open."""
        return tuple(self._open)

    def close(self, key: str) -> None:
        """Close every socket of a session."""
        for ended in self._open.pop(key, ()):
            if not ended.done():
                ended.set_result(None)

    async def carry(self, app: ASGIApp, scope: Scope, receive: Receive, send: Send, key: str) -> None:
        """Have `app` serve a socket until either side leaves or the session ends."""
        ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._open.setdefault(key, set()).add(ended)
        try:
            await app(scope, _until(ended, receive, send), _unless(ended, send))
        finally:
            mine = self._open.get(key)
            if mine is not None:
                mine.discard(ended)
                if not mine:
                    del self._open[key]


def _until(ended: asyncio.Future[None], receive: Receive, send: Send) -> Receive:
    """What the browser says, up to the end of its session; then the socket is closed, and has left."""

    async def next_message() -> Message:
        coming = asyncio.ensure_future(receive())
        try:
            both: set[asyncio.Future[Any]] = {coming, ended}
            await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
        except asyncio.CancelledError:
            coming.cancel()
            raise
        if not ended.done():
            return coming.result()
        coming.cancel()
        await asyncio.wait({coming})
        await send({"type": "websocket.close", "code": SESSION_ENDED})
        return {"type": "websocket.disconnect", "code": SESSION_ENDED}

    return next_message


def _unless(ended: asyncio.Future[None], send: Send) -> Send:
    """What the application says, dropped once the session has ended."""

    async def pass_on(message: Message) -> None:
        if not ended.done():
            await send(message)

    return pass_on
