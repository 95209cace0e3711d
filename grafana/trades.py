"""The part of *Trading* that is about trades: what is open, price with entries and exits, results, every run.

Each query stands before its panel. What there may be a million of is never read whole: sums the recorder keeps, or
a look into an index for each point that is drawn.
"""

from __future__ import annotations

from grafana_foundation_sdk.cog import builder as cog
from grafana_foundation_sdk.models import common as kinds
from grafana_foundation_sdk.models import dashboard as model

from grafana.panels import (
    BLUE,
    GREEN,
    GREY,
    HIDDEN,
    ORANGE,
    PHASES,
    RED,
    Panels,
    Query,
    bars,
    by_threshold,
    curve,
    fixed,
    given,
    listing,
    moments,
    named_below,
    painted,
    panel,
    place,
    shaded,
    steps,
    words,
)

MONEY = "locale"  # 10,123.45, without noughts at the end: the run's currency stands in the title
_PRICE_DECIMALS = 5
NO_RUN = "No run yet"
NOT_HERE = "Nothing in this range: pick a run below, or Current run above"
GAIN = steps((None, RED), (0, GREEN))
_OUTCOMES = {"win": GREEN, "loss": RED, "breakeven": GREY}

_OPEN = """
SELECT instrument, side, open_amount::float8 AS amount, entry_time, entry_price::float8 AS entry,
    price::float8 AS price, stop::float8 AS stop, target::float8 AS target, initial_risk::float8 AS risk, strategy
FROM grafana.open_positions WHERE run_id = '$run' ORDER BY seq DESC"""
_BY_STRATEGY = """
SELECT strategy, sum(pnl)::float8 AS "PnL" FROM grafana.trade_days
WHERE trader = '$trader' AND run_id = '$run' GROUP BY 1 ORDER BY 2 DESC"""

# --- price and trades: one look into the index for each point of the curve, however many bars lie between
_PRICE = """
SELECT bar.time AS time, bar.mid AS "$instrument"
FROM (SELECT greatest($__timeFrom()::timestamptz, data_from) AS since,
        least($__timeTo()::timestamptz, data_to) AS until, make_interval(secs => $__interval_ms / 1000.0) AS width
    FROM grafana.standing WHERE run_id = '$run') AS span
CROSS JOIN LATERAL generate_series(since - width, until, width) AS step
CROSS JOIN LATERAL (
    SELECT time, mid FROM grafana.bars
    WHERE instrument = '$instrument' AND run_id = '$run' AND time > step AND time <= step + width
    ORDER BY time DESC LIMIT 1) AS bar
ORDER BY 1"""
_LAST_TRADES = """grafana.trades
    WHERE run_id = '$run' AND instrument = '$instrument' AND $__timeFilter(time) ORDER BY time DESC LIMIT 500"""
_ENTRIES = f"""
SELECT entry_time AS time, entry_price::float8 AS "{{name}}" FROM (
    SELECT entry_time, entry_price, side FROM {_LAST_TRADES}) AS closed
WHERE side = '{{side}}' AND entry_time >= $__timeFrom()
UNION ALL
SELECT entry_time, entry_price::float8 FROM grafana.open_positions
WHERE run_id = '$run' AND instrument = '$instrument' AND side = '{{side}}' AND $__timeFilter(entry_time)
ORDER BY 1"""
_EXITS = f"""
SELECT trade_time AS time, exit_price::float8 AS "{{name}}" FROM (
    SELECT trade_time, exit_price, outcome FROM {_LAST_TRADES}) AS closed
WHERE outcome {{outcome}} ORDER BY 1"""
_MARKERS = (
    (Query(_ENTRIES.format(name="Long entry", side="long"), "B", True), BLUE),
    (Query(_ENTRIES.format(name="Short entry", side="short"), "C", True), ORANGE),
    (Query(_EXITS.format(name="Exit with a win", outcome="= 'win'"), "D", True), GREEN),
    (Query(_EXITS.format(name="Exit without", outcome="<> 'win'"), "E", True), RED),
)
_TRADES = """
SELECT trade_time AS closed, trade, instrument, side, amount::float8 AS amount, entry_time AS opened,
    entry_price::float8 AS entry, exit_price::float8 AS exit, stop::float8 AS stop, pnl::float8 AS pnl,
    r_multiple::float8 AS r, outcome, exit_reason AS reason, equity::float8 AS balance, strategy
FROM grafana.trades WHERE run_id = '$run' AND $__timeFilter(time) ORDER BY time DESC, seq DESC LIMIT 200"""

