"""The SQL that takes a batch apart: per type of event its table, and what is counted from its new rows.

Every statement gets arrays of text and is safe to run again: rows that are there already change nothing,
and totals, rollups and runs move by newly inserted rows only, through counts, sums, minima, maxima and
first or last by seq, so that several recorders may commit in any order. Rows and keys are taken in sorted
order, so that recorders wait for each other instead of deadlocking.
"""

# ruff: noqa: S608 - names come from this file and the contract, values only as parameters
from __future__ import annotations

import typing
from dataclasses import dataclass
from typing import Any, Final

from services.recorder.reading import BODY_AT, COMMAND, ENVELOPE, FIELDS, SIGNAL
from services.shared.events import BODIES

_ENVELOPE_TYPES: Final = {"id": "uuid", "seq": "bigint", "time": "timestamptz", "recorded": "timestamptz"}
_HEAD: Final = ", ".join(ENVELOPE)

# A body as the fast way found it has lost its envelope already; otherwise it is the whole message.
_BODY: Final = (
    "CASE WHEN left(body, 1) = '{' THEN body::jsonb - ARRAY['id', 'type', 'version', 'trader', 'run_id',"
    " 'emitter', 'seq', 'time', 'recorded'] ELSE ('{' || body)::jsonb END"
)


def _given(columns: dict[str, str]) -> str:
    """A batch's rows from one array of text a column."""
    arrays = ", ".join(
        f"${place}::text[]" if kind == "text" else f"(${place}::text[])::{kind}[]"
        for place, kind in enumerate(columns.values(), 1)
    )
    return f"unnest({arrays}) AS given ({', '.join(columns)})"


_JOURNAL_COLUMNS = {name: _ENVELOPE_TYPES.get(name, "text") for name in ENVELOPE} | {
    "type": "text",
    "body": "text",
}

JOURNAL: Final = f"""
WITH new AS (
    INSERT INTO events ({_HEAD}, type, version, body)
    SELECT {_HEAD}, type, 1, {_BODY} FROM {_given(_JOURNAL_COLUMNS)}
    ON CONFLICT DO NOTHING RETURNING trader, run_id, emitter, seq, type
), counted AS (
    INSERT INTO run_totals AS had (trader, run_id, trader_events, last_seq, approved, denied)
    SELECT trader, run_id, count(*) FILTER (WHERE emitter = 'trader'),
        coalesce(max(seq) FILTER (WHERE emitter = 'trader'), 0),
        count(*) FILTER (WHERE type = 'order.approved'), count(*) FILTER (WHERE type = 'order.denied')
    FROM new WHERE run_id <> '' AND (emitter = 'trader' OR type IN ('order.approved', 'order.denied'))
    GROUP BY trader, run_id ORDER BY trader, run_id
    ON CONFLICT (trader, run_id) DO UPDATE SET
        trader_events = had.trader_events + excluded.trader_events,
        last_seq = greatest(had.last_seq, excluded.last_seq),
        approved = had.approved + excluded.approved, denied = had.denied + excluded.denied
)
SELECT type, count(*) FROM new GROUP BY type"""
"""Envelope, type and body of all events of a batch; returns how many of each type were new."""


def _rollup(table: str, bucket: str) -> str:
    # One sort by bucket, run and seq serves grouping, first and last, and the order of insertion; with the
    # text columns first, or other aggregates, this took five times as long.
    return f"""{table}_rows AS (
    INSERT INTO {table} AS had
    SELECT trader, run_id, {bucket} AS bucket, min(seq), (array_agg(equity ORDER BY seq))[1],
        max(seq), (array_agg(equity ORDER BY seq))[count(*)], min(equity), max(equity),
        max(max_drawdown), count(*)
    FROM new GROUP BY 1, 2, 3 ORDER BY 3, 1, 2
    ON CONFLICT (trader, run_id, bucket) DO UPDATE SET
        first_seq = least(had.first_seq, excluded.first_seq),
        first_equity = CASE WHEN excluded.first_seq < had.first_seq
            THEN excluded.first_equity ELSE had.first_equity END,
        last_seq = greatest(had.last_seq, excluded.last_seq),
        last_equity = CASE WHEN excluded.last_seq > had.last_seq
            THEN excluded.last_equity ELSE had.last_equity END,
        low = least(had.low, excluded.low), high = greatest(had.high, excluded.high),
        max_drawdown = greatest(had.max_drawdown, excluded.max_drawdown),
        points = had.points + excluded.points
)"""


