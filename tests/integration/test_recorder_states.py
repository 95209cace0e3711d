"""How the desk does, as the recorder writes it down for Grafana, on a real NATS and a real PostgreSQL."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import asyncpg

from services.recorder import state_statements
from services.recorder.desk_state import Pace
from services.shared import events as ev
from services.shared import subjects
from services.shared.bus import Bus
from services.shared.commands import HEARTBEAT, Deployment, Heartbeat
from tests.api_process import ApiProcess
from tests.conftest import Database, NatsForTests
from tests.guard_at_work import GuardProcess
from tests.recorder_at_work import (
    TERMS,
    Emitting,
    all_recorded,
    equity,
    publish,
    recording,
    until,
)

D = Decimal


@asynccontextmanager
async def _reading(database: Database) -> AsyncIterator[asyncpg.Connection[asyncpg.Record]]:
    connection = await database.connect("api")
    try:
        yield connection
    finally:
        await connection.close()


async def _beat(bus: Bus, service: str, instance: str = "1", *, lag: int = 0, state: str = "ready") -> None:
    pulse = Heartbeat(
        service=service, instance=instance, version="0.9", time=datetime.now(UTC), state=state, lag=lag
    )
    await bus.publish(subjects.heartbeat(service, instance), HEARTBEAT.dump_json(pulse))


async def test_every_service_has_a_row_before_anybody_was_heard(database: Database) -> None:
    async with _reading(database) as reader:
        rows = await reader.fetch("SELECT service, heard, state FROM service_states ORDER BY service")
    assert [tuple(row) for row in rows] == [
        (service, None, "not heard yet") for service in ("api", "recorder", "risk", "trader")
    ]


async def test_heartbeats_of_real_services_arrive_as_rows_and_a_killed_one_stays_as_it_was_last_heard(
    fresh_nats: NatsForTests, database: Database
) -> None:
    guard = GuardProcess(fresh_nats, "main")
    await guard.start()
    try:
        async with recording(fresh_nats, database), _reading(database) as reader:

            async def heard(service: str) -> Any:
                return await reader.fetchrow(
                    "SELECT * FROM service_states WHERE service = $1 AND instance <> ''", service
                )

            async def both() -> bool:
                return await heard("risk") is not None and await heard("recorder") is not None

            await until(both, "guard and recorder are heard")
            row = await heard("risk")
            assert (row["instance"], row["state"], row["lag"]) == ("main", "ready", 0)
            assert row["version"]
            await guard.kill()
            last = (await heard("risk"))["heard"]

            async def silent() -> bool:
                own, other = await heard("recorder"), await heard("risk")
                nonlocal last
                last = other["heard"]
                return bool((own["heard"] - last).total_seconds() > 4)

            await until(silent, "the guard falls silent while the recorder goes on")
            assert (await heard("risk"))["heard"] == last
    finally:
        if guard.process is not None and guard.process.returncode is None:
            await guard.kill()


async def test_a_heartbeat_is_kept_by_service_and_instance_and_a_day_later_the_instance_is_forgotten(
    fresh_nats: NatsForTests, database: Database
) -> None:
    trader = await fresh_nats.connect("trader")
    owner = await database.connect("owner")
    try:
        await owner.execute(
            "INSERT INTO service_states (service, instance, heard) VALUES ('trader', 'gone', now() - interval '25 h')"
        )
        async with recording(fresh_nats, database), _reading(database) as reader:

            async def heard() -> bool:
                for instance in ("1", "standby"):
                    await _beat(trader, "trader", instance, lag=7)
                rows = await reader.fetch(
                    "SELECT instance, version, lag FROM service_states WHERE service = 'trader' ORDER BY 1"
                )
                return [tuple(row) for row in rows] == [
                    ("", "", 0),
                    ("1", "0.9", 7),
                    ("standby", "0.9", 7),
                ]

            await until(heard, "two instances, and the old one is forgotten")
    finally:
        await owner.close()
        await trader.close()


async def test_streams_their_limits_and_what_of_them_is_not_recorded_are_written_down(
    fresh_nats: NatsForTests, database: Database
) -> None:
    admin = await fresh_nats.connect("admin")
    try:
        async with recording(fresh_nats, database), _reading(database) as reader:
            await publish(
                admin, Emitting("main", "run-1").messages([equity(1, D(10000)), equity(2, D(10001))])
            )
            await all_recorded(admin)

            async def seen() -> bool:
                row = await reader.fetchrow("SELECT * FROM stream_states WHERE stream = 'EVENTS'")
                return row is not None and row["messages"] == 2 and row["pending"] == 0

            await until(seen, "the stream is seen with both messages")
            row = await reader.fetchrow("SELECT * FROM stream_states WHERE stream = 'EVENTS'")
            assert row is not None
            assert (row["first_seq"], row["last_seq"], row["max_bytes"]) == (1, 2, 4 * 1024**3)
            assert row["bytes"] > 0
            assert row["first_time"] <= row["last_time"] <= datetime.now(UTC)
            names = await reader.fetch("SELECT stream, first_time FROM stream_states ORDER BY 1")
            assert {row["stream"] for row in names} == {
                "EVENTS", "COMMANDS", "MARKET", "KV_snapshots", "KV_deployments", "KV_limits",
            }  # fmt: skip
            assert await reader.fetchval("SELECT version FROM part_versions WHERE part = 'NATS'")

            async def minutes() -> bool:
                rows = await reader.fetch(
                    "SELECT measure, part, sum(value) AS sum FROM desk_minutes GROUP BY 1, 2"
                )
                known = {(row["measure"], row["part"]): row["sum"] for row in rows}
                return (
                    known.get(("recorded", "")) == 2
                    and known[("batches", "")] >= 1
                    and known[("batch_longest", "")] <= known[("batch_seconds", "")]
                    and known.get(("stream_messages", "EVENTS"), 0) >= 2
                    and ("lag", "COMMANDS") in known
                    and known.get(("database_bytes", ""), 0) > 1_000_000
                )

            await until(minutes, "what was done in this minute")
    finally:
        await admin.close()


async def test_a_minute_sums_or_keeps_the_largest_and_overwrites_the_one_of_a_week_ago(
    database: Database,
) -> None:
    connection = await database.connect("recorder")
    try:
        # One transaction has one now(), so no minute passes within.
        async with connection.transaction():
            await connection.execute(
                "INSERT INTO desk_minutes SELECT 'lag', 'EVENTS',"
                " (extract(epoch FROM date_trunc('minute', now()))::bigint / 60 % $1)::int,"
                " date_trunc('minute', now()) - interval '7 days', 99",
                state_statements.MINUTES_KEPT,
            )
            for lag, batches in ((5.0, 2.0), (3.0, 4.0)):
                await connection.execute(
                    state_statements.MINUTES, ["lag", "batches"], ["EVENTS", ""], [lag, batches]
                )
            rows = await connection.fetch(
                "SELECT measure, value, time = date_trunc('minute', now()) AS now FROM desk_minutes ORDER BY 1"
            )
        assert [tuple(row) for row in rows] == [("batches", 6.0, True), ("lag", 5.0, True)]
    finally:
        await connection.close()


def test_the_pace_is_taken_once() -> None:
    pace = Pace()
    pace.note(0.25, 10)
    pace.note(0.5, 20)
    assert {measure: value for measure, _, value in pace.taken()} == {
        "batches": 2, "batch_seconds": 0.75, "batch_longest": 0.5, "recorded": 30,
    }  # fmt: skip
    assert not any(value for _, _, value in pace.taken())


async def _run_with_open_positions(admin: Bus, trader: str) -> Deployment:
    """A run of two trading days that has lost, holds one position, and had an order denied."""
    run = Emitting(trader, f"run-{trader}")
    opened = ev.TradeOpened(
        trade=1, order=1, instrument="EURUSD", side="long", amount=D(3000), entry_time=run.at,
        entry_price=D("1.1"), stop=D("1.09"), target=None, initial_risk=D(9), strategy="donchian",
    )  # fmt: skip
    lost = ev.EquityMarked(
        step=3, balance=D("9960.10"), unrealised=D("-7.35"), equity=D("9952.75"), peak=D("10010.40"),
        drawdown=D("57.65"), max_drawdown=D("57.65"), open_risk=D("8.90"),
    )  # fmt: skip
    await publish(
        admin,
        run.messages(
            [
                ev.StatusChanged(
                    phase="STARTING", previous="NOT_DEPLOYED", reason="", holding="flat", terms=TERMS
                ),
                ev.StatusChanged(phase="MONITORING", previous="STARTING", reason="", holding="flat"),
                equity(1, D("10005.40")),
            ]
        ),
    )
    run.at = run.at.replace(day=run.at.day + 1)
    await publish(admin, run.messages([opened, lost]))
    deployment = Deployment(
        trader=trader, run_id=run.run_id, phase="MONITORING", holding="open", progress=0.25,
        deployment_time=datetime.now(UTC), updated=datetime.now(UTC),
    )  # fmt: skip
    await admin.put(subjects.DEPLOYMENTS, trader, deployment.model_dump_json().encode())
    return deployment


async def test_limits_and_their_use_equal_the_apis_to_the_last_digit(
    nats_server: NatsForTests, database: Database, own_api: ApiProcess, trader_id: str
) -> None:
    admin = await nats_server.connect("admin")
    guard = GuardProcess(nats_server, trader_id)
    await guard.start()
    try:
        deployment = await _run_with_open_positions(admin, trader_id)
        async with recording(nats_server, database), _reading(database) as reader:
            await all_recorded(admin)

            async def asked() -> list[dict[str, Any]]:
                answer = (await own_api.get("/api/risk")).json()
                return answer["limits"] or []

            async def used() -> bool:
                return any(row["used"] is not None for row in await asked())

            await own_api.until(used)

            async def written() -> bool:
                return bool(
                    await reader.fetchval(
                        "SELECT count(*) FROM limit_states WHERE trader = $1 AND used IS NOT NULL", trader_id
                    )
                )

            await until(written, "the limits' use is written down")
            rows = await reader.fetch(
                "SELECT * FROM limit_states WHERE trader = $1 ORDER BY place", trader_id
            )
            expected = await asked()
            assert [row["name"] for row in rows] == [row["name"] for row in expected]
            for row, told in zip(rows, expected, strict=True):
                for column in ("value", "action", "meaning"):
                    assert row[column] == told[column], row["name"]
                for column in ("bound", "used"):
                    text = told[column]
                    assert row[column] == (None if text is None else D(text)), (row["name"], column)
            by_name = {row["name"]: row["used"] for row in rows}
            assert by_name["drawdown"] == D("57.65")
            assert by_name["daily_loss"] == D("10005.40") - D("9952.75")
            assert (by_name["positions"], by_name["open_risk"]) == (1, D("8.90"))
            state = await reader.fetchrow("SELECT * FROM deployment_states WHERE trader = $1", trader_id)
            assert state is not None
            assert (state["run_id"], state["phase"], state["progress"]) == (
                deployment.run_id, "MONITORING", 0.25,
            )  # fmt: skip
    finally:
        await guard.kill()
        await admin.close()


async def test_recording_goes_on_where_the_state_cannot_be_written(
    fresh_nats: NatsForTests, database: Database
) -> None:
    admin, owner = await fresh_nats.connect("admin"), await database.connect("owner")
    try:
        await owner.execute("DROP TABLE service_states, stream_states, desk_minutes CASCADE")
        async with recording(fresh_nats, database) as health, _reading(database) as reader:
            await publish(admin, Emitting("main", "run-1").messages([equity(1, D(10000))]))
            await all_recorded(admin)
            assert await reader.fetchval("SELECT count(*) FROM equity") == 1

            async def ready() -> bool:
                return health.not_ready is None

            await until(ready, "the recorder is well")
    finally:
        await owner.close()
        await admin.close()


async def test_several_recorders_write_the_same_rows(fresh_nats: NatsForTests, database: Database) -> None:
    admin = await fresh_nats.connect("admin")
    try:
        async with (
            recording(fresh_nats, database),
            recording(fresh_nats, database),
            _reading(database) as reader,
        ):
            emitting = Emitting("main", "run-1")
            for step in range(20):
                await publish(admin, emitting.messages([equity(step + 1, D(10000))]))
                await asyncio.sleep(0)
            await all_recorded(admin)

            async def written() -> bool:
                rows = await reader.fetch("SELECT sum(value) FROM desk_minutes WHERE measure = 'recorded'")
                return bool(rows[0]["sum"] == 20)

            await until(written, "each message counts once")
            assert (
                await reader.fetchval("SELECT count(*) FROM service_states WHERE service = 'recorder'") == 2
            )
    finally:
        await admin.close()
