"""The dashboard *Operations*: who is alive, how far the recorder is, what is kept where, backups, versions.

Its times are the wall's clock. What it shows the recorder writes down every two seconds, so when the recorder is
gone everything here stands still, and the recorder's own row says for how long.
"""

from __future__ import annotations

from collections.abc import Sequence

from grafana_foundation_sdk.builders import dashboard, stat, timeseries
from grafana_foundation_sdk.models import common as kinds
from grafana_foundation_sdk.models import dashboard as model

from grafana.panels import (
    BLUE,
    GREEN,
    METER,
    ORANGE,
    RED,
    STRETCH,
    Panels,
    Query,
    control,
    curve,
    desk_dashboard,
    figure,
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
)

UID = "desk-operations"
_NOT_WRITTEN = "The recorder has not written any down in this range"

_CONTROL = (
    ("/", "Console"),
    ("/settings", "Settings"),
    ("/docs/operations", "Operations, explained"),
    ("/docs/emergency#a-service-is-silent", "A service is silent"),
    ("/docs/emergency#the-recorder-is-behind", "The recorder is behind"),
    ("/docs/emergency#nats-or-the-database-is-down", "NATS or the database is down"),
    ("/docs/emergency#dead-letters", "Dead letters"),
    ("/docs/emergency#no-backup", "No backup"),
)
_SERVICES = """
SELECT service, instance, state, age, lag, version, heard FROM grafana.services ORDER BY service, instance"""
_SILENCE = """
SELECT max(silent) AS seconds
FROM (SELECT min(silent) AS silent FROM grafana.services GROUP BY service) AS each"""
_PENDING = "SELECT sum(pending)::float8 AS messages FROM grafana.streams"
_LETTERS = "SELECT sum(letters)::float8 AS letters FROM grafana.dead_letter_counts"
_BACKUP = "SELECT age FROM grafana.backup_age"
_LAG = f"""
SELECT {STRETCH} AS time, part AS metric, max(value) AS messages FROM grafana.minutes
WHERE measure = 'lag' AND $__timeFilter(time) GROUP BY 1, 2 ORDER BY 1, 2"""
_BATCHES = f"""
SELECT {STRETCH} AS time, max(value) FILTER (WHERE measure = 'batch_longest') AS "Longest",
    sum(value) FILTER (WHERE measure = 'batch_seconds')
        / nullif(sum(value) FILTER (WHERE measure = 'batches'), 0) AS "Mean"
FROM grafana.minutes
WHERE measure IN ('batches', 'batch_seconds', 'batch_longest') AND $__timeFilter(time) GROUP BY 1 ORDER BY 1"""
_RECORDED = f"""
SELECT {STRETCH} AS time, sum(value) / greatest($__interval_ms / 1000.0, 60) AS "Recorded"
FROM grafana.minutes WHERE measure = 'recorded' AND $__timeFilter(time) GROUP BY 1 ORDER BY 1"""
_STREAM_BYTES = f"""
SELECT {STRETCH} AS time, part AS metric, max(value) AS bytes FROM grafana.minutes
WHERE measure = 'stream_bytes' AND $__timeFilter(time) GROUP BY 1, 2 ORDER BY 1, 2"""
_STREAMS = """
SELECT stream, messages::float8 AS messages, bytes::float8 AS bytes, max_bytes::float8 AS max_bytes, share,
    pending::float8 AS pending, stalled, first_seq::float8 AS first_seq, last_seq::float8 AS last_seq, first_time,
    last_time
FROM grafana.streams ORDER BY stream LIKE 'KV%', stream"""
_DATABASE_BYTES = f"""
SELECT {STRETCH} AS time, max(value) AS "Database" FROM grafana.minutes
WHERE measure = 'database_bytes' AND $__timeFilter(time) GROUP BY 1 ORDER BY 1"""
_VERSIONS = "SELECT part, version FROM grafana.versions ORDER BY part"
_LETTER_LIST = """
SELECT received, stream, subject, reason, bytes FROM grafana.dead_letter_list ORDER BY received DESC LIMIT 50"""
_BACKUPS = """
SELECT finished, name, bytes::float8 AS bytes, coalesce(problem, 'verified') AS checked, sha256
FROM grafana.backup_list ORDER BY finished DESC LIMIT 50"""


