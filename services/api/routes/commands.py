"""Deploy, pause, resume, stop, halt, reset, signals: asked of the desk, whose answer is handed on."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Body, Request, Response

from services.api.answers.commands import (
    CommandAnswer,
    CommandHistory,
    DeployAnswer,
    SignalAnswer,
)
from services.api.command_story import command_story
from services.api.desk import Desk
from services.api.door import GIVEN
from services.api.params import CommandPath, DeskParts, Trader, Wait
from services.api.problems import (
    BusAway,
    CommandFailed,
    CommandRefused,
    ForeignOrigin,
    MediaTypeUnknown,
    NobodyAnswered,
    NothingThere,
    RequestTooLarge,
    ViewerMayNot,
    documented,
)
from services.api.verbs import Progress, ignored_fields
from services.shared.commands import Command, Deploy, Halt, Pause, Reset, Resume, Signal, Stop

router = APIRouter(tags=["commands"])

_RESPONSES: dict[int | str, dict[str, Any]] = {
    202: {
        "model": CommandAnswer,
        "description": "Taken on and still under way; `Location` and `link` say where to look.",
    },
    **documented(
        CommandRefused,
        CommandFailed,
        NobodyAnswered,
        BusAway,
        ForeignOrigin,
        ViewerMayNot,
        RequestTooLarge,
        MediaTypeUnknown,
    ),
}


async def _carry_out(
    desk: Desk, request: Request, response: Response, trader: str, command: Command, wait: float
) -> CommandAnswer:
    progress = await desk.verbs.send(trader, command, wait=wait)
    return _answer(request, response, progress, type(command))


def _answer(
    request: Request, response: Response, progress: Progress, command: type[Command]
) -> CommandAnswer:
    link = f"/api/commands/{progress.command_id}"
    if not progress.done:
        response.status_code = 202
        response.headers["Location"] = link
    return CommandAnswer(
        status="done" if progress.done else "under_way",
        command_id=progress.command_id,
        verb=progress.verb,
        state=progress.state,
        reason=progress.reason,
        link=link,
        ignored=tuple(ignored_fields(command, request.scope.get(GIVEN, ()))),
    )


@router.post(
    "/deploy",
    operation_id="deploy",
    summary="Start a deployment",
    response_model=DeployAnswer | CommandAnswer,
    responses={**_RESPONSES, 200: {"model": DeployAnswer, "description": "Deployed."}},
)
async def deploy(
    desk: DeskParts,
    trader: Trader,
    request: Request,
    response: Response,
    command: Annotated[
        Deploy | None,
        Body(
            openapi_examples={
                "everything by default": {"value": {}},
                "rsi, risking 5 a trade": {
                    "value": {"strategy": "rsi", "instrument": "EURUSD", "risk_per_trade": "5"}
                },
                "a day, other costs": {
                    "value": {"hours": 24, "costs": {"spread": "0.8"}, "parameters": {"period": "30"}}
                },
            }
        ),
    ] = None,
    wait: Wait = 5.0,
) -> DeployAnswer | CommandAnswer:
    """Deploy a strategy on the trader's account. 409 `Already deployed` while one runs."""
    progress, known = await desk.verbs.deploy(trader, command or Deploy(), wait=wait)
    if known is None:
        return _answer(request, response, progress, Deploy)
    return DeployAnswer(
        status="DEPLOYED",
        command_id=progress.command_id,
        run_id=known.run_id,
        phase=known.phase,
        deployment_time=known.deployment_time,
        expected_completion=known.expected_completion,
        reason=progress.reason,
        ignored=tuple(ignored_fields(Deploy, request.scope.get(GIVEN, ()))),
    )


@router.post("/pause", operation_id="pause", summary="Block entries", responses=_RESPONSES)
async def pause(
    desk: DeskParts,
    trader: Trader,
    request: Request,
    response: Response,
    command: Annotated[
        Pause | None, Body(openapi_examples={"with a reason": {"value": {"reason": "news at 14:30"}}})
    ] = None,
    wait: Wait = 2.0,
) -> CommandAnswer:
    """Let no new trade begin; open ones stay managed."""
    return await _carry_out(desk, request, response, trader, command or Pause(), wait)


