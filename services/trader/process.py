"""One process of a trader id: connects, stands by until the id is its own, trades, and lets go of it.

What trading is, is `service`'s; what makes the id its own, `lease`'s.
"""

from __future__ import annotations

import asyncio

import structlog

from services.shared import subjects
from services.shared.bus import Bus
from services.shared.service import Health, beat, read_secret
from services.trader.keeper import patiently
from services.trader.lease import Lease, Owner
from services.trader.service import Trader
from services.trader.settings import TraderSettings

log = structlog.get_logger(__name__)


async def serve(settings: TraderSettings, health: Health) -> None:
    """Connect, stand by until the trader id is ours, and trade until cancelled."""
    bus = await Bus.connect(
        settings.nats_url, user="trader", password=read_secret(settings.nats_password_file), patience=60
    )
    lease = Lease(bus, settings.trader, settings.instance, contested=settings.standby)
    try:
        before = await _own(lease, settings, bus, health)
        await Trader(settings, bus, health, lease, before=before).run()
    finally:
        await lease.give_up()
        await bus.close()


async def _own(lease: Lease, settings: TraderSettings, bus: Bus, health: Health) -> Owner | None:
    """Acquire the lease; who waits for it is seen, under a name of its own: the trader's is the owner's."""
    name = f"{settings.trader}-{settings.instance}"
    beats: list[asyncio.Task[None]] = []

    def stand_by(owner: Owner) -> None:
        log.info("standing_by", trader=settings.trader, owner=owner.instance)
        if not beats:
            health.ready("standby")
            beats.append(asyncio.create_task(beat(bus, health, subjects.STANDBY, name)))

    try:
        return await patiently(lambda: lease.acquire(stand_by))
    finally:
        for task in beats:
            health.unready("starting")
            task.cancel()