def made() -> dashboard.Dashboard:
    """The whole dashboard."""
    board = desk_dashboard(
        UID,
        "Operations",
        about="Whether everything runs, and how full it is. Times are the clock's, UTC.",
        emergency="/docs/emergency#a-service-is-silent",
    ).time("now-6h", "now")
    for each in (*_alive(), *_recorder(), *_streams(), *_kept()):
        board.with_panel(each)
    return board


def _alive() -> Panels:
    services = panel(
        listing()
        .override_by_name(
            "age",
            given(
                displayName="heard",
                unit="s",
                decimals=0,
                **shaded((None, GREEN), (5, ORANGE), (15, RED)),
                custom__cellOptions={"type": "color-text"},
                custom__width=110,
            ),
        )
        .override_by_name("instance", given(unit="string"))
        .override_by_name("lag", given(displayName="behind by", decimals=0, custom__width=100))
        .override_by_name("heard", given(displayName="last heard", unit="dateTimeAsIso", custom__width=165)),
        2,
        "Services",
        at=place(0, 2, 14, 8),
        about="Every service the desk needs and each of its instances: what it last said of itself, and "
        "how long ago. "
        "Instances are forgotten after a day.",
        unit="none",
        none="The recorder has not written anything down yet",
        asks=[Query(_SERVICES)],
    )
    silence = _number(
        3,
        "Longest silence",
        Query(_SILENCE),
        "seconds",
        at=place(14, 2, 5, 4),
        about="How long the most silent of the services has not been heard; several instances count as one. "
        "A mail at 30 s.",
        unit="s",
        none="Nothing written down yet",
        colors=((None, GREEN), (5, ORANGE), (15, RED)),
    )
    pending = _number(
        5,
        "Not recorded yet",
        Query(_PENDING),
        "messages",
        at=place(19, 2, 5, 4),
        about="Messages in all streams that the recorder has not written to the database. A mail above 20,000 for a "
        "minute, and when none has been written for a minute.",
        unit="short",
        none="Nothing written down yet",
        colors=((None, GREEN), (5_000, ORANGE), (20_000, RED)),
    )
    letters = _number(
        6,
        "Dead letters",
        Query(_LETTERS),
        "letters",
        at=place(14, 6, 5, 4),
        about="Messages nobody could read, kept with the reason; counted up to 1,000 a stream. A mail when there are "
        "new ones.",
        unit="short",
        none="None",
        colors=((None, GREEN), (1, ORANGE)),
    )
    backup = _number(
        8,
        "Last good backup",
        Query(_BACKUP),
        "age",
        at=place(19, 6, 5, 4),
        about="How long ago the last backup was finished and verified; before the first, how old the desk is. A mail "
        "after 25 hours.",
        unit="s",
        none="Nothing written down yet",
        colors=((None, GREEN), (25 * 3600, RED)),
    ).decimals(1)
    ways = control(*_CONTROL, title="What to do", about="The desk's own pages.")
    return [ways, services, silence, pending, letters, backup]


def _recorder() -> Panels:
    return [
        panel(
            _several().min(0).decimals(0),
            4,
            "Not recorded yet, by stream",
            at=place(0, 10, 12, 8),
            about="The most messages that waited for the recorder in a minute. A replay at full speed "
            "makes more than can be "
            "written, and it is caught up after.",
            unit="short",
            none=_NOT_WRITTEN,
            asks=[Query(_LAG, series=True)],
        ),
        panel(
            _several()
            .min(0)
            .override_by_name("Longest", given(color=painted(ORANGE)))
            .override_by_name("Mean", given(color=painted(BLUE))),
            7,
            "Time a batch takes to write",
            at=place(12, 10, 12, 8),
            about="From the first statement to the commit: the mean of a minute's batches, and the longest.",
            unit="s",
            none=_NOT_WRITTEN,
            asks=[Query(_BATCHES, series=True)],
        ),
        panel(
            curve().interval("1m").color_scheme(fixed(BLUE)).min(0).fill_opacity(20),
            9,
            "Recorded",
            at=place(0, 18, 12, 8),
            about="Messages a second written to the database, by the minute, over all recorders.",
            unit="cps",
            none=_NOT_WRITTEN,
            asks=[Query(_RECORDED, series=True)],
        ),
        panel(
            _several().min(0),
            10,
            "Size of streams",
            at=place(12, 18, 12, 8),
            about="What NATS keeps on disk. A stream of events that is full refuses, and then there are "
            "no entries.",
            unit="bytes",
            none=_NOT_WRITTEN,
            asks=[Query(_STREAM_BYTES, series=True)],
        ),
    ]


