"""The recorder's connections to the database: made when they are needed, and again when they broke."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

import asyncpg

from services.shared.errors import StorageUnavailable

_CONNECT_WITHIN = 5.0
_ANSWER_WITHIN = 60.0

# asyncpg says InternalClientError when the connection breaks at an unlucky moment.
_AWAY: Final = (
    OSError,
    TimeoutError,
    asyncpg.PostgresError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,
)


class Database:
    """One connection. `async with database.connected() as connection`, and `await close()` at the end."""

    def __init__(self, url: str, password: str, *, answer_within: float = _ANSWER_WITHIN) -> None:
        self._url = url
        self._password = password
        self._answer_within = answer_within
        self._connection: asyncpg.Connection | None = None

    @asynccontextmanager
    async def connected(self) -> AsyncIterator[asyncpg.Connection]:
        """The connection. Whatever the server refuses in there is StorageUnavailable, and the connection is
        made anew for the next."""
        try:
            if self._connection is None or self._connection.is_closed():
                self._connection = await asyncpg.connect(
                    self._url,
                    password=self._password,
                    timeout=_CONNECT_WITHIN,
                    command_timeout=self._answer_within,
                    server_settings={"application_name": "desk-recorder", "timezone": "UTC"},
                )
            yield self._connection
        except _AWAY as error:
            self._drop()
            raise StorageUnavailable(f"{type(error).__name__}: {error}"[:300]) from None
        except asyncio.CancelledError:
            self._drop()
            raise

    async def close(self) -> None:
        """Leave; never raises."""
        connection, self._connection = self._connection, None
        if connection is not None:
            try:
                await connection.close(timeout=2)
            except _AWAY:
                connection.terminate()

    def _drop(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.terminate()


__all__ = ["Database"]