_ROLLUPS: Final = ", ".join(
    (
        _rollup("equity_minute", "date_bin('1 minute', time, '2000-01-03 00:00:00+00')"),
        _rollup("equity_hour", "date_bin('1 hour', time, '2000-01-03 00:00:00+00')"),
        # as services.shared.calendar.trading_day
        _rollup(
            "equity_day",
            "((time - interval '1 microsecond') AT TIME ZONE 'America/New_York' + interval '7 hours')::date",
        ),
    )
)

_ROLLED_UP = ("trader", "run_id", "seq", "time", "equity", "max_drawdown")
ROLLED_UP: Final = tuple((*ENVELOPE, "body", *FIELDS["equity"]).index(name) for name in _ROLLED_UP)
"""The places in an equity row that `ROLL_UP` takes."""

ROLL_UP: Final = f"""
WITH new AS MATERIALIZED (SELECT * FROM {
    _given(
        {
            name: _ENVELOPE_TYPES.get(name, "numeric" if name in FIELDS["equity"] else "text")
            for name in _ROLLED_UP
        }
    )
}), {_ROLLUPS} SELECT"""
"""The rollups of equity marks that are known to be new."""

COUNT: Final = """
INSERT INTO run_totals AS had (trader, run_id, trader_events, last_seq, approved, denied)
SELECT * FROM unnest($1::text[], $2::text[], $3::bigint[], $4::bigint[], $5::bigint[], $6::bigint[])
ON CONFLICT (trader, run_id) DO UPDATE SET
    trader_events = had.trader_events + excluded.trader_events,
    last_seq = greatest(had.last_seq, excluded.last_seq),
    approved = had.approved + excluded.approved, denied = had.denied + excluded.denied"""
"""Events that are known to be new: how many of the trader in each run, the last seq, and what the guard said."""

_TOTALS = """totalled AS (
    INSERT INTO run_totals AS had (trader, run_id, trades, wins, losses, breakevens, pnl, gross_profit,
        gross_loss, r_count, r_sum, r_squares, largest_win, largest_loss, seconds_held, commission, slippage,
        longest_win_streak, longest_loss_streak)
    SELECT trader, run_id, count(*), count(*) FILTER (WHERE outcome = 'win'),
        count(*) FILTER (WHERE outcome = 'loss'), count(*) FILTER (WHERE outcome = 'breakeven'), sum(pnl),
        coalesce(sum(pnl) FILTER (WHERE outcome = 'win'), 0),
        coalesce(-sum(pnl) FILTER (WHERE outcome = 'loss'), 0),
        count(r_multiple), coalesce(sum(r_multiple), 0), coalesce(sum(r_multiple * r_multiple), 0),
        max(pnl) FILTER (WHERE outcome = 'win'), min(pnl) FILTER (WHERE outcome = 'loss'),
        sum(extract(epoch FROM trade_time - entry_time)), sum(commission), sum(slippage),
        greatest(max(streak), 0), greatest(-min(streak), 0)
    FROM new WHERE run_id <> '' GROUP BY trader, run_id ORDER BY trader, run_id
    ON CONFLICT (trader, run_id) DO UPDATE SET
        trades = had.trades + excluded.trades, wins = had.wins + excluded.wins,
        losses = had.losses + excluded.losses, breakevens = had.breakevens + excluded.breakevens,
        pnl = had.pnl + excluded.pnl, gross_profit = had.gross_profit + excluded.gross_profit,
        gross_loss = had.gross_loss + excluded.gross_loss, r_count = had.r_count + excluded.r_count,
        r_sum = had.r_sum + excluded.r_sum, r_squares = had.r_squares + excluded.r_squares,
        largest_win = greatest(had.largest_win, excluded.largest_win),
        largest_loss = least(had.largest_loss, excluded.largest_loss),
        seconds_held = had.seconds_held + excluded.seconds_held,
        commission = had.commission + excluded.commission, slippage = had.slippage + excluded.slippage,
        longest_win_streak = greatest(had.longest_win_streak, excluded.longest_win_streak),
        longest_loss_streak = greatest(had.longest_loss_streak, excluded.longest_loss_streak)
), sorted_out AS (
    INSERT INTO trade_kinds AS had (trader, run_id, strategy, instrument, side, outcome, trades)
    SELECT trader, run_id, strategy, instrument, side, outcome, count(*) FROM new WHERE run_id <> ''
    GROUP BY 1, 2, 3, 4, 5, 6 ORDER BY 1, 2, 3, 4, 5, 6
    ON CONFLICT (trader, run_id, strategy, instrument, side, outcome)
        DO UPDATE SET trades = had.trades + excluded.trades
), by_month AS (
    INSERT INTO trade_months AS had (trader, run_id, month, trades, wins, losses, pnl, r_sum)
    SELECT trader, run_id, date_trunc('month', (trade_time - interval '1 microsecond')
            AT TIME ZONE 'America/New_York' + interval '7 hours')::date,
        count(*), count(*) FILTER (WHERE outcome = 'win'), count(*) FILTER (WHERE outcome = 'loss'), sum(pnl),
        coalesce(sum(r_multiple), 0)
    FROM new WHERE run_id <> '' GROUP BY 1, 2, 3 ORDER BY 1, 2, 3
    ON CONFLICT (trader, run_id, month) DO UPDATE SET
        trades = had.trades + excluded.trades, wins = had.wins + excluded.wins,
        losses = had.losses + excluded.losses, pnl = had.pnl + excluded.pnl, r_sum = had.r_sum + excluded.r_sum
), by_day AS (
    INSERT INTO trade_days AS had (trader, run_id, day, strategy, trades, pnl)
    SELECT trader, run_id, ((trade_time - interval '1 microsecond') AT TIME ZONE 'America/New_York'
            + interval '7 hours')::date, strategy, count(*), sum(pnl)
    FROM new WHERE run_id <> '' GROUP BY 1, 2, 3, 4 ORDER BY 1, 2, 3, 4
    ON CONFLICT (trader, run_id, day, strategy) DO UPDATE SET
        trades = had.trades + excluded.trades, pnl = had.pnl + excluded.pnl
), by_r AS (
    INSERT INTO trade_rs AS had (trader, run_id, r_from, trades)
    SELECT trader, run_id, floor(least(greatest(r_multiple, -10), 20) * 2) / 2, count(*)
    FROM new WHERE run_id <> '' AND r_multiple IS NOT NULL GROUP BY 1, 2, 3 ORDER BY 1, 2, 3
    ON CONFLICT (trader, run_id, r_from) DO UPDATE SET trades = had.trades + excluded.trades
)"""

