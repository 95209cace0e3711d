"""Every way the API says no: one tree of problems, answered as `application/problem+json` (RFC 9457).

A problem's class carries status, code, title and what the caller can do; `docs/reference/errors.md` is
generated from the tree. What the desk raises (`services.shared.errors`) becomes one of them here, and
nothing a caller sent is echoed. Who raises which is the routes' and the door's business.

Problem
├── MalformedRequest 400      ├── RequestTooLarge 413    ├── TooManyStreams 429
├── NotAuthenticated 401      ├── AddressTooLong 414     ├── InternalProblem 500
├── ForeignOrigin 403         ├── MediaTypeUnknown 415   └── Unavailable 503
├── ViewerMayNot 403          ├── ForeignHost 421            ├── BusAway
├── NothingThere 404          └── InvalidRequest 422         ├── DatabaseAway
├── MethodUnknown 405                                        └── NobodyAnswered
├── BodyTooSlow 408
└── CommandRefused 409
    └── CommandFailed
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, ClassVar

import structlog
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, Field
from starlette.exceptions import HTTPException

from services.shared.errors import BusError, DeskError, InvalidInput, NoAnswer, Refused, StorageUnavailable

log = structlog.get_logger(__name__)

MEDIA_TYPE = "application/problem+json"
_URN = "urn:tradedesk:problem:"


class FieldComplaint(BaseModel):
    """Where in the request something is wrong, and what was expected there."""

    where: str = Field(examples=["query.limit"])
    message: str = Field(examples=["Input should be less than or equal to 1000"])


class ProblemBody(BaseModel):
    """An error as RFC 9457 has it; `detail` is a sentence for a person, `type` a name to branch on."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "type": "urn:tradedesk:problem:command-refused",
                    "title": "The desk refuses",
                    "status": 409,
                    "detail": "Already deployed",
                    "command_id": "api-5d0b8f1e3b6f5a0c",
                }
            ]
        }
    )

    type: str
    title: str
    status: int
    detail: str
    command_id: str | None = None
    errors: list[FieldComplaint] | None = None


class Problem(Exception):
    """A request that gets no answer of its kind. `detail` is fit for a person and holds no secret."""

    status: ClassVar[int] = 500
    code: ClassVar[str] = "problem"
    title: ClassVar[str] = "Something is wrong"
    cure: ClassVar[str] = ""

    def __init__(
        self, detail: str, *, headers: Mapping[str, str] | None = None, **extra: str | list[dict[str, str]]
    ) -> None:
        super().__init__(detail)
        self.detail = detail
        self.headers = dict(headers or {})
        self.extra = extra


class MalformedRequest(Problem):
    """The request is no HTTP, no UTF-8 or no JSON that the desk could read."""

    status = 400
    code = "malformed-request"
    title = "The request cannot be read"
    cure = "Send UTF-8 without NUL characters, and JSON with finite numbers in the body."


class NotAuthenticated(Problem):
    """No token, or the wrong one."""

    status = 401
    code = "not-authenticated"
    title = "A token is needed"
    cure = "Send `Authorization: Bearer <token>`; `desk token` prints it."


class ForeignOrigin(Problem):
    """A page of another site tries to change something here."""

    status = 403
    code = "foreign-origin"
    title = "The request comes from another site"
    cure = "Use the desk's own pages, or a client that sends no Origin."


class ViewerMayNot(Problem):
    """The token is the viewer's, and the request would change something."""

    status = 403
    code = "viewer-may-not"
    title = "A viewer may only look"
    cure = "Use the operator's token: `desk token` prints it."


class NothingThere(Problem):
    """No such route, run or command."""

    status = 404
    code = "not-found"
    title = "There is no such thing"
    cure = "Look at `/api/openapi.json` for the routes and at `/api/runs` for the runs."


class MethodUnknown(Problem):
    """The route exists, the method does not."""

    status = 405
    code = "method-not-allowed"
    title = "The method is not allowed here"
    cure = "The `Allow` header names the methods."


class BodyTooSlow(Problem):
    """The body did not arrive in time."""

    status = 408
    code = "body-too-slow"
    title = "The request took too long to arrive"
    cure = "Send it again."


class CommandRefused(Problem):
    """The trader or the guard refuses; the detail is their reason."""

    status = 409
    code = "command-refused"
    title = "The desk refuses"
    cure = "The detail says why; `/api/status` shows the state it was refused in."


class CommandFailed(CommandRefused):
    """The command was taken on and could not be finished; the detail says what is left open."""

    code = "command-failed"
    title = "The command failed"
    cure = "Read the detail and `/api/positions`, and look at the account itself."


class RequestTooLarge(Problem):
    """The body is larger than any request of the desk needs to be."""

    status = 413
    code = "request-too-large"
    title = "The request is too large"
    cure = "Bodies are limited to 64 KiB."


class AddressTooLong(Problem):
    """Path and query are too long."""

    status = 414
    code = "address-too-long"
    title = "The address is too long"
    cure = "Path and query are limited to 8 KiB."


class MediaTypeUnknown(Problem):
    """The body is of a type the desk does not take."""

    status = 415
    code = "media-type-unknown"
    title = "The body is not JSON"
    cure = "Send JSON with `Content-Type: application/json`."


class ForeignHost(Problem):
    """The Host header names somebody else: a rebound name, or a proxy the desk was not told of."""

    status = 421
    code = "foreign-host"
    title = "The request is addressed to somebody else"
    cure = "Use 127.0.0.1 or localhost, or name the host in `DESK_API_HOSTS`."


