"""What the guard said of a run's orders, counted as it is recorded, and quick ways to who acknowledged an alert.

A run may have a million orders: counting them for a page that is looked at once a second would cost more than
counting each once.
"""

from __future__ import annotations

from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

_TEXT = 'text COLLATE "C"'

_DENIALS = f"""
CREATE TABLE denials (trader {_TEXT} NOT NULL, run_id {_TEXT} NOT NULL, code {_TEXT} NOT NULL,
    orders bigint NOT NULL, last_seq bigint NOT NULL, last_text text NOT NULL,
    PRIMARY KEY (trader, run_id, code))"""

_COUNT = """
UPDATE run_totals AS had SET approved = found.approved, denied = found.denied
FROM (SELECT trader, run_id, count(*) FILTER (WHERE state = 'approved') AS approved,
          count(*) FILTER (WHERE state = 'denied') AS denied
      FROM orders WHERE state IN ('approved', 'denied') GROUP BY 1, 2) AS found
WHERE had.trader = found.trader AND had.run_id = found.run_id"""

_COUNT_REASONS = """
INSERT INTO denials (trader, run_id, code, orders, last_seq, last_text)
SELECT trader, run_id, reason ->> 'code', count(DISTINCT id), max(seq),
    (array_agg(reason ->> 'text' ORDER BY seq DESC))[1]
FROM orders, jsonb_array_elements(detail -> 'reasons') AS reason
WHERE state = 'denied' AND run_id <> '' GROUP BY 1, 2, 3"""

_INDEXES = (
    "CREATE INDEX alerts_by_id ON alerts (id)",
    "CREATE INDEX alerts_critical ON alerts (trader, recorded) WHERE severity = 'CRITICAL'",
    # The type first: it is what nearly every event fails by.
    """CREATE INDEX events_of_acknowledgements ON events ((body ->> 'subject'))
        WHERE type = 'action' AND body ->> 'action' = 'alert.acknowledge'""",
)


def upgrade() -> None:
    """Add the counts, fill them from the orders recorded before, and make the indexes."""
    op.execute(
        "ALTER TABLE run_totals ADD COLUMN approved bigint NOT NULL DEFAULT 0,"
        " ADD COLUMN denied bigint NOT NULL DEFAULT 0"
    )
    op.execute(_DENIALS)
    op.execute(_COUNT)
    op.execute(_COUNT_REASONS)
    for statement in _INDEXES:
        op.execute(statement)