_ADJUSTMENTS = """totalled AS (
    INSERT INTO run_totals AS had (trader, run_id, adjustments)
    SELECT trader, run_id, sum(amount) FROM new WHERE run_id <> ''
    GROUP BY trader, run_id ORDER BY trader, run_id
    ON CONFLICT (trader, run_id) DO UPDATE SET adjustments = had.adjustments + excluded.adjustments
)"""

_DENIALS = """counted AS (
    INSERT INTO denials AS had (trader, run_id, code, orders, last_seq, last_text)
    SELECT trader, run_id, reason ->> 'code', count(DISTINCT id), max(seq),
        (array_agg(reason ->> 'text' ORDER BY seq DESC))[1]
    FROM new, jsonb_array_elements(new.detail -> 'reasons') AS reason
    WHERE run_id <> '' GROUP BY 1, 2, 3 ORDER BY 1, 2, 3
    ON CONFLICT (trader, run_id, code) DO UPDATE SET
        orders = had.orders + excluded.orders,
        last_text = CASE WHEN excluded.last_seq > had.last_seq THEN excluded.last_text ELSE had.last_text END,
        last_seq = greatest(had.last_seq, excluded.last_seq)
)"""

_RUNS = """stood AS (
    INSERT INTO runs AS had (run_id, trader, terms, started, recorded_started, phase, phase_seq, ended)
    SELECT new.run_id, min(new.trader), (array_agg(given.terms::jsonb ORDER BY given.terms NULLS LAST))[1],
        min(new.time) FILTER (WHERE new.phase = 'STARTING'),
        min(new.recorded) FILTER (WHERE new.phase = 'STARTING'),
        (array_agg(new.phase ORDER BY new.seq DESC))[1], max(new.seq),
        min(new.time) FILTER (WHERE new.phase IN ('STOPPED', 'HALTED', 'COMPLETED', 'FAILED'))
    FROM new JOIN given USING (time, id) WHERE new.run_id <> '' GROUP BY 1 ORDER BY 1
    ON CONFLICT (run_id) DO UPDATE SET
        terms = coalesce(had.terms, excluded.terms), started = least(had.started, excluded.started),
        recorded_started = least(had.recorded_started, excluded.recorded_started),
        phase = CASE WHEN excluded.phase_seq > had.phase_seq THEN excluded.phase ELSE had.phase END,
        phase_seq = greatest(had.phase_seq, excluded.phase_seq),
        ended = least(had.ended, excluded.ended)
)"""


@dataclass(frozen=True, slots=True)
class Table:
    """Where a type's rows go: the statement, and which places of a row it takes, in its order."""

    sql: str
    places: tuple[int, ...]


def _sql_type(annotation: Any) -> str:
    text = str(annotation)
    if "AwareDatetime" in text:
        return "timestamptz"
    if "Decimal" in text:
        return "numeric"
    return "bigint" if "int" in text.split(",")[0] else "text"


