"""Every dashboard on the record of a real paper run, asked as Grafana asks, under the role it asks under.

A whole desk replays its sample prices to their end. What a panel then shows must be drawable and be what the API
says.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, TypeAlias
from urllib.parse import parse_qs, urlsplit

import asyncpg
import httpx
import pytest

from services.launcher.data_dir import DataDir
from services.shared.database_roles import DATABASE, database_secret
from tests.desk_process import DeskProcess, desk
from tests.grafana_panels import Asked, Shown, answer, boards, opened_on, queries, wrong
from tests.recorded_runs import START

Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record]"

BOARDS = boards()
TRADING = BOARDS["trading.json"]
ENDED = {"Open position", "Time left"}
"""Panels that have nothing to say of a run that is over."""


@dataclass(frozen=True, slots=True)
class Recorded:
    """A desk whose run is over and recorded, and that run's dashboard as the API gives it."""

    process: DeskProcess
    url: str
    passwords: dict[str, str]
    page: dict[str, Any]
    shown: Shown

    async def connect(self, role: str) -> Connection:
        """A connection to its database; the caller closes it."""
        return await asyncpg.connect(self.url.format(role), password=self.passwords[role])


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Recorded]:
    with desk(tmp_path_factory.mktemp("grafana") / "desk", "--speed", "0") as process:
        info = process.info()
        key = {"Authorization": f"Bearer {info['token']}"}
        with httpx.Client(base_url=info["api_url"], headers=key, timeout=120) as api:
            assert (
                api.post("/api/deploy", json={"strategy": "donchian"}, params={"wait": 30}).status_code == 200
            )
            run = process.until_finished(240)["run_id"]
            assert api.get("/api/export", params={"wait": 60}).headers["x-desk-complete"] == "true"
            page = api.get("/api/dashboard").json()
        data = DataDir(process.folder)
        passwords = {
            role: data.secret(database_secret(role)).read_text().strip() for role in ("grafana", "owner")
        }
        start, end = (datetime.fromisoformat(page["chart"]["times"][place]) for place in (0, -1))
        shown = Shown(start - timedelta(hours=1), end + timedelta(hours=1), {"trader": "main", "run": run})
        port = json.loads((process.folder / "desk.json").read_text())["postgres_port"]
        yield Recorded(process, f"postgresql://{{}}@127.0.0.1:{port}/{DATABASE}", passwords, page, shown)


@pytest.fixture
async def grafana(recorded: Recorded) -> AsyncIterator[Connection]:
    connection = await recorded.connect("grafana")
    yield connection
    await connection.close()


def _asked(title: str, ref: str = "A") -> Asked:
    return next(each for each in queries(TRADING) if each.panel.startswith(title) and each.ref == ref)


@pytest.mark.parametrize("timescale", [True, False])
async def test_every_panel_of_trading_answers_with_what_can_be_drawn(
    recorded: Recorded, grafana: Connection, timescale: bool
) -> None:
    shown = await opened_on(grafana, TRADING, recorded.shown)
    for asked in queries(TRADING):
        rows = await answer(grafana, asked, shown, timescale=timescale)
        assert bool(rows) == (asked.panel not in {"Open position"}), asked.name
        assert wrong(asked, rows) is None, asked.name
        if asked.panel not in ENDED:
            assert any(value is not None for row in rows for value in row.values()), asked.name


async def test_the_figures_are_the_apis(recorded: Recorded, grafana: Connection) -> None:
    shown = await opened_on(grafana, TRADING, recorded.shown)
    told, mark = recorded.page["statistics"], recorded.page["equity"]
    for title, expected in (
        ("Equity,", mark["equity"]),
        ("Drawdown,", mark["drawdown"]),
        ("PnL, ", told["pnl"]),
        ("Win rate", told["win_rate"]),
        ("Profit factor", told["profit_factor"]),
        ("Expectancy", told["expectancy_r"]),
    ):
        (row,) = await answer(grafana, _asked(title), shown)
        assert row[0] == pytest.approx(float(expected), rel=1e-9), title
    (phase,) = await answer(grafana, _asked("Phase"), shown)
    assert phase["phase"] == recorded.page["status"]["phase"] == "COMPLETED"
    (left,) = await answer(grafana, _asked("Time left"), shown)
    assert left["time_left"] is None


async def test_the_curves_end_where_the_account_stands_and_lose_no_drawdown(
    recorded: Recorded, grafana: Connection
) -> None:
    shown = await opened_on(grafana, TRADING, recorded.shown)
    equity, drawdown = [each for each in queries(TRADING) if each.format == "time_series"][:2]
    assert (equity.panel, drawdown.panel) == ("Equity, $currency", "Drawdown, $currency")
    curve = await answer(grafana, equity, shown)
    assert 100 < len(curve) <= 700
    assert curve[-1]["Equity"] == float(recorded.page["equity"]["equity"])
    deepest = await answer(grafana, drawdown, shown)
    assert len(deepest) == len(curve)
    assert min(row["Drawdown"] for row in deepest) == -float(recorded.page["equity"]["max_drawdown"])
    assert max(row["Drawdown"] for row in deepest) <= 0
    # Nearer, from a few marks to days: what is there comes from another level, and says the same.
    last = recorded.shown.end - timedelta(hours=1)
    for days in (1, 20, 200):
        near = Shown(last - timedelta(days=days), last, shown.variables)
        rows = await answer(grafana, equity, near)
        assert rows[-1]["Equity"] == curve[-1]["Equity"], days
        below = (await answer(grafana, drawdown, near))[-1]["Drawdown"]
        assert -below >= float(recorded.page["equity"]["drawdown"]) - 0.005, days


