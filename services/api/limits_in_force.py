"""The guard's limits as last asked for, so that a page that polls does not ask the guard each time.

An event on `limits.<t>` makes them be asked for anew; a guard that did not answer is not asked again
for two seconds, so that a dead guard slows no page.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass

from nats.aio.msg import Msg

from services.api.problems import NobodyAnswered
from services.api.verbs import Verbs
from services.shared.commands import LimitsRequest
from services.shared.errors import BusError

_FRESH = 30.0
_ASK_AGAIN = 2.0
_PATIENCE = 1.0


@dataclass(frozen=True, slots=True)
class Known:
    """Limits as text by name; None with the reason when the guard could not be asked."""

    limits: dict[str, str] | None
    problem: str | None
    asked: float


def _fresh(known: Known | None, now: float) -> bool:
    if known is None:
        return False
    return now - known.asked < (_FRESH if known.limits is not None else _ASK_AGAIN)


class LimitsInForce:
    """What the guard holds each trader to."""

    def __init__(self, verbs: Verbs) -> None:
        self._verbs = verbs
        self._known: dict[str, Known] = {}
        self._changes = 0
        self._asking: asyncio.Task[Known] | None = None

    async def hear(self, message: Msg) -> None:
        """A limit changed: what is known of that trader is old."""
        self.forget(message.subject.partition(".")[2])

    def forget(self, trader: str) -> None:
        """Ask anew next time."""
        self._changes += 1
        self._known.pop(trader, None)

    def latest(self, trader: str) -> Known | None:
        """What is known without waiting for the guard, who is asked meanwhile where that is old."""
        known = self._known.get(trader)
        if not _fresh(known, time.monotonic()) and (self._asking is None or self._asking.done()):
            self._asking = asyncio.create_task(self.get(trader))
        return known

    async def get(self, trader: str) -> Known:
        """The limits in force, or why they are not known."""
        now = time.monotonic()
        known = self._known.get(trader)
        if known is not None and _fresh(known, now):
            return known
        changes = self._changes
        try:
            reply = await self._verbs.limits(trader, LimitsRequest(values={}), timeout=_PATIENCE)
            known = Known(reply.limits, None, now)
        except NobodyAnswered as problem:
            known = Known(None, problem.detail, now)
        except BusError as error:
            known = Known(None, str(error), now)
        if changes == self._changes:  # otherwise this answer may be from before the change
            if len(self._known) > 64:
                self._known.clear()
            self._known[trader] = known
        return known