class InvalidRequest(Problem):
    """The request can be read, but a value in it cannot be used; `errors` says which."""

    status = 422
    code = "invalid-request"
    title = "A value cannot be used"
    cure = "`errors` names each place and what is expected there."


class TooManyStreams(Problem):
    """As many streams or exports are open as the API serves at once."""

    status = 429
    code = "too-many-streams"
    title = "Too many at once"
    cure = "Close one, or try again after the seconds in `Retry-After`."


class InternalProblem(Problem):
    """A fault of the desk's own; the log of the API has it."""

    status = 500
    code = "internal"
    title = "The API failed"
    cure = "Look into the log of the api process, and report it."


class Unavailable(Problem):
    """A part of the desk is away; the same request may work in a moment."""

    status = 503
    code = "unavailable"
    title = "A part of the desk is away"
    cure = "Try again; `/api/health` says which part is away."


class BusAway(Unavailable):
    """NATS is not connected or did not answer."""

    code = "nats-away"
    title = "NATS is away"


class DatabaseAway(Unavailable):
    """The database is not reachable, or too slow."""

    code = "database-away"
    title = "The database is away"


class NobodyAnswered(Unavailable):
    """The trader or the guard did not answer."""

    code = "nobody-answered"
    title = "The trader or the guard does not answer"


def tree(root: type[Problem] = Problem) -> Iterator[type[Problem]]:
    """Every problem below `root`, parents first."""
    for kind in root.__subclasses__():
        yield kind
        yield from tree(kind)


def to_response(problem: Problem) -> JSONResponse:
    """The answer that carries `problem`."""
    body: dict[str, Any] = {
        "type": _URN + problem.code,
        "title": problem.title,
        "status": problem.status,
        "detail": problem.detail,
        **problem.extra,
    }
    headers = dict(problem.headers)
    if isinstance(problem, NotAuthenticated):
        headers["WWW-Authenticate"] = 'Bearer realm="desk"'
    if isinstance(problem, Unavailable):
        headers.setdefault("Retry-After", "2")
    return JSONResponse(body, status_code=problem.status, headers=headers, media_type=MEDIA_TYPE)


def from_desk(error: DeskError) -> Problem:
    """The problem a desk error means for a caller."""
    match error:
        case StorageUnavailable():
            return DatabaseAway(str(error))
        case NoAnswer():
            return NobodyAnswered(str(error))
        case BusError():
            return BusAway(str(error))
        case Refused():
            return CommandRefused(str(error))
        case InvalidInput():
            return InvalidRequest(str(error))
        case _:
            log.error("unexpected_desk_error", error=type(error).__name__, detail=str(error))
            return InternalProblem("an unexpected error; the log has it")


_BY_STATUS: dict[int, type[Problem]] = {
    400: MalformedRequest,
    404: NothingThere,
    405: MethodUnknown,
    413: RequestTooLarge,
    415: MediaTypeUnknown,
}


def _from_http(error: HTTPException) -> Problem:
    kind = _BY_STATUS.get(error.status_code, InvalidRequest if error.status_code < 500 else InternalProblem)
    texts = {404: "no such route", 405: "this method is not allowed on this route"}
    return kind(texts.get(error.status_code, kind.title.lower()), headers=error.headers)


def _from_validation(error: RequestValidationError) -> Problem:
    """What is wrong where, without the values: somebody may have put a token in the wrong place."""
    complaints = [
        {
            "where": ".".join(str(step)[:64] for step in item.get("loc", ()))[:200],
            "message": str(item.get("msg", ""))[:300],
        }
        for item in list(error.errors())[:20]
    ]
    first = complaints[0] if complaints else {"where": "request", "message": "cannot be used"}
    return InvalidRequest(f"{first['where']}: {first['message']}", errors=complaints)


def install(app: FastAPI) -> None:
    """Have `app` answer each error as a problem."""

    async def on_problem(_request: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, Problem)
        return to_response(error)

    async def on_desk_error(_request: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, DeskError)
        return to_response(from_desk(error))

    async def on_http(_request: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, HTTPException)
        return to_response(_from_http(error))

    async def on_validation(_request: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, RequestValidationError)
        return to_response(_from_validation(error))

    app.add_exception_handler(Problem, on_problem)
    app.add_exception_handler(DeskError, on_desk_error)
    app.add_exception_handler(HTTPException, on_http)
    app.add_exception_handler(RequestValidationError, on_validation)


def documented(*kinds: type[Problem]) -> dict[int | str, dict[str, Any]]:
    """The `responses` of a route that may answer with these besides those every route may."""
    wanted: tuple[type[Problem], ...] = (
        *kinds,
        MalformedRequest,
        NotAuthenticated,
        AddressTooLong,
        InvalidRequest,
    )
    answers: dict[int | str, dict[str, Any]] = {}
    for kind in wanted:
        meaning = (kind.__doc__ or "").splitlines()[0]
        if kind.status in answers:
            answers[kind.status]["description"] += " " + meaning
            continue
        answers[kind.status] = {
            "model": ProblemBody,
            "description": meaning,
            "content": {
                MEDIA_TYPE: {
                    "schema": {"$ref": "#/components/schemas/ProblemBody"},
                    "example": {
                        "type": _URN + kind.code,
                        "title": kind.title,
                        "status": kind.status,
                        "detail": meaning,
                    },
                }
            },
        }
    return answers
