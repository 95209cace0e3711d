"""A run's report and pictures: complete in themselves, nothing loaded, nothing run, in round numbers."""

from __future__ import annotations

import re
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any
from xml.etree import ElementTree

import pytest

from services.api.answers.runs import MonthRow, PhaseStep, RunAnswer, RunRow
from services.api.run_drawing import Curve, Line, draw, ticks
from services.api.run_report import ending, report, settings
from services.shared.statistics import Statistics, Totals, summarise

NOW = datetime(2026, 11, 22, 20, tzinfo=UTC)
TERMS: dict[str, Any] = {
    "strategy": "donchian", "parameters": {"period": "20"}, "instruments": ["EURUSD"], "currency": "USD",
    "balance": "10000", "risk_per_trade": "10", "mode": "lockstep", "broker": "paper", "feed": "replay:x.csv",
    "bar_seconds": 3600, "weekend": "flat", "costs": {"spread_pips": "1.0", "slippage_pips": "0.2"},
}  # fmt: skip
CURVE = Curve([0.0, 86_400.0, 172_800.0], [10_000.0, 10_050.0, 9_980.0], [0.0, 0.0, 70.0], 10_000.0, 10.0)


def _run(**changes: Any) -> RunRow:
    known: dict[str, Any] = {
        "run_id": "run-1", "trader": "main", "phase": "COMPLETED", "started": NOW, "recorded_started": NOW,
        "ended": NOW, "terms": TERMS, "trades": 2, "wins": 1, "pnl": Decimal("-20"), "r_sum": Decimal("-2"),
        "max_drawdown": Decimal("70"), "deployed_by": "ann", "end_reason": "the data is over",
    }  # fmt: skip
    return RunRow(**{**known, **changes})


def _answer(**changes: Any) -> RunAnswer:
    return RunAnswer(
        run=_run(**changes),
        statistics=summarise(Totals(trades=2, wins=1, losses=1), opening_balance=Decimal(10_000)),
        months=[
            MonthRow(month=date(2026, 11, 1), trades=2, wins=1, losses=1, pnl=Decimal(-20), r_sum=Decimal(-2))
        ],
        phases=[PhaseStep(phase="COMPLETED", reason="the data is over", time=NOW, recorded=NOW)],
    )


def test_costs_and_assumptions_come_before_any_result() -> None:
    page = report(_answer(), CURVE)
    heads = re.findall(r"<h2>(.*?)</h2>", page)
    assert heads == ["Costs and assumptions", "Result", "Equity", "Trades by month", "How it went"]
    assert page.index("1.0 pips") < page.index("Profit factor")


def test_a_report_needs_nothing_else_and_runs_nothing() -> None:
    page = report(_answer(), CURVE)
    assert "<script" not in page
    assert not re.search(r"\b(src|href|url)\s*[=(]", page)
    assert not re.search(r"\bon\w+=", page)
    assert "prefers-color-scheme:dark" in page
    assert "@media print" in page


def test_every_statistic_is_in_the_report_with_its_definition() -> None:
    page = report(_answer(), CURVE)
    table = page.split("How it is worked out")[1].split("</table>")[0]
    assert table.count("<tr>") == len(Statistics.model_fields)


def test_what_was_given_by_people_is_no_markup() -> None:
    evil = "<svg onload=alert(1)>"
    terms = {**TERMS, "strategy": evil, "feed": evil, "parameters": {evil: evil}, "costs": {evil: evil}}
    page = report(_answer(terms=terms, end_reason=evil, deployed_by=evil), CURVE)
    assert "<svg onload" not in page


def test_a_run_of_which_little_is_known_has_a_report_all_the_same() -> None:
    answer = RunAnswer(run=_run(terms=None, phase="STARTING"), statistics=None, months=[], phases=[])
    page = report(answer, Curve([], [], [], None, None))
    assert "No figures are recorded" in page
    assert "No equity is recorded" in page


def test_an_ending_says_how_and_why() -> None:
    assert ending(_run()) == "completed: the data is over"
    assert ending(_run(phase="HALTED", end_reason="drawdown")) == "halted: drawdown"
    assert ending(_run(phase="MONITORING", end_reason=None)) == "monitoring"


def test_settings_name_every_parameter_and_cost() -> None:
    known = dict(settings(_run()))
    assert known["Parameter period"] == "20"
    assert known["Spread, where prices are mid"] == "1.0 pips"
    assert known["Bars"] == "1 hour"


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (0, 100, [0, 25, 50, 75, 100]),
        (9_980, 10_050, [9_980, 10_000, 10_020, 10_040, 10_060]),
        (-0.31, 0.4, [-0.4, -0.2, 0.0, 0.2, 0.4]),
        (5, 5, [4, 4.5, 5, 5.5, 6]),
    ],
)
def test_ticks_are_round_and_hold_everything(low: float, high: float, expected: list[float]) -> None:
    assert ticks(low, high) == expected


def test_a_picture_is_one_well_formed_svg_with_a_name() -> None:
    points = list(zip(CURVE.times, CURVE.equities, strict=True))
    picture = draw([Line(points, "plot-a")], height=200, label='Equity "<of>"', across="dates")
    root = ElementTree.fromstring(picture)
    assert root.get("aria-label") == 'Equity "<of>"'
    assert root.get("role") == "img"
    assert draw([], height=200, label="", across="days") == ""


def test_a_curve_is_measured_by_its_opening_and_by_its_risk() -> None:
    assert CURVE.line("percent") == [(0.0, 0.0), (86_400.0, 0.5), (172_800.0, pytest.approx(-0.2))]
    assert CURVE.line("r") == [(0.0, 0.0), (86_400.0, 5.0), (172_800.0, -2.0)]
    assert Curve([0.0], [1.0], [0.0], None, None).line("r") is None
