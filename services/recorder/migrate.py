"""Brings the database's tables up to date and says what each role may do there.

Run as the owner of the schema, before the services start; running it again, or twice at once, does no
harm. Alembic keeps the migrations and their order and writes them out as SQL, which asyncpg runs in one
transaction. What is in the tables is the business of the writer.
"""

from __future__ import annotations

import asyncio
import io
import time
from pathlib import Path

import asyncpg

from services.shared.errors import InvalidInput, StorageUnavailable

RIGHTS = {"recorder": "SELECT, INSERT, UPDATE", "api": "SELECT", "backup": "SELECT"}
"""What each role may do with every table."""
VIEWER = "grafana"
"""The role that reads the views of the schema of its name, and nothing else: whoever sees a dashboard may send any
SQL under it."""

ALSO = {
    "recorder": {"service_states": "DELETE"},
    "backup": {"backups": "INSERT"},
}
"""What a role may do with one table beside that."""

_SCHEMA = Path(__file__).with_name("schema")
_ONE_AT_A_TIME = 0x6465736B  # an advisory lock's number: "desk"
# What the migrations made, and their owner after them; not what an extension did.
_DELETE_ALL = f"""
DO $do$
DECLARE
    made text;
BEGIN
    DROP SCHEMA IF EXISTS {VIEWER} CASCADE;
    FOR made IN
        SELECT 'TABLE ' || oid::regclass FROM pg_class
        WHERE relkind IN ('r', 'p') AND relnamespace = 'public'::regnamespace AND relowner = current_user::regrole
            AND NOT EXISTS (SELECT FROM pg_depend WHERE objid = pg_class.oid AND deptype = 'e')
        UNION ALL
        SELECT 'FUNCTION ' || oid::regprocedure FROM pg_proc
        WHERE pronamespace = 'public'::regnamespace AND proowner = current_user::regrole
            AND NOT EXISTS (SELECT FROM pg_depend WHERE objid = pg_proc.oid AND deptype = 'e')
    LOOP
        EXECUTE 'DROP ' || made || ' CASCADE';
    END LOOP;
END
$do$"""  # noqa: S608 - the role's name is a constant


def migrate(database_url: str, password: str, *, patience: float = 30.0) -> None:
    """Apply every migration that is missing, then grant the roles that exist their rights.

    `database_url` is `postgresql://owner@host:port/desk`, without a password. A server that is still
    starting is waited for, `patience` seconds. Raises StorageUnavailable when it cannot be reached by then
    or refuses, InvalidInput for an unusable address. Inside an event loop await `migrate_async` instead.
    """
    asyncio.run(migrate_async(database_url, password, patience=patience))


async def migrate_async(
    database_url: str, password: str, *, patience: float = 30.0, anew_as: str | None = None
) -> None:
    """`migrate` for callers inside an event loop.

    With `anew_as` all tables are deleted and made again as that revision had them.
    """
    connection = await _connect(database_url, password, patience)
    try:
        async with connection.transaction():
            await connection.execute(f"SELECT pg_advisory_xact_lock({_ONE_AT_A_TIME})")
            if anew_as is not None:
                await connection.execute(_DELETE_ALL)
            applied = await _applied(connection)
            if applied is not None and applied > newest():
                raise InvalidInput(
                    f"the database has revision {applied}, this desk knows {newest()}: update it"
                )
            if applied != (anew_as or newest()):
                await connection.execute(migration_sql(applied, anew_as or "head"))
            if anew_as in (None, newest()):
                await _grant(connection)
    except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
        raise StorageUnavailable(f"the database could not be migrated: {error}") from None
    finally:
        await connection.close()


def newest() -> str:
    """The newest revision there is; revisions count upwards and begin their file's name."""
    return max(path.name[:4] for path in (_SCHEMA / "versions").glob("[0-9]*.py"))


def migration_sql(applied: str | None, to: str = "head") -> str:
    """The SQL that leads from revision `applied` (None: an empty database) to another, or the newest."""
    # Half of a start's time, and not needed once the tables are there.
    from alembic import command
    from alembic.config import Config

    script = io.StringIO()
    config = Config(output_buffer=script)
    config.set_main_option("script_location", str(_SCHEMA))
    command.upgrade(config, f"{applied or 'base'}:{to}", sql=True)
    return script.getvalue()


async def _connect(database_url: str, password: str, patience: float) -> asyncpg.Connection:
    deadline = time.monotonic() + patience
    while True:
        try:
            return await asyncpg.connect(database_url, password=password, timeout=10)
        except (ValueError, asyncpg.InterfaceError) as error:
            raise InvalidInput(f"expected postgresql://owner@host:port/desk: {error}") from None
        except (OSError, asyncpg.PostgresError) as error:
            starting = isinstance(error, OSError | asyncpg.CannotConnectNowError)
            if not starting or time.monotonic() > deadline:
                raise StorageUnavailable(f"the database took no connection: {type(error).__name__}") from None
        await asyncio.sleep(0.1)


async def _applied(connection: asyncpg.Connection) -> str | None:
    if await connection.fetchval("SELECT to_regclass('alembic_version')") is None:
        return None
    revision: str | None = await connection.fetchval("SELECT version_num FROM alembic_version")
    return revision


async def _grant(connection: asyncpg.Connection) -> None:
    there = {row["rolname"] for row in await connection.fetch("SELECT rolname FROM pg_roles")}
    for role in sorted((RIGHTS.keys() | ALSO.keys()) & there):
        await connection.execute(f"GRANT USAGE ON SCHEMA public TO {role}")
        if role in RIGHTS:
            await connection.execute(f"GRANT {RIGHTS[role]} ON ALL TABLES IN SCHEMA public TO {role}")
        for table, rights in ALSO.get(role, {}).items():
            await connection.execute(f"GRANT {rights} ON {table} TO {role}")
    database = await connection.fetchval("SELECT quote_ident(current_database())")
    await connection.execute(f"REVOKE TEMPORARY ON DATABASE {database} FROM PUBLIC")
    await connection.execute("REVOKE ALL ON SCHEMA public FROM PUBLIC")
    if VIEWER in there:
        await connection.execute(f"REVOKE ALL ON ALL TABLES IN SCHEMA public FROM {VIEWER}")
        # `public` for `time_bucket`, which Grafana writes without a schema.
        await connection.execute(f"GRANT USAGE ON SCHEMA public, {VIEWER} TO {VIEWER}")
        await connection.execute(f"GRANT SELECT ON ALL TABLES IN SCHEMA {VIEWER} TO {VIEWER}")


__all__ = ["ALSO", "RIGHTS", "VIEWER", "migrate", "migrate_async", "migration_sql", "newest"]
