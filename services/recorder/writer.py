"""Writes batches of messages to the database, one transaction each, and acknowledges nothing.

What no one can read and what the database refuses becomes a dead letter, once, without holding up the
rest of its batch: a refused batch is halved, inside the same transaction, until the refused message
stands alone. A database that is away raises StorageUnavailable, and nothing of the batch was written.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Container, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from operator import itemgetter
from typing import Final

import asyncpg
from nats.aio.msg import Msg

from services.recorder import copying, reading, statements
from services.recorder.connection import Database
from services.recorder.reading import BODY_AT, ENVELOPE, Row
from services.shared.errors import InvalidInput

_KEY: Final = itemgetter(ENVELOPE.index("time"), ENVELOPE.index("id"))

# Of an SQLSTATE the first two: data exception, integrity constraint, program limit exceeded.
_REFUSALS = ("22", "23", "54")

DEAD: Final = "dead letter"

# Only where the server's edition compresses (migration 0007).
_COMPRESSES: Final = "SELECT to_regprocedure('make_writable(timestamptz, timestamptz)') IS NOT NULL"
_MAKE_WRITABLE: Final = """
    SELECT make_writable(min(at::timestamptz), max(at::timestamptz)) FROM unnest($1::text[]) AS at"""
_TIME_AT: Final = ENVELOPE.index("time")


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
        except (ValueError, ArithmeticError, RecursionError) as error:  # or it would come again for ever
            self.reason = f"it cannot be read: {type(error).__name__}"

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
    """Writes through one connection, made when it is needed and again when it broke."""

    def __init__(self, database_url: str, password: str) -> None:
        self._database = Database(database_url, password)
        self._compresses: bool | None = None

    async def close(self) -> None:
        """Leave; never raises."""
        await self._database.close()

    async def write(self, batch: Sequence[Delivery]) -> Written:
        """Write a batch; once this returns, it is committed. Raises StorageUnavailable."""
        async with self._database.connected() as connection:
            if self._compresses is None:
                self._compresses = bool(await connection.fetchval(_COMPRESSES))
            if self._compresses:
                await _make_writable(connection, batch)
            return await self._write(connection, batch)

    async def traders(self) -> list[str]:
        """Every trader that ever had a deployment recorded; also shows that the database is there.

        Raises StorageUnavailable.
        """
        async with self._database.connected() as connection:
            rows = await connection.fetch("SELECT DISTINCT trader FROM runs ORDER BY 1")
        return [row["trader"] for row in rows]

    async def _write(self, connection: asyncpg.Connection, batch: Sequence[Delivery]) -> Written:
        """Write it quickly when all of it is new and acceptable, else carefully; in one transaction."""
        try:
            async with connection.transaction():
                return await _insert(connection, batch, quickly=True)
        except asyncpg.PostgresError as error:
            if (error.sqlstate or "")[:2] not in _REFUSALS:
                raise
        async with connection.transaction():
            return await self._write_carefully(connection, batch)

    async def _write_carefully(self, connection: asyncpg.Connection, batch: Sequence[Delivery]) -> Written:
        """Write it whole, or in halves where the database refuses it; inside a transaction."""
        try:
            async with connection.transaction():
                return await _insert(connection, batch, quickly=False)
        except asyncpg.PostgresError as error:
            if (error.sqlstate or "")[:2] not in _REFUSALS:
                raise
            if len(batch) == 1:
                refused = batch[0]
                refused.kind, refused.reason = DEAD, f"the database refuses it: {type(error).__name__}"
                return await _insert(connection, batch, quickly=False)
        middle = len(batch) // 2
        first = await self._write_carefully(connection, batch[:middle])
        second = await self._write_carefully(connection, batch[middle:])
        return Written(first.new + second.new, first.dead + second.dead, first.repeated + second.repeated)


class _Sorted:
    """A batch by what becomes of it: events read the fast way, the other events, commands and signals,
    and dead letters; each in the order of its key."""

    def __init__(self, batch: Sequence[Delivery], *, quickly: bool) -> None:
        self.fresh: dict[str, list[Row]] = {}
        self.events: dict[str, list[Row]] = {}
        self.received: dict[str, list[Row]] = {}
        self.dead: list[Delivery] = []
        for delivery in batch:
            kind, row = delivery.kind, delivery.row
            if kind == DEAD:
                self.dead.append(delivery)
            elif kind in statements.RECEIVED:
                self.received.setdefault(kind, []).append((*delivery.stored(), *row))
            elif quickly and not (row[BODY_AT] or "").startswith("{"):
                self.fresh.setdefault(kind, []).append(row)
            else:
                self.events.setdefault(kind, []).append(row)
        for rows in (*self.fresh.values(), *self.events.values()):
            rows.sort(key=_KEY)
        for rows in self.received.values():
            rows.sort(key=lambda row: (int(row[0] or 0), row[1]))
        self.dead.sort(key=lambda letter: int(letter.stored()[0]))


async def _make_writable(connection: asyncpg.Connection, batch: Sequence[Delivery]) -> None:
    """Have no row inserted into compressed columns: those of its times are written out as rows before."""
    times = [
        delivery.row[_TIME_AT] for delivery in batch if delivery.kind not in (DEAD, *statements.RECEIVED)
    ]
    if times:
        await connection.execute(_MAKE_WRITABLE, times)


async def _insert(connection: asyncpg.Connection, batch: Sequence[Delivery], *, quickly: bool) -> Written:
    """Write a batch, or raise what PostgreSQL says; `quickly` a repeat is refused too."""
    parts = _Sorted(batch, quickly=quickly)
    written = Written()
    if parts.fresh:
        await copying.copy_events(connection, parts.fresh)
        written.new.update({kind: len(rows) for kind, rows in parts.fresh.items()})
        await _fill_tables(connection, parts.fresh, but=copying.TARGETS)
    if parts.events:
        await _journal(connection, parts.events, written)
        await _fill_tables(connection, parts.events)
    for kind, rows in sorted(parts.received.items()):
        sql = statements.RECEIVED[kind]
        written.new[kind] = len(await connection.fetch(sql, *map(list, zip(*rows, strict=True))))
    for letter in parts.dead:
        written.dead += await _bury(connection, letter)
    written.repeated = len(batch) - sum(written.new.values()) - written.dead
    return written


async def _journal(connection: asyncpg.Connection, kinds: dict[str, list[Row]], written: Written) -> None:
    rows = [(kind, row) for kind in sorted(kinds) for row in kinds[kind]]
    columns = [[row[place] for _, row in rows] for place in range(len(ENVELOPE))]
    types = [kind for kind, _ in rows]
    bodies = [row[BODY_AT] for _, row in rows]
    for new in await connection.fetch(statements.JOURNAL, *columns, types, bodies):
        written.new[new["type"]] += new["count"]


async def _fill_tables(
    connection: asyncpg.Connection, kinds: dict[str, list[Row]], but: Container[str] = ()
) -> None:
    for kind in sorted(kinds):
        table = statements.TABLES.get(kind)
        if table is not None and kind not in but:
            columns = list(zip(*kinds[kind], strict=True))
            await connection.execute(table.sql, *(columns[place] for place in table.places))


async def _bury(connection: asyncpg.Connection, letter: Delivery) -> int:
    """Keep a dead letter; 1 when it is new."""
    sequence, moment = letter.stored()
    subject, reason = (
        text.replace("\0", "\N{REPLACEMENT CHARACTER}") for text in (letter.subject, letter.reason)
    )
    new = await connection.fetchval(
        statements.DEAD_LETTER, letter.stream, int(sequence), moment, subject, letter.data, reason
    )
    return 1 if new else 0


__all__ = ["DEAD", "Delivery", "Writer", "Written"]
