"""Frees space in the streams: what is recorded, what everybody else has passed, and what is old.

The streams refuse when full and forget nothing by age, so nobody but the recorder makes room, and only
up to where the trader's and the guard's stored positions say that they need nothing from before. The
decision is a pure function; asking for the positions and purging is around it.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

import structlog
from nats.errors import Error as NatsError

from services.recorder import measures
from services.shared import subjects
from services.shared.bus import Bus, told_to_leave
from services.shared.errors import BusError, StorageUnavailable

log = structlog.get_logger(__name__)

EVERY: Final = 3600.0
_SOON: Final = 30.0

POSITIONS: Final[dict[str, tuple[tuple[str, str], ...]]] = {
    subjects.EVENTS: (("guard", "stream_seq"), ("trader", "signals_seq")),
    subjects.COMMANDS: (("trader", "commands_seq"),),
}
"""Whose stored position in a stream is where: the snapshot's owner and the field."""


@dataclass(frozen=True, slots=True)
class Purge:
    """Drop everything up to and including `through` (0: nothing); `held_by` is who kept it from more."""

    through: int
    held_by: str


def decide(*, recorded: int, positions: Mapping[str, int | None], first_young: int) -> Purge:
    """What may go of a stream: no message that is not recorded, that somebody has not passed (None: whose
    position is unknown), or that is not old (`first_young` is the first such sequence)."""
    bounds = {"age": first_young - 1, "recorder": recorded}
    bounds |= {whom: position or 0 for whom, position in positions.items()}
    held_by = min(bounds, key=lambda whom: (bounds[whom], whom))
    return Purge(max(0, bounds[held_by]), held_by)


class Retention:
    """Purges EVENTS and COMMANDS each hour. `traders` names those whose positions count."""

    def __init__(
        self, bus: Bus, traders: Callable[[], Awaitable[list[str]]], *, keep: timedelta = timedelta(days=7)
    ) -> None:
        self._bus = bus
        self._traders = traders
        self._keep = keep

    async def run(self) -> None:
        """Purge for ever; what fails is tried again later."""
        await asyncio.sleep(_SOON)
        while not told_to_leave():
            for stream in POSITIONS:
                try:
                    await self.purge(stream)
                except (BusError, StorageUnavailable, NatsError, TimeoutError, OSError) as error:
                    log.warning("not_purged", stream=stream, error=type(error).__name__)
            await asyncio.sleep(EVERY)

    async def purge(self, stream: str, *, now: datetime | None = None) -> Purge:
        """Purge one stream as `decide` says; returns what it said."""
        traders = await self._traders()
        if not traders:  # nobody ever traded, or the database is new: nothing presses
            return Purge(0, "no deployment")
        info = await self._bus.js.consumer_info(stream, subjects.RECORDER)
        recorded = info.ack_floor.stream_seq if info.ack_floor else 0
        positions = {
            f"{owner}.{trader}": await self._position(f"{owner}.{trader}", field)
            for owner, field in POSITIONS[stream]
            for trader in traders
        }
        young = await self._first_since(stream, (now or datetime.now(UTC)) - self._keep)
        verdict = decide(recorded=recorded, positions=positions, first_young=young)
        first = (await self._bus.js.stream_info(stream)).state.first_seq
        for whom in ("age", "recorder", *positions):
            measures.PURGE_HELD.labels(stream, whom).set(1 if whom == verdict.held_by else 0)
        if verdict.through >= first:
            await self._bus.js.purge_stream(stream, seq=verdict.through + 1)
            measures.PURGED.labels(stream).inc(verdict.through - first + 1)
            log.info("purged", stream=stream, through=verdict.through, held_by=verdict.held_by)
        return verdict

    async def _position(self, key: str, field: str) -> int | None:
        stored = await self._bus.get(subjects.SNAPSHOTS, key)
        if stored is None:
            return None
        try:
            value = json.loads(stored[0])[field]
        except (ValueError, KeyError, TypeError):
            return None
        return value if isinstance(value, int) and not isinstance(value, bool) else None

    async def _first_since(self, stream: str, moment: datetime) -> int:
        """The first sequence stored at `moment` or later; the one after the last when there is none."""
        last = await self._bus.last_sequence(stream)
        question = {"start_time": moment.isoformat().replace("+00:00", "Z"), "next_by_subj": ">"}
        try:
            found = await self._bus.client.request(
                f"$JS.API.DIRECT.GET.{stream}", json.dumps(question).encode(), timeout=5
            )
        except (NatsError, TimeoutError, OSError) as error:
            raise BusError(f"{stream}: {type(error).__name__}") from None
        headers = found.headers or {}
        if "Nats-Sequence" in headers:
            return int(headers["Nats-Sequence"])
        if headers.get("Status") == "404":
            return last + 1
        raise BusError(f"{stream}: {headers.get('Status')} {headers.get('Description')}")


__all__ = ["POSITIONS", "Purge", "Retention", "decide"]
