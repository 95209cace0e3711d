"""`desk up` as a person runs it: what is up, what comes back, and that nothing is left behind."""

from __future__ import annotations

import http.client
import json
import os
import shutil
import signal
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from services.launcher import exit_codes
from tests.conftest import ROOT, lacking
from tests.launched_desk import Up, desk_up

pytestmark = [pytest.mark.xdist_group("launcher"), pytest.mark.timeout(400)]


def test_info_gives_address_token_and_credentials_that_work(launched: Up) -> None:
    found = json.loads(launched.cli("info", "--json").stdout)
    assert found["data_dir"] == str(launched.data)
    assert found["token"] == launched.cli("token").stdout.strip()
    host = found["api_url"].removeprefix("http://")
    for token, status in ((found["token"], 200), ("wrong", 401)):
        connection = http.client.HTTPConnection(host, timeout=10)
        connection.request("GET", "/api/status", headers={"Authorization": f"Bearer {token}"})
        assert connection.getresponse().status == status
        connection.close()
    assert found["nats_url"].startswith("nats://operator:")


def test_the_viewers_token_reads_and_is_told_that_it_may_not_act(launched: Up) -> None:
    viewer = launched.cli("token", "--viewer").stdout.strip()
    assert viewer != launched.cli("token").stdout.strip()
    kept = launched.data / "secrets" / "viewer-token"
    assert kept.stat().st_mode & 0o777 == 0o600
    looking = {"DESK_TOKEN": viewer}
    assert launched.cli("status", **looking).returncode == exit_codes.DONE
    refused = launched.cli("stop", **looking)
    assert refused.returncode == exit_codes.REFUSED
    assert "may look at everything and change nothing (desk token prints the operator's)" in refused.stderr
    assert viewer not in refused.stderr


async def test_the_nats_url_of_info_may_command_and_not_forge(launched: Up) -> None:
    import nats
    from nats.errors import TimeoutError as NatsTimeout

    async def quiet(_: Exception) -> None:
        """A refused publish is reported here too."""

    url = json.loads(launched.cli("info", "--json").stdout)["nats_url"]
    client = await nats.connect(url, error_cb=quiet)
    try:
        answer = await client.request("control.main.pause", b"{}", timeout=10)
        assert json.loads(answer.data)["status"] == "rejected", "nothing is deployed"
        with pytest.raises(NatsTimeout):
            await client.jetstream().publish("trade.main.closed", b"{}", timeout=1)
    finally:
        await client.close()


def test_status_says_that_nothing_is_deployed(launched: Up) -> None:
    found = json.loads(launched.cli("status", "--json").stdout)
    assert found["deployment_status"] in ("NOT_DEPLOYED", "STOPPED")
    assert found["holding"] == "flat"
    assert launched.cli("status").returncode == exit_codes.DONE


def test_a_second_up_on_the_same_data_says_so_and_leaves_the_first_alone(launched: Up) -> None:
    before = launched.pids()
    second = launched.cli("up", "--no-browser")
    assert second.returncode == exit_codes.ALREADY_RUNNING
    assert "already runs" in second.stderr
    assert launched.pids() == before
    assert launched.all_running()


def test_doctor_finds_a_running_desk_well(launched: Up) -> None:
    found = launched.cli("doctor", "--json")
    findings = json.loads(found.stdout)["findings"]
    assert [finding for finding in findings if finding["state"] == "failed"] == []
    assert {"nats-server", "postgresql", "disk", "clock", "streams", "database", "dead letters"} <= {
        finding["part"] for finding in findings
    }
    assert found.returncode == exit_codes.DONE


def test_no_secret_is_in_a_log_an_environment_or_a_command_line(launched: Up) -> None:
    secrets = {path.name: path.read_text().strip() for path in (launched.data / "secrets").iterdir()}
    for process in launched.family()[1:]:
        told = " ".join(process.cmdline()) + str(process.environ())
        assert not [name for name, secret in secrets.items() if secret in told], process.name()
    for log in [*(launched.data / "logs").iterdir(), launched.data / "nats" / "nats.log"]:
        text = log.read_text()
        assert not [name for name, secret in secrets.items() if secret in text], log.name


def test_what_it_wrote_is_closed_to_other_users(launched: Up) -> None:
    for name in ("secrets", "logs", "run", "nats", "postgres"):
        mode = stat.S_IMODE((launched.data / name).stat().st_mode)
        assert mode & 0o077 == 0, name
    assert stat.S_IMODE(launched.data.stat().st_mode) & 0o066 == 0
    assert stat.S_IMODE((launched.data / "desk.json").stat().st_mode) == 0o600


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (("status",), exit_codes.NOT_RUNNING),
        (("info",), exit_codes.NOT_RUNNING),
        (("token",), exit_codes.NOT_RUNNING),
        (("stop",), exit_codes.NOT_RUNNING),
        (("trades",), exit_codes.NOT_RUNNING),
        (("alerts",), exit_codes.NOT_RUNNING),
        (("down",), exit_codes.NOT_RUNNING),
        (("reset",), exit_codes.USAGE),
        (("stop", "--mode", "soon"), exit_codes.USAGE),
        (("deploy", "--risk-per-trade", "none"), exit_codes.USAGE),
        (("up", "--feed", "replay:none.csv"), exit_codes.USAGE),
        (("up", "--bar", "7m"), exit_codes.USAGE),
        (("up", "--broker", "saxo"), exit_codes.USAGE),
        (("nonsense",), exit_codes.USAGE),
    ],
)
def test_without_a_desk_a_command_says_so_by_its_exit_code(
    tmp_path: Path, words: tuple[str, ...], code: int
) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "services.launcher", *words],
        cwd=ROOT,
        env={**os.environ, "DESK_DATA_DIR": str(tmp_path / "none")},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == code
    assert done.stderr.strip()
    assert "Traceback" not in done.stderr


