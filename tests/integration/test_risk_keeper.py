"""What the guard says has been stored by then, also what somebody asks about while it is being stored."""

from __future__ import annotations

import asyncio

from services.risk.keeper import Keeper
from services.shared import subjects
from tests.conftest import NatsForTests


async def test_who_asks_while_the_state_is_on_its_way_waits_until_it_has_arrived(
    fresh_nats: NatsForTests, trader_id: str
) -> None:
    bus = await fresh_nats.connect("risk")
    keeper = Keeper(bus, trader_id)
    await keeper.load()
    keeping = asyncio.create_task(keeper.run())
    keeper.change()
    await keeper.saved()
    fresh_nats.freeze()
    try:
        keeper.change()
        first = asyncio.create_task(keeper.saved())
        for _ in range(10):
            await asyncio.sleep(0)
        second = asyncio.create_task(keeper.saved())
        for _ in range(10):
            await asyncio.sleep(0)
        assert not first.done()
        assert not second.done()
    finally:
        fresh_nats.thaw()
    async with asyncio.timeout(30):
        await asyncio.gather(first, second)
    assert await bus.get(subjects.SNAPSHOTS, f"guard.{trader_id}") is not None
    keeping.cancel()
    await asyncio.gather(keeping, return_exceptions=True)
    await bus.close()
