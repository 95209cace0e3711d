"""Promises 3 and 5: a replay through the desk equals the backtest byte for byte, whatever is killed.

The real desk, as `desk up` starts it, against `desk backtest` on the same file and with the same settings.
"""

from __future__ import annotations

import asyncio
import json
import random
import subprocess
import sys
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from nats.aio.msg import Msg

from services.shared.events import EquityMarked
from services.shared.wire import decode
from services.trader.feeds.replay import sample_path
from tests.desk_process import ROOT, SERVICES, DeskProcess, desk, listening
from tests.hearing import until_step

pytestmark = pytest.mark.xdist_group("desk")
"""One whole desk at a time: two would only wait for each other."""

SEED = 20_261_122
KILLS = 36
"""Of these some find every service being restarted: at least 20 must die."""
DENYING: Sequence[str] = ("--strategy", "donchian", "--risk-per-trade", "70", "--set", "trail_atr=0")
LIMITS = {"drawdown": "600"}


def backtest(out: Path, options: Sequence[str], data: Path | None = None) -> tuple[bytes, int]:
    """The trades file of a backtest on the sample or on `data`, and how many steps it took."""
    done = subprocess.run(
        [
            *(sys.executable, "-m", "services.launcher", "backtest", "--data", str(data or sample_path())),
            *("--trades", str(out), "--json", *options),
        ],
        cwd=ROOT,
        capture_output=True,
        timeout=120,
        check=True,
    )
    return out.read_bytes(), int(json.loads(done.stdout)["steps"])


def limit_options(folder: Path) -> list[str]:
    """`--limits FILE` with limits that deny some orders and at last halt."""
    path = folder / "limits.json"
    path.write_text(json.dumps(LIMITS))
    return ["--limits", str(path)]


async def kill_at_random(running: DeskProcess, chance: random.Random, steps: int) -> int:
    """Kill a service at random places of a run of `steps`; how many died."""
    reached = asyncio.Condition()
    step = 0

    async def hear(message: Msg) -> None:
        nonlocal step
        body = decode(message.data).body
        assert isinstance(body, EquityMarked)
        async with reached:
            step = max(step, body.step)
            reached.notify_all()

    died = 0
    async with listening(running) as client:
        await client.subscribe("equity.main", cb=hear)
        for place in sorted(chance.sample(range(steps * 19 // 20), KILLS)):
            async with reached, asyncio.timeout(300):
                await reached.wait_for(lambda place=place: step >= place)  # type: ignore[misc]
            # Not always right behind a mark: anywhere within a step, and while another is starting.
            await asyncio.sleep(chance.uniform(0, 0.02))
            # One that is being restarted cannot die: then another does.
            died += any(running.kill(service) for service in chance.sample(SERVICES, len(SERVICES)))
    return died


@pytest.mark.timeout(900)
def test_a_replay_of_all_bars_equals_the_backtest_byte_for_byte(tmp_path: Path) -> None:
    expected, _ = backtest(tmp_path / "backtest.csv", ())
    with desk(tmp_path / "desk", "--speed", "0") as running:
        running.cli("deploy", "--strategy", "donchian")
        status = running.until_finished(300)
        assert status["phase"] == "COMPLETED"
        assert running.trades(tmp_path / "desk.csv") == expected
    assert expected.count(b"\n") > 100


@pytest.mark.timeout(900)
def test_a_run_with_denials_and_a_halt_equals_the_backtest_byte_for_byte(tmp_path: Path) -> None:
    expected, _ = backtest(tmp_path / "backtest.csv", [*DENYING, *limit_options(tmp_path)])
    with desk(tmp_path / "desk", "--speed", "0") as running:
        running.cli("limits", *(f"{name}={value}" for name, value in LIMITS.items()), "--reason", "test")
        running.cli("deploy", *DENYING)
        status = running.until_finished(300)
        assert status["phase"] == "HALTED"
        assert running.trades(tmp_path / "desk.csv") == expected


def quotes_of_a_day(out: Path) -> Path:
    """A quote each 20 seconds for a day, on a random walk."""
    chance, start, price = random.Random(SEED), datetime(2024, 1, 9, tzinfo=UTC), 1.1
    lines = ["time,bid,ask"]
    for number in range(4320):
        price = round(price + chance.choice((-1, 1)) * 0.00015, 5)
        when = start + timedelta(seconds=20 * number)
        lines.append(f"{when:%Y-%m-%dT%H:%M:%SZ},{price:.5f},{price + 0.00002:.5f}")
    out.write_text("\n".join(lines) + "\n")
    return out


@pytest.mark.timeout(900)
async def test_quotes_in_bars_of_a_given_length_equal_the_backtest_over_a_restart(tmp_path: Path) -> None:
    prices = quotes_of_a_day(tmp_path / "quotes.csv")
    asked = ("--strategy", "donchian", "--risk-per-trade", "20")
    expected, _ = backtest(tmp_path / "backtest.csv", (*asked, "--bar", "5m"), prices)
    by_the_minute, _ = backtest(tmp_path / "minutes.csv", asked, prices)
    assert expected != by_the_minute
    with desk(tmp_path / "desk", "--speed", "0", "--feed", f"replay:{prices}", "--bar", "5m") as running:
        running.cli("deploy", *asked)
        async with listening(running) as client:
            await until_step(client, 1001)
        assert running.kill("trader")
        running.until_finished(300)
        assert running.trades(tmp_path / "desk.csv") == expected
    assert expected.count(b"\n") > 5


@pytest.mark.timeout(1200)
@pytest.mark.parametrize("denying", [False, True], ids=["plain", "denied and halted"])
async def test_a_replay_whose_processes_are_killed_equals_the_backtest(tmp_path: Path, denying: bool) -> None:
    options = DENYING if denying else ("--strategy", "donchian")
    limits = limit_options(tmp_path) if denying else []
    expected, steps = backtest(tmp_path / "backtest.csv", [*options, *limits])
    chance = random.Random(SEED + denying)
    with desk(tmp_path / "desk", "--speed", "0") as running:
        if denying:
            running.cli("limits", *(f"{name}={value}" for name, value in LIMITS.items()), "--reason", "test")
        running.cli("deploy", *options)
        died = await kill_at_random(running, chance, steps)
        running.until_finished(600)
        assert running.trades(tmp_path / "desk.csv") == expected
    assert died >= 20


@pytest.mark.timeout(600)
async def test_a_stop_stored_while_the_trader_is_dead_uses_no_seq_twice(tmp_path: Path) -> None:
    """A replay keeps snapshots now and then; what it said after the last one is said again before it stops."""
    with desk(tmp_path / "desk", "--speed", "0") as running:
        for place in (700, 1400, 2100):
            running.cli("deploy", "--strategy", "donchian")
            async with listening(running) as client:
                await until_step(client, place + 1)
                assert running.kill("trader")
                await client.publish("command.main.stop", b'{"by": "test"}')
                await client.flush()
            status = await asyncio.to_thread(running.until_finished, 120)
            assert status["phase"] == "STOPPED"
            rows = await running.recorded(status["run_id"], "STOPPED")
            assert [row["seq"] for row in rows] == list(range(1, len(rows) + 1))
            times = [row["time"] for row in rows]
            assert times == sorted(times)
            marks = [json.loads(row["body"])["step"] for row in rows if row["type"] == "equity"]
            assert marks == sorted(set(marks))
            assert marks[-1] > place
