"""Grafana's login, and the way to its dashboard of the run that is under way.

The proxy asks here whose a request for Grafana is, and tells Grafana what it hears. Grafana itself has no login of
its own; what it is told it believes, so only the proxy may speak to it, and what a browser claims is taken away
before. See deploy/proxy/Caddyfile. A replay's times lie years back, where no range of Grafana's own would look, so
the address `/dashboard` leads to the run with its own range.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING
from urllib.parse import quote, urlencode

from starlette.datastructures import Headers
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.types import Scope

from services.api.auth import Role
from services.api.console.headers import STORED_NOWHERE
from services.api.console.login import LOGIN_PATH, own_path
from services.api.console.sessions import Sessions
from services.api.dashboard import chosen_run, status_or_none
from services.api.desk import Desk
from services.shared.errors import StorageUnavailable

if TYPE_CHECKING:
    from services.api.answers.state import StatusAnswer
    from services.api.ledger import Proxy
    from services.api.results import Run

GRAFANA_LOGIN_PATH = "/console/grafana-login"
DASHBOARD_PATH = "/dashboard"
_TRADING = "/grafana/d/desk-trading"
_RUNNING = frozenset({"STARTING", "MONITORING", "STOPPING"})
_WITH_THE_CLOCK = timedelta(days=4)
"""A run whose last mark is no older than a long weekend goes on with the wall's clock: its range ends now."""
_FORESEEN = 0.02
"""From which share of its work on a replay says when its data will end."""
_FIRST_MARK = "select time from equity where run_id = $1 order by seq limit 1"
_LAST_MARK = "select time from equity where run_id = $1 order by seq desc limit 1"
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


async def to_dashboard(desk: Desk) -> Response:
    """The way to Grafana's *Trading* with the trader's current run, else its last, over all of its time; without
    a run, or without the database to look it up in, to *Trading* as it opens by itself."""
    asked = {"var-trader": desk.trader}
    status, _ = await status_or_none(desk, desk.trader)
    try:
        async with desk.ledger.reading() as connection:
            run = await chosen_run(desk, connection, desk.trader, None, status)
            if run is not None:
                asked |= {"var-run": run.run_id, **await _range(connection, run, status)}
    except StorageUnavailable:
        asked = {}  # Grafana will say what is wrong with the database
    query = f"?{urlencode(asked)}" if "var-run" in asked else ""
    return RedirectResponse(_TRADING + query, 302, STORED_NOWHERE)


async def _range(connection: Proxy, run: Run, status: StatusAnswer | None) -> dict[str, str]:
    first: datetime | None = await connection.fetchval(_FIRST_MARK, run.run_id)
    last: datetime | None = await connection.fetchval(_LAST_MARK, run.run_id)
    if first is None or last is None:
        return {}
    bar = timedelta(seconds=int(run.terms.get("bar_seconds") or 60))
    running = run.phase in _RUNNING
    if running and datetime.now(UTC) - last < _WITH_THE_CLOCK:
        end = "now"
    else:
        progress = status.progress if running and status is not None and status.run_id == run.run_id else None
        share = progress if progress is not None and progress >= _FORESEEN else 1.0
        end = _milliseconds(first + (last - first) / share + bar)
    return {"from": _milliseconds(first - bar), "to": end}


def _milliseconds(moment: datetime) -> str:
    return str(int(moment.timestamp() * 1000))


__all__ = ["DASHBOARD_PATH", "GRAFANA_LOGIN_PATH", "grafana_login", "to_dashboard"]
