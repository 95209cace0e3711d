"""Which command is a repeat of one that was carried out: the same verb, id and content.

NATS is not asked to tell repeats (it goes by the id alone, and would drop a stop that bears the id of a
deploy): every command is stored, and whoever carries it out remembers here what it has carried out. One that
was refused did nothing, so it is not remembered; nor is a stop any more once another run has begun. Keeping
the memory over restarts is its owner's.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping

from services.shared.commands import AnyCommand, LimitsRequest
from services.shared.verbs import LOWERS_RISK

REPEAT = "a repeat of "
"""How the reason of an answer begins when nothing was done again."""
_REMEMBERED = 128
_NO_CONTENT = {"version", "command_id", "by", "reason", "expires"}


def identity(verb: str, command: AnyCommand | LimitsRequest) -> str:
    """What two commands have in common when one is a repeat of the other; empty for one without an id.

    Who asks, why and until when is not what is asked.
    """
    if command.command_id is None:
        return ""
    content = command.model_dump(mode="json", exclude=_NO_CONTENT)
    asked = json.dumps([verb, command.command_id, content], sort_keys=True)
    return f"{verb} {hashlib.sha256(asked.encode()).hexdigest()[:24]}"


class CarriedOut:
    """The last commands carried out, oldest first: identity to the place it was stored at (0: not stored)."""

    def __init__(self, kept: Mapping[str, int] | None = None) -> None:
        self._places = dict(kept or {})

    def note(self, identity: str, place: int) -> None:
        """A command was carried out; without an identity there is nothing to tell a repeat by."""
        if not identity:
            return
        self._places.setdefault(identity, place)
        while len(self._places) > _REMEMBERED:
            del self._places[next(iter(self._places))]

    def run_began(self) -> None:
        """What only lowered the risk of runs before is no first any more: whoever stops this run under an id
        that stopped another means this one, and a late repeat of a stop does less harm than a lost one."""
        self._places = {
            identity: place
            for identity, place in self._places.items()
            if identity.partition(" ")[0] not in LOWERS_RISK
        }

    def place(self, identity: str) -> int | None:
        """Where a command that was carried out is stored, or None for one that is no repeat."""
        return self._places.get(identity)

    def __contains__(self, identity: str) -> bool:
        return identity in self._places

    def kept(self) -> dict[str, int]:
        """What to hand in again after a restart."""
        return dict(self._places)
