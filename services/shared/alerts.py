"""Alerts to people: e-mail and whatever else Apprise's URLs name. Deduplicated, retried, never in the way.

`add` returns at once, whatever the channels do; a channel that fails is tried again, with growing pauses,
and said to be failing through `on_trouble` and the metrics. Channel URLs hold passwords: they come from a
secret file and appear in no log, error or metric; a channel is called by its number and kind.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import warnings
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final

import structlog

from services.shared.errors import InvalidInput
from services.shared.events import Severity
from services.shared.metrics import counter, gauge

if TYPE_CHECKING:
    import apprise

log = structlog.get_logger(__name__)

SENT = counter("desk_alerts_sent_total")
FAILED = counter("desk_alerts_failed_total")
WAITING = gauge("desk_alerts_waiting")

_REPEATED_WITHIN = 600.0
_KEPT = 500
_PAUSE_FIRST, _PAUSE_MOST = 1.0, 300.0
_GIVE_UP_AFTER = 24 * 3600.0
_TYPES: Final = {
    "INFO": "info",
    "WARNING": "warning",
    "CRITICAL": "failure",
}


@dataclass(frozen=True, slots=True)
class Alert:
    """What to tell a person. `time` is the run's clock or the wall's, as the event has it."""

    severity: Severity
    code: str
    text: str
    action: str
    time: datetime
    trader: str = ""

    @property
    def title(self) -> str:
        """The subject line."""
        return f"[tradedesk {self.trader}] {self.severity}: {self.code}".replace(" ]", "]")

    @property
    def body(self) -> str:
        """What happened, what to do, when."""
        return f"{self.text}\n\nWhat to do: {self.action}\n\n{self.time:%Y-%m-%d %H:%M:%S} UTC\n"


@dataclass(slots=True)
class Channel:
    """One URL's way out, and what waits for it."""

    label: str
    sender: apprise.Apprise
    waiting: deque[tuple[float, Alert]] = field(default_factory=lambda: deque(maxlen=_KEPT))
    wake: asyncio.Event = field(default_factory=asyncio.Event)
    failing: bool = False

    def send(self, alert: Alert) -> bool:
        """Deliver one alert, blocking; whether the other side took it."""
        try:
            return bool(
                self.sender.notify(title=alert.title, body=alert.body, notify_type=_TYPES[alert.severity])
            )
        except (OSError, ValueError, TypeError, RuntimeError) as error:
            log.warning("alert_channel_raised", channel=self.label, error=type(error).__name__)
            return False


def channels(urls: Sequence[str]) -> list[Channel]:
    """A channel for each Apprise URL; raises InvalidInput naming the line, never its content."""
    if not urls:
        return []
    import apprise  # a third of a second, which a desk without channels needs not wait

    _silence_apprise()
    found = []
    for number, url in enumerate(urls, start=1):
        sender = apprise.Apprise()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # of what Apprise's plugins import
            known = sender.add(url)
        if not known:
            raise InvalidInput(f"alert channel {number}: not a URL that Apprise knows")
        scheme = url.partition("://")[0]
        found.append(Channel(f"{number}-{scheme}" if scheme.isalnum() else str(number), sender))
    return found


def read_urls(path: Path | None) -> list[str]:
    """The URLs in a secret file, one a line, `#` for comments; none where there is no such file.

    Raises InvalidInput when it is there and cannot be read.
    """
    if path is None or not path.exists():
        return []
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidInput(f"secret file {path.name} cannot be read: {type(error).__name__}") from None
    return [line.strip() for line in lines if line.strip() and not line.strip().startswith("#")]


def _silence_apprise() -> None:
    """Apprise logs what it sends where to, and that has passwords in it."""
    for name in ("apprise", "apprise.plugins"):
        logger = logging.getLogger(name)
        logger.handlers = [logging.NullHandler()]
        logger.propagate = False
        logger.setLevel(logging.CRITICAL + 1)


