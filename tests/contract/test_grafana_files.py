"""What Grafana is given is what it would take: dashboards as generated, complete, consistent, and linked as it links.

Grafana itself is not here; each rule is one that a real one enforced, or drew wrong without a word.
"""

from __future__ import annotations

import configparser
import itertools
import re
from typing import Any

import pytest
import yaml

from grafana.generate import FOLDER, dashboards
from services.api.console.documentation import anchor, names, page
from tests.conftest import ROOT
from tests.grafana_panels import boards, panels, queries, variables

GRAFANA = ROOT / "grafana"
BOARDS = boards()
_ALL = pytest.mark.parametrize("name", BOARDS)
_BUILT_IN = re.compile(r"__\w+")
_CONSOLE = {"/", "/dashboard", "/trades", "/runs", "/risk", "/alerts", "/settings"}


def _provisioned(kind: str) -> dict[str, Any]:
    merged: dict[str, Any] = {}
    for path in sorted((GRAFANA / "provisioning" / kind).glob("*.yaml")):
        read = yaml.safe_load(path.read_text())
        assert read.pop("apiVersion") == 1, path
        for key, value in read.items():
            merged[key] = merged.get(key, []) + value if isinstance(value, list) else value
    return merged


def _links(value: Any) -> list[dict[str, Any]]:
    """Every link there is, wherever."""
    if isinstance(value, dict):
        own = [value] if isinstance(value.get("url"), str) else []
        return own + [link for each in value.values() for link in _links(each)]
    if isinstance(value, list):
        return [link for each in value for link in _links(each)]
    return []


def test_the_dashboards_are_as_their_code_says() -> None:
    written = {path.name: path.read_text(encoding="utf-8") for path in FOLDER.glob("*.json")}
    assert written == dict(dashboards()), "`make dashboards` writes them anew"


def test_no_two_dashboards_share_a_name_and_all_find_one_another() -> None:
    for key in ("uid", "title"):
        values = [board[key] for board in BOARDS.values()]
        assert len(set(values)) == len(values)
    assert "trading.json" in BOARDS
    assert all("desk" in board["tags"] for board in BOARDS.values())


@_ALL
def test_every_panel_has_a_number_a_place_a_unit_a_description_and_an_answer_without_data(name: str) -> None:
    board = BOARDS[name]
    assert board["schemaVersion"] == 42
    assert (board["editable"], board["timezone"], board["refresh"]) == (False, "utc", "5s")
    shown = [panel for panel in panels(board) if panel["type"] != "row"]
    numbers = [panel.get("id") for panel in panels(board)]
    assert None not in numbers
    assert len(set(numbers)) == len(numbers)
    for panel in shown:
        defaults = panel["fieldConfig"]["defaults"]
        assert panel["title"], panel["id"]
        assert panel["description"], panel["title"]
        assert defaults["unit"], panel["title"]
        assert defaults["noValue"], panel["title"]
        at = panel["gridPos"]
        assert at["x"] >= 0, panel["title"]
        assert at["x"] + at["w"] <= 24, panel["title"]
        assert min(at["w"], at["h"]) > 0, panel["title"]
    for one, other in itertools.combinations(shown, 2):
        a, b = one["gridPos"], other["gridPos"]
        apart = (
            a["x"] + a["w"] <= b["x"]
            or b["x"] + b["w"] <= a["x"]
            or a["y"] + a["h"] <= b["y"]
            or b["y"] + b["h"] <= a["y"]
        )
        assert apart, f"{one['title']} lies on {other['title']}"


@_ALL
def test_every_query_is_asked_of_the_desks_database_under_a_name_of_its_own(name: str) -> None:
    known = {source["uid"]: source["type"] for source in _provisioned("datasources")["datasources"]}
    for panel in panels(BOARDS[name]):
        targets = panel.get("targets", [])
        assert len({target["refId"] for target in targets}) == len(targets), panel["title"]
        for asked in (panel, *targets) if targets else ():
            source = asked["datasource"]
            assert known[source["uid"]] == source["type"], panel["title"]
        for target in targets:
            assert (target["rawQuery"], target["editorMode"]) == (True, "code")
            assert target["format"] in ("table", "time_series")
    for variable in BOARDS[name]["templating"]["list"]:
        assert known[variable["datasource"]["uid"]] == variable["datasource"]["type"]
        assert not variable["allowCustomValue"], "whatever somebody types would get into the SQL"
        assert isinstance(variable["query"], str)


