"""The database's roles as containers get them."""

from __future__ import annotations

import asyncpg
import pytest

from services.setup.roles import CONNECTIONS, ensure_roles
from services.shared.database_roles import DATABASE, ROLES, SUPERUSER
from tests.conftest import Database, PostgresForTests


async def test_whoever_only_reads_cannot_fill_the_disk_beside_the_tables(
    fresh_postgres: PostgresForTests,
) -> None:
    passwords = {role: fresh_postgres.password(role) for role in ROLES}
    address = f"127.0.0.1:{fresh_postgres.port}"
    for _ in range(2):
        await ensure_roles(address, [fresh_postgres.password(SUPERUSER)], passwords)
    grafana = await Database(fresh_postgres, DATABASE).connect("grafana")
    try:
        await grafana.execute("SET default_transaction_read_only = off")
        for statement in (
            "SELECT lo_create(0)",
            "SELECT lo_from_bytea(0, 'x')",
            "SELECT pg_logical_emit_message(false, 'a', 'b')",
            "CREATE TEMPORARY TABLE t ()",
            "CREATE TABLE t ()",
        ):
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await grafana.execute(statement)
        assert await grafana.fetchval("SELECT count(*) FROM grafana.runs") == 0
        limit = "SELECT rolconnlimit FROM pg_roles WHERE rolname = 'grafana'"
        assert await grafana.fetchval(limit) == CONNECTIONS["grafana"]
    finally:
        await grafana.close()
