"""Brings the database's tables up to date and says what each role may do there.

Run as the owner of the schema, before the services start; running it again, or twice at once, does no
harm. What is in the tables is the business of the writer.
"""

from __future__ import annotations

import asyncio
from pathlib import Path

from alembic import command
from alembic.config import Config
from sqlalchemy import Connection, make_url, text
from sqlalchemy.exc import InterfaceError, OperationalError
from sqlalchemy.ext.asyncio import AsyncConnection, create_async_engine

from services.shared.errors import InvalidInput, StorageUnavailable

RIGHTS = {"recorder": "SELECT, INSERT, UPDATE", "api": "SELECT", "grafana": "SELECT"}
"""What each role may do with every table."""

_ONE_AT_A_TIME = 0x6465736B  # an advisory lock's number: "desk"


def migrate(database_url: str, password: str) -> None:
    """Apply every migration that is missing, then grant the roles that exist their rights.

    `database_url` is `postgresql://owner@host:port/desk`, without a password. Raises InvalidInput for an
    unusable address, StorageUnavailable when the server cannot be reached or refuses the login. Must not
    be called from a running event loop: await `migrate_async` there.
    """
    asyncio.run(migrate_async(database_url, password))


async def migrate_async(database_url: str, password: str) -> None:
    """`migrate` for callers inside an event loop."""
    try:
        url = make_url(database_url).set(drivername="postgresql+asyncpg", password=password)
    except ValueError as error:
        raise InvalidInput(f"expected postgresql://owner@host:port/desk, was unusable: {error}") from None
    engine = create_async_engine(url)
    try:
        async with engine.begin() as connection:
            await connection.execute(text(f"SELECT pg_advisory_xact_lock({_ONE_AT_A_TIME})"))
            await connection.run_sync(_upgrade)
            await _grant(connection)
    except (OSError, OperationalError, InterfaceError) as error:
        raise StorageUnavailable(f"the database could not be migrated: {type(error).__name__}") from None
    finally:
        await engine.dispose()


def _upgrade(connection: Connection) -> None:
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).with_name("schema")))
    config.attributes["connection"] = connection
    command.upgrade(config, "head")


async def _grant(connection: AsyncConnection) -> None:
    there = await connection.scalars(text("SELECT rolname FROM pg_roles"))
    for role in sorted(RIGHTS.keys() & set(there)):
        await connection.execute(text(f"GRANT USAGE ON SCHEMA public TO {role}"))
        await connection.execute(text(f"GRANT {RIGHTS[role]} ON ALL TABLES IN SCHEMA public TO {role}"))


__all__ = ["RIGHTS", "migrate", "migrate_async"]
