"""Parts of a page that are made anew when the desk has news of them, and buttons in them.

The page's script hears the news with everything else the feed tells and asks for the part; a button in a part's
HTML names what it does (`data-do`) and to what (`data-to`), and is answered here, on the server.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from html import escape

from nicegui import events, ui

from services.api.console.tables import unavailable
from services.shared.errors import StorageUnavailable

Done = Callable[[str], Awaitable[None]]
"""Does what a button says, to what it names."""


class Renewed:
    """A part whose HTML `read` makes, now and whenever the feed's text `news` changes."""

    def __init__(self, news: str, read: Callable[[], Awaitable[str]], does: Mapping[str, Done]) -> None:
        self._read = read
        self._does = does
        self._part = ui.html("", sanitize=False, tag="div").props(f'data-renew-on="{news}"')
        self._part.classes("desk-parts")
        ui.on("desk_renew", self.renew)
        ui.on("desk_do", self._do)

    async def renew(self) -> None:
        """Read it anew and show it."""
        try:
            html = await self._read()
        except StorageUnavailable as error:
            html = f'<section class="desk-panel">{unavailable(error)}</section>'
        self._part.set_content(html)

    async def _do(self, event: events.GenericEventArguments) -> None:
        asked = event.args if isinstance(event.args, dict) else {}
        does = self._does.get(str(asked.get("do", ""))[:40])
        if does is not None:
            await does(str(asked.get("to", ""))[:200])


def button(text: str, do: str, to: str = "", *, label: str = "", css: str = "desk-small") -> str:
    """A button of a renewed part as HTML."""
    named = f' aria-label="{escape(label, quote=True)}"' if label else ""
    return (
        f'<button type="button" class="{css}" data-do="{do}" data-to="{escape(to, quote=True)}"'
        f' data-key="{do}-{escape(to, quote=True)}"{named}>{escape(text)}</button>'
    )
