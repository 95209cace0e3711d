"""What Grafana reads: views in a schema of their own, the only things its role may select from.

Whoever may look at a dashboard may send any SQL, so a view is all there is to find. Besides, two more sums that are
kept as trades are recorded: results by trading day and strategy, and how many trades ended at which multiple of
their risk.
"""

# ruff: noqa: S608 - statements are put together from fixed texts
from __future__ import annotations

from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

_TEXT = 'text COLLATE "C"'

_DAY = (  # as services.shared.calendar.trading_day
    "((trade_time - interval '1 microsecond') AT TIME ZONE 'America/New_York' + interval '7 hours')::date"
)
_DAYS = f"""
CREATE TABLE trade_days (trader {_TEXT} NOT NULL, run_id {_TEXT} NOT NULL, day date NOT NULL,
    strategy text NOT NULL, trades bigint NOT NULL, pnl numeric NOT NULL,
    PRIMARY KEY (trader, run_id, day, strategy))"""
_SUM_DAYS = f"""
INSERT INTO trade_days SELECT trader, run_id, {_DAY}, strategy, count(*), sum(pnl)
FROM trades WHERE run_id <> '' GROUP BY 1, 2, 3, 4"""

# Halves of R; what is beyond the ends counts at them, so that a run has a bounded number of rows.
_BIN = "floor(least(greatest(r_multiple, -10), 20) * 2) / 2"
_RS = f"""
CREATE TABLE trade_rs (trader {_TEXT} NOT NULL, run_id {_TEXT} NOT NULL, r_from numeric NOT NULL,
    trades bigint NOT NULL, PRIMARY KEY (trader, run_id, r_from))"""
_COUNT_RS = f"""
INSERT INTO trade_rs SELECT trader, run_id, {_BIN}, count(*)
FROM trades WHERE run_id <> '' AND r_multiple IS NOT NULL GROUP BY 1, 2, 3"""

_INDEX = "CREATE INDEX trades_by_run_time ON trades (run_id, time)"

_STRETCH = """trader, run_id, {at} AS time, first_seq AS seq, first_equity::float8 AS first, low::float8 AS low,
    high::float8 AS high, last_equity::float8 AS equity, NULL::float8 AS drawdown, max_drawdown::float8 AS max_drawdown
FROM equity_{level}"""
_DAY_BEGINS = "(bucket - 1 + time '17:00') AT TIME ZONE 'America/New_York'"

