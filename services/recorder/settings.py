"""What the recorder is told, from `DESK_*` in the environment."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field

from services.shared import subjects
from services.shared.service import ServiceSettings


class RecorderSettings(ServiceSettings):
    """`database_url` names host, port, role and database, and no password: that is in a file."""

    database_url: str = "postgresql://recorder@127.0.0.1:5432/desk"
    database_password_file: Path
    batch: int = Field(default=4000, ge=1, le=10_000, description="messages a transaction at most")
    trader: str = Field(
        default=subjects.DEFAULT_TRADER,
        pattern=r"^[A-Za-z0-9_-]{1,32}$",
        description="whose limits are shown before anything was deployed",
    )
    keep_days: int = Field(default=7, ge=1, description="days a recorded message stays in its stream")
