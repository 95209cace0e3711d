"""Deploy: what will run, with which limits, and what could go wrong now."""

from __future__ import annotations

from nicegui import ui

from services.api.console.feed import Feed
from services.api.console.sessions import Person
from services.api.desk import Desk
from services.shared.commands import Deploy


class DeployDialog:
    """One page's dialog."""

    def __init__(self, desk: Desk, feed: Feed, person: Person, channels: int) -> None:
        self._desk = desk
        self._feed = feed
        self._person = person
        self._channels = channels

    async def open(self) -> None:
        """Start."""
        await self._desk.verbs.deploy(self._desk.trader, Deploy(by=self._person.name), wait=5)
        ui.notify("deployed")
