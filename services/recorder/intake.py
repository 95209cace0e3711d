"""Messages from a durable pull consumer, a batch at a time, and their acknowledgements.

nats-py's own `fetch` makes a task for each message and may hang after a server's restart (nats.py
issue 504). Here one request is open at a time, into an inbox of our own; the server says each second
that the request still stands, and a silence means asking again. Messages that come while the caller is
busy are read on arrival and wait here, one batch at most, so memory is bounded in messages and in bytes.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Awaitable, Callable, Iterable
from typing import Generic, Protocol, TypeVar

import structlog
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription
from nats.errors import Error as NatsError

from services.shared.bus import Bus
from services.shared.errors import BusError

log = structlog.get_logger(__name__)

_MOST_BYTES = 16 * 1024 * 1024
_HEARTBEAT = 1.0
_SILENCE = 2.5
_EXPIRES = 30.0
_PAUSE = 0.5
_FILL_WITHIN = 0.25
_ENDED_AS_USUAL = ("404", "408", "409")
_ONLY_AN_ID = re.compile(rb"NATS/1\.0\r\nNats-Msg-Id:[^\r\n]*\r\n\r\n")


class Delivered(Protocol):
    """What a message was read as; `reply` is where it is acknowledged."""

    reply: str


ItemT = TypeVar("ItemT", bound=Delivered)


class Intake(Generic[ItemT]):
    """The deliveries of one durable consumer. `open`, then `take` again and again, then `close`."""

    def __init__(
        self, bus: Bus, stream: str, durable: str, *, batch: int, read: Callable[[Msg], ItemT]
    ) -> None:
        self.stream = stream
        self.problem: str | None = None
        self._bus = bus
        self._subject = f"$JS.API.CONSUMER.MSG.NEXT.{stream}.{durable}"
        self._batch = batch
        self._read = read
        self._came: list[ItemT] = []
        self._wanted = 0
        self._heard = 0.0
        self._wake = asyncio.Event()
        self._inbox = ""
        self._subscription: Subscription | None = None
        self._now = asyncio.get_running_loop().time

    async def open(self) -> None:
        """Listen; asking begins with the first `take`."""
        self._inbox = self._bus.client.new_inbox()
        self._subscription = await self._bus.client.subscribe(
            self._inbox,
            cb=self._receive,
            pending_msgs_limit=4 * self._batch + 1000,
            pending_bytes_limit=4 * _MOST_BYTES,
        )

    async def close(self) -> None:
        """Listen no more, and give back what was not taken, so that it is delivered again at once."""
        if self._subscription is not None:
            try:
                await self._subscription.unsubscribe()
            except NatsError as error:
                log.debug("unsubscribe_failed", error=type(error).__name__)
        returned, self._came = self._came, []
        await self.give_back(returned)

    @property
    def full(self) -> bool:
        """Whether a batch is there to be taken without waiting."""
        came = self._came
        return len(came) >= self._batch or (bool(came) and _none_behind(came[-1]))

    async def take(self) -> list[ItemT]:
        """The next batch, at least one message; waits as long as it takes, NATS away included.

        A batch that is not full is taken when nothing more is in the stream, or a moment later.
        """
        began: float | None = None
        while not self.full:
            await self._ask_if_needed()
            now = self._now()
            began = now if began is None and self._came else began
            if began is not None and now - began >= _FILL_WITHIN:
                break
            self._wake.clear()
            try:
                # Not wait_for: Python 3.11's loses a cancellation that comes in the very moment of a message.
                async with asyncio.timeout(_HEARTBEAT if began is None else _FILL_WITHIN):
                    await self._wake.wait()
            except TimeoutError:
                continue
        taken, self._came = self._came, []
        await self._ask_if_needed()
        return taken

    async def acknowledge(self, items: Iterable[ItemT]) -> None:
        """Acknowledge each. One that is lost on the way makes a repeat later, which does no harm."""
        await self._answer(items, b"")

    async def give_back(self, items: Iterable[ItemT]) -> None:
        """Have each delivered again, to whoever asks."""
        await self._answer(items, b"-NAK")

    async def _answer(self, items: Iterable[ItemT], word: bytes) -> None:
        publish = self._bus.client.publish
        for item in items:
            try:
                await publish(item.reply, word)
            except (NatsError, OSError) as error:
                log.warning("not_acknowledged", stream=self.stream, error=type(error).__name__)
                return

    async def _receive(self, message: Msg) -> None:
        self._heard = self._now()
        if message.reply:
            came = self._came
            came.append(self._read(message))
            self._wanted -= 1
            if self._wanted <= 0 or len(came) == 1 or _none_behind(came[-1]):
                self._wake.set()
            return
        headers = message.headers or {}
        status = headers.get("Status", "")
        if status == "100":
            return
        self._wanted = 0
        self.problem = None
        if status not in _ENDED_AS_USUAL or "Deleted" in headers.get("Description", ""):
            self.problem = f"{self.stream}: {status} {headers.get('Description', 'no such consumer')}"
        self._wake.set()

    async def _ask_if_needed(self) -> None:
        silent = self._now() - self._heard
        if len(self._came) >= self._batch or (self._wanted > 0 and silent < _SILENCE):
            return
        if self.problem is not None and silent < _PAUSE:
            return
        request = {
            "batch": self._batch - len(self._came),
            "max_bytes": _MOST_BYTES,
            "expires": int(_EXPIRES * 1e9),
            "idle_heartbeat": int(_HEARTBEAT * 1e9),
        }
        self._heard = self._now()
        try:
            await self._bus.publish(self._subject, json.dumps(request).encode(), reply=self._inbox)
        except BusError as error:
            self.problem = str(error)
            return
        self._wanted = self._batch - len(self._came)


_ReadHeaders = Callable[[bytes | None], Awaitable[dict[str, str] | None]]


def leave_ids_unread(client: Client) -> None:
    """Have nats-py skip a message's headers when they are just its id, which nobody here reads.

    Taking headers apart is a sixth of all the time a message takes. nats-py has no setting for it; where it
    has no such method any more, nothing changes.
    """
    if not hasattr(client, "_process_headers"):
        return
    read: _ReadHeaders = client._process_headers
    only_an_id = _ONLY_AN_ID.fullmatch

    async def skip(headers: bytes | None) -> dict[str, str] | None:
        if headers and only_an_id(headers):
            return None
        return await read(headers)

    client._process_headers = skip  # type: ignore[method-assign]


def _none_behind(item: Delivered) -> bool:
    """Whether the stream held nothing more for the consumer when this message was delivered."""
    return item.reply.endswith(".0")


__all__ = ["Delivered", "Intake", "leave_ids_unread"]
