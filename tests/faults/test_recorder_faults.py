"""The recorder's processes killed, its database and NATS taken away: nothing lost, nothing doubled."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
from decimal import Decimal

from services.shared import events as ev
from services.shared import subjects
from services.shared.database_roles import DATABASE
from services.shared.service import Health
from services.shared.statistics import Totals
from tests.conftest import ROOT, Database, NatsForTests, PostgresForTests
from tests.recorder_at_work import (
    Emitting,
    Server,
    all_recorded,
    behind,
    equity,
    publish,
    random_trades,
    recording,
    redeliver_after,
    until,
)

_NORMAL = "import sys; from services.recorder.__main__ import main; sys.exit(main([]))"
_DIES_BEFORE_ITS_FIRST_ACKNOWLEDGEMENT = """
import os, signal
from services.recorder.intake import Intake

async def die(self, items):
    if list(items):
        os.kill(os.getpid(), signal.SIGKILL)

Intake.acknowledge = die
"""


def _start(
    nats: NatsForTests, database: Server, *, before: str = "", batch: int = 100
) -> subprocess.Popen[bytes]:
    environment = os.environ | {
        "DESK_NATS_URL": nats.url,
        "DESK_NATS_PASSWORD_FILE": str(nats.password_file("recorder")),
        "DESK_DATABASE_URL": database.dsn("recorder"),
        "DESK_DATABASE_PASSWORD_FILE": str(database.password_file("recorder")),
        "DESK_BATCH": str(batch),
        "DESK_LOG_LEVEL": "ERROR",
    }
    return subprocess.Popen([sys.executable, "-c", before + _NORMAL], cwd=ROOT, env=environment)


async def _recorded_exactly(database: Database, count: int, totals: Totals) -> None:
    api = await database.connect("api")
    try:
        assert await api.fetchval("SELECT count(*) FROM events") == count
        assert await api.fetchval("SELECT count(*) FROM dead_letters") == 0
        row = await api.fetchrow("SELECT * FROM run_totals")
        assert row is not None
        assert (row["trader_events"], row["last_seq"]) == (count, count)
        for field in Totals.__slots__:
            assert row[field] == getattr(totals, field), field
        assert await api.fetchval("SELECT sum(points) FROM equity_minute") == count - totals.trades
    finally:
        await api.close()


def _run_of(trades: int, marks: int) -> tuple[list[tuple[str, bytes]], Totals]:
    closed = random_trades(trades, seed=5)
    totals = Totals()
    for one in closed:
        totals.add(one)
    bodies: list[ev.Body] = [*closed, *(equity(step, Decimal(10000 + step)) for step in range(marks))]
    random.Random(7).shuffle(bodies)
    return Emitting("main", "run-1").messages(bodies), totals


async def test_a_recorder_killed_between_commit_and_acknowledgement_doubles_nothing(
    fresh_nats: NatsForTests, database: Database
) -> None:
    messages, totals = _run_of(40, 160)
    admin = await fresh_nats.connect("admin")
    await redeliver_after(admin, 1)
    await publish(admin, messages)
    doomed = _start(fresh_nats, database, before=_DIES_BEFORE_ITS_FIRST_ACKNOWLEDGEMENT)
    assert doomed.wait(60) == -signal.SIGKILL
    api = await database.connect("api")
    assert 0 < await api.fetchval("SELECT count(*) FROM events") <= len(messages)
    await api.close()
    info = await admin.js.consumer_info(subjects.EVENTS, subjects.RECORDER)
    assert info.ack_floor is not None
    assert info.ack_floor.stream_seq == 0
    async with recording(fresh_nats, database):
        await all_recorded(admin)
    await admin.close()
    await _recorded_exactly(database, len(messages), totals)


async def test_recorders_killed_again_and_again_at_any_moment_lose_and_double_nothing(
    fresh_nats: NatsForTests, database: Database
) -> None:
    messages, totals = _run_of(500, 2500)
    chance = random.Random(11)
    admin = await fresh_nats.connect("admin")
    await redeliver_after(admin, 1)
    await publish(admin, messages)
    for _ in range(6):
        process = _start(fresh_nats, database, batch=50)
        before = await behind(admin, subjects.EVENTS)

        async def moved(was: int = before) -> bool:
            return await behind(admin, subjects.EVENTS) < was - chance.randint(0, 200)

        await until(moved, "the recorder records")
        process.kill()
        process.wait()
    async with recording(fresh_nats, database):
        await all_recorded(admin)
    await admin.close()
    await _recorded_exactly(database, len(messages), totals)


async def test_two_recorders_share_a_consumer_and_its_repeats_and_count_each_event_once(
    fresh_nats: NatsForTests, database: Database
) -> None:
    messages, totals = _run_of(300, 1500)
    repeated = messages + random.Random(2).sample(messages, 700)
    random.Random(3).shuffle(repeated)
    admin = await fresh_nats.connect("admin")
    await redeliver_after(admin, 1)
    async with (
        recording(fresh_nats, database, batch=40),
        recording(fresh_nats, database, batch=30),
    ):
        await publish(admin, repeated)
        await all_recorded(admin)
    await admin.close()
    await _recorded_exactly(database, len(messages), totals)


async def test_with_the_database_killed_the_recorder_says_so_acknowledges_nothing_and_catches_up(
    fresh_nats: NatsForTests, fresh_postgres: PostgresForTests
) -> None:
    first, second = Emitting("main", "run-1"), Emitting("main", "run-2")
    marks = [equity(step, Decimal(10000 + step)) for step in range(1200)]
    admin = await fresh_nats.connect("admin")
    async with recording(fresh_nats, fresh_postgres, batch=100) as health:
        await publish(admin, first.messages(marks[:200]))
        await all_recorded(admin)
        await _said(health, None)
        fresh_postgres.kill()
        await publish(admin, second.messages(marks))
        await _said(health, "database away")
        info = await admin.js.consumer_info(subjects.EVENTS, subjects.RECORDER)
        assert info.ack_floor is not None
        assert info.ack_floor.stream_seq == 200
        assert (info.num_ack_pending or 0) <= 200  # one batch being written, one waiting
        fresh_postgres.spawn()
        fresh_postgres.wait_ready()
        await all_recorded(admin)
        await _said(health, None)
    await admin.close()
    api = await Database(fresh_postgres, DATABASE).connect("api")
    assert await api.fetchval("SELECT count(*) FROM equity") == 1400
    assert await api.fetchval("SELECT sum(points) FROM equity_hour") == 1400
    await api.close()


async def _said(health: Health, what: str | None) -> None:
    async def check() -> bool:
        said = health.not_ready
        return said is None if what is None else said is not None and what in said

    await until(check, f"health says {what}")


async def test_with_nats_killed_and_back_the_recorder_goes_on(
    fresh_nats: NatsForTests, database: Database
) -> None:
    emitting = Emitting("main", "run-1")
    async with recording(fresh_nats, database, batch=50) as health:
        for _ in range(3):
            admin = await fresh_nats.connect("admin")
            await redeliver_after(admin, 2)
            await publish(admin, emitting.messages(equity(step, Decimal(step)) for step in range(300)))
            await admin.close()
            fresh_nats.kill()
            await _said(health, "NATS away")
            fresh_nats.start()
            admin = await fresh_nats.connect("admin")
            await all_recorded(admin)
            await admin.close()
            await _said(health, None)
    api = await database.connect("api")
    assert await api.fetchval("SELECT count(*) FROM equity") == 900
    await api.close()


async def test_a_stopped_recorder_gives_back_what_it_did_not_write(
    fresh_nats: NatsForTests, fresh_postgres: PostgresForTests
) -> None:
    admin = await fresh_nats.connect("admin")
    async with recording(fresh_nats, fresh_postgres, batch=100) as health:
        await _said(health, None)
        fresh_postgres.kill()
        await publish(admin, Emitting("main", "r").messages(equity(n, Decimal(n)) for n in range(300)))
        await _said(health, "database away")
    fresh_postgres.spawn()
    fresh_postgres.wait_ready()
    # nobody waits here for the consumer's 30 seconds of patience
    async with recording(fresh_nats, fresh_postgres):
        await all_recorded(admin, within=15)
    await admin.close()
