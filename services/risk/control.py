"""What is asked on `control.<t>.<verb>`: stored here, since nobody else hears it who may command.

Everything is stored in the order in which it came, and at once, also while the guard's memory is restored: one
plain subscription hears it all. The endpoints, one a verb, see to the answers: what became of a command is
the trader's to say; when it is silent, the guard says what it has stored. What a command means is not asked.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from uuid import uuid4

import structlog
from nats.aio.msg import Msg
from nats.errors import Error as NatsError
from nats.micro.request import Request
from nats.micro.service import EndpointConfig, Service

from services.risk.silence import Heartbeats
from services.shared import subjects
from services.shared.bus import Bus
from services.shared.commands import (
    NAMED_BY_THE_GUARD,
    NOT_STORED,
    CommandReply,
    named_id,
    parse_command,
)
from services.shared.errors import InvalidInput, NotStored
from services.shared.verbs import VERBS

log = structlog.get_logger(__name__)

_TRADER_HAS = 1.25
"""Seconds the trader has to show that it is there: a heartbeat comes each second."""
_SILENT_AFTER = 2.5
"""Seconds after which a trader that is not heard gets nothing stored that would raise its risk later."""
_TRADER_ANSWERS_WITHIN = 3.5
"""Seconds after which a living trader has answered what it heard; it hears nothing while it starts."""
_STORED_WITHIN = 2.0
_NEEDS_THE_TRADER = ("deploy", "resume")
_WHEN_BACK = "stored: the trader does not answer, and carries it out when it is back"
_NOT_YET = "stored; the trader has not said yet what became of it"
_SILENT = f"{NOT_STORED}the trader does not answer, and this is not kept for later: ask again when it is back"
_GIVEN_UP_AFTER = 15.0
_FATES_KEPT = 4096


@dataclass(slots=True, frozen=True)
class _Fate:
    """What was done with a request: stored under its id, or why not; `final` when the trader cannot know better."""

    command_id: str
    why_not: str = ""
    final: bool = False


class Control:
    """Stores and, in the trader's silence, answers what is asked of one trader."""

    def __init__(self, bus: Bus, trader: str, heartbeats: Heartbeats) -> None:
        self._bus = bus
        self._trader = trader
        self._heartbeats = heartbeats
        self._fates: dict[str, asyncio.Future[_Fate]] = {}
        self._answering: set[asyncio.Task[None]] = set()

    async def open(self, service: Service) -> None:
        """Hear what is asked, and show an endpoint for each verb."""
        await self._bus.subscribe(subjects.control(self._trader, "*"), self._hear)
        for verb in VERBS:
            await service.add_endpoint(
                EndpointConfig(name=verb, subject=subjects.control(self._trader, verb), handler=self._respond)
            )

    async def _hear(self, message: Msg) -> None:
        """One after the other: the next is taken when this one is on disk, or cannot be."""
        verb = message.subject.rpartition(".")[2]
        if verb not in VERBS:
            return
        fate = await self._take(verb, bytes(message.data))
        if message.reply:
            known = self._fate_of(message.reply)
            if known.done():  # somebody uses one reply subject for several requests
                self._fates.pop(message.reply)
                known = self._fate_of(message.reply)
            known.set_result(fate)

    async def _take(self, verb: str, data: bytes) -> _Fate:
        try:
            command, _ = parse_command(verb, data)
        except InvalidInput as error:
            return _Fate(named_id(data), str(error))
        if verb in _NEEDS_THE_TRADER and self._trader_silent:
            log.warning("command_refused_for_silent_trader", verb=verb)
            return _Fate(named_id(data), _SILENT, final=True)
        command_id = command.command_id or f"{NAMED_BY_THE_GUARD}{uuid4().hex}"
        stored = command.model_copy(update={"command_id": command_id})
        try:
            # Without a Nats-Msg-Id: NATS must drop no stop for its id (see `shared.repeats`).
            await self._bus.store(
                subjects.command(self._trader, verb),
                stored.model_dump_json(exclude_none=True).encode(),
                timeout=_STORED_WITHIN,
            )
        except NotStored as error:
            log.error("command_not_stored", verb=verb, command_id=command_id, detail=str(error))
            return _Fate(command_id, f"{NOT_STORED}{error}", final=True)
        return _Fate(command_id)

    @property
    def _trader_silent(self) -> bool:
        now = asyncio.get_running_loop().time()
        return self._heartbeats.silent_for("trader", now) > _SILENT_AFTER

    def _fate_of(self, reply: str) -> asyncio.Future[_Fate]:
        """The same for who stores a request and for who answers it, whoever comes first."""
        known = self._fates.get(reply)
        if known is None:
            known = self._fates[reply] = asyncio.get_running_loop().create_future()
            while len(self._fates) > _FATES_KEPT:
                del self._fates[next(iter(self._fates))]
        return known

    async def _respond(self, request: Request) -> None:
        """In a task of its own: an endpoint is handed its next request only when its handler returns."""
        if not request._msg.reply:
            return
        task = asyncio.create_task(self._answer(request, asyncio.get_running_loop().time()))
        self._answering.add(task)
        task.add_done_callback(self._answering.discard)

    async def _answer(self, request: Request, asked: float) -> None:
        """Answer unless the trader does."""
        try:
            async with asyncio.timeout(_GIVEN_UP_AFTER):
                fate = await self._fate_of(request._msg.reply)
        except TimeoutError:  # so many are being stored that the asker has gone
            return
        finally:
            self._fates.pop(request._msg.reply, None)
        if not fate.final:
            await self._pass(asked + _TRADER_HAS)
            alive = self._heartbeats.heard_since("trader", asked)
            if alive and fate.why_not:
                return
            if alive:
                await self._pass(asked + _TRADER_ANSWERS_WITHIN)
            elif not fate.why_not:
                log.warning("command_stored_for_silent_trader", command_id=fate.command_id)
            reason = fate.why_not or (_NOT_YET if alive else _WHEN_BACK)
        else:
            reason = fate.why_not
        status = "rejected" if fate.why_not else "accepted"
        reply = CommandReply(status=status, command_id=fate.command_id, reason=reason)
        try:
            await request.respond(reply.model_dump_json().encode())
        except (NatsError, OSError) as error:  # the asker may have gone; that ends nothing here
            log.warning("reply_not_sent", error=type(error).__name__)

    @staticmethod
    async def _pass(moment: float) -> None:
        await asyncio.sleep(max(0.0, moment - asyncio.get_running_loop().time()))


__all__ = ["Control"]
