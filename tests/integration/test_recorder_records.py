"""What the recorder makes of each message, on a real NATS and a real PostgreSQL."""

from __future__ import annotations

import json
from datetime import datetime, timedelta
from decimal import Decimal
from itertools import groupby
from operator import itemgetter
from typing import Any

import asyncpg
import pytest

from services.shared import events as ev
from services.shared import subjects, wire
from services.shared.calendar import trading_day
from services.shared.statistics import Totals
from tests.conftest import Database, NatsForTests
from tests.recorder_at_work import (
    ONE_OF_EACH,
    START,
    TERMS,
    Emitting,
    all_recorded,
    equity,
    publish,
    random_trades,
    recording,
)

_TABLE = {
    "equity": "equity",
    "trade.closed": "trades",
    "adjustment": "adjustments",
    "status": "statuses",
    "alert": "alerts",
    "outcome": "outcomes",
    "limits": "limit_changes",
    "market.bar": "bars",
}


async def _record(
    nats: NatsForTests, database: Database, *rounds: list[tuple[str, bytes]], batch: int = 500
) -> asyncpg.Connection[asyncpg.Record]:
    """Publish each round after the one before is recorded; a connection to look at the result."""
    admin = await nats.connect("admin")
    try:
        async with recording(nats, database, batch=batch):
            for messages in rounds:
                await publish(admin, messages)
                await all_recorded(admin)
    finally:
        await admin.close()
    return await database.connect("api")


def _comparable(value: Any) -> Any:
    return format(value, "f") if isinstance(value, Decimal) else value


async def test_each_type_of_event_is_in_the_journal_and_in_its_own_table_with_exact_numbers(
    fresh_nats: NatsForTests, database: Database
) -> None:
    emitting = Emitting("main", "run-1")
    messages = emitting.messages(ONE_OF_EACH)
    api = await _record(fresh_nats, database, messages)
    try:
        assert await api.fetchval("SELECT count(*) FROM dead_letters") == 0
        for body, (_, data) in zip(ONE_OF_EACH, messages, strict=True):
            sent = json.loads(data)
            kind = sent["type"]
            row = await api.fetchrow("SELECT * FROM events WHERE id = $1", sent["id"])
            assert row is not None, kind
            assert json.loads(row["body"]) == {
                name: value for name, value in sent.items() if name not in wire.Envelope.model_fields
            }
            assert (row["trader"], row["run_id"], row["emitter"], row["seq"], row["type"], row["version"]) == (
                "main", "run-1", "trader", sent["seq"], kind, 1,
            )  # fmt: skip
            assert row["time"] == datetime.fromisoformat(sent["time"])
            assert row["recorded"] == datetime.fromisoformat(sent["recorded"])
            if kind in _TABLE:
                typed = await api.fetchrow(f"SELECT * FROM {_TABLE[kind]} WHERE id = $1", sent["id"])
                assert typed is not None, kind
                for field in set(typed.keys()) & set(wire._FIELDS[kind]):
                    expected = getattr(body, field)
                    found = typed[field] if not isinstance(expected, dict) else json.loads(typed[field])
                    assert _comparable(found) == _comparable(expected), (kind, field)
            elif kind.startswith("order."):
                typed = await api.fetchrow("SELECT * FROM orders WHERE id = $1", sent["id"])
                assert typed is not None, kind
                assert (typed["order_no"], typed["state"]) == (sent["order"], kind.removeprefix("order."))
                assert json.loads(typed["detail"]) == json.loads(row["body"])
                for field in ("instrument", "purpose", "side", "kind", "amount", "price"):
                    assert _comparable(typed[field]) == sent.get(field), (kind, field)
        run = await api.fetchrow("SELECT * FROM runs")
        assert run is not None
        assert json.loads(run["terms"])["balance"] == format(TERMS.balance, "f")
        assert (run["trader"], run["phase"], run["phase_seq"]) == ("main", "COMPLETED", len(messages))
        assert (run["started"], run["ended"]) == (START + timedelta(minutes=1), emitting.at)
    finally:
        await api.close()


async def test_messages_sent_again_later_than_nats_remembers_change_nothing(
    fresh_nats: NatsForTests, database: Database
) -> None:
    messages = Emitting("main", "run-1").messages([*ONE_OF_EACH, *random_trades(40, 1)])
    once = await _record(fresh_nats, database, messages)
    tables = (
        "run_totals", "trade_kinds", "trade_months", "equity_minute", "equity_hour", "equity_day", "runs",
        *_TABLE.values(), "orders",
    )  # fmt: skip
    before = {name: await once.fetch(f"SELECT * FROM {name} ORDER BY 1, 2") for name in (*tables, "events")}
    await once.close()
    # without a Nats-Msg-Id the stream keeps them again, as it does after its window
    again = await _record(fresh_nats, database, messages, messages[::-1], messages[10:20] + messages[:5])
    try:
        for name, rows in before.items():
            assert await again.fetch(f"SELECT * FROM {name} ORDER BY 1, 2") == rows, name
    finally:
        await again.close()


