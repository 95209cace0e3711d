"""What Grafana is shown of the desk's state: each view over rows as recorder, trader and guard leave them."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any, TypeAlias

import pytest

from services.shared import events as ev
from services.shared import subjects
from tests.conftest import Database, NatsForTests
from tests.recorder_at_work import TERMS, Emitting, all_recorded, publish, recording, trade, until

if TYPE_CHECKING:
    import asyncpg

    Connection: TypeAlias = asyncpg.Connection[asyncpg.Record]

D = Decimal


@pytest.fixture
async def owner(database: Database) -> AsyncIterator[Connection]:
    """The views' owner, who may also make their rows."""
    connection = await database.connect("owner")
    yield connection
    await connection.close()


async def _heard(owner: Connection, service: str, ago: float, instance: str = "1") -> None:
    await owner.execute(
        "INSERT INTO service_states (service, instance, version, state, heard)"
        " VALUES ($1, $2, '1.0', 'ready', now() - make_interval(secs => $3))",
        service,
        instance,
        ago,
    )


async def _silent(owner: Connection) -> dict[str, int]:
    rows = await owner.fetch("SELECT service, round(min(silent)) AS silent FROM grafana.services GROUP BY 1")
    return {row["service"]: int(row["silent"]) for row in rows}


async def test_silence_is_an_age_also_of_a_service_that_was_never_heard(owner: Connection) -> None:
    await owner.execute("UPDATE service_states SET since = now() - interval '100 seconds'")
    assert await _silent(owner) == {"api": 100, "recorder": 100, "risk": 100, "trader": 100}
    await _heard(owner, "recorder", 0)
    await _heard(owner, "risk", 40)
    await _heard(owner, "trader", 1)
    await _heard(owner, "trader", 600, "standby")
    assert await _silent(owner) == {"api": 100, "recorder": 0, "risk": 40, "trader": 1}


async def test_a_recorder_that_is_gone_does_not_make_the_others_look_silent(owner: Connection) -> None:
    for service in ("trader", "risk", "api"):
        await _heard(owner, service, 301)
    await _heard(owner, "recorder", 300)
    assert await _silent(owner) == {"api": 1, "recorder": 300, "risk": 1, "trader": 1}
    ages = await owner.fetch("SELECT round(age) AS age FROM grafana.services WHERE service <> 'recorder'")
    assert {row["age"] for row in ages} == {301}


async def test_a_backups_age_counts_from_the_last_good_one_and_without_any_from_the_desks_first_day(
    owner: Connection,
) -> None:
    async def age() -> int:
        return int(await owner.fetchval("SELECT round(age) FROM grafana.backup_age"))

    assert await age() < 3600
    await owner.execute("UPDATE service_states SET since = now() - interval '2 days'")
    assert await age() == 2 * 86400
    await owner.execute(
        "INSERT INTO backups VALUES (now() - interval '3 hours', 'a.tar', 5, 'ab', NULL),"
        " (now() - interval '1 hour', 'b.tar', 5, 'cd', 'checksum of events differs')"
    )
    assert await age() == 3 * 3600


async def test_dead_letters_are_counted_by_stream_and_those_of_the_last_hour(owner: Connection) -> None:
    assert [tuple(row) for row in await owner.fetch("SELECT * FROM grafana.dead_letter_counts ORDER BY 1")] == [
        ("COMMANDS", 0, 0), ("EVENTS", 0, 0), ("MARKET", 0, 0),
    ]  # fmt: skip
    await owner.execute(
        "INSERT INTO dead_letters SELECT 'EVENTS', n, now() - interval '30 minutes' * n, 'x', 'data', 'why'"
        " FROM generate_series(1, 5) AS n"
    )
    counts = await owner.fetchrow("SELECT * FROM grafana.dead_letter_counts WHERE stream = 'EVENTS'")
    assert counts is not None
    assert tuple(counts) == ("EVENTS", 5, 1)


async def test_versions_name_the_services_the_servers_and_the_schema(owner: Connection) -> None:
    await _heard(owner, "risk", 0)
    await owner.execute("INSERT INTO part_versions VALUES ('NATS', '2.12.8')")
    versions = {row["part"]: row["version"] for row in await owner.fetch("SELECT * FROM grafana.versions")}
    assert versions["service risk"] == "1.0"
    assert versions["NATS"] == "2.12.8"
    assert versions["database schema"]
    assert versions["PostgreSQL"].partition(".")[0].isdigit()
    assert versions["TimescaleDB"]


_PHASES = [
    ("MONITORING", True),
    ("STOPPING", True),
    ("HALTED", True),
    ("STOPPED", False),
    ("COMPLETED", False),
]


