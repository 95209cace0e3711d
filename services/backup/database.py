"""The database as text, table by table: what COPY writes on one server it reads on any other.

So an archive moves between plain PostgreSQL, TimescaleDB and their versions. The tables themselves are made
by the recorder's migrations.
"""

# ruff: noqa: S608 - names are the database's own, quoted
from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

import asyncpg

from services.shared.errors import InvalidInput, StorageUnavailable

_TABLES: Final = """
SELECT c.relname AS name, array_agg(a.attname::text ORDER BY a.attnum) AS columns
FROM pg_class AS c JOIN pg_attribute AS a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'p') AND c.relname <> 'alembic_version'
    AND a.attgenerated = ''
GROUP BY 1 ORDER BY 1"""
_REVISION: Final = "SELECT version_num FROM alembic_version"
_FILLED_BY_TRADING: Final = ("events", "commands", "signals", "dead_letters", "runs")
"""Where there is a row in one of these, somebody has used the desk."""
_AWAY: Final = (
    OSError,
    TimeoutError,
    asyncpg.PostgresError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,
)


@dataclass(frozen=True, slots=True)
class Table:
    """A table's name and its columns."""

    name: str
    columns: tuple[str, ...]


@contextlib.contextmanager
def _told(doing: str) -> Iterator[None]:
    try:
        yield
    except _AWAY as error:
        raise StorageUnavailable(f"{doing}: {type(error).__name__}: {error}"[:300]) from None


@contextlib.asynccontextmanager
async def connected(url: str, password: str) -> AsyncIterator[asyncpg.Connection[asyncpg.Record]]:
    """A connection, closed at the end. Raises StorageUnavailable, InvalidInput for an unusable address."""
    try:
        connection = await asyncpg.connect(
            url, password=password, timeout=10, server_settings={"timezone": "UTC", "datestyle": "ISO"}
        )
    except (ValueError, asyncpg.InterfaceError) as error:
        raise InvalidInput(f"expected postgresql://role@host:port/desk: {error}") from None
    except _AWAY as error:
        raise StorageUnavailable(f"the database took no connection: {type(error).__name__}") from None
    try:
        yield connection
    finally:
        with contextlib.suppress(*_AWAY):
            await connection.close(timeout=5)


class Export:
    """The database as it is at one moment, which `begin` fixes; whatever is written later is not seen."""

    def __init__(self, connection: asyncpg.Connection[asyncpg.Record]) -> None:
        self._connection = connection
        self.revision = ""
        self.versions: dict[str, str] = {}
        self.tables: list[Table] = []

    async def begin(self) -> None:
        """Fix the moment. Raises StorageUnavailable."""
        with _told("the database could not be read"):
            await self._connection.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
            self.revision = await self._connection.fetchval(_REVISION)
            self.versions["postgresql"] = await self._connection.fetchval("SHOW server_version")
            timescale = "SELECT extversion FROM pg_extension WHERE extname = 'timescaledb'"
            self.versions["timescaledb"] = await self._connection.fetchval(timescale) or "none"
            rows = await self._connection.fetch(_TABLES)
            self.tables = [Table(row["name"], tuple(row["columns"])) for row in rows]

    async def copy(self, table: Table, write: Any) -> int:
        """Hand a table's rows to `write`, in pieces; returns how many. Raises StorageUnavailable."""

        async def put(data: bytes) -> None:
            write(data)

        # A hypertable's rows are in its chunks: COPY of the table itself finds none.
        query = f"SELECT {_names(table.columns)} FROM {_name(table.name)}"
        with _told(f"table {table.name} could not be read"):
            said = await self._connection.copy_from_query(query, output=put, format="text")
        return _count(said)


class Import:
    """Fills the tables of an empty database, in one transaction."""

    def __init__(self, connection: asyncpg.Connection[asyncpg.Record]) -> None:
        self._connection = connection

    async def revision(self) -> str | None:
        """The migration the database is at, None where there are no tables yet. Raises StorageUnavailable."""
        with _told("the database could not be looked at"):
            if await self._connection.fetchval("SELECT to_regclass('alembic_version')") is None:
                return None
            found: str | None = await self._connection.fetchval(_REVISION)
            return found

    async def used(self) -> str | None:
        """The first table found with a desk's work in it, or None. Raises StorageUnavailable."""
        with _told("the database could not be looked at"):
            for name in _FILLED_BY_TRADING:
                there = await self._connection.fetchval("SELECT to_regclass($1)", name)
                if there and await self._connection.fetchval(f"SELECT EXISTS (SELECT FROM {name})"):
                    return name
        return None

    @contextlib.asynccontextmanager
    async def transaction(self) -> AsyncIterator[None]:
        """All or nothing; what migrations put into the tables goes first."""
        with _told("the database could not be filled"):
            async with self._connection.transaction():
                for row in await self._connection.fetch(_TABLES):
                    await self._connection.execute(f"TRUNCATE {_name(row['name'])}")
                yield

    async def copy(self, table: Table, pieces: Iterable[bytes]) -> int:
        """Fill a table; returns how many rows. Raises StorageUnavailable."""

        async def given() -> AsyncIterator[bytes]:
            for piece in pieces:
                yield piece

        with _told(f"table {table.name} could not be filled"):
            said = await self._connection.copy_to_table(
                table.name, source=given(), columns=list(table.columns), format="text"
            )
        return _count(said)


async def note(
    connection: asyncpg.Connection[asyncpg.Record],
    name: str | None,
    size: int,
    checksum: str | None,
    problem: str | None,
) -> None:
    """Write into the database how a backup ended; `problem` is None for a good one. Raises StorageUnavailable."""
    with _told("the backup could not be noted"):
        await connection.execute(
            "INSERT INTO backups (finished, name, bytes, sha256, problem) VALUES (clock_timestamp(), $1, $2, $3, $4)",
            name,
            size,
            checksum,
            problem,
        )


def _name(text: str) -> str:
    return '"' + text.replace('"', '""') + '"'


def _names(columns: Sequence[str]) -> str:
    return ", ".join(_name(column) for column in columns)


def _count(said: str) -> int:
    return int(said.rpartition(" ")[2])


__all__ = ["Export", "Import", "Table", "connected", "note"]
