"""What a backup is made of, small: a few events that a recorder has stored, and the settings to take one."""

from __future__ import annotations

import json
from decimal import Decimal
from pathlib import Path

from services.backup.settings import BackupSettings
from services.shared import subjects
from tests.conftest import Database, NatsForTests
from tests.recorder_at_work import Emitting, all_recorded, equity, publish, recording


def backup_settings(server: NatsForTests, database: Database, folder: Path) -> BackupSettings:
    """As the container has them; archives go to `backups` of the folder."""
    (folder / "backups").mkdir(exist_ok=True)
    return BackupSettings(
        nats_url=server.url,
        nats_password_file=server.password_file("backup"),
        database_url=database.dsn("backup"),
        database_password_file=database.password_file("backup"),
        data_dir=folder,
        backup_dir=folder / "backups",
    )


async def recorded(server: NatsForTests, database: Database, trader: str) -> None:
    """A desk with 39 marks of equity, recorded, and the memory of the trader that said them."""
    admin = await server.connect("admin")
    say = Emitting(trader, "run-1")
    async with recording(server, database):
        await publish(admin, say.messages(equity(n, Decimal(n)) for n in range(1, 40)))
        await all_recorded(admin)
    memory = {"number": 1, "run": {"run_id": "run-1", "speed": 60.0, "seqs": {"trader": 39}}}
    await admin.put(subjects.SNAPSHOTS, f"trader.{trader}", json.dumps(memory).encode())
    await admin.close()
