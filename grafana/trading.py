"""The dashboard *Trading*: how a run stands and its equity; what it trades is `trades`' business.

Times are the run's own, years back in a replay; which run is the latest is by the wall's clock. Figures of a whole
run come from sums the recorder keeps, curves over wide ranges from its rollups, so that a run of a million trades
costs what a small one does. Each query stands beside its panel.
"""

from __future__ import annotations

from grafana_foundation_sdk.builders import dashboard, stat
from grafana_foundation_sdk.models import common as kinds

from grafana.choices import run_choice, trader_choice
from grafana.panels import (
    BLUE,
    RED,
    Panels,
    Query,
    chosen,
    control,
    curve,
    desk_dashboard,
    figure,
    fixed,
    panel,
    phase,
    place,
)
from grafana.trades import GAIN, MONEY, NO_RUN, NOT_HERE, closed, positions, runs, spreads

UID = "desk-trading"

# --- variables
_INSTRUMENTS = "SELECT instrument FROM grafana.run_instruments WHERE run_id = '$run' ORDER BY place"
_CURRENCY = "SELECT currency FROM grafana.runs WHERE run_id = '$run'"

# --- how the run stands
_CONTROL = (
    ("/?open=deploy", "Deploy…"),
    ("/?open=stop", "Stop…"),
    ("/", "Overview"),
    ("/trades", "Trades"),
    ("/risk", "Limits and halts"),
    ("/alerts", "Alerts"),
    ("/docs/emergency#it-will-not-stop", "It will not stop"),
    ("/docs/reading-the-numbers", "What the numbers mean"),
)
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
    for each in [*_standing(), *_curves(), *positions(), *closed(), *spreads(), runs(UID)]:
        board.with_panel(each)
    return board


def _standing() -> Panels:
    ways = control(
        *_CONTROL,
        about="Deploy and Stop open on the desk's own page, which asks before it does anything.",
        height=3,
    )
    stands = phase(_PHASE, 2, at=place(0, 3, 3, 4), about="What the deployment does now, or how it ended.")
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
    return [ways, stands, left, *_figures()]


def _figures() -> Panels:
    def money(number: int, x: int, title: str, query: str, column: str, about: str) -> stat.Panel:
        return panel(
            figure(column).decimals(2),
            number,
            f"{title}, $currency",
            at=place(x, 3, 3, 4),
            about=about,
            unit=MONEY,
            none=NO_RUN,
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
        pnl.thresholds(GAIN).color_mode(kinds.BigValueColorMode.VALUE),
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
        unit=MONEY,
        none=NOT_HERE,
        asks=[Query(_EQUITY, series=True)],
    )
    drawdown = panel(
        curve().color_scheme(fixed(RED)).fill_opacity(25).decimals(2).max(0).axis_soft_min(-1),
        11,
        "Drawdown, $currency",
        at=place(0, 16, 16, 5),
        about="How far equity was below its highest until then: the deepest of each stretch of time, so none is lost.",
        unit=MONEY,
        none=NOT_HERE,
        asks=[Query(_DRAWDOWN, series=True)],
    )
    return [equity, drawdown]
