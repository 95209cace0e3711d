"""The generated dashboards as Grafana asks them: every query of a panel or variable, its macros expanded.

The macros are those of Grafana 12.2's PostgreSQL data source, with their traps: what has no such name is an error, and
a bucket followed by a comma becomes another. What an answer must look like depends on its format.
"""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import asyncpg
import yaml

FOLDER = Path(__file__).parent.parent / "grafana"
POINTS = 1000
"""How many points a panel without a bound of its own asks for: about its width in pixels."""
_SHORTEST = 1000  # ms, the data source's timeInterval
_MACRO = re.compile(r"\$(__\w+)\(([^)]*)\)(,?)")
_VARIABLE = re.compile(r"\$(?:\{(\w+)(?::\w+)?\}|(\w+))")
_LENGTHS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_ROUND = (
    *("1s", "2s", "5s", "10s", "15s", "20s", "30s", "1m", "2m", "5m", "10m", "15m", "20m", "30m"),
    *("1h", "2h", "3h", "6h", "12h", "1d", "7d", "30d"),
)


@dataclass(frozen=True, slots=True)
class Asked:
    """A query of a dashboard, as written."""

    board: str
    panel: str
    ref: str
    format: str
    sql: str
    points: int

    @property
    def name(self) -> str:
        """For people."""
        return f"{self.board}: {self.panel}" + (f" ({self.ref})" if self.ref != "A" else "")


@dataclass(frozen=True, slots=True)
class Shown:
    """What a dashboard is set to: its range, and its variables' values."""

    start: datetime
    end: datetime
    variables: Mapping[str, str]


def boards() -> dict[str, dict[str, Any]]:
    """Every generated dashboard by its file's name."""
    return {
        path.name: json.loads(path.read_text()) for path in sorted((FOLDER / "dashboards").glob("*.json"))
    }


