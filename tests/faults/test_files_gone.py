"""A run whose files have gone when its trader restarts waits, says so, and goes on when they are back."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from services.launcher import exit_codes
from services.trader.feeds.replay import sample_path
from tests.desk_process import DeskProcess, desk, listening
from tests.faults.test_crash_equivalence import backtest
from tests.hearing import until_step

pytestmark = pytest.mark.xdist_group("desk")

HOLDER = """
from services.trader.strategies.base import Context, Parameters, Strategy


class HolderParameters(Parameters):
    '''Nothing to set.'''


class Holder(Strategy[HolderParameters]):
    '''Buys once and holds.'''

    name = "holder"
    Parameters = HolderParameters

    @property
    def look_back(self) -> int:
        return 1

    def on_bar(self, ctx: Context) -> None:
        if ctx.position() is None:
            ctx.enter("buy", round(ctx.history().close[-1] * 0.8, 5))
"""


def until_waiting(running: DeskProcess, file: str) -> dict[str, Any]:
    """Wait until the status says that the run waits for this file."""
    running.until(
        lambda: (
            running.status()["reason"].startswith("waits for a file") and file in running.status()["reason"]
        ),
        60,
        f"the run waits for {file}",
    )
    return running.status()


def restart_trader(running: DeskProcess) -> None:
    """Kill it and wait until the next one shows what it has."""
    before = running.pid("trader")
    assert running.kill("trader")
    running.until(lambda: running.pid("trader") not in (None, before), 60, "another trader runs")
    shown = running.status()["updated"]
    running.until(lambda: running.status()["updated"] != shown, 60, "the trader shows its state")


@pytest.mark.timeout(600)
async def test_a_replay_waits_for_its_price_file_and_ends_as_if_nothing_had_happened(tmp_path: Path) -> None:
    expected, _ = backtest(tmp_path / "backtest.csv", ("--strategy", "donchian"))
    prices, aside = tmp_path / "prices.csv", tmp_path / "aside.csv"
    shutil.copyfile(sample_path(), prices)
    with desk(tmp_path / "desk", "--speed", "0", "--feed", f"replay:{prices}") as running:
        running.cli("deploy", "--strategy", "donchian")
        async with listening(running) as client:
            await until_step(client, 600)
        prices.rename(aside)
        restart_trader(running)

        status = until_waiting(running, "prices.csv")
        assert status["deployment_status"] == "DEPLOYED"
        assert status["finished"] is None
        running.until(lambda: bool(running.alerts("files_missing")), 30, "the alert is recorded")
        assert "prices.csv" in running.alerts("files_missing")[0]["text"]
        refused = running.cli("deploy", check=False)
        assert refused.returncode == exit_codes.REFUSED
        assert "prices.csv" in refused.stderr

        # A part of the file is not the file: half of it is as good as none.
        lines = aside.read_bytes().splitlines(keepends=True)
        prices.write_bytes(b"".join(lines[: len(lines) // 2]))
        running.until(
            lambda: "a part of the file" in running.status()["reason"], 30, "half a file is not enough"
        )
        shutil.copyfile(aside, prices)

        ended = running.until_finished(300)
        assert ended["phase"] == "COMPLETED"
        assert running.trades(tmp_path / "desk.csv") == expected
        assert len(running.alerts("files_back")) == 1


@pytest.mark.timeout(600)
@pytest.mark.parametrize(("verb", "phase"), [("stop", "STOPPED"), ("halt", "HALTED")])
def test_a_stop_while_the_strategy_file_is_gone_is_taken_on_and_done_when_it_is_back(
    tmp_path: Path, verb: str, phase: str
) -> None:
    source = tmp_path / "holder.py"
    source.write_text(HOLDER)
    with desk(tmp_path / "desk") as running:
        running.cli("deploy", "--strategy", f"{source}:Holder", "--risk-per-trade", "500")
        running.until(lambda: running.status()["holding"] == "open", 60, "it holds a position")
        (running.folder / "strategies" / "holder.py").unlink()
        restart_trader(running)
        assert until_waiting(running, "holder.py")["holding"] == "open"

        asked = running.cli(verb, "--wait", "1", "--json", check=False)
        assert asked.returncode == exit_codes.UNDER_WAY
        answer = json.loads(asked.stdout)
        assert answer["state"] == "blocked"
        assert "holder.py" in answer["reason"]
        status = running.status()
        assert (status["phase"], status["holding"]) == ("MONITORING", "open")
        assert f"{verb} will be carried out" in status["reason"]
        running.until(lambda: bool(running.alerts("files_missing")), 30, "the alert is recorded")

        # Neither the stop nor that the alert was raised is forgotten.
        restart_trader(running)
        assert f"{verb} will be carried out" in until_waiting(running, "holder.py")["reason"]
        assert "! deployment    waits for a file" in running.cli("doctor").stdout
        shutil.copyfile(source, running.folder / "strategies" / "holder.py")

        ended = running.until_finished(60)
        assert (ended["phase"], ended["holding"]) == (phase, "flat")
        life = running.get(f"/api/commands/{answer['command_id']}")
        assert (life["state"], life["final"]) == ("done", True)
        assert {"accepted", "blocked", "flat", "done"} <= {step["state"] for step in life["steps"]}
        running.until(lambda: bool(running.alerts("files_back")), 30, "the second alert is recorded")
        assert len(running.alerts("files_missing")) == 1
        listed = running.cli("alerts", "--severity", "critical").stdout
        assert "files_missing" in listed
        assert "files_back" not in listed