@_ALL
def test_every_variable_that_is_used_is_there_before_it_is_used(name: str) -> None:
    board = BOARDS[name]
    known: set[str] = set()
    for asked, made in zip(variables(board), board["templating"]["list"], strict=True):
        assert _used(asked.sql) <= known, asked.name
        known.add(made["name"])
    for query in queries(board):
        assert _used(query.sql) <= known, query.name
    for panel in panels(board):
        assert _used(f"{panel['title']} {panel['description']} {panel.get('options')}") <= known
    for link in _links(board):
        assert _used(link["url"].replace("$__data", "")) <= known, link["url"]


def _used(text: str) -> set[str]:
    found = re.findall(r"\$\{?(\w+)", text)
    return {variable for variable in found if not _BUILT_IN.fullmatch(variable)}


@_ALL
def test_a_text_that_is_coloured_by_its_words_or_by_numbers_says_how(name: str) -> None:
    for panel in panels(BOARDS[name]):
        if panel["type"] == "stat":
            column = panel["options"]["reduceOptions"]["fields"]
            asked = panel["targets"][0]["rawSql"]
            assert re.search(rf"\b{column.strip('/^$')}\b", asked), (
                "a text is shown only where its column is named"
            )
        if panel["type"] == "barchart":
            column = panel["options"]["xField"]
            assert re.search(rf'\b"?{column}"?\b', panel["targets"][0]["rawSql"]), panel["title"]
        steps = panel["fieldConfig"]["defaults"].get("thresholds", {}).get("steps", [])
        assert all(step["value"] is None for step in steps[:1]), "nothing would be below the first"


@_ALL
def test_an_empty_cell_of_a_table_is_a_dash_and_not_the_panels_answer_without_data(name: str) -> None:
    for panel in panels(BOARDS[name]):
        if panel["type"] == "table":
            first = panel["fieldConfig"]["overrides"][0]
            assert first["matcher"] == {"id": "byRegexp", "options": "/.*/"}, panel["title"]
            assert first["properties"] == [{"id": "noValue", "value": "–"}]


@_ALL
def test_the_names_below_bars_are_neither_cut_to_nothing_nor_replaced(name: str) -> None:
    for panel in panels(BOARDS[name]):
        if panel["type"] == "barchart":
            assert panel["options"]["xTickLabelMaxLength"] > 10, panel["title"]
            unset = {"matcher": {"id": "byRegexp", "options": "/.*/"}, "properties": [{"id": "noValue"}]}
            assert unset in panel["fieldConfig"]["overrides"], panel["title"]


@_ALL
def test_links_lead_where_grafana_lets_them(name: str) -> None:
    board = BOARDS[name]
    uids = {board["uid"] for board in BOARDS.values()}
    out = [link for link in _links(board) if not link["url"].startswith("/d/")]
    for link in out:
        assert link["url"].startswith("/../"), f"{link['url']} would stay within /grafana/"
        assert link["targetBlank"], f"{link['url']} would be taken for a page of Grafana"
        _leads_somewhere(link["url"].removeprefix("/.."))
    for link in _links(board):
        if link["url"].startswith("/d/"):
            assert re.match(r"/d/([\w-]+)", link["url"]).group(1) in uids  # type: ignore[union-attr]
    titles = {link["title"] for link in board["links"]}
    assert {"Console", "Emergency", "Current run"} <= titles
    assert all("placement" not in link for link in board["links"]), "it would hide in a menu"
    for panel in panels(board):
        if panel["type"] == "text":
            anchors = re.findall(r"<a ([^>]*)>", panel["options"]["content"])
            assert anchors
            for each in anchors:
                assert 'target="_self"' in each or 'target="_blank"' in each
                _leads_somewhere(re.search(r'href="([^"]*)"', each).group(1))  # type: ignore[union-attr]
            assert "<script" not in panel["options"]["content"]
            assert "](" not in panel["options"]["content"]


