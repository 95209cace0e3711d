"""The application: routes under `/api`, probes and metrics, behind the door and the gate.

Made from parts that already exist, so that a test can make it without a process around it. What no route
answers goes to the console (`console.entrance`), behind the same host and origin rules.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from fastapi import Depends, FastAPI, Response
from fastapi.responses import HTMLResponse, PlainTextResponse
from fastapi.security import HTTPBearer
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from services.api.answers.base import Answer
from services.api.auth import Doorkeeper, Gate
from services.api.console.entrance import Entrance, Loaded
from services.api.console.login import Login
from services.api.console.sessions import Sessions
from services.api.desk import Desk
from services.api.door import Door
from services.api.pages import HEADERS, documentation
from services.api.problems import install
from services.api.routes import alerts, commands, events, overview, records, runs, trades
from services.api.strict import only_known_parameters
from services.shared import __version__

_TAGS = [
    {"name": "overview", "description": "How the desk stands."},
    {"name": "commands", "description": "What the desk is asked to do; trader and guard decide."},
    {"name": "records", "description": "What was recorded."},
    {"name": "alerts", "description": "What a person should know, and whether it reaches one."},
    {"name": "events", "description": "Everything that happens, as it happens."},
]
_ABOUT = """\
The way in to a trading desk. Every route but `/api/health` needs `Authorization: Bearer <token>`
(`desk token` prints it). The viewer's token (`desk token --viewer`) reads everything; whatever would change
something is refused with 403 `viewer-may-not`. Errors are `application/problem+json`. Money and prices are
exact decimals as strings. Messages on the bus are in docs/asyncapi.yaml.
"""


def create_app(
    desk: Desk, doorkeeper: Doorkeeper, sessions: Sessions, console: Loaded = lambda: None
) -> FastAPI:
    """The application over `desk`, open to whoever `doorkeeper` lets in, its console to whoever has one of the
    `sessions`. `console` gives the pages' application once it is loaded."""
    app = FastAPI(
        title="tradedesk",
        version=__version__,
        description=_ABOUT,
        openapi_url="/api/openapi.json",
        docs_url=None,  # their pages load scripts from elsewhere
        redoc_url=None,
        openapi_tags=_TAGS,
        redirect_slashes=False,
        separate_input_output_schemas=False,
    )
    app.state.desk = desk
    # Only for the documentation: the gate has asked for the token before any route is looked for.
    bearer = HTTPBearer(auto_error=False, description="The operator's token, or the viewer's for reading.")
    strict = Depends(only_known_parameters)
    app.include_router(overview.without_token, prefix="/api", dependencies=[strict])
    for routes in (overview, commands, trades, records, runs, alerts, events):
        app.include_router(routes.router, prefix="/api", dependencies=[Depends(bearer), strict])
    _add_probes(app, desk)
    install(app)
    # Where no route matches, and not a mount at `/`, which would match where only the method is wrong.
    login = Login(sessions, doorkeeper, desk.journal)
    app.router.default = Entrance(desk, sessions, login, console, app.router.default)
    _publish(app)
    app.add_middleware(Gate, doorkeeper=doorkeeper, in_session=lambda scope: sessions.who(scope) is not None)
    app.add_middleware(Door)  # the last one added is the outermost
    return app


def _add_probes(app: FastAPI, desk: Desk) -> None:
    async def livez() -> PlainTextResponse:
        return PlainTextResponse("ok\n")

    async def readyz() -> PlainTextResponse:
        away = [
            name
            for name, well in (("nats", desk.line.connected), ("database", desk.ledger.problem is None))
            if not well
        ]
        if away:
            return PlainTextResponse(f"away: {', '.join(away)}\n", status_code=503)
        return PlainTextResponse("ok\n")

    async def metrics() -> Response:
        return Response(generate_latest(), headers={"Content-Type": CONTENT_TYPE_LATEST})

    async def docs() -> HTMLResponse:
        return HTMLResponse(documentation(app.openapi()), headers=HEADERS)

    routes: dict[str, Any] = {
        "/api/docs": docs,
        "/livez": livez,
        "/readyz": readyz,
        "/metrics": metrics,
    }
    for path, answer in routes.items():
        app.add_api_route(path, answer, include_in_schema=False)


def _publish(app: FastAPI) -> None:
    """Have the application's document say what it does: FastAPI adds a plain JSON twin to every problem,
    and leaves null values out of examples, which then lack fields."""
    plain = app.openapi

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            document = plain()
            for methods in document["paths"].values():
                for operation in methods.values():
                    for status, answer in operation["responses"].items():
                        if status >= "400":
                            answer["content"].pop("application/json", None)
            for model in _models(Answer):
                shown = (model.model_config.get("json_schema_extra") or {}).get("examples")  # type: ignore[union-attr]
                if shown and model.__name__ in document["components"]["schemas"]:
                    document["components"]["schemas"][model.__name__]["examples"] = shown
        return app.openapi_schema or plain()

    app.openapi = openapi  # type: ignore[method-assign]


def _models(root: type[Answer]) -> Iterator[type[Answer]]:
    for model in root.__subclasses__():
        yield model
        yield from _models(model)
