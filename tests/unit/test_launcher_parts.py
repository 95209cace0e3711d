"""The launcher's parts that need no desk: ports, backoff, secrets, lock, options, files, lines."""

from __future__ import annotations

import json
import socket
import stat
import subprocess
import sys
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import pytest
from rich.console import Console

from services.launcher import passwords, process
from services.launcher.backoff import Backoff
from services.launcher.data_dir import AlreadyRunning, DataDir
from services.launcher.deploy_files import bring_files
from services.launcher.deploy_options import DeployOptions, pairs
from services.launcher.lines import describe
from services.launcher.ports import free_port, is_free
from services.launcher.up_command import absolute_feed
from services.shared import subjects
from services.shared.commands import Deploy
from services.shared.errors import DeskNotRunning, InvalidInput, Refused
from services.shared.events import AlertRaised, EquityMarked, TradeClosed
from services.shared.nats_configuration import Login, configuration
from services.shared.wire import Event, decode, encode


def test_backoff_doubles_to_five_seconds_and_starts_over_after_ten_seconds_of_health() -> None:
    backoff = Backoff()
    assert [backoff.after(1) for _ in range(8)] == [0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 5.0, 5.0]
    assert backoff.after(9.9) == 5.0
    assert backoff.after(10) == 0.1


def test_a_taken_port_is_not_chosen() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        number = taken.getsockname()[1]
        assert not is_free(number)
        assert free_port(usual=number) != number


def test_a_port_promised_to_another_is_not_chosen() -> None:
    usual = free_port()
    assert free_port(usual=usual, taken=frozenset({usual})) != usual


def test_secrets_are_made_once_and_readable_by_their_user_only(tmp_path: Path) -> None:
    data = DataDir(tmp_path / "a desk")
    data.make()
    first = passwords.ensure(data)
    again = passwords.ensure(data)
    assert (again.token, again.nats, again.database) == (first.token, first.nats, first.database)
    assert first.renewed_database
    assert not again.renewed_database
    every = [first.token, *first.nats.values(), *first.database.values()]
    assert len(set(every)) == len(every), "no secret may be used twice"
    for path in data.secrets.iterdir():
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(data.secrets.stat().st_mode) == 0o700


def test_a_lost_database_password_is_made_anew_and_said_so(tmp_path: Path) -> None:
    data = DataDir(tmp_path)
    data.make()
    passwords.ensure(data)
    data.secret("database-api").unlink()
    assert passwords.ensure(data).renewed_database


def test_the_data_directory_is_held_by_one_process(tmp_path: Path) -> None:
    data = DataDir(tmp_path)
    data.make()
    data.lock()
    try:
        with pytest.raises(AlreadyRunning):
            DataDir(tmp_path).lock()
    finally:
        data.unlock()
    other = DataDir(tmp_path)
    other.lock()
    other.unlock()


def test_the_lock_of_a_killed_process_is_free(tmp_path: Path) -> None:
    DataDir(tmp_path).make()
    program = (
        "import sys, time; from pathlib import Path; from services.launcher.data_dir import DataDir;"
        "data = DataDir(Path(sys.argv[1])); data.lock(); print('held', flush=True); time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", program, str(tmp_path)], stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline().strip() == b"held"
        with pytest.raises(AlreadyRunning):
            DataDir(tmp_path).lock()
        holder.kill()
        holder.wait()
    free = DataDir(tmp_path)
    free.lock()
    free.unlock()