def panels(board: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """All panels, those within rows too."""
    for panel in board["panels"]:
        yield panel
        yield from panel.get("panels", ())


def queries(board: Mapping[str, Any]) -> list[Asked]:
    """Every query of the panels and annotations."""
    asked = [
        Asked(
            board["title"],
            panel["title"],
            target["refId"],
            target["format"],
            target["rawSql"],
            int(panel.get("maxDataPoints", POINTS)),
        )
        for panel in panels(board)
        for target in panel.get("targets", ())
    ]
    return asked + [
        Asked(
            board["title"],
            each["name"],
            each["target"]["refId"],
            "annotation",
            each["target"]["rawSql"],
            POINTS,
        )
        for each in board["annotations"].get("list", ())
        if "rawSql" in each.get("target", {})
    ]


def variables(board: Mapping[str, Any]) -> list[Asked]:
    """Every query of the variables, in their order."""
    return [
        Asked(board["title"], f"variable {each['name']}", "A", "variable", each["query"], POINTS)
        for each in board["templating"]["list"]
        if each["type"] == "query"
    ]


def rules() -> list[tuple[Asked, timedelta]]:
    """Every query of the alert rules, and how far back it looks. What is computed of their answers is no query."""
    return [
        (
            Asked("Rule", rule["title"], each["refId"], "rule", each["model"]["rawSql"], POINTS),
            timedelta(seconds=each["relativeTimeRange"]["from"]),
        )
        for path in sorted((FOLDER / "provisioning" / "alerting").glob("*.yaml"))
        for group in yaml.safe_load(path.read_text()).get("groups", ())
        for rule in group["rules"]
        for each in rule["data"]
        if "rawSql" in each["model"]
    ]


def interval(span: timedelta, points: int) -> tuple[int, str]:
    """How long a stretch is, in milliseconds and as `$__interval` says it: the range over the points, at a round
    length, no shorter than the data source's shortest."""
    wanted = max(int(span.total_seconds() * 1000) // points, _SHORTEST)
    text = min(_ROUND, key=lambda known: abs(_seconds(known) * 1000 - wanted))
    return int(_seconds(text) * 1000), text


def expanded(asked: Asked, shown: Shown, *, timescale: bool) -> str:
    """The SQL as it reaches the database. Raises ValueError for what Grafana would refuse."""
    milliseconds, text = interval(shown.end - shown.start, asked.points)
    sql = asked.sql.replace("$__interval_ms", str(milliseconds)).replace("$__interval", text)
    known = {name: value.replace("'", "''") for name, value in shown.variables.items()}
    sql = _MACRO.sub(lambda found: _macro(found, shown, timescale), _filled(sql, known))
    left = re.search(r"\$\{?\w+", sql)
    if left is not None:
        raise ValueError(f"nobody expands {left[0]} in {asked.name}")
    return sql


def _filled(sql: str, known: Mapping[str, str]) -> str:
    return _VARIABLE.sub(lambda found: known.get(found[1] or found[2], found[0]), sql)


def _macro(found: re.Match[str], shown: Shown, timescale: bool) -> str:
    name, arguments, comma = found[1], [each.strip() for each in found[2].split(",")], found[3]
    if name == "__timeGroup" and comma:
        raise ValueError("a bucket followed by a comma gets a name of its own")
    start, end = (
        moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ") for moment in (shown.start, shown.end)
    )
    if name == "__timeFilter":
        made = f"{arguments[0]} BETWEEN '{start}' AND '{end}'"
    elif name == "__timeFrom":
        made = f"'{start}'"
    elif name == "__timeTo":
        made = f"'{end}'"
    elif name in ("__timeGroup", "__timeGroupAlias"):
        seconds = _seconds(arguments[1].strip("'"))
        made = (
            f"time_bucket('{seconds:.3f}s',{arguments[0]})"
            if timescale
            else f"floor(extract(epoch from {arguments[0]})/{seconds:g})*{seconds:g}"
        )
        made += ' AS "time"' if name == "__timeGroupAlias" else ""
    else:
        raise ValueError(f"unknown macro {name}")
    return made + comma


def _seconds(text: str) -> float:
    return float(text[:-1]) * _LENGTHS[text[-1]]


async def answer(
    connection: asyncpg.Connection[asyncpg.Record], asked: Asked, shown: Shown, *, timescale: bool = True
) -> list[asyncpg.Record]:
    """A query's rows."""
    return await connection.fetch(expanded(asked, shown, timescale=timescale))


async def opened_on(
    connection: asyncpg.Connection[asyncpg.Record], board: Mapping[str, Any], shown: Shown
) -> Shown:
    """A dashboard as it opens: each variable that the address does not set takes its first value. Raises
    ValueError where there is nothing to choose from, or nothing that could be chosen."""
    values = dict(shown.variables)
    for asked, variable in zip(variables(board), board["templating"]["list"], strict=True):
        rows = await answer(connection, asked, Shown(shown.start, shown.end, values))
        problem = wrong(asked, rows) if rows else "nothing to choose from"
        if problem is not None:
            raise ValueError(f"{asked.name}: {problem}")
        values.setdefault(variable["name"], str(rows[0][-1]))
    return Shown(shown.start, shown.end, values)


def wrong(asked: Asked, rows: list[asyncpg.Record]) -> str | None:
    """What Grafana could not draw of an answer, None when it can."""
    columns = list(rows[0].keys()) if rows else []
    if len(set(columns)) != len(columns):
        return f"a column twice: {columns}"
    if asked.format == "variable":
        fits = columns == ["__text", "__value"] or len(columns) == 1
        return None if fits else f"a variable of {columns}"
    if asked.format != "time_series":
        return None
    if columns[:1] != ["time"]:
        return f"no column time in {columns}"
    times = [row["time"] for row in rows]
    if any(after < before for before, after in itertools.pairwise(times)):
        return "not in the order of time"
    if len(columns) == 2 and not any(isinstance(row[1], int | float) for row in rows):
        return f"no numbers in {columns[1]}"
    return None