class Alerter:
    """Takes alerts and sees them delivered. `run` does the work; `add` may be called from the event loop.

    `on_trouble(channel, failing)` is called when a channel begins to fail and when it works again.
    """

    def __init__(
        self,
        urls: Sequence[str],
        *,
        on_trouble: Callable[[str, bool], None] | None = None,
        first_pause: float = _PAUSE_FIRST,
    ) -> None:
        self.channels = channels(urls)
        self._on_trouble = on_trouble
        self._first_pause = first_pause
        self._told: dict[tuple[str, str, str, str], float] = {}
        self._threads = ThreadPoolExecutor(max(1, len(self.channels)), thread_name_prefix="alerts")

    def add(self, alert: Alert) -> bool:
        """Take on an alert; False when the same was told within the last ten minutes. Never waits."""
        now = asyncio.get_running_loop().time()
        key = (alert.trader, alert.severity, alert.code, alert.text)
        self._told = {known: at for known, at in self._told.items() if now - at < _REPEATED_WITHIN}
        if key in self._told:
            return False
        self._told[key] = now
        for channel in self.channels:
            channel.waiting.append((now, alert))
            channel.wake.set()
            WAITING.labels(channel=channel.label).set(len(channel.waiting))
        return True

    @property
    def failing(self) -> list[str]:
        """The channels that do not work now."""
        return [channel.label for channel in self.channels if channel.failing]

    async def run(self) -> None:
        """Deliver for ever; cancel to end."""
        try:
            async with asyncio.TaskGroup() as group:
                for channel in self.channels:
                    group.create_task(self._work(channel))
        finally:
            self._threads.shutdown(wait=False, cancel_futures=True)

    async def drained(self, seconds: float) -> bool:
        """Wait until nothing waits, for at most so long; whether that came true."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while any(channel.waiting for channel in self.channels):  # noqa: ASYNC110 - several ends
                    await asyncio.sleep(0.02)
        return not any(channel.waiting for channel in self.channels)

    async def _work(self, channel: Channel) -> None:
        loop = asyncio.get_running_loop()
        pause = self._first_pause
        while True:
            while not channel.waiting:
                channel.wake.clear()
                await channel.wake.wait()
            since, alert = channel.waiting[0]
            if await loop.run_in_executor(self._threads, channel.send, alert):
                SENT.labels(channel=channel.label).inc()
                pause = self._first_pause
                self._trouble(channel, failing=False)
                self._done(channel, since, alert)
                continue
            FAILED.labels(channel=channel.label).inc()
            self._trouble(channel, failing=True)
            if loop.time() - since > _GIVE_UP_AFTER:
                log.error("alert_given_up", channel=channel.label, code=alert.code)
                self._done(channel, since, alert)
                continue
            await asyncio.sleep(pause)
            pause = min(pause * 2, _PAUSE_MOST)

    def _done(self, channel: Channel, since: float, alert: Alert) -> None:
        # A full queue may have dropped its oldest, this one, while it was being sent.
        if channel.waiting and channel.waiting[0] == (since, alert):
            channel.waiting.popleft()
        WAITING.labels(channel=channel.label).set(len(channel.waiting))

    def _trouble(self, channel: Channel, *, failing: bool) -> None:
        if channel.failing == failing:
            return
        channel.failing = failing
        log.warning(
            "alert_channel_failing" if failing else "alert_channel_works_again", channel=channel.label
        )
        if self._on_trouble is not None:
            self._on_trouble(channel.label, failing)


def trial_alert(trader: str, now: datetime) -> Alert:
    """What is sent to find out whether alerts arrive."""
    return Alert("INFO", "test", "This is a test of an alert channel.", "Nothing.", now, trader)


async def try_channels(urls: Sequence[str], alert: Alert) -> dict[str, bool]:
    """Send one alert through each channel, once; whether each took it. Raises InvalidInput."""
    found = channels(urls)
    answers = await asyncio.gather(*(asyncio.to_thread(channel.send, alert) for channel in found))
    return {channel.label: taken for channel, taken in zip(found, answers, strict=True)}
