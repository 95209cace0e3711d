"""What the console says of a deployment before it starts: parameters, checks, words."""

from __future__ import annotations

import importlib.util
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import pytest

from services.api.console.deploy_checks import clock_check
from services.api.console.deploy_dialog import summary
from services.api.console.strategy_form import FILE, strategy_forms
from services.api.console.wording import UNKNOWN, money, number, percent, span, tile_help, tile_texts
from services.shared.commands import Deploy, Heartbeat
from services.shared.errors import InvalidInput
from services.shared.pulses import Pulse
from services.trader.strategies.base import make
from services.trader.strategies.catalogue import BUILT_IN

DOCS = Path(__file__).parents[2] / "docs"


def test_the_forms_are_those_of_the_built_in_strategies() -> None:
    spec = importlib.util.spec_from_file_location("strategy_forms", DOCS / "strategy_forms.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert module.render() == FILE.read_text(encoding="utf-8"), "run make docs"
    assert set(strategy_forms()) == set(BUILT_IN)


@pytest.mark.parametrize("name", sorted(BUILT_IN))
def test_a_forms_defaults_are_what_the_strategy_takes(name: str) -> None:
    form = strategy_forms()[name]
    given = {parameter.name: parameter.default for parameter in form.parameters}
    assert all(parameter.problem(parameter.default) is None for parameter in form.parameters)
    assert make(BUILT_IN[name], given).parameters == make(BUILT_IN[name], {}).parameters


@pytest.mark.parametrize(
    "text", ["1", "501", "2.5", "", "x", "nan", "inf", "1e999", "0", "-3", "2", "500", "50.5"]
)
def test_a_form_refuses_just_what_the_strategy_refuses(text: str) -> None:
    kind = BUILT_IN["donchian"]
    for parameter in strategy_forms()["donchian"].parameters:
        try:
            make(kind, {parameter.name: text})
            taken = True
        except InvalidInput:
            taken = False
        assert (parameter.problem(text) is None) == taken, parameter.name


def test_a_label_spells_what_is_an_abbreviation() -> None:
    labels = [parameter.label for parameter in strategy_forms()["donchian"].parameters]
    assert labels == ["Period", "ATR period", "Stop ATR", "Target R", "Trail ATR"]


def test_the_summary_says_what_will_be_started() -> None:
    command = Deploy(strategy="rsi", instrument="USDJPY", risk_per_trade=Decimal(5), hours=Decimal(24))
    assert summary(command) == (
        "Starts rsi on USDJPY, risking 5.00 USD a trade on a paper account of 10,000.00 USD, for 24 h."
    )


def test_what_is_not_known_is_a_dash() -> None:
    assert {money(None), number(None), percent(None), span(None), *tile_texts(None).values()} == {UNKNOWN}
    assert all(tile_help(name) for name in tile_texts(None))


def test_signs_are_said_and_zero_has_none() -> None:
    assert [money(Decimal(text), signed=True) for text in ("1234.5", "-0.005", "-7.483", "0")] == [
        "+1,234.50",
        "0.00",
        "−7.48",
        "0.00",
    ]
    assert [number(value, 1, signed=True) for value in (0.04, -0.04, 0.06, -0.06)] == [
        "0.0",
        "0.0",
        "+0.1",
        "−0.1",
    ]


def test_a_span_is_in_its_two_largest_units() -> None:
    assert [span(seconds) for seconds in (59, 3600, 90_000)] == ["1 min", "1 h 0 min", "1 d 1 h"]


def test_moments_count_as_browsers_do() -> None:
    from services.api.console.wording import milliseconds

    assert milliseconds(datetime(2017, 4, 19, 9, tzinfo=UTC)) == 1492592400000


@pytest.mark.parametrize(
    ("ahead", "age", "level"),
    [(0.0, 0.4, "green"), (-1.0, 0.9, "green"), (30.0, 0.1, "amber"), (-3.0, 0.2, "amber")],
)
def test_a_clock_that_is_off_is_told_and_a_late_word_is_no_clock(
    ahead: float, age: float, level: str
) -> None:
    now = datetime(2026, 11, 26, tzinfo=UTC)

    def pulse(service: str, off: float, heard: float) -> Pulse:
        said = now - timedelta(seconds=heard) + timedelta(seconds=off)
        return Pulse(Heartbeat(service=service, instance="1", version="1", time=said, state="ready"), heard)

    found = clock_check([pulse("risk", 0, 0.3), pulse("trader", ahead, age), pulse("recorder", 900, 60)], now)
    assert found.level == level
    assert ("trader" in found.text) is (level == "amber")
    assert clock_check([], now).level == "open"
