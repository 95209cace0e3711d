"""Waiting for what a stream stores, instead of looking again and again: each message as it comes, from the first."""

from __future__ import annotations

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
