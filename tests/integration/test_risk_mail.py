"""What the guard's process mails, and when NATS is away."""

from __future__ import annotations

import asyncio
import email.message
import email.parser
import email.policy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from aiosmtpd.controller import Controller

from services.launcher.ports import free_port
from services.risk.guard import Guard
from tests.conftest import NatsForTests
from tests.guard_at_work import GuardProcess, Wired, lose_3000, until
from tests.guard_facts import (
    Desk,
    WireTrader,
    entry,
)


class Inbox:
    """A real SMTP server, and what it took."""

    def __init__(self) -> None:
        self.port = free_port()
        self.mails: list[email.message.EmailMessage] = []
        self.controller = Controller(self, hostname="127.0.0.1", port=self.port)

    async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:  # noqa: N802 - aiosmtpd's name
        """Take a mail."""
        parser = email.parser.BytesParser(policy=email.policy.default)
        self.mails.append(parser.parsebytes(envelope.content))
        return "250 OK"

    @property
    def subjects(self) -> list[str]:
        """The subject lines, decoded."""
        return [str(mail["subject"]) for mail in self.mails]


@pytest.fixture
def mail_server() -> Iterator[Inbox]:
    """A mail server that works."""
    inbox = Inbox()
    inbox.controller.start()
    yield inbox
    inbox.controller.stop()


async def test_a_halt_arrives_by_mail_with_what_to_do(
    nats_server: NatsForTests, trader_id: str, connect: Any, tmp_path: Path, mail_server: Inbox
) -> None:
    urls = tmp_path / "alert-urls"
    urls.write_text(
        "# the desk's mail\n"
        f"mailto://127.0.0.1:{mail_server.port}/?from=desk@example.com&to=ann@example.com&mode=insecure\n"
    )
    guard = GuardProcess(nats_server, trader_id, {"DESK_ALERT_URLS_FILE": str(urls)})
    await guard.start()
    run_id = f"run-{trader_id}"
    wired = Wired(
        guard,
        await connect("trader"),
        await connect("operator"),
        trader_id,
        WireTrader(trader_id, run_id=run_id),
        Desk(guard=Guard(), run_id=run_id),
    )
    try:
        await lose_3000(wired)

        async def arrived() -> list[str]:
            return [line for line in mail_server.subjects if "drawdown" in line]

        (line,) = await until(arrived)
        assert line == f"[tradedesk {trader_id}] CRITICAL: drawdown"
        body = mail_server.mails[0].get_body(("plain", "html"))
        assert body is not None
        assert "desk reset" in body.get_content()
    finally:
        assert await guard.stop() == 0


async def test_when_nats_is_away_the_guard_sends_the_mail_itself_and_goes_on_when_it_is_back(
    fresh_nats: NatsForTests, trader_id: str, tmp_path: Path, mail_server: Inbox
) -> None:
    urls = tmp_path / "alert-urls"
    urls.write_text(
        f"mailto://127.0.0.1:{mail_server.port}/?from=desk@example.com&to=ann@example.com&mode=insecure"
    )
    guard = GuardProcess(fresh_nats, trader_id, {"DESK_ALERT_URLS_FILE": str(urls)})
    await guard.start()
    operator = await fresh_nats.connect("operator")
    trader = await fresh_nats.connect("trader")
    run_id = f"run-{trader_id}"
    wire, at = WireTrader(trader_id, run_id=run_id), Desk(guard=Guard(), run_id=run_id)
    wired = Wired(guard, trader, operator, trader_id, wire, at)
    try:
        await wired.begin()
        await asyncio.to_thread(fresh_nats.stop)

        async def told() -> bool:
            return any("nats_away" in line for line in mail_server.subjects)

        await until(told, 40)
        await asyncio.to_thread(fresh_nats.start)
        assert (await wired.ask(wired.next(judge=[entry()]))).verdicts[0].approved
    finally:
        assert await guard.stop() == 0
        await operator.close()
        await trader.close()
