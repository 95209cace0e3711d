"""The longest streaks of wins and of losses among a run's totals, for the runs recorded before as well.

Each trade has carried its streak from the beginning; the totals take the longest of them.
"""

from __future__ import annotations

from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

_COUNT = """
UPDATE run_totals AS had SET
    longest_win_streak = greatest(found.highest, 0), longest_loss_streak = greatest(-found.lowest, 0)
FROM (SELECT trader, run_id, max(streak) AS highest, min(streak) AS lowest FROM trades GROUP BY 1, 2) AS found
WHERE had.trader = found.trader AND had.run_id = found.run_id"""


def upgrade() -> None:
    """Add the columns and fill them from the trades."""
    op.execute(
        "ALTER TABLE run_totals ADD COLUMN longest_win_streak bigint NOT NULL DEFAULT 0,"
        " ADD COLUMN longest_loss_streak bigint NOT NULL DEFAULT 0"
    )
    op.execute(_COUNT)
