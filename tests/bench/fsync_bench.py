"""What it costs that NATS acknowledges only what is on disk: awaited publishes with `sync_interval: always`
against the server's default of two minutes, in turns."""

from __future__ import annotations

import asyncio
import statistics
import tempfile
import time
from pathlib import Path

from services.launcher.nats_server import NatsServer
from services.launcher.ports import free_port
from services.shared import subjects
from services.shared.bus import Bus
from services.shared.streams import prepare

_DEFAULT = "2m"
_MESSAGE = b'{"what":"two hundred bytes, about as long as an equity event"' + b" " * 138 + b"}"


async def _publish(bus: Bus, count: int) -> float:
    began = time.perf_counter()
    for _ in range(count):
        await bus.store("equity.bench", _MESSAGE)
    return time.perf_counter() - began


async def _measure(servers: list[NatsServer], rounds: int, count: int) -> list[list[float]]:
    buses = []
    for server in servers:
        bus = await Bus.connect(server.url, user="admin", password=server.password("admin"))
        await prepare(bus)
        await _publish(bus, 50)
        buses.append(bus)
    times: list[list[float]] = [[], []]
    for _ in range(rounds):
        for bus, taken in zip(buses, times, strict=True):
            taken.append(await _publish(bus, count))
    for bus in buses:
        await bus.close()
    return times


def run(rounds: int = 5, count: int = 300) -> dict[str, float]:
    """The ratio of the medians: how many times longer a publish takes when it is on disk first."""
    passwords = {user.name: f"bench-{user.name}" for user in subjects.USERS}
    with tempfile.TemporaryDirectory() as folder:
        servers = [
            NatsServer(Path(folder) / name, port=free_port(), passwords=passwords, sync_interval=interval)
            for name, interval in (("always", "always"), ("default", _DEFAULT))
        ]
        try:
            for server in servers:
                server.start()
            always, default = asyncio.run(_measure(servers, rounds, count))
        finally:
            for server in servers:
                server.stop()
    return {"fsync_cost": statistics.median(always) / statistics.median(default)}


if __name__ == "__main__":
    print(run())
