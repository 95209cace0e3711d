"""The deployment as others see it: desired and actual state in the `deployments` bucket, where the API looks.

Written on every change and once a second while a run is under way, on condition of the revision that was read or
written last: what was on its way when a process froze changes nothing once another owns the trader. What is
written is decided elsewhere.
"""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import Any

import structlog

from services.shared import subjects
from services.shared.bus import Bus
from services.shared.commands import Deployment
from services.shared.errors import BusError
from services.trader.between_runs import BetweenRuns, Situation

log = structlog.get_logger(__name__)

_EVERY = 1.0


class Display:
    """Keeps one trader's entry up to date. `shown` is what it says now."""

    def __init__(self, bus: Bus, trader: str, between: BetweenRuns) -> None:
        self._bus = bus
        self._trader = trader
        self._between = between
        self._at = 0.0
        self._essence: tuple[Any, ...] = ()
        self._revision: int | None = None
        self.shown: Deployment | None = None

    async def restore(self) -> None:
        """Read what was shown last. Raises BusError."""
        data, self._revision = await self._look()
        self.shown = Deployment.model_validate_json(data) if data else None

    async def show(self, now_is: Situation, *, finished: bool = False) -> bool:
        """Show what has changed, and tell whether it stands there; when NATS is away the next call shows it."""
        at = asyncio.get_running_loop().time()
        essence = _essence(now_is, finished)
        if essence == self._essence and (not now_is.active or at - self._at < _EVERY):
            return True
        if not self._bus.connected:
            return False
        shown = self._between.deployment(now_is, finished=finished, now=datetime.now(UTC))
        try:
            data = shown.model_dump_json(exclude_none=True).encode()
            if self._revision is None:
                _, self._revision = await self._look()
            self._revision = await self._bus.put(
                subjects.DEPLOYMENTS, self._trader, data, revision=self._revision
            )
        except BusError as error:
            self._revision = None
            log.warning("state_not_shown", detail=str(error))
            return False
        self.shown, self._at, self._essence = shown, at, essence
        return True

    async def _look(self) -> tuple[bytes, int]:
        found = await self._bus.get(subjects.DEPLOYMENTS, self._trader)
        return found or (b"", 0)


def _essence(now_is: Situation, finished: bool) -> tuple[Any, ...]:
    """What a reader must not see late."""
    run, waiting = now_is.run, now_is.waiting
    if waiting is not None:
        return waiting.kept.run_id, waiting.why, len(now_is.deferred)
    if run is None:
        return (now_is.latch,)
    state = run.loop.engine.state
    return run.run_id, state.phase, state.paused, run.loop.engine.settled, finished
