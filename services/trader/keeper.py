"""What the trader remembers and what it says, in the order that makes a crash harmless (PROTOCOL 2).

State is written before anything of a step leaves, with the step's messages as bytes; then they leave through
the outbox. What is in the state and when it is saved is decided by `service`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

import structlog

from services.shared.bus import Bus, told_to_leave
from services.shared.commands import CommandReply
from services.shared.errors import BusError, Conflict
from services.shared.outbox import Outbox
from services.shared.repeats import REPEAT, CarriedOut
from services.trader.inbox import StoredCommand
from services.trader.journal import Message
from services.trader.lease import Lease
from services.trader.settings import TraderSettings
from services.trader.snapshot import Deferred, Latch, RunSnapshot, Snapshot, SnapshotStore

log = structlog.get_logger(__name__)

RETRY_AFTER = 0.5
T = TypeVar("T")


async def patiently(attempt: Callable[[], Awaitable[T]]) -> T:
    """Try until NATS answers: a trader without it has nothing to do. Raises Conflict."""
    while True:
        try:
            return await attempt()
        except BusError as error:
            if isinstance(error, Conflict):
                raise
            log.warning("nats_unavailable", detail=str(error))
            if told_to_leave():
                raise asyncio.CancelledError from None
            await asyncio.sleep(RETRY_AFTER)


class Keeper:
    """The memory of one trader: where it is in its commands and signals, which it has carried out, a latched
    halt, commands that wait for a run to go on (`deferred`), and why the run waits, once told (`told`)."""

    def __init__(self, bus: Bus, settings: TraderSettings, lease: Lease) -> None:
        self._lease = lease
        self._store = SnapshotStore(bus, settings.trader, settings.data_dir)
        self._number = 0
        self.outbox = Outbox(bus)
        self.commands_seq = 0
        self.signals_seq = 0
        self.repeats = CarriedOut()
        self.latch: Latch | None = None
        self.deferred: list[Deferred] = []
        self.told = ""

    async def restore(self) -> RunSnapshot | None:
        """Read the memory and write it as ours, so that no earlier owner can; what may not have left before leaves
        again. Returns the run that was under way.

        Raises DeskError for a damaged snapshot, Conflict when the lease is another's already.
        """
        kept = await patiently(self._store.restore)
        if kept is None:
            await self.save(lambda: None, (), wait=True)
            return None
        self._number = kept.number
        self.commands_seq, self.signals_seq = kept.commands_seq, kept.signals_seq
        self.repeats = CarriedOut(kept.carried_out)
        self.latch, self.deferred, self.told = kept.latch, list(kept.deferred), kept.told
        await self.save(lambda: kept.run, kept.messages, wait=True)
        self.send(kept.messages)
        return kept.run

    @property
    def next_number(self) -> int:
        """What the next snapshot is numbered; no number is ever written twice."""
        return self._number + 1

    async def save(
        self, run: Callable[[], RunSnapshot | None], messages: Sequence[Message], *, wait: bool = False
    ) -> bool:
        """Write the snapshot, with what may not be stored yet as bytes; returns whether NATS has it (else the
        trader's own disk). `wait`: until all before is stored and NATS has it; nothing else is under way then.

        Raises Conflict when another trader of this id has written, or when a standby may have: its lease has run
        out, and the position is the other's to manage.
        """
        self._lease.confirm()
        if wait:
            await self.outbox.drained()
        self._number += 1
        outputs = [*self.outbox.waiting(), *((m.subject, m.data, m.msg_id) for m in messages)]
        snapshot = Snapshot(
            owner=self._lease.owner.tenure,
            number=self._number,
            commands_seq=self.commands_seq,
            signals_seq=self.signals_seq,
            carried_out=self.repeats.kept(),
            latch=self.latch,
            run=run(),
            outputs=[(subject, msg_id, data.decode()) for subject, data, msg_id in outputs],
            deferred=self.deferred,
            told=self.told,
        )
        if wait:
            await patiently(lambda: self._store.save(snapshot))
            return True
        return await self._store.save(snapshot, or_disk=True)

    def send(self, messages: Sequence[Message]) -> None:
        """Have messages leave; they have been saved before."""
        for message in messages:
            self.outbox.add(message.subject, message.data, message.msg_id)

    async def drained_within(self, seconds: float) -> bool:
        """Whether everything said so far is stored by then."""
        try:
            async with asyncio.timeout(seconds):
                await self.outbox.drained()
        except TimeoutError:
            return False
        return True

    def repeat(self, taken: StoredCommand) -> CommandReply | None:
        """The answer to a repeat, or None: nothing is done for it, and nothing said but to whoever asked."""
        if taken.identity not in self.repeats:
            return None
        place = self.repeats.place(taken.identity)
        reason = f"{REPEAT}COMMANDS:{place}: nothing was done again"
        return CommandReply(status="accepted", command_id=taken.command_id, reason=reason)

    def take_deferred(self) -> StoredCommand | None:
        """The next command that waited for its run, or None; the next save forgets it."""
        return self.deferred.pop(0).stored() if self.deferred else None

    @property
    def stop_deferred(self) -> bool:
        """Whether a person's stop or halt waits for its run."""
        return any(each.stored().ends_waiting for each in self.deferred)


__all__ = ["RETRY_AFTER", "Keeper", "patiently"]
