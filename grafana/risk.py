"""The dashboard *Risk*: each limit against its use, what the guard said of orders and why, halts with their story.

Halts and commands happen by the wall's clock, also in a replay, so the times here are the wall's, unlike Trading's.
The recorder writes the limits and their use down every two seconds, as the API shows them.
"""

from __future__ import annotations

from grafana_foundation_sdk.builders import common, dashboard
from grafana_foundation_sdk.cog import builder as cog
from grafana_foundation_sdk.models import common as kinds
from grafana_foundation_sdk.models import dashboard as model

from grafana.choices import run_choice, trader_choice
from grafana.panels import (
    BLUE,
    DIM,
    GREEN,
    METER,
    ORANGE,
    RED,
    STRETCH,
    Panels,
    Query,
    bars,
    by_threshold,
    control,
    curve,
    desk_dashboard,
    figure,
    given,
    listing,
    moments,
    named_below,
    painted,
    panel,
    phase,
    place,
    shaded,
    steps,
)

UID = "desk-risk"
_NO_LIMITS = "Limits are not known yet: the guard has not said them"
_NO_RUN = "No run yet"
_USED = ((None, GREEN), (0.6, ORANGE), (0.8, RED))

_CONTROL = (
    ("/?open=stop", "Stop…"),
    ("/risk", "Change limits, reset a halt"),
    ("/alerts", "Alerts"),
    ("/docs/limits", "What each limit does"),
    ("/docs/emergency#a-limit-is-near", "A limit is near"),
    ("/docs/emergency#a-halt", "A halt"),
    ("/docs/emergency#it-will-not-stop", "It will not stop"),
)
_PHASE = "SELECT phase FROM grafana.deployments WHERE trader = '$trader'"
_SHARE = "SELECT share AS used FROM grafana.limits WHERE trader = '$trader' AND name = '{name}'"
_VERDICT = (
    "SELECT {what}::float8 AS {what} FROM grafana.verdicts WHERE trader = '$trader' AND run_id = '$run'"
)
# A limit that only denies is used up every day, one position of one: no colour warns of that, and no line.
_LIMITS = """
SELECT name AS "limit", value, bound::float8 AS bound, used::float8 AS used,
    CASE WHEN action IN ('halt', 'pause') THEN share END AS share,
    CASE WHEN action NOT IN ('halt', 'pause') THEN share END AS taken, action, meaning
FROM grafana.limits WHERE trader = '$trader' ORDER BY place"""
_USE_OVER_TIME = f"""
SELECT time, split_part(part, ' ', 2) AS metric, used
FROM (SELECT {STRETCH} AS time, part,
        max(value) AS used
    FROM grafana.minutes
    WHERE measure = 'limit_use' AND $__timeFilter(time) AND part IN (
        SELECT trader || ' ' || name FROM grafana.limits WHERE trader = '$trader' AND action IN ('halt', 'pause'))
    GROUP BY 1, 2) AS stretches
ORDER BY 1, 2"""
_DENIALS = """
SELECT code AS reason, orders::float8 AS "Orders" FROM grafana.denial_reasons
WHERE trader = '$trader' AND run_id = '$run' ORDER BY orders DESC, code LIMIT 20"""
_DENIED = """
SELECT code AS reason, orders, last_text FROM grafana.denial_reasons
WHERE trader = '$trader' AND run_id = '$run' ORDER BY orders DESC, code LIMIT 50"""
# A guard that was away says of a halt when it is back, after the trader was flat.
_HALTS = """
SELECT halted, halted_by, reason,
    extract(epoch FROM CASE WHEN flat < halted THEN interval '0' ELSE flat - halted END)::float8 AS flat_after, closed,
    pnl::float8 AS pnl, reset, reset_by, reset_reason, run_id AS run
FROM grafana.halts WHERE trader = '$trader' ORDER BY halted DESC LIMIT 50"""
# By the last of them and not by the range of time: there are few, and none is too old to matter.
_LAST_BLOCKS = """(SELECT stored, verb, by, blocked, flat, done FROM grafana.halt_latencies
    WHERE trader = '$trader' AND verb = 'halt' AND blocked IS NOT NULL ORDER BY stored DESC LIMIT 30) AS latest"""
