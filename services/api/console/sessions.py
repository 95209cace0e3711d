"""Who is at the console: a session begun with the desk's token and carried in a signed cookie.

A cookie says when it ends and is signed with a key made from the token, so that sessions outlive the
process and end with the token. Which pages and sockets need one is `entrance`'s business.
"""

from __future__ import annotations

import hmac
import secrets
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from http.cookies import CookieError, SimpleCookie
from typing import Literal, TypeAlias

from starlette.datastructures import Headers
from starlette.types import Scope

from services.api.auth import Doorkeeper

LASTS = 7 * 24 * 3600
_PURPOSE = "console session"

Role: TypeAlias = Literal["viewer", "operator"]


@dataclass(frozen=True, slots=True)
class Person:
    """Somebody who has logged in; `name` stands in the journal beside what they did. A viewer only looks."""

    name: str
    role: Role = "operator"

    @property
    def may_act(self) -> bool:
        """Whether this person may deploy, stop, reset and change anything."""
        return self.role == "operator"


class Sessions:
    """Begins sessions and knows whose a request is. Keeps nothing: what there is to know is in the cookie."""

    def __init__(self, doorkeeper: Doorkeeper, clock: Callable[[], float] = time.time) -> None:
        self._doorkeeper = doorkeeper
        self._key = doorkeeper.key(_PURPOSE)
        self._clock = clock

    def begin(self, token: str, scope: Scope) -> str | None:
        """The `Set-Cookie` value of a new session, or None when it is not the desk's token."""
        if not self._doorkeeper.is_token(token):
            return None
        said = f"{int(self._clock()) + LASTS}.{secrets.token_urlsafe(12)}"
        return _cookie(scope, f"{said}.{self._signature(said)}", LASTS)

    def end(self, scope: Scope) -> str:
        """The `Set-Cookie` value that makes the browser forget its session."""
        return _cookie(scope, "", 0)

    def who(self, scope: Scope) -> Person | None:
        """The person a request or socket comes from, or None without a session that still holds."""
        value = _cookies(scope).get(_name(scope), "")
        said, _, signature = value.rpartition(".")
        if not said or not hmac.compare_digest(signature.encode(), self._signature(said).encode()):
            return None
        until = said.partition(".")[0]
        return Person("console") if int(until) > self._clock() else None

    def _signature(self, said: str) -> str:
        return hmac.new(self._key, said.encode(), "sha256").hexdigest()


def _name(scope: Scope) -> str:
    """Browsers share cookies between the ports of a host: each desk's has the port in its name."""
    port = Headers(scope=scope).get("host", "").rpartition(":")[2]
    return f"desk_session_{port}" if port.isascii() and port.isdigit() else "desk_session"


def _cookies(scope: Scope) -> Mapping[str, str]:
    jar: SimpleCookie = SimpleCookie()
    try:
        jar.load("; ".join(Headers(scope=scope).getlist("cookie")))
    except CookieError:
        return {}
    return {name: morsel.value for name, morsel in jar.items()}


def _cookie(scope: Scope, value: str, seconds: int) -> str:
    parts = [f"{_name(scope)}={value}", "Path=/", f"Max-Age={seconds}", "HttpOnly", "SameSite=Strict"]
    if scope.get("scheme") == "https":
        parts.append("Secure")
    return "; ".join(parts)
