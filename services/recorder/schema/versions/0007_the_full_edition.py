"""What only TimescaleDB's full edition offers: compressed columns, an end of raw rows that nobody reads, and what is
left of those, a day's bars in one.

Left out on plain PostgreSQL and on the Apache edition, whose tables stay as they are; every query is the same
in all. A replay writes rows whose times lie years back, into chunks that were compressed long ago, and an
insert with ON CONFLICT into a compressed chunk is slow and bounded: so the recorder first has such chunks
written out as rows again (`make_writable`), and the policy compresses them anew.

No full edition can be had where the tests run: there it is tested only that this is left out. So what a server refuses
here is no reason for the desk not to start: it is undone as a whole, and the server's log has a warning with its words.
"""

from __future__ import annotations

from collections.abc import Sequence

from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

# By what a query narrows down: a run's rows lie together.
_COMPRESSED = {"events": "run_id", "equity": "run_id", "orders": "run_id", "bars": "instrument"}
_AFTER = "interval '30 days'"

# By when a chunk was made, not by the time of its rows: a replay of years ago is not old. Trades, alerts,
# limits and the rollups of equity are kept for ever.
_DROPPED = {"bars": "interval '5 years'"}

_MAKE_WRITABLE = """
CREATE FUNCTION make_writable(since timestamptz, until timestamptz) RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $body$
DECLARE
    compressed regclass;
    written_out bigint := 0;
BEGIN
    FOR compressed IN
        SELECT format('%I.%I', chunk_schema, chunk_name)::regclass FROM timescaledb_information.chunks
        WHERE hypertable_schema = 'public' AND is_compressed AND range_start <= until AND range_end > since
    LOOP
        PERFORM decompress_chunk(compressed, if_compressed => true);
        written_out := written_out + 1;
    END LOOP;
    RETURN written_out;
END
$body$"""


# Days of bars that have been dropped stay. For people's own dashboards: the desk reads the same in every edition.
_BARS_DAILY = """
CREATE MATERIALIZED VIEW bars_daily WITH (timescaledb.continuous, timescaledb.materialized_only = false) AS
SELECT instrument, seconds, time_bucket(interval '1 day', time) AS day,
    first(bid_open, time) AS bid_open, max(bid_high) AS bid_high, min(bid_low) AS bid_low,
    last(bid_close, time) AS bid_close,
    first(ask_open, time) AS ask_open, max(ask_high) AS ask_high, min(ask_low) AS ask_low,
    last(ask_close, time) AS ask_close,
    sum(volume) AS volume, count(*) AS bars
FROM bars GROUP BY instrument, seconds, time_bucket(interval '1 day', time) WITH NO DATA"""

_FULL_EDITION = (
    "EXISTS (SELECT FROM pg_extension WHERE extname = 'timescaledb')"
    " AND current_setting('timescaledb.license', true) = 'timescale'"
)


def _compressed() -> list[str]:
    compressing = [
        f"ALTER TABLE {table} SET (timescaledb.enable_columnstore, timescaledb.segmentby = '{by}',"
        f" timescaledb.orderby = 'time, id')"
        for table, by in _COMPRESSED.items()
    ]
    policies = [f"CALL add_columnstore_policy('{table}', after => {_AFTER})" for table in _COMPRESSED]
    rights = [
        "REVOKE ALL ON FUNCTION make_writable(timestamptz, timestamptz) FROM PUBLIC",
        "GRANT EXECUTE ON FUNCTION make_writable(timestamptz, timestamptz) TO recorder",
    ]
    return [*compressing, *policies, _MAKE_WRITABLE, *rights]


def _dropped() -> list[str]:
    dropping = [
        f"SELECT add_retention_policy('{table}', drop_created_before => {age})"
        for table, age in _DROPPED.items()
    ]
    refreshing = (
        "SELECT add_continuous_aggregate_policy('bars_daily', start_offset => NULL,"
        " end_offset => interval '1 day', schedule_interval => interval '1 hour')"
    )
    daily = [
        _BARS_DAILY,
        refreshing,
        "GRANT SELECT ON bars_daily TO grafana",
    ]
    # No bar goes before its day is kept.
    return [*daily, *dropping]


def attempt(what: str, statements: Sequence[str], *, where: str = _FULL_EDITION) -> str:
    """SQL that carries out all of the statements or, with a warning, none of them; nothing unless `where` holds."""
    work = "\n".join(f"            EXECUTE $statement${statement}$statement$;" for statement in statements)
    return f"""
DO $do$
BEGIN
    IF {where} THEN
        BEGIN
{work}
        EXCEPTION WHEN OTHERS THEN
            RAISE WARNING 'no {what}: TimescaleDB refused it (% %). The desk works without.', SQLSTATE, SQLERRM;
        END;
    END IF;
END
$do$"""


def upgrade() -> None:
    """Ask the server for its edition; in the full one make all of it."""
    op.execute(attempt("compressed columns", _compressed()))
    op.execute(attempt("end of old bars", _dropped()))
