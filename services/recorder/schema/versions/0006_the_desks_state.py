"""How the desk does, as the recorder writes it down every few seconds: one row for each thing that has a state.

Silence must show as an age and never as a missing row, so every service the desk cannot do without has a row
from the start, under no instance. What a panel draws over time is kept by the minute in a ring of a week: the
slot is the key, so a new minute overwrites the one of a week ago and nothing ever has to be deleted.
"""

from __future__ import annotations

from alembic import op

revision = "0006"
down_revision = "0004"
branch_labels = None
depends_on = None

_TEXT = 'text COLLATE "C"'

_TABLES = {
    "service_states": f"""service {_TEXT} NOT NULL, instance {_TEXT} NOT NULL, version text NOT NULL DEFAULT '',
        state text NOT NULL DEFAULT 'not heard yet', lag bigint NOT NULL DEFAULT 0, heard timestamptz,
        since timestamptz NOT NULL DEFAULT now(), PRIMARY KEY (service, instance)""",
    "stream_states": f"""stream {_TEXT} PRIMARY KEY, messages bigint NOT NULL, bytes bigint NOT NULL,
        max_bytes bigint NOT NULL, first_seq bigint NOT NULL, last_seq bigint NOT NULL,
        first_time timestamptz, last_time timestamptz, pending bigint""",
    "deployment_states": f"""trader {_TEXT} PRIMARY KEY, run_id text NOT NULL, phase text NOT NULL,
        reason text NOT NULL, paused boolean NOT NULL, holding text NOT NULL, deployment_time timestamptz,
        expected_completion timestamptz, finished timestamptz, progress float8, updated timestamptz NOT NULL""",
    "limit_states": f"""trader {_TEXT} NOT NULL, name {_TEXT} NOT NULL, place int NOT NULL, value text NOT NULL,
        action text NOT NULL, meaning text NOT NULL, run_id text NOT NULL, bound numeric, used numeric,
        PRIMARY KEY (trader, name)""",
    "part_versions": f"part {_TEXT} PRIMARY KEY, version text NOT NULL",
    "desk_minutes": f"""measure {_TEXT} NOT NULL, part {_TEXT} NOT NULL, slot int NOT NULL,
        time timestamptz NOT NULL, value float8 NOT NULL, PRIMARY KEY (measure, part, slot)""",
    # Written by the backup itself, one row each; `problem` is null when the archive was verified.
    "backups": "finished timestamptz PRIMARY KEY, name text, bytes bigint, sha256 text, problem text",
}

_EXPECTED = """
INSERT INTO service_states (service, instance) VALUES ('trader', ''), ('risk', ''), ('recorder', ''), ('api', '')"""


def upgrade() -> None:
    """Make the tables, and the row of each service that must be heard."""
    for name, columns in _TABLES.items():
        # Rows are overwritten again and again: with room on their page no index is touched.
        filled = "" if name == "backups" else " WITH (fillfactor = 50)"
        op.execute(f"CREATE TABLE {name} ({columns}){filled}")
    op.execute(_EXPECTED)
