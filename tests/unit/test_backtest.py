"""The backtest: the same run every time, its guard and its costs in force, and what it writes."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from decimal import Decimal
from pathlib import Path
from xml.etree import ElementTree

import pytest
from typer.testing import CliRunner, Result

from services.launcher.backtest import Curve, plan_backtest, run_backtest
from services.launcher.backtest_command import read_limits
from services.launcher.backtest_report import thinned
from services.launcher.cli import build
from services.shared.commands import Costs, Deploy
from services.shared.errors import InvalidInput
from services.shared.limits import DEFAULTS, parse
from services.shared.trades_file import HEADER
from services.trader.feeds.replay import sample_path

BARS = 1500
TIGHT = {"stop_atr": "0.5", "target_r": "1", "trail_atr": "0"}


@pytest.fixture(scope="module")
def prices(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("prices") / "EURUSD.csv"
    lines = sample_path().read_text().splitlines(keepends=True)
    path.write_text("".join(lines[: BARS + 1]))
    return path


def desk(*words: str) -> Result:
    return CliRunner().invoke(build("backtest"), ["backtest", *words])


def test_the_trades_and_adjustments_are_the_change_in_balance(prices: Path) -> None:
    result = run_backtest(plan_backtest(Deploy(), str(prices)))
    trades = result.ledger.trades
    assert len(trades) == result.statistics.trades > 10
    assert trades[-1].equity == 10_000 + sum(trade.pnl for trade in trades)
    assert result.statistics.equity == trades[-1].equity
    assert result.ledger.phase == "COMPLETED"


def test_the_same_backtest_writes_the_same_bytes(prices: Path, tmp_path: Path) -> None:
    first, second = tmp_path / "1.csv", tmp_path / "2.csv"
    for out in (first, second):
        assert desk("--data", str(prices), "--trades", str(out), "--json").exit_code == 0
    assert first.read_bytes() == second.read_bytes()
    assert first.read_text().startswith(HEADER)
    assert b"\r" not in first.read_bytes()


def test_a_bar_with_stop_and_target_is_counted_and_shown_with_the_target_first_beside_it(
    prices: Path,
) -> None:
    result = run_backtest(plan_backtest(Deploy(parameters=TIGHT), str(prices)))
    assert result.ambiguous > 10
    assert result.target_first is not None
    assert result.target_first.pnl > result.statistics.pnl


def test_the_sample_has_89_ambiguous_bars_with_stops_of_half_an_atr_and_targets_of_1_r() -> None:
    assert run_backtest(plan_backtest(Deploy(parameters=TIGHT), "")).ambiguous == 89


def test_spread_and_slippage_cost_money(prices: Path) -> None:
    results = [
        run_backtest(
            plan_backtest(Deploy(costs=Costs(spread=Decimal(spread), slippage=Decimal(slip))), str(prices))
        )
        for spread, slip in ((0, 0), (1, 0), (1, 1))
    ]
    free, spread, both = (result.statistics.expectancy_r or 0 for result in results)
    assert free > spread > both


def test_the_guard_halts_a_backtest_at_its_drawdown(prices: Path) -> None:
    limits = parse({"drawdown": "30"})
    result = run_backtest(plan_backtest(Deploy(), str(prices)), limits)
    assert result.ledger.phase == "HALTED"
    assert [change.action for _, change in result.ledger.interventions] == ["halt"]
    before = run_backtest(plan_backtest(Deploy(), str(prices)))
    count = len(result.ledger.trades)
    assert 0 < count < len(before.ledger.trades)
    assert result.ledger.trades[: count - 1] == before.ledger.trades[: count - 1]


def test_the_guard_denies_orders_in_a_backtest(prices: Path) -> None:
    result = run_backtest(plan_backtest(Deploy(), str(prices)), parse({"trade_risk": "1"}))
    assert result.statistics.trades == 0
    assert set(result.ledger.denied) == {"trade_risk"}


def test_hours_end_a_backtest_before_its_data(prices: Path) -> None:
    result = run_backtest(plan_backtest(Deploy(hours=Decimal(100)), str(prices)))
    assert result.ledger.phase == "COMPLETED"
    assert len(result.ledger.curve.times) <= 102


def test_json_has_the_statistics_the_costs_and_what_was_found_in_the_file(prices: Path) -> None:
    found = json.loads(desk("--data", str(prices), "--json", "--set", "period=30").stdout)
    assert found["parameters"]["period"] == "30"
    assert found["costs"]["spread_pips"] == "1.0"
    assert found["feed"][0]["rows"] == BARS
    assert isinstance(found["statistics"]["pnl"], str)
    assert found["phase"] == "COMPLETED"
    assert found["limits"] == DEFAULTS.as_text()


def test_costs_and_assumptions_are_printed_before_any_result(prices: Path) -> None:
    shown = desk("--data", str(prices)).stdout
    assert shown.index("slippage 0.2 pips") < shown.index("Result: COMPLETED")
    assert "Profit factor" in shown


def test_the_report_is_a_picture_and_a_page_that_asks_for_nothing(prices: Path, tmp_path: Path) -> None:
    folder = tmp_path / "report"
    assert desk("--data", str(prices), "--report", str(folder), "--json").exit_code == 0
    assert (folder / "equity.png").read_bytes().startswith(b"\x89PNG")
    page = (folder / "report.html").read_text()
    assert "default-src 'none'" in page
    assert not re.search(r"https?:|src=|@import|url\(|<script|<link", page)
    assert "prefers-color-scheme:dark" in page
    drawing = ElementTree.fromstring(page[page.index("<svg") : page.index("</svg>") + 6])
    line = next(part for part in drawing.iter("polyline"))
    points = [tuple(map(float, point.split(","))) for point in line.attrib["points"].split()]
    assert all(0 <= x <= 960 and 0 <= y <= 300 for x, y in points)
    assert [x for x, _ in points] == sorted(x for x, _ in points)


@pytest.mark.parametrize(("name", "written"), [("a.png", "picture"), ("a.html", "page")])
def test_a_report_may_be_one_file(prices: Path, tmp_path: Path, name: str, written: str) -> None:
    found = json.loads(desk("--data", str(prices), "--report", str(tmp_path / name), "--json").stdout)
    assert found["written"] == {written: str(tmp_path / name)}
    assert (tmp_path / name).stat().st_size > 1000


def test_a_thinned_curve_keeps_its_peaks_and_troughs() -> None:
    curve = Curve()
    for n in range(50_000):
        curve.times.append(n)
        curve.equity.append(10_000 + (5000 if n == 31_415 else -5000 if n == 27_182 else n % 7))
        curve.drawdown.append(9000 if n == 27_182 else 0)
    times, equity, drawdown = thinned(curve, 1000)
    assert len(times) <= 1500
    assert (max(equity), min(equity), max(drawdown)) == (15_000, 5000, 9000)
    assert (times[0], times[-1]) == (0, 49_999)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("limits.json", '{"drawdown": 2500, "losing_streak": 4, "daily_loss": null}'),
        ("limits.toml", 'drawdown = 2500\nlosing_streak = 4\ndaily_loss = "off"\n'),
        ("limits.json", '{"limits": {"drawdown": "2500", "losing_streak": "4", "daily_loss": "off"}}'),
    ],
)
def test_limits_are_read_from_json_and_toml(tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / name).write_text(text)
    limits = read_limits(tmp_path / name)
    assert (limits.drawdown, limits.losing_streak, limits.daily_loss) == (Decimal(2500), 4, None)
    assert limits.positions == DEFAULTS.positions


@pytest.mark.parametrize(
    "text", ["[1]", "{", '{"drawdown": {"a": 1}}', '{"nonsense": 1}', '{"drawdown": -1}']
)
def test_a_limits_file_that_cannot_be_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "limits.json").write_text(text)
    with pytest.raises(InvalidInput):
        read_limits(tmp_path / "limits.json")


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["--data", "nowhere.csv"], "cannot be read"),
        (["--strategy", "nonsense"], "expected one of"),
        (["--strategy", "nowhere.py:Mine"], "there is no file nowhere.py"),
        (["--set", "period=1"], "period"),
        (["--instrument", "GBPUSD"], "the packaged sample has EURUSD only"),
        (["--currency", "CHF"], "--rates CHFUSD="),
        (["--bar", "7m"], "a divisor of a day"),
    ],
)
def test_what_cannot_be_run_is_refused_with_what_to_change(words: Sequence[str], complaint: str) -> None:
    found = desk(*words)
    assert isinstance(found.exception, InvalidInput)
    assert complaint in str(found.exception)
