"""What all of the desk's dashboards share: how a query, a panel, a variable and a link are made.

A panel cannot be made here without a number, a place, a unit, a description and what it says without data.
What a panel asks and shows is its dashboard's business.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeAlias, TypeVar

from grafana_foundation_sdk.builders import barchart, common, dashboard, stat, table, text, timeseries
from grafana_foundation_sdk.cog import builder as cog
from grafana_foundation_sdk.cog.variants import Dataquery
from grafana_foundation_sdk.models import common as kinds
from grafana_foundation_sdk.models import dashboard as model
from grafana_foundation_sdk.models import text as text_kinds

SOURCE: Final = kinds.DataSourceRef(type_val="grafana-postgresql-datasource", uid="desk-db")
"""The database, as provisioning/datasources names it."""
TAG: Final = "desk"
"""Every dashboard of the desk has it, and so they find one another."""
GREEN, RED, ORANGE, BLUE, GREY = "green", "red", "orange", "blue", "#8e8e8e"
DIM: Final = "text"

PHASES: Final = {
    "STARTING": BLUE,
    "MONITORING": GREEN,
    "STOPPING": ORANGE,
    "STOPPED": GREY,
    "COMPLETED": GREY,
    "HALTED": RED,
    "FAILED": RED,
    "NOT_DEPLOYED": GREY,
}
STRETCH: Final = "date_bin('$__interval'::interval, time, timestamptz '2000-01-01 00:00:00+00')"
"""The stretch of a panel's line that `time` falls into: as $__timeGroup does, in a fifth of the time, which shows
where a week of minutes becomes a thousand stretches of a few lines each."""

Panels: TypeAlias = list[cog.Builder[model.Panel]]
P = TypeVar("P", barchart.Panel, stat.Panel, table.Panel, text.Panel, timeseries.Panel)


@dataclass(frozen=True)
class Query(Dataquery, cog.Builder[Dataquery]):
    """SQL for the desk's database. With `series` the answer is drawn over time: its column `time` must be sorted,
    and each column of numbers is a series by its name."""

    sql: str
    ref: str = "A"
    series: bool = False

    def to_json(self) -> dict[str, object]:
        """As Grafana keeps it."""
        return {
            "refId": self.ref,
            "datasource": SOURCE,
            "format": "time_series" if self.series else "table",
            "rawQuery": True,
            "editorMode": "code",
            "rawSql": self.sql.strip(),
        }

    def build(self) -> Dataquery:
        """Itself: panels are handed builders."""
        return self


class _Link(dashboard.DashboardLink):
    """The kit puts every link into a menu, unless told nothing at all."""

    def build(self) -> model.DashboardLink:
        link = super().build()
        link.placement = None  # type: ignore[assignment]
        return link


def place(x: int, y: int, w: int, h: int) -> model.GridPos:
    """Where a panel stands on the grid of 24 columns."""
    return model.GridPos(x=x, y=y, w=w, h=h)


def panel(
    kind: P,
    number: int,
    title: str,
    *,
    at: model.GridPos,
    about: str,
    unit: str,
    none: str,
    asks: Sequence[Query] = (),
) -> P:
    """`kind` with all that every panel must have. `number` is for ever: alerts and links name it. `none` is what
    the panel says when there is nothing to show."""
    kind.id(number).title(title).grid_pos(at).description(about).unit(unit).no_value(none)
    if asks:
        kind.datasource(SOURCE).targets(list(asks))
    return kind


def figure(column: str) -> stat.Panel:
    """One value, large; `column` is the column that has it, be it a number or a text."""
    return (
        stat.Panel()
        .reduce_options(
            common.ReduceDataOptions().calcs(["lastNotNull"]).fields(f"/^{column}$/").values(False)
        )
        .graph_mode(kinds.BigValueGraphMode.NONE)
        .color_mode(kinds.BigValueColorMode.NONE)
        .text_mode(kinds.BigValueTextMode.VALUE)
        .thresholds(steps((None, DIM)))
    )


def _legend(*, shown: bool) -> common.VizLegendOptions:
    return common.VizLegendOptions().show_legend(shown).display_mode(kinds.LegendDisplayMode.LIST)


def named_below() -> common.VizLegendOptions:
    """The names of several lines, beneath them."""
    return _legend(shown=True).placement(kinds.LegendPlacement.BOTTOM)


def control(*ways: tuple[str, str], about: str, title: str = "Control", height: int = 2) -> text.Panel:
    """The row of links at the top of a dashboard, each an address of the console and its words; what acts is bold
    and ends with dots. They must say `_self`, else Grafana takes them for its own."""
    links = (
        f'<a href="{path}" target="_self">{f"<b>{said}</b>" if said.endswith("…") else said}</a>'
        for path, said in ways
    )
    made = text.Panel().mode(text_kinds.TextMode.HTML).content(" &nbsp;·&nbsp;\n".join(links) + "\n")
    return panel(made, 1, title, at=place(0, 0, 24, height), about=about, unit="none", none="-")


def phase(query: str, number: int, *, at: model.GridPos, about: str) -> stat.Panel:
    """What a deployment does, in its colour. `query` gives the column `phase`."""
    return panel(
        figure("phase")
        .mappings(words(PHASES))
        .color_mode(kinds.BigValueColorMode.BACKGROUND)
        .thresholds(steps((None, GREY))),
        number,
        "Phase",
        at=at,
        about=about,
        unit="string",
        none="No run yet",
        asks=[Query(query)],
    )


def curve() -> timeseries.Panel:
    """Lines over time, at most so many points that the eye could tell apart."""
    return (
        timeseries.Panel()
        .max_data_points(POINTS)
        .legend(_legend(shown=False))
        .tooltip(common.VizTooltipOptions().mode(kinds.TooltipDisplayMode.MULTI))
        .line_width(1)
        # Where there is room: a lone mark has no line.
        .show_points(kinds.VisibilityMode.AUTO)
        .span_nulls(True)
        .thresholds(steps((None, DIM)))
    )


def bars(column: str) -> barchart.Panel:
    """A bar for each row; `column` is the text below it. Grafana writes a name that it leaves out as the panel's answer
    without data, and the kit has it cut every name to nothing: hence the last two."""
    return (
        barchart.Panel()
        .x_field(column)
        .show_value(kinds.VisibilityMode.NEVER)
        .fill_opacity(80)
        .line_width(0)
        .x_tick_label_spacing(100)
        .legend(_legend(shown=False))
        .tooltip(common.VizTooltipOptions().mode(kinds.TooltipDisplayMode.MULTI))
        .x_tick_label_max_length(40)
        .override_by_regexp("/.*/", given(noValue=None))
    )


def listing() -> table.Panel:
    """Rows as they are. What is not there is a dash: else Grafana puts the panel's answer without data into every
    empty cell."""
    return (
        table.Panel()
        .show_header(True)
        .cell_height(kinds.TableCellHeight.SM)
        .thresholds(steps((None, DIM)))
        .override_by_regexp("/.*/", given(noValue="–"))
    )


POINTS: Final = 600
"""How many points a curve has at most. `$__interval` comes of it."""


def steps(*from_to: tuple[float | None, str]) -> dashboard.ThresholdsConfig:
    """Colours from a value on; the first step must begin at None, below everything."""
    return (
        dashboard.ThresholdsConfig()
        .mode(model.ThresholdsMode.ABSOLUTE)
        .steps([model.Threshold(value=value, color=color) for value, color in from_to])
    )


def by_threshold() -> dashboard.FieldColor:
    """Colour each value by the steps."""
    return dashboard.FieldColor().mode(model.FieldColorModeId.THRESHOLDS)


def fixed(color: str) -> dashboard.FieldColor:
    """One colour for all."""
    return dashboard.FieldColor().mode(model.FieldColorModeId.FIXED).fixed_color(color)


def words(colors: Mapping[str, str]) -> list[model.ValueMapping]:
    """Colours of texts; without any, all look the same."""
    options = {
        word: model.ValueMappingResult(text=word, color=color, index=place)
        for place, (word, color) in enumerate(colors.items())
    }
    return [model.ValueMap(options=options)]


def given(**properties: Any) -> list[model.DynamicConfigValue]:
    """Properties of an override. Two underscores stand for a dot, so `custom__width` is `custom.width`."""
    return [
        model.DynamicConfigValue(id_val=name.replace("__", "."), value=value)
        for name, value in properties.items()
    ]


def painted(color: str) -> dict[str, str]:
    """A fixed colour, as the value of an override's `color`."""
    return {"mode": "fixed", "fixedColor": color}


