"""What people ask of the guard itself: limits, and of the commands halt and reset.

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

from services.risk.hearing import Hearing
from services.risk.keeper import Keeper
from services.shared import subjects
from services.shared.bus import Bus, Stored, told_to_leave
from services.shared.commands import (
    AnyCommand,
    Halt,
    LimitsReply,
    LimitsRequest,
    Reset,
    named_id,
    noting_ignored,
    parse_command,
    parse_limits_request,
)
from services.shared.errors import BusError, InvalidInput, Refused
from services.shared.repeats import identity

log = structlog.get_logger(__name__)

_LOOK_AGAIN = 2.0
_RESET_PATIENCE = 10.0


class DeskOrders:
    """Limits and commands of one trader, as far as they are the guard's."""

    def __init__(self, bus: Bus, trader: str, keeper: Keeper, hearing: Hearing) -> None:
        self._bus = bus
        self._trader = trader
        self._keeper = keeper
        self._hearing = hearing
        self._woken = asyncio.Event()
        self._reading = asyncio.Lock()

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

    # --- commands -----------------------------------------------------------------------------------

    async def hear_command(self, message: Msg) -> None:
        """A plain copy: a halt blocks at once, live; everything else waits for its stored twin."""
        self._woken.set()
        verb = message.subject.rpartition(".")[2]
        if verb != "halt":
            return
        command, _ = parse_command(verb, bytes(message.data))
        if command.command_id is None:
            return
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
