"""Runs of any length, written straight into the database as the recorder leaves them.

For tests and benchmarks of what reads. The equity curve is a wave on a slope, so that every hour has its
peak and trough; totals and rollups are worked out from the rows.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg

START = datetime(2017, 4, 19, 9, tzinfo=UTC)
TERMS: dict[str, Any] = {
    "strategy": "donchian",
    "parameters": {},
    "instruments": ["EURUSD"],
    "currency": "USD",
    "balance": "10000",
    "risk_per_trade": "10",
    "mode": "lockstep",
    "broker": "paper",
    "feed": "replay:test",
    "bar_seconds": 60,
    "weekend": "flat",
    "costs": {},
}

_RUN = """
insert into runs (run_id, trader, terms, started, recorded_started, phase, phase_seq, ended)
values ($1, $2, $3::jsonb, $4, $6, 'COMPLETED', 1, $5)"""

# Equity rises and falls by 60 every 97 marks and each wave begins 0.02 higher, so that a mark's peak and
# drawdowns are known from its number alone: ten million marks need no sorting.
_WAVE, _HALF = 97, 48


def _equity(step: str) -> str:
    """The equity at mark number `step`, as SQL."""
    share = f"least({step} % {_WAVE}, {2 * _HALF} - {step} % {_WAVE})"
    return f"(10000 + ({step}) / {_WAVE} * 0.02 + {share} * 1.25)"


_EQUITY = f"""
insert into equity (time, id, trader, run_id, emitter, seq, recorded,
                    step, balance, unrealised, equity, peak, drawdown, max_drawdown, open_risk)
select $3::timestamptz + i * $4::interval, gen_random_uuid(), $1, $2, 'trader', i * 2, $6::timestamptz,
       i, equity, 0, equity, peak, peak - equity, case when wave = 0 then peak - equity else 60 end, 0
from (select i, equity, wave, case
             when falling then 10000 + wave * 0.02 + 60
             when wave > 0 then greatest(equity, 10000 + (wave - 1) * 0.02 + 60)
             else equity end as peak
      from (select i, {_equity("i")} as equity, i / {_WAVE} as wave, i % {_WAVE} > {_HALF} as falling
            from generate_series(1::bigint, $5::bigint) as i offset 0) as wave) as marked"""

_TRADES = """
insert into trades (time, id, trader, run_id, emitter, seq, recorded,
    trade, instrument, side, amount, entry_time, entry_price, trade_time, exit_price, stop, target,
    initial_risk, pnl, outcome, r_multiple, equity, commission, slippage, exit_reason, strategy, streak)
select time, gen_random_uuid(), $1, $2, 'trader', k::bigint * $6::int * 2 + 1, $7::timestamptz,
    k, case when k % 4 = 0 then 'GBPUSD' else 'EURUSD' end, case when k % 2 = 0 then 'long' else 'short' end,
    1000 + k % 500, time - $4::interval * 3, 1.07431, time, 1.07431 + (k % 21 - 10) * 0.0001, 1.07, 1.09,
    10.00, round((k % 21 - 10)::numeric, 2),
    case when k % 21 > 10 then 'win' when k % 21 < 10 then 'loss' else 'breakeven' end,
    round((k % 21 - 10) / 10.0, 4), 10000 + k % 21, 0, 0.07, 'target', 'donchian', (k % 21 - 10)
from (select k, $3::timestamptz + k * $6::int * $4::interval as time from generate_series(1, $5::int) as k) as made"""

_OPENINGS = """
insert into events (time, id, trader, run_id, emitter, seq, recorded, type, version, body)
select trade_time - interval '1 second', gen_random_uuid(), trader, run_id, 'trader', seq - 8, recorded,
    'trade.opened', 1, jsonb_build_object('trade', trade, 'order', trade * 2, 'instrument', instrument, 'side', side,
        'amount', amount::text, 'entry_time', entry_time, 'entry_price', entry_price::text, 'stop', stop::text,
        'target', target::text, 'initial_risk', initial_risk::text, 'strategy', strategy, 'reason', '')
from trades where run_id = $1"""

_ROLLUP = """
insert into equity_{level} (trader, run_id, bucket, first_seq, first_equity, last_seq, last_equity, low, high,
                            max_drawdown, points)
select trader, run_id, {bucket} as bucket, min(seq), {first}, max(seq), {last}, min(equity), max(equity),
    max(max_drawdown), count(*)