def shaded(*from_to: tuple[float | None, str]) -> dict[str, Any]:
    """Colours from a value on, as an override's properties."""
    made = [{"value": value, "color": color} for value, color in from_to]
    return {"thresholds": {"mode": "absolute", "steps": made}, "color": {"mode": "thresholds"}}


def moments() -> list[model.DynamicConfigValue]:
    """An override for columns of times, as wide as one is."""
    return given(unit="dateTimeAsIso", custom__width=165)


METER: Final = {"custom__cellOptions": {"type": "gauge", "mode": "basic", "valueDisplayMode": "text"}}
"""Draws a cell's share of 1 as a bar, as an override's properties."""


# Before 12.2 a table hides a column by the first, since then by the second.
HIDDEN: Final = {"custom__hidden": True, "custom__hideFrom__viz": True}


def chosen(name: str, label: str, sql: str, *, about: str, shown: bool = True) -> dashboard.QueryVariable:
    """A choice among what the database has: columns `__text` and `__value`, or one. The first row is the default."""
    return (
        dashboard.QueryVariable(name)
        .label(label)
        .description(about)
        .datasource(SOURCE)
        .query(sql.strip())
        .definition(sql.strip())
        .refresh(model.VariableRefresh.ON_TIME_RANGE_CHANGED)
        .sort(model.VariableSort.DISABLED)
        .multi(False)
        .include_all(False)
        .allow_custom_value(False)
        .hide(model.VariableHide.DONT_HIDE if shown else model.VariableHide.HIDE_VARIABLE)
    )


