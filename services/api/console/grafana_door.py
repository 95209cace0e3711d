"""Grafana's login: the proxy asks here whose a request for Grafana is, and tells Grafana what it hears.

Grafana itself has no login of its own; what it is told it believes, so only the proxy may speak to it, and
what a browser claims is taken away before. See deploy/proxy/Caddyfile.
"""

from __future__ import annotations

from urllib.parse import quote

from starlette.datastructures import Headers
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.types import Scope

from services.api.auth import Role
from services.api.console.headers import STORED_NOWHERE
from services.api.console.login import LOGIN_PATH, own_path
from services.api.console.sessions import Sessions

GRAFANA_LOGIN_PATH = "/console/grafana-login"
_ROLES: dict[Role, str] = {"operator": "Editor", "viewer": "Viewer"}
"""Only an editor's click on a dashboard's action is sent; whether it may do anything is the API's decision."""


def grafana_login(sessions: Sessions, scope: Scope) -> Response:
    """200 with user and role in headers for somebody in session, otherwise the way to the login.

    The user is called by the role, never as somebody calls themselves: Grafana has an `admin`.
    """
    person = sessions.who(scope)
    if person is not None:
        told = {"X-Webauth-User": person.role, "X-Webauth-Role": _ROLES[person.role]}
        return PlainTextResponse("", 200, {**STORED_NOWHERE, **told})
    wanted = own_path(Headers(scope=scope).get("x-forwarded-uri", ""))
    if not wanted.startswith("/grafana/") or wanted.startswith("/grafana/api/"):
        return PlainTextResponse("log in at /login\n", 401, STORED_NOWHERE)
    return RedirectResponse(f"{LOGIN_PATH}?next={quote(wanted)}", 303, STORED_NOWHERE)


__all__ = ["GRAFANA_LOGIN_PATH", "grafana_login"]