# --- by day, by multiple of risk
_BY_DAY = """
SELECT to_char(date_trunc(CASE WHEN width < 100 THEN 'day' WHEN width < 700 THEN 'week' ELSE 'month' END, day),
    'YYYY-MM-DD') AS day, sum(pnl)::float8 AS "PnL"
FROM grafana.trade_days, (SELECT extract(epoch FROM $__timeTo()::timestamptz - $__timeFrom()::timestamptz) / 86400
    AS width) AS shown
WHERE trader = '$trader' AND run_id = '$run'
    AND day BETWEEN ($__timeFrom()::timestamptz AT TIME ZONE 'America/New_York' + interval '7 hours')::date
        AND ($__timeTo()::timestamptz AT TIME ZONE 'America/New_York' + interval '7 hours')::date
GROUP BY 1 ORDER BY 1"""
_BY_R = """
SELECT CASE r WHEN -10 THEN 'below -9.5' WHEN 20 THEN '20 and more'
    ELSE trim_scale(r)::text || ' to ' || trim_scale(r + 0.5)::text END AS "R",
    CASE WHEN r < 0 THEN coalesce(trades, 0) END AS "Losses",
    CASE WHEN r >= 0 THEN coalesce(trades, 0) END AS "Wins and even"
FROM (SELECT min(r_from) AS lowest, max(r_from) AS highest FROM grafana.trade_rs
    WHERE trader = '$trader' AND run_id = '$run') AS bounds
CROSS JOIN LATERAL generate_series(lowest, highest, 0.5) AS r
LEFT JOIN grafana.trade_rs AS found ON found.trader = '$trader' AND found.run_id = '$run' AND found.r_from = r
ORDER BY r"""

# --- every run: a margin of one bar around its marks, and no end while it goes on with the clock
_RUNS = """
SELECT r.deployed, r.run_id AS run, r.phase, r.strategy, r.instruments, r.currency, t.trades, t.pnl::float8 AS pnl,
    t.win_rate, t.expectancy_r, s.max_drawdown::float8 AS max_drawdown, coalesce(s.data_from, r.started) AS data_from,
    s.data_to, r.trader,
    (extract(epoch FROM coalesce(s.data_from, r.started) - r.bar) * 1000)::bigint::text AS from_ms,
    CASE WHEN r.phase IN ('STARTING', 'MONITORING', 'STOPPING')
            AND coalesce(s.data_to, r.started) > now() - interval '4 days' THEN 'now'
        ELSE (extract(epoch FROM coalesce(s.data_to, r.ended, r.started) + r.bar) * 1000)::bigint::text END AS to_ms
FROM (SELECT run_id, trader, phase, deployed, started, ended, strategy, instruments, currency,
        make_interval(secs => coalesce(bar_seconds, 60)) AS bar
    FROM grafana.runs WHERE trader = '$trader' ORDER BY deployed DESC NULLS LAST LIMIT 50) AS r
LEFT JOIN LATERAL (SELECT data_from, data_to, max_drawdown FROM grafana.standing WHERE run_id = r.run_id LIMIT 1) AS s
    ON true
LEFT JOIN grafana.results AS t ON t.trader = r.trader AND t.run_id = r.run_id
ORDER BY r.deployed DESC NULLS LAST"""
_TO_RUN = (
    "?var-trader=${__data.fields.trader}&var-run=${__data.fields.run}"
    "&from=${__data.fields.from_ms}&to=${__data.fields.to_ms}"
)


def positions() -> Panels:
    """What is open, and what each strategy has brought."""
    position = panel(
        listing()
        .decimals(_PRICE_DECIMALS)
        .override_by_name("entry_time", given(displayName="opened", unit="dateTimeAsIso", custom__width=150))
        .override_by_name("amount", given(unit="locale", decimals=0))
        .override_by_name("risk", given(unit=MONEY, decimals=2)),
        12,
        "Open position",
        at=place(16, 7, 8, 5),
        about="What is open as recorded, a moment behind the trader; price is what closing it would get now.",
        unit="none",
        none="Flat: nothing is open",
        asks=[Query(_OPEN)],
    )
    strategies = panel(
        bars("strategy").color_scheme(by_threshold()).thresholds(GAIN).decimals(2),
        13,
        "PnL by strategy, $currency",
        at=place(16, 12, 8, 9),
        about="Closed trades of the whole run, by the strategy that opened them.",
        unit=MONEY,
        none="No trade yet",
        asks=[Query(_BY_STRATEGY)],
    )
    return [position, strategies]


