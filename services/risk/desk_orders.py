"""What people ask of the guard: limits, reset, and stop or halt when the trader does not answer.

Commands are carried out from COMMANDS, in its order, once, by sequence; a plain copy may only block
(PROTOCOL 5). Whether a limit may change or a halt be cleared is the guard's word.
"""

from __future__ import annotations

import asyncio
import json
from collections import deque
from collections.abc import Coroutine
from uuid import uuid4

import structlog
from nats.aio.msg import Msg
from nats.micro.request import Request

from services.risk.hearing import Hearing
from services.risk.keeper import Keeper
from services.risk.silence import Heartbeats
from services.shared import subjects
from services.shared.bus import Bus, Stored, told_to_leave
from services.shared.commands import (
    AnyCommand,
    CommandReply,
    Halt,
    LimitsReply,
    LimitsRequest,
    Reset,
    named_id,
    noting_ignored,
    parse_command,
    parse_limits_request,
)
from services.shared.errors import BusError, InvalidInput, NotStored, Refused
from services.shared.repeats import identity

log = structlog.get_logger(__name__)

_TRADER_HAS = 1.25
"""Seconds the trader has to show that it is there: a heartbeat comes each second."""
_HANDLED_LATE = 1.0
"""Seconds by which a request may be handled after the plain copy of what the trader stored for it."""
_WHEN_BACK = "stored: the trader does not answer, and carries it out when it is back"
_COPIES_KEPT = 256
_LOOK_AGAIN = 2.0
_RESET_PATIENCE = 10.0


