"""A bus that is told several nodes takes the one that answers, and waits for no answer of one that has frozen."""

from __future__ import annotations

import asyncio

import pytest

from services.launcher.ports import free_port
from services.shared import subjects
from services.shared.bus import Bus
from services.shared.errors import NotStored
from services.shared.outbox import Outbox
from tests.conftest import NatsForTests


async def test_with_one_node_gone_another_takes_the_connection(nats_server: NatsForTests) -> None:
    gone = f"nats://127.0.0.1:{free_port()}"
    for nodes in (f"{gone},{nats_server.url}", f"{nats_server.url},{gone}"):
        bus = await Bus.connect(nodes, user="trader", password=nats_server.password("trader"))
        assert await bus.last_sequence(subjects.EVENTS) >= 0
        await bus.close()


async def test_what_a_frozen_server_was_to_store_is_not_waited_for(fresh_nats: NatsForTests) -> None:
    bus = await Bus.connect(fresh_nats.url, user="trader", password=fresh_nats.password("trader"))
    subject = subjects.event("equity", "main")
    await bus.store(subject, b"{}", msg_id="first")
    fresh_nats.freeze()
    try:
        async with asyncio.timeout(30):
            with pytest.raises(NotStored, match="StaleConnection"):
                await bus.store(subject, b"{}", msg_id="second", timeout=120)
    finally:
        fresh_nats.thaw()
    outbox = Outbox(bus)
    outbox.add(subject, b"{}", "second")
    sending = asyncio.create_task(outbox.run())
    async with asyncio.timeout(30):
        await outbox.drained()
    sending.cancel()
    assert await bus.last_sequence(subjects.EVENTS) == 2
    await bus.close()
