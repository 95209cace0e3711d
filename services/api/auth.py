"""Who may come in: the token and its role, the host a request is addressed to, the site a page comes from.

A layer around the whole application, so that no route can forget it. It protects `/api` and `/metrics`;
what else is mounted here (the console) logs its own people in, behind the same host and origin rules. The
API takes tokens, never a session's cookie, except for what a page of the console lets a person download.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Callable, Iterable
from typing import Literal, TypeAlias
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from services.api.problems import (
    ForeignHost,
    ForeignOrigin,
    NotAuthenticated,
    Problem,
    ViewerMayNot,
    to_response,
)
from services.shared.errors import InvalidInput

LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})
OPEN_PATHS = frozenset({"/api/docs", "/api/health", "/livez", "/readyz"})
DOWNLOADS = frozenset({"/api/export"})
"""What the console links to: a session's cookie will do, for reading, from a page of our own."""
_READING = frozenset({"GET", "HEAD"})
_SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
_SHORTEST_TOKEN = 16

Role: TypeAlias = Literal["viewer", "operator"]
ROLES: tuple[Role, ...] = ("viewer", "operator")
InSession = Callable[[], bool]
"""Whether a request comes with the cookie of a session that holds."""


class Doorkeeper:
    """Knows the tokens and the names this desk answers to. Without `viewer_token` there are no viewers.

    Raises InvalidInput for a token too short to be one, or not ASCII: headers carry nothing else; and for two
    tokens that are one.
    """

    def __init__(self, token: str, hosts: Iterable[str] = (), *, viewer_token: str | None = None) -> None:
        self._digests: dict[Role, bytes] = {"operator": _digest(_usable(token))}
        if viewer_token is not None:
            self._digests["viewer"] = _digest(_usable(viewer_token))
            if self._digests["viewer"] == self._digests["operator"]:
                raise InvalidInput("expected the viewer's token to be another than the operator's")
        self._hosts = LOOPBACK | {host.strip().lower() for host in hosts if host.strip()}

    def check(self, method: str, path: str, headers: Headers, in_session: InSession = lambda: False) -> None:
        """Raise the problem that keeps this request out; return when it may come in."""
        self._check_host(headers.get("host"))
        if method not in _SAFE_METHODS:
            self._check_origin(headers)
        if not needs_token(path) or (_is_download(method, path, headers) and in_session()):
            return
        if self._role_given(headers.getlist("authorization")) == "viewer" and method not in _READING:
            raise ViewerMayNot("this is the viewer's token, which may look at everything and change nothing")

    def role_of(self, text: str) -> Role | None:
        """Whose token `text` is, or None when it is none of this desk's."""
        # Digests are compared, and all of them, so that time and length tell nothing about a token.
        given = _digest(text)
        found = [role for role, digest in self._digests.items() if hmac.compare_digest(given, digest)]
        return found[0] if found else None

    def key(self, role: Role, purpose: str) -> bytes | None:
        """A secret for one purpose, which lasts as long as the role's token does; None without such a token."""
        digest = self._digests.get(role)
        return None if digest is None else hmac.digest(digest, purpose.encode(), "sha256")

    def _check_host(self, host: str | None) -> None:
        if "*" in self._hosts or host is None:
            return
        if _host_name(host) not in self._hosts:
            raise ForeignHost("expected a host name of this desk, was another")

    def _check_origin(self, headers: Headers) -> None:
        origin = headers.get("origin")
        if origin is None:
            if headers.get("sec-fetch-site") == "cross-site":
                raise ForeignOrigin("a page of another site may not change anything here")
            return
        try:
            own = urlsplit(origin).netloc.lower() == headers.get("host", "").lower()
        except ValueError:
            own = False
        if not own:
            raise ForeignOrigin("a page of another site may not change anything here")

    def _role_given(self, given: list[str]) -> Role:
        scheme, _, token = (given[0] if len(given) == 1 else "").partition(" ")
        role = self.role_of(token.strip())
        if scheme.lower() != "bearer" or role is None:
            raise NotAuthenticated("send the desk's token as `Authorization: Bearer <token>`")
        return role


def _usable(token: str) -> str:
    if len(token) < _SHORTEST_TOKEN or not token.isascii() or not token.isprintable():
        raise InvalidInput(f"expected a token of at least {_SHORTEST_TOKEN} printable ASCII characters")
    return token


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()


def _is_download(method: str, path: str, headers: Headers) -> bool:
    """Whether a page of our own, or a person's address bar, wants a file. Another port of this machine counts
    as the same site to a browser, which then sends even a strict cookie: hence the look at what it says."""
    return (
        path in DOWNLOADS
        and method in _READING
        and "authorization" not in headers
        and headers.get("sec-fetch-site", "same-origin") in ("same-origin", "none")
    )


def needs_token(path: str) -> bool:
    """Whether a path is closed to whoever has no token."""
    closed = path == "/metrics" or path == "/api" or path.startswith("/api/")
    return closed and path not in OPEN_PATHS


def _host_name(host: str) -> str:
    try:
        return (urlsplit("//" + host).hostname or "").lower()
    except ValueError:
        return ""


class Gate:
    """The ASGI layer that asks the doorkeeper; `in_session` says of a request whether it is a person's."""

    def __init__(self, app: ASGIApp, doorkeeper: Doorkeeper, in_session: Callable[[Scope], bool]) -> None:
        self._app = app
        self._doorkeeper = doorkeeper
        self._in_session = in_session

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        # A websocket may change things: the origin rule holds for it as for a POST.
        method = scope.get("method", "WEBSOCKET")
        try:
            self._doorkeeper.check(
                method, scope["path"], Headers(scope=scope), lambda: self._in_session(scope)
            )
        except Problem as problem:
            if scope["type"] == "websocket":
                await send({"type": "websocket.close", "code": 1008})
                return
            await to_response(problem)(scope, receive, send)
            return
        await self._app(scope, receive, send)
