"""A run and its trades as they are told: who deployed it, how it ended, what was refused, a trade's whole story."""

from __future__ import annotations

import json
import re
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any, TypeAlias

import asyncpg

from tests.api_process import ApiProcess
from tests.recorded_runs import START, record_run

Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record]"


async def _record_order(
    recorder: Connection, api: ApiProcess, run: str, number: int, *life: tuple[str, dict[str, Any]]
) -> None:
    """An order's events as the recorder writes them, a second apart."""
    for place, (state, said) in enumerate(life):
        moment = START + timedelta(seconds=number * 10 + place)
        columns = {name: said.get(name) for name in ("instrument", "purpose", "side", "kind")}
        numbers = {name: Decimal(said[name]) if said.get(name) else None for name in ("amount", "price")}
        await recorder.execute(
            """insert into orders (time, id, trader, run_id, emitter, seq, recorded, order_no, state, instrument,
                                   purpose, side, kind, amount, price, detail)
            values ($1, gen_random_uuid(), $2, $3, 'trader', $4, $1, $5, $6, $7, $8, $9, $10, $11, $12, $13::jsonb)""",
            moment, api.trader, run, 1_000_000 + number * 10 + place, number, state, *columns.values(),
            *numbers.values(), json.dumps({"order": number, **said}),
        )  # fmt: skip


def _fill(trade: int, purpose: str, side: str, amount: str, price: str, hour: int) -> dict[str, Any]:
    return {
        "fill": f"f{hour}", "trade": trade, "instrument": "EURUSD", "purpose": purpose, "side": side,
        "amount": amount, "price": price, "rate": "1", "commission": "0", "slippage": "0.02",
        "filled_at": (START + timedelta(hours=hour)).isoformat(),
    }  # fmt: skip


def _intent(trade: int, purpose: str, side: str, amount: str, **more: Any) -> dict[str, Any]:
    return {
        "trade": trade, "instrument": "EURUSD", "purpose": purpose, "side": side, "kind": "market",
        "amount": amount, "price": None, "expected": "1.07430", "stop": None, "target": None, "risk": "0",
        "strategy": "donchian", "reason": "", **more,
    }  # fmt: skip


async def test_a_trades_story_has_its_own_orders_and_comes_to_what_was_booked(
    api: ApiProcess, recorder: Connection
) -> None:
    run = f"{api.trader}-a"
    await record_run(recorder, api.trader, run, trades=30)
    entry = _intent(13, "entry", "buy", "3000", stop="1.07150", risk="8.40", reason="close beyond 20 bars")
    await recorder.execute(
        "update trades set side = 'long', pnl = 12.00, outcome = 'win' where run_id = $1 and trade = 13", run
    )
    # One refused under the same number before, one of the trade after.
    reasons = [{"code": "undersized", "text": "2.00 would trade"}]
    await _record_order(
        recorder, api, run, 37, ("intended", {**entry, "amount": "0"}), ("denied", {"reasons": reasons})
    )
    await _record_order(
        recorder, api, run, 40,
        ("intended", entry), ("approved", {"step": 24, "digest": "d1g357"}),
        ("accepted", {**entry, "price": None}), ("filled", _fill(13, "entry", "buy", "3000", "1.07431", 1)),
    )  # fmt: skip
    stop = {"instrument": "EURUSD", "purpose": "stop", "side": "sell", "kind": "stop", "amount": "3000"}
    await _record_order(
        recorder, api, run, 41,
        ("accepted", {**stop, "price": "1.07150"}), ("accepted", {**stop, "price": "1.07831"}),
        ("filled", _fill(13, "stop", "sell", "3000", "1.07831", 5)),
    )  # fmt: skip
    await _record_order(recorder, api, run, 43, ("intended", _intent(14, "entry", "sell", "1000")))

    told = (await api.get(f"/api/trades/{run}/13")).json()
    assert [order["order"] for order in told["orders"]] == [40, 41]
    assert (told["reason"], told["verdict"]["digest"]) == ("close beyond 20 bars", "d1g357")
    assert (told["sizing"]["asked"], told["sizing"]["distance"]) == ("10", "0.00280")
    assert [(fill["order"], fill["worse_by"]) for fill in told["fills"]] == [(40, "0.00001"), (41, "0.00000")]
    assert (told["working"]["pnl"], told["working"]["agrees"]) == ("12.00", True)

    denied = (await api.get("/api/orders", denied="true")).json()["orders"]
    assert [order["order"] for order in denied] == [37]
    assert denied[0]["life"][-1]["detail"]["reasons"] == reasons
    assert (await api.get(f"/api/trades/{run}/31")).status_code == 404
    assert (await api.get(f"/api/trades/{run}x/13")).status_code == 404


async def test_a_run_says_who_deployed_it_what_came_of_it_and_how_it_ended(
    api: ApiProcess, recorder: Connection
) -> None:
    run = f"{api.trader}-a"
    await record_run(recorder, api.trader, run, trades=9000)  # over two months
    for seq, (phase, reason, said) in enumerate(
        (("STARTING", "deployed", {"command_id": f"c-{run}"}), ("COMPLETED", "the data is over", {})), 1
    ):
        moment = START + timedelta(days=seq)
        for table, names, values in (
            ("statuses", "phase, previous, reason, holding", (phase, "", reason, "flat")),
            ("events", "type, version, body", ("status", 1, json.dumps(said))),
        ):
            places = ", ".join(f"${place}" for place in range(6, 6 + len(values)))
            await recorder.execute(
                f"""insert into {table} (time, id, trader, run_id, emitter, seq, recorded, {names})
                values ($1, md5($5)::uuid, $2, $3, 'trader', $4, $1, {places})""",
                moment, api.trader, run, seq, f"{run}-{seq}", *values,
            )  # fmt: skip
    await recorder.execute(
        """insert into commands (stream_seq, received, trader, verb, command_id, body)
        values (1, now(), $1, 'deploy', $2, '{"by": "ann"}')""",
        api.trader,
        f"c-{run}",
    )
    [row] = (await api.get("/api/runs")).json()["runs"]
    assert (row["deployed_by"], row["end_reason"], row["max_drawdown"]) == ("ann", "the data is over", "60")
    found = (await api.get(f"/api/runs/{run}")).json()
    assert found["run"] == row
    assert [step["phase"] for step in found["phases"]] == ["STARTING", "COMPLETED"]
    metrics = (await api.get("/api/metrics")).json()["statistics"]
    assert found["statistics"] == metrics
    months = found["months"]
    assert [month["month"] for month in months] == sorted({month["month"] for month in months})
    assert len(months) > 2
    assert sum(month["trades"] for month in months) == 9000
    assert sum(Decimal(month["pnl"]) for month in months) == Decimal(metrics["pnl"])

    report = await api.get(f"/api/runs/{run}/report")
    assert report.headers["content-type"] == "text/html; charset=utf-8"
    assert "default-src 'none'" in report.headers["content-security-policy"]
    assert "ann" in report.text
    assert re.findall(r'<svg class="plot"', report.text) == ['<svg class="plot"'] * 2
    assert len(re.findall(r"<th scope=\"row\">\d{4}-\d\d</th>", report.text)) == len(months)


async def test_a_trades_dates_are_those_of_the_runs_clock(api: ApiProcess, recorder: Connection) -> None:
    run = f"{api.trader}-a"
    await record_run(recorder, api.trader, run, trades=3)
    told = (await api.get(f"/api/trades/{run}/2")).json()["trade"]
    assert datetime.fromisoformat(told["trade_time"]) == START + timedelta(minutes=20)
