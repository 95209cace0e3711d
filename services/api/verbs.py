"""Commands on their way: asked of the desk, then waited for until their outcome or the caller's patience.

The API never decides: trader and guard accept, refuse and report, and their words are handed on. A
command that only lowers risk and finds nobody who stores it is stored from here, under the id it was asked
under, so that it is one command should the guard store it too.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import uuid
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Literal

import structlog
from pydantic import ValidationError

from services.api.line import LAST_STATES, Line, Told
from services.api.problems import CommandFailed, CommandRefused, NobodyAnswered
from services.shared import subjects
from services.shared.commands import (
    NOT_STORED,
    Command,
    CommandReply,
    Deploy,
    Deployment,
    LimitsReply,
    LimitsRequest,
)
from services.shared.errors import BusError, NoAnswer, NotStored
from services.shared.repeats import REPEAT
from services.shared.verbs import LOWERS_RISK

log = structlog.get_logger(__name__)

ANSWER_WITHIN = 5.0
DEPLOY_EXPIRES_AFTER = timedelta(seconds=60)
_NOBODY = "nobody answers: stored, and carried out when the trader is back"
_WITHOUT_GUARD = "the guard, which stores commands, does not answer: stored without it, for the trader"

State = Literal["stored", "accepted", "blocked", "flat", "done"]


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a command that was taken on has come."""

    command_id: str
    verb: str
    state: State
    reason: str = ""

    @property
    def done(self) -> bool:
        """Whether its postcondition holds."""
        return self.state == "done"


class Verbs:
    """Sends commands over the line. Stateless but for the line's memory of outcomes."""

    def __init__(self, line: Line) -> None:
        self._line = line

    async def send(self, trader: str, command: Command, *, wait: float) -> Progress:
        """Ask the desk to carry out `command` and watch it for `wait` seconds.

        Raises CommandRefused or CommandFailed with the desk's reason, NobodyAnswered, BusError.
        """
        command_id = command.command_id or f"api-{uuid.uuid4().hex}"
        changes: dict[str, object] = {"command_id": command_id, "by": command.by or "api"}
        if isinstance(command, Deploy) and command.expires is None:
            changes["expires"] = datetime.now(UTC) + DEPLOY_EXPIRES_AFTER
        asked = command.model_copy(update=changes)
        data = asked.model_dump_json(exclude_none=True).encode()
        before = self._line.outcomes.history(command_id, command.verb)
        first = await self._ask(trader, command.verb, data, command_id)
        # A deploy is answered when it is taken on: its run is then written down and lasts for hours.
        enough = LAST_STATES | {"accepted"} if isinstance(command, Deploy) else LAST_STATES
        # What was said under this id before is of another command, unless this one only repeats it.
        stale = [] if first.reason.startswith(REPEAT) else before
        told = await self._line.outcomes.wait(
            command_id, command.verb, lambda said: said.outcome.state in enough and said not in stale, wait
        )
        if told is None:
            heard = self._line.outcomes.history(command_id, command.verb)
            told = next((said for said in reversed(heard) if said not in stale), None)
        return _progress(command_id, command.verb, first, told)

    async def _ask(self, trader: str, verb: str, data: bytes, command_id: str) -> Progress:
        bus = self._line.bus
        try:
            answer = await bus.request(subjects.control(trader, verb), data, timeout=ANSWER_WITHIN)
        except NoAnswer:
            if verb not in LOWERS_RISK:
                raise NobodyAnswered(f"trader {trader} does not answer; nothing was done") from None
            return await self._store(trader, verb, data, command_id, _NOBODY)
        try:
            reply = CommandReply.model_validate_json(answer)
        except ValidationError:
            raise NobodyAnswered(f"trader {trader} gave an answer that cannot be read") from None
        if reply.status == "rejected" and reply.reason.startswith(NOT_STORED):
            if verb not in LOWERS_RISK:
                raise NobodyAnswered(reply.reason)
            return await self._store(trader, verb, data, command_id, _WITHOUT_GUARD)
        if reply.status == "rejected":
            raise CommandRefused(reply.reason or "refused without a reason", command_id=command_id)
        return Progress(command_id, verb, "accepted", reply.reason)

    async def _store(self, trader: str, verb: str, data: bytes, command_id: str, why: str) -> Progress:
        """Nobody else has stored it: what lowers risk is stored from here. Raises NobodyAnswered."""
        try:
            # Without a Nats-Msg-Id: the trader tells a repeat, NATS would go by the id alone.
            await self._line.bus.store(subjects.command(trader, verb), data)
        except NotStored as error:
            raise NobodyAnswered(f"nobody answers and the command could not be stored: {error}") from None
        log.warning("command_stored_by_the_api", verb=verb, trader=trader, command_id=command_id, why=why)
        return Progress(command_id, verb, "stored", why)

    async def deploy(
        self, trader: str, command: Deploy, *, wait: float
    ) -> tuple[Progress, Deployment | None]:
        """Start a deployment: how far the command has come, and what it made once that is written down.

        Raises what `send` does.
        """
        progress = await self.send(trader, command, wait=wait)
        if progress.state == "stored":
            return progress, None
        return progress, await self._deployed(trader, progress.command_id, wait=max(wait / 2, 0.1))

    async def _deployed(self, trader: str, command_id: str, *, wait: float) -> Deployment | None:
        """The deployment that a deploy command made, once the trader has written it down."""
        deadline = asyncio.get_running_loop().time() + wait
        while True:
            with contextlib.suppress(BusError):
                found = await self._line.deployment(trader)
                if found is not None and _made_by(found, command_id):
                    return found
            if asyncio.get_running_loop().time() >= deadline:
                return None
            await asyncio.sleep(0.02)

    async def limits(self, trader: str, request: LimitsRequest, *, timeout: float = 3.0) -> LimitsReply:
        """Ask the guard for its limits, or to change them. Raises NobodyAnswered, BusError."""
        data = request.model_dump_json().encode()
        try:
            answer = await self._line.bus.request(subjects.control(trader, "limits"), data, timeout=timeout)
        except NoAnswer:
            raise NobodyAnswered("the risk guard does not answer; no limit was changed") from None
        try:
            return LimitsReply.model_validate_json(answer)
        except ValidationError:
            raise NobodyAnswered("the risk guard gave an answer that cannot be read") from None

    async def signal(self, trader: str, data: bytes, signal_id: str) -> int:
        """Store a signal; returns its place in the stream. The same id twice is one signal."""
        return await self._line.bus.store(
            subjects.signal(trader), data, msg_id=f"signal-{trader}-{signal_id}"
        )


def _made_by(deployment: Deployment, command_id: str) -> bool:
    return deployment.command_id == command_id and bool(deployment.run_id)


def _progress(command_id: str, verb: str, first: Progress, told: Told | None) -> Progress:
    if told is None:
        return first
    state, reason = told.outcome.state, told.outcome.reason
    if state == "rejected":
        raise CommandRefused(reason or "refused without a reason", command_id=command_id)
    if state == "failed":
        raise CommandFailed(reason or "failed without a reason", command_id=command_id)
    return Progress(command_id, verb, state, reason)


def ignored_fields(command: type[Command], given: tuple[str, ...]) -> list[str]:
    """The names in a body that mean nothing to this command: a misspelt field should not pass unseen."""
    return sorted(json.dumps(name)[1:65].rstrip('"') for name in set(given) - set(command.model_fields))[:10]
