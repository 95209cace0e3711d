"""The dashboard *Trading*: how a run stands, its equity, its trades, and every other run to look at instead.

Times are the run's own, years back in a replay; which run is the latest is by the wall's clock. Figures of a whole
run come from sums the recorder keeps, curves over wide ranges from its rollups, so that a run of a million trades
costs what a small one does. Each query stands beside its panel.
"""

from __future__ import annotations

from grafana_foundation_sdk.builders import common, dashboard, stat, text
from grafana_foundation_sdk.cog import builder as cog
from grafana_foundation_sdk.models import common as kinds
from grafana_foundation_sdk.models import dashboard as model
from grafana_foundation_sdk.models import text as text_kinds

from grafana.choices import PHASES, run_choice, trader_choice
from grafana.panels import (
    BLUE,
    GREEN,
    GREY,
    HIDDEN,
    ORANGE,
    RED,
    Panels,
    Query,
    bars,
    by_threshold,
    chosen,
    curve,
    desk_dashboard,
    figure,
    fixed,
    given,
    listing,
    painted,
    panel,
    place,
    steps,
    words,
)

UID = "desk-trading"
_MONEY = "locale"  # 10,123.45: the run's currency stands in the title
_PRICE_DECIMALS = 5
_NO_RUN = "No run yet"
_NOT_HERE = "Nothing in this range: pick a run below, or Current run above"
_GAIN = steps((None, RED), (0, GREEN))
_OUTCOMES = {"win": GREEN, "loss": RED, "breakeven": GREY}

# --- variables
_INSTRUMENTS = "SELECT instrument FROM grafana.run_instruments WHERE run_id = '$run' ORDER BY place"
_CURRENCY = "SELECT currency FROM grafana.runs WHERE run_id = '$run'"

# --- how the run stands
_CONTROL = """\
<a href="/?open=deploy" target="_self"><b>Deploy…</b></a> &nbsp;·&nbsp;
<a href="/?open=stop" target="_self"><b>Stop…</b></a> &nbsp;·&nbsp;
<a href="/" target="_self">Overview</a> &nbsp;·&nbsp;
<a href="/trades" target="_self">Trades</a> &nbsp;·&nbsp;
<a href="/risk" target="_self">Limits and halts</a> &nbsp;·&nbsp;
<a href="/alerts" target="_self">Alerts</a> &nbsp;·&nbsp;
<a href="/docs/emergency#it-will-not-stop" target="_self">It will not stop</a> &nbsp;·&nbsp;
<a href="/docs/reading-the-numbers" target="_self">What the numbers mean</a>
"""
_PHASE = "SELECT phase FROM grafana.runs WHERE run_id = '$run'"
# When a run ends by itself is known to the trader alone, who says so beside the events.
_TIME_LEFT = """
SELECT CASE WHEN r.phase IN ('STARTING', 'MONITORING', 'STOPPING')
    THEN greatest(extract(epoch FROM d.expected_completion - now()), 0)::float8 END AS time_left
FROM grafana.runs AS r JOIN grafana.deployments AS d ON d.trader = r.trader AND d.run_id = r.run_id
WHERE r.trader = '$trader' AND r.run_id = '$run'"""
_STANDING = "SELECT {column}::float8 AS {column} FROM grafana.standing WHERE run_id = '$run'"
_RESULT = (
    "SELECT {column}::float8 AS {column} FROM grafana.results WHERE trader = '$trader' AND run_id = '$run'"
)

# --- equity: the level that has about as many rows as the curve has points, from one stretch before the range on
_LEVEL = """CASE WHEN $__interval_ms < 60000 THEN 'mark' WHEN $__interval_ms < 1200000 THEN 'minute'
        WHEN $__interval_ms < 86400000 THEN 'hour' ELSE 'day' END"""
_SINCE = """$__timeFrom()::timestamptz
        - make_interval(secs => greatest($__interval_ms, CASE WHEN $__interval_ms < 1200000 THEN 0 ELSE 3600000 END)
            / 1000.0)"""
_STRETCHES = f"""grafana.equity
    WHERE trader = '$trader' AND run_id = '$run'
        AND level = {_LEVEL}
        AND time BETWEEN {_SINCE} AND $__timeTo()"""
