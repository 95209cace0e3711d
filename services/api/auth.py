"""Who may come in: the token, the host a request is addressed to, the site a page comes from.

A layer around the whole application, so that no route can forget it. It protects `/api` and `/metrics`;
what else is mounted here (the console) logs its own people in, behind the same host and origin rules.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterable
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from services.api.problems import ForeignHost, ForeignOrigin, NotAuthenticated, Problem, to_response
from services.shared.errors import InvalidInput

LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})
OPEN_PATHS = frozenset({"/api/health", "/livez", "/readyz"})
_SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
_SHORTEST_TOKEN = 16


class Doorkeeper:
    """Knows the token and the names this desk answers to.

    Raises InvalidInput for a token too short to be one, or not ASCII: headers carry nothing else.
    """

    def __init__(self, token: str, hosts: Iterable[str] = ()) -> None:
        if len(token) < _SHORTEST_TOKEN or not token.isascii() or not token.isprintable():
            raise InvalidInput(f"expected a token of at least {_SHORTEST_TOKEN} printable ASCII characters")
        self._digest = hashlib.sha256(token.encode()).digest()
        self._hosts = LOOPBACK | {host.strip().lower() for host in hosts if host.strip()}

    def check(self, method: str, path: str, headers: Headers) -> None:
        """Raise the problem that keeps this request out; return when it may come in."""
        self._check_host(headers.get("host"))
        if method not in _SAFE_METHODS:
            self._check_origin(headers)
        if needs_token(path):
            self._check_token(headers.getlist("authorization"))

    def is_token(self, text: str) -> bool:
        """Whether `text` is the desk's token."""
        # Digests are compared, so that neither time nor length tells anything about the token.
        digest = hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()
        return hmac.compare_digest(digest, self._digest)

    def key(self, purpose: str) -> bytes:
        """A secret key for one purpose, which lasts as long as the token does."""
        return hmac.digest(self._digest, purpose.encode(), "sha256")

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

    def _check_token(self, given: list[str]) -> None:
        scheme, _, token = (given[0] if len(given) == 1 else "").partition(" ")
        same = self.is_token(token.strip())
        if scheme.lower() != "bearer" or not same:
            raise NotAuthenticated("send the desk's token as `Authorization: Bearer <token>`")


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
    """The ASGI layer that asks the doorkeeper."""

    def __init__(self, app: ASGIApp, doorkeeper: Doorkeeper) -> None:
        self._app = app
        self._doorkeeper = doorkeeper

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        # A websocket may change things: the origin rule holds for it as for a POST.
        method = scope.get("method", "WEBSOCKET")
        try:
            self._doorkeeper.check(method, scope["path"], Headers(scope=scope))
        except Problem as problem:
            if scope["type"] == "websocket":
                await send({"type": "websocket.close", "code": 1008})
                return
            await to_response(problem)(scope, receive, send)
            return
        await self._app(scope, receive, send)