def closed() -> Panels:
    """Price with entries and exits, and the trades as rows."""
    price = curve().color_scheme(fixed(GREY)).decimals(_PRICE_DECIMALS)
    for marker, color in _MARKERS:
        price.override_by_query(
            marker.ref,
            given(
                custom__drawStyle="points",
                custom__showPoints="always",
                custom__pointSize=9,
                color=painted(color),
            ),
        )
    return [
        panel(
            price.legend(named_below()),
            14,
            "$instrument and its trades",
            at=place(0, 21, 24, 10),
            about="The middle of bid and ask, and where the last 500 trades of the range began and ended.",
            unit="none",
            none=NOT_HERE,
            asks=[Query(_PRICE, series=True), *(marker for marker, _ in _MARKERS)],
        ),
        panel(
            listing()
            .decimals(_PRICE_DECIMALS)
            .override_by_regexp("/^(closed|opened)$/", moments())
            .override_by_name("trade", given(decimals=0, custom__width=80))
            .override_by_name("amount", given(unit="locale", decimals=0))
            .override_by_name("balance", given(unit=MONEY, decimals=2))
            .override_by_name("r", given(displayName="R", decimals=2))
            .override_by_name(
                "pnl",
                given(
                    displayName="PnL",
                    unit=MONEY,
                    decimals=2,
                    **shaded((None, RED), (0, GREEN)),
                    custom__cellOptions={"type": "color-text"},
                ),
            )
            .override_by_name(
                "outcome", given(mappings=words(_OUTCOMES), custom__cellOptions={"type": "color-text"})
            ),
            15,
            "Trades",
            at=place(0, 39, 24, 10),
            about="The last 200 trades closed in the range. The console's page has all, with each one's story.",
            unit="none",
            none=NOT_HERE,
            asks=[Query(_TRADES)],
        ),
    ]


def spreads() -> Panels:
    """Results by day and by multiple of risk."""
    return [
        panel(
            bars("day").color_scheme(by_threshold()).thresholds(GAIN).decimals(2),
            16,
            "PnL by day, $currency",
            at=place(0, 31, 12, 8),
            about="Trades closed in each trading day (until 17:00 New York) of the range. Over more than 100 days a "
            "bar is a week, over more than 700 a month, named by its first day.",
            unit=MONEY,
            none=NOT_HERE,
            asks=[Query(_BY_DAY)],
        ),
        panel(
            bars("R")
            .stacking(kinds.StackingMode.NORMAL)
            .decimals(0)
            .override_by_name("Losses", given(color=painted(RED)))
            .override_by_name("Wins and even", given(color=painted(GREEN))),
            17,
            "Distribution of R",
            at=place(12, 31, 12, 8),
            about="How many trades of the whole run ended at which multiple of their initial risk, in steps of a half.",
            unit="none",
            none="No trade with a stop yet",
            asks=[Query(_BY_R)],
        ),
    ]


def runs(uid: str) -> cog.Builder[model.Panel]:
    """Every run of the trader; a click leads to the dashboard `uid` with the run and all of its time."""
    link = {"title": "Show this run with all of its time", "url": f"/d/{uid}{_TO_RUN}", "targetBlank": False}
    return panel(
        listing()
        .decimals(2)
        .override_by_regexp("/^(deployed|data_from|data_to)$/", moments())
        .override_by_name("data_from", given(displayName="data from"))
        .override_by_name("data_to", given(displayName="data to"))
        .override_by_name("run", given(links=[link], custom__width=260))
        .override_by_name("phase", given(mappings=words(PHASES), custom__cellOptions={"type": "color-text"}))
        .override_by_name("trades", given(decimals=0))
        .override_by_name("pnl", given(displayName="PnL", unit=MONEY))
        .override_by_name("max_drawdown", given(displayName="max drawdown", unit=MONEY))
        .override_by_name("win_rate", given(displayName="win rate", unit="percentunit", decimals=1))
        .override_by_name("expectancy_r", given(displayName="expectancy, R", decimals=3))
        .override_by_regexp("/^(trader|from_ms|to_ms)$/", given(**HIDDEN)),
        18,
        "Runs",
        at=place(0, 49, 24, 10),
        about="The trader's last 50 deployments. A click on a run shows it in its own range of time.",
        unit="none",
        none=NO_RUN,
        asks=[Query(_RUNS)],
    )
