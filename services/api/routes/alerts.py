"""What is done about alerts: acknowledge one, and find out whether they reach anybody."""

from __future__ import annotations

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Body, Path
from pydantic import BaseModel, ConfigDict

from services.api.answers.commands import ChannelTrial, TrialAnswer
from services.api.answers.records import AlertRow
from services.api.params import DeskParts
from services.api.problems import (
    BusAway,
    CommandRefused,
    DatabaseAway,
    ForeignOrigin,
    MediaTypeUnknown,
    NothingThere,
    RequestTooLarge,
    ViewerMayNot,
    documented,
)
from services.shared.events import Text

router = APIRouter(tags=["alerts"])

_ID = Path(description="The alert's `id`.", examples=["5e1c0b1e-8f0a-5a8e-9a53-6d3f0e5f7f10"])


class Acknowledgement(BaseModel):
    """Who has read the alert; `api` when left out."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"by": "ann"}]})

    by: Text = ""


@router.post(
    "/alerts/{alert_id}/acknowledge",
    operation_id="acknowledge",
    summary="Acknowledge an alert",
    responses=documented(
        NothingThere, BusAway, DatabaseAway, ForeignOrigin, ViewerMayNot, RequestTooLarge, MediaTypeUnknown
    ),
)
async def acknowledge(
    desk: DeskParts,
    alert_id: Annotated[UUID, _ID],
    acknowledgement: Annotated[
        Acknowledgement | None, Body(openapi_examples={"by ann": {"value": {"by": "ann"}}})
    ] = None,
) -> AlertRow:
    """Say that somebody has read it and looks after it. The first one stands: again changes nothing."""
    by = acknowledgement.by if acknowledgement is not None else ""
    (alert,) = await desk.acknowledgements.acknowledge([alert_id], by=by or "api", role="operator")
    return alert


@router.post(
    "/alerts/test",
    operation_id="try_channels",
    summary="Try the alert channels",
    responses=documented(CommandRefused, ForeignOrigin, ViewerMayNot, RequestTooLarge, MediaTypeUnknown),
)
async def try_channels(desk: DeskParts) -> TrialAnswer:
    """Send a trial alert through every channel in the desk's file, and say which took it. 409 where there is
    none, or a trial is under way."""
    taken = await desk.channels.try_all(desk.trader)
    said = ", ".join(f"{channel} {'taken' if well else 'failed'}" for channel, well in taken.items())
    desk.journal.note("api", "operator", "channels.try", detail=said)
    return TrialAnswer(
        channels=[ChannelTrial(channel=channel, taken=well) for channel, well in taken.items()]
    )