def test_a_pid_file_of_a_dead_process_names_nobody(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as child:
        process.remember(path, child.pid)
        found = process.recall(path)
        assert found is not None
        assert found.pid == child.pid
        child.kill()
        child.wait()
    assert process.recall(path) is None


def test_a_pid_that_now_belongs_to_another_process_is_not_taken_for_ours(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    process.remember(path, 1)
    fact = json.loads(path.read_text())
    path.write_text(json.dumps({**fact, "started": fact["started"] - 60}))
    assert process.recall(path) is None


@pytest.mark.parametrize("text", ["", "{", "[]", '{"pid": "x"}', '{"pid": 1}', "\x00"])
def test_a_broken_pid_file_names_nobody(tmp_path: Path, text: str) -> None:
    path = tmp_path / "x.json"
    path.write_text(text)
    assert process.recall(path) is None


def test_without_a_desk_the_notice_says_how_to_start_one(tmp_path: Path) -> None:
    with pytest.raises(DeskNotRunning, match="desk up"):
        DataDir(tmp_path).running()


def test_the_nats_configuration_grants_each_user_what_subjects_say(tmp_path: Path) -> None:
    text = configuration(
        host="127.0.0.1",
        port=4222,
        store=tmp_path / 'a "quoted" place',
        log=tmp_path / "nats.log",
        logins={user.name: (Login(user.name, f"secret-of-{user.name}"),) for user in subjects.USERS},
    )
    assert "sync_interval: always" in text
    assert 'listen: "127.0.0.1:4222"' in text
    for user in subjects.USERS:
        line = next(line for line in text.splitlines() if f'user: "{user.name}"' in line)
        assert f'password: "secret-of-{user.name}"' in line
        for subject in user.may_publish():
            assert f'"{subject}"' in line
    assert '\\"quoted\\"' in text


def test_the_streams_fit_the_store_that_nats_is_given() -> None:
    text = configuration(
        host="127.0.0.1",
        port=1,
        store=Path("s"),
        logins={},
    )
    allowed = next(int(line.split()[-1]) for line in text.splitlines() if "max_file_store" in line)
    assert allowed > sum(stream.max_bytes for stream in subjects.STREAMS)


def test_deploy_options_make_the_command_and_leave_the_rest_to_its_defaults() -> None:
    assert DeployOptions().command() == Deploy()
    options = DeployOptions(
        strategy="rsi",
        instrument=["EURUSD,GBPUSD", "USDCHF"],
        risk_per_trade="12.50",
        hours="48",
        set=["period=9", "smooth=true"],
        rates=["USDCHF=0.98"],
        spread="0.8",
        weekend="hold",
        min_amount=True,
    )
    command = options.command(by="me", reason="why")
    assert command.instruments == ("EURUSD", "GBPUSD", "USDCHF")
    assert command.risk_per_trade == Decimal("12.50")
    assert command.parameters == {"period": "9", "smooth": "true"}
    assert command.rates == {"USDCHF": "0.98"}
    assert command.costs.spread == Decimal("0.8")
    assert command.costs.slippage == Deploy().costs.slippage
    assert (command.weekend, command.min_amount, command.by, command.reason) == ("hold", True, "me", "why")


@pytest.mark.parametrize(
    "options",
    [
        DeployOptions(risk_per_trade="-1"),
        DeployOptions(risk_per_trade="much"),
        DeployOptions(hours="0"),
        DeployOptions(instrument=["not a symbol"]),
        DeployOptions(set=["period"]),
        DeployOptions(set=["period=1", "period=2"]),
        DeployOptions(weekend="sometimes"),
        DeployOptions(leverage="0"),
        DeployOptions(currency="dollars"),
    ],
)
def test_an_unusable_deploy_option_is_named(options: DeployOptions) -> None:
    with pytest.raises(InvalidInput):
        options.command()


def test_pairs_keep_what_comes_after_the_first_equals_sign() -> None:
    assert pairs(["a=b=c", " d = e "], "--set") == {"a": "b=c", "d": "e"}


def _data_with(tmp_path: Path) -> DataDir:
    data = DataDir(tmp_path / "data")
    data.make()
    return data


def test_a_strategy_file_is_copied_and_named_without_its_path(tmp_path: Path) -> None:
    data = _data_with(tmp_path)
    mine = tmp_path / "my_file.py"
    mine.write_text("class Mine: ...\n")
    command = bring_files(Deploy(strategy=f"{mine}:Mine"), data, deployed=lambda: True)
    assert command.strategy == "my_file.py:Mine"
    assert (data.strategies / "my_file.py").read_text() == "class Mine: ...\n"


def test_a_deployed_strategy_file_is_not_replaced_by_another(tmp_path: Path) -> None:
    data = _data_with(tmp_path)
    mine = tmp_path / "my_file.py"
    mine.write_text("first\n")
    bring_files(Deploy(strategy=f"{mine}:Mine"), data, deployed=lambda: False)
    mine.write_text("second\n")
    with pytest.raises(Refused):
        bring_files(Deploy(strategy=f"{mine}:Mine"), data, deployed=lambda: True)
    assert (data.strategies / "my_file.py").read_text() == "first\n"
    bring_files(Deploy(strategy=f"{mine}:Mine"), data, deployed=lambda: False)
    assert (data.strategies / "my_file.py").read_text() == "second\n"


def test_rates_are_copied_when_they_are_files_and_kept_when_they_are_numbers(tmp_path: Path) -> None:
    data = _data_with(tmp_path)
    prices = tmp_path / "USDCHF.csv"
    prices.write_text("time,bid,ask\n")
    rates = {"USDCHF": str(prices), "EURGBP": "0.85"}
    command = bring_files(Deploy(rates=rates), data, deployed=lambda: False)
    assert command.rates == {"USDCHF": "USDCHF.csv", "EURGBP": "0.85"}
    assert (data.rates / "USDCHF.csv").exists()


def test_a_missing_file_or_an_odd_name_is_refused(tmp_path: Path) -> None:
    data = _data_with(tmp_path)
    with pytest.raises(InvalidInput, match="no file"):
        bring_files(Deploy(strategy=f"{tmp_path}/none.py:X"), data, deployed=lambda: False)
    odd = tmp_path / "a b.py"
    odd.write_text("")
    with pytest.raises(InvalidInput, match="file name"):
        bring_files(Deploy(strategy=f"{odd}:X"), data, deployed=lambda: False)


def test_a_feed_is_named_by_absolute_paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("a.csv", "b=1,c.csv"):
        Path(name).write_text("time,bid,ask\n")
    assert absolute_feed(None) is None
    assert absolute_feed("replay:a.csv") == f"replay:{tmp_path}/a.csv"
    assert absolute_feed("replay:EURUSD=a.csv,GBPUSD=a.csv") == (
        f"replay:EURUSD={tmp_path}/a.csv,GBPUSD={tmp_path}/a.csv"
    )
    assert absolute_feed("replay:b=1,c.csv") == f"replay:{tmp_path}/b=1,c.csv", "a file's own name wins"


@pytest.mark.parametrize(
    "feed", ["", "a.csv", "live:x", "replay:", "replay:none.csv", "replay:EURUSD=none.csv"]
)
def test_a_feed_that_cannot_be_read_is_refused(feed: str) -> None:
    with pytest.raises(InvalidInput):
        absolute_feed(feed)


_TIME = datetime(2017, 4, 20, 14, tzinfo=UTC)


def _event(body: AlertRaised | TradeClosed | EquityMarked) -> Event:
    return decode(
        encode(body, trader="main", run_id="r", emitter="trader", seq=1, time=_TIME, recorded=_TIME)
    )


def test_an_alerts_own_brackets_are_shown_and_not_obeyed() -> None:
    line = describe(_event(AlertRaised(severity="CRITICAL", code="x", text="[red]limit[/red]", action="do")))
    assert line is not None
    console = Console(no_color=True, width=200)
    with console.capture() as shown:
        console.print(line)
    assert "[red]limit[/red]" in shown.get()


def test_equity_has_no_line_of_its_own() -> None:
    zero = Decimal(0)
    marked = EquityMarked(
        step=1,
        balance=zero,
        unrealised=zero,
        equity=zero,
        peak=zero,
        drawdown=zero,
        max_drawdown=zero,
        open_risk=zero,
    )
    assert describe(_event(marked)) is None
