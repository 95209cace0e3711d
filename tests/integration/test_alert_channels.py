"""Alerts by mail, on a real SMTP server: delivered, retried, said once, and never in the way of anybody."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from services.launcher import exit_codes
from services.launcher.data_dir import DataDir
from services.launcher.ports import free_port
from services.shared.alerts import Alert, Alerter, channels, read_urls, try_channels
from services.shared.errors import InvalidInput
from tests.conftest import ROOT
from tests.mail_server import SECRET, MailServer


@pytest.fixture
def mail() -> Iterator[MailServer]:
    """A mail server that works."""
    server = MailServer()
    server.start()
    yield server
    server.stop()


@contextlib.asynccontextmanager
async def working(alerter: Alerter) -> AsyncIterator[Alerter]:
    """The alerter, delivering."""
    task = asyncio.create_task(alerter.run())
    try:
        yield alerter
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def alert(code: str = "drawdown", text: str = "equity is 3000 below its peak") -> Alert:
    """An alert."""
    return Alert("CRITICAL", code, text, "Look, then reset.", datetime(2026, 1, 5, 9, tzinfo=UTC), "main")


async def test_an_alert_arrives_with_what_happened_and_what_to_do(mail: MailServer) -> None:
    async with working(Alerter([mail.url()])) as alerter:
        assert alerter.add(alert())
        assert await alerter.drained(10)
    (taken,) = mail.mails
    assert taken["subject"] == "[tradedesk main] CRITICAL: drawdown"
    assert taken["to"] == "ann@example.com"
    body = taken.get_body(("plain", "html"))
    assert body is not None
    for part in ("equity is 3000 below its peak", "What to do: Look, then reset.", "2026-01-05 09:00:00 UTC"):
        assert part in body.get_content()


async def test_the_same_alert_is_sent_once(mail: MailServer) -> None:
    async with working(Alerter([mail.url()])) as alerter:
        assert alerter.add(alert())
        assert not alerter.add(alert())
        assert alerter.add(alert(text="another"))
        assert await alerter.drained(10)
    assert len(mail.mails) == 2


async def test_a_channel_that_is_away_is_retried_until_it_takes_the_alert_and_is_said_to_fail(
    mail: MailServer,
) -> None:
    mail.stop()
    said: list[tuple[str, bool]] = []
    failing = asyncio.Event()

    def trouble(channel: str, fails: bool) -> None:
        said.append((channel, fails))
        failing.set()

    async with working(Alerter([mail.url()], on_trouble=trouble, first_pause=0.05)) as alerter:
        alerter.add(alert())
        await asyncio.wait_for(failing.wait(), 20)
        assert alerter.failing == ["1-mailto"]
        mail.start()
        assert await alerter.drained(20)
        assert alerter.failing == []
    assert len(mail.mails) == 1
    assert said == [("1-mailto", True), ("1-mailto", False)]


async def test_a_refused_alert_is_retried(mail: MailServer) -> None:
    mail.refuse = True
    failing = asyncio.Event()
    alerter = Alerter([mail.url()], on_trouble=lambda *_: failing.set(), first_pause=0.05)
    async with working(alerter):
        alerter.add(alert())
        await asyncio.wait_for(failing.wait(), 20)
        mail.refuse = False
        assert await alerter.drained(20)
    assert len(mail.mails) == 1


async def test_a_slow_channel_delays_neither_the_caller_nor_another_channel(mail: MailServer) -> None:
    slow = MailServer()
    slow.slow = 3
    slow.start()
    loop = asyncio.get_running_loop()
    try:
        async with working(Alerter([slow.url(), mail.url()])) as alerter:
            began = loop.time()
            for number in range(100):
                alerter.add(alert(text=str(number)))
            assert loop.time() - began < 1
            async with asyncio.timeout(20):
                while not mail.mails:  # noqa: ASYNC110 - the server lives in another thread
                    await asyncio.sleep(0.01)
            assert not slow.mails
    finally:
        slow.stop()


async def test_no_password_is_logged_or_shown(
    mail: MailServer, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    caplog.set_level(logging.DEBUG)
    mail.refuse = True
    failing = asyncio.Event()
    alerter = Alerter([mail.url()], on_trouble=lambda *_: failing.set(), first_pause=0.05)
    async with working(alerter):
        alerter.add(alert())
        await asyncio.wait_for(failing.wait(), 20)
    with pytest.raises(InvalidInput) as refused:
        channels([mail.url(), f"nonsense://user:{SECRET}@host"])
    shown = capsys.readouterr()
    for text in (caplog.text, shown.out, shown.err, str(refused.value)):
        assert SECRET not in text
    assert "channel 2" in str(refused.value)


async def test_channels_can_be_tried(mail: MailServer) -> None:
    away = MailServer()
    assert await try_channels([mail.url(), away.url()], alert()) == {"1-mailto": True, "2-mailto": False}


def test_urls_come_one_a_line_with_comments_and_none_from_no_file(tmp_path: Path) -> None:
    assert read_urls(None) == []
    assert read_urls(tmp_path / "missing") == []
    path = tmp_path / "urls"
    path.write_text("# mail\n\n  json://localhost  \n#json://other\n")
    assert read_urls(path) == ["json://localhost"]
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(InvalidInput, match="urls"):
        read_urls(path)


def test_alerts_are_tried_from_the_command_line(mail: MailServer, tmp_path: Path) -> None:
    urls = tmp_path / "urls"
    urls.write_text(mail.url())
    environment = {"DESK_ALERT_URLS_FILE": str(urls), "DESK_NATS_PASSWORD_FILE": "unused"}
    done = subprocess.run(
        [sys.executable, "-m", "services.risk", "test-alerts"],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, "channel 1-mailto: delivered\n")
    assert SECRET not in done.stdout + done.stderr
    assert len(mail.mails) == 1


def desk_alerts_test(folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
    """`desk alerts test` on a data directory."""
    return subprocess.run(
        [sys.executable, "-m", "services.launcher", "alerts", "test", "--data-dir", str(folder), *options],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )


def test_desk_alerts_test_sends_through_every_channel_and_says_which_failed(
    mail: MailServer, tmp_path: Path
) -> None:
    data = DataDir(tmp_path)
    data.make()
    data.secret("alert-urls").write_text(f"# mine\n{mail.url()}\n")
    done = desk_alerts_test(tmp_path)
    assert (done.returncode, done.stdout) == (exit_codes.DONE, "channel 1-mailto: delivered\n")
    assert [sent["subject"] for sent in mail.mails] == ["[tradedesk main] INFO: test"]

    data.secret("alert-urls").write_text(f"{mail.url()}\njson://127.0.0.1:{free_port()}/{SECRET}\n")
    done = desk_alerts_test(tmp_path, "--json")
    assert done.returncode == exit_codes.FAILED
    assert json.loads(done.stdout)["channels"] == [
        {"channel": "1-mailto", "delivered": True},
        {"channel": "2-json", "delivered": False},
    ]
    assert "2-json" in done.stderr
    assert SECRET not in done.stdout + done.stderr


def test_desk_alerts_test_says_where_channels_are_written(tmp_path: Path) -> None:
    done = desk_alerts_test(tmp_path)
    assert done.returncode == exit_codes.USAGE
    assert str(tmp_path / "secrets" / "alert-urls") in done.stderr

    DataDir(tmp_path).make()
    (tmp_path / "secrets" / "alert-urls").write_text(f"nonsense-{SECRET}\n")
    done = desk_alerts_test(tmp_path)
    assert done.returncode == exit_codes.USAGE
    assert "channel 1" in done.stderr
    assert SECRET not in done.stderr


def test_a_directory_named_before_the_word_test_counts(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "services.launcher", "alerts", "--data-dir", str(tmp_path), "test"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert str(tmp_path) in done.stderr
