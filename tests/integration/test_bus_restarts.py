"""A bus over a restart of NATS: every key is still there, and whoever wrote it goes on from its own revision."""

from __future__ import annotations

import asyncio

import pytest

from services.shared import subjects
from services.shared.errors import Conflict
from tests import kept_keys
from tests.conftest import NatsForTests
from tests.following import when_back

_RESTART = 60


async def _restart(server: NatsForTests) -> None:
    await asyncio.to_thread(server.stop)
    await asyncio.to_thread(server.start)


async def test_a_restarted_server_still_has_every_key(fresh_nats: NatsForTests) -> None:
    bus = await fresh_nats.connect("trader")
    await kept_keys.write(bus)
    await bus.close()
    await _restart(fresh_nats)
    bus = await fresh_nats.connect("trader")
    await kept_keys.read_and_write(bus)
    await bus.close()


async def test_who_stays_over_a_restart_writes_on_and_nobody_else_on_what_he_knew(
    fresh_nats: NatsForTests,
) -> None:
    stays, other = await fresh_nats.connect("trader"), await fresh_nats.connect("risk")
    revision = await kept_keys.write(stays)
    back = [when_back(bus).wait() for bus in (stays, other)]
    await _restart(fresh_nats)
    async with asyncio.timeout(_RESTART):
        await asyncio.gather(*back)
    with pytest.raises(Conflict):
        await other.put(subjects.SNAPSHOTS, kept_keys.SELDOM, b"of before", revision=revision - 1)
    written = await stays.put(subjects.SNAPSHOTS, kept_keys.SELDOM, b"on", revision=revision)
    assert written > revision
    with pytest.raises(Conflict):
        await other.put(subjects.SNAPSHOTS, kept_keys.SELDOM, b"of before", revision=revision)
    with pytest.raises(Conflict):
        await other.put(subjects.SNAPSHOTS, kept_keys.SELDOM, b"of nothing", revision=0)
    assert await other.get(subjects.SNAPSHOTS, kept_keys.SELDOM) == (b"on", written)
    await stays.close()
    await other.close()


async def test_a_key_that_was_never_written_or_deleted_is_not_there(
    nats_server: NatsForTests, trader_id: str
) -> None:
    bus = await nats_server.connect("trader")
    key = f"trader.{trader_id}"
    assert await bus.get(subjects.SNAPSHOTS, key) is None
    await bus.put(subjects.SNAPSHOTS, key, b"{}")
    admin = await nats_server.connect("admin")
    await (await admin.js.key_value(subjects.SNAPSHOTS)).delete(key)
    assert await bus.get(subjects.SNAPSHOTS, key) is None
    await admin.close()
    await bus.close()