def _leads_somewhere(path: str) -> None:
    path, _, heading = path.partition("#")
    path, _, asked = path.partition("?")
    if path.startswith("/docs/"):
        name = path.removeprefix("/docs/")
        assert name in names(), path
        assert not heading or heading in {known for known, _ in page(name).headings}, heading
        assert not heading or heading == anchor(heading.replace("-", " "))
    else:
        assert path in _CONSOLE, path
        assert asked in ("", "open=deploy", "open=stop"), asked


def test_the_control_row_leads_to_deploy_and_stop() -> None:
    text = next(panel for panel in panels(BOARDS["trading.json"]) if panel["title"] == "Control")
    assert 'href="/?open=deploy"' in text["options"]["content"]
    assert 'href="/?open=stop"' in text["options"]["content"]


def test_grafana_reads_the_database_with_a_role_that_only_reads_and_a_password_from_a_file() -> None:
    (source,) = _provisioned("datasources")["datasources"]
    assert (source["user"], source["jsonData"]["timescaledb"], source["editable"]) == ("grafana", True, False)
    assert source["jsonData"]["database"] == "desk", "at the top level the front end does not see it"
    assert source["secureJsonData"] == {"password": "$__file{/secrets/database-grafana}"}
    assert source["jsonData"]["maxOpenConns"] < 16, "the role may have 16 connections"
    (provider,) = _provisioned("dashboards")["providers"]
    assert not provider["allowUiUpdates"]
    assert provider["options"]["path"] == "/etc/grafana/dashboards"


def test_grafana_has_one_way_in_sends_nothing_out_and_keeps_secrets_out_of_its_environment() -> None:
    settings = configparser.ConfigParser(interpolation=None, comment_prefixes=(";",), delimiters=("=",))
    settings.read(GRAFANA / "grafana.ini")
    for section, key, value in (
        ("server", "root_url", "$__env{DESK_URL}/grafana/"),
        ("server", "serve_from_sub_path", "true"),
        ("auth.proxy", "enabled", "true"),
        ("auth.proxy", "whitelist", "$__env{DESK_PROXY}"),
        ("auth.proxy", "headers", "Role:X-WEBAUTH-ROLE"),
        ("auth", "disable_login_form", "true"),
        ("auth.basic", "enabled", "false"),
        ("auth.anonymous", "enabled", "false"),
        ("security", "csrf_always_check", "true"),
        ("security", "admin_password", "$__file{/secrets/grafana-admin}"),
        ("security", "secret_key", "$__file{/secrets/grafana-key}"),
        ("security", "disable_gravatar", "true"),
        ("users", "home_page", "/d/desk-trading"),
        ("analytics", "reporting_enabled", "false"),
        ("analytics", "check_for_updates", "false"),
        ("analytics", "check_for_plugin_updates", "false"),
        ("plugins", "preinstall_disabled", "true"),
        ("plugins", "public_key_retrieval_disabled", "true"),
        ("news", "news_feed_enabled", "false"),
        ("snapshots", "external_enabled", "false"),
        ("metrics", "enabled", "false"),
    ):
        assert settings[section][key] == value, (section, key)
    compose = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
    service = compose["services"]["grafana"]
    assert not [name for name in service["environment"] if re.search("PASSWORD|SECRET|KEY|TOKEN", name)]
    named = set(re.findall(r"\$__env\{(\w+)\}", (GRAFANA / "grafana.ini").read_text()))
    for path in (GRAFANA / "provisioning").rglob("*.yaml"):
        named |= set(re.findall(r"\$(?:\{)?(DESK_\w+)", path.read_text()))
    assert named <= set(service["environment"])
    proxy = compose["services"]["proxy"]["networks"]["front"]["ipv4_address"]
    assert service["environment"]["DESK_PROXY"] == proxy, "whoever is believed has this address"
    assert (service["user"], service["read_only"], service["cap_drop"]) == ("472:472", True, ["ALL"])
    assert "grafana" not in {
        name for each in compose["services"].values() for name in each.get("depends_on", {})
    }, "the desk is whole without it"
