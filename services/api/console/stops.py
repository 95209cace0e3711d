"""The stop or halt that is under way, or has just ended, from its own record: a page only shows it.

Which command that is stands in the journal of commands, so a page that was reloaded finds it again.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from services.api.command_story import command_story
from services.api.console.wording import moment
from services.api.desk import Desk
from services.api.problems import NothingThere

if TYPE_CHECKING:
    from services.api.ledger import Proxy

_LAST = "select command_id, verb, received, body from commands where trader = $1 order by stream_seq desc limit 20"
_SHOWN_FOR = timedelta(seconds=60)
_STEPS = ("stored", "accepted", "blocked", "flat", "done")
_WORDS = {
    "stored": "stored",
    "accepted": "accepted",
    "blocked": "new risk blocked",
    "flat": "flat at the broker",
    "done": "confirmed",
}


async def last_stop(desk: Desk, connection: Proxy, now: datetime) -> dict[str, Any] | None:
    """The trader's last stop or halt while there is something to say about it, for the page's script.

    One that failed stays until something else is commanded: what it left open is still there.
    """
    rows = await connection.fetch(_LAST, desk.trader)
    row = next((row for row in rows if row["verb"] in ("stop", "halt", "deploy", "reset")), None)
    if row is None or row["verb"] not in ("stop", "halt") or not row["command_id"]:
        return None
    try:
        story = await command_story(desk, row["command_id"])
    except NothingThere:
        return None
    ended = story.steps[-1].time
    if story.state == "rejected" or (story.state == "done" and now - ended.astimezone(UTC) > _SHOWN_FOR):
        return None
    reached = {step.state: step for step in story.steps}
    furthest = max((_STEPS.index(state) for state in reached if state in _STEPS), default=0)
    mode = json.loads(row["body"]).get("mode", "flatten") if row["verb"] == "stop" else "flatten and latch"
    return {
        "id": row["command_id"],
        "title": f"{row['verb'].capitalize()} ({mode})",
        "state": story.state,
        "final": story.final,
        "reason": story.reason,
        "steps": [
            {
                "name": _WORDS[name],
                "reached": place <= furthest,
                "at": moment(reached[name].time, seconds=True)[11:] + " UTC" if name in reached else "",
            }
            for place, name in enumerate(_STEPS)
        ],
    }
