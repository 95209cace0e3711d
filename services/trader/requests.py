"""Requests on `control.<t>.<verb>` as the trader sees them: each waits for its twin in the stream.

Asker, guard and trader hear the same request; the guard stores it, and the trader, who may store no command,
finds it again when it reads the stream: by its id, or in the order of asking where it had none. What nobody
stored in time is remembered for a while: a deploy that was answered "not stored" must not happen later.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import TypeVar

from services.shared.commands import NAMED_BY_THE_GUARD, AnyCommand, CommandReply
from services.shared.repeats import identity
from services.shared.verbs import LOWERS_RISK

_REFUSED_FOR = 600.0
_REFUSED_AT_MOST = 1024
_LATE = ("deploy", "resume")
"""What must not happen late; a reset that is late clears only what it was asked to clear."""


K = TypeVar("K", int, str)


def _reply() -> asyncio.Future[CommandReply]:
    return asyncio.get_running_loop().create_future()


@dataclass(slots=True, eq=False)
class Asked:
    """One request. `stored` is set when its twin is read, `reply` when that has been carried out."""

    command: AnyCommand
    key: str
    command_id: str = ""
    seq: int = 0
    stored: asyncio.Event = field(default_factory=asyncio.Event)
    reply: asyncio.Future[CommandReply] = field(default_factory=_reply)


class Requests:
    """The requests that wait, and those that were refused because nobody had stored them."""

    def __init__(self) -> None:
        self._waiting: dict[str, list[Asked]] = {}
        self._found: dict[int, list[Asked]] = {}
        self._refused: dict[str, float] = {}

    def begin(self, command: AnyCommand) -> Asked:
        """A request came; `end` it in any case."""
        key = identity(command.verb, command) if command.command_id else _nameless(command)
        request = Asked(command, key, command.command_id or "")
        self._waiting.setdefault(key, []).append(request)
        return request

    def end(self, request: Asked) -> None:
        """It is answered."""
        _drop(self._waiting, request.key, request)
        _drop(self._found, request.seq, request)

    def refuse(self, request: Asked) -> None:
        """It is answered "not stored": should it be stored yet, `meet` knows."""
        if request.command.verb not in _LATE:
            return
        self._refused.pop(request.key, None)
        self._refused[request.key] = asyncio.get_running_loop().time() + _REFUSED_FOR
        while len(self._refused) > _REFUSED_AT_MOST:
            del self._refused[next(iter(self._refused))]

    def meet(self, seq: int, command: AnyCommand) -> bool:
        """A command was read at `seq`: tell who waits for it. False when it comes too late to be carried out."""
        exact, nameless = identity(command.verb, command), ""
        found = self._waiting.pop(exact, []) if exact else []
        if not found and (command.command_id or "").startswith(NAMED_BY_THE_GUARD):
            nameless = _nameless(command)
            first = self._waiting.get(nameless, [])[:1]
            for request in first:
                self.end(request)
            found = first
        for request in found:
            request.seq, request.command_id = seq, command.command_id or ""
            request.stored.set()
        if found:
            self._found[seq] = list(found)
            return True
        return not (self._was_refused(exact) or self._was_refused(nameless))

    def answer(self, seq: int, reply: CommandReply) -> None:
        """What was read at `seq` has been carried out, or not: tell who asked for it."""
        for request in self._found.get(seq, ()):
            if not request.reply.done():
                request.reply.set_result(reply)

    def _was_refused(self, key: str) -> bool:
        return self._refused.get(key, 0.0) > asyncio.get_running_loop().time()


def _drop(requests: dict[K, list[Asked]], place: K, request: Asked) -> None:
    """Take a request out of its place, and the place away when it is empty."""
    found = requests.get(place, [])
    if request in found:
        found.remove(request)
        if not found:
            del requests[place]


def why_not_stored(request: Asked, trader: str) -> str:
    """What the asker is told, after `NOT_STORED`."""
    verb = request.command.verb
    nobody = "the guard, which alone stores what is asked here, does not answer"
    if verb in LOWERS_RISK:
        return (
            f"{nobody}; it may still do it when it is back. `desk {verb}` does it without the guard, "
            f"and so does `nats pub command.{trader}.{verb} '{{}}'`"
        )
    if verb in _LATE:
        return f"{nobody}. It will not happen later either: ask again when the guard is back"
    return f"{nobody}; it may still do it when it is back"


TOO_LATE = (
    "stored too late: whoever asked for it was told that it was not stored, so it is not done; ask again"
)


def _nameless(command: AnyCommand) -> str:
    """What is asked, whatever id it gets."""
    return identity(command.verb, command.model_copy(update={"command_id": "any"}))


__all__ = ["TOO_LATE", "Asked", "Requests", "why_not_stored"]
