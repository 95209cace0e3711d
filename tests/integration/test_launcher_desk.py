"""`desk up` as a person runs it: what is up, what comes back, and that nothing is left behind."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import shutil
import signal
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from services.launcher import exit_codes
from tests.conftest import ROOT, lacking

pytestmark = [pytest.mark.xdist_group("launcher"), pytest.mark.timeout(400)]

SERVICES = ("api", "trader", "risk", "recorder")
EVERY = (*SERVICES, "nats", "postgres")


class Up:
    """A `desk up` of the test's own, in a process group of its own, as a shell gives it."""

    def __init__(self, data: Path, *options: str, prefix: tuple[str, ...] = ()) -> None:
        self.data = data
        self.output = data.parent / f"{data.name}.out"
        with self.output.open("ab") as out:
            self.process = subprocess.Popen(
                [*prefix, sys.executable, "-m", "services.launcher", "up", "--no-browser", *options],
                cwd=ROOT,
                env=self._environment(),
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def _environment(self) -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if not name.startswith("DESK_")}
        return {**kept, "DESK_DATA_DIR": str(self.data)}

    def cli(self, *words: str, **environment: str) -> subprocess.CompletedProcess[str]:
        """A command beside it."""
        return subprocess.run(
            [sys.executable, "-m", "services.launcher", *words],
            cwd=ROOT,
            env={**self._environment(), **environment},
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )

    def said(self) -> str:
        """What it printed."""
        return self.output.read_text()

    def notice(self) -> dict[str, Any]:
        """`desk.json`, {} before it is written."""
        with contextlib.suppress(OSError, ValueError):
            found: dict[str, Any] = json.loads((self.data / "desk.json").read_text())
            return found
        return {}

    def pids(self) -> dict[str, int]:
        """The child that runs under each name now."""
        children = self.notice().get("children", {})
        return {name: int(str(child["pid"])) for name, child in children.items() if child.get("pid")}

    def all_running(self) -> bool:
        """Whether every part is there and ready."""
        notice = self.notice()
        if notice.get("pid") != self.process.pid:
            return False  # not told yet, or by one that was killed
        children = notice.get("children", {})
        return set(children) == set(EVERY) and all(child["state"] == "running" for child in children.values())

    def until(self, holds: Callable[[], bool], what: str, patience: float = 150) -> None:
        """Poll until something holds; fails with what the desk said."""
        deadline = time.monotonic() + patience
        while not holds():
            assert time.monotonic() < deadline, f"not within {patience} s: {what}\n{self.said()[-3000:]}"
            time.sleep(0.05)

    def until_up(self) -> Up:
        """Wait until every part runs."""
        self.until(self.all_running, "every part runs")
        return self

    def family(self) -> list[psutil.Process]:
        """The launcher and all processes below it."""
        launcher = psutil.Process(self.process.pid)
        return [launcher, *launcher.children(recursive=True)]

    def end(self, number: int = signal.SIGTERM) -> int:
        """Signal the launcher alone and wait for its end; its exit code."""
        self.process.send_signal(number)
        return self.process.wait(60)

    def clean(self) -> None:
        """After a test, however it went: nothing of it goes on."""
        if self.process.poll() is None:
            self.end()
        self.cli("down")


@contextlib.contextmanager
def desk_up(data: Path, *options: str, prefix: tuple[str, ...] = ()) -> Iterator[Up]:
    """A desk that is up, and gone afterwards."""
    up = Up(data, *options, prefix=prefix)
    try:
        yield up.until_up()
    finally:
        up.clean()


def living(family: list[psutil.Process]) -> list[psutil.Process]:
    """Those that still do something; one that only waits to be reaped by its new parent does not."""
    return [
        process for process in family if process.is_running() and _status(process) != psutil.STATUS_ZOMBIE
    ]


def _status(process: psutil.Process) -> str:
    try:
        return str(process.status())
    except psutil.NoSuchProcess:
        return str(psutil.STATUS_ZOMBIE)


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Up]:
    """One desk for the tests that only look, or whose harm is mended by itself. Its path has a space."""
    with desk_up(tmp_path_factory.mktemp("a desk") / "data of mine") as up:
        yield up


def test_info_gives_address_token_and_credentials_that_work(running: Up) -> None:
    found = json.loads(running.cli("info", "--json").stdout)
    assert found["data_dir"] == str(running.data)
    assert found["token"] == running.cli("token").stdout.strip()
    host = found["api_url"].removeprefix("http://")
    for token, status in ((found["token"], 200), ("wrong", 401)):
        connection = http.client.HTTPConnection(host, timeout=10)
        connection.request("GET", "/api/status", headers={"Authorization": f"Bearer {token}"})
        assert connection.getresponse().status == status
        connection.close()
    assert found["nats_url"].startswith("nats://operator:")


def test_the_viewers_token_reads_and_is_told_that_it_may_not_act(running: Up) -> None:
    viewer = running.cli("token", "--viewer").stdout.strip()
    assert viewer != running.cli("token").stdout.strip()
    kept = running.data / "secrets" / "viewer-token"
    assert kept.stat().st_mode & 0o777 == 0o600
    looking = {"DESK_TOKEN": viewer}
    assert running.cli("status", **looking).returncode == exit_codes.DONE
    refused = running.cli("stop", **looking)
    assert refused.returncode == exit_codes.REFUSED
    assert "may look at everything and change nothing (desk token prints the operator's)" in refused.stderr
    assert viewer not in refused.stderr


