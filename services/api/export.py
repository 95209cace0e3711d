"""Exports of closed trades, of any size in flat memory: CSV as the backtest writes it, and Parquet.

Rows come through a server-side cursor in one read-only snapshot and leave as they come. Also knows
whether what it gives is all there will be: a run is complete once it has ended and the recorder has
counted every event the trader sent.
"""

from __future__ import annotations

import asyncio
import io
import json
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from services.api.desk import Desk
from services.api.ledger import Ledger
from services.api.trade_pages import TradeFilter, of_run
from services.shared.commands import Deployment
from services.shared.errors import BusError
from services.shared.trades_file import COLUMNS, HEADER, line

if TYPE_CHECKING:
    from services.api.ledger import Record

MOST_AT_ONCE = 4
_CSV_ROWS = 500
_PARQUET_ROWS = 10_000
_LOOK_AGAIN = 0.05
_OVER = frozenset({"STOPPED", "HALTED", "COMPLETED", "FAILED"})
_COLUMNS = ", ".join(COLUMNS)


@dataclass(frozen=True, slots=True)
class Selected:
    """One run of an export and the currency its money is in."""

    run_id: str
    currency: str


@dataclass(frozen=True, slots=True)
class Selection:
    """What an export holds, and whether there is nothing more to come."""

    runs: tuple[Selected, ...]
    complete: bool

    @property
    def name(self) -> str:
        """What to call a file of one run."""
        return self.runs[0].run_id.replace(":", "-") if self.runs else "nothing"


async def select(
    desk: Desk, trader: str, run_id: str | None, *, every: bool, wait: float
) -> Selection | None:
    """The runs to export: the named one, the last, or every one of the trader, oldest first; None when the
    named run does not exist. Waits up to `wait` seconds for a finished run to be recorded completely."""
    deadline = asyncio.get_running_loop().time() + wait
    while True:
        found, worth_waiting = await _look(desk, trader, run_id, every=every)
        late = asyncio.get_running_loop().time() >= deadline
        if late or not worth_waiting:
            return found
        await asyncio.sleep(_LOOK_AGAIN)


async def _look(desk: Desk, trader: str, run_id: str | None, *, every: bool) -> tuple[Selection | None, bool]:
    """The selection as of now, and whether waiting would make more of it."""
    deployment = await _deployment(desk, trader)
    last = deployment.run_id if deployment is not None and deployment.run_id else None
    async with desk.ledger.reading() as connection:
        rows = await connection.fetch(
            """select r.run_id, r.phase, r.terms, t.trader_events, t.last_seq
            from runs r left join run_totals t on t.trader = r.trader and t.run_id = r.run_id
            where r.trader = $1 and ($2::text is null or r.run_id = $2)
            order by r.recorded_started nulls first, r.run_id""",
            trader,
            run_id if not every else None,
        )
    if not every and run_id is None:
        wanted = last or (rows[-1]["run_id"] if rows else None)
        rows = [row for row in rows if row["run_id"] == wanted]
    # The last deployment, when it belongs to what is asked for: the trader says when it is over.
    expected = deployment if last is not None and run_id in (None, last) else None
    if run_id is not None and not rows and expected is None:
        return None, False
    finished = expected is not None and expected.phase in _OVER
    behind = expected is not None and finished and not _has(rows, expected)
    complete = all(_is_complete(row) for row in rows) and (expected is None or (finished and not behind))
    runs = tuple(
        Selected(row["run_id"], json.loads(row["terms"] or "{}").get("currency", "USD")) for row in rows
    )
    return Selection(runs, complete), behind


async def _deployment(desk: Desk, trader: str) -> Deployment | None:
    try:
        return await desk.line.deployment(trader)
    except BusError:
        return None  # what is recorded can be exported all the same


def _has(rows: Sequence[Record], deployment: Deployment) -> bool:
    """Whether the recorder has counted every event that the finished deployment sent."""
    return any(
        row["run_id"] == deployment.run_id and (row["trader_events"] or 0) >= deployment.last_seq
        for row in rows
    )


def _is_complete(row: Record) -> bool:
    return row["phase"] in _OVER and (row["trader_events"] or 0) == (row["last_seq"] or 0)


async def _batches(
    ledger: Ledger, selection: Selection, wanted: TradeFilter, size: int
) -> AsyncGenerator[tuple[str, list[Record]], None]:
    """Currency and rows, `size` at a time, each run's by seq."""
    async with ledger.snapshot() as connection:
        for run in selection.runs:
            where = of_run(wanted, run.run_id).conditions()
            cursor = await connection.cursor(
                f"select {_COLUMNS} from trades where {where} order by seq",  # noqa: S608 - fixed texts
                *where.values,
            )
            while rows := await cursor.fetch(size):
                yield run.currency, rows


async def as_csv(ledger: Ledger, selection: Selection, wanted: TradeFilter) -> AsyncGenerator[bytes, None]:
    """The trades file, a few hundred rows at a time."""
    head = HEADER
    async with aclosing(_batches(ledger, selection, wanted, _CSV_ROWS)) as batches:
        async for currency, rows in batches:
            yield "".join([head, *(line(dict(row), currency) for row in rows)]).encode()
            head = ""
    if head:
        yield head.encode()


async def as_parquet(
    ledger: Ledger, selection: Selection, wanted: TradeFilter
) -> AsyncGenerator[bytes, None]:
    """The same columns as Parquet with exact decimals, a row group at a time."""
    from services.api.parquet_file import open_writer, write_group

    sink = _Sink()
    writer = open_writer(sink)
    try:
        async with aclosing(_batches(ledger, selection, wanted, _PARQUET_ROWS)) as batches:
            async for _, rows in batches:
                # Building the columns takes long enough to be felt by others on this loop.
                await asyncio.to_thread(write_group, writer, rows)
                yield sink.take()
    finally:
        writer.close()
    yield sink.take()


class _Sink(io.RawIOBase):
    """A file that forgets what was taken out of it."""

    def __init__(self) -> None:
        super().__init__()
        self._parts: list[bytes] = []
        self._written = 0

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        part = bytes(data)
        self._parts.append(part)
        self._written += len(part)
        return len(part)

    def tell(self) -> int:
        return self._written

    def take(self) -> bytes:
        """What was written since the last time."""
        taken = b"".join(self._parts)
        self._parts.clear()
        return taken


FORMATS: dict[str, tuple[str, Any]] = {
    "csv": ("text/csv; charset=utf-8", as_csv),
    "parquet": ("application/vnd.apache.parquet", as_parquet),
}
