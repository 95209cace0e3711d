"""Somebody at a running desk with the `nats` command line."""

from __future__ import annotations

import asyncio
import json
from typing import Any
from uuid import uuid4

from nats.aio.client import Client
from nats.aio.msg import Msg

from tests.desk_process import DeskProcess
from tests.hearing import until_state

MOMENTS = 4.0
"""Seconds within which every request is answered."""


class Asker:
    """Somebody with the `nats` command line: what they send, and what the desk says of it."""

    def __init__(self, running: DeskProcess, client: Client) -> None:
        self.running = running
        self.client = client
        self._told: list[dict[str, Any]] = []
        self._changed = asyncio.Condition()

    async def listen(self) -> None:
        """`nats sub outcome.main`."""
        await self.client.subscribe("outcome.main", cb=self._hear)
        await self.client.flush()

    async def _hear(self, message: Msg) -> None:
        async with self._changed:
            self._told.append(json.loads(message.data))
            self._changed.notify_all()

    async def req(self, verb: str, data: str | bytes | dict[str, Any] = "") -> dict[str, Any]:
        """`nats req control.main.<verb> <data>`; its answer, which has exactly the promised fields."""
        payload = json.dumps(data) if isinstance(data, dict) else data
        raw = payload.encode() if isinstance(payload, str) else payload
        message = await self.client.request(f"control.main.{verb}", raw, timeout=MOMENTS)
        answer: dict[str, Any] = json.loads(message.data)
        more = {"limits"} if verb == "limits" else set()
        assert set(answer) == {"status", "command_id", "reason"} | more
        assert answer["status"] in ("accepted", "rejected")
        assert isinstance(answer["command_id"], str)
        assert answer["command_id"]
        assert isinstance(answer["reason"], str)
        assert answer["reason"] or answer["status"] == "accepted"
        return answer

    async def until_ready(self, service: str) -> None:
        """Wait until a service that is being started says that it is there for requests."""
        await until_state(self.client, service, "main", "ready")

    async def pub(self, verb: str, data: dict[str, Any]) -> None:
        """`nats pub command.main.<verb> <data>`."""
        await self.client.publish(f"command.main.{verb}", json.dumps(data).encode())
        await self.client.flush()

    def said(self, command_id: str) -> list[tuple[str, str]]:
        """What has been said of a command so far: verb and state."""
        return [(told["verb"], told["state"]) for told in self._told if told["command_id"] == command_id]

    async def until_said(self, command_id: str, verb: str, state: str) -> None:
        """Wait for an outcome."""
        async with asyncio.timeout(30), self._changed:
            await self._changed.wait_for(lambda: (verb, state) in self.said(command_id))

    async def settled(self) -> None:
        """Nothing is deployed and nothing is halted."""
        if self.running.status()["halted"]:
            await self.req("reset", {"reason": "next test"})
        answer = await self.req("stop")
        if answer["status"] == "accepted":
            await self.until_said(answer["command_id"], "stop", "done")

    async def deployed(self, command_id: str | None = None) -> str:
        """A deployment under way; the id it was asked under."""
        asked = {"strategy": "donchian", "instrument": "EURUSD", "command_id": command_id or new_id()}
        answer = await self.req("deploy", asked)
        assert (answer["status"], answer["reason"]) == ("accepted", "")
        await self.until_said(answer["command_id"], "deploy", "done")
        return str(answer["command_id"])


def new_id() -> str:
    return f"mine-{uuid4().hex[:12]}"