async def test_the_nats_url_of_info_may_command_and_not_forge(running: Up) -> None:
    import nats
    from nats.errors import TimeoutError as NatsTimeout

    async def quiet(_: Exception) -> None:
        """A refused publish is reported here too."""

    url = json.loads(running.cli("info", "--json").stdout)["nats_url"]
    client = await nats.connect(url, error_cb=quiet)
    try:
        answer = await client.request("control.main.pause", b"{}", timeout=10)
        assert json.loads(answer.data)["status"] == "rejected", "nothing is deployed"
        with pytest.raises(NatsTimeout):
            await client.jetstream().publish("trade.main.closed", b"{}", timeout=1)
    finally:
        await client.close()


def test_status_says_that_nothing_is_deployed(running: Up) -> None:
    found = json.loads(running.cli("status", "--json").stdout)
    assert found["deployment_status"] in ("NOT_DEPLOYED", "STOPPED")
    assert found["holding"] == "flat"
    assert running.cli("status").returncode == exit_codes.DONE


def test_a_second_up_on_the_same_data_says_so_and_leaves_the_first_alone(running: Up) -> None:
    before = running.pids()
    second = running.cli("up", "--no-browser")
    assert second.returncode == exit_codes.ALREADY_RUNNING
    assert "already runs" in second.stderr
    assert running.pids() == before
    assert running.all_running()


def test_doctor_finds_a_running_desk_well(running: Up) -> None:
    found = running.cli("doctor", "--json")
    findings = json.loads(found.stdout)["findings"]
    assert [finding for finding in findings if finding["state"] == "failed"] == []
    assert {"nats-server", "postgresql", "disk", "clock", "streams", "database", "dead letters"} <= {
        finding["part"] for finding in findings
    }
    assert found.returncode == exit_codes.DONE


def test_no_secret_is_in_a_log_an_environment_or_a_command_line(running: Up) -> None:
    secrets = {path.name: path.read_text().strip() for path in (running.data / "secrets").iterdir()}
    for process in running.family()[1:]:
        told = " ".join(process.cmdline()) + str(process.environ())
        assert not [name for name, secret in secrets.items() if secret in told], process.name()
    for log in [*(running.data / "logs").iterdir(), running.data / "nats" / "nats.log"]:
        text = log.read_text()
        assert not [name for name, secret in secrets.items() if secret in text], log.name


def test_what_it_wrote_is_closed_to_other_users(running: Up) -> None:
    for name in ("secrets", "logs", "run", "nats", "postgres"):
        mode = stat.S_IMODE((running.data / name).stat().st_mode)
        assert mode & 0o077 == 0, name
    assert stat.S_IMODE(running.data.stat().st_mode) & 0o066 == 0
    assert stat.S_IMODE((running.data / "desk.json").stat().st_mode) == 0o600


@pytest.mark.parametrize("name", EVERY)
def test_what_is_killed_comes_back_and_the_others_stay(running: Up, name: str) -> None:
    running.until(running.all_running, "every part runs")
    before = running.pids()
    os.kill(before[name], signal.SIGKILL)
    running.until(lambda: running.pids().get(name, before[name]) != before[name], f"{name} is started again")
    running.until(running.all_running, f"{name} is ready again")
    after = running.pids()
    assert {other: pid for other, pid in after.items() if other != name} == {
        other: pid for other, pid in before.items() if other != name
    }
    running.until(
        lambda: (
            json.loads(running.cli("status", "--json").stdout or "{}").get("health", {}).get("status") == "ok"
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


def test_a_strategy_file_of_ones_own_trades_on_the_running_desk(running: Up, tmp_path: Path) -> None:
    mine = tmp_path / "my_file.py"
    mine.write_text(MY_STRATEGY)
    running.until(running.all_running, "every part runs")
    done = running.cli("deploy", "--strategy", f"{mine}:MyStrategy", "--set", "distance=0.003", "--json")
    assert done.returncode == exit_codes.DONE, done.stderr
    deployed = json.loads(done.stdout)
    assert deployed["status"] == "DEPLOYED"
    try:
        again = running.cli("deploy")
        assert again.returncode == exit_codes.REFUSED
        assert "Already deployed" in again.stderr

        def traded() -> bool:
            found = json.loads(running.cli("trades", "--json").stdout or "{}")
            return any(trade["strategy"] == "mine" for trade in found.get("trades", []))

        running.until(traded, "a trade of the strategy is recorded")
    finally:
        stopped = running.cli("stop", "--json")
    assert stopped.returncode == exit_codes.DONE, stopped.stderr
    assert json.loads(stopped.stdout)["state"] == "done"
    assert json.loads(running.cli("status", "--json").stdout)["holding"] == "flat"
    out = tmp_path / "trades.csv"
    assert running.cli("trades", "--csv", str(out), "--run", deployed["run_id"]).returncode == exit_codes.DONE
    head, *rows = out.read_text().splitlines()
    assert head.startswith("trade_time,entry_price,exit_price,pnl,outcome,r_multiple,equity")
    assert rows
    parquet = tmp_path / "trades.parquet"
    assert running.cli("export", "--format", "parquet", str(parquet)).returncode == exit_codes.DONE
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


def test_a_deploy_waits_for_a_trader_that_is_being_started(running: Up) -> None:
    running.until(running.all_running, "every part runs")
    os.kill(running.pids()["trader"], signal.SIGKILL)
    done = running.cli("deploy", "--json", "--wait", "60")
    try:
        assert done.returncode == exit_codes.DONE, done.stderr
        assert json.loads(done.stdout)["status"] == "DEPLOYED"
    finally:
        assert running.cli("stop").returncode == exit_codes.DONE