_BLOCKED = f"""
SELECT to_char(stored AT TIME ZONE 'UTC', 'MM-DD HH24:MI:SS') AS stored, blocked AS "Blocked"
FROM {_LAST_BLOCKS} ORDER BY latest.stored"""
_LATENCY = "SELECT {share} AS seconds FROM {last}"
_BLOCKING = """
SELECT stored, verb, by, reason, blocked, flat, done FROM grafana.halt_latencies
WHERE trader = '$trader' ORDER BY stored DESC LIMIT 50"""
_HISTORY = """
SELECT recorded AS changed, action, by, reason, old::text AS old, new::text AS new, run_id AS run
FROM grafana.limit_history WHERE trader = '$trader' ORDER BY recorded DESC LIMIT 50"""


def made() -> dashboard.Dashboard:
    """The whole dashboard."""
    board = (
        desk_dashboard(
            UID,
            "Risk",
            about="The guard's limits and their use, what it said of orders, and every halt. Times are "
            "the clock's, UTC.",
            emergency="/docs/emergency#a-limit-is-near",
        )
        .time("now-24h", "now")
        .with_variable(trader_choice())
        .with_variable(run_choice())
    )
    for each in (*_standing(), *_limits(), *_verdicts(), *_halts(), _history()):
        board.with_panel(each)
    return board


def _standing() -> Panels:
    ways = control(
        *_CONTROL, about="Stop and limits open on the desk's own pages, which ask before they do anything."
    )
    stands = phase(
        _PHASE,
        3,
        at=place(0, 2, 6, 4),
        about="What the trader's deployment does now. Halted: nothing can be deployed until somebody "
        "resets it.",
    )
    shares = [
        panel(
            figure("used").thresholds(steps(*_USED)).color_mode(kinds.BigValueColorMode.VALUE).decimals(1),
            number,
            title,
            at=place(x, 2, 5, 4),
            about=about,
            unit="percentunit",
            none="Nothing to measure yet",
            asks=[Query(_SHARE.format(name=name))],
        )
        for number, x, title, name, about in (
            (4, 6, "Of the drawdown limit", "drawdown", "At 100 % the guard halts; a mail is sent at 80 %."),
            (
                5,
                11,
                "Of the daily loss",
                "daily_loss",
                "At 100 % no entry until the next trading day; a mail at 80 %.",
            ),
        )
    ]
    counts = [
        panel(
            figure(what)
            .thresholds(steps((None, color)))
            .color_mode(kinds.BigValueColorMode.VALUE)
            .decimals(0),
            number,
            title,
            at=place(x, 2, 4, 4),
            about=about,
            unit="short",
            none=_NO_RUN,
            asks=[Query(_VERDICT.format(what=what))],
        )
        for number, x, title, what, color, about in (
            (6, 16, "Approved", "approved", DIM, "Orders of the run that the guard let go."),
            (
                7,
                20,
                "Denied",
                "denied",
                ORANGE,
                "Orders of the run that were refused, by the guard or for want of its word.",
            ),
        )
    ]
    return [ways, stands, *shares, *counts]


def _limits() -> Panels:
    limits = panel(
        listing()
        .decimals(2)
        .override_by_name("limit", given(custom__width=180))
        .override_by_name("value", given(displayName="set to", unit="string", custom__width=80))
        .override_by_name("bound", given(displayName="comes to", custom__width=90))
        .override_by_name("used", given(custom__width=90))
        .override_by_name(
            "share",
            given(
                displayName="until it acts",
                unit="percentunit",
                decimals=0,
                min=0,
                max=1,
                **shaded(*_USED),
                **METER,
                custom__width=130,
            ),
        )
        .override_by_name(
            "taken",
            given(
                displayName="taken up",
                unit="percentunit",
                decimals=0,
                min=0,
                max=1,
                color=painted(BLUE),
                **METER,
                custom__width=130,
            ),
        )
        .override_by_name("action", given(custom__width=70)),
        2,
        "Limits and their use",
        at=place(0, 6, 14, 15),
        about="Every limit in force, and of those that can be measured how much is used: of one that halts or "
        "pauses, how near that is; of one that only denies, how much is taken up.",
        unit="none",
        none=_NO_LIMITS,
        asks=[Query(_LIMITS)],
    )
    lines = common.GraphThresholdsStyleConfig().mode(kinds.GraphThresholdsStyleMode.DASHED)
    over_time = panel(
        curve()
        .interval("1m")
        .min(0)
        .axis_soft_max(1)
        .thresholds(steps((None, "transparent"), (0.8, RED)))
        .thresholds_style(lines)
        .legend(named_below()),
        8,
        "Limits that halt or pause, over time",
        at=place(14, 6, 10, 15),
        about="The most of each that was used in a minute, by the clock; kept for a week. The line "
        "is at 80 %.",
        unit="percentunit",
        none="No use was measured in this range",
        asks=[Query(_USE_OVER_TIME, series=True)],
    )
    return [limits, over_time]


