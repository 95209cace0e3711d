"""The pages that need no NiceGUI: the login, and those shown while the console cannot be."""

from __future__ import annotations

from starlette.responses import HTMLResponse, Response

from services.api.console.headers import STORED_NOWHERE

_POLICY = (
    "default-src 'none'; style-src 'self'; img-src 'self' data:; base-uri 'none'; form-action 'self';"
    " frame-ancestors 'none'"
)
_HEAD = (
    '<!doctype html><html lang="en"><head><meta charset="utf-8">'
    '<meta name="viewport" content="width=device-width,initial-scale=1">'
    '<meta name="color-scheme" content="light dark">'
    '<link rel="icon" href="/console/assets/desk.svg"><link rel="stylesheet" href="/console/assets/login.css">'
)
_AGAIN = '<meta http-equiv="refresh" content="1">'

LOGIN = (
    _HEAD + "<title>Log in · tradedesk</title></head><body><main><h1>tradedesk</h1>"
    '<p id="notice" role="status">{notice}</p>'
    '<form method="post" action="/login" autocomplete="off">'
    '<input name="username" value="desk" autocomplete="username" hidden>'
    '<input name="next" value="{next}" type="hidden">'
    '<label for="token">Token</label>'
    '<input id="token" name="token" type="password" required autofocus autocomplete="current-password"'
    ' spellcheck="false" aria-describedby="where problem">'
    '<p id="where">The terminal that runs the desk shows it; so does <code>desk token</code>, or'
    " <code>desk token --viewer</code> for somebody who only looks.</p>"
    '<label for="name">Your name <span>(optional)</span></label>'
    '<input id="name" name="name" type="text" maxlength="40" autocomplete="nickname" spellcheck="false"'
    ' aria-describedby="why">'
    '<p id="why">Stands in the journal beside what you do.</p>'
    '<p id="problem" role="alert">{problem}</p>'
    '<button type="submit">Log in</button></form></main></body></html>'
)
"""With places for what happened before, for the path to go on to, and for what was wrong with the last attempt."""

STARTING = (
    _HEAD + _AGAIN + "<title>Starting · tradedesk</title></head>"
    '<body><main><h1>tradedesk</h1><p role="status">The console is starting …</p></main></body></html>'
)
"""Asks again by itself each second."""

UNREAD = (
    _HEAD + _AGAIN + "<title>Waiting · tradedesk</title></head><body><main><h1>tradedesk</h1>"
    '<p role="status">The desk cannot reach NATS, where sessions are kept. It tries again by itself, and this'
    " page with it. Trading may go on.</p></main></body></html>"
)
"""For whoever has a cookie that cannot be looked up yet."""


def plain_page(html: str, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    """A page without a script, that may have none."""
    return HTMLResponse(
        html, status, {**STORED_NOWHERE, "Content-Security-Policy": _POLICY, **(headers or {})}
    )
