"""nats-py's client with what it lacks when its server stands still: it goes on reading, or leaves for good.

What left a service deaf, or ended it, with nats-py 2.16 is mended, and what that does not offer at all is added: to
leave a server that no longer answers. Which server, and when, is `bus`'s.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator
from typing import Any

from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.errors import StaleConnectionError


class DeskClient(Client):
    """A connection that a slow or frozen server cannot break without its being noticed."""

    @property
    def reading(self) -> bool:
        """Whether what the server sends is read. Its reader ends with whatever nats-py did not expect, and the
        connection counts as connected all the same."""
        task = self._reading_task
        return task is not None and not task.done()

    async def leave_server(self) -> None:
        """Turn to another server, or to the same anew, now; who waits for an answer of this one may ask again."""
        transport = getattr(self._transport, "_io_writer", None)
        if transport is not None:
            # Closing waits until all is sent, which to a frozen server is never.
            transport.transport.abort()
        waiting: dict[str, asyncio.Future[Msg]] = self._resp_map
        for answer in list(waiting.values()):
            if not answer.done():
                answer.set_exception(StaleConnectionError())
        await self._process_op_err(StaleConnectionError())

    async def _process_pong(self) -> None:
        # A flush that was given up is still owed its pong. To give it one raises, and the reader ends.
        if self._pongs and self._pongs[0].done():
            self._pongs[0] = asyncio.get_running_loop().create_future()
        await super()._process_pong()

    async def _send_ping(self, future: asyncio.Future[bool] | None = None) -> None:
        with _told_as_lost():
            await super()._send_ping(future)

    async def _flush_pending(self, force_flush: bool = False) -> Any:
        with _told_as_lost():
            return await super()._flush_pending(force_flush)


class ConnectionLost(ConnectionResetError, RuntimeError):
    """uvloop's RuntimeError for a connection that was lost a moment ago, and the OSError that it should be: nats-py
    itself waits for the one here and for the other there."""


@contextlib.contextmanager
def _told_as_lost() -> Iterator[None]:
    try:
        yield
    except RuntimeError as error:
        raise ConnectionLost(str(error)[:200]) from None


__all__ = ["ConnectionLost", "DeskClient"]
