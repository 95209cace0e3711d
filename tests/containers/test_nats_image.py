"""The NATS of the containers, whatever patch of its version was pulled: restarted, it still has every key.

Some of them (2.12.7 to 2.12.9) lose sight of one; the bus finds it all the same.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from nats.js import api

from services.launcher.ports import free_port
from services.shared import subjects
from services.shared.bus import Bus
from tests import kept_keys
from tests.containers.composed import GROUP, NATS_IMAGE, docker, require_docker

pytestmark = [pytest.mark.xdist_group(GROUP), pytest.mark.timeout(300)]


@pytest.fixture
def nats_image() -> Iterator[tuple[str, str]]:
    """A server of the image: its container's id and its address."""
    require_docker()
    port = free_port()
    words = ("-d", "-p", f"127.0.0.1:{port}:4222", NATS_IMAGE, "-js", "-sd", "/tmp/store")
    container = docker("run", *words).stdout.strip()
    try:
        yield container, f"nats://127.0.0.1:{port}"
    finally:
        docker("rm", "-f", "-v", container)


async def test_a_restarted_server_still_has_every_key(nats_image: tuple[str, str]) -> None:
    container, address = nats_image
    bus = await Bus.connect(address, user="anybody", password="none is asked for")
    await bus.js.create_key_value(api.KeyValueConfig(bucket=subjects.SNAPSHOTS, history=1, direct=True))
    await kept_keys.write(bus)
    await bus.close()
    docker("restart", container)
    bus = await Bus.connect(address, user="anybody", password="none is asked for")
    await kept_keys.read_and_write(bus)
    await bus.close()
