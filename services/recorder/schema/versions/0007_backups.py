"""How each backup ended, as the backup itself writes it; `problem` is null for a good one."""

from __future__ import annotations

from alembic import op

revision = "0007"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the table."""
    op.execute(
        "CREATE TABLE IF NOT EXISTS backups"
        " (finished timestamptz PRIMARY KEY, name text, bytes bigint, sha256 text, problem text)"
    )
