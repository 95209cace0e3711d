"""The connection to NATS: publish and have it stored, request, consume in batches, keep keys.

Nothing of trading is in here. A connection never gives up: it reconnects for ever, a watchdog leaves a
server that has frozen (nats-py alone does not), and a publish that must not be lost goes through an
`outbox.Outbox`. What streams there are is in `streams`.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from dataclasses import dataclass
from typing import Any

import structlog
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription
from nats.errors import Error as NatsError
from nats.js import JetStreamContext
from nats.js.errors import (
    APIError,
    KeyNotFoundError,
    KeyWrongLastSequenceError,
    NotFoundError,
)
from nats.js.kv import KeyValue

from services.shared.errors import BusError, Conflict, NoAnswer, NotStored
from services.shared.nats_client import DeskClient
from services.shared.nats_configuration import Login
from services.shared.subjects import bucket_stream

log = structlog.get_logger(__name__)

_WATCH_EVERY = 0.5
_CANCEL_AGAIN = 5.0
_WRONG_LAST_SEQUENCE = 10071


def told_to_leave() -> bool:
    """Whether the present task has been cancelled, even if nobody noticed.

    Python 3.11's `asyncio.wait_for`, which nats-py waits with, loses a cancellation that comes in the very
    moment its result does; a loop that awaits NATS asks here on each round, or it may never end.
    """
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


async def end(tasks: Iterable[asyncio.Task[Any]]) -> None:
    """Cancel tasks and wait for their end; one that lost its cancellation (`told_to_leave`) is cancelled again, after
    longer than an orderly end takes. What they raise is dropped."""
    tasks = left = set(tasks)
    while left:
        for task in left:
            task.cancel()
        _, left = await asyncio.wait(left, timeout=_CANCEL_AGAIN)
    await asyncio.gather(*tasks, return_exceptions=True)


@dataclass(frozen=True, slots=True)
class Stored:
    """A message as a stream holds it."""

    stream: str
    seq: int
    subject: str
    data: bytes
    time: str = ""


@dataclass(frozen=True, slots=True)
class _Entry:
    """A key's value, where it is in the bucket's stream, and the revision that a next write has to name."""

    value: bytes
    sequence: int
    revision: int


class Bus:
    """One service's connection. `await Bus.connect(...)`, and `await close()` at the end."""

    def __init__(self, client: DeskClient, name: str) -> None:
        self._client = client
        self._js: JetStreamContext = client.jetstream(timeout=5)
        self._name = name
        self._kv: dict[str, KeyValue] = {}
        self._watchdog: asyncio.Task[None] | None = None

    @classmethod
    async def connect(cls, url: str, *, user: str, password: str, patience: float = 30.0) -> Bus:
        """Connect as `user`; the first connection is tried for `patience` seconds.

        `url` is a server's, or those of a cluster's nodes with commas between them.
        `password` is a secret's text, which may name another login of the same user (`Login`).

        Raises BusError when no server answers by then or the credentials are refused.
        """

        async def on_error(error: Exception) -> None:
            log.warning("nats_error", error=type(error).__name__, detail=str(error)[:200])

        async def on_disconnect() -> None:
            log.warning("nats_disconnected")

        async def on_reconnect() -> None:
            log.info("nats_reconnected")

        login = Login.read(user, password)
        deadline = asyncio.get_running_loop().time() + patience
        while True:
            client = DeskClient()
            try:
                # nats-py itself would try the first connection for ever.
                async with asyncio.timeout_at(max(deadline, asyncio.get_running_loop().time() + 1)):
                    await client.connect(
                        url.split(","),
                        user=login.name,
                        password=login.password,
                        name=f"desk-{user}",
                        inbox_prefix=f"_INBOX_{user}".encode(),
                        max_reconnect_attempts=-1,
                        reconnect_time_wait=0.25,  # type: ignore[arg-type]
                        connect_timeout=1,
                        ping_interval=5,
                        max_outstanding_pings=2,
                        pending_size=32 * 1024 * 1024,
                        allow_reconnect=True,
                        error_cb=on_error,
                        disconnected_cb=on_disconnect,
                        reconnected_cb=on_reconnect,
                    )
                break
            except (TimeoutError, NatsError, OSError) as error:
                with contextlib.suppress(NatsError, OSError):
                    await client.close()
                if asyncio.get_running_loop().time() >= deadline:
                    raise BusError(f"no NATS server took the connection: {type(error).__name__}") from None
                await asyncio.sleep(0.1)
        bus = cls(client, user)
        bus._watchdog = asyncio.create_task(bus._watch(), name="nats-watchdog")
        return bus

    async def close(self) -> None:
        """Flush and leave; never raises."""
        if self._watchdog:
            self._watchdog.cancel()
        # RuntimeError is what uvloop says of a connection that the other side has just closed.
        with contextlib.suppress(NatsError, OSError, TimeoutError, RuntimeError):
            async with asyncio.timeout(3):
                await self._client.drain()
        with contextlib.suppress(NatsError, OSError, RuntimeError):
            await self._client.close()

    @property
    def client(self) -> DeskClient:
        """nats-py's client, for the services protocol."""
        return self._client

    @property
    def server_version(self) -> str:
        """Of the server it is connected to: `2.12.8`."""
        version = self._client.connected_server_version
        return f"{version.major}.{version.minor}.{version.patch}"

    @property
    def js(self) -> JetStreamContext:
        """nats-py's own JetStream context, for what has no method here."""
        return self._js

    @property
    def connected(self) -> bool:
        """Whether a server is on the other end now."""
        return self._client.is_connected

    async def _watch(self) -> None:
        """Leave a server that no longer answers (nats-py issue 671: pings alone do not), or is not heard."""
        missed = 0
        while not told_to_leave():
            await asyncio.sleep(_WATCH_EVERY)
            if not self._client.is_connected:
                missed = 0
                continue
            try:
                await self._client.flush(1)
                missed = 0
            except (TimeoutError, NatsError, OSError):
                missed += 1
            if self._client.is_connected and (missed >= 2 or not self._client.reading):
                log.warning("nats_frozen")
                await self._client.leave_server()
                missed = 0

    async def publish(self, subject: str, data: bytes, *, reply: str = "") -> None:
        """Fire and forget, to whoever listens now."""
        try:
            await self._client.publish(subject, data, reply=reply)
        except (NatsError, OSError) as error:
            raise BusError(f"could not publish on {subject}: {type(error).__name__}") from None

    async def store(
        self, subject: str, data: bytes, *, msg_id: str | None = None, timeout: float = 5.0
    ) -> int:
        """Publish into the stream that keeps `subject`; returns its sequence once it is on disk.

        Raises NotStored: no stream, none in time, or a full one. Safe to repeat with `msg_id`.
        """
        headers = {"Nats-Msg-Id": msg_id} if msg_id else None
        try:
            ack = await self._js.publish(subject, data, timeout=timeout, headers=headers)
        except (TimeoutError, NatsError, OSError) as error:
            raise NotStored(f"{subject} was not stored: {type(error).__name__} {str(error)[:120]}") from None
        return ack.seq

    async def request(self, subject: str, data: bytes, *, timeout: float) -> bytes:
        """Ask once; raises NoAnswer."""
        try:
            reply = await self._client.request(subject, data, timeout=timeout)
        except (TimeoutError, NatsError, OSError) as error:
            raise NoAnswer(f"{subject}: {type(error).__name__}") from None
        return bytes(reply.data)

    async def subscribe(
        self, subject: str, handler: Callable[[Msg], Awaitable[None]], *, queue: str = ""
    ) -> Subscription:
        """Hear `subject`; the handler gets nats-py's message and must not raise."""
        return await self._client.subscribe(subject, queue=queue, cb=handler)

    async def consumer(self, stream: str, durable: str) -> JetStreamContext.PullSubscription:
        """Bind to a durable pull consumer that the set-up made."""
        return await self._js.pull_subscribe_bind(consumer=durable, stream=stream)

    async def stored(self, stream: str, seq: int) -> Stored | None:
        """One message by sequence, or None where there is none."""
        try:
            raw = await self._js.get_msg(stream, seq=seq, direct=True)
        except NotFoundError:
            return None
        except (TimeoutError, NatsError, OSError) as error:
            raise BusError(f"{stream} {seq}: {type(error).__name__}") from None
        return Stored(stream, raw.seq or seq, raw.subject or "", raw.data or b"")

    async def read(
        self, stream: str, *, after: int = 0, subject: str = ">", batch: int = 500
    ) -> AsyncIterator[Stored]:
        """Every message of `stream` on `subject` above `after`, up to the last stored when the reading ended.

        Uses the server's batched direct get, so it needs no consumer. Raises BusError.
        """
        position = after
        while True:
            got = 0
            async for message in self._direct_batch(stream, position + 1, subject, batch):
                position = message.seq
                got += 1
                yield message
            if got == 0:
                return

    async def _direct_batch(self, stream: str, seq: int, subject: str, batch: int) -> AsyncIterator[Stored]:
        inbox = self._client.new_inbox()
        body = json.dumps({"seq": seq, "batch": batch, "next_by_subj": subject}).encode()
        try:
            subscription = await self._client.subscribe(inbox)
            try:
                await self._client.publish(f"$JS.API.DIRECT.GET.{stream}", body, reply=inbox)
                while True:
                    message = await subscription.next_msg(timeout=5)
                    headers = message.headers or {}
                    if "Nats-Sequence" not in headers:
                        if headers.get("Status") in ("204", "404"):
                            return
                        raise BusError(f"reading {stream} from {seq}: status {headers.get('Status')}")
                    yield Stored(
                        stream,
                        int(headers["Nats-Sequence"]),
                        headers.get("Nats-Subject", ""),
                        bytes(message.data),
                        headers.get("Nats-Time-Stamp", ""),
                    )
            finally:
                with contextlib.suppress(NatsError, OSError):
                    await subscription.unsubscribe()
        except (TimeoutError, NatsError, OSError) as error:
            raise BusError(f"reading {stream} from {seq}: {type(error).__name__}") from None

    async def last_sequence(self, stream: str) -> int:
        """The sequence of the newest message of `stream`."""
        try:
            return (await self._js.stream_info(stream)).state.last_seq
        except (TimeoutError, NatsError, OSError) as error:
            raise BusError(f"{stream}: {type(error).__name__}") from None

    async def _bucket(self, bucket: str) -> KeyValue:
        if bucket not in self._kv:
            self._kv[bucket] = await self._js.key_value(bucket)
        return self._kv[bucket]

    async def get(self, bucket: str, key: str) -> tuple[bytes, int] | None:
        """The value under `key` and the revision to write it on, or None. Raises BusError."""
        found = await self._find(bucket, key)
        return None if found is None else (found.value, found.revision)

    async def _find(self, bucket: str, key: str) -> _Entry | None:
        try:
            entry = await (await self._bucket(bucket)).get(key)
        except KeyNotFoundError as gone:
            return await self._find_overlooked(bucket, key) if gone.op is None else None
        except (TimeoutError, NatsError, OSError) as error:
            raise BusError(f"{bucket}/{key}: {type(error).__name__}") from None
        sequence = entry.revision or 0
        return _Entry(entry.value or b"", sequence, sequence)

    async def _find_overlooked(self, bucket: str, key: str) -> _Entry | None:
        """What a server that was restarted has under `key` but says it has not; until it is written again.

        nats-server 2.12.7 to 2.12.9 note down in which block a key was once, not in which it is (its pull
        request 8254). By sequence they still have it, and as the revision to write it on they take 0.
        """
        stream, subject = bucket_stream(bucket), f"$KV.{bucket}.{key}"
        last = None
        async for message in self.read(stream):
            if message.subject == subject:
                last = message
        if last is None or not last.data:
            return None
        log.warning("key_overlooked", bucket=bucket, key=key, nats=self.server_version)
        return _Entry(last.data, last.seq, 0)

    async def put(self, bucket: str, key: str, value: bytes, *, revision: int | None = None) -> int:
        """Write `key`, on condition of its `revision` when one is given (0: it must not exist yet).

        A revision refused because our own bytes are already there counts as written: the first answer
        was lost. Raises Conflict when somebody else's are, BusError when NATS does not answer.
        """
        written = await self._write(bucket, key, value, revision)
        if written is not None:
            return written
        found = await self._find(bucket, key)
        if found is not None and found.value == value:
            return found.revision
        if found is not None and not found.revision and found.sequence == revision:
            # Nobody has written since, but the server has lost sight of it.
            written = await self._write(bucket, key, value, found.revision)
        if written is None:
            raise Conflict(f"{bucket}/{key} was written by somebody else")
        return written

    async def _write(self, bucket: str, key: str, value: bytes, revision: int | None) -> int | None:
        """The new revision; None when the server has not the one that was named. Raises BusError."""
        try:
            kv = await self._bucket(bucket)
            if revision is None:
                return await kv.put(key, value)
            return await kv.update(key, value, last=revision)
        except KeyWrongLastSequenceError:
            return None
        except APIError as error:
            if error.err_code == _WRONG_LAST_SEQUENCE:
                return None
            raise BusError(f"{bucket}/{key}: {error.description}") from None
        except (TimeoutError, NatsError, OSError) as error:
            raise BusError(f"{bucket}/{key}: {type(error).__name__}") from None


__all__ = ["Bus", "Stored", "end", "told_to_leave"]
