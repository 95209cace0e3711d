"""Waiting for what is published: a subject is listened to until what is wanted has been heard on it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from nats.aio.client import Client
from nats.aio.msg import Msg

from services.shared.commands import HEARTBEAT
from services.shared.events import EquityMarked
from services.shared.wire import decode

PATIENCE = 120.0


async def until_heard(
    client: Client, subject: str, wanted: Callable[[Msg], bool], *, within: float = PATIENCE
) -> None:
    """Wait for a message on `subject` that is `wanted`. Raises TimeoutError when none comes `within` seconds."""
    heard = asyncio.Event()

    async def hear(message: Msg) -> None:
        if wanted(message):
            heard.set()

    subscription = await client.subscribe(subject, cb=hear)
    try:
        async with asyncio.timeout(within):
            await heard.wait()
    finally:
        await subscription.unsubscribe()


async def until_step(client: Client, step: int) -> None:
    """Wait until the run of trader `main` has come to `step`."""

    def there(message: Msg) -> bool:
        body = decode(message.data).body
        return isinstance(body, EquityMarked) and body.step >= step

    await until_heard(client, "equity.main", there)


async def until_state(client: Client, service: str, instance: str, state: str) -> None:
    """Wait until this instance of a service says of itself that it is in `state`."""
    await until_heard(
        client,
        f"heartbeat.{service}.{instance}",
        lambda message: HEARTBEAT.validate_json(message.data).state == state,
    )


async def until_said(client: Client, subject: str, text: bytes) -> None:
    """Wait until a message on `subject` contains `text`."""
    await until_heard(client, subject, lambda message: text in message.data)
