"""What routes take in their addresses: one definition of each parameter, with its bounds and example.

Every text is bounded and of harmless characters, every number has a range, every time fits the
database: what passes here can be put into a subject or a statement.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Literal, TypeAlias

from fastapi import Depends, Path, Query, Request
from pydantic import AfterValidator, AwareDatetime

from services.api.desk import Desk
from services.shared.commands import CommandId

_EARLIEST = datetime(1970, 1, 1, tzinfo=UTC)
_LATEST = datetime(2200, 1, 1, tzinfo=UTC)
_NAME = r"^[A-Za-z0-9_-]+$"
_RUN = r"^[A-Za-z0-9_.:-]+$"


def _storable(moment: datetime) -> datetime:
    try:
        known = moment.astimezone(UTC)
    except (OverflowError, ValueError):
        raise ValueError("expected a time between 1970 and 2200") from None
    if not _EARLIEST <= known <= _LATEST:
        raise ValueError("expected a time between 1970 and 2200")
    return known


def get_desk(request: Request) -> Desk:
    """The running desk's parts, as the application was made with."""
    desk: Desk = request.app.state.desk
    return desk


DeskParts: TypeAlias = Annotated[Desk, Depends(get_desk)]


def _trader(
    desk: DeskParts,
    trader: Annotated[
        str | None,
        Query(
            max_length=32,
            pattern=_NAME,
            description="Which trader; the desk's own when left out.",
            examples=["main"],
        ),
    ] = None,
) -> str:
    return trader or desk.trader


Trader: TypeAlias = Annotated[str, Depends(_trader)]
RunId: TypeAlias = Annotated[
    str | None,
    Query(
        max_length=64,
        pattern=_RUN,
        description="Which deployment's run; the last one when left out.",
        examples=["run-20261122-01"],
    ),
]
Moment: TypeAlias = Annotated[AwareDatetime, AfterValidator(_storable)]
From: TypeAlias = Annotated[
    Moment | None,
    Query(
        alias="from",
        description="Not before this time of the run's clock (RFC 3339 with an offset).",
        examples=["2017-04-19T09:00:00Z"],
    ),
]
To: TypeAlias = Annotated[
    Moment | None,
    Query(alias="to", description="Before this time of the run's clock.", examples=["2017-05-19T09:00:00Z"]),
]
Instrument: TypeAlias = Annotated[str | None, Query(pattern=r"^[A-Z0-9]{3,16}$", examples=["EURUSD"])]
Strategy: TypeAlias = Annotated[
    str | None, Query(max_length=64, pattern=r"^[A-Za-z0-9_.:/-]+$", examples=["donchian"])
]
Cursor: TypeAlias = Annotated[
    str | None,
    Query(
        max_length=400,
        pattern=r"^[A-Za-z0-9_=-]+$",
        description="Where to go on: `next` of the page before, or another cursor it gave.",
    ),
]
Limit: TypeAlias = Annotated[int, Query(ge=1, le=1000, description="At most so many.", examples=[100])]
Sort: TypeAlias = Annotated[
    Literal["time", "instrument", "side", "pnl", "r_multiple", "outcome"],
    Query(
        description="By what they are sorted; where it repeats, by the run's clock or number.",
        examples=["pnl"],
    ),
]
Order: TypeAlias = Annotated[
    Literal["newest", "oldest", "descending", "ascending"],
    Query(
        description="Which come first; newest is descending, oldest ascending, whatever they are sorted by.",
        examples=["newest"],
    ),
]
Outcome: TypeAlias = Annotated[
    Literal["win", "loss", "breakeven"] | None,
    Query(description="Only trades that ended so.", examples=["win"]),
]
Every: TypeAlias = Annotated[
    bool, Query(alias="all", description="Over all runs of the trader, instead of one.")
]
RunPath: TypeAlias = Annotated[
    str, Path(max_length=64, pattern=_RUN, description="The run.", examples=["run-20261122-01"])
]
TradePath: TypeAlias = Annotated[
    int, Path(ge=1, le=2**53, description="The trade's number in its run.", examples=[12])
]
Wait: TypeAlias = Annotated[
    float,
    Query(
        ge=0,
        le=60,
        allow_inf_nan=False,
        description="Seconds to wait for the outcome before answering 202.",
        examples=[2],
    ),
]
CommandPath: TypeAlias = Annotated[
    CommandId, Path(description="The id that the command's answer gave.", examples=["api-5d0b8f1e3b6f5a0c"])
]
