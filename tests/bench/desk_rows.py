"""What the recorder writes of the desk itself, as much of it as is kept or ever likely: a week by the minute, and
thousands of halts, dead letters and backups. For what Risk and Operations ask."""

from __future__ import annotations

import asyncpg

from services.recorder.desk_state import STREAMS
from services.recorder.state_statements import MINUTES_KEPT
from services.shared.limits import MEANING, NAMES

HALTS = 2_000
_MEASURES = (
    *(
        (measure, "")
        for measure in ("batches", "batch_seconds", "batch_longest", "recorded", "database_bytes")
    ),
    *((measure, stream) for stream in STREAMS for measure in ("stream_messages", "stream_bytes", "lag")),
    *(("limit_use", f"{trader} {name}") for trader in ("bench", "other") for name in NAMES),
)

_MINUTES = f"""
insert into desk_minutes
select measure, part, (extract(epoch from minute)::bigint / 60 % {MINUTES_KEPT})::int, minute, 1 + random()
from generate_series(date_trunc('minute', now()) - interval '{MINUTES_KEPT - 1} minutes',
    date_trunc('minute', now()), interval '1 minute') as minute,
    unnest($1::text[], $2::text[]) as measured (measure, part)"""
_LIMITS = """
insert into limit_states
select $1, name, place, '100', action, 'a meaning', $2, 100, 40
from unnest($3::text[], $4::text[]) with ordinality as each (name, action, place)"""
_DEPLOYMENT = """
insert into deployment_states
values ($1, $2, 'MONITORING', '', false, 'position',
    now() - interval '1 day', now() + interval '1 day', null, 0.5, now())"""
_DENIALS = """
with denied as (
    insert into denials select $1, $2, 'reason_' || n, 1000 - n, 1, 'a text' from generate_series(1, 30) as n)
update run_totals set approved = 1000000, denied = 20000 where run_id = $2"""
# Every halt ends a run of its own: stored, blocked, flat and done, said by the guard, and reset an hour later.
_HALTED = """
with halts as (select n, now() - interval '1 hour' * 2 * n as at, 'c' || n as id, 'halted-' || n as run
    from generate_series(1, $2::int) as n),
asked as (
    insert into commands (stream_seq, received, trader, verb, command_id, body)
    select n, at, $1, 'halt', id, '{"by": "operator", "reason": "a test"}' from halts),
outcome as (
    insert into outcomes (time, id, trader, run_id, emitter, seq, recorded, command_id, verb, state, reason)
    select at, gen_random_uuid(), $1, run, 'trader', n, at + waited * interval '0.01 s', id, 'halt', state, ''
    from halts, unnest(array['blocked', 'flat', 'done'], array[1, 2, 3]) as each (state, waited)),
phase as (
    insert into statuses (time, id, trader, run_id, emitter, seq, recorded, phase, previous, reason, holding)
    select at, gen_random_uuid(), $1, run, 'trader', n, at, 'HALTED', 'MONITORING', 'a test', 'flat' from halts)
insert into limit_changes (time, id, trader, run_id, emitter, seq, recorded, action, by, reason, old, new)
select at, gen_random_uuid(), $1, run, 'guard', n, at + later, action, 'operator', 'a test', '{}', '{}'
from halts, unnest(array['halt', 'reset'], array[interval '0 s', '1 hour']) as each (action, later)"""
_LETTERS = """
insert into dead_letters select 'EVENTS', n, now() - interval '1 second' * n, 'trade.bench', 'x', 'no JSON'
from generate_series(1, 50000) as n"""
_BACKUPS = """
insert into backups select now() - interval '1 day' * n, 'desk.tar', 1000, 'ab', null
from generate_series(0, 400) as n"""
_VERSION = "insert into part_versions values ('NATS', '2.12')"
_SERVICES = """
insert into service_states (service, instance, version, heard)
select service, 'one', '1', now() from (values ('trader'), ('risk'), ('recorder'), ('api')) as each (service)"""
_STREAMS = """
insert into stream_states
select stream, 1000, 1000, 10000, 1, 1000, now(), now(), 10, 0 from unnest($1::text[]) as stream"""
_OPEN = """
insert into events (time, id, trader, run_id, emitter, seq, recorded, type, version, body)
select time + interval '1 second', gen_random_uuid(), trader, run_id, emitter, seq + 1000000, recorded, type, version,
    body || '{"trade": 99999999}'
from events where run_id = $1 and type = 'trade.opened' order by seq desc limit 1"""


async def record_desk(owner: asyncpg.Connection[asyncpg.Record], trader: str, run_id: str) -> None:
    """The desk of a trader whose run, recorded before, is under way with a position open."""
    await owner.execute(_MINUTES, *(list(column) for column in zip(*_MEASURES, strict=True)), timeout=600)
    await owner.execute(_LIMITS, trader, run_id, list(NAMES), [MEANING[name][0] for name in NAMES])
    await owner.execute(_STREAMS, list(STREAMS))
    for statement in (_DEPLOYMENT, _DENIALS):
        await owner.execute(statement, trader, run_id)
    await owner.execute(_HALTED, trader, HALTS)
    for statement in (_LETTERS, _BACKUPS, _VERSION, _SERVICES):
        await owner.execute(statement)
    await owner.execute(_OPEN, run_id)
    await owner.execute("analyze", timeout=600)
