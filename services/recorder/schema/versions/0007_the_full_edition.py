"""What only TimescaleDB's full edition offers: compressed columns, and an end of raw rows that nobody reads.

Left out on plain PostgreSQL and on the Apache edition, whose tables stay as they are; every query is the same
in all. A replay writes rows whose times lie years back, into chunks that were compressed long ago, and an
insert with ON CONFLICT into a compressed chunk is slow and bounded: so the recorder first has such chunks
written out as rows again (`make_writable`), and the policy compresses them anew.

No full edition can be had where the tests run: there it is tested only that this is left out.
"""

from __future__ import annotations

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


def _statements() -> list[str]:
    compressing = [
        f"ALTER TABLE {table} SET (timescaledb.enable_columnstore, timescaledb.segmentby = '{by}',"
        f" timescaledb.orderby = 'time, id')"
        for table, by in _COMPRESSED.items()
    ]
    policies = [f"CALL add_columnstore_policy('{table}', after => {_AFTER})" for table in _COMPRESSED]
    dropping = [
        f"SELECT add_retention_policy('{table}', drop_created_before => {age})"
        for table, age in _DROPPED.items()
    ]
    rights = [
        "REVOKE ALL ON FUNCTION make_writable(timestamptz, timestamptz) FROM PUBLIC",
        "GRANT EXECUTE ON FUNCTION make_writable(timestamptz, timestamptz) TO recorder",
    ]
    return [*compressing, *policies, *dropping, _MAKE_WRITABLE, *rights]


def upgrade() -> None:
    """Ask the server for its edition; in the full one make all of it."""
    work = "\n".join(f"        EXECUTE $statement${statement}$statement$;" for statement in _statements())
    op.execute(
        f"""
DO $do$
BEGIN
    IF EXISTS (SELECT FROM pg_extension WHERE extname = 'timescaledb')
       AND current_setting('timescaledb.license', true) = 'timescale' THEN
{work}
    END IF;
END
$do$"""
    )
