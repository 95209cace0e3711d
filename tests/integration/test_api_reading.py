"""What the API shows is what was recorded: pages that hold still, a bounded chart, one dashboard."""

from __future__ import annotations

from datetime import datetime, timedelta
from decimal import Decimal
from types import SimpleNamespace
from typing import Any, TypeAlias

import asyncpg
import pytest

from services.shared.statistics import Totals, summarise
from tests.api_process import ApiProcess
from tests.recorded_runs import START, record_run
from tests.scripted_trader import ScriptedTrader

Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record]"


async def _pages(api: ApiProcess, path: str, name: str, **parameters: Any) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    cursor: dict[str, str] = {}
    while True:
        answer = await api.get(path, **parameters, **cursor)
        assert answer.status_code == 200, answer.text
        body = answer.json()
        rows += body[name]
        if body["next"] is None:
            return rows
        cursor = {"cursor": body["next"]}


async def test_a_desk_never_deployed_answers_every_question(api: ApiProcess) -> None:
    status = (await api.get("/api/status")).json()
    assert (status["deployment_status"], status["run_id"]) == ("NOT_DEPLOYED", None)
    dashboard = (await api.get("/api/dashboard")).json()
    assert (dashboard["statistics"], dashboard["trades"], dashboard["run_id"]) == (None, [], None)
    assert (await api.get("/api/chart-data")).json()["times"] == []
    for path in ("trades", "alerts", "orders", "positions", "runs", "metrics", "risk"):
        assert (await api.get(f"/api/{path}")).status_code == 200
    export = await api.get("/api/export")
    assert (export.text.count("\n"), export.headers["x-desk-complete"]) == (1, "true")


async def test_pages_of_trades_give_every_trade_once_in_order(api: ApiProcess, recorder: Connection) -> None:
    run = f"{api.trader}-a"
    await record_run(recorder, api.trader, run, trades=57)
    newest = await _pages(api, "/api/trades", "trades", limit=10)
    assert [row["trade"] for row in newest] == list(range(57, 0, -1))
    oldest = await _pages(api, "/api/trades", "trades", limit=10, order="oldest")
    assert oldest == newest[::-1]
    row = oldest[0]
    assert (row["pnl"], row["entry_price"], row["stop"], row["trade_time"]) == (
        "-9.00",
        "1.07431",
        "1.07",
        "2017-04-19T09:10:00Z",
    )


async def test_trades_of_all_runs_come_in_order_of_time_even_where_times_repeat(
    api: ApiProcess, recorder: Connection
) -> None:
    runs = [f"{api.trader}-{name}" for name in "ab"]
    for run in runs:  # the same data replayed twice: every time comes twice
        await record_run(recorder, api.trader, run, trades=20)
    rows = await _pages(api, "/api/trades", "trades", limit=7, all="true")
    assert {(row["run_id"], row["trade"]) for row in rows} == {(run, k) for run in runs for k in range(1, 21)}
    assert len(rows) == 40
    times = [row["trade_time"] for row in rows]
    assert times == sorted(times, reverse=True)


async def test_filters_narrow_trades_down(api: ApiProcess, recorder: Connection) -> None:
    await record_run(recorder, api.trader, f"{api.trader}-a", trades=100)
    everything = await _pages(api, "/api/trades", "trades")
    wins = await _pages(api, "/api/trades", "trades", outcome="win", limit=9)
    assert wins == [row for row in everything if row["outcome"] == "win"]
    pounds = await _pages(api, "/api/trades", "trades", instrument="GBPUSD")
    assert pounds == [row for row in everything if row["instrument"] == "GBPUSD"]
    begin, end = "2017-04-19T12:00:00Z", "2017-04-19T15:00:00+00:00"
    some = await api.get("/api/trades", **{"from": begin, "to": end})
    assert [row["trade_time"] for row in some.json()["trades"]] == [
        row["trade_time"] for row in everything if begin <= row["trade_time"] < "2017-04-19T15:00:00Z"
    ]
    assert (await api.get("/api/trades", strategy="rsi")).json()["trades"] == []


@pytest.mark.parametrize("cursor", ["x", "WyJ4Il0", "WzFd", "bnVsbA", "W251bGxd", "-" * 300])
async def test_a_cursor_of_somebody_elses_making_is_refused(
    api: ApiProcess, recorder: Connection, cursor: str
) -> None:
    await record_run(recorder, api.trader, f"{api.trader}-a", trades=3)
    answer = await api.get("/api/trades", cursor=cursor, all="true")
    assert answer.status_code == 422


async def test_another_traders_run_is_not_shown(api: ApiProcess, recorder: Connection) -> None:
    await record_run(recorder, f"{api.trader}x", f"{api.trader}x-a", trades=3)
    for path in ("trades", "chart-data", "metrics", "orders", "positions", "dashboard", "export"):
        answer = await api.get(f"/api/{path}", run_id=f"{api.trader}x-a")
        assert answer.status_code == 404, path


