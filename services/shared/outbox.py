"""Messages that must reach their stream: sent again under their own ids until it has them."""

from __future__ import annotations

import asyncio
from collections import deque

from services.shared.bus import Bus, told_to_leave
from services.shared.errors import NotStored


class Outbox:
    """Messages on their way into streams, in order, sent again under their ids until stored.

    `add` never waits; `drained` waits until everything added is on disk. A few may be under way at once;
    a stream's order is kept by sending a message again only with everything behind it: consumers count by
    seq, so a late repeat is harmless. `refused` is called when a stream is full or NATS away for `patience`
    seconds, and sending goes on.
    """

    def __init__(self, bus: Bus, *, window: int = 256, patience: float = 2.0) -> None:
        self._bus = bus
        self._window = window
        self._patience = patience
        self._waiting: deque[tuple[str, bytes, str]] = deque()
        self._wake = asyncio.Event()
        self._empty = asyncio.Event()
        self._empty.set()
        self.stalled_since: float | None = None

    def add(self, subject: str, data: bytes, msg_id: str) -> None:
        """Take a message on; it leaves as soon as the loop runs."""
        self._waiting.append((subject, data, msg_id))
        self._empty.clear()
        self._wake.set()

    def __len__(self) -> int:
        return len(self._waiting)

    def waiting(self) -> list[tuple[str, bytes, str]]:
        """What has been added and is not known to be stored: subject, data, id."""
        return list(self._waiting)

    @property
    def stalled(self) -> bool:
        """Whether nothing has been stored for `patience` seconds although something waits."""
        since = self.stalled_since
        return since is not None and asyncio.get_running_loop().time() - since > self._patience

    async def drained(self) -> None:
        """Wait until all that was added is stored."""
        await self._empty.wait()

    async def run(self) -> None:
        """Send for ever; cancel to end. What has not been stored stays in the outbox."""
        loop = asyncio.get_running_loop()
        pause = 0.05
        while not told_to_leave():
            if not self._waiting:
                self._empty.set()
                self._wake.clear()
                await self._wake.wait()
            batch = [self._waiting[i] for i in range(min(self._window, len(self._waiting)))]
            results = await asyncio.gather(
                *(self._bus.store(subject, data, msg_id=msg_id) for subject, data, msg_id in batch),
                return_exceptions=True,
            )
            stored = 0
            for result in results:
                if isinstance(result, NotStored):
                    break
                if isinstance(result, BaseException):
                    raise result
                stored += 1
            for _ in range(stored):
                self._waiting.popleft()
            if stored == len(batch):
                self.stalled_since, pause = None, 0.05
                continue
            if self.stalled_since is None or stored:
                self.stalled_since = loop.time()
            await asyncio.sleep(pause)
            pause = min(pause * 2, 1.0)
