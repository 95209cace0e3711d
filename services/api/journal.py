"""What the API itself has to say: its own alerts and who did what, stored as soon as NATS takes them.

Each process life is a run of its own, so that no seq is ever used for a second event. Commands need no entry
here: they are stored by themselves, with who gave them.
"""

from __future__ import annotations

import uuid
from datetime import UTC, datetime

import structlog

from services.api.line import Line
from services.shared import subjects
from services.shared.events import TYPE_OF, ActionTaken, AlertRaised
from services.shared.outbox import Outbox
from services.shared.wire import encode, event_id

log = structlog.get_logger(__name__)

_MOST_WAITING = 2000
"""Actions kept while NATS is away; then they are only logged, since somebody may knock at a door for hours."""


class Journal:
    """Writes down events of the API's own; `run` sends them."""

    def __init__(self, line: Line, trader: str) -> None:
        self._line = line
        self._trader = trader
        self._run_id = f"api-{uuid.uuid4().hex}"
        self._seq = 0
        self._outbox: Outbox | None = None
        self._unsent: list[tuple[str, bytes, str]] = []

    def write(self, body: ActionTaken | AlertRaised) -> str:
        """Have an event stored; returns its id."""
        self._seq += 1
        now = datetime.now(UTC)
        kind = TYPE_OF[type(body)]
        data = encode(
            body,
            trader=self._trader,
            run_id=self._run_id,
            emitter="api",
            seq=self._seq,
            time=now,
            recorded=now,
        )
        written = str(event_id(self._run_id, "api", self._seq))
        self._unsent.append((subjects.event(kind, self._trader), data, written))
        self._hand_over()
        return written

    @property
    def _waiting(self) -> int:
        return len(self._unsent) + (0 if self._outbox is None else len(self._outbox))

    def note(self, by: str, role: str, action: str, *, subject: str = "", detail: str = "") -> str:
        """Say who did what; returns the event's id, or nothing where too much waits for NATS already."""
        taken = ActionTaken(
            by=by[:200], role=role, action=action, subject=subject[:200], detail=detail[:1000]
        )
        log.info("action", by=taken.by, role=role, action=action, subject=taken.subject)
        return self.write(taken) if self._waiting < _MOST_WAITING else ""

    def _hand_over(self) -> None:
        if self._outbox is not None:
            for message in self._unsent:
                self._outbox.add(*message)
            self._unsent.clear()

    async def run(self) -> None:
        """Send what was written, once NATS is there, for ever."""
        self._outbox = Outbox(await self._line.opened())
        self._hand_over()
        await self._outbox.run()
