"""The life of a desk's processes: killed, signalled, taken over, on whatever ports are free."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
from pathlib import Path

import psutil
import pytest

from services.launcher import exit_codes
from tests.launched_desk import EVERY, SERVICES, Up, desk_up, living

pytestmark = [pytest.mark.xdist_group("launcher"), pytest.mark.timeout(400)]


@pytest.mark.parametrize("name", EVERY)
def test_what_is_killed_comes_back_and_the_others_stay(launched: Up, name: str) -> None:
    launched.until(launched.all_running, "every part runs")
    before = launched.pids()
    os.kill(before[name], signal.SIGKILL)
    launched.until(
        lambda: launched.pids().get(name, before[name]) != before[name], f"{name} is started again"
    )
    launched.until(launched.all_running, f"{name} is ready again")
    after = launched.pids()
    assert {other: pid for other, pid in after.items() if other != name} == {
        other: pid for other, pid in before.items() if other != name
    }
    launched.until(
        lambda: (
            json.loads(launched.cli("status", "--json").stdout or "{}").get("health", {}).get("status")
            == "ok"
        ),
        "the API calls the desk healthy",
    )


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_to_the_whole_group_leaves_no_process_behind(tmp_path: Path, number: signal.Signals) -> None:
    with desk_up(tmp_path / "data") as up:
        family = up.family()
        assert len(family) >= 7
        os.killpg(up.process.pid, number)
        assert up.process.wait(60) == exit_codes.DONE
        assert living(family) == []
        assert "nothing is left running" in up.said()
        assert up.cli("status").returncode == exit_codes.NOT_RUNNING
        log = up.data / "postgres" / "log"
        assert any("database system is shut down" in path.read_text() for path in log.iterdir())


def test_up_again_finds_everything_as_it_was(tmp_path: Path) -> None:
    with desk_up(tmp_path / "data") as up:
        token = up.cli("token").stdout
        assert up.cli("limits", "drawdown=2500", "--reason", "smaller").returncode == exit_codes.DONE
        assert up.cli("down").returncode == exit_codes.DONE
        up.process.wait(60)
    with desk_up(tmp_path / "data") as up:
        assert up.cli("token").stdout == token
        limits = json.loads(up.cli("limits", "--json").stdout)["limits"]
        assert next(limit["value"] for limit in limits if limit["name"] == "drawdown") == "2500"


def test_after_a_killed_launcher_its_services_end_and_the_next_up_takes_the_servers_over(
    tmp_path: Path,
) -> None:
    with desk_up(tmp_path / "data") as up:
        family = up.family()
        pids = up.pids()
        up.process.kill()
        up.process.wait()
        services = [process for process in family if process.pid in {pids[name] for name in SERVICES}]
        psutil.wait_procs(services, timeout=7)
        assert living(services) == [], "services end within 5 s of their launcher"
        with desk_up(tmp_path / "data") as again:
            assert "left behind" in again.said()
            assert not set(again.pids().values()) & set(pids.values())
            assert living(family) == []
            assert again.cli("status").returncode == exit_codes.DONE


def test_down_ends_what_a_killed_launcher_left(tmp_path: Path) -> None:
    with desk_up(tmp_path / "data") as up:
        family = up.family()
        up.process.kill()
        up.process.wait()
        assert up.cli("down").returncode == exit_codes.DONE
        assert living(family) == []
        assert up.cli("down").returncode == exit_codes.NOT_RUNNING


def test_a_signal_during_the_first_start_leaves_no_process_behind(tmp_path: Path) -> None:
    up = Up(tmp_path / "data")
    try:
        up.until(lambda: bool(up.notice()), "it has begun")
        family = up.family()
        os.killpg(up.process.pid, signal.SIGINT)
        assert up.process.wait(60) == exit_codes.DONE
        assert living(family) == []
    finally:
        up.clean()


def test_free_ports_are_chosen_where_the_usual_ones_are_taken(tmp_path: Path) -> None:
    with contextlib.ExitStack() as taken:
        ours = set()
        for usual in (8000, 4222, 5432):
            with contextlib.suppress(OSError):  # another desk's, which may end while we look
                taken.enter_context(socket.create_server(("127.0.0.1", usual)))
                ours.add(usual)
        with desk_up(tmp_path / "data") as up:
            notice = json.loads((up.data / "desk.json").read_text())
            chosen = {int(notice["api_url"].rpartition(":")[2]), notice["nats_port"], notice["postgres_port"]}
            assert len(chosen) == 3
            assert not chosen & ours
            assert up.cli("status").returncode == exit_codes.DONE


def test_a_port_asked_for_that_is_taken_is_refused(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        number = taken.getsockname()[1]
        up = Up(tmp_path / "data", "--port", str(number))
        try:
            assert up.process.wait(60) == exit_codes.USAGE
            assert f"port {number} is taken" in up.said()
        finally:
            up.clean()
