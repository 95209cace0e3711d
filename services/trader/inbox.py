"""Commands and signals as they reach the trader: stored ones in the stream's order, once, by sequence.

The plain copy of a command wakes the reader and, where it stops something, blocks new risk at once; it does
nothing else, since it carries no sequence (PROTOCOL 5). Whoever wants an answer asks on `control.<t>.<verb>`:
the guard stores the request, since a trader may not command, and here it is answered with what became of it.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from uuid import uuid4

import nats.micro
import structlog
from nats.aio.msg import Msg
from nats.errors import Error as NatsError
from nats.micro.request import Request
from nats.micro.service import EndpointConfig, Service

from services.shared import __version__, subjects
from services.shared.bus import Bus, Stored, told_to_leave
from services.shared.commands import (
    NOT_STORED,
    VERBS,
    AnyCommand,
    CommandReply,
    Halt,
    Signal,
    named_id,
    noting_ignored,
    parse_command,
    parse_signal,
)
from services.shared.errors import BusError, InvalidInput
from services.shared.repeats import CarriedOut, identity
from services.shared.verbs import ASKED, LOWERS_RISK
from services.trader.requests import TOO_LATE, Asked, Requests, why_not_stored

log = structlog.get_logger(__name__)

_RETRIES = (0.0, 0.005, 0.02, 0.1, 0.3)
_LOOK_EVERY = 1.0
_STORED_WITHIN = 1.0
_LAST_LOOK_WITHIN = 0.5
_ANSWER_WITHIN = 3.0
_ANSWERED_AT_ONCE = 1024
"""Requests beyond are left to the guard, which stores and answers them all the same."""
_OTHERS_QUEUE = "other"
"""A queue group of one's own: the server makes one group of two that have a name in common, whatever their
subjects, and half of the requests would go here instead of to their endpoint."""


@dataclass(slots=True, frozen=True)
class StoredCommand:
    """A command as the stream has it; `error` when it cannot be used, `identity` for telling a repeat,
    `repeated` when it was known for one as it was read."""

    seq: int
    verb: str
    command_id: str
    command: AnyCommand | None
    error: str = ""
    identity: str = ""
    repeated: bool = False

    @property
    def guard_run(self) -> str:
        """The run the guard halted by it, or nothing for a command of anybody else."""
        command = self.command
        return command.run_id if isinstance(command, Halt) and command.by == "guard" else ""

    @property
    def ends_waiting(self) -> bool:
        """Whether a person says by it that the guard need not be waited for (PROTOCOL 3)."""
        usable = self.command is not None and not self.repeated
        return self.verb in ("stop", "halt") and usable and not self.guard_run


@dataclass(slots=True, frozen=True)
class StoredSignal:
    """A signal as the stream has it; None where it cannot be used."""

    seq: int
    signal: Signal | None


class Inbox:
    """What has been asked of one trader. `pending` holds what is stored and not yet carried out.

    `blocked` is set the moment a stop, halt or pause is heard, in memory, before it is read from the stream;
    `on_block` is called then.
    """

    def __init__(
        self, bus: Bus, trader: str, repeats: CarriedOut, *, commands_seq: int, signals_seq: int
    ) -> None:
        self._bus = bus
        self._trader = trader
        self._repeats = repeats
        self._commands_seq = commands_seq
        self._signals_seq = signals_seq
        self._heard = asyncio.Event()
        self._requests = Requests()
        self._reading = asyncio.Lock()
        self._answering: set[asyncio.Task[None]] = set()
        self._service: Service | None = None
        self.pending: asyncio.Queue[StoredCommand | StoredSignal] = asyncio.Queue()
        self.arrived = asyncio.Event()
        self.blocked: str | None = None
        self.blocked_since = 0.0
        self.on_block: Callable[[str], None] = _ignore
        self.stops_waiting = 0

    async def open(self) -> None:
        """Hear plain copies, and answer requests."""
        await self._bus.subscribe(f"command.{self._trader}.*", self._on_copy)
        await self._bus.subscribe(subjects.signal(self._trader), self._on_copy)
        self._service = await nats.micro.add_service(
            self._bus.client,
            name="desk-trader",
            version=__version__,
            description=f"Deploys and stops on trader {self._trader}",
            metadata={"trader": self._trader},
        )
        for verb in VERBS:
            await self._service.add_endpoint(
                EndpointConfig(
                    name=verb,
                    subject=subjects.control(self._trader, verb),
                    handler=self._on_request,
                )
            )
        await self._bus.subscribe(
            subjects.control(self._trader, "*"), self._on_other_request, queue=_OTHERS_QUEUE
        )

    async def close(self) -> None:
        """Answer no more."""
        if self._service is not None:
            with contextlib.suppress(NatsError, OSError, TimeoutError):
                async with asyncio.timeout(1):
                    await self._service.stop()
        for task in self._answering:
            task.cancel()

    async def catch_up(self) -> bool:
        """Read everything stored so far; whether there was anything. Raises BusError."""
        async with self._reading:
            return await self._read()

    async def _read(self) -> bool:
        before = (self._commands_seq, self._signals_seq)
        async for message in self._bus.read(
            subjects.COMMANDS, after=self._commands_seq, subject=f"command.{self._trader}.>"
        ):
            self._commands_seq = message.seq
            command = self._met(_command(message, self._repeats))
            self.stops_waiting += command.ends_waiting
            self.pending.put_nowait(command)
            self.arrived.set()
        async for message in self._bus.read(
            subjects.EVENTS, after=self._signals_seq, subject=subjects.signal(self._trader)
        ):
            self._signals_seq = message.seq
            self.pending.put_nowait(_signal(message))
            self.arrived.set()
        return before != (self._commands_seq, self._signals_seq)

    def _met(self, read: StoredCommand) -> StoredCommand:
        """What was read, once who asked for it knows; nothing can be done by it that comes too late."""
        if read.command is None or self._requests.meet(read.seq, read.command) or read.repeated:
            return read
        log.warning("command_stored_too_late", verb=read.verb, command_id=read.command_id, seq=read.seq)
        return replace(read, command=None, error=TOO_LATE)

    async def run(self) -> None:
        """Read what is stored, whenever something is heard and each second, for ever."""
        retries: tuple[float, ...] = (0.0,)
        while not told_to_leave():
            self._heard.clear()
            for pause in retries:
                await asyncio.sleep(pause)
                try:
                    if await self.catch_up():
                        break
                except BusError as error:
                    log.warning("commands_unreadable", detail=str(error))
            retries = (0.0,)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_LOOK_EVERY):
                    await self._heard.wait()
                # A plain copy comes before its twin is on disk.
                retries = _RETRIES

    def take(self) -> StoredCommand | StoredSignal | None:
        """The next in order, or None."""
        if self.pending.empty():
            self.arrived.clear()
            return None
        taken = self.pending.get_nowait()
        if isinstance(taken, StoredCommand):
            self.stops_waiting -= taken.ends_waiting
        return taken

    async def wait(self) -> None:
        """Wait until there is something to take."""
        await self.arrived.wait()

    def carried_out(self, taken: StoredCommand, reply: CommandReply) -> None:
        """Tell whoever asked for this command what became of it."""
        self._requests.answer(taken.seq, reply)

    async def _on_copy(self, message: Msg) -> None:
        verb = message.subject.rpartition(".")[2]
        blocks = message.subject.startswith("command.") and verb in LOWERS_RISK
        if blocks and not self._repeats_one(verb, bytes(message.data)):
            if self.blocked is None:
                self.blocked_since = asyncio.get_running_loop().time()
            self.blocked = verb
            self.on_block(verb)
        self._heard.set()

    def _repeats_one(self, verb: str, data: bytes) -> bool:
        try:
            command, _ = parse_command(verb, data)
        except InvalidInput:
            return False
        return identity(verb, command) in self._repeats

    async def _on_request(self, request: Request) -> None:
        """Answer in a task of its own: an endpoint is handed its next request only when this returns."""
        verb = request.subject.rpartition(".")[2]
        if len(self._answering) >= _ANSWERED_AT_ONCE:
            log.warning("request_left_to_the_guard", verb=verb)
            return
        task = asyncio.create_task(self._respond(verb, request))
        self._answering.add(task)
        task.add_done_callback(self._answering.discard)

    async def _respond(self, verb: str, request: Request) -> None:
        try:
            reply = await self._answer(verb, bytes(request.data))
            if request._msg.reply:
                await request.respond(reply.model_dump_json().encode())
        except (NatsError, OSError) as error:  # the asker may have gone; that ends nothing here
            log.warning("reply_not_sent", verb=verb, error=type(error).__name__)

    async def _on_other_request(self, message: Msg) -> None:
        """Refuse a verb that nobody knows; the others have endpoints of their own."""
        verb = message.subject.rpartition(".")[2]
        if verb in ASKED or not message.reply:
            return
        reply = CommandReply(
            status="rejected",
            command_id=named_id(bytes(message.data)),
            reason=f"expected one of {', '.join(ASKED)}, was {verb[:40]!r}",
        )
        with contextlib.suppress(BusError):
            await self._bus.publish(message.reply, reply.model_dump_json().encode())

    async def _answer(self, verb: str, data: bytes) -> CommandReply:
        try:
            command, ignored = parse_command(verb, data)
        except InvalidInput as error:
            return CommandReply(status="rejected", command_id=named_id(data), reason=str(error))
        request = self._requests.begin(command)
        try:
            reply = await self._fate(request, asyncio.get_running_loop().time() + _ANSWER_WITHIN)
        finally:
            self._requests.end(request)
        if reply.status == "accepted":
            reply = reply.model_copy(update={"reason": noting_ignored(reply.reason, ignored)})
        return reply

    async def _fate(self, request: Asked, until: float) -> CommandReply:
        """What becomes of a request, as far as that is known in time."""
        if not await self._stored(request):
            self._requests.refuse(request)
            reason = NOT_STORED + why_not_stored(request, self._trader)
            command_id = request.command_id or str(uuid4())
            return CommandReply(status="rejected", command_id=command_id, reason=reason)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout_at(until):
                return await request.reply
        return CommandReply(
            status="accepted", command_id=request.command_id, reason="stored; not carried out yet"
        )

    async def _stored(self, request: Asked) -> bool:
        """Whether its twin is in the stream, by a last look at the latest: nothing else may have woken the
        reader. Between this answer and what is made of it nothing is read."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_STORED_WITHIN):
                await request.stored.wait()
        if not request.stored.is_set():
            with contextlib.suppress(TimeoutError, BusError):
                async with asyncio.timeout(_LAST_LOOK_WITHIN):
                    await self.catch_up()
        return request.stored.is_set()


def _ignore(verb: str) -> None:
    """Nobody wants to know."""


def _command(message: Stored, repeats: CarriedOut) -> StoredCommand:
    verb = message.subject.rpartition(".")[2]
    fallback = f"{subjects.COMMANDS}:{message.seq}"
    if message.subject.count(".") != 2:
        return StoredCommand(message.seq, "", fallback, None, "no command subject")
    try:
        command, _ = parse_command(verb, message.data)
    except InvalidInput as error:
        return StoredCommand(message.seq, verb, fallback, None, str(error))
    known_as = identity(verb, command)
    return StoredCommand(
        message.seq,
        verb,
        command.command_id or fallback,
        command,
        identity=known_as,
        repeated=known_as in repeats,
    )


def _signal(message: Stored) -> StoredSignal:
    try:
        return StoredSignal(message.seq, parse_signal(message.data))
    except InvalidInput as error:
        log.warning("signal_unreadable", seq=message.seq, detail=str(error))
        return StoredSignal(message.seq, None)
