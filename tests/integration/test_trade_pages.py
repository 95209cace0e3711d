"""Trades a page at a time: every one once, forwards and backwards, in every order, under every filter.

And whatever is asked for, the database reads little more than what is shown.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterator
from datetime import datetime, timedelta
from decimal import Decimal
from itertools import product
from typing import Any, TypeAlias

import asyncpg
import pytest

from services.api.answers.records import TradeRow
from services.api.trade_pages import COUNTED, TradeFilter, TradeSort, Way, count, page_statement
from services.shared.trades_file import COLUMNS
from tests import recorded_runs
from tests.api_process import ApiProcess
from tests.conftest import Database, PostgresForTests, run_apart
from tests.recorded_runs import START, record_run

Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record]"
Row: TypeAlias = dict[str, Any]
SORTS: tuple[TradeSort, ...] = ("time", "instrument", "side", "pnl", "r_multiple", "outcome")
WAYS: tuple[Way, ...] = ("asc", "desc")
MANY = 1_000_000


async def _page(api: ApiProcess, **parameters: Any) -> dict[str, Any]:
    answer = await api.get("/api/trades", **parameters)
    assert answer.status_code == 200, answer.text
    body: dict[str, Any] = answer.json()
    return body


async def _forwards(api: ApiProcess, **parameters: Any) -> list[list[Row]]:
    pages = [await _page(api, **parameters)]
    while pages[-1]["next"]:
        pages.append(await _page(api, **parameters, cursor=pages[-1]["next"]))
    assert pages[-1]["last"] is None
    return [page["trades"] for page in pages]


async def _backwards(api: ApiProcess, **parameters: Any) -> list[list[Row]]:
    """From the last page to the first."""
    first = await _page(api, **parameters)
    if first["last"] is None:
        return [first["trades"]]
    pages = [await _page(api, **parameters, cursor=first["last"])]
    assert pages[0]["next"] is None
    while pages[-1]["previous"]:
        pages.append(await _page(api, **parameters, cursor=pages[-1]["previous"]))
    return [page["trades"] for page in pages]


def _value(row: Row, sort: TradeSort) -> Any:
    if sort == "time":
        return datetime.fromisoformat(row["trade_time"])
    if sort == "r_multiple":
        return Decimal("-Infinity") if row[sort] is None else Decimal(row[sort])
    return Decimal(row[sort]) if sort == "pnl" else row[sort]


def _key(row: Row) -> tuple[str, int]:
    return row["run_id"], row["trade"]


@pytest.mark.parametrize("every", [False, True])
@pytest.mark.parametrize("order", ["ascending", "descending"])
@pytest.mark.parametrize("sort", SORTS)
async def test_pages_in_any_order_give_every_trade_once_both_ways_even_where_values_repeat(
    api: ApiProcess, recorder: Connection, sort: TradeSort, order: str, every: bool
) -> None:
    runs = [f"{api.trader}-a", f"{api.trader}-b"]
    for run in runs:  # the same trades twice: every value comes many times
        await record_run(recorder, api.trader, run, trades=53)
    await recorder.execute(
        "update trades set r_multiple = null where run_id = $1 and trade % 10 = 0", runs[1]
    )
    asked = {"sort": sort, "order": order, "limit": 9}
    asked |= {"all": "true"} if every else {"run_id": runs[1]}
    pages = await _forwards(api, **asked)
    rows = [row for page in pages for row in page]
    expected = {(run, number) for run in (runs if every else runs[1:]) for number in range(1, 54)}
    assert len(rows) == len(expected)
    assert {_key(row) for row in rows} == expected
    values = [_value(row, sort) for row in rows]
    assert values == sorted(values, reverse=order == "descending")
    back = await _backwards(api, **asked)
    assert sorted(map(_key, [row for page in back[:-1] for row in page])) == sorted(
        map(_key, rows[-9 * (len(back) - 1) :])
    )
    assert back[-1] == pages[0], "going back ends at the first page as it was"
    for page in back[:-1]:
        start = rows.index(page[0])
        assert rows[start : start + 9] == page


@pytest.mark.parametrize("every", [False, True])
async def test_filters_together_give_what_each_of_them_leaves_and_count_it_exactly(
    api: ApiProcess, recorder: Connection, every: bool
) -> None:
    for name in "ab":
        await record_run(recorder, api.trader, f"{api.trader}-{name}", trades=200)
    whose = {"all": "true"} if every else {"run_id": f"{api.trader}-a"}
    everything = (await _page(api, **whose, limit=1000))["trades"]
    begin, end = START + timedelta(hours=5), START + timedelta(hours=20)
    for instrument, outcome, dated in product((None, "GBPUSD"), (None, "win", "breakeven"), (False, True)):
        asked: dict[str, Any] = dict(whose)
        asked |= {"instrument": instrument} if instrument else {}
        asked |= {"outcome": outcome} if outcome else {}
        asked |= {"from": begin.isoformat(), "to": end.isoformat()} if dated else {}
        expected = [
            row
            for row in everything
            if (not instrument or row["instrument"] == instrument)
            and (not outcome or row["outcome"] == outcome)
            and (not dated or begin <= datetime.fromisoformat(row["trade_time"]) < end)
        ]
        for sort in SORTS:
            pages = await _forwards(api, **asked, sort=sort, limit=40)
            rows = [row for page in pages for row in page]
            assert sorted(map(_key, rows)) == sorted(map(_key, expected)), (asked, sort)
        body = await _page(api, **asked, limit=5)
        assert (body["count"], body["count_is"]) == (len(expected), "exact"), asked


async def test_an_export_has_just_what_the_same_filter_shows(api: ApiProcess, recorder: Connection) -> None:
    await record_run(recorder, api.trader, f"{api.trader}-a", trades=200)
    asked = {"outcome": "loss", "instrument": "EURUSD", "from": "2017-04-19T12:00:00Z"}
    shown = (await _page(api, **asked, order="oldest", limit=1000))["trades"]
    lines = (await api.get("/api/export", **asked)).text.splitlines()
    assert lines[0].split(",")[:7] == list(COLUMNS[:7])
    number = COLUMNS.index("trade")
    assert [int(line.split(",")[number]) for line in lines[1:]] == [row["trade"] for row in shown]
    assert shown


async def test_trades_that_come_in_leave_a_later_page_as_it_is(api: ApiProcess, recorder: Connection) -> None:
    run = f"{api.trader}-a"
    await record_run(recorder, api.trader, run, trades=30)
    first = await _page(api, limit=10)
    second = await _page(api, limit=10, cursor=first["next"])
    columns = "time, id, trader, run_id, emitter, seq, recorded, " + ", ".join(
        name for name in TradeRow.model_fields if name not in ("run_id", "seq")
    )
    await recorder.execute(
        f"""insert into trades ({columns}) select time + interval '1 day', gen_random_uuid(), trader, run_id, emitter,
            seq + 1000, recorded, trade + 100, instrument, side, amount, entry_time, entry_price,
            trade_time + interval '1 day', exit_price, stop, target, initial_risk, pnl, outcome, r_multiple, equity,
            commission, slippage, exit_reason, strategy, streak from trades where run_id = $1 and trade > 25""",
        run,
    )
    assert (await _page(api, limit=10, cursor=first["next"]))["trades"] == second["trades"]
    back = await _page(api, limit=10, cursor=second["previous"])
    assert back["trades"] == first["trades"]
    assert back["previous"] is not None


@pytest.mark.parametrize("other", ["pnl", "instrument"])
async def test_a_cursor_of_another_order_is_refused(
    api: ApiProcess, recorder: Connection, other: str
) -> None:
    await record_run(recorder, api.trader, f"{api.trader}-a", trades=30)
    cursor = (await _page(api, limit=10))["next"]
    assert (await api.get("/api/trades", cursor=cursor, sort=other)).status_code == 422


# --- one million trades, which take a while to make ---


def _patiently(test: Any) -> Any:
    """With time to make them, and on one worker, so that they are made once."""
    return pytest.mark.xdist_group("million trades")(pytest.mark.timeout(900)(test))


@pytest.fixture(scope="module")
def large(postgres: PostgresForTests, migrated_template: str) -> Iterator[Any]:
    """A database with a million trades of one run, and a small run beside it; plans are made by its statistics."""
    name = f"test_{secrets.token_hex(6)}"
    postgres.carry_out(f"CREATE DATABASE {name} TEMPLATE {migrated_template} OWNER owner")

    async def fill() -> None:
        owner = await asyncpg.connect(postgres.dsn("owner", name), password=postgres.password("owner"))
        try:
            await record_run(owner, "main", "small", trades=500)
            await _record_trades(owner, MANY)
            await owner.execute("analyze", timeout=600)
        finally:
            await owner.close()

    run_apart(fill())
    yield postgres, name
    postgres.carry_out(f"DROP DATABASE {name} WITH (FORCE)")


async def _record_trades(owner: Connection, count: int) -> None:
    """Only trades and what is counted of them: pages need no more. Indexes are made after the rows."""
    indexes = await owner.fetch(
        "select indexname, indexdef from pg_indexes where tablename = 'trades' and indexname <> 'trades_pkey'"
    )
    await owner.execute("set maintenance_work_mem = '256MB'; alter table trades drop constraint trades_pkey")
    for index in indexes:
        await owner.execute(f"drop index {index['indexname']}")
    terms = json.dumps(recorded_runs.TERMS)
    await owner.execute(recorded_runs._RUN, "large", "main", terms, START, START, START)
    made = ("main", "large", START, timedelta(minutes=1), count, 1, START)
    await owner.execute(recorded_runs._TRADES, *made, timeout=1800)
    for statement in (
        "alter table trades add primary key (time, id)",
        *(index["indexdef"] for index in indexes),
    ):
        await owner.execute(statement, timeout=1800)
    for sums in (recorded_runs._KINDS, recorded_runs._MONTHS):
        await owner.execute(sums, "large", timeout=600)


def _rows_read(plan: dict[str, Any]) -> int:
    """The most rows that any step of a plan had in its hands, those it threw away included."""
    own = (plan["Actual Rows"] + plan.get("Rows Removed by Filter", 0)) * plan["Actual Loops"]
    return max([int(own), *(_rows_read(below) for below in plan.get("Plans", ()))])


def _steps(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield plan
    for below in plan.get("Plans", ()):
        yield from _steps(below)


@_patiently
async def test_no_page_of_a_million_trades_reads_more_than_a_few_of_each_kind(large: Any) -> None:
    postgres, name = large
    connection = await asyncpg.connect(postgres.dsn("api", name), password=postgres.password("api"))
    await connection.execute("set jit = off")
    middle = await connection.fetchrow("select * from trades where run_id = 'large' and trade = 500000")
    assert middle is not None
    filters: tuple[dict[str, Any], ...] = (
        {},
        {"outcome": "breakeven"},
        {"outcome": "loss", "instrument": "GBPUSD"},
        {"instrument": "USDJPY"},  # none of it
        {"strategy": "rsi"},
        {"start": START + timedelta(days=300)},
        {"start": START + timedelta(days=300), "end": START + timedelta(days=600)},
    )
    try:
        for run_id, sort, narrow, deep in product(("large", None), SORTS, filters, (False, True)):
            for way in WAYS:
                wanted = TradeFilter(trader="main", run_id=run_id, **narrow)
                key = _place(middle, sort, run_id) if deep else ()
                statement, values = page_statement(wanted, sort, way, key, 51)
                found = await connection.fetchval(f"explain (analyze, format json) {statement}", *values)
                plan = json.loads(found)[0]["Plan"]
                what = (run_id, sort, narrow, deep, way)
                scans = {step["Node Type"] for step in _steps(plan) if step.get("Relation Name") == "trades"}
                assert "Seq Scan" not in scans, what
                # Dates have nothing to do with results: what is beyond them is passed over, the one such case.
                passed_over = "start" in narrow and sort in ("pnl", "r_multiple")
                assert _rows_read(plan) < (MANY // 10 if passed_over else 5000), what
    finally:
        await connection.close()


def _place(row: asyncpg.Record, sort: TradeSort, run_id: str | None) -> tuple[Any, ...]:
    tie = (row["seq"],) if run_id else (row["run_id"], row["seq"])
    if sort in ("pnl", "r_multiple"):
        return (row[sort], *tie)
    return (row["trade_time"], *tie) if sort == "time" else (row[sort], row["trade_time"], *tie)


@_patiently
async def test_dates_that_leave_few_trades_are_sorted_and_counted_without_reading_the_rest(
    large: Any,
) -> None:
    postgres, name = large
    connection = await asyncpg.connect(postgres.dsn("api", name), password=postgres.password("api"))
    wanted = TradeFilter(
        trader="main", run_id="large", start=START + timedelta(days=100), end=START + timedelta(days=101)
    )
    try:
        statement, values = page_statement(wanted, "pnl", "desc", (), 51, few=True)
        found = await connection.fetchval(f"explain (analyze, format json) {statement}", *values)
        assert _rows_read(json.loads(found)[0]["Plan"]) <= 1440
    finally:
        await connection.close()


@_patiently
async def test_how_many_there_are_is_said_exactly_or_as_more_than_what_was_counted(
    large: Any,
) -> None:
    postgres, name = large
    connection = await Database(postgres, name).connect("api")
    try:
        run = TradeFilter(trader="main", run_id="large")
        assert await count(connection, run) == (MANY, True)  # type: ignore[arg-type]
        assert await count(connection, TradeFilter(trader="main")) == (MANY + 500, True)  # type: ignore[arg-type]
        day = timedelta(days=1)
        after = TradeFilter(trader="main", run_id="large", start=START + 10 * day)
        assert await count(connection, after) == (COUNTED, False)  # type: ignore[arg-type]
        within = TradeFilter(trader="main", run_id="large", start=START + 10 * day, end=START + 11 * day)
        assert await count(connection, within) == (1440, True)  # type: ignore[arg-type]
    finally:
        await connection.close()
