"""Exports: the trades file to the byte, in flat memory, and honest about whether it is complete."""

from __future__ import annotations

import asyncio
import io
from decimal import Decimal
from typing import Any, TypeAlias

import asyncpg
import psutil
import pyarrow.parquet as pq
import pytest

from services.shared.trades_file import lines
from tests.api_process import ApiProcess, SharedApi
from tests.recorded_runs import record_run
from tests.scripted_trader import ScriptedTrader

Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record]"


async def _expected(recorder: Connection, *runs: str, currency: str = "USD") -> str:
    rows = [
        dict(row)
        for run in runs
        for row in await recorder.fetch("select * from trades where run_id = $1 order by seq", run)
    ]
    return "".join(lines(rows, currency))


async def test_the_csv_is_the_trades_file_to_the_byte(api: ApiProcess, recorder: Connection) -> None:
    run = f"{api.trader}-a"
    await record_run(recorder, api.trader, run, trades=1234)
    answer = await api.get("/api/export")
    assert answer.headers["content-type"] == "text/csv; charset=utf-8"
    assert answer.headers["x-desk-complete"] == "true"
    assert f'filename="{api.trader}-{run}.csv"' in answer.headers["content-disposition"]
    assert answer.text == await _expected(recorder, run)


async def test_all_runs_follow_each_other_in_the_order_they_were_deployed(
    api: ApiProcess, recorder: Connection
) -> None:
    runs = [f"{api.trader}-{name}" for name in ("z", "m", "a")]
    for run in runs:
        await record_run(recorder, api.trader, run, trades=7)
    assert (await api.get("/api/export", all="true")).text == await _expected(recorder, *runs)
    assert (await api.get("/api/export", run_id=runs[1])).text == await _expected(recorder, runs[1])


async def test_parquet_has_the_same_rows_with_exact_numbers(api: ApiProcess, recorder: Connection) -> None:
    run = f"{api.trader}-a"
    await record_run(recorder, api.trader, run, trades=12_345)
    answer = await api.get("/api/export", format="parquet")
    table = pq.read_table(io.BytesIO(answer.content))
    rows = await recorder.fetch(
        "select trade, pnl, r_multiple, trade_time from trades where run_id = $1 order by seq", run
    )
    assert table.column("trade").to_pylist() == [row["trade"] for row in rows]
    assert sum(table.column("pnl").to_pylist(), Decimal(0)) == sum((row["pnl"] for row in rows), Decimal(0))
    assert table.column("trade_time").to_pylist()[-1] == rows[-1]["trade_time"]


async def test_filters_narrow_an_export_down(api: ApiProcess, recorder: Connection) -> None:
    await record_run(recorder, api.trader, f"{api.trader}-a", trades=100)
    answer = await api.get("/api/export", outcome="win", instrument="GBPUSD")
    rows = answer.text.splitlines()[1:]
    assert rows
    assert all(",win," in row and ",GBPUSD," in row for row in rows)


async def test_an_export_waits_until_a_finished_run_is_recorded_completely(
    api: ApiProcess, recorder: Connection, connect: Any
) -> None:
    run = f"{api.trader}-a"
    await record_run(recorder, api.trader, run, trades=5)
    total = await recorder.fetchval("select trader_events from run_totals where run_id = $1", run)
    trader = ScriptedTrader(await connect("trader"), api.trader)
    await trader.write_deployment(run_id=run, phase="COMPLETED", last_seq=total + 1)
    early = await api.get("/api/export", wait=0.1)
    assert early.headers["x-desk-complete"] == "false"
    late = asyncio.create_task(api.get("/api/export", wait=30))
    await asyncio.sleep(0)
    await recorder.execute(
        "update run_totals set trader_events = trader_events + 1, last_seq = last_seq + 1 where run_id = $1",
        run,
    )
    assert (await late).headers["x-desk-complete"] == "true"


async def test_an_export_of_a_run_that_goes_on_says_that_it_is_not_complete(
    api: ApiProcess, recorder: Connection, connect: Any
) -> None:
    run = f"{api.trader}-a"
    await record_run(recorder, api.trader, run, trades=5)
    trader = ScriptedTrader(await connect("trader"), api.trader)
    await trader.write_deployment(run_id=run, phase="MONITORING")
    answer = await api.get("/api/export", wait=30)
    assert answer.headers["x-desk-complete"] == "false"
    assert answer.text.count("\n") == 6


async def test_a_run_with_a_gap_in_its_events_is_not_complete(api: ApiProcess, recorder: Connection) -> None:
    run = f"{api.trader}-a"
    await record_run(recorder, api.trader, run, trades=5)
    await recorder.execute("update run_totals set trader_events = trader_events - 1 where run_id = $1", run)
    assert (await api.get("/api/export")).headers["x-desk-complete"] == "false"


@pytest.mark.parametrize("form", ["csv", "parquet"])
async def test_a_large_export_leaves_in_flat_memory(
    service: SharedApi, api: ApiProcess, recorder: Connection, form: str
) -> None:
    await record_run(recorder, api.trader, f"{api.trader}-a", trades=150_000, marks_a_trade=1)
    process = psutil.Process(service.process.pid)
    await api.get("/api/export", format=form, outcome="breakeven")  # what is made once is made
    before = process.memory_info().rss
    peak, size = before, 0
    async with api.client.stream("GET", "/api/export", params={**api.mine, "format": form}) as answer:
        async for chunk in answer.aiter_bytes():
            size += len(chunk)
            peak = max(peak, process.memory_info().rss)
    assert size > (15_000_000 if form == "csv" else 1_000_000)
    assert (peak - before) / 2**20 < 48, "an export must not grow with its size"


async def test_a_reader_who_leaves_gives_the_connection_back(api: ApiProcess, recorder: Connection) -> None:
    await record_run(recorder, api.trader, f"{api.trader}-a", trades=60_000, marks_a_trade=1)
    for _ in range(12):  # more than may be under way at once, and than the pool has
        async with api.client.stream("GET", "/api/export", params=api.mine) as answer:
            assert answer.status_code == 200
            await anext(answer.aiter_bytes())

    async def free() -> bool:
        return (await api.get("/api/export", outcome="win")).status_code == 200

    await api.until(free)
    whole = await api.get("/api/export")
    assert whole.text.count("\n") == 60_001