_KEYS = {"kinds": "1, 2, 3, 4, 5, 6", "months": "1, 2, 3"}
_SORTED_OUT = {
    "kinds": "SELECT trader, run_id, strategy, instrument, side, outcome, count(*) AS trades FROM trades"
    " GROUP BY 1, 2, 3, 4, 5, 6 ORDER BY 1, 2, 3, 4, 5, 6",
    "months": """SELECT trader, run_id, date_trunc('month', (trade_time - interval '1 microsecond')
        AT TIME ZONE 'America/New_York' + interval '7 hours')::date AS month, count(*) AS trades,
        count(*) FILTER (WHERE pnl > 0) AS wins, count(*) FILTER (WHERE pnl < 0) AS losses, sum(pnl) AS pnl,
        coalesce(sum(r_multiple), 0) AS r_sum FROM trades GROUP BY 1, 2, 3 ORDER BY 1, 2, 3""",
}


@pytest.mark.parametrize("batch", [1, 7, 500])
async def test_running_totals_are_those_that_statistics_counts(
    fresh_nats: NatsForTests, database: Database, batch: int
) -> None:
    trades = random_trades(150, seed=batch)
    adjustment = ev.Adjusted(amount=Decimal("-1.25"), balance=Decimal(9), reason="financing")
    totals = Totals()
    for closed in trades:
        totals.add(closed)
    totals.adjust(adjustment.amount)
    totals.adjust(adjustment.amount)
    messages = Emitting("main", "run-1").messages([*trades, adjustment, adjustment])
    other = Emitting("other", "run-2").messages(trades[:3])
    guards = Emitting("main", "run-1", "guard").messages([ONE_OF_EACH[2]])
    api = await _record(fresh_nats, database, messages[::-1] + other + guards, messages[:9], batch=batch)
    try:
        row = await api.fetchrow("SELECT * FROM run_totals WHERE trader = 'main' AND run_id = 'run-1'")
        assert row is not None
        for field in Totals.__slots__:
            assert row[field] == getattr(totals, field), field
        assert (row["trader_events"], row["last_seq"]) == (len(messages), len(messages))
        assert await api.fetchval("SELECT trades FROM run_totals WHERE run_id = 'run-2'") == 3
        for sums in ("kinds", "months"):
            kept = await api.fetch(f"SELECT * FROM trade_{sums} ORDER BY {_KEYS[sums]}")
            assert kept == await api.fetch(_SORTED_OUT[sums]), sums
    finally:
        await api.close()


@pytest.mark.parametrize("batch", [3, 500])
async def test_equity_rollups_are_what_the_marks_say_in_whatever_order_they_come(
    fresh_nats: NatsForTests, database: Database, batch: int
) -> None:
    emitting = Emitting("main", "run-1")
    emitting.at = datetime.fromisoformat("2026-03-06T21:00:00Z")  # past 17:00 New York
    messages = []
    marks = []
    for step in range(150):
        emitting.at += timedelta(seconds=step * 7 % 40 - 50)
        mark = equity(step, Decimal(10000 + (step * 7919 % 301) - 150) / 10)
        messages.append(emitting.message(mark))
        marks.append((emitting.at, emitting.seq, mark))
    api = await _record(fresh_nats, database, messages[::2] + messages[1::2], messages[:20], batch=batch)
    buckets = {
        "equity_minute": lambda at: at.replace(second=0, microsecond=0),
        "equity_hour": lambda at: at.replace(minute=0, second=0, microsecond=0),
        "equity_day": trading_day,
    }
    try:
        for table, bucket in buckets.items():
            expected = []
            keyed = sorted((bucket(at), seq, mark) for at, seq, mark in marks)
            for key, group in groupby(keyed, itemgetter(0)):
                points = list(group)
                values = [mark.equity for _, _, mark in points]
                expected.append(
                    ("main", "run-1", key, points[0][1], values[0], points[-1][1], values[-1], min(values),
                     max(values), max(mark.max_drawdown for _, _, mark in points), len(points))
                )  # fmt: skip
            found = [tuple(row) for row in await api.fetch(f"SELECT * FROM {table} ORDER BY bucket")]
            assert found == expected, table
        assert await api.fetchval("SELECT count(*) FROM equity_day") == 2
    finally:
        await api.close()


async def test_a_run_ends_up_the_same_when_its_phases_come_out_of_order(
    fresh_nats: NatsForTests, database: Database
) -> None:
    phases: list[ev.Body] = [
        ev.StatusChanged(phase="STARTING", previous="NOT_DEPLOYED", reason="", holding="flat", terms=TERMS),
        ev.StatusChanged(phase="MONITORING", previous="STARTING", reason="", holding="flat"),
        ev.StatusChanged(phase="HALTED", previous="MONITORING", reason="drawdown", holding="flat"),
        ev.StatusChanged(phase="STOPPED", previous="HALTED", reason="reset", holding="flat"),
    ]
    messages = Emitting("main", "run-1").messages(phases)
    api = await _record(fresh_nats, database, [messages[3]], [messages[1]], [messages[0]], [messages[2]])
    try:
        run = await api.fetchrow("SELECT * FROM runs")
        assert run is not None
        assert (run["phase"], run["phase_seq"]) == ("STOPPED", 4)
        assert run["started"] == START + timedelta(minutes=1)
        assert run["ended"] == START + timedelta(minutes=3)
        assert json.loads(run["terms"])["strategy"] == "donchian"
    finally:
        await api.close()


