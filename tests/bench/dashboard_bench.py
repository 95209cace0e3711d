"""How `/api/dashboard` at a million trades compares with ten thousand, and with reading a CSV each poll.

Real servers, a real API process, ten equity marks a trade, one mark every ten seconds (so the larger run
spans three years, and 100 times the hours and trading days). Before every poll a new mark is recorded in
the polled run, so that nothing remembered from the poll before can be used as it is. Both sides are polled
alternately.

    dashboard_1m_vs_10k   median at 1,000,000 trades / median at 10,000 trades (1 is flat)
    dashboard_vs_csv      the same / median of pandas reading 1,000,000 trades from memory (below 1 is quicker)
"""

from __future__ import annotations

import asyncio
import io
import json
import secrets
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

import asyncpg
import pandas as pd

from services.shared.database_roles import DATABASE
from tests.api_process import ApiProcess, api_process
from tests.conftest import Database, NatsForTests, PostgresForTests, _new_nats, _new_postgres, migrate
from tests.recorded_runs import record_run

SMALL = 10_000
LARGE = 1_000_000
MARKS_A_TRADE = 10
SPACING = timedelta(seconds=10)
ROUNDS = 5
POLLS_A_ROUND = 10
_WITHOUT_INDEXES = ("equity", "trades", "events", "bars")


@contextmanager
def _servers(folder: Path) -> Iterator[tuple[NatsForTests, PostgresForTests]]:
    nats = _new_nats(folder / "nats")
    postgres = _new_postgres(folder / "postgres")
    try:
        migrate(postgres, DATABASE)
        yield nats, postgres
    finally:
        postgres.stop()
        nats.stop()


async def _fill(
    database: Database,
    trader: str,
    small: int,
    large: int,
    *,
    marks_a_trade: int = MARKS_A_TRADE,
    bars: bool = False,
) -> None:
    """Both runs. Indexes are made after the rows, by the tables' owner, as a restore would."""
    owner = await database.connect("owner")
    try:
        await owner.execute("set maintenance_work_mem = '512MB'; set work_mem = '512MB'")
        made = [
            (row["indexname"], row["tablename"], row["indexdef"])
            for row in await owner.fetch(
                "select indexname, tablename, indexdef from pg_indexes where tablename = any($1)"
                " and indexname not like '%_pkey'",
                list(_WITHOUT_INDEXES),
            )
        ]
        keys = [f"alter table {table} drop constraint {table}_pkey" for table in _WITHOUT_INDEXES]
        for statement in (*keys, *(f"drop index {name}" for name, _, _ in made)):
            await owner.execute(statement)
        for run_id, trades in (("small", small), ("large", large)):
            await record_run(
                owner,
                trader,
                run_id,
                trades=trades,
                marks_a_trade=marks_a_trade,
                spacing=SPACING,
                bars=bars,
            )
        for table in _WITHOUT_INDEXES:
            await owner.execute(f"alter table {table} add primary key (time, id)", timeout=1800)
        for _, _, definition in made:
            await owner.execute(definition, timeout=1800)
        await owner.execute("vacuum analyze", timeout=1800)
    finally:
        await owner.close()


_ONE_MORE = """
with mark as (
    insert into equity (time, id, trader, run_id, emitter, seq, recorded, step, balance, unrealised, equity, peak,
                        drawdown, max_drawdown, open_risk)
    select time + interval '1 second', gen_random_uuid(), trader, run_id, emitter, seq + 1, now(), step + 1, balance,
           0, equity + 0.01, greatest(peak, equity + 0.01), drawdown, max_drawdown, 0
    from equity where run_id = $1 order by seq desc limit 1
    returning run_id, seq, equity),
day as (
    update equity_day d set last_seq = mark.seq, last_equity = mark.equity from mark
    where d.run_id = mark.run_id
      and d.bucket = (select max(bucket) from equity_day where trader = d.trader and run_id = mark.run_id))
update run_totals t set trader_events = trader_events + 1, last_seq = mark.seq from mark
where t.run_id = mark.run_id"""


async def _poll(api: ApiProcess, writer: asyncpg.Connection[asyncpg.Record], run_id: str) -> float:
    """Seconds of one poll, after something new was recorded."""
    await writer.execute(_ONE_MORE, run_id)
    began = time.perf_counter()
    answer = await api.client.get("/api/dashboard", params={"run_id": run_id})
    seconds = time.perf_counter() - began
    body = answer.json()
    assert answer.status_code == 200, api.log.read_text()[-3000:]
    assert body["statistics"]["trades"] > 0, body["missing"]
    assert not body["chart"]["meta"]["complete"], "the run must be above the chart's bound"
    return seconds


async def _measure(api: ApiProcess, writer: asyncpg.Connection[asyncpg.Record]) -> dict[str, list[float]]:
    samples: dict[str, list[float]] = {"small": [], "large": []}
    for run_id in samples:
        for _ in range(5):
            await _poll(api, writer, run_id)
    for _ in range(ROUNDS):
        took: dict[str, list[float]] = {"small": [], "large": []}
        for _ in range(POLLS_A_ROUND):
            for run_id, times in took.items():
                times.append(await _poll(api, writer, run_id))
        for run_id, times in took.items():
            samples[run_id].append(statistics.median(times))
    return samples


async def _csv_seconds(api: ApiProcess) -> list[float]:
    """Seconds of reading the larger run's file with pandas, as a page without a database would."""
    answer = await api.client.get("/api/export", params={"run_id": "large"}, timeout=600)
    data = answer.content
    seconds = []
    for _ in range(ROUNDS):
        began = time.perf_counter()
        frame = pd.read_csv(io.BytesIO(data))
        assert len(frame) > SMALL
        frame["pnl"].sum()
        seconds.append(time.perf_counter() - began)
    return seconds


async def _run(folder: Path, small: int, large: int) -> dict[str, float]:
    trader = f"bench{secrets.token_hex(3)}"
    with _servers(folder) as (nats, postgres):
        database = Database(postgres, DATABASE)
        await _fill(database, trader, small, large)
        writer = await database.connect("recorder")
        try:
            async with api_process(nats, database, trader, folder) as api:
                samples = await _measure(api, writer)
                csv = statistics.median(await _csv_seconds(api))
        finally:
            await writer.close()
    few, many = statistics.median(samples["small"]), statistics.median(samples["large"])
    return {
        "dashboard_1m_vs_10k": many / few,
        "dashboard_vs_csv": many / csv,
        "dashboard_10k_ms": few * 1000,
        "dashboard_1m_ms": many * 1000,
        "csv_1m_ms": csv * 1000,
    }


def dashboard_bench(*, small: int = SMALL, large: int = LARGE) -> dict[str, float]:
    """The two ratios. Takes some minutes, most of it filling the tables."""
    found = measure(small, large)
    return {name: found[name] for name in ("dashboard_1m_vs_10k", "dashboard_vs_csv")}


def measure(small: int, large: int) -> dict[str, float]:
    """The two ratios, and the times they are of in milliseconds."""
    with tempfile.TemporaryDirectory(prefix="desk-bench-", ignore_cleanup_errors=True) as folder:
        Path(folder).chmod(0o755)
        return asyncio.run(_run(Path(folder), small, large))


if __name__ == "__main__":
    sizes = [int(text) for text in sys.argv[1:3]]
    print(json.dumps(measure(*(sizes or (SMALL, LARGE))), indent=2))
