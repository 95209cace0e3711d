"""Waiting for what a stream stores and a bus meets, instead of looking again and again."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from nats.aio.msg import Msg

from services.shared.bus import Bus

PATIENCE = 30.0


@asynccontextmanager
async def following(bus: Bus, stream: str, subject: str) -> AsyncIterator[AsyncIterator[Msg]]:
    """The messages of a stream on `subject`, those that are there and those that come. `bus` is the admin's.
    Raises TimeoutError when none comes for half a minute."""
    subscription = await bus.js.subscribe(subject, stream=stream, ordered_consumer=True)

    async def messages() -> AsyncIterator[Msg]:
        while True:
            yield await subscription.next_msg(timeout=PATIENCE)

    yield messages()
    await subscription.unsubscribe()


def when_back(bus: Bus) -> asyncio.Event:
    """Set once the bus, having lost its server, has one again."""
    back, tell = asyncio.Event(), bus.client._reconnected_cb

    async def reconnected() -> None:
        back.set()
        if tell is not None:
            await tell()

    bus.client._reconnected_cb = reconnected
    return back


def when_left(bus: Bus) -> asyncio.Event:
    """Set once the bus has left a server of its own accord."""
    left, leave = asyncio.Event(), bus.client.leave_server

    async def leaving() -> None:
        left.set()
        await leave()

    bus.client.leave_server = leaving  # type: ignore[method-assign]
    return left
