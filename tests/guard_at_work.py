"""The guard as a process on real NATS, and the trader and person who talk to it."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sys
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from services.shared import subjects
from services.shared.bus import Bus
from services.shared.commands import (
    HEARTBEAT,
    Heartbeat,
    LimitsReply,
    RiskAnswer,
)
from services.shared.errors import NoAnswer
from services.shared.events import Body, CommandOutcome
from services.shared.verdicts import StepReport
from services.shared.wire import decode
from tests.conftest import ROOT, NatsForTests
from tests.guard_facts import (
    Desk,
    WireTrader,
    answer_of,
    closed,
    entry,
    fill,
    mark,
    status,
    terms,
    working_stop,
)

NO_DAILY = {"daily_loss": "off"}


@dataclass
class GuardProcess:
    """The guard's own process, which may be killed and started again."""

    nats: NatsForTests
    trader: str
    settings: dict[str, str] = field(default_factory=dict)
    process: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        """Start it; it answers when it is ready."""
        environment = {name: value for name, value in os.environ.items() if not name.startswith("DESK_")}
        environment |= {
            "DESK_NATS_URL": self.nats.url,
            "DESK_NATS_PASSWORD_FILE": str(self.nats.password_file("risk")),
            "DESK_TRADER": self.trader,
            "DESK_INSTANCE": self.trader,
            **self.settings,
        }
        self.process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "services.risk", cwd=ROOT, env=environment
        )

    async def kill(self) -> None:
        """kill -9."""
        assert self.process is not None
        self.process.kill()
        await self.process.wait()

    async def stop(self) -> int:
        """SIGTERM; its exit code."""
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)
        return await asyncio.wait_for(self.process.wait(), 10)


@dataclass
class Wired:
    """A guard process, and the trader and the person it talks to."""

    guard: GuardProcess
    bus: Bus
    operator: Bus
    trader: str
    wire: WireTrader
    desk: Desk

    async def send(self, data: bytes) -> RiskAnswer:
        """Ask until it is answered, as a trader in lockstep does."""
        async with asyncio.timeout(20):
            while True:
                with contextlib.suppress(NoAnswer):
                    answer = answer_of(
                        await self.bus.request(subjects.risk_check(self.trader), data, timeout=1)
                    )
                    if answer.status != "rebuilding":
                        return answer
                await asyncio.sleep(0.02)

    async def begin(self, limits: dict[str, str] | None = None) -> None:
        """Begin the run."""
        if limits:
            await self.change(limits)
        assert (await self.ask(self.starting())).status == "answered"

    def starting(self) -> StepReport:
        """The first step."""
        return self.next(
            CommandOutcome(command_id="deploy-1", verb="deploy", state="accepted"),
            status("STARTING", "NOT_DEPLOYED", with_terms=self.desk.terms),
            status("MONITORING", "STARTING"),
        )

    def next(self, *facts: Body, **more: Any) -> StepReport:
        """The next step's report, by a guard of our own that is not asked."""
        self.desk.ask(*facts, **more)
        return self.desk.reports[-1]

    async def ask(self, report: StepReport, *, store: bool = True) -> RiskAnswer:
        """State a step's facts and ask about it."""
        messages = self.wire.messages(report.facts, report.time)
        if store:
            await self.store(messages)
        return await self.send(self.wire.request(report, messages))

    async def store(self, messages: Sequence[bytes]) -> None:
        """Publish messages as the trader does."""
        for data in messages:
            envelope = decode(data).envelope
            subject = subjects.event(envelope.type, self.trader)
            await self.bus.store(subject, data, msg_id=str(envelope.id))

    async def change(self, values: dict[str, str], reason: str = "test") -> LimitsReply:
        """Change limits as a person does."""
        data = json.dumps({"values": values, "by": "ann", "reason": reason}).encode()
        return LimitsReply.model_validate_json(
            await self.until_heard(subjects.control(self.trader, "limits"), data)
        )

    async def until_heard(self, subject: str, data: bytes) -> bytes:
        """A person's request, repeated while nobody is there."""
        async with asyncio.timeout(20):
            while True:
                with contextlib.suppress(NoAnswer):
                    return await self.operator.request(subject, data, timeout=5)
                await asyncio.sleep(0.05)

    async def stored(self, subject: str, stream: str = subjects.EVENTS) -> list[bytes]:
        """What a stream has on a subject now."""
        return [message.data async for message in self.bus.read(stream, subject=subject)]

    async def state(self) -> dict[str, Any]:
        """What the guard has stored."""
        found = await self.bus.get(subjects.SNAPSHOTS, f"guard.{self.trader}")
        return {} if found is None else dict(json.loads(found[0]))


async def until(look: Callable[[], Awaitable[Any]], seconds: float = 10) -> Any:
    """Look until there is something."""
    async with asyncio.timeout(seconds):
        while not (found := await look()):  # noqa: ASYNC110 - a store is looked at, nothing tells
            await asyncio.sleep(0.02)
    return found


async def beat(bus: Bus, trader: str) -> None:
    """A trader that is alive."""
    while True:
        pulse = Heartbeat(
            service="trader", instance=trader, version="1", time=datetime.now(UTC), state="ready"
        )
        await bus.publish(subjects.heartbeat("trader", trader), HEARTBEAT.dump_json(pulse))
        await asyncio.sleep(0.3)


async def go_live(wired: Wired) -> None:
    """A live run that holds a position."""
    wired.desk.terms = terms(mode="live")
    await wired.begin(NO_DAILY)
    await wired.ask(wired.next(judge=[entry()]))
    await wired.ask(wired.next(fill(1), working_stop(2), mark(3, "10000")))


async def lose_3000(wired: Wired) -> RiskAnswer:
    """A run that loses exactly its drawdown limit."""
    await wired.begin(NO_DAILY)
    await wired.ask(wired.next(judge=[entry()]))
    await wired.ask(wired.next(fill(1), working_stop(2), mark(3, "10000")))
    lost = wired.next(fill(2, "sell", "0.5001", purpose="stop"), closed("-3000", "7000"), mark(4, "7000"))
    return await wired.ask(lost)
