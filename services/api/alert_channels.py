"""The ways alerts leave the desk, as far as a person may see them, and whether they work.

The file is read anew each time, so that a channel can be tried before the restart that makes guard and API use
it. URLs hold passwords and tokens, in some kinds even where the host stands: of a URL only its kind leaves here,
and its host where the kind has one.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import urlsplit

from services.api.problems import CommandRefused
from services.shared.alerts import channels, read_urls, trial_alert, try_channels
from services.shared.errors import InvalidInput

_WITH_HOST = frozenset({"mailto", "mailtos", "json", "jsons", "xml", "xmls", "form", "forms", "syslog"})
"""Kinds whose URL names a host; elsewhere that place may hold a token."""


@dataclass(frozen=True, slots=True)
class ChannelSeen:
    """A channel as it may be shown; `label` is what logs and metrics call it."""

    label: str
    kind: str
    host: str


class AlertChannels:
    """The channels in a file of Apprise URLs. One trial at a time: each sends a message through every one."""

    def __init__(self, file: Path | None) -> None:
        self._file = file
        self._in_use = tuple(read_urls(file))
        self._trying = asyncio.Lock()

    @property
    def changed(self) -> bool:
        """Whether the file says something else than when this process started."""
        try:
            return tuple(read_urls(self._file)) != self._in_use
        except InvalidInput:
            return True

    def seen(self) -> list[ChannelSeen]:
        """The channels in the file. Raises InvalidInput for a line that is none, naming its number only."""
        urls = read_urls(self._file)
        return [_seen(channel.label, url) for channel, url in zip(channels(urls), urls, strict=True)]

    async def try_all(self, trader: str) -> dict[str, bool]:
        """Send a trial alert through each; whether each took it. Raises CommandRefused when there is none or
        a trial is under way, InvalidInput for a line that is no channel."""
        urls = await asyncio.to_thread(read_urls, self._file)
        if not urls:
            raise CommandRefused("no alert channel: the file secrets/alert-urls names none")
        if self._trying.locked():
            raise CommandRefused("the channels are being tried already")
        async with self._trying:
            return await try_channels(urls, trial_alert(trader, datetime.now(UTC)))


def _seen(label: str, url: str) -> ChannelSeen:
    kind = url.partition("://")[0].lower()
    if kind not in _WITH_HOST:
        return ChannelSeen(label, kind if kind.isalnum() else "", "")
    try:
        host = urlsplit(url).hostname or ""
    except ValueError:
        host = ""
    return ChannelSeen(label, kind, host)