class DeskOrders:
    """Limits and commands of one trader, as far as they are the guard's."""

    def __init__(
        self, bus: Bus, trader: str, keeper: Keeper, hearing: Hearing, heartbeats: Heartbeats
    ) -> None:
        self._bus = bus
        self._trader = trader
        self._keeper = keeper
        self._hearing = hearing
        self._heartbeats = heartbeats
        self._woken = asyncio.Event()
        self._reading = asyncio.Lock()
        self._copies: deque[tuple[float, AnyCommand]] = deque(maxlen=_COPIES_KEPT)
        self._standing_in: set[asyncio.Task[None]] = set()

    # --- limits -----------------------------------------------------------------------------------

    async def publish_limits(self) -> None:
        """Put the limits in force where trader and pages read them."""
        value = {"version": 1, "limits": self._keeper.guard.state.limits.as_text()}
        try:
            await self._bus.put(subjects.LIMITS, self._trader, json.dumps(value).encode())
        except BusError as error:
            log.warning("limits_not_published", detail=str(error))

    async def answer_limits(self, request: Request) -> None:
        """`control.<t>.limits`: change what is named, answer with all that are in force."""
        data = bytes(request.data)
        try:
            asked, ignored = parse_limits_request(data)
        except InvalidInput as error:
            reply = self._limits_reply(named_id(data), why_not=str(error))
        else:
            command_id = asked.command_id or str(uuid4())
            try:
                told = await self._change_limits(asked, command_id)
            except (InvalidInput, Refused, BusError) as error:
                reply = self._limits_reply(command_id, why_not=str(error))
            else:
                reply = self._limits_reply(command_id, reason=noting_ignored(told, ignored))
        if request._msg.reply:
            await request.respond(reply.model_dump_json().encode())

    def _limits_reply(self, command_id: str, *, reason: str = "", why_not: str = "") -> LimitsReply:
        return LimitsReply(
            status="rejected" if why_not else "accepted",
            command_id=command_id,
            reason=why_not or reason,
            limits=self._keeper.guard.state.limits.as_text(),
        )

    async def _change_limits(self, asked: LimitsRequest, command_id: str) -> str:
        """Change what is named, once; returns what there is to say. Raises InvalidInput, Refused, BusError."""
        keeper, known_as = self._keeper, identity("limits", asked)
        if known_as in keeper.places.carried_out:
            return "a repeat: nothing was changed again"
        answer = keeper.guard.change_limits(
            asked.values, by=asked.by or "somebody", reason=asked.reason, command_id=command_id
        )
        keeper.places.carried_out.note(known_as, 0)
        keeper.change()
        if answer.events:
            keeper.say(answer, of_run=False)
            await keeper.saved()
            await self.publish_limits()
        return ""

    # --- stop and halt in the trader's place --------------------------------------------------------

    async def stand_in(self, request: Request) -> None:
        """`control.<t>.stop` and `.halt`: the trader stores and answers it; when it does not, it is done here."""
        self._begin(self._stand_in(request))

    async def take_reset(self, request: Request) -> None:
        """`control.<t>.reset`: stored here, since no trader may; the trader answers what becomes of it."""
        self._begin(self._take_reset(request))

    def _begin(self, work: Coroutine[None, None, None]) -> None:
        """In a task of its own: an endpoint is handed its next request only when its handler returns."""
        task = asyncio.create_task(work)
        self._standing_in.add(task)
        task.add_done_callback(self._standing_in.discard)

    async def _take_reset(self, request: Request) -> None:
        asked, data = asyncio.get_running_loop().time(), bytes(request.data)
        try:
            command, _ = parse_command("reset", data)
            command_id = await self._store(command)
            await asyncio.sleep(_TRADER_HAS)
            if self._heartbeats.heard_since("trader", asked):
                return
            reply = CommandReply(status="accepted", command_id=command_id, reason=_WHEN_BACK)
        except (InvalidInput, NotStored) as error:
            reply = CommandReply(status="rejected", command_id=named_id(data), reason=str(error))
        if request._msg.reply:
            await request.respond(reply.model_dump_json().encode())

    async def _stand_in(self, request: Request) -> None:
        loop = asyncio.get_running_loop()
        asked = loop.time()
        verb = request.subject.rpartition(".")[2]
        await asyncio.sleep(_TRADER_HAS)
        alive = self._heartbeats.heard_since("trader", asked)
        data = bytes(request.data)
        try:
            command, _ = parse_command(verb, data)
            command_id = self._copied_as(command, asked - _HANDLED_LATE)
            # One that lives and has not stored it was not there yet to hear it.
            if command_id is None:
                command_id = await self._store(command)
                log.warning("command_stored_for_silent_trader", verb=verb, command_id=command_id)
            elif alive:
                return
            reply = CommandReply(status="accepted", command_id=command_id, reason=_WHEN_BACK)
        except (InvalidInput, NotStored) as error:
            reply = CommandReply(status="rejected", command_id=named_id(data), reason=str(error))
        if request._msg.reply:
            await request.respond(reply.model_dump_json().encode())

    async def _store(self, command: AnyCommand) -> str:
        """Store a command; returns its id. Raises NotStored."""
        stored = command.model_copy(update={"command_id": command.command_id or str(uuid4())})
        # Without a Nats-Msg-Id: should the trader store it too, it knows the repeat.
        await self._bus.store(subjects.command(self._trader, command.verb), stored.model_dump_json().encode())
        return str(stored.command_id)

    def _copied_as(self, command: AnyCommand, since: float) -> str | None:
        """The id under which what is asked has been stored since then, by its plain copy; or None."""
        for moment, copied in reversed(self._copies):
            if moment < since:
                break
            same = command.command_id in (None, copied.command_id)
            if same and _content(copied) == _content(command):
                return copied.command_id
        return None

    # --- commands -----------------------------------------------------------------------------------

    async def hear_command(self, message: Msg) -> None:
        """A plain copy: a halt blocks at once, live; everything else waits for its stored twin."""
        self._woken.set()
        verb = message.subject.rpartition(".")[2]
        if verb not in ("stop", "halt"):
            return
        command, _ = parse_command(verb, bytes(message.data))
        if command.command_id is None:
            return
        self._copies.append((asyncio.get_running_loop().time(), command))
        if isinstance(command, Halt) and not self._repeats_one(command):
            self._latch(command.command_id, None, command)

    def _repeats_one(self, command: AnyCommand) -> bool:
        return identity(command.verb, command) in self._keeper.places.carried_out

    def _latch(self, command_id: str, seq: int | None, command: Halt) -> bool:
        """Latch a stored halt while a live run is under way; in lockstep the trader's own word does it, on
        the step it falls on. What is latched already learns its place. Whether it is latched now."""
        guard = self._keeper.guard
        known = any(halt.command_id == command_id for halt in guard.state.halts)
        if not known and not (guard.state.mode == "live" and guard.state.deployed):
            return False
        if command.run_id and command.run_id != guard.state.run_id:
            return False
        answer = guard.latch(command_id, seq, by=command.by or "somebody", reason=command.reason)
        if answer.events:
            self._keeper.say(answer)
        elif seq is not None:
            self._keeper.change()
        return True

    async def follow_commands(self) -> None:
        """Work through COMMANDS for ever, in order, woken by plain copies."""
        while True:
            self._woken.clear()
            await self.read_commands()
            if told_to_leave():
                return
            try:
                async with asyncio.timeout(_LOOK_AGAIN):
                    await self._woken.wait()
                # The plain copy comes before the stored one can be read.
                await asyncio.sleep(0.02)
            except TimeoutError:
                pass

    async def read_commands(self) -> bool:
        """Carry out what is stored by now; False when it could not be read."""
        async with self._reading:
            try:
                async for stored in self._bus.read(
                    subjects.COMMANDS,
                    after=self._keeper.places.commands_seq,
                    subject=f"command.{self._trader}.>",
                ):
                    await self._carry_out(stored)
                    self._keeper.places.commands_seq = stored.seq
                    self._keeper.guard.state.commands_seen = stored.seq
                    self._keeper.change()
            except BusError as error:
                log.warning("commands_not_read", detail=str(error))
                return False
            return True

    async def _carry_out(self, stored: Stored) -> None:
        verb = stored.subject.rpartition(".")[2]
        if verb not in ("halt", "reset"):
            return
        try:
            command, _ = parse_command(verb, stored.data)
        except InvalidInput:
            return
        if self._repeats_one(command):
            return
        command_id = command.command_id or f"{verb}-{stored.seq}"
        if isinstance(command, Halt):
            if self._latch(command_id, stored.seq, command):
                self._keeper.places.carried_out.note(identity(verb, command), stored.seq)
        elif isinstance(command, Reset):
            await self._reset(command_id, stored.seq, command)

    async def _reset(self, command_id: str, seq: int, command: Reset) -> None:
        """Clear what was halted before, once all of the trader's events say that it is flat."""
        loop = asyncio.get_running_loop()
        guard, until = self._keeper.guard, loop.time() + _RESET_PATIENCE
        while not told_to_leave():
            try:
                answer = guard.reset(command_id, seq, by=command.by or "somebody", reason=command.reason)
                if answer.events:
                    self._keeper.places.carried_out.note(identity("reset", command), seq)
            except Refused as error:
                if loop.time() < until:
                    await self._hearing.read_gap(guard.state.run_id, None)
                    await asyncio.sleep(0.1)
                    continue
                answer = guard.alert(
                    "CRITICAL",
                    "reset_refused",
                    f"The guard stays halted: {error}",
                    "Stop with `desk stop`, wait until it is flat, then reset again.",
                )
            if answer.events:
                self._keeper.say(answer, of_run=False)
                await self._keeper.saved()
            return


def _content(command: AnyCommand) -> str:
    """What is asked, whoever asks it and under which id."""
    return identity(command.verb, command.model_copy(update={"command_id": "any"}))
