"""What may come through at all: sizes, encodings, NUL characters, and JSON that means one thing.

The outermost layer. PostgreSQL refuses U+0000 in text, Python reads NaN and numbers of any length as
JSON, and a lone surrogate cannot be written back: all that is a 400 here, so that no route has to
think of it. Also the last resort: what escapes a route is logged and answered as a problem.
"""

from __future__ import annotations

import asyncio
import json
import time
from typing import Any
from urllib.parse import unquote_to_bytes

import structlog
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from services.api.measures import count_request
from services.api.problems import (
    AddressTooLong,
    BodyTooSlow,
    InternalProblem,
    MalformedRequest,
    MediaTypeUnknown,
    Problem,
    RequestTooLarge,
    to_response,
)

log = structlog.get_logger(__name__)

LONGEST_ADDRESS = 8 * 1024
LARGEST_BODY = 64 * 1024
SLOWEST_BODY = 10.0
_DEEPEST_JSON = 32
_LONGEST_NUMBER = 64
_WITH_BODY = frozenset({"POST", "PUT", "PATCH", "DELETE"})
_FIXED_HEADERS = (
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cache-control", b"no-store"),
)

GIVEN = "desk.given"
"""Where in a request's scope the names of the body's top-level fields are left for the routes."""


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is no JSON")


def _short_int(text: str) -> int:
    if len(text) > _LONGEST_NUMBER:
        raise ValueError("a number is too long")
    return int(text)


def _short_float(text: str) -> float:
    if len(text) > _LONGEST_NUMBER:
        raise ValueError("a number is too long")
    number = float(text)
    if number in (float("inf"), float("-inf")):
        raise ValueError("a number is too large")
    return number


def read_json(body: bytes) -> Any:
    """The value in `body`; raises MalformedRequest without echoing it."""
    try:
        value = json.loads(
            body.decode("utf-8"),
            parse_constant=_refuse_constant,
            parse_int=_short_int,
            parse_float=_short_float,
        )
    except (UnicodeDecodeError, ValueError, RecursionError):
        raise MalformedRequest("expected JSON in UTF-8 with finite numbers in the body") from None
    _walk(value)
    return value


def _walk(value: Any) -> None:
    waiting: list[tuple[Any, int]] = [(value, 0)]
    while waiting:
        item, depth = waiting.pop()
        if depth > _DEEPEST_JSON:
            raise MalformedRequest(f"expected JSON at most {_DEEPEST_JSON} levels deep")
        if isinstance(item, str):
            _check_text(item, "the body")
        elif isinstance(item, dict):
            waiting += [(inner, depth + 1) for pair in item.items() for inner in pair]
        elif isinstance(item, list):
            waiting += [(inner, depth + 1) for inner in item]


def _check_text(text: str, place: str) -> None:
    if "\x00" in text:
        raise MalformedRequest(f"a NUL character in {place}")
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        raise MalformedRequest(f"half a surrogate pair in {place}") from None


def check_address(scope: Scope) -> None:
    """Raise the problem of a path or query that is too long, no UTF-8, or has a NUL in it."""
    query: bytes = scope.get("query_string", b"")
    raw_path: bytes = scope.get("raw_path") or scope["path"].encode("utf-8", "surrogatepass")
    if len(raw_path) + len(query) > LONGEST_ADDRESS:
        raise AddressTooLong(f"expected at most {LONGEST_ADDRESS} bytes of path and query")
    for place, raw in (("the path", raw_path), ("the query", query)):
        try:
            text = unquote_to_bytes(raw).decode("utf-8")
        except UnicodeDecodeError:
            raise MalformedRequest(f"expected UTF-8 in {place}") from None
        _check_text(text, place)


async def _whole_body(headers: Headers, receive: Receive) -> bytes | None:
    """The request's body; None when the client left before it was complete."""
    declared = headers.get("content-length", "0")
    if declared.isdecimal() and len(declared) < 19 and int(declared) > LARGEST_BODY:
        raise RequestTooLarge(f"expected at most {LARGEST_BODY} bytes")
    body = bytearray()
    try:
        async with asyncio.timeout(SLOWEST_BODY):
            while True:
                message = await receive()
                if message["type"] == "http.disconnect":
                    return None
                body += message.get("body", b"")
                if len(body) > LARGEST_BODY:
                    raise RequestTooLarge(f"expected at most {LARGEST_BODY} bytes")
                if not message.get("more_body", False):
                    return bytes(body)
    except TimeoutError:
        raise BodyTooSlow(f"the body was not complete within {SLOWEST_BODY:.0f} s") from None


def _replay(body: bytes, receive: Receive) -> Receive:
    given = False

    async def again() -> Message:
        nonlocal given
        if given:
            return await receive()
        given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return again


def _as_json(scope: Scope, headers: Headers, body: bytes) -> Scope:
    """The scope of a request whose body was read as JSON. `curl -d` calls its JSON a form: take it as
    what it is. (A foreign page cannot use that: it has neither the token nor our origin.)"""
    kind = headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind not in ("", "application/json", "application/x-www-form-urlencoded") and not kind.endswith(
        "+json"
    ):
        raise MediaTypeUnknown("expected application/json")
    value = read_json(body)
    changed = dict(scope)
    changed["headers"] = [pair for pair in scope["headers"] if pair[0] != b"content-type"]
    changed["headers"].append((b"content-type", b"application/json"))
    changed[GIVEN] = tuple(value) if isinstance(value, dict) else ()
    return changed


class Door:
    """The ASGI layer that looks at every request under `/api` before anybody else does."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began = time.perf_counter()
        started = False
        ours = scope["path"].startswith("/api")

        async def sending(message: Message) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                started = True
                count_request(_route(scope), scope["method"], message["status"], time.perf_counter() - began)
                if ours:
                    _add_headers(message)
            await send(message)

        try:
            check_address(scope)
            if ours and scope["method"] in _WITH_BODY:
                headers = Headers(scope=scope)
                body = await _whole_body(headers, receive)
                if body is None:
                    return
                if body.strip():
                    scope = _as_json(scope, headers, body)
                receive = _replay(body, receive)
            await self._app(scope, receive, sending)
        except Problem as problem:
            await to_response(problem)(scope, receive, sending)
        except Exception as error:
            log.error("request_failed", route=_route(scope), method=scope["method"], exc_info=error)
            if started:
                raise  # half an answer must not look like a whole one: the server cuts the connection
            await to_response(InternalProblem("an unexpected error; the log has it"))(scope, receive, sending)


def _route(scope: Scope) -> str:
    """The route's template: an address may hold what does not belong into a log."""
    return str(getattr(scope.get("route"), "path", "unknown"))


def _add_headers(message: Message) -> None:
    headers = list(message.get("headers", ()))
    present = {name.lower() for name, _ in headers}
    message["headers"] = [*headers, *(pair for pair in _FIXED_HEADERS if pair[0] not in present)]
