"""The two pages that need no NiceGUI: the login, and the one shown while the console is being loaded."""

from __future__ import annotations

_HEAD = (
    '<!doctype html><html lang="en"><head><meta charset="utf-8">'
    '<meta name="viewport" content="width=device-width,initial-scale=1">'
    '<meta name="color-scheme" content="light dark">'
    '<link rel="icon" href="/console/assets/desk.svg"><link rel="stylesheet" href="/console/assets/login.css">'
)

LOGIN = (
    _HEAD + "<title>Log in · tradedesk</title></head><body><main><h1>tradedesk</h1>"
    '<form method="post" action="/login" autocomplete="off">'
    '<input name="username" value="desk" autocomplete="username" hidden>'
    '<label for="token">Token</label>'
    '<input id="token" name="token" type="password" required autofocus autocomplete="current-password"'
    ' spellcheck="false" aria-describedby="where problem">'
    '<p id="where">The terminal that runs the desk shows it; so does <code>desk token</code>.</p>'
    '<p id="problem" role="alert">{problem}</p>'
    '<button type="submit">Log in</button></form></main></body></html>'
)
"""With a place for what was wrong with the last attempt."""

STARTING = (
    _HEAD + '<meta http-equiv="refresh" content="1"><title>Starting · tradedesk</title></head>'
    '<body><main><h1>tradedesk</h1><p role="status">The console is starting …</p></main></body></html>'
)
"""Asks again by itself each second."""