from equity where run_id = $1 group by trader, run_id, {bucket}"""
_BUCKETS = {
    "minute": "date_trunc('minute', time, 'UTC')",
    "hour": "date_trunc('hour', time, 'UTC')",
    "day": "((time - interval '1 microsecond') at time zone 'America/New_York' + interval '7 hours')::date",
}

_TOTALS = """
insert into run_totals (trader, run_id, trader_events, last_seq, trades, wins, losses, breakevens, pnl,
    gross_profit, gross_loss, r_count, r_sum, r_squares, largest_win, largest_loss, seconds_held, commission,
    slippage, longest_win_streak, longest_loss_streak)
select trader, run_id, $2::bigint, $2::bigint, count(*), count(*) filter (where pnl > 0),
    count(*) filter (where pnl < 0), count(*) filter (where pnl = 0), sum(pnl),
    coalesce(sum(pnl) filter (where pnl > 0), 0), coalesce(-sum(pnl) filter (where pnl < 0), 0),
    count(r_multiple), sum(r_multiple), sum(r_multiple * r_multiple), coalesce(max(pnl), 0), coalesce(min(pnl), 0),
    sum(extract(epoch from trade_time - entry_time)), sum(commission), sum(slippage),
    greatest(max(streak), 0), greatest(-min(streak), 0)
from trades where run_id = $1 group by trader, run_id"""

_KINDS = """
insert into trade_kinds select trader, run_id, strategy, instrument, side, outcome, count(*)
from trades where run_id = $1 group by trader, run_id, strategy, instrument, side, outcome"""

_MONTHS = """
insert into trade_months select trader, run_id, date_trunc('month', (trade_time - interval '1 microsecond')
    at time zone 'America/New_York' + interval '7 hours')::date, count(*), count(*) filter (where outcome = 'win'),
    count(*) filter (where outcome = 'loss'), sum(pnl), coalesce(sum(r_multiple), 0)
from trades where run_id = $1 group by 1, 2, 3"""

_DAYS = """
insert into trade_days select trader, run_id, ((trade_time - interval '1 microsecond')
    at time zone 'America/New_York' + interval '7 hours')::date, strategy, count(*), sum(pnl)
from trades where run_id = $1 group by 1, 2, 3, 4"""

_RS = """
insert into trade_rs select trader, run_id, floor(least(greatest(r_multiple, -10), 20) * 2) / 2, count(*)
from trades where run_id = $1 and r_multiple is not null group by 1, 2, 3"""

_BARS = """
insert into bars (time, id, trader, run_id, emitter, seq, recorded, instrument, seconds, start, bid_open, bid_high,
    bid_low, bid_close, ask_open, ask_high, ask_low, ask_close, volume)
select time, gen_random_uuid(), $1, $2, 'feed', i, $6::timestamptz, 'EURUSD', 60, time - $4::interval,
    price, price, price, price, price + 0.0001, price + 0.0001, price + 0.0001, price + 0.0001, 100
from (select i, $3::timestamptz + i * $4::interval as time, 1.07 + (i % 997) * 0.00001 as price
      from generate_series(1::bigint, $5::bigint) as i) as made"""


async def record_run(
    connection: asyncpg.Connection[asyncpg.Record],
    trader: str,
    run_id: str,
    *,
    trades: int,
    marks_a_trade: int = 10,
    spacing: timedelta = timedelta(minutes=1),
    start: datetime = START,
    recorded: datetime | None = None,
    bars: bool = False,
    timeout: float = 1800,
) -> None:
    """A finished run with so many trades and marks, one mark, and with `bars` one bar, each `spacing`."""
    marks = trades * marks_a_trade
    wall = recorded or datetime.now(UTC)
    end = start + marks * spacing
    await connection.execute(_RUN, run_id, trader, json.dumps(TERMS), start, end, wall)
    await connection.execute(_EQUITY, trader, run_id, start, spacing, marks, wall, timeout=timeout)
    await connection.execute(
        _TRADES, trader, run_id, start, spacing, trades, marks_a_trade, wall, timeout=timeout
    )
    await connection.execute(_OPENINGS, run_id, timeout=timeout)
    if bars:
        await connection.execute(_BARS, trader, run_id, start, spacing, marks, wall, timeout=timeout)
    for level, bucket in _BUCKETS.items():
        first, last = _equity("(min(seq) / 2)"), _equity("(max(seq) / 2)")
        sql = _ROLLUP.format(level=level, bucket=bucket, first=first, last=last)
        await connection.execute(sql, run_id, timeout=timeout)
    await connection.execute(_TOTALS, run_id, marks * 2 + 1, timeout=timeout)
    for sums in (_KINDS, _MONTHS, _DAYS, _RS):
        await connection.execute(sums, run_id, timeout=timeout)