@router.post("/resume", operation_id="resume", summary="Allow entries again", responses=_RESPONSES)
async def resume(
    desk: DeskParts,
    trader: Trader,
    request: Request,
    response: Response,
    command: Annotated[
        Resume | None, Body(openapi_examples={"with a reason": {"value": {"reason": "news is over"}}})
    ] = None,
    wait: Wait = 2.0,
) -> CommandAnswer:
    """End a pause."""
    return await _carry_out(desk, request, response, trader, command or Resume(), wait)


@router.post("/stop", operation_id="stop", summary="End the deployment", responses=_RESPONSES)
async def stop(
    desk: DeskParts,
    trader: Trader,
    request: Request,
    response: Response,
    command: Annotated[
        Stop | None,
        Body(
            openapi_examples={
                "flatten": {"value": {"mode": "flatten"}},
                "when the open trade ends": {"value": {"mode": "graceful"}},
                "leave the position to its stop": {"value": {"mode": "freeze"}},
            }
        ),
    ] = None,
    wait: Wait = 2.0,
) -> CommandAnswer:
    """Stop: `flatten` closes everything, `graceful` waits for the open trade, `freeze` leaves it."""
    return await _carry_out(desk, request, response, trader, command or Stop(), wait)


@router.post("/halt", operation_id="halt", summary="Flatten and latch", responses=_RESPONSES)
async def halt(
    desk: DeskParts,
    trader: Trader,
    request: Request,
    response: Response,
    command: Annotated[
        Halt | None, Body(openapi_examples={"with a reason": {"value": {"reason": "prices look wrong"}}})
    ] = None,
    wait: Wait = 2.0,
) -> CommandAnswer:
    """Close everything and let nothing trade until a reset."""
    return await _carry_out(desk, request, response, trader, command or Halt(), wait)


@router.post("/reset", operation_id="reset", summary="Clear a halt", responses=_RESPONSES)
async def reset(
    desk: DeskParts,
    trader: Trader,
    request: Request,
    response: Response,
    command: Annotated[
        Reset, Body(openapi_examples={"with a reason": {"value": {"reason": "read the trades, go on"}}})
    ],
    wait: Wait = 2.0,
) -> CommandAnswer:
    """Clear the latch of a halt. Needs a reason and a flat account; only a deploy trades again."""
    return await _carry_out(desk, request, response, trader, command, wait)


@router.post(
    "/signals",
    operation_id="signal",
    summary="Send a decision from outside",
    status_code=202,
    responses=documented(BusAway, ForeignOrigin, ViewerMayNot, RequestTooLarge, MediaTypeUnknown),
)
async def signal(
    desk: DeskParts,
    trader: Trader,
    signal: Annotated[
        Signal,
        Body(
            openapi_examples={
                "buy, two R": {
                    "value": {
                        "id": "my-signal-1",
                        "instrument": "EURUSD",
                        "side": "buy",
                        "stop": "1.0712",
                        "r": "2",
                    }
                },
                "close": {"value": {"id": "my-signal-2", "instrument": "EURUSD", "side": "close"}},
            }
        ),
    ],
) -> SignalAnswer:
    """Store a signal for the `signals` strategy, which sizes, guards and protects the trade. The same id
    twice is one signal."""
    data = signal.model_dump_json(exclude_none=True).encode()
    place = await desk.verbs.signal(trader, data, signal.id)
    return SignalAnswer(status="stored", id=signal.id, place=place)


@router.get(
    "/commands/{command_id}",
    operation_id="command",
    summary="How far a command has come",
    responses=documented(NothingThere),
)
async def command_history(desk: DeskParts, command_id: CommandPath) -> CommandHistory:
    """What the desk has said about a command (the last one, where several had the id); the last while is
    known without the database."""
    return await command_story(desk, command_id)
