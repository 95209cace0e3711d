"""The SQL that writes down how the desk does: upserts of a few rows each, which change nothing that is the same.

Several recorders write the same rows: what is newer stays, keys are taken in sorted order, and ages are taken
from the database's clock, so that no two machines' clocks need agree.
"""

# ruff: noqa: S608 - names come from this file, values only as parameters
from __future__ import annotations

from typing import Final

MINUTES_KEPT: Final = 7 * 24 * 60
"""The slots of the ring in `desk_minutes`."""

SUMS: Final = ("batches", "batch_seconds", "recorded")
"""Measures of a minute that add up; of the others the largest counts."""

PULSES: Final = """
INSERT INTO service_states AS had (service, instance, version, state, lag, heard)
SELECT service, instance, version, state, lag, now() - make_interval(secs => age)
FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::bigint[], $6::float8[])
    AS given (service, instance, version, state, lag, age) ORDER BY 1, 2
ON CONFLICT (service, instance) DO UPDATE SET version = excluded.version, state = excluded.state,
    lag = excluded.lag, heard = excluded.heard
WHERE had.heard IS NULL OR had.heard < excluded.heard"""

FORGET_INSTANCES: Final = "DELETE FROM service_states WHERE heard < now() - interval '1 day'"
"""Instances come and go under ever new names; the row under no instance stays."""

STREAMS: Final = """
INSERT INTO stream_states AS had
    (stream, messages, bytes, max_bytes, first_seq, last_seq, first_time, last_time, pending, stalled)
SELECT * FROM unnest($1::text[], $2::bigint[], $3::bigint[], $4::bigint[], $5::bigint[], $6::bigint[],
    $7::timestamptz[], $8::timestamptz[], $9::bigint[], $10::float8[]) AS given (stream) ORDER BY 1
ON CONFLICT (stream) DO UPDATE SET messages = excluded.messages, bytes = excluded.bytes,
    max_bytes = excluded.max_bytes, first_seq = excluded.first_seq, last_seq = excluded.last_seq,
    first_time = excluded.first_time, last_time = excluded.last_time, pending = excluded.pending,
    stalled = excluded.stalled
WHERE had IS DISTINCT FROM excluded"""

DEPLOYMENTS: Final = """
INSERT INTO deployment_states AS had (trader, run_id, phase, reason, paused, holding, deployment_time,
    expected_completion, finished, progress, updated)
SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::boolean[], $6::text[],
    $7::timestamptz[], $8::timestamptz[], $9::timestamptz[], $10::float8[], $11::timestamptz[])
    AS given (trader) ORDER BY 1
ON CONFLICT (trader) DO UPDATE SET run_id = excluded.run_id, phase = excluded.phase, reason = excluded.reason,
    paused = excluded.paused, holding = excluded.holding, deployment_time = excluded.deployment_time,
    expected_completion = excluded.expected_completion, finished = excluded.finished,
    progress = excluded.progress, updated = excluded.updated
WHERE had.updated <= excluded.updated AND had IS DISTINCT FROM excluded"""

LIMITS: Final = """
INSERT INTO limit_states AS had (trader, name, place, value, action, meaning, run_id, bound, used)
SELECT * FROM unnest($1::text[], $2::text[], $3::int[], $4::text[], $5::text[], $6::text[], $7::text[],
    $8::numeric[], $9::numeric[]) AS given (trader, name) ORDER BY 1, 2
ON CONFLICT (trader, name) DO UPDATE SET place = excluded.place, value = excluded.value,
    action = excluded.action, meaning = excluded.meaning, run_id = excluded.run_id, bound = excluded.bound,
    used = excluded.used
WHERE had IS DISTINCT FROM excluded"""

PART: Final = """
INSERT INTO part_versions AS had (part, version) VALUES ($1, $2)
ON CONFLICT (part) DO UPDATE SET version = excluded.version WHERE had.version <> excluded.version"""

MINUTES: Final = f"""
INSERT INTO desk_minutes AS had (measure, part, slot, time, value)
SELECT measure, part, (extract(epoch FROM minute)::bigint / 60 % {MINUTES_KEPT})::int, minute, value
FROM unnest($1::text[], $2::text[], $3::float8[]) AS given (measure, part, value),
    date_trunc('minute', now()) AS minute ORDER BY 1, 2
ON CONFLICT (measure, part, slot) DO UPDATE SET time = excluded.time, value = CASE
    WHEN had.time < excluded.time THEN excluded.value
    WHEN excluded.measure IN {SUMS} THEN had.value + excluded.value
    ELSE greatest(had.value, excluded.value) END
WHERE had.time < excluded.time OR had.time = excluded.time
    AND (excluded.value > had.value OR excluded.measure IN {SUMS} AND excluded.value > 0)"""

RUNS: Final = """
SELECT asked.trader, run.run_id, run.terms, mark.equity, mark.peak, mark.drawdown, mark.open_risk, day.first_equity,
    day_before.last_equity AS day_before, last.streak, open.instruments
FROM unnest($1::text[]) AS asked (trader)
CROSS JOIN LATERAL (SELECT run_id, terms FROM runs WHERE trader = asked.trader
    ORDER BY recorded_started DESC NULLS LAST LIMIT 1) AS run
CROSS JOIN LATERAL (SELECT equity, peak, drawdown, open_risk FROM equity WHERE run_id = run.run_id
    ORDER BY seq DESC LIMIT 1) AS mark
LEFT JOIN LATERAL (SELECT streak FROM trades WHERE run_id = run.run_id ORDER BY seq DESC LIMIT 1) AS last ON true
LEFT JOIN LATERAL (SELECT bucket, first_equity FROM equity_day WHERE trader = asked.trader AND run_id = run.run_id
    ORDER BY bucket DESC LIMIT 1) AS day ON true
LEFT JOIN LATERAL (SELECT last_equity FROM equity_day WHERE trader = asked.trader AND run_id = run.run_id
    AND bucket < day.bucket ORDER BY bucket DESC LIMIT 1) AS day_before ON true
LEFT JOIN LATERAL (SELECT array_agg(opened.body ->> 'instrument') AS instruments
    FROM (SELECT body FROM events WHERE run_id = run.run_id AND type = 'trade.opened'
        ORDER BY seq DESC LIMIT 200) AS opened
    WHERE NOT EXISTS (SELECT FROM trades WHERE run_id = run.run_id
        AND trade = (opened.body ->> 'trade')::bigint)) AS open ON true"""
"""The last run of each trader at its last mark, as `services.shared.limit_use` takes it; last rows by index."""

SIZE: Final = "SELECT pg_database_size(current_database())"

__all__ = [
    "DEPLOYMENTS",
    "FORGET_INSTANCES",
    "LIMITS",
    "MINUTES",
    "MINUTES_KEPT",
    "PART",
    "PULSES",
    "RUNS",
    "SIZE",
    "STREAMS",
    "SUMS",
]