_EQUITY = f"""
SELECT $__timeGroup(time, '$__interval') AS time, (array_agg(equity ORDER BY seq DESC))[1] AS "Equity"
FROM {_STRETCHES}
GROUP BY 1 ORDER BY 1"""
# Within a rollup it is not known whether the high or the low came first. Where the run's deepest drawdown grew, it
# grew there; elsewhere the low counts from the peak before, or from the high of a stretch that fell.
_DRAWDOWN = f"""
WITH before AS (
    SELECT peak::float8 AS peak, max_drawdown::float8 AS deepest FROM grafana.marks
    WHERE run_id = '$run' AND time < {_SINCE} ORDER BY time DESC LIMIT 1)
SELECT $__timeGroup(time, '$__interval') AS time, 0 - max(deepest) AS "Drawdown"
FROM (
    SELECT time, coalesce(drawdown, CASE
        WHEN max_drawdown > coalesce(lag(max_drawdown) OVER (ORDER BY seq), (SELECT deepest FROM before), 0)
            THEN max_drawdown
        ELSE least(max_drawdown, greatest((SELECT peak FROM before), first,
            max(high) OVER (ORDER BY seq ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING),
            CASE WHEN equity < first THEN high END) - low) END) AS deepest
    FROM {_STRETCHES}) AS stretches
GROUP BY 1 ORDER BY 1"""

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
    f"/d/{UID}?var-trader=${{__data.fields.trader}}&var-run=${{__data.fields.run}}"
    "&from=${__data.fields.from_ms}&to=${__data.fields.to_ms}"
)


def made() -> dashboard.Dashboard:
    """The whole dashboard."""
    board = (
        desk_dashboard(
            UID,
            "Trading",
            about="One run: how it stands, its equity and its trades. Times are UTC and the run's own.",
            emergency="/docs/emergency#it-will-not-stop",
        )
        .with_variable(trader_choice())
        .with_variable(run_choice())
        .with_variable(chosen("instrument", "Instrument", _INSTRUMENTS, about="Whose price is drawn."))
        .with_variable(
            chosen("currency", "Currency", _CURRENCY, about="What the run's money is in.", shown=False)
        )
    )
    for each in [*_standing(), *_curves(), *_positions(), *_trades(), *_spreads(), _runs()]:
        board.with_panel(each)
    return board


def _standing() -> Panels:
    control = panel(
        text.Panel().mode(text_kinds.TextMode.HTML).content(_CONTROL),
        1,
        "Control",
        at=place(0, 0, 24, 3),
        about="Deploy and Stop open on the desk's own page, which asks before it does anything.",
        unit="none",
        none="-",
    )
    phase = panel(
        figure("phase").mappings(words(PHASES)).color_mode(kinds.BigValueColorMode.BACKGROUND),
        2,
        "Phase",
        at=place(0, 3, 3, 4),
        about="What the deployment does now, or how it ended.",
        unit="string",
        none=_NO_RUN,
        asks=[Query(_PHASE)],
    )
    left = panel(
        figure("time_left").decimals(0),
        3,
        "Time left",
        at=place(3, 3, 3, 4),
        about="Until the run ends by itself, by the wall's clock. Nothing when it is over, or no end is known: "
        "a replay at full speed ends with its data.",
        unit="dtdurations",
        none="Over, or no end set",
        asks=[Query(_TIME_LEFT)],
    )
    return [control, phase, left, *_figures()]


def _figures() -> Panels:
    def money(number: int, x: int, title: str, query: str, column: str, about: str) -> stat.Panel:
        return panel(
            figure(column).decimals(2),
            number,
            f"{title}, $currency",
            at=place(x, 3, 3, 4),
            about=about,
            unit=_MONEY,
            none=_NO_RUN,
            asks=[Query(query.format(column=column))],
        )

    def ratio(
        number: int, x: int, title: str, column: str, unit: str, decimals: int, about: str
    ) -> stat.Panel:
        return panel(
            figure(column).decimals(decimals),
            number,
            title,
            at=place(x, 3, 3, 4),
            about=about,
            unit=unit,
            none="–",
            asks=[Query(_RESULT.format(column=column))],
        )

    pnl = money(6, 12, "PnL", _RESULT, "pnl", "All closed trades, net of spread, slippage and commission.")
    return [
        money(4, 6, "Equity", _STANDING, "equity", "Balance and unrealised, at the last mark."),
        money(
            5, 9, "Drawdown", _STANDING, "drawdown", "How far equity is below its highest, at the last mark."
        ),
        pnl.thresholds(_GAIN).color_mode(kinds.BigValueColorMode.VALUE),
        ratio(7, 15, "Win rate", "win_rate", "percentunit", 1, "Wins of all closed trades of the run."),
        ratio(
            8,
            18,
            "Profit factor",
            "profit_factor",
            "none",
            2,
            "What wins made over what losses cost.",
        ),
        ratio(
            9,
            21,
            "Expectancy, R",
            "expectancy_r",
            "none",
            3,
            "What a trade makes on average, in initial risks.",
        ),
    ]