# Columns are named, never `*`: a table that gets another column must not show it by accident.
_VIEWS = {
    # `deployed` is the wall's clock and says which run is the latest; all other times are the data's own.
    "runs": """
SELECT r.trader, r.run_id, r.phase, r.recorded_started AS deployed, r.started, r.ended,
    r.terms ->> 'strategy' AS strategy,
    (SELECT string_agg(named, ', ') FROM jsonb_array_elements_text(r.terms -> 'instruments') AS named) AS instruments,
    r.terms ->> 'currency' AS currency, r.terms ->> 'mode' AS mode, r.terms ->> 'feed' AS feed,
    (r.terms ->> 'balance')::numeric AS opening_balance, (r.terms ->> 'bar_seconds')::int AS bar_seconds
FROM runs AS r""",
    "run_instruments": """
SELECT r.trader, r.run_id, named.instrument, named.place
FROM runs AS r, jsonb_array_elements_text(r.terms -> 'instruments') WITH ORDINALITY AS named (instrument, place)""",
    "phases": "SELECT trader, run_id, seq, time, recorded, phase, reason, holding FROM statuses",
    # The formulas are services.shared.statistics'.
    "results": """
SELECT trader, run_id, trades, wins, losses, breakevens, pnl, gross_profit, gross_loss, commission, slippage,
    wins / nullif(trades, 0)::float8 AS win_rate, (gross_profit / nullif(gross_loss, 0))::float8 AS profit_factor,
    (r_sum / nullif(r_count, 0))::float8 AS expectancy_r, pnl / nullif(trades, 0) AS expectancy,
    longest_win_streak, longest_loss_streak
FROM run_totals""",
    # The account as last marked, and from when to when a run has marks.
    "standing": """
SELECT r.trader, r.run_id, first.time AS data_from, last.time AS data_to, last.balance, last.unrealised, last.equity,
    last.peak, last.drawdown, last.max_drawdown, last.open_risk
FROM runs AS r
    JOIN LATERAL (SELECT time FROM equity WHERE run_id = r.run_id AND time >= r.started ORDER BY time LIMIT 1) AS first
        ON true
    JOIN LATERAL (SELECT time, balance, unrealised, equity, peak, drawdown, max_drawdown, open_risk FROM equity
        WHERE run_id = r.run_id AND time >= r.started ORDER BY time DESC, seq DESC LIMIT 1) AS last ON true""",
    "marks": "SELECT trader, run_id, time, seq, equity, peak, drawdown, max_drawdown FROM equity",
    # Equity at four levels, as numbers for a drawing: a query names the level, the other three are not touched.
    # `time` is where the stretch begins, `drawdown` is known at marks only.
    "equity": f"""
SELECT 'mark' AS level, trader, run_id, time, seq, equity::float8 AS first, equity::float8 AS low,
    equity::float8 AS high, equity::float8 AS equity, drawdown::float8 AS drawdown, max_drawdown::float8 AS max_drawdown
FROM equity
UNION ALL SELECT 'minute', {_STRETCH.format(at="bucket", level="minute")}
UNION ALL SELECT 'hour', {_STRETCH.format(at="bucket", level="hour")}
UNION ALL SELECT 'day', {_STRETCH.format(at=_DAY_BEGINS, level="day")}""",
    "trades": """
SELECT trader, run_id, time, seq, trade, instrument, side, amount, entry_time, entry_price, trade_time, exit_price,
    stop, target, initial_risk, pnl, outcome, r_multiple, equity, commission, slippage, exit_reason, strategy, streak
FROM trades""",
    "trade_days": "SELECT trader, run_id, day, strategy, trades, pnl FROM trade_days",
    "trade_rs": "SELECT trader, run_id, r_from, trades FROM trade_rs",
    "bars": """
SELECT trader, run_id, instrument, time, start, ((bid_close + ask_close) / 2)::float8 AS mid, bid_close, ask_close
FROM bars""",
    # As services.api.positions has it: the last 200 openings without a closed trade, less what exits have closed.
    # Each is looked up by itself (LIMIT), and no earlier than it was opened: never all trades, in no edition.
    "open_positions": """
SELECT r.trader, r.run_id, opened.seq, (opened.body ->> 'trade')::bigint AS trade,
    opened.body ->> 'instrument' AS instrument, opened.body ->> 'side' AS side,
    greatest((opened.body ->> 'amount')::numeric - coalesce(exits.amount, 0), 0) AS open_amount,
    (opened.body ->> 'entry_time')::timestamptz AS entry_time, (opened.body ->> 'entry_price')::numeric AS entry_price,
    (opened.body ->> 'stop')::numeric AS stop, (opened.body ->> 'target')::numeric AS target,
    (opened.body ->> 'initial_risk')::numeric AS initial_risk, opened.body ->> 'strategy' AS strategy,
    CASE WHEN opened.body ->> 'side' = 'long' THEN bar.bid_close ELSE bar.ask_close END AS price,
    bar.time AS priced_at
FROM runs AS r
    CROSS JOIN LATERAL (SELECT seq, time, body FROM events WHERE run_id = r.run_id AND type = 'trade.opened'
        ORDER BY seq DESC LIMIT 200) AS opened
    LEFT JOIN LATERAL (SELECT true AS found FROM trades WHERE run_id = r.run_id AND time >= opened.time
        AND trade = (opened.body ->> 'trade')::bigint LIMIT 1) AS closed ON true
    LEFT JOIN LATERAL (SELECT sum((detail ->> 'amount')::numeric) AS amount FROM orders
        WHERE run_id = r.run_id AND (detail ->> 'trade')::bigint = (opened.body ->> 'trade')::bigint
            AND time >= opened.time AND state = 'filled' AND detail ->> 'purpose' <> 'entry') AS exits ON true
    LEFT JOIN LATERAL (SELECT time, bid_close, ask_close FROM bars
        WHERE instrument = opened.body ->> 'instrument' AND run_id = r.run_id ORDER BY time DESC LIMIT 1) AS bar ON true
WHERE closed.found IS NULL""",
}


def upgrade() -> None:
    """Make the sums, fill them from the trades recorded before, and make the views."""
    for statement in (_DAYS, _SUM_DAYS, _RS, _COUNT_RS, _INDEX, "CREATE SCHEMA IF NOT EXISTS grafana"):
        op.execute(statement)
    for name, query in _VIEWS.items():
        op.execute(f"CREATE VIEW grafana.{name} AS {query}")
