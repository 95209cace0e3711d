"""Backup, wipe, restore and new secrets, by the scripts that people click on, on desks in containers."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.conftest import ROOT, lacking
from tests.containers.composed import GROUP, Composed, composed
from tests.desk_process import desk as native
from tests.desk_process import listening
from tests.hearing import until_step

pytestmark = [pytest.mark.xdist_group(GROUP), pytest.mark.timeout(1200)]

FOLDER = ROOT / "deploy" / "desktop"
LOGIN = """
import asyncio, sys
from services.shared.bus import Bus
from services.shared.errors import BusError
async def main():
    try:
        bus = await Bus.connect("nats://nats:4222", user="recorder", password=sys.stdin.read().strip(), patience=1)
    except BusError:
        return "refused"
    await bus.close()
    return "taken"
print(asyncio.run(main()))
"""


def _deploy(desk: Composed) -> str:
    with desk.api() as api:
        answer = api.post("/api/deploy", json={"strategy": "donchian"})
        assert answer.status_code == 200, answer.text
        return str(answer.json()["run_id"])


def _approved(desk: Composed, run: str) -> int:
    return int(desk.sql(f"SELECT coalesce(max(approved), 0) FROM run_totals WHERE run_id = '{run}'"))


def _trades_on(desk: Composed, run: str) -> None:
    """The guard lets further orders go."""
    before = _approved(desk, run)
    desk.until(lambda: _approved(desk, run) > before, "another order is approved")


def _every_event_is_there_once(desk: Composed, run: str) -> None:
    """No seq of the run is missing and none has two events; nor has any order two intents or verdicts."""

    def whole() -> bool:
        rows = desk.sql(
            "SELECT emitter, count(*) = max(seq), count(DISTINCT seq) = count(*) FROM events"
            f" WHERE run_id = '{run}' GROUP BY emitter"
        ).splitlines()
        return len(rows) == 3 and all(row.endswith("|t|t") for row in rows)

    desk.until(whole, "every event of the run is recorded, once")
    assert (
        desk.sql(
            "SELECT order_no, state, count(*) FROM orders"
            f" WHERE run_id = '{run}' AND state IN ('intended', 'approved', 'denied') GROUP BY 1, 2 HAVING count(*) > 1"
        )
        == ""
    )


def _totals(desk: Composed, run: str) -> str:
    return desk.sql(f"SELECT run_totals.* FROM run_totals WHERE run_id = '{run}'")


def _backed_up(desk: Composed) -> Path:
    said = desk.script("deploy/desktop/BACKUP.sh").stdout
    name = next(word for word in said.split() if word.endswith(".tar.")).rstrip(".").rpartition("/")[2]
    return FOLDER / "backups" / name


def _wiped_and_restored(desk: Composed, archive: Path) -> None:
    desk.down(forget=True)
    desk.script("deploy/desktop/RESTORE.sh", str(archive))
    desk.script("deploy/desktop/START.sh", "--pull", "never", *desk.without_grafana)


def test_a_desk_that_is_restored_on_an_empty_machine_goes_on_and_a_halted_one_stays_halted() -> None:
    made: list[Path] = []
    try:
        with composed("backup") as desk:
            desk.up()
            run = _deploy(desk)
            _trades_on(desk, run)
            made.append(_backed_up(desk))
            _trades_on(desk, run)  # what comes after the backup is gone
            _wiped_and_restored(desk, made[0])
            with desk.api() as api:
                assert api.get("/api/status").json()["run_id"] == run
                _trades_on(desk, run)
                assert api.post("/api/halt", json={"reason": "a fire"}).status_code in (200, 202)
                desk.until(lambda: api.get("/api/status").json()["phase"] == "HALTED", "halted")
            _every_event_is_there_once(desk, run)
            with desk.api() as api:
                trades = api.get("/api/export", params={"run_id": run}).raise_for_status().content
                history = api.get("/api/risk").json()["history"]
            totals = _totals(desk, run)
            made.append(_backed_up(desk))
            refused = desk.script("deploy/desktop/RESTORE.sh", str(made[1]), check=False)
            assert refused.returncode == 1
            assert "is running" in refused.stderr

            _wiped_and_restored(desk, made[1])
            with desk.api() as api:
                status = api.get("/api/status").json()
                assert (status["run_id"], status["halted"]) == (run, True)
                assert api.post("/api/deploy", json={"strategy": "donchian"}).status_code == 409
                assert api.get("/api/export", params={"run_id": run}).content == trades
                assert api.get("/api/risk").json()["history"] == history
            assert _totals(desk, run) == totals
            _every_event_is_there_once(desk, run)
            assert made[1].name in desk.exec("backup", "python", "-m", "services.backup", "list")
            assert "whole" in desk.exec("backup", "python", "-m", "services.backup", "verify", made[1].name)
    finally:
        for path in made:
            path.unlink(missing_ok=True)
    assert trades.count(b"\n") > 1


async def test_a_desk_moves_from_one_machines_processes_into_containers_and_trades_on(tmp_path: Path) -> None:
    with native(tmp_path / "native", "--speed", "36000") as one:
        one.cli("deploy", "--strategy", "donchian")
        async with listening(one) as client:
            await until_step(client, 60)
        archive = one.backed_up()
        run = one.status()["run_id"]
    with composed("moved") as desk:
        desk.script("deploy/desktop/RESTORE.sh", str(archive))
        desk.up()
        with desk.api() as api:
            status = api.get("/api/status").json()
            assert (status["run_id"], status["phase"]) == (run, "MONITORING")
        _trades_on(desk, run)
        _every_event_is_there_once(desk, run)


def _login(desk: Composed, secret: str) -> str:
    said = desk.compose("exec", "-T", "recorder", "python", "-c", LOGIN, given=secret).stdout
    return said.split()[-1]


def test_new_secrets_come_into_force_while_the_desk_trades_on() -> None:
    with composed("rotate") as desk:
        desk.up()
        run = _deploy(desk)
        _trades_on(desk, run)
        token = desk.token
        login = desk.exec("recorder", "cat", "/data/secrets/nats-recorder")
        assert _login(desk, login) == "taken"
        desk.script("deploy/desktop/ROTATE.sh")
        _trades_on(desk, run)
        assert desk.token != token
        with desk.api(token) as api:
            assert api.get("/api/status").status_code == 401
        assert _login(desk, login) == "refused"
        assert _login(desk, desk.exec("recorder", "cat", "/data/secrets/nats-recorder")) == "taken"
        with desk.api() as api:
            status = api.get("/api/status").json()
            assert (status["run_id"], status["phase"]) == (run, "MONITORING")
            assert api.post("/api/stop", json={}).status_code in (200, 202)
            desk.until(lambda: api.get("/api/status").json()["phase"] == "STOPPED", "stopped")
        _every_event_is_there_once(desk, run)


@pytest.mark.parametrize("script", ["START.sh", "STOP.sh", "BACKUP.sh", "ROTATE.sh"])
def test_without_docker_a_script_says_what_to_do(script: str, tmp_path: Path) -> None:
    for name in ("sh", "dirname", "uname"):
        (tmp_path / name).symlink_to(f"/usr/bin/{name}")
    environment = {"PATH": str(tmp_path), "HOME": str(tmp_path)}

    def said() -> str:
        done = subprocess.run(
            [FOLDER / script],
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 1
        return done.stderr

    assert "Docker is not installed" in said()
    answers = '#!/bin/sh\n[ "$1" = compose ]\n'
    (tmp_path / "docker").write_text(answers)
    (tmp_path / "docker").chmod(0o755)
    assert "Docker does not answer" in said()


def test_the_scripts_are_in_order() -> None:
    scripts = [*FOLDER.glob("*.sh"), *FOLDER.glob("*.command"), ROOT / "deploy" / "rotate.sh"]
    try:
        done = subprocess.run(
            ["shellcheck", "-x", "-P", "SCRIPTDIR", *scripts], capture_output=True, text=True, check=False
        )
    except FileNotFoundError:
        lacking("no shellcheck here (apt install shellcheck)")
    assert done.returncode == 0, done.stdout
    for path in FOLDER.glob("*.bat"):
        lines = path.read_bytes().split(b"\n")
        assert all(line.endswith(b"\r") for line in lines[:-1]), path.name
        assert path.read_bytes().isascii(), path.name