def _verdicts() -> Panels:
    return [
        panel(
            bars("reason").color_scheme(by_threshold()).thresholds(steps((None, ORANGE))).decimals(0),
            9,
            "Denials by reason",
            at=place(0, 21, 10, 8),
            about="Orders of the run by why they were denied; one denied for two reasons counts under both.",
            unit="short",
            none="No order of this run was denied",
            asks=[Query(_DENIALS)],
        ),
        panel(
            listing()
            .override_by_name("reason", given(custom__width=190))
            .override_by_name("orders", given(custom__width=80))
            .override_by_name("last_text", given(displayName="as the last was told")),
            10,
            "Why orders were denied",
            at=place(10, 21, 14, 8),
            about="Each reason, how many orders it stopped, and how the last of them was told.",
            unit="none",
            none="No order of this run was denied",
            asks=[Query(_DENIED)],
        ),
    ]


def _halts() -> Panels:
    halts = panel(
        listing()
        .override_by_regexp("/^(halted|reset)$/", moments())
        .override_by_name("halted_by", given(displayName="by"))
        .override_by_name("flat_after", given(displayName="flat after", unit="s", decimals=1))
        .override_by_name("closed", given(displayName="trades closed"))
        .override_by_name("pnl", given(displayName="their PnL", unit="locale", decimals=2))
        .override_by_name("reset_by", given(displayName="reset by"))
        .override_by_name("reset_reason", given(displayName="why reset")),
        11,
        "Halts, and who reset them",
        at=place(0, 29, 24, 8),
        about="The last 50: who halted and why, how long until flat, what was closed; and who cleared it, "
        "with which "
        "reason. An empty reset still stands.",
        unit="none",
        none="This trader was never halted",
        asks=[Query(_HALTS)],
    )
    figures = [
        panel(
            figure("seconds").thresholds(steps((None, BLUE))).color_mode(kinds.BigValueColorMode.VALUE).decimals(1),
            number,
            title,
            at=place(x, 37, 4, 8),
            about=about,
            unit="s",
            none="No halt was ever measured",
            asks=[Query(_LATENCY.format(share=share, last=_LAST_BLOCKS) + having)],
        )
        for number, x, title, share, having, about in (
            (12, 0, "Halt: typical time to block", "percentile_cont(0.5) WITHIN GROUP (ORDER BY blocked)",
             " HAVING count(*) > 0", "The median of the last 30, from stored to blocked: no new risk can leave then."),
            (13, 4, "Halt: slowest to block", "max(blocked)", " HAVING count(*) > 0",
             "The slowest of the last 30, from stored to blocked."),
        )
    ]  # fmt: skip
    blocked = panel(
        bars("stored").color_scheme(by_threshold()).thresholds(steps((None, BLUE))),
        14,
        "Halts: time until blocked",
        at=place(8, 37, 16, 8),
        about="The last 30 halts, from the command being stored until the trader said that no new risk "
        "can leave.",
        unit="s",
        none="No halt was ever measured",
        asks=[Query(_BLOCKED)],
    )
    commands = panel(
        listing()
        .override_by_name("stored", moments())
        .override_by_regexp("/^(blocked|flat|done)$/", given(unit="s", decimals=3, custom__width=100)),
        15,
        "Halts and stops as they were carried out",
        at=place(0, 45, 12, 9),
        about="The last 50 commands, and how long after being stored the trader said blocked, flat and "
        "done. Empty: it "
        "has not said so.",
        unit="none",
        none="Nobody has halted or stopped this trader yet",
        asks=[Query(_BLOCKING)],
    )
    return [halts, *figures, blocked, commands]


def _history() -> cog.Builder[model.Panel]:
    return panel(
        listing().override_by_name("changed", moments()).override_by_name("action", given(custom__width=80)),
        16,
        "Limits changed, entries paused",
        at=place(12, 45, 12, 9),
        about="The last 50 changes of limits, pauses, halts and resets: who, why, old and new.",
        unit="none",
        none="No limit was ever changed",
        asks=[Query(_HISTORY)],
    )
