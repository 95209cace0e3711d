"""Changing the guard's limits: one way for the route and the console. The guard decides."""

from __future__ import annotations

from collections.abc import Mapping

from services.api.desk import Desk
from services.api.problems import CommandRefused
from services.shared.commands import LimitsReply, LimitsRequest
from services.shared.limits import parse


async def change_limits(
    desk: Desk, trader: str, values: Mapping[str, str], *, by: str, reason: str
) -> LimitsReply:
    """Have the guard hold the trader to these from now on; returns what is in force then.

    Raises InvalidInput for what is no limit, CommandRefused with the guard's reason, NobodyAnswered, BusError.
    """
    parse(values)
    reply = await desk.verbs.limits(trader, LimitsRequest(values=dict(values), by=by, reason=reason))
    desk.limits.forget(trader)
    if reply.status == "rejected":
        raise CommandRefused(reply.reason or "refused without a reason")
    return reply
