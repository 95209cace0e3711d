"""Every query of Grafana's dashboards and alert rules on a million trades: how many rows, how long.

A run of 1,000,000 trades, 5,000,000 equity marks and as many bars, beside a small one, and a week of the desk's own
state. Each query is sent as Grafana sends it, under its role: over the whole run, the last week and the last hours;
Risk and Operations by the clock. Prints a table of them all.

    panels_slowest_ms        the slowest query's time, its median of five
"""

from __future__ import annotations

import asyncio
import statistics
import tempfile
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TypeAlias

import asyncpg
from rich.console import Console
from rich.table import Table

from grafana.trading import UID as TRADING
from services.shared.database_roles import DATABASE
from tests.bench.dashboard_bench import SPACING, _fill, _servers
from tests.bench.desk_rows import record_desk
from tests.conftest import Database
from tests.grafana_panels import Asked, Shown, boards, expanded, queries, rules, variables
from tests.recorded_runs import START

Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record]"

TRADES = 1_000_000
MARKS_A_TRADE = 5
TURNS = 5
MOST_MS = 200.0
RANGES = {"whole run": None, "7 days": timedelta(days=7), "7 hours": timedelta(hours=7)}
"""The longest there is, and the longest that is drawn from minutes and from every mark: there most rows are read."""
TRADER, RUN = "bench", "large"


@dataclass(frozen=True, slots=True)
class Took:
    """A query's rows and its median time in milliseconds, over a range."""

    asked: Asked
    range: str
    rows: int
    ms: float


async def _took(grafana: Connection, asked: Asked, span: str, shown: Shown) -> Took:
    sql = expanded(asked, shown, timescale=True)
    times = []
    for _ in range(TURNS):
        began = time.perf_counter()
        rows = await grafana.fetch(sql)
        times.append((time.perf_counter() - began) * 1000)
    return Took(asked, span, len(rows), statistics.median(times))


async def _measured(grafana: Connection, end: datetime) -> AsyncIterator[Took]:
    now = datetime.now(UTC)
    for board in boards().values():
        values = {"trader": TRADER, "run": RUN}
        for asked, variable in zip(variables(board), board["templating"]["list"], strict=True):
            shown = Shown(START, end, values)
            yield await _took(grafana, asked, "-", shown)
            rows = await grafana.fetch(expanded(asked, shown, timescale=True))
            values.setdefault(variable["name"], str(rows[0][-1]) if rows else "")
        until = end if board["uid"] == TRADING else now
        for span, back in RANGES.items():
            for asked in queries(board):
                start = until - back if back is not None else START
                yield await _took(grafana, asked, span, Shown(start, until, values))
    for asked, back in rules():
        yield await _took(grafana, asked, "-", Shown(now - back, now, {}))


async def measure(database: Database, trades: int) -> list[Took]:
    """Fill the tables and time every query."""
    await _fill(database, TRADER, trades // 100, trades, marks_a_trade=MARKS_A_TRADE, bars=True)
    owner = await database.connect("owner")
    await record_desk(owner, TRADER, RUN)
    await owner.close()
    grafana = await database.connect("grafana")
    try:
        end = START + trades * MARKS_A_TRADE * SPACING
        return [took async for took in _measured(grafana, end)]
    finally:
        await grafana.close()


def table_of(measured: list[Took], trades: int) -> Table:
    """Panel, range, rows, milliseconds; what is too slow in red."""
    table = Table("panel or rule", "range", "rows", "ms", title=f"Grafana's queries at {trades:,} trades")
    for took in measured:
        slow = "red" if took.ms >= MOST_MS else None
        table.add_row(took.asked.name, took.range, str(took.rows), f"{took.ms:.1f}", style=slow)
    return table


def panels_bench(*, trades: int = TRADES) -> dict[str, float]:
    """Measure and print; takes some minutes, most of it filling the tables."""
    with tempfile.TemporaryDirectory(prefix="desk-bench-", ignore_cleanup_errors=True) as folder:
        Path(folder).chmod(0o755)
        with _servers(Path(folder)) as (_, postgres):
            measured = asyncio.run(measure(Database(postgres, DATABASE), trades))
    Console(width=120).print(table_of(measured, trades))
    return {"panels_slowest_ms": max(took.ms for took in measured)}
