"""A real SMTP server for tests of alerts by mail; its address has a password in it that nothing may show."""

from __future__ import annotations

import asyncio
import email.message
import email.parser
import email.policy
from typing import Any

from aiosmtpd.controller import Controller

from services.launcher.ports import free_port

SECRET = "hunter2-secret"


class MailServer:
    """A real SMTP server that can be away, refuse, or be slow."""

    def __init__(self) -> None:
        self.port = free_port()
        self.mails: list[email.message.EmailMessage] = []
        self.refuse = False
        self.slow = 0.0
        self._controller: Controller | None = None

    async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:  # noqa: N802 - aiosmtpd's name
        """Take a mail, or not."""
        if self.slow:
            await asyncio.sleep(self.slow)
        if self.refuse:
            return "451 not now"
        self.mails.append(email.parser.BytesParser(policy=email.policy.default).parsebytes(envelope.content))
        return "250 OK"

    def start(self) -> None:
        """Listen."""
        self._controller = Controller(self, hostname="127.0.0.1", port=self.port)
        self._controller.start()

    def stop(self) -> None:
        """Be away."""
        if self._controller is not None:
            self._controller.stop()
            self._controller = None

    def url(self) -> str:
        """How Apprise reaches it, with a password in it."""
        return f"mailto://127.0.0.1:{self.port}/?from=desk@example.com&to=ann@example.com&mode=insecure&pass={SECRET}"
