"""The database's roles and the database itself, made or given new passwords by the server's superuser.

What the roles may do with the tables is granted by the recorder's migrations.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence

import asyncpg

from services.shared.database_roles import DATABASE, OWNER, ROLES, SUPERUSER, role_statement
from services.shared.errors import StorageUnavailable

CONNECTIONS = {"owner": 4, "recorder": 16, "api": 24, "grafana": 16, "backup": 4}
"""How many each may hold at once: whoever sends Grafana long queries takes nobody else's place."""
_SETTINGS = {"grafana": {"default_transaction_read_only": "on", "statement_timeout": "15s", "jit": "off"}}
"""What a role begins with. It may set it otherwise: what it may do at all is for GRANT to say."""
_NOBODYS = ("lo_create", "lo_creat", "lo_from_bytea", "pg_logical_emit_message")
"""Functions by which whoever may connect could fill the disk; PostgreSQL lets everybody."""
_TAKE_AWAY = """
DO $do$
DECLARE
    taken regprocedure;
BEGIN
    FOR taken IN
        SELECT oid FROM pg_proc WHERE pronamespace = 'pg_catalog'::regnamespace AND proname = ANY(ARRAY[{}])
    LOOP
        EXECUTE format('REVOKE EXECUTE ON FUNCTION %s FROM PUBLIC', taken);
    END LOOP;
END
$do$"""


async def ensure_roles(
    address: str, superuser: Sequence[str], passwords: Mapping[str, str], *, patience: float = 60.0
) -> None:
    """Make the roles and the database, or set the roles' passwords. Idempotent.

    `address` is `host:port`; `superuser` has the superuser's passwords, the one to be in force first and
    perhaps an older one; `passwords` one for each of ROLES. Raises StorageUnavailable when the server takes
    none of them within `patience` seconds.
    """
    connection = await _connect(address, superuser, patience)
    try:
        there = {row["rolname"] for row in await connection.fetch("SELECT rolname FROM pg_roles")}
        for role in ROLES:
            verb = "ALTER" if role in there else "CREATE"
            await connection.execute(role_statement(verb, role, passwords[role]))
            await connection.execute(f"ALTER ROLE {role} CONNECTION LIMIT {CONNECTIONS[role]}")
            for setting, value in _SETTINGS.get(role, {}).items():
                await connection.execute(f"ALTER ROLE {role} SET {setting} = '{value}'")
        await connection.execute(role_statement("ALTER", SUPERUSER, superuser[0]))
        if not await connection.fetchval("SELECT true FROM pg_database WHERE datname = $1", DATABASE):
            await connection.execute(f"CREATE DATABASE {DATABASE} OWNER {OWNER}")
        await connection.execute(f"REVOKE ALL ON DATABASE {DATABASE} FROM PUBLIC")
        for role in ROLES:
            await connection.execute(f"GRANT CONNECT ON DATABASE {DATABASE} TO {role}")
        await connection.close()
        connection = await _connect(address, superuser[:1], patience, DATABASE)
        await connection.execute(_TAKE_AWAY.format(", ".join(f"'{name}'" for name in _NOBODYS)))
    except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
        raise StorageUnavailable(f"the database's roles could not be made: {type(error).__name__}") from None
    finally:
        await connection.close()


async def _connect(
    address: str, passwords: Sequence[str], patience: float, database: str = "postgres"
) -> asyncpg.Connection[asyncpg.Record]:
    deadline = time.monotonic() + patience
    while True:
        for password in passwords:
            try:
                return await asyncpg.connect(
                    f"postgresql://{SUPERUSER}@{address}/{database}", password=password, timeout=10
                )
            except (OSError, asyncpg.PostgresError) as error:
                refused = type(error).__name__
        if time.monotonic() > deadline:
            raise StorageUnavailable(f"the database took no connection: {refused}")
        await asyncio.sleep(0.2)


__all__ = ["CONNECTIONS", "ensure_roles"]
