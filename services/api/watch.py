"""An alarm when the guard, or NATS, falls silent.

The API watches the guard, since the guard watches everybody else. It only reports: what silence means
for orders is decided by the trader, which lets no new risk out without the guard's word.
"""

from __future__ import annotations

import asyncio
import time
from datetime import UTC, datetime

import structlog

from services.api.journal import Journal
from services.api.line import Line
from services.shared.alerts import Alert, Alerter
from services.shared.events import AlertRaised
from services.shared.pulses import Watch

log = structlog.get_logger(__name__)

SILENT_AFTER = 15.0
LATE_AFTER = 5.0
EXPECTED = ("trader", "risk", "recorder")


class Alarm:
    """Raises the API's own alerts: mailed at once, and written into its journal."""

    def __init__(self, journal: Journal, trader: str, alerter: Alerter) -> None:
        self._journal = journal
        self._trader = trader
        self._alerter = alerter

    def raise_alert(self, alert: AlertRaised) -> None:
        """Log, mail and store an alert."""
        log.warning("alert", code=alert.code, severity=alert.severity, text=alert.text)
        self._journal.write(alert)
        if alert.severity != "INFO":
            now = datetime.now(UTC)
            self._alerter.add(Alert(alert.severity, alert.code, alert.text, alert.action, now, self._trader))


class GuardWatch:
    """One alert when the guard, or NATS, has been silent too long, and one when it is back."""

    def __init__(self, line: Line, watch: Watch, alarm: Alarm, *, silent_after: float = SILENT_AFTER) -> None:
        self._line = line
        self._watch = watch
        self._alarm = alarm
        self._silent_after = silent_after
        self._guard_silent = False
        self._bus_away_since: float | None = None
        self._bus_reported = False

    async def run(self) -> None:
        """Look once a second, for ever."""
        while True:
            self.look(time.monotonic())
            await asyncio.sleep(min(1.0, self._silent_after / 5))

    def look(self, now: float) -> None:
        """Compare what is heard with what should be, and raise what is new."""
        if not self._line.connected:
            self._bus_away_since = self._bus_away_since or now
            self._watch.restart()
            if now - self._bus_away_since > self._silent_after and not self._bus_reported:
                self._bus_reported = True
                self._alarm.raise_alert(_bus_away(self._silent_after))
            return
        self._bus_away_since = None
        if self._bus_reported:
            self._bus_reported = False
            self._alarm.raise_alert(_BUS_BACK)
        silent = self._watch.silence("risk") > self._silent_after
        if silent != self._guard_silent:
            self._guard_silent = silent
            self._alarm.raise_alert(_guard_silent(self._silent_after) if silent else _GUARD_BACK)


def _guard_silent(seconds: float) -> AlertRaised:
    return AlertRaised(
        severity="CRITICAL",
        code="guard_silent",
        text=f"The risk guard has not been heard for {seconds:g} seconds. "
        "No order that adds risk can leave; exits can.",
        action="Look at `desk doctor`. If the guard does not come back, stop the deployment.",
    )


def _bus_away(seconds: float) -> AlertRaised:
    return AlertRaised(
        severity="CRITICAL",
        code="nats_away",
        text=f"NATS has not been reachable for {seconds:g} seconds: the desk's services cannot hear each other.",
        action="Look at `desk doctor`; positions keep their stops at the broker.",
    )


_GUARD_BACK = AlertRaised(
    severity="INFO",
    code="guard_back",
    text="The risk guard is heard again.",
    action="Nothing to do.",
)
_BUS_BACK = AlertRaised(
    severity="INFO",
    code="nats_back",
    text="NATS is reachable again.",
    action="Look at `/api/status` to see where the deployment stands.",
)
