"""The desk's tables, on TimescaleDB and on plain PostgreSQL alike.

Every event table has the envelope's columns and the key (time, id), since a hypertable's unique index must
contain its time. Numbers are plain `numeric`: exact, and the scale survives. Keys sort by bytes.
"""

from __future__ import annotations

from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

_TEXT = 'text COLLATE "C"'

# time: the run's clock; recorded: the emitter's wall clock
_ENVELOPE = f"""
    time timestamptz NOT NULL, id uuid NOT NULL, trader {_TEXT} NOT NULL, run_id {_TEXT} NOT NULL,
    emitter text NOT NULL, seq bigint NOT NULL, recorded timestamptz NOT NULL, PRIMARY KEY (time, id)"""

_EVENT_TABLES = {
    "events": "type text NOT NULL, version int NOT NULL, body jsonb NOT NULL",
    "trades": """trade bigint NOT NULL, instrument text NOT NULL, side text NOT NULL, amount numeric NOT NULL,
        entry_time timestamptz NOT NULL, entry_price numeric NOT NULL, trade_time timestamptz NOT NULL,
        exit_price numeric NOT NULL, stop numeric, target numeric, initial_risk numeric NOT NULL,
        pnl numeric NOT NULL, outcome text NOT NULL, r_multiple numeric, equity numeric NOT NULL,
        commission numeric NOT NULL, slippage numeric NOT NULL, exit_reason text NOT NULL,
        strategy text NOT NULL, streak bigint NOT NULL""",
    "equity": """step bigint NOT NULL, balance numeric NOT NULL, unrealised numeric NOT NULL,
        equity numeric NOT NULL, peak numeric NOT NULL, drawdown numeric NOT NULL,
        max_drawdown numeric NOT NULL, open_risk numeric NOT NULL""",
    "orders": """order_no bigint NOT NULL, state text NOT NULL, instrument text, purpose text, side text,
        kind text, amount numeric, price numeric, detail jsonb NOT NULL""",
    "alerts": "severity text NOT NULL, code text NOT NULL, text text NOT NULL, action text NOT NULL",
    "outcomes": "command_id text NOT NULL, verb text NOT NULL, state text NOT NULL, reason text NOT NULL",
    "statuses": "phase text NOT NULL, previous text NOT NULL, reason text NOT NULL, holding text NOT NULL",
    "limit_changes": """action text NOT NULL, by text NOT NULL, reason text NOT NULL, old jsonb NOT NULL,
        new jsonb NOT NULL""",
    "adjustments": "amount numeric NOT NULL, balance numeric NOT NULL, reason text NOT NULL",
    "bars": """instrument text NOT NULL, seconds bigint NOT NULL, start timestamptz NOT NULL,
        bid_open numeric NOT NULL, bid_high numeric NOT NULL, bid_low numeric NOT NULL,
        bid_close numeric NOT NULL, ask_open numeric NOT NULL, ask_high numeric NOT NULL,
        ask_low numeric NOT NULL, ask_close numeric NOT NULL, volume numeric NOT NULL""",
}

_ROLLUP = f"""
    trader {_TEXT} NOT NULL, run_id {_TEXT} NOT NULL, bucket {{bucket}} NOT NULL,
    first_seq bigint NOT NULL, first_equity numeric NOT NULL, last_seq bigint NOT NULL,
    last_equity numeric NOT NULL, low numeric NOT NULL, high numeric NOT NULL, max_drawdown numeric NOT NULL,
    points bigint NOT NULL, PRIMARY KEY (trader, run_id, bucket)"""

# A message of a stream: `received` is in the key because sequences begin anew when a stream is made anew.
_RECEIVED = """
    stream_seq bigint NOT NULL, received timestamptz NOT NULL"""

_OTHER_TABLES = {
    "equity_minute": _ROLLUP.format(bucket="timestamptz"),
    "equity_hour": _ROLLUP.format(bucket="timestamptz"),
    "equity_day": _ROLLUP.format(bucket="date"),
    "commands": f"""{_RECEIVED}, trader {_TEXT} NOT NULL, verb text NOT NULL, command_id text,
        body jsonb NOT NULL, PRIMARY KEY (stream_seq, received)""",
    "signals": f"""{_RECEIVED}, trader {_TEXT} NOT NULL, signal_id text NOT NULL, instrument text NOT NULL,
        side text NOT NULL, body jsonb NOT NULL, PRIMARY KEY (stream_seq, received)""",
    "runs": f"""run_id {_TEXT} PRIMARY KEY, trader {_TEXT} NOT NULL, terms jsonb, started timestamptz,
        recorded_started timestamptz, phase text NOT NULL, phase_seq bigint NOT NULL, ended timestamptz""",
    "run_totals": f"""trader {_TEXT} NOT NULL, run_id {_TEXT} NOT NULL,
        trader_events bigint NOT NULL DEFAULT 0, last_seq bigint NOT NULL DEFAULT 0,
        trades bigint NOT NULL DEFAULT 0, wins bigint NOT NULL DEFAULT 0, losses bigint NOT NULL DEFAULT 0,
        breakevens bigint NOT NULL DEFAULT 0, pnl numeric NOT NULL DEFAULT 0,
        gross_profit numeric NOT NULL DEFAULT 0, gross_loss numeric NOT NULL DEFAULT 0,
        r_count bigint NOT NULL DEFAULT 0, r_sum numeric NOT NULL DEFAULT 0,
        r_squares numeric NOT NULL DEFAULT 0, largest_win numeric,
        largest_loss numeric, seconds_held numeric NOT NULL DEFAULT 0,
        commission numeric NOT NULL DEFAULT 0, slippage numeric NOT NULL DEFAULT 0,
        adjustments numeric NOT NULL DEFAULT 0, PRIMARY KEY (trader, run_id)""",
    "dead_letters": """stream text NOT NULL, stream_seq bigint NOT NULL, received timestamptz NOT NULL,
        subject text NOT NULL, data bytea NOT NULL, reason text NOT NULL,
        PRIMARY KEY (stream, stream_seq, received)""",
}