def _table(
    kind: str,
    name: str,
    columns: dict[str, str],
    *,
    fixed: dict[str, str] | None = None,
    extra: tuple[str, ...] = (),
    derived: str = "",
) -> Table:
    """`columns` maps a column to the field it takes, `fixed` to an expression; `extra` fields are given
    to `derived` only."""
    hints = typing.get_type_hints(BODIES[kind], include_extras=True)
    given = {column: _ENVELOPE_TYPES.get(column, "text") for column in ENVELOPE}
    places = list(range(len(ENVELOPE)))
    for column, field in (columns | {field: field for field in extra}).items():
        given[column] = _JSON.get((name, column)) or _sql_type(hints[field])
        places.append(BODY_AT + 1 + FIELDS[kind].index(field))
    fixed = fixed or {}
    if any("body" in expression for expression in fixed.values()):
        given["body"] = "text"
        places.append(BODY_AT)
    into = ", ".join((*ENVELOPE, *columns, *fixed))
    values = ", ".join((*ENVELOPE, *columns, *fixed.values()))
    insert = f"INSERT INTO {name} ({into}) SELECT {values} FROM given ON CONFLICT DO NOTHING"
    rows = f"WITH given AS MATERIALIZED (SELECT * FROM {_given(given)})"
    sql = f"{rows}, new AS ({insert} RETURNING *), {derived} SELECT" if derived else f"{rows} {insert}"
    return Table(sql, tuple(places))


_JSON: dict[tuple[str, str], str] = {("limit_changes", "old"): "jsonb", ("limit_changes", "new"): "jsonb"}


def _same(kind: str, *fields: str) -> dict[str, str]:
    return {field: field for field in fields or FIELDS[kind]}


def order_columns(kind: str) -> dict[str, str]:
    """The columns of `orders` that a type's fields fill, and the fields."""
    told = ("instrument", "purpose", "side", "amount", "price", "kind")
    return {"order_no": "order"} | {field: field for field in told if field in FIELDS[kind]}


def _orders(kind: str) -> Table:
    columns = order_columns(kind)
    return _table(
        kind,
        "orders",
        columns,
        fixed={"state": f"'{kind.removeprefix('order.')}'", "detail": _BODY},
        derived=_DENIALS if kind == "order.denied" else "",
    )


TABLES: Final[dict[str, Table]] = {
    "equity": _table("equity", "equity", _same("equity"), derived=_ROLLUPS),
    "trade.closed": _table("trade.closed", "trades", _same("trade.closed"), derived=_TOTALS),
    "adjustment": _table("adjustment", "adjustments", _same("adjustment"), derived=_ADJUSTMENTS),
    "status": _table(
        "status",
        "statuses",
        _same("status", "phase", "previous", "reason", "holding"),
        extra=("terms",),
        derived=_RUNS,
    ),
    "alert": _table("alert", "alerts", _same("alert")),
    "outcome": _table("outcome", "outcomes", _same("outcome")),
    "limits": _table("limits", "limit_changes", _same("limits", "action", "by", "reason", "old", "new")),
    "market.bar": _table("market.bar", "bars", _same("market.bar")),
    **{kind: _orders(kind) for kind in BODIES if kind.startswith("order.")},
}
"""The table of each type of event but one."""

JOURNAL_ONLY: Final = "trade.opened"

_RECEIVED = {"stream_seq": "bigint", "received": "timestamptz"}


def _received(table: str, columns: dict[str, str]) -> str:
    given = _RECEIVED | columns
    names = ", ".join(given)
    return f"INSERT INTO {table} ({names}) SELECT {names} FROM {_given(given)} ON CONFLICT DO NOTHING RETURNING 1"


RECEIVED: Final = {
    COMMAND: _received("commands", {"trader": "text", "verb": "text", "command_id": "text", "body": "jsonb"}),
    SIGNAL: _received(
        "signals",
        {"trader": "text", "signal_id": "text", "instrument": "text", "side": "text", "body": "jsonb"},
    ),
}
"""Commands and signals, which are no events: from the stream's sequence, its time, and the row."""

DEAD_LETTER: Final = """
INSERT INTO dead_letters (stream, stream_seq, received, subject, data, reason)
VALUES ($1, $2, $3::text::timestamptz, $4, $5, $6) ON CONFLICT DO NOTHING RETURNING 1"""

__all__ = [
    "COUNT",
    "DEAD_LETTER",
    "JOURNAL",
    "JOURNAL_ONLY",
    "RECEIVED",
    "ROLLED_UP",
    "ROLL_UP",
    "TABLES",
    "Table",
    "order_columns",
]
