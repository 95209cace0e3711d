"""What the backup is told, from `DESK_*` in the environment."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field

from services.shared.service import ServiceSettings


class BackupSettings(ServiceSettings):
    """`database_url` names host, port, role and database, and no password: that is in a file.

    A backup logs in as `backup`, a restore as the database's owner and NATS's admin.
    """

    database_url: str = "postgresql://backup@127.0.0.1:5432/desk"
    database_password_file: Path
    backup_dir: Path = Path("/backups")
    backup_hour: int = Field(default=3, ge=0, le=23, description="the hour of the day, UTC")
    nats_nodes: int = Field(default=1, ge=1, le=5)
