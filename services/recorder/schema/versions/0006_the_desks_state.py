"""How the desk does, as the recorder writes it down every few seconds: one row for each thing that has a state.

Silence must show as an age and never as a missing row, so every service the desk cannot do without has a row
from the start, under no instance. What a panel draws over time is kept by the minute in a ring of a week: the
slot is the key, so a new minute overwrites the one of a week ago and nothing ever has to be deleted.
"""

# ruff: noqa: S608 - statements are put together from fixed texts
from __future__ import annotations

from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

_TEXT = 'text COLLATE "C"'

_TABLES = {
    "service_states": f"""service {_TEXT} NOT NULL, instance {_TEXT} NOT NULL, version text NOT NULL DEFAULT '',
        state text NOT NULL DEFAULT 'not heard yet', lag bigint NOT NULL DEFAULT 0, heard timestamptz,
        since timestamptz NOT NULL DEFAULT now(), PRIMARY KEY (service, instance)""",
    "stream_states": f"""stream {_TEXT} PRIMARY KEY, messages bigint NOT NULL, bytes bigint NOT NULL,
        max_bytes bigint NOT NULL, first_seq bigint NOT NULL, last_seq bigint NOT NULL,
        first_time timestamptz, last_time timestamptz, pending bigint, stalled float8""",
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

_INDEXES = (
    # Commands that take risk away are few among many; the dashboards ask for these alone.
    """CREATE INDEX commands_that_block ON commands (trader, verb, received)
        WHERE verb IN ('halt', 'stop', 'reset')""",
    # A row's time changes once a week, so writing within its minute touches no index.
    "CREATE INDEX desk_minutes_by_time ON desk_minutes (measure, time)",
)

_AGE = "extract(epoch FROM {} - coalesce(heard, since))::float8"

_VIEWS = {
    # `age` is what a person counts; `silent` stands still while nobody listens, so that a recorder that is gone
    # does not make everybody else look gone.
    "services": f"""
WITH written AS (SELECT max(heard) AS at FROM service_states WHERE service = 'recorder')
SELECT service, instance, version, state, lag, heard, {_AGE.format("now()")} AS age,
    greatest({_AGE.format("CASE WHEN service = 'recorder' THEN now() ELSE coalesce(written.at, now()) END")}, 0)
        AS silent
FROM service_states AS each, written
WHERE instance <> '' OR NOT EXISTS (
    SELECT FROM service_states WHERE service = each.service AND instance <> '')""",
    "versions": """
SELECT 'service ' || service AS part, string_agg(DISTINCT version, ', ' ORDER BY version) AS version
FROM service_states WHERE version <> '' GROUP BY service
UNION ALL SELECT part, version FROM part_versions
UNION ALL SELECT 'PostgreSQL', current_setting('server_version')
UNION ALL SELECT 'TimescaleDB', coalesce(max(extversion), 'not there') FROM pg_extension WHERE extname = 'timescaledb'
UNION ALL SELECT 'database schema', version_num FROM alembic_version""",
    "streams": """
SELECT stream, messages, bytes, nullif(max_bytes, -1) AS max_bytes,
    bytes::float8 / nullif(greatest(max_bytes, 0), 0) AS share, first_seq, last_seq, first_time, last_time, pending,
    stalled
FROM stream_states""",
    # Counted up to a bound, by an index: somebody may send a million of them.
    "dead_letter_counts": """
SELECT stream, (SELECT count(*) FROM (SELECT FROM dead_letters AS d WHERE d.stream = each.stream
        ORDER BY stream_seq LIMIT 1000) AS first_of_all) AS letters,
    (SELECT count(*) FROM (SELECT d.stream FROM dead_letters AS d WHERE received > now() - interval '1 hour'
        ORDER BY received DESC LIMIT 1000) AS latest WHERE latest.stream = each.stream) AS last_hour
FROM (VALUES ('EVENTS'), ('COMMANDS'), ('MARKET')) AS each (stream)""",
    "dead_letter_list": "SELECT received, stream, stream_seq, subject, length(data) AS bytes, reason FROM dead_letters",
    "minutes": "SELECT measure, part, time, value FROM desk_minutes",
    "backup_list": "SELECT finished, name, bytes, sha256, problem FROM backups",
    # A desk that never had one counts from its first day.
    "backup_age": """
SELECT extract(epoch FROM now() - coalesce(
    (SELECT max(finished) FROM backups WHERE problem IS NULL), (SELECT min(since) FROM service_states), now()
))::float8 AS age""",
    "deployments": """
SELECT trader, run_id, phase, reason, paused, holding, deployment_time, expected_completion, finished, progress, updated
FROM deployment_states""",
    # `counts`: of a run under way, or of one that is halted and waits for a person.
    "limits": """
SELECT l.trader, l.name, l.place, l.value, l.action, l.meaning, l.run_id, l.bound, l.used,
    (l.used / nullif(l.bound, 0))::float8 AS share, r.terms ->> 'currency' AS currency,
    coalesce(d.run_id = l.run_id AND d.phase IN ('STARTING', 'MONITORING', 'STOPPING', 'HALTED'), false) AS counts
FROM limit_states AS l LEFT JOIN deployment_states AS d USING (trader) LEFT JOIN runs AS r ON r.run_id = l.run_id""",
    "verdicts": "SELECT trader, run_id, approved, denied FROM run_totals",
    "denial_reasons": "SELECT trader, run_id, code, orders, last_text FROM denials",
    "limit_history": "SELECT recorded, time, trader, run_id, action, by, reason, old, new FROM limit_changes",
    # With nothing deployed the trader alone latches, and says so as a change of phase between runs. A segment is
    # what was said after one reset, up to and with the next.
    "halts": """
WITH said AS (
    SELECT trader, recorded, run_id, action, by, reason FROM limit_changes WHERE action IN ('halt', 'reset')
    UNION ALL
    SELECT s.trader, s.recorded, '', s.action, coalesce(asked.by, ''),
        CASE WHEN s.action = 'reset' THEN substr(s.reason, 8) ELSE s.reason END
    FROM (SELECT trader, recorded, reason, CASE WHEN phase = 'HALTED' THEN 'halt' ELSE 'reset' END AS action
        FROM statuses WHERE run_id LIKE 'desk.%' AND run_id = 'desk.' || trader || '.command'
            AND (phase = 'HALTED' OR reason LIKE 'reset: %')) AS s
    LEFT JOIN LATERAL (SELECT body ->> 'by' AS by FROM commands
        WHERE trader = s.trader AND verb = s.action AND verb IN ('halt', 'reset')
            AND received <= s.recorded + interval '1 second' ORDER BY received DESC LIMIT 1) AS asked ON true
), segmented AS (
    SELECT trader, recorded, run_id, action, by, reason,
        count(*) FILTER (WHERE action = 'reset') OVER (PARTITION BY trader ORDER BY recorded
            ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) AS segment
    FROM said
), paired AS (
    SELECT trader, recorded, run_id, action, by, reason,
        max(recorded) FILTER (WHERE action = 'reset') OVER own AS reset,
        max(by) FILTER (WHERE action = 'reset') OVER own AS reset_by,
        max(reason) FILTER (WHERE action = 'reset') OVER own AS reset_reason
    FROM segmented WINDOW own AS (PARTITION BY trader, segment)
)
SELECT halt.trader, halt.recorded AS halted, halt.run_id, halt.by AS halted_by, halt.reason, flat.at AS flat,
    coalesce(closed.trades, 0) AS closed, closed.pnl, halt.reset, halt.reset_by, halt.reset_reason
FROM paired AS halt
LEFT JOIN LATERAL (SELECT max(recorded) AS at FROM statuses
    WHERE halt.run_id <> '' AND run_id = halt.run_id AND phase = 'HALTED') AS flat ON true
LEFT JOIN LATERAL (SELECT count(*) AS trades, sum(pnl) AS pnl
    FROM (SELECT pnl, exit_reason FROM trades WHERE run_id = halt.run_id ORDER BY seq DESC LIMIT 50) AS last
    WHERE exit_reason = 'halted') AS closed ON true
WHERE halt.action = 'halt'""",
    # From when the stream had the command, by the server's clock, to what the trader said of it, by its own.
    "halt_latencies": """
SELECT c.trader, c.verb, c.received AS stored, c.body ->> 'by' AS by, c.body ->> 'reason' AS reason,
    extract(epoch FROM said.blocked - c.received)::float8 AS blocked,
    extract(epoch FROM said.flat - c.received)::float8 AS flat,
    extract(epoch FROM said.done - c.received)::float8 AS done
FROM commands AS c CROSS JOIN LATERAL (
    SELECT min(recorded) FILTER (WHERE state = 'blocked') AS blocked,
        min(recorded) FILTER (WHERE state = 'flat') AS flat, min(recorded) FILTER (WHERE state = 'done') AS done
    FROM outcomes WHERE command_id = c.command_id AND recorded >= c.received) AS said
WHERE c.verb IN ('halt', 'stop')""",
}


def upgrade() -> None:
    """Make the tables and views, and the row of each service that must be heard."""
    for name, columns in _TABLES.items():
        # Rows are overwritten again and again: with room on their page no index is touched.
        filled = "" if name == "backups" else " WITH (fillfactor = 50)"
        op.execute(f"CREATE TABLE {name} ({columns}){filled}")
    op.execute(_EXPECTED)
    for statement in _INDEXES:
        op.execute(statement)
    for name, query in _VIEWS.items():
        op.execute(f"CREATE VIEW grafana.{name} AS {query}")
