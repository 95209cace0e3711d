"""Making room in the streams of a real NATS server."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from decimal import Decimal

from services.recorder.retention import Purge, Retention
from services.recorder.writer import Writer
from services.shared import subjects
from services.shared.bus import Bus
from tests.conftest import Database, NatsForTests
from tests.recorder_at_work import ONE_OF_EACH, Emitting, all_recorded, equity, publish, recording


async def test_a_stream_is_purged_up_to_where_the_last_of_those_who_need_it_is(
    fresh_nats: NatsForTests, database: Database
) -> None:
    admin = await fresh_nats.connect("admin")
    say = Emitting("main", "run-1")
    writer = Writer(database.dsn("recorder"), database.password("recorder"))
    recorder = await fresh_nats.connect("recorder")
    retention = Retention(recorder, writer.traders)
    later = datetime.now(UTC) + timedelta(days=8)
    try:
        assert await retention.purge(subjects.EVENTS, now=later) == Purge(0, "no deployment")
        async with recording(fresh_nats, database):
            await publish(admin, [say.message(ONE_OF_EACH[0])])
            await publish(admin, say.messages(equity(n, Decimal(n)) for n in range(99)))
            await publish(admin, [("command.main.pause", b"")] * 9)
            await all_recorded(admin)
        assert await retention.purge(subjects.EVENTS, now=later) == Purge(0, "guard.main")
        await _position(admin, "guard.main", {"stream_seq": 70})
        await _position(admin, "trader.main", {"signals_seq": 60, "commands_seq": 4})
        assert await retention.purge(subjects.EVENTS) == Purge(0, "age")
        assert await _first(admin, subjects.EVENTS) == 1
        assert await retention.purge(subjects.EVENTS, now=later) == Purge(60, "trader.main")
        assert await _first(admin, subjects.EVENTS) == 61
        await _position(admin, "trader.main", {"signals_seq": 1000, "commands_seq": 4})
        await _position(admin, "guard.main", {"stream_seq": 1000})
        await publish(admin, say.messages(equity(n, Decimal(n)) for n in range(5)))  # not recorded
        assert await retention.purge(subjects.EVENTS, now=later) == Purge(100, "recorder")
        assert await _first(admin, subjects.EVENTS) == 101
        assert await retention.purge(subjects.COMMANDS, now=later) == Purge(4, "trader.main")
        assert await _first(admin, subjects.COMMANDS) == 5
        middle = datetime.now(UTC)
        await publish(admin, say.messages(equity(n, Decimal(n)) for n in range(7)))
        async with recording(fresh_nats, database):
            await all_recorded(admin)
        assert await retention.purge(subjects.EVENTS, now=middle + timedelta(days=7)) == Purge(105, "age")
    finally:
        await writer.close()
        await recorder.close()
        await admin.close()


async def _position(admin: Bus, key: str, snapshot: dict[str, int]) -> None:
    await admin.put(subjects.SNAPSHOTS, key, json.dumps(snapshot).encode())


async def _first(admin: Bus, stream: str) -> int:
    return (await admin.js.stream_info(stream)).state.first_seq
