"""The backup as a process: one archive a day, and whether the last one is recent."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Final

import structlog

from services.backup.keeping import due, late
from services.backup.settings import BackupSettings
from services.backup.taking import take, there
from services.shared.errors import DeskError
from services.shared.service import Health, load_settings, run_service

log = structlog.get_logger(__name__)

_TRY_AGAIN: Final = timedelta(minutes=15)
_LOOK_EVERY: Final = 30.0


async def keep(settings: BackupSettings, health: Health) -> None:
    """Make a backup whenever one is due, for ever; one that failed is tried again a little later.

    One made on demand counts as well. Healthy while there is a recent one, or the process is young.
    """
    began = datetime.now(UTC)
    not_before = began
    while True:
        now = datetime.now(UTC)
        newest = next(iter(there(settings.backup_dir).values()), None)
        if now >= max(due(newest, now, settings.backup_hour), not_before):
            try:
                await take(settings, now)
                newest = now
            except DeskError as error:
                log.error("backup_failed", error=type(error).__name__, detail=str(error))
                not_before = now + _TRY_AGAIN
        if late(newest, began, datetime.now(UTC)):
            health.unready(f"no backup since {newest or began:%Y-%m-%d %H:%M} UTC: see its log")
        else:
            health.ready()
        # The wall's clock may be set, so it is looked at often.
        await asyncio.sleep(_LOOK_EVERY)


def serve() -> int:
    """Run the service with the environment's settings; returns the process's exit code."""
    settings = load_settings(BackupSettings)
    return run_service("backup", settings, lambda health: keep(settings, health))


__all__ = ["keep", "serve"]
