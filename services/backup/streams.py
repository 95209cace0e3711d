"""Streams and buckets as NATS itself packs them: a snapshot in pieces, and a stream made of one again."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterable
from typing import Any, Final

from nats.errors import Error as NatsError

from services.backup.archive import CHUNK, as_json
from services.backup.cut import Memory, survives
from services.shared import subjects
from services.shared.bus import Bus
from services.shared.errors import BusError

BUCKETS: Final = (subjects.SNAPSHOTS, subjects.DEPLOYMENTS, subjects.LIMITS)
"""Leases and sessions are for the moment, credentials are sealed to a key that is in no archive."""
STREAMS: Final = (subjects.EVENTS, subjects.COMMANDS, subjects.MARKET)
_PIECE_WITHIN: Final = 30.0
_SHORTEST_WINDOW: Final = 0.1
_DONE: Final = ("", "204")


async def snapshot(bus: Bus, stream: str, write: Callable[[bytes], None]) -> dict[str, Any]:
    """Hand a stream's snapshot to `write`, in pieces; returns its configuration and state. Raises BusError."""
    client = bus.client
    inbox = client.new_inbox()
    try:
        pieces = await client.subscribe(inbox)
        try:
            about = await _ask(
                bus,
                f"$JS.API.STREAM.SNAPSHOT.{stream}",
                {"deliver_subject": inbox, "no_consumers": True, "chunk_size": CHUNK},
            )
            while True:
                piece = await pieces.next_msg(timeout=_PIECE_WITHIN)
                if not piece.data:
                    status = (piece.headers or {}).get("Status", "")
                    if status not in _DONE:
                        raise BusError(f"the snapshot of {stream} broke off: status {status}")
                    return {"config": about["config"], "state": about["state"]}
                write(bytes(piece.data))
                if piece.reply:  # the server waits for these
                    await client.publish(piece.reply, b"")
        finally:
            await pieces.unsubscribe()
    except (TimeoutError, NatsError, OSError) as error:
        raise BusError(f"the snapshot of {stream}: {type(error).__name__}") from None


async def restore(bus: Bus, stream: str, about: dict[str, Any], pieces: Iterable[bytes]) -> None:
    """Make a stream that is not there of a snapshot. For the admin user. Raises BusError.

    The server is to forget the ids in it: NATS reads them anew from what is restored, and what is cut
    would, for two minutes after it was first said, be taken for a repeat when it is said again, acknowledged
    and dropped. `shared.streams.prepare` sets the window as it was.
    """
    # Whatever is in the snapshot is then older than that.
    await asyncio.sleep(_SHORTEST_WINDOW)
    config = {**about["config"], "duplicate_window": int(_SHORTEST_WINDOW * 1e9)}
    opened = await _ask(bus, f"$JS.API.STREAM.RESTORE.{stream}", {**about, "config": config})
    try:
        for piece in pieces:
            said = await bus.client.request(opened["deliver_subject"], piece, timeout=_PIECE_WITHIN)
            _refused(stream, bytes(said.data))
        done = await bus.client.request(opened["deliver_subject"], b"", timeout=10 * _PIECE_WITHIN)
        _refused(stream, bytes(done.data))
    except (TimeoutError, NatsError, OSError) as error:
        raise BusError(f"restoring {stream}: {type(error).__name__}") from None


async def keys(bus: Bus, bucket: str) -> list[str]:
    """The keys of a bucket, those that were deleted among them. Raises BusError."""
    stream, prefix = subjects.bucket_stream(bucket), f"$KV.{bucket}."
    try:
        state = (await bus.js.stream_info(stream, subjects_filter=f"{prefix}>")).state
    except (TimeoutError, NatsError, OSError) as error:
        raise BusError(f"{stream}: {type(error).__name__}") from None
    return sorted(subject.removeprefix(prefix) for subject in state.subjects or {})


async def cut(bus: Bus, stream: str, fence: int, memory: dict[str, Memory]) -> int:
    """Delete what must not come back of a restored stream; returns how many messages. Raises BusError."""
    gone = [
        message.seq
        async for message in bus.read(stream, after=fence)
        if not survives(stream, message.subject, as_json(message.data), memory)
    ]
    for seq in gone:
        await _ask(bus, f"$JS.API.STREAM.MSG.DELETE.{stream}", {"seq": seq, "no_erase": True})
    return len(gone)


async def _ask(bus: Bus, subject: str, question: dict[str, Any]) -> dict[str, Any]:
    answer = await bus.request(subject, json.dumps(question).encode(), timeout=_PIECE_WITHIN)
    _refused(subject, answer)
    return as_json(answer)


def _refused(what: str, answer: bytes) -> None:
    error = as_json(answer).get("error")
    if error:
        raise BusError(f"{what}: {error.get('description', error)}")


__all__ = ["BUCKETS", "STREAMS", "cut", "keys", "restore", "snapshot"]
