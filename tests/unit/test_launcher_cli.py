"""The command line without a desk: every command explains itself, and doctor names what is wrong."""

from __future__ import annotations

import json
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
from typer.testing import CliRunner

from services.launcher import exit_codes
from services.launcher.cli import build, main
from services.launcher.client import Address, ApiError, DeskClient, NotNow
from services.launcher.data_dir import DataDir
from services.shared.errors import DeskNotRunning, InvalidInput, Refused

COMMANDS = tuple(
    "up down status info deploy pause resume stop halt reset limits trades export token "  # noqa: SIM905
    "alerts doctor backtest strategy".split()
)


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_explains_itself(name: str) -> None:
    alone = CliRunner().invoke(build(name), [name, "--help"])
    assert alone.exit_code == exit_codes.DONE
    assert f"desk {name}" in alone.output
    assert "--help" in alone.output


def test_the_help_lists_every_command_and_every_exit_code() -> None:
    shown = CliRunner().invoke(build(), ["--help"]).output
    assert [name for name in COMMANDS if f"\n  {name} " not in shown] == []
    assert [code for code in exit_codes.MEANINGS if f"{code} " not in shown.partition("Exit codes")[2]] == []


def test_doctor_fails_on_a_secret_that_others_may_read(tmp_path: Path) -> None:
    data = DataDir(tmp_path)
    data.make()
    data.secret("token").write_text("x" * 40)
    data.secret("token").chmod(0o644)
    done = CliRunner().invoke(build("doctor"), ["doctor", "--data-dir", str(tmp_path), "--json"])
    assert done.exit_code == exit_codes.FAILED
    findings = {finding["part"]: finding for finding in json.loads(done.output)["findings"]}
    assert findings["secrets"]["state"] == "failed"
    assert "chmod 600" in findings["secrets"]["cure"]


def test_doctor_names_the_alert_channel_that_is_none(tmp_path: Path) -> None:
    data = DataDir(tmp_path)
    data.make()
    data.secret("alert-urls").touch(mode=0o600)
    data.secret("alert-urls").write_text("# mine\njson://127.0.0.1:1/\nnot a channel\n")
    done = CliRunner().invoke(build("doctor"), ["doctor", "--data-dir", str(tmp_path), "--json"])
    findings = {finding["part"]: finding for finding in json.loads(done.output)["findings"]}
    assert findings["alerts"]["state"] == "failed"
    assert "channel 2" in findings["alerts"]["text"]
    assert "not a channel" not in done.output, "a channel's URL is a secret"


def test_doctor_finds_a_machine_without_a_desk_well(tmp_path: Path) -> None:
    done = CliRunner().invoke(build("doctor"), ["doctor", "--data-dir", str(tmp_path / "none"), "--json"])
    assert done.exit_code == exit_codes.DONE, done.output
    assert not (tmp_path / "none").exists(), "looking must not make anything"


def test_an_error_is_a_sentence_on_standard_error_and_a_code(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["desk", "status", "--data-dir", str(tmp_path)])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == exit_codes.NOT_RUNNING
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith("desk: no desk runs")


class _Api(BaseHTTPRequestHandler):
    """Answers by the path: /401 is refused as 401, and so on."""

    def do_GET(self) -> None:
        status = int(self.path.rpartition("/")[2])
        body = json.dumps(
            {"detail": f"said {status}", "errors": [{"where": "here", "message": "wrong"}]}
        ).encode()
        if status == 299:
            status, body = 200, b"<html>"
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's name
        """Not on a test's output."""


@pytest.fixture
def api() -> Iterator[str]:
    """A server that is no desk, with any answer."""
    with HTTPServer(("127.0.0.1", 0), _Api) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (401, ApiError),
        (403, Refused),
        (404, InvalidInput),
        (409, Refused),
        (422, InvalidInput),
        (503, NotNow),
        (299, ApiError),
    ],
)
def test_each_way_the_api_says_no_is_its_own_error(api: str, status: int, kind: type[Exception]) -> None:
    with DeskClient(Address(api, "token")) as client, pytest.raises(kind) as raised:
        client.get(f"/{status}")
    if status != 299:
        assert f"said {status}; here: wrong" in str(raised.value)


def test_nobody_at_the_address_is_not_running(api: str) -> None:
    with DeskClient(Address("http://127.0.0.1:1", "token")) as client, pytest.raises(DeskNotRunning):
        client.get("/200")


def test_a_download_that_is_refused_leaves_no_file(api: str, tmp_path: Path) -> None:
    with DeskClient(Address(api, "token")) as client, pytest.raises(Refused):
        client.download("/409", {}, tmp_path / "out.csv")
    assert list(tmp_path.iterdir()) == []


def test_a_download_into_no_folder_is_the_persons_error(api: str, tmp_path: Path) -> None:
    with DeskClient(Address(api, "token")) as client, pytest.raises(InvalidInput, match="cannot be written"):
        client.download("/200", {}, tmp_path / "none" / "out.csv")


def test_a_download_appears_whole(api: str, tmp_path: Path) -> None:
    with DeskClient(Address(api, "token")) as client:
        assert not client.download("/200", {}, tmp_path / "out.csv"), "it did not say that this is all"
    assert json.loads((tmp_path / "out.csv").read_text())["detail"] == "said 200"
    assert [path.name for path in tmp_path.iterdir()] == ["out.csv"]
