"""One trader owns an account. Its standby takes over when it dies, freezes or leaves, where it stood; an old owner
that wakes up does nothing more."""

from __future__ import annotations

import asyncio
import json
import signal
from pathlib import Path

import pytest

from tests.desk_process import desk, listening
from tests.faults.test_crash_equivalence import backtest
from tests.hearing import until_said, until_step
from tests.standby_trader import StandbyTrader, stands_by

pytestmark = pytest.mark.xdist_group("desk")
"""One whole desk at a time: two would only wait for each other."""

TAKEN_OVER = b'"trader_taken_over"'
OWN = "1"
"""The instance of the desk's own trader, which the launcher starts again when it ends."""


@pytest.mark.timeout(900)
async def test_a_replay_that_freezes_and_dies_under_two_owners_equals_the_backtest(tmp_path: Path) -> None:
    expected, _ = backtest(tmp_path / "backtest.csv", ("--strategy", "donchian"))
    with desk(tmp_path / "desk", "--speed", "0") as running:
        async with listening(running) as client:
            with StandbyTrader(running, tmp_path / "second", speed="0") as second:
                await stands_by(client, second.instance)
                await asyncio.to_thread(running.cli, "deploy", "--strategy", "donchian")
                await until_step(client, 700)
                first = running.pid("trader")
                taken_over = asyncio.create_task(until_said(client, "alert.main", TAKEN_OVER))
                assert running.kill("trader", signal.SIGSTOP)
                await taken_over
                await until_step(client, 1400)
                running.kill("trader", signal.SIGCONT)
                await stands_by(client, OWN)
                assert running.pid("trader") not in (None, first)
                taken_over = asyncio.create_task(until_said(client, "alert.main", TAKEN_OVER))
                second.kill()
                await taken_over
        status = await asyncio.to_thread(running.until_finished, 300)
        assert status["phase"] == "COMPLETED"
        assert await asyncio.to_thread(running.trades, tmp_path / "desk.csv") == expected
        rows = await running.recorded(status["run_id"], "COMPLETED")
        assert [row["seq"] for row in rows] == list(range(1, len(rows) + 1))


@pytest.mark.timeout(600)
async def test_what_is_stopped_while_nobody_owns_it_is_stopped_once_by_the_standby(tmp_path: Path) -> None:
    with desk(tmp_path / "desk", "--speed", "36000") as running:
        async with listening(running) as client:
            with StandbyTrader(running, tmp_path / "second", speed="36000") as second:
                await stands_by(client, second.instance)
                await asyncio.to_thread(running.cli, "deploy", "--strategy", "donchian")
                await until_said(client, "trade.main.opened", b'"instrument"')
                assert running.kill("trader", signal.SIGSTOP)
                await client.publish("command.main.stop", b'{"command_id": "stop-1", "by": "test"}')
                status = await asyncio.to_thread(running.until_finished, 120)
                assert (status["phase"], status["holding"]) == ("STOPPED", "flat")
                running.kill("trader", signal.SIGCONT)
                await stands_by(client, OWN)
                rows = await running.recorded(status["run_id"], "STOPPED")
                assert [row["seq"] for row in rows] == list(range(1, len(rows) + 1))
                bodies = [json.loads(row["body"]) for row in rows]
                opened, closed = (
                    [row["type"] for row in rows].count(kind) for kind in ("trade.opened", "trade.closed")
                )
                assert opened == closed
                done = [body for body in bodies if body.get("command_id") == "stop-1"]
                assert [body.get("state") for body in done].count("done") == 1
                assert running.status()["phase"] == "STOPPED"


@pytest.mark.timeout(600)
async def test_an_owner_that_leaves_in_order_is_followed_without_an_alert(tmp_path: Path) -> None:
    with desk(tmp_path / "desk", "--speed", "3600") as running:
        async with listening(running) as client:
            with StandbyTrader(running, tmp_path / "second", speed="3600") as second:
                await stands_by(client, second.instance)
                await asyncio.to_thread(running.cli, "deploy", "--strategy", "donchian")
                run_id = running.status()["run_id"]
                followed = asyncio.create_task(stands_by(client, OWN))
                assert running.kill("trader", signal.SIGTERM)
                # The launcher starts it again; one of the two is quicker. Either way somebody owns it at once.
                await until_step(client, 3)
                if second.process.poll() is None and "standing_by" not in second.log.read_text():
                    await followed
                followed.cancel()
                await until_step(client, 6)
                status = running.status()
                assert (status["run_id"], status["phase"]) == (run_id, "MONITORING")
        codes = {alert["code"] for alert in running.get("/api/alerts")["alerts"]}
        assert "trader_taken_over" not in codes