def _curves() -> Panels:
    equity = panel(
        curve().color_scheme(fixed(BLUE)).fill_opacity(8).decimals(2),
        10,
        "Equity, $currency",
        at=place(0, 7, 16, 9),
        about="Balance and unrealised: the last mark of each stretch of time.",
        unit=_MONEY,
        none=_NOT_HERE,
        asks=[Query(_EQUITY, series=True)],
    )
    drawdown = panel(
        curve().color_scheme(fixed(RED)).fill_opacity(25).decimals(2).max(0).axis_soft_min(-1),
        11,
        "Drawdown, $currency",
        at=place(0, 16, 16, 5),
        about="How far equity was below its highest until then: the deepest of each stretch of time, so none is lost.",
        unit=_MONEY,
        none=_NOT_HERE,
        asks=[Query(_DRAWDOWN, series=True)],
    )
    return [equity, drawdown]


def _positions() -> Panels:
    position = panel(
        listing()
        .decimals(_PRICE_DECIMALS)
        .override_by_name("entry_time", given(displayName="opened", unit="dateTimeAsIso", custom__width=150))
        .override_by_name("amount", given(unit="locale", decimals=0))
        .override_by_name("risk", given(unit=_MONEY, decimals=2)),
        12,
        "Open position",
        at=place(16, 7, 8, 5),
        about="What is open as recorded, a moment behind the trader; price is what closing it would get now.",
        unit="none",
        none="Flat: nothing is open",
        asks=[Query(_OPEN)],
    )
    strategies = panel(
        bars("strategy").color_scheme(by_threshold()).thresholds(_GAIN).decimals(2),
        13,
        "PnL by strategy, $currency",
        at=place(16, 12, 8, 9),
        about="Closed trades of the whole run, by the strategy that opened them.",
        unit=_MONEY,
        none="No trade yet",
        asks=[Query(_BY_STRATEGY)],
    )
    return [position, strategies]


def _trades() -> Panels:
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
    legend = common.VizLegendOptions().show_legend(True).display_mode(kinds.LegendDisplayMode.LIST)
    return [
        panel(
            price.legend(legend.placement(kinds.LegendPlacement.BOTTOM)),
            14,
            "$instrument and its trades",
            at=place(0, 21, 24, 10),
            about="The middle of bid and ask, and where the last 500 trades of the range began and ended.",
            unit="none",
            none=_NOT_HERE,
            asks=[Query(_PRICE, series=True), *(marker for marker, _ in _MARKERS)],
        ),
        panel(
            listing()
            .decimals(_PRICE_DECIMALS)
            .override_by_regexp("/^(closed|opened)$/", given(unit="dateTimeAsIso", custom__width=165))
            .override_by_name("trade", given(decimals=0, custom__width=80))
            .override_by_name("amount", given(unit="locale", decimals=0))
            .override_by_name("balance", given(unit=_MONEY, decimals=2))
            .override_by_name("r", given(displayName="R", decimals=2))
            .override_by_name(
                "pnl",
                given(
                    displayName="PnL",
                    unit=_MONEY,
                    decimals=2,
                    thresholds={
                        "mode": "absolute",
                        "steps": [{"value": None, "color": RED}, {"value": 0, "color": GREEN}],
                    },
                    color={"mode": "thresholds"},
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
            none=_NOT_HERE,
            asks=[Query(_TRADES)],
        ),
    ]


def _spreads() -> Panels:
    return [
        panel(
            bars("day").color_scheme(by_threshold()).thresholds(_GAIN).decimals(2),
            16,
            "PnL by day, $currency",
            at=place(0, 31, 12, 8),
            about="Trades closed in each trading day (until 17:00 New York) of the range. Over more than 100 days a "
            "bar is a week, over more than 700 a month, named by its first day.",
            unit=_MONEY,
            none=_NOT_HERE,
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


def _runs() -> cog.Builder[model.Panel]:
    link = {"title": "Show this run with all of its time", "url": _TO_RUN, "targetBlank": False}
    return panel(
        listing()
        .decimals(2)
        .override_by_regexp(
            "/^(deployed|data_from|data_to)$/", given(unit="dateTimeAsIso", custom__width=165)
        )
        .override_by_name("data_from", given(displayName="data from"))
        .override_by_name("data_to", given(displayName="data to"))
        .override_by_name("run", given(links=[link], custom__width=260))
        .override_by_name("phase", given(mappings=words(PHASES), custom__cellOptions={"type": "color-text"}))
        .override_by_name("trades", given(decimals=0))
        .override_by_name("pnl", given(displayName="PnL", unit=_MONEY))
        .override_by_name("max_drawdown", given(displayName="max drawdown", unit=_MONEY))
        .override_by_name("win_rate", given(displayName="win rate", unit="percentunit", decimals=1))
        .override_by_name("expectancy_r", given(displayName="expectancy, R", decimals=3))
        .override_by_regexp("/^(trader|from_ms|to_ms)$/", given(**HIDDEN)),
        18,
        "Runs",
        at=place(0, 49, 24, 10),
        about="The trader's last 50 deployments. A click on a run shows it in its own range of time.",
        unit="none",
        none=_NO_RUN,
        asks=[Query(_RUNS)],
    )
