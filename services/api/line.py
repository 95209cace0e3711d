"""The API's line to NATS: connects in the background for ever, and hears what the desk says.

Keeps the few things that every request may need and no database should be asked for: how far each
recent command has come, and whether something new was stored. Asking and sending is `verbs`' business.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

import structlog
from nats.aio.msg import Msg
from nats.errors import Error as NatsError

from services.shared import subjects
from services.shared.bus import Bus
from services.shared.commands import Deployment
from services.shared.errors import BusError, InvalidInput
from services.shared.events import CommandOutcome
from services.shared.wire import decode

log = structlog.get_logger(__name__)

EVENT_SUBJECTS: tuple[str, ...] = (
    "trade.>",
    "adjustment.*",
    "order.>",
    "limits.*",
    "equity.*",
    "status.*",
    "alert.*",
    "outcome.*",
    "signal.*",
    "action.*",
)
LAST_STATES = frozenset({"rejected", "done", "failed"})
_REMEMBERED = 2000


@dataclass(frozen=True, slots=True)
class Told:
    """One thing the desk has said about a command."""

    trader: str
    outcome: CommandOutcome
    time: datetime


class Outcomes:
    """How far the commands of the last while have come, by id; whoever waits is woken."""

    def __init__(self) -> None:
        self._told: OrderedDict[str, list[Told]] = OrderedDict()
        self._changed = asyncio.Condition()

    async def hear(self, told: Told) -> None:
        """Take in an outcome; a repeat changes nothing. What has ended and is then answered under its id again
        begins anew."""
        outcome = told.outcome
        history = self._told.setdefault(outcome.command_id, [])
        if told not in history:
            course = [known for known in history if known.outcome.verb == outcome.verb]
            states = [known.outcome.state for known in course]
            if begins_anew(states, outcome.state):
                history[:] = [known for known in history if known not in course]
            if outcome.state not in states or begins_anew(states, outcome.state):
                history.append(told)
        while len(self._told) > _REMEMBERED:
            self._told.popitem(last=False)
        async with self._changed:
            self._changed.notify_all()

    def history(self, command_id: str, verb: str | None = None) -> list[Told]:
        """What has been heard of a command, oldest first. Without its verb: of the last that had the id."""
        told = self._told.get(command_id, [])
        if verb is None and told:
            verb = told[-1].outcome.verb
        return [known for known in told if known.outcome.verb == verb]

    async def wait(
        self, command_id: str, verb: str, enough: Callable[[Told], bool], timeout: float
    ) -> Told | None:
        """The first thing said about a command that is `enough`, or None in time."""

        def found() -> Told | None:
            return next((told for told in self.history(command_id, verb) if enough(told)), None)

        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout), self._changed:
                await self._changed.wait_for(lambda: found() is not None)
        return found()


def begins_anew(states: Sequence[str], state: str) -> bool:
    """Whether `state`, said after `states` of one verb and id, is of another command that was given that id."""
    return state in ("accepted", "rejected") and not LAST_STATES.isdisjoint(states)


class Ear(Protocol):
    """Somebody who wants to hear a plain subject."""

    def __call__(self, message: Msg) -> Awaitable[None]: ...


class Line:
    """`run()` connects and stays connected; `bus` is the connection, or BusError while there is none."""

    def __init__(self, url: str, password: str) -> None:
        self._url = url
        self._password = password
        self._bus: Bus | None = None
        self._ears: list[tuple[str, Ear]] = [(subject, self._hear) for subject in EVENT_SUBJECTS]
        self.outcomes = Outcomes()
        self._news = asyncio.Event()
        self._open: asyncio.Event = asyncio.Event()
        self.closing = False

    def listen(self, subject: str, ear: Ear) -> None:
        """Have `ear` hear `subject`; to be called before `run`."""
        self._ears.append((subject, ear))

    @property
    def connected(self) -> bool:
        """Whether a server is on the other end now."""
        return self._bus is not None and self._bus.connected

    @property
    def bus(self) -> Bus:
        """The connection; raises BusError at once when it is down, so that nobody waits for a timeout."""
        if self._bus is None or not self._bus.connected:
            raise BusError("NATS is not connected")
        return self._bus

    async def opened(self) -> Bus:
        """The connection, once there has been one and everybody who listens does; it may be down again."""
        await self._open.wait()
        if self._bus is None:
            raise BusError("NATS is not connected any more")
        return self._bus

    @property
    def news(self) -> asyncio.Event:
        """Set at the next event heard, or when the line closes. Take it before reading, wait on it after:
        then nothing that comes in between is missed."""
        return self._news

    def _ring(self) -> None:
        rung, self._news = self._news, asyncio.Event()
        rung.set()

    async def run(self) -> None:
        """Connect, however long it takes, listen, and stay until cancelled. `close` comes after that, so
        that what is still being answered has its connection."""
        while self._bus is None:
            try:
                self._bus = await Bus.connect(self._url, user="api", password=self._password, patience=5)
            except BusError as error:
                log.warning("nats_away", detail=str(error))
                await asyncio.sleep(0.5)
        for subject, ear in self._ears:
            await self._bus.subscribe(subject, ear)
        self._open.set()
        await asyncio.get_running_loop().create_future()

    def end_streams(self) -> None:
        """Whoever waits for news is woken and told to end."""
        self.closing = True
        self._ring()

    async def close(self) -> None:
        """Leave."""
        if self._bus is not None:
            await self._bus.close()
            self._bus = None

    async def _hear(self, message: Msg) -> None:
        self._ring()
        if not message.subject.startswith("outcome."):
            return
        try:
            event = decode(message.data)
        except InvalidInput:
            return  # the recorder keeps what cannot be read
        if isinstance(event.body, CommandOutcome):
            await self.outcomes.hear(Told(event.envelope.trader, event.body, event.envelope.recorded))

    async def deployment(self, trader: str) -> Deployment | None:
        """The trader's deployment as it stands, or None when it never had one. Raises BusError."""
        found = await self.bus.get(subjects.DEPLOYMENTS, trader)
        if found is None or not found[0]:
            return None
        try:
            return Deployment.model_validate_json(found[0])
        except ValueError as error:
            raise BusError(
                f"bucket {subjects.DEPLOYMENTS} holds no deployment: {type(error).__name__}"
            ) from None

    async def bounds(self, stream: str) -> tuple[int, int]:
        """First and last sequence that `stream` holds. Raises BusError."""
        try:
            state = (await self.bus.js.stream_info(stream)).state
        except BusError:
            raise
        except (TimeoutError, OSError, NatsError) as error:
            raise BusError(f"{stream}: {type(error).__name__}") from None
        return state.first_seq, state.last_seq