async def test_a_parameter_nobody_knows_is_refused(api: ApiProcess) -> None:
    assert (await api.get("/api/trades", run="mistyped")).status_code == 422
    assert (await api.get("/api/health")).status_code == 422
    assert (await api.client.get("/api/health")).status_code == 200
    assert (await api.client.get("/api/trades?limit=1&limit=2")).status_code == 422


@pytest.mark.parametrize(("trades", "points"), [(30, 1000), (300, 100), (300, 20), (600, 5000), (2000, 200)])
async def test_a_chart_is_bounded_and_keeps_ends_peak_and_trough(
    api: ApiProcess, recorder: Connection, trades: int, points: int
) -> None:
    run = f"{api.trader}-a"
    await record_run(recorder, api.trader, run, trades=trades)
    chart = (await api.get("/api/chart-data", points=points)).json()
    marks = await recorder.fetch(
        "select time, equity, drawdown from equity where run_id = $1 order by seq", run
    )
    equities = [float(mark["equity"]) for mark in marks]
    assert len(chart["times"]) == len(chart["equities"]) == len(chart["drawdowns"]) <= points
    assert chart["times"] == sorted(chart["times"])
    assert (chart["equities"][0], chart["equities"][-1]) == (equities[0], equities[-1])
    assert (max(chart["equities"]), min(chart["equities"])) == (max(equities), min(equities))
    assert max(chart["drawdowns"]) == max(float(mark["drawdown"]) for mark in marks)
    ends = [datetime.fromisoformat(chart["times"][place]) for place in (0, -1)]
    assert ends == [marks[0]["time"], marks[-1]["time"]]
    assert chart["meta"]["complete"] == (len(marks) <= points)


async def test_a_chart_of_a_stretch_begins_and_ends_there(api: ApiProcess, recorder: Connection) -> None:
    await record_run(recorder, api.trader, f"{api.trader}-a", trades=2000)
    begin, end = START + timedelta(hours=30), START + timedelta(hours=200)
    chart = (
        await api.get("/api/chart-data", points=60, **{"from": begin.isoformat(), "to": end.isoformat()})
    ).json()
    times = [datetime.fromisoformat(moment) for moment in chart["times"]]
    assert begin <= times[0] < times[-1] < end
    assert len(times) <= 60


async def test_the_dashboard_has_everything_by_the_one_definition(
    api: ApiProcess, recorder: Connection
) -> None:
    run = f"{api.trader}-a"
    await record_run(recorder, api.trader, run, trades=4000)
    body = (await api.get("/api/dashboard")).json()
    trades = await recorder.fetch("select * from trades where run_id = $1 order by seq", run)
    days = await recorder.fetch("select last_equity from equity_day where run_id = $1 order by bucket", run)
    last = await recorder.fetchrow("select * from equity where run_id = $1 order by seq desc limit 1", run)
    assert last is not None
    totals = Totals()
    for trade in trades:
        totals.add(SimpleNamespace(**dict(trade)))  # type: ignore[arg-type]
    expected = summarise(
        totals,
        opening_balance=Decimal(10000),
        daily_equity=[day["last_equity"] for day in days],
        equity=last["equity"],
        peak=last["peak"],
        drawdown=last["drawdown"],
        max_drawdown=last["max_drawdown"],
        streak=trades[-1]["streak"],
        span=last["time"] - START - timedelta(minutes=1),
    ).model_dump(mode="json")
    assert expected["sharpe"] is not None
    for name, value in expected.items():
        assert body["statistics"][name] == (pytest.approx(value) if isinstance(value, float) else value), name
    assert body["equity"]["equity"] == str(last["equity"])
    assert body["today"]["pnl"] == str(last["equity"] - days[-2]["last_equity"])
    assert [row["trade"] for row in body["trades"]] == list(range(4000, 3980, -1))
    assert body["chart"]["equities"][-1] == float(last["equity"])
    assert (await api.get("/api/metrics")).json()["statistics"] == body["statistics"]


async def test_a_dashboard_polled_again_shows_what_was_recorded_since(
    api: ApiProcess, recorder: Connection
) -> None:
    run = f"{api.trader}-a"
    await record_run(recorder, api.trader, run, trades=50)
    before = (await api.get("/api/dashboard")).json()
    await recorder.execute(
        "update run_totals set trades = trades + 1, trader_events = trader_events + 1 where run_id = $1", run
    )
    after = (await api.get("/api/dashboard")).json()
    assert after["statistics"]["trades"] == before["statistics"]["trades"] + 1