def _as_nobody(tmp_path: Path) -> tuple[str, ...]:
    """What to put before a command so that it runs as an ordinary user who can reach our Python."""
    if os.geteuid() != 0:
        return ()
    if shutil.which("setpriv") is None:
        lacking("root needs setpriv (util-linux) to become an ordinary user")
    tmp_path.chmod(0o755)
    # Python may be in /root: the user may look past the modes of directories, and nothing else.
    reach = "+dac_read_search"
    return (
        *("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"),
        *(f"--inh-caps={reach}", f"--ambient-caps={reach}"),
    )


def test_an_ordinary_user_runs_a_desk(tmp_path_factory: pytest.TempPathFactory) -> None:
    home = tmp_path_factory.mktemp("home")
    prefix = _as_nobody(home)
    data = home / "data"
    data.mkdir()
    if prefix:
        shutil.chown(data, 65534, 65534)
    with desk_up(data, prefix=prefix) as up:
        owners = {process.uids().real for process in up.family()}
        assert owners == {65534 if prefix else os.geteuid()}
        assert up.cli("status").returncode == exit_codes.DONE


MY_STRATEGY = '''
from services.trader.strategies.base import Context, Parameters, Strategy


class Settings(Parameters):
    distance: float = 0.002


class MyStrategy(Strategy[Settings]):
    """Buys whenever it is flat."""

    name = "mine"
    Parameters = Settings

    @property
    def look_back(self) -> int:
        return 2

    def on_bar(self, ctx: Context) -> None:
        if ctx.position() is None:
            price = ctx.quote.bid
            ctx.enter("buy", price - self.parameters.distance, price + self.parameters.distance)
'''


def test_a_strategy_file_of_ones_own_trades_on_the_running_desk(launched: Up, tmp_path: Path) -> None:
    mine = tmp_path / "my_file.py"
    mine.write_text(MY_STRATEGY)
    launched.until(launched.all_running, "every part runs")
    done = launched.cli("deploy", "--strategy", f"{mine}:MyStrategy", "--set", "distance=0.003", "--json")
    assert done.returncode == exit_codes.DONE, done.stderr
    deployed = json.loads(done.stdout)
    assert deployed["status"] == "DEPLOYED"
    try:
        again = launched.cli("deploy")
        assert again.returncode == exit_codes.REFUSED
        assert "Already deployed" in again.stderr

        def traded() -> bool:
            found = json.loads(launched.cli("trades", "--json").stdout or "{}")
            return any(trade["strategy"] == "mine" for trade in found.get("trades", []))

        launched.until(traded, "a trade of the strategy is recorded")
    finally:
        stopped = launched.cli("stop", "--json")
    assert stopped.returncode == exit_codes.DONE, stopped.stderr
    assert json.loads(stopped.stdout)["state"] == "done"
    assert json.loads(launched.cli("status", "--json").stdout)["holding"] == "flat"
    out = tmp_path / "trades.csv"
    assert (
        launched.cli("trades", "--csv", str(out), "--run", deployed["run_id"]).returncode == exit_codes.DONE
    )
    head, *rows = out.read_text().splitlines()
    assert head.startswith("trade_time,entry_price,exit_price,pnl,outcome,r_multiple,equity")
    assert rows
    parquet = tmp_path / "trades.parquet"
    assert launched.cli("export", "--format", "parquet", str(parquet)).returncode == exit_codes.DONE
    assert parquet.read_bytes()[:4] == b"PAR1"


def test_the_demonstration_deploys_once_and_goes_on_after_a_restart(tmp_path: Path) -> None:
    with desk_up(tmp_path / "data", "--demo") as up:
        up.until(lambda: "closed" in up.said(), "a trade is shown as it happens")
        before = json.loads(up.cli("status", "--json").stdout)
        assert before["deployment_status"] == "DEPLOYED"
        assert up.end() == exit_codes.DONE
    with desk_up(tmp_path / "data", "--demo") as up:
        up.until(lambda: "not deploying" in up.said(), "it finds the deployment of before")
        after = json.loads(up.cli("status", "--json").stdout)
        assert after["run_id"] == before["run_id"]
        assert after["tasks_completed"] >= before["tasks_completed"]


def test_a_deploy_waits_for_a_trader_that_is_being_started(launched: Up) -> None:
    launched.until(launched.all_running, "every part runs")
    os.kill(launched.pids()["trader"], signal.SIGKILL)
    done = launched.cli("deploy", "--json", "--wait", "60")
    try:
        assert done.returncode == exit_codes.DONE, done.stderr
        assert json.loads(done.stdout)["status"] == "DEPLOYED"
    finally:
        assert launched.cli("stop").returncode == exit_codes.DONE
