"""Writes batches of messages to the database, one transaction each, and acknowledges nothing.

What no one can read and what the database refuses becomes a dead letter, once, without holding up the
rest of its batch: a refused batch is halved, inside the same transaction, until the refused message
stands alone. A database that is away raises StorageUnavailable, and nothing of the batch was written.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import chain
from operator import itemgetter
from typing import Final

import asyncpg
from nats.aio.msg import Msg

from services.recorder import reading, statements
from services.recorder.reading import BODY_AT, ENVELOPE, Row
from services.shared.errors import InvalidInput, StorageUnavailable

_CONNECT_WITHIN = 5.0
_ANSWER_WITHIN = 60.0
_KEY: Final = itemgetter(ENVELOPE.index("time"), ENVELOPE.index("id"))
_JOURNALLED: Final = range(len(ENVELOPE))

# Of an SQLSTATE the first two: data exception, integrity constraint, program limit exceeded.
_REFUSALS = ("22", "23", "54")

DEAD: Final = "dead letter"


class Delivery:
    """One message as delivered, and what it was read as; `reason` says why it is a dead letter."""

    __slots__ = ("data", "kind", "reason", "reply", "row", "stream", "subject")

    def __init__(self, stream: str, message: Msg) -> None:
        self.stream = stream
        self.subject = message.subject
        self.data = message.data
        self.reply = message.reply
        self.kind = DEAD
        self.row: Row = ()
        self.reason = ""
        try:
            self.kind, self.row = reading.read(stream, message.subject, message.data)
        except InvalidInput as error:
            self.reason = str(error)

    def stored(self) -> tuple[str, str]:
        """The stream's sequence, and when the stream took it, from the address of the acknowledgement."""
        tokens = self.reply.split(".")
        # nine tokens, or eleven and more with the domain and account of newer servers
        sequence, nanoseconds = (tokens[5], tokens[7]) if len(tokens) == 9 else (tokens[7], tokens[9])
        moment = datetime.fromtimestamp(int(nanoseconds[:-9] or 0), UTC)
        return sequence, f"{moment:%Y-%m-%dT%H:%M:%S}.{nanoseconds[-9:-3]}Z"


@dataclass(slots=True)
class Written:
    """What a batch came to: new messages by type, and how many were there already."""

    new: Counter[str] = field(default_factory=Counter)
    dead: int = 0
    repeated: int = 0


class Writer:
    """One connection to the database, made when it is needed and again when it broke."""

    def __init__(self, database_url: str, password: str) -> None:
        self._url = database_url
        self._password = password
        self._connection: asyncpg.Connection | None = None

    async def close(self) -> None:
        """Leave; never raises."""
        connection, self._connection = self._connection, None
        if connection is not None:
            try:
                await connection.close(timeout=2)
            except (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError):
                connection.terminate()

    async def write(self, batch: Sequence[Delivery]) -> Written:
        """Write a batch; once this returns, it is committed. Raises StorageUnavailable."""
        try:
            connection = await self._connected()
            async with connection.transaction():
                return await self._write(connection, batch)
        except (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
            self._drop()
            raise StorageUnavailable(f"{type(error).__name__}: {error}"[:300]) from None
        except asyncio.CancelledError:
            self._drop()
            raise

    async def traders(self) -> list[str]:
        """Every trader that ever had a deployment recorded. Raises StorageUnavailable."""
        try:
            rows = await (await self._connected()).fetch("SELECT DISTINCT trader FROM runs ORDER BY 1")
        except (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
            self._drop()
            raise StorageUnavailable(f"{type(error).__name__}: {error}"[:300]) from None
        return [row["trader"] for row in rows]

    def _drop(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.terminate()

    async def _connected(self) -> asyncpg.Connection:
        if self._connection is None or self._connection.is_closed():
            self._connection = await asyncpg.connect(
                self._url,
                password=self._password,
                timeout=_CONNECT_WITHIN,
                command_timeout=_ANSWER_WITHIN,
                server_settings={"application_name": "desk-recorder", "timezone": "UTC"},
            )
        return self._connection

    async def _write(self, connection: asyncpg.Connection, batch: Sequence[Delivery]) -> Written:
        """Write it whole, or in halves where the database refuses it."""
        try:
            async with connection.transaction():
                return await _insert(connection, batch)
        except asyncpg.PostgresError as error:
            if (error.sqlstate or "")[:2] not in _REFUSALS:
                raise
            if len(batch) == 1:
                refused = batch[0]
                refused.kind, refused.reason = DEAD, f"the database refuses it: {type(error).__name__}"
                return await _insert(connection, batch)
        middle = len(batch) // 2
        first = await self._write(connection, batch[:middle])
        second = await self._write(connection, batch[middle:])
        return Written(first.new + second.new, first.dead + second.dead, first.repeated + second.repeated)


async def _insert(connection: asyncpg.Connection, batch: Sequence[Delivery]) -> Written:
    kinds: dict[str, list[Row]] = {}
    dead: list[Delivery] = []
    received: dict[str, list[Row]] = {}
    for delivery in batch:
        kind = delivery.kind
        if kind in statements.TABLES or kind == statements.JOURNAL_ONLY:
            rows = kinds.get(kind)
            if rows is None:
                kinds[kind] = rows = []
            rows.append(delivery.row)
        elif kind == DEAD:
            dead.append(delivery)
        else:
            received.setdefault(kind, []).append((*delivery.stored(), *delivery.row))
    written = Written()
    await _insert_events(connection, kinds, written)
    for kind, sql in statements.RECEIVED.items():
        rows = sorted(received.get(kind, ()), key=lambda row: (int(row[0] or 0), row[1]))
        if rows:
            written.new[kind] = len(await connection.fetch(sql, *map(list, zip(*rows, strict=True))))
    for letter in sorted(dead, key=lambda delivery: int(delivery.stored()[0])):
        sequence, moment = letter.stored()
        new = await connection.fetchval(
            statements.DEAD_LETTER,
            letter.stream,
            int(sequence),
            moment,
            letter.subject.replace("\0", "\N{REPLACEMENT CHARACTER}"),
            letter.data,
            letter.reason.replace("\0", "\N{REPLACEMENT CHARACTER}"),
        )
        written.dead += 1 if new else 0
    written.repeated = len(batch) - sum(written.new.values()) - written.dead
    return written


async def _insert_events(
    connection: asyncpg.Connection, kinds: dict[str, list[Row]], written: Written
) -> None:
    if not kinds:
        return
    columns: dict[str, list[tuple[str | None, ...]]] = {}
    for kind in sorted(kinds):
        rows = kinds[kind]
        rows.sort(key=_KEY)
        columns[kind] = list(zip(*rows, strict=True))
    journal = [list(chain.from_iterable(made[place] for made in columns.values())) for place in _JOURNALLED]
    types = list(chain.from_iterable([kind] * len(kinds[kind]) for kind in columns))
    bodies = list(chain.from_iterable(made[BODY_AT] for made in columns.values()))
    for row in await connection.fetch(statements.JOURNAL, *journal, types, bodies):
        written.new[row["type"]] = row["count"]
    for kind, made in columns.items():
        table = statements.TABLES.get(kind)
        if table is not None:
            await connection.execute(table.sql, *(made[place] for place in table.places))


__all__ = ["DEAD", "Delivery", "Writer", "Written"]
