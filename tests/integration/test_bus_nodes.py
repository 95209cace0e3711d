"""A bus that is told several nodes takes the one that answers."""

from __future__ import annotations

from services.launcher.ports import free_port
from services.shared import subjects
from services.shared.bus import Bus
from tests.conftest import NatsForTests


async def test_with_one_node_gone_another_takes_the_connection(nats_server: NatsForTests) -> None:
    gone = f"nats://127.0.0.1:{free_port()}"
    for nodes in (f"{gone},{nats_server.url}", f"{nats_server.url},{gone}"):
        bus = await Bus.connect(nodes, user="trader", password=nats_server.password("trader"))
        assert await bus.last_sequence(subjects.EVENTS) >= 0
        await bus.close()
