"""The API's way to the database: a pool that may only read, and comes back by itself.

Connections are made when they are first needed, so the API starts without a database. Whatever goes
wrong between here and the server is StorageUnavailable; what is asked is in `queries` and its siblings.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, TypeAlias

import asyncpg
import structlog

from services.shared.errors import InvalidInput, StorageUnavailable

if TYPE_CHECKING:
    Record: TypeAlias = asyncpg.Record
    Connection: TypeAlias = asyncpg.Connection[asyncpg.Record]
    Pool: TypeAlias = asyncpg.Pool[asyncpg.Record]
    Proxy: TypeAlias = asyncpg.pool.PoolConnectionProxy[asyncpg.Record]

log = structlog.get_logger(__name__)

_CONNECT_WITHIN = 2.0
_ACQUIRE_WITHIN = 5.0
_STATEMENT_WITHIN = 15.0
_PROBE_EVERY = 2.0
_AWAY = (
    OSError,
    TimeoutError,
    asyncpg.PostgresConnectionError,
    asyncpg.InterfaceError,
    asyncpg.CannotConnectNowError,
    asyncpg.TooManyConnectionsError,
    asyncpg.AdminShutdownError,
    asyncpg.CrashShutdownError,
    asyncpg.QueryCanceledError,
    asyncpg.InvalidAuthorizationSpecificationError,
    asyncpg.InvalidCatalogNameError,
    asyncpg.InsufficientResourcesError,
    asyncpg.InternalServerError,
)


class Ledger:
    """`async with ledger.reading() as connection`, and `await close()` at the end."""

    def __init__(self, url: str, password: str, *, size: int = 8) -> None:
        self._url = url
        self._password = password
        self._size = size
        self._pool: Pool | None = None
        self.problem: str | None = "not tried yet"
        self.answered_in: float | None = None

    async def _open(self) -> Pool:
        if self._pool is None:
            self._pool = await asyncpg.create_pool(
                self._url,
                password=self._password,
                min_size=0,
                max_size=self._size,
                timeout=_CONNECT_WITHIN,
                command_timeout=_STATEMENT_WITHIN,
                max_inactive_connection_lifetime=300,
                server_settings={
                    "application_name": "desk-api",
                    "default_transaction_read_only": "on",
                    "statement_timeout": str(int(_STATEMENT_WITHIN * 1000)),
                    "jit": "off",  # compiling a plan costs more than any of our queries
                },
            )
        return self._pool

    @asynccontextmanager
    async def reading(self) -> AsyncIterator[Proxy]:
        """A connection for a few statements. Raises StorageUnavailable, InvalidInput for a value the
        database refuses."""
        with _translated():
            pool = await self._open()
            async with pool.acquire(timeout=_ACQUIRE_WITHIN) as connection:
                yield connection

    @asynccontextmanager
    async def snapshot(self) -> AsyncIterator[Proxy]:
        """A connection in one read-only transaction that sees one moment, for cursors of any length."""
        async with (
            self.reading() as connection,
            connection.transaction(isolation="repeatable_read", readonly=True),
        ):
            await connection.execute("set local statement_timeout = 0")
            yield connection

    async def rows(self, sql: str, *values: Any) -> list[Record]:
        """All rows of one statement."""
        async with self.reading() as connection:
            return await connection.fetch(sql, *values)

    async def row(self, sql: str, *values: Any) -> Record | None:
        """The first row of one statement, or None."""
        async with self.reading() as connection:
            return await connection.fetchrow(sql, *values)

    async def probe(self) -> None:
        """Ask the database for a sign of life every two seconds, for ever; `problem` holds the result."""
        while True:
            began = time.monotonic()
            try:
                await self.row("select 1 from run_totals limit 1")
                if self.problem is not None:
                    log.info("database_reached")
                self.problem, self.answered_in = None, time.monotonic() - began
            except StorageUnavailable as error:
                if self.problem != str(error):
                    log.warning("database_away", detail=str(error))
                self.problem, self.answered_in = str(error), None
            await asyncio.sleep(_PROBE_EVERY)

    async def close(self) -> None:
        """Leave at once: nothing here is worth waiting for, all was reading."""
        if self._pool is not None:
            self._pool.terminate()
            self._pool = None


class _translated:  # noqa: N801 - reads as the word it is: `with _translated():`
    """Turns what asyncpg raises into what the desk raises, without the server's texts: they may quote
    values."""

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: object) -> None:
        match error:
            case asyncpg.UndefinedTableError() | asyncpg.UndefinedColumnError():
                raise StorageUnavailable("the database's schema is not there yet, or older") from None
            case asyncpg.InsufficientPrivilegeError():
                raise StorageUnavailable("the database does not let role api read") from None
            case asyncpg.DataError() | asyncpg.ProgramLimitExceededError():
                raise InvalidInput("expected a value the database can hold") from None
            case _ if isinstance(error, _AWAY):
                raise StorageUnavailable(f"the database does not answer: {type(error).__name__}") from None
