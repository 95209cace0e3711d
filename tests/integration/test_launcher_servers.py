"""NATS and PostgreSQL as the launcher starts them: users, roles, crashes, what is on disk."""

from __future__ import annotations

import asyncio
import stat
from pathlib import Path

import asyncpg
import pytest

from services.shared import subjects
from services.shared.bus import Bus
from services.shared.database_roles import ROLES, scram
from services.shared.errors import BusError, NotStored
from tests.conftest import NatsForTests, PostgresForTests


async def test_every_nats_user_logs_in_and_a_wrong_password_does_not(nats_server: NatsForTests) -> None:
    for user in subjects.USERS:
        bus = await nats_server.connect(user.name)
        assert bus.connected
        await bus.close()
    with pytest.raises(BusError):
        await Bus.connect(nats_server.url, user="trader", password="wrong", patience=0)


async def test_a_nats_user_cannot_publish_what_is_anothers(nats_server: NatsForTests, trader_id: str) -> None:
    bus = await nats_server.connect("operator")
    try:
        with pytest.raises(NotStored):
            await bus.store(f"trade.{trader_id}.closed", b"{}", timeout=0.5)
        assert await bus.store(f"command.{trader_id}.stop", b"{}") > 0
    finally:
        await bus.close()


async def test_what_nats_acknowledged_survives_its_kill(fresh_nats: NatsForTests) -> None:
    bus = await fresh_nats.connect("operator")
    stored = [await bus.store("command.main.pause", f'{{"by":"{n}"}}'.encode()) for n in range(20)]
    await asyncio.to_thread(fresh_nats.kill)
    await asyncio.to_thread(fresh_nats.start)
    reader = await fresh_nats.connect("api")
    kept = [message.seq async for message in reader.read(subjects.COMMANDS)]
    assert kept == stored
    await bus.close()
    await reader.close()


async def test_a_connection_that_is_closed_cannot_read_and_says_so_as_any_bus_error(
    nats_server: NatsForTests,
) -> None:
    bus = await nats_server.connect("api")
    await bus.close()
    with pytest.raises(BusError, match="reading EVENTS"):
        await anext(bus.read(subjects.EVENTS))


def test_the_nats_configuration_is_readable_by_its_user_only(nats_server: NatsForTests) -> None:
    mode = (nats_server.directory / "nats.conf").stat().st_mode
    assert stat.S_IMODE(mode) == 0o600


async def test_every_role_logs_in_by_password_and_none_without(postgres: PostgresForTests) -> None:
    for role in ROLES:
        connection = await asyncpg.connect(postgres.dsn(role), password=postgres.password(role))
        assert await connection.fetchval("SELECT current_user") == role
        await connection.close()
        with pytest.raises(asyncpg.InvalidPasswordError):
            await asyncpg.connect(postgres.dsn(role), password="wrong")


async def test_data_of_before_there_was_a_role_get_it_at_the_next_start(
    fresh_postgres: PostgresForTests,
) -> None:
    fresh_postgres.carry_out("DROP OWNED BY backup CASCADE", "DROP ROLE backup", database="desk")
    await asyncio.to_thread(fresh_postgres.stop)
    assert not await asyncio.to_thread(fresh_postgres.create, renewed=True)
    await asyncio.to_thread(fresh_postgres.start)
    for role in ROLES:
        connection = await asyncpg.connect(fresh_postgres.dsn(role), password=fresh_postgres.password(role))
        await connection.close()


async def test_only_the_owner_makes_tables(postgres: PostgresForTests) -> None:
    connection = await asyncpg.connect(postgres.dsn("api"), password=postgres.password("api"))
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await connection.execute("CREATE TABLE mine (x int)")
    await connection.close()


async def test_the_unix_socket_wants_a_password_too(postgres: PostgresForTests) -> None:
    folder = postgres.directory / "socket"
    with pytest.raises((asyncpg.InvalidPasswordError, asyncpg.InterfaceError)):
        await asyncpg.connect(
            host=str(folder), port=postgres.port, user="owner", database="desk", password="wrong"
        )


def test_a_scram_verifier_never_contains_the_password() -> None:
    assert "correct horse" not in scram("correct horse")
    assert scram("a") != scram("a"), "the salt must differ"


def test_postgres_secrets_leave_no_file_behind(postgres: PostgresForTests) -> None:
    left = [path for path in postgres.directory.iterdir() if path.suffix in {".sql", ".password"}]
    assert left == []


def test_postgres_recovers_after_a_kill(tmp_path: Path, postgres: PostgresForTests) -> None:
    postgres.carry_out("CREATE TABLE kept (x int)", "INSERT INTO kept VALUES (1)")
    postgres.kill()
    postgres.spawn()
    postgres.wait_ready(60)
    postgres.carry_out("INSERT INTO kept VALUES (2)", "DROP TABLE kept")