def desk_link(title: str, path: str, *, icon: str, about: str) -> dashboard.DashboardLink:
    """A link out of Grafana, to a page of the console. It must open anew, else Grafana takes it for its own."""
    return (
        _Link(title)
        .type(model.DashboardLinkType.LINK)
        .url(f"/..{path}")
        .icon(icon)
        .tooltip(about)
        .target_blank(True)
    )


def sibling(title: str, uid: str, *, icon: str, about: str) -> dashboard.DashboardLink:
    """A link to another dashboard, for the same trader and run. Not at the same time: Trading's is the data's, years
    back in a replay, the others' is the clock's."""
    return (
        _Link(title)
        .type(model.DashboardLinkType.LINK)
        .url(f"/d/{uid}")
        .icon(icon)
        .tooltip(about)
        .keep_time(False)
        .include_vars(True)
    )


def desk_dashboard(uid: str, title: str, *, about: str, emergency: str) -> dashboard.Dashboard:
    """An empty dashboard of the desk. `emergency` is the page, or heading of the page, to read when what it shows
    goes wrong."""
    return (
        dashboard.Dashboard(title)
        .uid(uid)
        .description(about)
        .tags([TAG])
        .timezone("utc")
        .readonly()
        .tooltip(model.DashboardCursorSync.CROSSHAIR)
        .refresh("5s")
        .time("now-24h", "now")
        .variables([])
        .timepicker(dashboard.TimePicker().refresh_intervals(["1s", "5s", "30s", "1m", "5m"]))
        .annotations([])
        .link(
            desk_link(
                "Current run",
                "/dashboard",
                icon="bolt",
                about="Trading, with the run of now and all of its time",
            )
        )
        .link(sibling("Risk", "desk-risk", icon="bolt", about="Limits and their use, denials, halts"))
        .link(
            sibling(
                "Operations", "desk-operations", icon="cloud", about="Services, recorder, streams, backups"
            )
        )
        .link(
            desk_link(
                "Console", "/", icon="dashboard", about="The desk's own pages: deploy, stop, limits, alerts"
            )
        )
        .link(desk_link("Emergency", emergency, icon="question", about="What to do when something is wrong"))
    )