@pytest.mark.parametrize(("phase", "counts"), _PHASES)
async def test_a_limits_use_counts_while_its_run_is_under_way_or_halted(
    owner: Connection, phase: str, counts: bool
) -> None:
    await owner.execute(
        "INSERT INTO runs (run_id, trader, terms, phase, phase_seq) VALUES ('r1', 'main', $1, 'MONITORING', 1)",
        json.dumps({"currency": "USD"}),
    )
    await owner.execute(
        "INSERT INTO limit_states VALUES ('main', 'drawdown', 0, '100', 'halt', 'm', 'r1', 100, 85.5),"
        " ('main', 'positions', 1, '0', 'deny', 'm', 'r1', 0, 0),"
        " ('main', 'spread', 2, '5', 'deny', 'm', 'r1', NULL, NULL)"
    )
    await owner.execute(
        "INSERT INTO deployment_states (trader, run_id, phase, reason, paused, holding, updated)"
        " VALUES ('main', 'r1', $1, '', false, 'flat', now())",
        phase,
    )
    rows = await owner.fetch("SELECT name, share, currency, counts FROM grafana.limits ORDER BY place")
    assert [tuple(row) for row in rows] == [
        ("drawdown", 0.855, "USD", counts), ("positions", None, "USD", counts), ("spread", None, "USD", counts),
    ]  # fmt: skip


async def test_a_halt_has_its_story_and_its_latency(fresh_nats: NatsForTests, database: Database) -> None:
    """As they are recorded: a person's halt of a run, and one between runs; each reset by somebody."""
    admin = await fresh_nats.connect("admin")
    reader = await database.connect("owner")
    run, guard = Emitting("main", "run-1"), Emitting("main", "run-1", "guard")
    desk = Emitting("main", "desk.main.command")
    guards_own = Emitting("main", "desk.main.guard", "guard")

    async def command(verb: str, command_id: str, by: str) -> None:
        told = {"version": 1, "command_id": command_id, "by": by, "reason": "news"}
        await admin.store(subjects.command("main", verb), json.dumps(told).encode())

    def said(emitting: Emitting, command_id: str, *states: Any) -> list[tuple[str, bytes]]:
        return emitting.messages(
            ev.CommandOutcome(command_id=command_id, verb="halt", state=state) for state in states
        )

    try:
        async with recording(fresh_nats, database):
            await publish(
                admin,
                run.messages(
                    [
                        ev.StatusChanged(
                            phase="STARTING", previous="NOT_DEPLOYED", reason="", holding="flat", terms=TERMS
                        )
                    ]
                ),
            )
            await command("halt", "h1", "ann")
            halted = ev.LimitsChanged(
                action="halt", by="ann", reason="news", old={"halted": None}, new={"halted": "manual"}
            )
            await publish(admin, [*said(run, "h1", "accepted", "blocked"), *guard.messages([halted])])
            closed = replace(trade(1, D("-4.50")), exit_reason="halted")
            stood = ev.StatusChanged(phase="HALTED", previous="STOPPING", reason="news", holding="flat")
            await publish(admin, run.messages([closed, stood]))
            await publish(admin, said(run, "h1", "flat", "done"))
            reset = ev.LimitsChanged(
                action="reset", by="bob", reason="read it", old={"halted": "manual"}, new={"halted": None}
            )
            await publish(admin, guards_own.messages([reset]))
            await command("halt", "h2", "eve")
            await publish(
                admin,
                desk.messages(
                    [ev.StatusChanged(phase="HALTED", previous="STOPPED", reason="holiday", holding="flat")]
                ),
            )
            await command("reset", "r2", "ann")
            await publish(
                admin,
                desk.messages(
                    [
                        ev.StatusChanged(
                            phase="STOPPED", previous="HALTED", reason="reset: back again", holding="flat"
                        )
                    ]
                ),
            )
            await all_recorded(admin)
        rows = await reader.fetch("SELECT * FROM grafana.halts ORDER BY halted")
        assert [
            (row["halted_by"], row["reason"], row["reset_by"], row["reset_reason"], row["closed"], row["pnl"])
            for row in rows
        ] == [
            ("ann", "news", "bob", "read it", 1, D("-4.50")),
            ("eve", "holiday", "ann", "back again", 0, None),
        ]
        assert rows[0]["halted"] <= rows[0]["flat"] <= rows[0]["reset"]
        latencies = await reader.fetch("SELECT * FROM grafana.halt_latencies ORDER BY stored")
        assert [(row["by"], row["blocked"] is not None, row["done"] is not None) for row in latencies] == [
            ("ann", True, True), ("eve", False, False),
        ]  # fmt: skip
        assert 0 <= latencies[0]["blocked"] <= latencies[0]["flat"] <= latencies[0]["done"] < 60
    finally:
        await reader.close()
        await admin.close()


async def test_a_stream_that_nobody_records_is_stalled_for_ever_longer(
    fresh_nats: NatsForTests, database: Database
) -> None:
    admin = await fresh_nats.connect("admin")
    owner = await database.connect("owner")
    try:
        await owner.execute("DROP TABLE equity_minute CASCADE")
        async with recording(fresh_nats, database):
            equity = ev.EquityMarked(
                step=1, balance=D(1), unrealised=D(0), equity=D(1), peak=D(1), drawdown=D(0),
                max_drawdown=D(0), open_risk=D(0),
            )  # fmt: skip
            await publish(admin, Emitting("main", "run-1").messages([equity]))

            async def stalled() -> bool:
                row = await owner.fetchrow(
                    "SELECT pending, stalled FROM grafana.streams WHERE stream = 'EVENTS'"
                )
                return row is not None and row["pending"] == 1 and row["stalled"] > 3

            await until(stalled, "what cannot be recorded shows as stalled")
            moment = datetime.now(UTC) - timedelta(seconds=10)
            assert await owner.fetchval("SELECT max(last_time) FROM grafana.streams") > moment
    finally:
        await owner.close()
        await admin.close()