async def test_sums_by_day_by_strategy_and_by_multiple_of_risk_are_of_the_same_trades(
    recorded: Recorded, grafana: Connection
) -> None:
    shown = await opened_on(grafana, TRADING, recorded.shown)
    told = recorded.page["statistics"]
    for title in ("PnL by day", "PnL by strategy"):
        rows = await answer(grafana, _asked(title), shown)
        assert sum(row["PnL"] for row in rows) == pytest.approx(float(told["pnl"])), title
    spread = await answer(grafana, _asked("Distribution"), shown)
    assert sum((row["Losses"] or 0) + (row["Wins and even"] or 0) for row in spread) == told["trades"]
    assert sum(row["Losses"] or 0 for row in spread) == told["losses"]


async def test_trades_stand_in_the_table_and_on_the_price(recorded: Recorded, grafana: Connection) -> None:
    shown = await opened_on(grafana, TRADING, recorded.shown)
    rows = await answer(grafana, _asked("Trades"), shown)
    assert [row["trade"] for row in rows[:20]] == [trade["trade"] for trade in recorded.page["trades"]]
    for row, trade in zip(rows, recorded.page["trades"], strict=False):
        assert row["pnl"] == float(trade["pnl"])
        assert row["closed"] == datetime.fromisoformat(trade["trade_time"])
    price = await answer(grafana, _asked("$instrument"), shown)
    assert 300 < len(price) <= 700
    marked = [row for ref in "BCDE" for row in await answer(grafana, _asked("$instrument", ref), shown)]
    assert len(marked) == 2 * min(recorded.page["statistics"]["trades"], 500)
    low, high = (found(row[1] for row in price) for found in (min, max))
    assert all(low * 0.98 < row[1] < high * 1.02 for row in marked)


async def test_each_run_leads_to_itself_in_its_own_range(recorded: Recorded, grafana: Connection) -> None:
    (row,) = await answer(
        grafana, _asked("Runs"), Shown(START, START + timedelta(hours=1), {"trader": "main", "run": ""})
    )
    assert (row["run"], row["trader"]) == (recorded.shown.variables["run"], "main")
    start, end = (datetime.fromtimestamp(int(row[name]) / 1000, UTC) for name in ("from_ms", "to_ms"))
    first, last = (datetime.fromisoformat(recorded.page["chart"]["times"][place]) for place in (0, -1))
    assert start <= first <= start + timedelta(hours=2)
    assert end - timedelta(hours=2) <= last <= end
    assert row["expectancy_r"] == pytest.approx(recorded.page["statistics"]["expectancy_r"])


async def test_a_trade_that_is_not_closed_is_an_open_position(recorded: Recorded) -> None:
    owner = await recorded.connect("owner")
    try:
        transaction = owner.transaction()
        await transaction.start()
        last = recorded.page["trades"][0]
        await owner.execute(
            "DELETE FROM trades WHERE run_id = $1 AND trade = $2", last["run_id"], last["trade"]
        )
        await owner.execute("DELETE FROM orders WHERE run_id = $1 AND state = 'filled'", last["run_id"])
        shown = await opened_on(owner, TRADING, recorded.shown)
        (row,) = await answer(owner, _asked("Open position"), shown)
        assert (row["instrument"], row["side"]) == (last["instrument"], last["side"])
        assert (row["amount"], row["entry"]) == (float(last["amount"]), float(last["entry_price"]))
        assert row["price"] is not None
        await transaction.rollback()
    finally:
        await owner.close()


async def test_the_dashboards_address_leads_to_the_run_that_was_last(recorded: Recorded) -> None:
    info = recorded.process.info()
    async with httpx.AsyncClient(base_url=info["api_url"]) as browser:
        outside = await browser.get("/dashboard")
        assert (outside.status_code, outside.headers["location"]) == (303, "/login?next=/dashboard")
        await browser.post("/login", data={"token": info["token"]}, headers={"Origin": info["api_url"]})
        to = (await browser.get("/dashboard")).headers["location"]
    asked = {name: values[0] for name, values in parse_qs(urlsplit(to).query).items()}
    assert urlsplit(to).path == "/grafana/d/desk-trading"
    assert (asked["var-trader"], asked["var-run"]) == ("main", recorded.shown.variables["run"])
    start, end = (datetime.fromtimestamp(int(asked[name]) / 1000, UTC) for name in ("from", "to"))
    assert recorded.shown.start <= start < recorded.shown.start + timedelta(hours=2)
    assert recorded.shown.end - timedelta(hours=2) < end <= recorded.shown.end
