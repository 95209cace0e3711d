"""What people ask of the guard: limits, reset, and stop or halt when the trader does not answer.

Commands are carried out from COMMANDS, in its order, once, by sequence; a plain copy may only block
(PROTOCOL 5). Whether a limit may change or a halt be cleared is the guard's word.
"""

from __future__ import annotations

import asyncio
import json
from uuid import uuid4

import structlog
from nats.aio.msg import Msg
from nats.micro.request import Request
from pydantic import ValidationError

from services.risk.hearing import Hearing
from services.risk.keeper import Keeper
from services.risk.silence import Heartbeats
from services.shared import subjects
from services.shared.bus import Bus, Stored, told_to_leave
from services.shared.commands import (
    CommandReply,
    Halt,
    LimitsReply,
    LimitsRequest,
    Reset,
    parse_command,
)
from services.shared.errors import BusError, InvalidInput, NotStored, Refused
from services.shared.wire import explain

log = structlog.get_logger(__name__)

_TRADER_HAS = 1.25
"""Seconds the trader has to show that it is there: a heartbeat comes each second."""
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
        self._last_command = float("-inf")
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
        guard = self._keeper.guard
        reason = ""
        try:
            asked = LimitsRequest.model_validate_json(request.data.strip() or b'{"values":{}}')
            answer = guard.change_limits(asked.values, by=asked.by or "somebody", reason=asked.reason)
            if answer.events:
                self._keeper.say(answer, of_run=False)
                await self._keeper.saved()
                await self.publish_limits()
        except ValidationError as error:
            reason = explain(error)
        except (InvalidInput, Refused, BusError) as error:
            reason = str(error)
        reply = LimitsReply(
            status="rejected" if reason else "accepted", reason=reason, limits=guard.state.limits.as_text()
        )
        if request._msg.reply:
            await request.respond(reply.model_dump_json().encode())

    # --- stop and halt in the trader's place --------------------------------------------------------

    async def stand_in(self, request: Request) -> None:
        """`control.<t>.stop` and `.halt`: the trader answers; when it is silent, the command is stored here."""
        task = asyncio.create_task(self._stand_in(request))
        self._standing_in.add(task)
        task.add_done_callback(self._standing_in.discard)

    async def _stand_in(self, request: Request) -> None:
        loop = asyncio.get_running_loop()
        asked = loop.time()
        verb = request.subject.rpartition(".")[2]
        await asyncio.sleep(_TRADER_HAS)
        if self._heartbeats.heard_since("trader", asked) or self._last_command > asked:
            return
        try:
            command, _ = parse_command(verb, bytes(request.data))
            command_id = command.command_id or str(uuid4())
            stored = command.model_copy(update={"command_id": command_id})
            await self._bus.store(
                subjects.command(self._trader, verb), stored.model_dump_json().encode(), msg_id=command_id
            )
            reason = "stored by the guard: the trader is silent and carries it out when it is back"
            reply = CommandReply(status="accepted", command_id=command_id, reason=reason)
            log.warning("command_stored_for_silent_trader", verb=verb, command_id=command_id)
        except (InvalidInput, NotStored) as error:
            reply = CommandReply(status="rejected", reason=str(error))
        if request._msg.reply:
            await request.respond(reply.model_dump_json().encode())

    # --- commands -----------------------------------------------------------------------------------

    async def hear_command(self, message: Msg) -> None:
        """A plain copy: a halt blocks at once, live; everything else waits for its stored twin."""
        self._last_command = asyncio.get_running_loop().time()
        self._woken.set()
        if not message.subject.endswith(".halt"):
            return
        command, _ = parse_command("halt", bytes(message.data))
        if command.command_id is not None:
            assert isinstance(command, Halt)
            self._latch(command.command_id, None, command)

    def _latch(self, command_id: str, seq: int | None, command: Halt) -> None:
        """Latch a stored halt while a live run is under way; in lockstep the trader's own word does it, on
        the step it falls on. What is latched already learns its place."""
        guard = self._keeper.guard
        known = any(halt.command_id == command_id for halt in guard.state.halts)
        if not known and not (guard.state.mode == "live" and guard.state.deployed):
            return
        if command.run_id and command.run_id != guard.state.run_id:
            return
        answer = guard.latch(command_id, seq, by=command.by or "somebody", reason=command.reason)
        if answer.events:
            self._keeper.say(answer)
        elif seq is not None:
            self._keeper.change()

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
        command_id = command.command_id or f"{verb}-{stored.seq}"
        if isinstance(command, Halt):
            self._latch(command_id, stored.seq, command)
        elif isinstance(command, Reset):
            await self._reset(command_id, stored.seq, command)

    async def _reset(self, command_id: str, seq: int, command: Reset) -> None:
        """Clear what was halted before, once all of the trader's events say that it is flat."""
        loop = asyncio.get_running_loop()
        guard, until = self._keeper.guard, loop.time() + _RESET_PATIENCE
        while not told_to_leave():
            try:
                answer = guard.reset(command_id, seq, by=command.by or "somebody", reason=command.reason)
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