async def test_positions_are_openings_without_a_close(api: ApiProcess, recorder: Connection) -> None:
    run = f"{api.trader}-a"
    await record_run(recorder, api.trader, run, trades=40)
    assert (await api.get("/api/positions")).json()["positions"] == []
    await recorder.execute("set role none")
    opened = await recorder.fetchrow("select * from trades where run_id = $1 order by seq desc limit 1", run)
    assert opened is not None
    await recorder.execute(
        """insert into events (time, id, trader, run_id, emitter, seq, recorded, type, version, body)
        select time, gen_random_uuid(), trader, run_id, emitter, seq + 100, recorded, type, version,
               body || '{"trade": 41, "order": 90, "amount": "1000"}'::jsonb
        from events where run_id = $1 and type = 'trade.opened' order by seq desc limit 1""",
        run,
    )
    await recorder.execute(
        """insert into orders (time, id, trader, run_id, emitter, seq, recorded, order_no, state, detail)
        values (now(), gen_random_uuid(), $1, $2, 'trader', 9999, now(), 92, 'filled',
                '{"trade": 41, "purpose": "exit", "amount": "400"}')""",
        api.trader,
        run,
    )
    body = (await api.get("/api/positions")).json()
    assert [(row["trade"], row["amount"], row["open_amount"]) for row in body["positions"]] == [
        (41, "1000", "600")
    ]


async def test_orders_come_with_their_lives_newest_first(api: ApiProcess, recorder: Connection) -> None:
    run = f"{api.trader}-a"
    await record_run(recorder, api.trader, run, trades=1)
    for number in range(1, 8):
        for place, state in enumerate(("intended", "approved", "filled")):
            await recorder.execute(
                """insert into orders (time, id, trader, run_id, emitter, seq, recorded, order_no, state, instrument,
                                       amount, detail)
                values ($3, gen_random_uuid(), $1, $2, 'trader', $4, $3::timestamptz, $5, $6, $7, 1000,
                        '{"risk": "10.00"}')""",
                api.trader,
                run,
                START + timedelta(seconds=number * 10 + place),
                number * 10 + place,
                number,
                state,
                "EURUSD" if state == "intended" else None,
            )
    rows = await _pages(api, "/api/orders", "orders", limit=3)
    assert [row["order"] for row in rows] == [7, 6, 5, 4, 3, 2, 1]
    assert all([step["state"] for step in row["life"]] == ["intended", "approved", "filled"] for row in rows)
    assert {(row["state"], row["instrument"]) for row in rows} == {("filled", "EURUSD")}
    assert [row["order"] for row in await _pages(api, "/api/orders", "orders", order=4)] == [4]


async def test_alerts_come_newest_first_by_the_walls_clock(api: ApiProcess, recorder: Connection) -> None:
    for number in range(25):
        await recorder.execute(
            """insert into alerts (time, id, trader, run_id, emitter, seq, recorded, severity, code, text, action)
            values ($2, gen_random_uuid(), $1, 'r', 'guard', $3, $4, $5, 'c', $6, 'none')""",
            api.trader,
            START - timedelta(days=number),  # a replay's clock may run anywhere
            number,
            START + timedelta(seconds=number // 2),
            "CRITICAL" if number % 5 == 0 else "INFO",
            f"alert {number}",
        )
    rows = await _pages(api, "/api/alerts", "alerts", limit=4)
    assert len({row["text"] for row in rows}) == len(rows) == 25
    assert [row["recorded"] for row in rows] == sorted((row["recorded"] for row in rows), reverse=True)
    critical = await _pages(api, "/api/alerts", "alerts", severity="CRITICAL")
    assert {row["text"] for row in critical} == {f"alert {number}" for number in range(0, 25, 5)}


async def test_runs_come_newest_first_with_their_results(api: ApiProcess, recorder: Connection) -> None:
    for number in range(5):
        await record_run(
            recorder,
            api.trader,
            f"{api.trader}-{number}",
            trades=number + 1,
            recorded=START + timedelta(days=number),
        )
    rows = await _pages(api, "/api/runs", "runs", limit=2)
    assert [(row["run_id"], row["trades"]) for row in rows] == [
        (f"{api.trader}-{n}", n + 1) for n in range(4, -1, -1)
    ]
    assert rows[0]["terms"]["currency"] == "USD"
    last = (await api.get("/api/trades")).json()
    assert last["run_id"] == f"{api.trader}-4"


async def test_the_last_deployment_is_the_one_the_trader_names(
    api: ApiProcess, recorder: Connection, connect: Any
) -> None:
    for name in "ab":
        await record_run(recorder, api.trader, f"{api.trader}-{name}", trades=3)
    trader = ScriptedTrader(await connect("trader"), api.trader)
    await trader.write_deployment(run_id=f"{api.trader}-a", phase="HALTED", holding="flat")
    body = (await api.get("/api/dashboard")).json()
    assert (body["run_id"], body["status"]["halted"]) == (f"{api.trader}-a", True)
    assert (await api.get("/api/trades")).json()["run_id"] == f"{api.trader}-a"
    assert (await api.get("/api/risk")).json()["halted"] is True