async def test_where_columns_are_compressed_those_of_a_batch_are_made_writable_before_it_is_written(
    fresh_nats: NatsForTests, database: Database
) -> None:
    """In place of the full edition's function stands one that notes what it was asked, and what was there."""
    owner = await database.connect("owner")
    await owner.execute(
        "CREATE TABLE asked (since timestamptz, until timestamptz, there bigint);"
        "CREATE FUNCTION make_writable(since timestamptz, until timestamptz) RETURNS bigint"
        " LANGUAGE sql SECURITY DEFINER AS"
        " 'INSERT INTO asked SELECT since, until, (SELECT count(*) FROM events) RETURNING 0::bigint';"
        "GRANT EXECUTE ON FUNCTION make_writable(timestamptz, timestamptz) TO recorder"
    )
    messages = Emitting("main", "run-1").messages(ONE_OF_EACH)
    api = await _record(fresh_nats, database, messages)
    try:
        recorded = await api.fetchrow("SELECT min(time), max(time), count(*) FROM events")
        asked = await owner.fetch("SELECT * FROM asked ORDER BY there, since")
        assert recorded is not None
        assert recorded["count"] == len(messages)
        assert asked[0]["there"] == 0
        assert min(row["since"] for row in asked) == recorded["min"]
        assert max(row["until"] for row in asked) == recorded["max"]
    finally:
        await owner.close()
        await api.close()


async def test_commands_and_signals_are_recorded_with_what_they_ask(
    fresh_nats: NatsForTests, database: Database
) -> None:
    signal = {"id": "s1", "instrument": "EURUSD", "side": "buy", "stop": "1.0980"}
    messages = [
        (subjects.command("main", "stop"), b'{"mode": "graceful", "command_id": "c7", "unknown": 1}'),
        (subjects.command("main", "pause"), b""),
        (subjects.signal("main"), json.dumps(signal).encode()),
    ]
    api = await _record(fresh_nats, database, messages[:1], messages[1:])
    try:
        rows = await api.fetch("SELECT * FROM commands ORDER BY stream_seq")
        assert [(row["trader"], row["verb"], row["command_id"], json.loads(row["body"])) for row in rows] == [
            ("main", "stop", "c7", {"mode": "graceful", "command_id": "c7", "unknown": 1}),
            ("main", "pause", None, {}),
        ]
        assert [row["stream_seq"] for row in rows] == [1, 2]
        assert abs(rows[0]["received"].timestamp() - datetime.now().astimezone().timestamp()) < 60
        row = await api.fetchrow("SELECT * FROM signals")
        assert row is not None
        assert (row["signal_id"], row["instrument"], row["side"]) == ("s1", "EURUSD", "buy")
        assert json.loads(row["body"]) == signal
        assert await api.fetchval("SELECT count(*) FROM dead_letters") == 0
    finally:
        await api.close()


async def test_the_api_can_read_every_table_and_write_none(database: Database) -> None:
    connection = await database.connect("api")
    try:
        tables = await connection.fetch(
            "SELECT tablename FROM pg_tables WHERE schemaname = 'public' AND tablename <> 'alembic_version'"
        )
        assert len(tables) == 30
        for row in tables:
            name = row["tablename"]
            # A service that was never heard has a row, so that its silence has an age.
            rows = 4 if name == "service_states" else 0
            assert await connection.fetchval(f"SELECT count(*) FROM {name}") == rows
            for statement in (
                f"DELETE FROM {name}",
                f"INSERT INTO {name} DEFAULT VALUES",
                f"DROP TABLE {name}",
            ):
                with pytest.raises(asyncpg.InsufficientPrivilegeError):
                    await connection.execute(statement)
    finally:
        await connection.close()
    recorder = await database.connect("recorder")
    try:
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await recorder.execute("DELETE FROM trades")
    finally:
        await recorder.close()


async def test_plain_postgresql_buckets_times_as_timescaledb_does(database: Database) -> None:
    api = await database.connect("api")
    try:
        for width, moment, expected in (
            ("5 minutes", "2026-01-01 00:07:31+00", "2026-01-01 00:05:00+00"),
            ("1 week", "2026-03-08 23:59:59+00", "2026-03-02 00:00:00+00"),
            ("3 months", "2026-05-07 10:00:00+00", "2026-04-01 00:00:00+00"),
            ("1 year", "1999-12-31 23:59:59+00", "1999-01-01 00:00:00+00"),
        ):
            question = "SELECT time_bucket($1::text::interval, $2::text::timestamptz) = $3::text::timestamptz"
            assert await api.fetchval(question, width, moment, expected), (width, moment)
    finally:
        await api.close()
