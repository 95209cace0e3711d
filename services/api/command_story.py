"""How far a command has come: what was heard of it, and what the database has where hearing is not enough.

A command's own record is the only memory of it: a page that was reloaded, or an API started anew, finds
here what it was showing.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from services.api.answers.commands import CommandHistory, CommandStep
from services.api.desk import Desk
from services.api.line import LAST_STATES, begins_anew
from services.api.problems import NothingThere
from services.api.queries import command as read_command
from services.shared.errors import StorageUnavailable

if TYPE_CHECKING:
    from services.api.ledger import Record


async def command_story(desk: Desk, command_id: str) -> CommandHistory:
    """What the desk has said about a command (the last one, where several had the id); the last while is
    known without the database.

    Raises NothingThere for an unknown command, StorageUnavailable when only the database could know.
    """
    heard = desk.line.outcomes.history(command_id)
    steps: dict[str, CommandStep] = {
        told.outcome.state: CommandStep(state=told.outcome.state, reason=told.outcome.reason, time=told.time)
        for told in heard
    }
    verb, trader = (heard[0].outcome.verb, heard[0].trader) if heard else ("", "")
    if not any(state in LAST_STATES for state in steps):
        try:
            async with desk.ledger.reading() as connection:
                stored, said = await read_command(connection, command_id)
        except StorageUnavailable:
            if not heard:
                raise
            stored, said = None, []
        if stored is not None and stored["verb"] == (verb or stored["verb"]):
            verb, trader = stored["verb"], stored["trader"]
            steps = {"stored": CommandStep(state="stored", reason="", time=stored["received"]), **steps}
        verb = verb or (said[-1]["verb"] if said else "")
        for row in _last_course([row for row in said if row["verb"] == verb]):
            trader = row["trader"]
            steps.setdefault(
                row["state"], CommandStep(state=row["state"], reason=row["reason"], time=row["recorded"])
            )
    if not steps:
        raise NothingThere("no such command, or it is not recorded yet")
    order = sorted(steps.values(), key=lambda step: step.time)
    last = next((step for step in order if step.state in LAST_STATES), order[-1])
    return CommandHistory(
        command_id=command_id,
        verb=verb,
        trader=trader,
        state=last.state,
        final=last.state in LAST_STATES,
        reason=last.reason,
        steps=order,
    )


def _last_course(said: Sequence[Record]) -> list[Record]:
    """What was said of the last command that had the id, of all that was said, oldest first."""
    course: list[Record] = []
    for row in said:
        if begins_anew([earlier["state"] for earlier in course], row["state"]):
            course = []
        course.append(row)
    return course
