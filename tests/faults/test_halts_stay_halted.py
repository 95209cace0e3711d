"""Promise 2: a halt is stored before it is acknowledged, survives every restart, and stays until a reset."""

from __future__ import annotations

import asyncio
import signal
from pathlib import Path

import pytest

from tests.desk_process import SERVICES, desk, listening
from tests.hearing import until_said

pytestmark = pytest.mark.xdist_group("desk")
"""One whole desk at a time: two would only wait for each other."""

LOSING = ("--strategy", "rsi", "--balance", "100000", "--risk-per-trade", "1000")
"""On the sample this loses some 20 R: far more than the default drawdown limit of 3000."""


@pytest.mark.timeout(600)
def test_3000_below_its_peak_an_account_is_halted_flat_and_stays_so_over_a_restart_of_everything(
    tmp_path: Path,
) -> None:
    with desk(tmp_path / "desk", "--speed", "0") as running:
        running.cli("deploy", *LOSING)
        status = running.until_finished(300)
        assert (status["phase"], status["holding"], status["halted"]) == ("HALTED", "flat", True)
        assert "3000" in status["reason"] or "below its peak" in status["reason"]
        equity = running.get("/api/dashboard")["statistics"]
        assert float(equity["max_drawdown"]) >= 3000

        running.stop()
        running.start()
        assert running.status()["phase"] == "HALTED"
        assert running.cli("deploy", check=False).returncode != 0

        for service in SERVICES:
            assert running.kill(service)
        running.until(lambda: all(running.pid(service) for service in SERVICES), 30, "all are restarted")
        running.until(lambda: running.status()["phase"] == "HALTED", 30, "still halted")
        refused = running.cli("deploy", check=False)
        assert refused.returncode != 0
        assert "halted" in (refused.stdout + refused.stderr).lower()

        assert running.cli("reset", check=False).returncode != 0
        running.cli("reset", "--reason", "looked at it: the strategy loses on this data")
        assert running.status()["phase"] == "STOPPED"
        running.cli("deploy", "--strategy", "donchian")
        status = running.until_finished(300)
        assert status["phase"] == "COMPLETED"
        assert status["tasks_completed"] > 100


@pytest.mark.timeout(300)
def test_a_persons_halt_survives_the_death_of_trader_and_guard_in_the_same_moment(tmp_path: Path) -> None:
    with desk(tmp_path / "desk", "--speed", "36000") as running:
        running.cli("deploy", "--strategy", "donchian")
        running.cli("halt", "--reason", "test")
        running.kill("trader", signal.SIGKILL)
        running.kill("risk", signal.SIGKILL)
        running.until(lambda: running.status()["phase"] == "HALTED", 30, "halted after the restart")
        assert running.status()["holding"] == "flat"
        assert running.cli("deploy", check=False).returncode != 0


@pytest.mark.timeout(300)
async def test_a_deploy_stored_behind_a_halt_is_refused_though_both_are_read_at_once(tmp_path: Path) -> None:
    with desk(tmp_path / "desk", "--speed", "36000") as running:
        await asyncio.to_thread(running.cli, "deploy", "--strategy", "donchian")
        run_id = running.status()["run_id"]
        async with listening(running) as client:
            assert running.kill("trader", signal.SIGSTOP)
            refused = asyncio.create_task(until_said(client, "outcome.main", b'"rejected"'))
            await client.publish("command.main.halt", b'{"command_id": "first", "reason": "test"}')
            await client.publish("command.main.deploy", b'{"command_id": "then", "strategy": "donchian"}')
            await client.flush()
            running.kill("trader", signal.SIGCONT)
            await refused
        running.until(lambda: running.status()["phase"] == "HALTED", 30, "halted")
        assert running.status()["run_id"] == run_id
