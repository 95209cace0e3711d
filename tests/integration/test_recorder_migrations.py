"""Bringing the database's tables up to date."""

from __future__ import annotations

import asyncio
import importlib
import secrets

import asyncpg
import pytest

from services.launcher.ports import free_port
from services.recorder.migrate import ALSO, RIGHTS, migrate_async, migration_sql, newest
from services.shared.errors import InvalidInput, StorageUnavailable
from tests.conftest import Database, PostgresForTests
from tests.older_tables import UNDO, back_to
from tests.recorded_runs import record_run


async def test_migrating_at_once_from_several_sides_and_again_makes_the_tables_once(
    postgres: PostgresForTests,
) -> None:
    name = f"test_{secrets.token_hex(6)}"
    postgres.carry_out(f"CREATE DATABASE {name} OWNER owner")
    try:
        dsn, password = postgres.dsn("owner", name), postgres.password("owner")
        await asyncio.gather(*(migrate_async(dsn, password) for _ in range(3)))
        api = await Database(postgres, name).connect("api")
        assert await api.fetchval("SELECT version_num FROM alembic_version") == newest()
        await api.execute("SELECT * FROM events, run_totals, dead_letters")
        await api.close()
        await migrate_async(dsn, password)
    finally:
        postgres.carry_out(f"DROP DATABASE {name} WITH (FORCE)")


async def test_each_role_has_the_rights_of_its_work_and_no_more(database: Database) -> None:
    connection = await database.connect("owner")
    try:
        for role, rights in RIGHTS.items():
            granted = await connection.fetch(
                "SELECT table_name, privilege_type FROM information_schema.role_table_grants"
                " WHERE grantee = $1 AND table_schema = 'public'",
                role,
            )
            also = {
                (table, right) for table, more in ALSO.get(role, {}).items() for right in more.split(", ")
            }
            everywhere = {row["privilege_type"] for row in granted if tuple(row) not in also}
            assert everywhere == set(rights.split(", ")), role
            assert also <= {tuple(row) for row in granted}, role
    finally:
        await connection.close()


def test_every_migration_after_the_first_can_be_undone_here() -> None:
    assert [f"{number:04}" for number in range(2, int(newest()) + 1)] == sorted(UNDO)


@pytest.mark.parametrize("sums", ["trade_kinds", "trade_months", "trade_days", "trade_rs"])
async def test_trades_recorded_before_they_were_sorted_out_are_counted(database: Database, sums: str) -> None:
    owner = await database.connect("owner")
    try:
        await record_run(owner, "main", "run-1", trades=12_000)
        await record_run(owner, "main", "run-2", trades=3)
        everything = f"SELECT * FROM {sums} ORDER BY run_id, {sums}"
        before = await owner.fetch(everything)
        assert len(before) > (10 if sums in ("trade_kinds", "trade_days") else 3)
        assert sum(row["trades"] for row in before) == 12_003
        await back_to(owner, "0002")
        await migrate_async(database.dsn("owner"), database.password("owner"))
        assert [dict(row) for row in await owner.fetch(everything)] == [dict(row) for row in before]
    finally:
        await owner.close()


async def test_the_longest_streaks_of_runs_recorded_before_there_was_a_column_are_filled_in(
    database: Database,
) -> None:
    owner = await database.connect("owner")
    try:
        await record_run(owner, "main", "run-1", trades=120)
        await record_run(owner, "main", "run-2", trades=3)
        totals = "SELECT * FROM run_totals ORDER BY run_id"
        before = await owner.fetch(totals)
        assert [(row["longest_win_streak"], row["longest_loss_streak"]) for row in before] == [
            (10, 10),
            (0, 9),
        ]
        await back_to(owner, "0001")
        await migrate_async(database.dsn("owner"), database.password("owner"))
        assert [dict(row) for row in await owner.fetch(totals)] == [dict(row) for row in before]
    finally:
        await owner.close()


async def test_the_verdicts_of_runs_recorded_before_they_were_counted_are_counted_from_their_orders(
    database: Database,
) -> None:
    owner = await database.connect("owner")
    try:
        await record_run(owner, "main", "run-1", trades=3)
        await owner.execute(
            """INSERT INTO orders (time, id, trader, run_id, emitter, seq, recorded, order_no, state, detail)
            SELECT now(), gen_random_uuid(), 'main', 'run-1', 'guard', n, now(), n, state, detail::jsonb
            FROM (VALUES
                (1001, 'approved', '{}'), (1002, 'approved', '{}'),
                (1003, 'denied', '{"reasons": [{"code": "spread", "text": "first"}]}'),
                (1004, 'denied',
                 '{"reasons": [{"code": "spread", "text": "last"}, {"code": "positions", "text": "1"}]}')
            ) AS given (n, state, detail)"""
        )
        await back_to(owner, "0003")
        await migrate_async(database.dsn("owner"), database.password("owner"))
        totals = await owner.fetchrow("SELECT approved, denied, trades FROM run_totals")
        assert totals is not None
        assert tuple(totals) == (2, 2, 3)
        reasons = await owner.fetch("SELECT code, orders, last_text FROM denials ORDER BY code")
        assert [tuple(row) for row in reasons] == [("positions", 1, "1"), ("spread", 2, "last")]
    finally:
        await owner.close()


async def test_a_database_newer_than_the_desk_is_left_alone(database: Database) -> None:
    owner = await database.connect("owner")
    await owner.execute("UPDATE alembic_version SET version_num = '9999'")
    await owner.close()
    with pytest.raises(InvalidInput, match="9999"):
        await migrate_async(database.dsn("owner"), database.password("owner"))


async def test_nobody_to_migrate_is_said_without_the_password() -> None:
    address = f"postgresql://owner@127.0.0.1:{free_port()}/desk"
    with pytest.raises(StorageUnavailable) as caught:
        await migrate_async(address, "hunter2", patience=0.2)
    assert "hunter2" not in str(caught.value)


async def test_the_stand_in_for_the_extension_is_made_only_where_it_is_missing(database: Database) -> None:
    connection: asyncpg.Connection[asyncpg.Record] = await database.connect("api")
    try:
        extension = await connection.fetchval(
            "SELECT count(*) FROM pg_extension WHERE extname = 'timescaledb'"
        )
        ours = await connection.fetchval(
            "SELECT count(*) FROM pg_proc WHERE proname = 'time_bucket' AND prolang <> 13"
        )
        assert extension == 1 or ours == 1
    finally:
        await connection.close()
    assert "create_hypertable" in migration_sql(None)
    assert migration_sql(newest()).strip() == ""


async def test_what_the_full_edition_refuses_is_undone_as_a_whole_and_the_desk_starts(
    database: Database,
) -> None:
    """Plain PostgreSQL stands for a server that is taken for the full edition and refuses something."""
    edition = importlib.import_module("services.recorder.schema.versions.0007_the_full_edition")
    statements = ["CREATE TABLE half_done ()", "SELECT add_retention_policy('bars')"]
    owner = await database.connect("owner")
    warnings: list[str] = []
    owner.add_log_listener(lambda _, said: warnings.append(str(said)))
    try:
        await owner.execute(edition.attempt("old bars", statements))
        assert not warnings
        await owner.execute(edition.attempt("old bars", statements, where="true"))
        assert await owner.fetchval("SELECT to_regclass('half_done')") is None
        assert len(warnings) == 1
        assert "no old bars: TimescaleDB refused it (42883 function add_retention_policy" in warnings[0]
        await owner.execute(edition.attempt("nothing else", statements[:1], where="true"))
        assert await owner.fetchval("SELECT to_regclass('half_done')") is not None
    finally:
        await owner.close()
