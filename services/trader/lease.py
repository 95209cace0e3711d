"""The lease of a trader id: one process at a time owns the account; others of that id stand by and take over.

A key in the `leases` bucket that forgets itself: whoever cannot renew it loses it, and nobody is asked. It says
who may begin; what keeps an old owner that wakes up from doing harm is the revision of the snapshot, which a
new owner writes before anything else (`keeper`). A process of the same instance is the one that was started
again in its predecessor's place, and takes its lease at once.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from uuid import uuid4

import structlog
from pydantic import BaseModel, ConfigDict, ValidationError

from services.shared import subjects
from services.shared.bus import Bus, told_to_leave
from services.shared.errors import BusError, Conflict

log = structlog.get_logger(__name__)

RENEW_EVERY = 2.0
_LOOK_EVERY = 0.5
_LEAVE_WITHIN = 1.0
_LASTS = subjects.FORGOTTEN_AFTER[subjects.LEASES]
_GIVEN_UP = b""


class Owner(BaseModel):
    """Who owns a trader id: `instance` is the place it runs at, `tenure` is new each time somebody begins."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    instance: str
    tenure: str

    @classmethod
    def new(cls, instance: str) -> Owner:
        """A tenure that begins now."""
        return cls(instance=instance, tenure=uuid4().hex)


class Lease:
    """One process's claim to a trader id. `acquire`, then `keep` beside the work, at the end `give_up`.

    `contested`: there may be others who wait for it to run out.
    """

    def __init__(self, bus: Bus, trader: str, instance: str, *, contested: bool = False) -> None:
        self._bus = bus
        self._contested = contested
        self._key = f"trader.{trader}"
        self._revision = 0
        self._until = 0.0
        self.owner = Owner.new(instance)

    async def acquire(self, stand_by: Callable[[Owner], None]) -> Owner | None:
        """Wait until the id is nobody else's, and own it; `stand_by` hears of each that it is. Returns who let it
        run out while we waited, or None.

        Raises BusError when NATS does not answer: what was seen of the others counts no more then.
        """
        seen: Owner | None = None
        while True:
            holder, revision = await self._look()
            if holder is None or holder.instance == self.owner.instance:
                with contextlib.suppress(Conflict):  # another was quicker
                    await self._write(revision)
                    return seen if holder is None and revision == 0 else None
            elif holder != seen:
                seen = holder
                stand_by(holder)
            if told_to_leave():
                raise asyncio.CancelledError
            await asyncio.sleep(_LOOK_EVERY)

    async def keep(self) -> None:
        """Renew for ever. Raises Conflict when somebody else has it, or may have: it is contested and ran out.

        One that ran out while NATS was away, and that nobody waits for, is taken anew: should somebody have had
        it meanwhile, the next snapshot is refused.
        """
        while not told_to_leave():
            await asyncio.sleep(RENEW_EVERY)
            try:
                await self._renew()
            except Conflict:
                raise
            except BusError as error:
                log.warning("lease_not_renewed", detail=str(error))
            self.confirm()

    async def _renew(self) -> None:
        try:
            await self._write(self._revision)
        except Conflict:
            holder, revision = await self._look()
            if holder is not None:
                same = holder.instance == self.owner.instance
                hint = "; give each process its own DESK_INSTANCE" if same else ""
                raise Conflict(f"{self._key} is owned by instance {holder.instance} now{hint}") from None
            await self._write(revision)

    @property
    def lost(self) -> bool:
        """Whether somebody else may own the id by now: somebody waits for it, and by our own clock it has run
        out."""
        return self._contested and asyncio.get_running_loop().time() >= self._until

    def confirm(self) -> None:
        """Raises Conflict when it is lost."""
        if self.lost:
            raise Conflict("the lease has run out: a standby may own the account by now")

    async def give_up(self) -> None:
        """Let the next one begin at once; where that fails it begins when the lease runs out."""
        if not self._revision:
            return
        with contextlib.suppress(BusError, TimeoutError):
            async with asyncio.timeout(_LEAVE_WITHIN):
                await self._bus.put(subjects.LEASES, self._key, _GIVEN_UP, revision=self._revision)
        self._revision, self._until = 0, 0.0

    async def _look(self) -> tuple[Owner | None, int]:
        found = await self._bus.get(subjects.LEASES, self._key)
        if found is None:
            return None, 0
        data, revision = found
        if data == _GIVEN_UP:
            return None, revision
        try:
            return Owner.model_validate_json(data), revision
        except ValidationError:
            log.error("lease_unreadable", key=self._key)
            return None, revision

    async def _write(self, revision: int) -> None:
        # From before it is sent: the server counts from when it has it.
        until = asyncio.get_running_loop().time() + _LASTS
        data = self.owner.model_dump_json().encode()
        self._revision = await self._bus.put(subjects.LEASES, self._key, data, revision=revision)
        self._until = until


__all__ = ["Lease", "Owner"]
