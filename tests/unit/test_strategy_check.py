"""`desk strategy check`: what it lets pass, and each kind of strategy that it must not."""

from __future__ import annotations

import json
from pathlib import Path
from textwrap import dedent

import pytest
from typer.testing import CliRunner

from services.launcher.cli import build
from services.launcher.strategy_check import Findings, check
from services.launcher.strategy_command import check_plan_of
from services.trader.feeds.replay import sample_path

HEAD = '''
from datetime import date, datetime
from services.trader.strategies.base import Context, Parameters, Strategy

class Nothing(Parameters):
    """None."""

class Mine(Strategy[Nothing]):
    """Buys now and then."""
    name = "mine"
    Parameters = Nothing

    @property
    def look_back(self):
        return 3

    def buy(self, ctx):
        close = ctx.history().close[-1]
        ctx.enter("buy", close - 0.002, close + 0.002)

'''


@pytest.fixture
def prices(tmp_path: Path) -> Path:
    path = tmp_path / "EURUSD.csv"
    path.write_text("".join(sample_path().read_text().splitlines(keepends=True)[:301]))
    return path


def checked(prices: Path, body: str, head: str = HEAD) -> Findings:
    path = prices.parent / "mine.py"
    path.write_text(head + "\n".join("    " + line for line in dedent(body).splitlines()) + "\n")
    return check(check_plan_of(f"{path}:Mine", str(prices), {}, None))


def test_a_strategy_that_remembers_in_its_state_passes(prices: Path) -> None:
    found = checked(
        prices,
        """
        def on_bar(self, ctx):
            ctx.state["count"] = ctx.state.get("count", 0) + 1
            if ctx.position() is None and ctx.state["count"] % 7 == 0:
                self.buy(ctx)
        """,
    )
    assert found.faults == []
    assert found.restores == 299
    assert found.trades > 10


@pytest.mark.parametrize("name", ["donchian", "ema", "rsi", "signals"])
def test_every_built_in_strategy_passes(prices: Path, name: str) -> None:
    assert check(check_plan_of(name, str(prices), {}, None)).faults == []


def test_a_strategy_that_remembers_elsewhere_fails_with_the_bar_it_differs_at(prices: Path) -> None:
    found = checked(
        prices,
        """
        count = 0

        def on_bar(self, ctx):
            self.count += 1
            if ctx.position() is None and self.count % 7 == 0:
                self.buy(ctx)
        """,
    )
    assert not found.passed
    assert "decides differently when restored after 2017-04-" in found.faults[0]


def test_a_strategy_that_acts_anew_only_after_its_start_fails(prices: Path) -> None:
    found = checked(
        prices,
        """
        bars = 0

        def on_bar(self, ctx):
            self.bars += 1
            if self.bars == 2 and ctx.position() is None:
                self.buy(ctx)
        """,
    )
    assert not found.passed


def test_a_strategy_whose_state_is_no_json_fails(prices: Path) -> None:
    found = checked(
        prices,
        """
        def on_bar(self, ctx):
            ctx.state["when"] = object()
        """,
    )
    assert "no JSON" in found.faults[0]


def test_a_strategy_that_raises_fails(prices: Path) -> None:
    found = checked(
        prices,
        """
        def on_bar(self, ctx):
            if len(ctx.history()) == 3:
                raise ValueError("no idea")
        """,
    )
    assert "ValueError: no idea" in found.faults[0]


def test_chance_that_the_source_hides_shows_when_it_is_run_again(prices: Path) -> None:
    found = checked(
        prices,
        """
        def on_bar(self, ctx):
            chance = __import__("random")
            if ctx.position() is None and chance.random() < 0.2:
                self.buy(ctx)
        """,
    )
    assert any("run a second time" in fault for fault in found.faults)


@pytest.mark.parametrize(
    ("use", "complaint"),
    [
        ("import time", "imports time"),
        ("from random import choice", "imports random"),
        ("from numpy import random", "must not use chance"),
        ("import uuid as u", "imports uuid"),
        ("NOW = datetime.now()", ".now reads a clock"),
        ("DAY = date.today()", ".today reads a clock"),
        ("X = hash('a')", "hash()"),
        ("import socket", "imports socket"),
    ],
)
def test_a_clock_or_chance_in_the_source_is_named_with_its_line(
    prices: Path, use: str, complaint: str
) -> None:
    head = f"{HEAD}    {use}\n\n" if "=" in use else f"{use}\n{HEAD}"
    found = checked(prices, "def on_bar(self, ctx):\n    return", head)
    assert any(fault.startswith("mine.py:") and complaint in fault for fault in found.faults)


def test_a_strategy_that_never_trades_is_noted(prices: Path) -> None:
    found = checked(prices, "def on_bar(self, ctx):\n    return")
    assert found.passed
    assert "never opened a trade" in found.notes[0]


def test_the_command_exits_with_1_for_a_fault_and_0_without(prices: Path) -> None:
    runner, app = CliRunner(), build("strategy")
    good = runner.invoke(app, ["strategy", "check", "ema", "--data", str(prices), "--json"])
    assert good.exit_code == 0
    assert json.loads(good.stdout)["passed"] is True
    path = prices.parent / "bad.py"
    path.write_text("import time\n" + HEAD + "    def on_bar(self, ctx):\n        return\n")
    bad = runner.invoke(app, ["strategy", "check", str(path), "--data", str(prices)])
    assert bad.exit_code == 1
    assert "bad.py:1" in bad.stdout
    assert "must not be deployed" in bad.stdout


def test_list_and_show_tell_what_can_be_deployed_and_set() -> None:
    runner, app = CliRunner(), build("strategy")
    listed = json.loads(runner.invoke(app, ["strategy", "list", "--json"]).stdout)
    assert {"donchian", "ema", "rsi", "signals"} <= {entry["name"] for entry in listed}
    assert all(entry["about"] for entry in listed)
    shown = json.loads(runner.invoke(app, ["strategy", "show", "donchian", "--json"]).stdout)
    period = next(entry for entry in shown["parameters"] if entry["name"] == "period")
    assert (period["default"], period["minimum"], period["maximum"]) == (20, 2, 500)
    assert "period" in runner.invoke(app, ["strategy", "show", "donchian"]).stdout