_INDEXES = (
    "CREATE INDEX trades_by_run ON trades (run_id, seq)",
    "CREATE INDEX trades_by_trader ON trades (trader, trade_time)",
    "CREATE INDEX equity_by_run ON equity (run_id, seq)",
    "CREATE INDEX equity_by_run_time ON equity (run_id, time)",
    "CREATE INDEX orders_by_run ON orders (run_id, order_no)",
    "CREATE INDEX alerts_by_trader ON alerts (trader, time)",
    # The newest alerts by the wall's clock: a replay's own times are years ago.
    "CREATE INDEX alerts_as_recorded ON alerts (trader, recorded)",
    "CREATE INDEX outcomes_by_command ON outcomes (command_id)",
    "CREATE INDEX statuses_by_run ON statuses (run_id, seq)",
    "CREATE INDEX adjustments_by_run ON adjustments (run_id, seq)",
    "CREATE INDEX bars_by_instrument ON bars (instrument, time)",
    "CREATE INDEX limit_changes_by_trader ON limit_changes (trader, time)",
    # What is open now is an opened trade without a closed one; few rows, so the journal stays cheap to write.
    "CREATE INDEX events_of_openings ON events (run_id, seq) WHERE type = 'trade.opened'",
    "CREATE INDEX commands_by_id ON commands (command_id)",
    "CREATE INDEX runs_by_trader ON runs (trader, recorded_started)",
    "CREATE INDEX dead_letters_by_time ON dead_letters (received)",
)

# The extension where the server has loaded it; without the right to ask or to create it, plain PostgreSQL.
_USE_TIMESCALE = """
DO $do$
BEGIN
    IF EXISTS (SELECT FROM pg_available_extensions WHERE name = 'timescaledb')
       AND current_setting('shared_preload_libraries') LIKE '%timescaledb%' THEN
        CREATE EXTENSION IF NOT EXISTS timescaledb;
    END IF;
EXCEPTION WHEN insufficient_privilege THEN
    RAISE NOTICE 'timescaledb not created: %', SQLERRM;
END
$do$"""

_MAKE_HYPERTABLES = """
DO $do$
DECLARE
    kept text;
BEGIN
    IF EXISTS (SELECT FROM pg_extension WHERE extname = 'timescaledb') THEN
        FOREACH kept IN ARRAY ARRAY[{tables}] LOOP
            PERFORM create_hypertable(kept::regclass, 'time', chunk_time_interval => interval '30 days',
                                      create_default_indexes => false);
        END LOOP;
    END IF;
END
$do$"""

# The stand-in buckets as TimescaleDB does: from Monday 2000-01-03 UTC, whole months from 2000-01-01.
_STAND_IN = """
DO $do$
BEGIN
    IF NOT EXISTS (SELECT FROM pg_extension WHERE extname = 'timescaledb') THEN
        CREATE FUNCTION time_bucket(bucket_width interval, ts timestamptz) RETURNS timestamptz
        LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE AS $body$
            SELECT CASE WHEN extract(year FROM bucket_width) = 0 AND extract(month FROM bucket_width) = 0
                THEN date_bin(bucket_width, ts, timestamptz '2000-01-03 00:00:00+00')
                ELSE (timestamp '2000-01-01' + bucket_width * floor(
                    ((extract(year FROM ts AT TIME ZONE 'UTC') - 2000) * 12
                        + extract(month FROM ts AT TIME ZONE 'UTC') - 1)
                    / (extract(year FROM bucket_width) * 12 + extract(month FROM bucket_width))
                )::float8) AT TIME ZONE 'UTC'
            END
        $body$;
    END IF;
END
$do$"""


def upgrade() -> None:
    """Make every table, index and, where the extension is missing, `time_bucket`."""
    op.execute(_USE_TIMESCALE)
    for name, columns in _EVENT_TABLES.items():
        op.execute(f"CREATE TABLE {name} ({columns}, {_ENVELOPE})")
    for name, columns in _OTHER_TABLES.items():
        op.execute(f"CREATE TABLE {name} ({columns})")
    op.execute(_MAKE_HYPERTABLES.format(tables=", ".join(f"'{name}'" for name in _EVENT_TABLES)))
    for statement in _INDEXES:
        op.execute(statement)
    op.execute(_STAND_IN)
