"""A trader and a guard that answer from a script, over real NATS, as anybody with their users could.

For tests of what asks: the API's handling of every answer, also those that the real ones give rarely.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any

from nats.aio.msg import Msg

from services.shared import subjects
from services.shared.bus import Bus
from services.shared.commands import HEARTBEAT, Deployment, Heartbeat
from services.shared.errors import NotStored
from services.shared.events import Body, CommandOutcome
from services.shared.wire import encode, event_id

Script = Callable[[dict[str, Any]], Awaitable[dict[str, Any] | bytes | None]]


class ScriptedTrader:
    """Answers `control.<t>.*` by script, and says on the bus what it is told to say."""

    def __init__(self, bus: Bus, trader: str) -> None:
        self._bus = bus
        self._trader = trader
        self._seq = 0
        self.asked: list[tuple[str, dict[str, Any]]] = []

    async def answer(self, verb: str, script: Script) -> None:
        """Have `script` answer requests of one verb; None leaves them unanswered."""

        async def handle(message: Msg) -> None:
            request = json.loads(message.data or b"{}")
            self.asked.append((verb, request))
            reply = await script(request)
            if reply is not None:
                data = reply if isinstance(reply, bytes) else json.dumps(reply).encode()
                await self._bus.publish(message.reply, data)

        await self._bus.subscribe(subjects.control(self._trader, verb), handle)
        await self._bus.client.flush()

    async def accept(self, verb: str, *states: str, reason: str = "") -> None:
        """Accept every such command and then say these states of it."""

        async def script(request: dict[str, Any]) -> dict[str, Any]:
            for state in states:
                outcome = CommandOutcome(
                    command_id=request["command_id"],
                    verb=verb,
                    state=state,  # type: ignore[arg-type]
                    reason=reason,
                )
                await self.say(outcome, "outcome")
            return {"status": "accepted", "command_id": request["command_id"]}

        await self.answer(verb, script)

    async def say(self, body: Body, kind: str, run_id: str = "run-1") -> int:
        """Store an event as the trader's; returns its place in the stream."""
        self._seq += 1
        now = datetime.now(UTC)
        data = encode(
            body,
            trader=self._trader,
            run_id=f"{self._trader}-{run_id}",
            emitter="trader",
            seq=self._seq,
            time=now,
            recorded=now,
        )
        message_id = str(event_id(f"{self._trader}-{run_id}", "trader", self._seq))
        for _ in range(5):  # again under the same id, as everybody on the desk does
            with contextlib.suppress(NotStored):
                return await self._bus.store(subjects.event(kind, self._trader), data, msg_id=message_id)
        raise AssertionError(f"{kind} could not be stored")

    async def write_deployment(self, **values: Any) -> Deployment:
        """Put the trader's own record of its deployment."""
        deployment = Deployment(
            **{"trader": self._trader, "run_id": "run-1", "phase": "MONITORING", "updated": datetime.now(UTC)}
            | values
        )
        await self._bus.put(subjects.DEPLOYMENTS, self._trader, deployment.model_dump_json().encode())
        return deployment

    async def beat(self, service: str) -> None:
        """One heartbeat; the bus's user must be that service's."""
        pulse = Heartbeat(service=service, instance="1", version="0", time=datetime.now(UTC), state="ready")
        await self._bus.publish(subjects.heartbeat(service, "1"), HEARTBEAT.dump_json(pulse))

    async def close(self) -> None:
        """Leave."""
        await self._bus.close()