def _streams() -> Panels:
    return [
        panel(
            listing()
            .override_by_regexp("/^(messages|pending|first_seq|last_seq)$/", given(unit="locale", decimals=0))
            .override_by_regexp("/^(bytes|max_bytes)$/", given(unit="bytes"))
            .override_by_regexp("/^(first_time|last_time)$/", moments())
            .override_by_name("max_bytes", given(displayName="limit"))
            .override_by_name("first_seq", given(displayName="first"))
            .override_by_name("last_seq", given(displayName="last"))
            .override_by_name("first_time", given(displayName="first stored"))
            .override_by_name("last_time", given(displayName="last stored"))
            .override_by_name("pending", given(displayName="not recorded"))
            .override_by_name("stalled", given(displayName="stalled for", unit="s", decimals=0))
            .override_by_name(
                "share",
                given(
                    displayName="full",
                    unit="percentunit",
                    decimals=1,
                    min=0,
                    max=1,
                    **shaded((None, GREEN), (0.7, ORANGE), (0.9, RED)),
                    **METER,
                    custom__width=150,
                ),
            ),
            11,
            "NATS streams",
            at=place(0, 26, 24, 8),
            about="Every stream and the buckets the recorder may read. Only EVENTS, COMMANDS and MARKET "
            "have a limit and are "
            "recorded; what is recorded and old is taken out of them.",
            unit="none",
            none="The recorder has not written any down yet",
            asks=[Query(_STREAMS)],
        )
    ]


def _kept() -> Panels:
    return [
        panel(
            curve().interval("1m").color_scheme(fixed(BLUE)).fill_opacity(20),
            12,
            "Size of the database",
            at=place(0, 34, 14, 8),
            about="All tables and indexes on disk, looked at once a minute.",
            unit="bytes",
            none=_NOT_WRITTEN,
            asks=[Query(_DATABASE_BYTES, series=True)],
        ),
        panel(
            listing(),
            13,
            "Versions",
            at=place(14, 34, 10, 8),
            about="What runs: the services by their own word, the servers, and the database's schema. Two "
            "versions in one "
            "row: not all instances are updated.",
            unit="string",
            none="Nothing has been heard yet",
            asks=[Query(_VERSIONS)],
        ),
        panel(
            listing()
            .override_by_name("received", moments())
            .override_by_name("bytes", given(unit="bytes", custom__width=90)),
            14,
            "Dead letters",
            at=place(0, 42, 12, 9),
            about="The last 50 messages nobody could read, and why. What they hold stays in the database.",
            unit="none",
            none="None: every message could be read",
            asks=[Query(_LETTER_LIST)],
        ),
        panel(
            listing()
            .override_by_name("finished", moments())
            .override_by_name("bytes", given(displayName="size", unit="bytes", custom__width=90))
            .override_by_regexp("/^(name|sha256)$/", given(unit="string")),
            15,
            "Backups",
            at=place(12, 42, 12, 9),
            about="The last 50: the archive, and whether its checksums were verified, else what was wrong.",
            unit="none",
            none="No backup yet",
            asks=[Query(_BACKUPS)],
        ),
    ]


def _number(
    number: int,
    title: str,
    asked: Query,
    column: str,
    *,
    at: model.GridPos,
    about: str,
    unit: str,
    none: str,
    colors: Sequence[tuple[float | None, str]],
) -> stat.Panel:
    """One number, coloured from where it begins to matter."""
    shown = figure(column).thresholds(steps(*colors)).color_mode(kinds.BigValueColorMode.VALUE).decimals(0)
    return panel(shown, number, title, at=at, about=about, unit=unit, none=none, asks=[asked])


def _several() -> timeseries.Panel:
    """Several lines by name, at most one point a minute, as it is kept."""
    return curve().interval("1m").legend(named_below())
