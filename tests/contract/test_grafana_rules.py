"""The alert rules as a real Grafana would take them: shapes, names that exist, and where each leads a person."""

from __future__ import annotations

import re
from typing import Any

import pytest
import yaml

from services.api.console.documentation import names, page
from tests.conftest import ROOT
from tests.grafana_panels import boards, panels

FOLDER = ROOT / "grafana" / "provisioning" / "alerting"
_STATES = {
    "noDataState": {"NoData", "Alerting", "OK", "KeepLast"},
    "execErrState": {"Error", "Alerting", "OK", "KeepLast"},
}


def _provisioned() -> dict[str, Any]:
    merged: dict[str, Any] = {}
    for path in sorted(FOLDER.glob("*.yaml")):
        read = yaml.safe_load(path.read_text())
        assert read.pop("apiVersion") == 1, path
        for key, value in read.items():
            merged[key] = merged.get(key, []) + value
    return merged


GROUPS = _provisioned()["groups"]
RULES = [rule for group in GROUPS for rule in group["rules"]]
_EACH = pytest.mark.parametrize("rule", RULES, ids=[rule["uid"] for rule in RULES])


def test_what_the_owner_must_hear_of_has_a_rule() -> None:
    uids = [rule["uid"] for rule in RULES]
    assert len(set(uids)) == len(uids)
    assert {
        "desk-drawdown", "desk-daily-loss", "desk-silent", "desk-lag", "desk-stalled", "desk-dead-letters",
        "desk-no-backup",
    } == set(uids)  # fmt: skip
    assert len({rule["title"] for rule in RULES}) == len(RULES)


def test_groups_are_looked_at_in_tens_of_seconds_and_lie_in_a_folder_of_their_own() -> None:
    boards_folder = yaml.safe_load((FOLDER.parent / "dashboards" / "desk.yaml").read_text())["providers"][0][
        "folder"
    ]
    for group in GROUPS:
        assert re.fullmatch(r"\d+0s|\d+m", group["interval"]), group["name"]
        assert group["folder"] == "Desk alerts" != boards_folder
        assert group["orgId"] == 1


@_EACH
def test_a_rule_compares_one_query_of_the_desks_database_with_one_number(rule: dict[str, Any]) -> None:
    query, threshold = rule["data"]
    assert query["datasourceUid"] == query["model"]["datasource"]["uid"] == "desk-db"
    assert (query["refId"], query["model"]["refId"], query["model"]["format"]) == ("A", "A", "table")
    assert (query["model"]["rawQuery"], query["model"]["editorMode"]) == (True, "code")
    assert query["relativeTimeRange"]["from"] > query["relativeTimeRange"]["to"]
    assert threshold["datasourceUid"] == threshold["model"]["datasource"]["uid"] == "__expr__"
    assert (threshold["model"]["type"], threshold["model"]["expression"]) == ("threshold", "A")
    assert rule["condition"] == threshold["refId"] == threshold["model"]["refId"] == "C"
    ((evaluator),) = (each["evaluator"] for each in threshold["model"]["conditions"])
    assert evaluator["type"] == "gt"
    assert len(evaluator["params"]) == 1
    for key, known in _STATES.items():
        assert rule[key] in known, key


@_EACH
def test_nothing_in_a_rule_is_read_as_the_environments_by_mistake(rule: dict[str, Any]) -> None:
    # Expanded: titles, names, folders, labels. Not expanded: models and annotations, where `$$` would stay.
    assert "$" not in rule["title"]
    assert not [value for value in rule["labels"].values() if "$" in value]
    assert "$$" not in yaml.dump([rule["data"], rule["annotations"]])
    # What a template names is a label of the rule's own query, or its number.
    sql = rule["data"][0]["model"]["rawSql"]
    for text in rule["annotations"].values():
        for label in re.findall(r"\$labels\.(\w+)", text):
            assert re.search(rf"\b{label}\b", sql), label
        assert set(re.findall(r"\$values\.(\w+)", text)) <= {"A"}
        assert text.count("{{") == text.count("}}")


@_EACH
def test_a_rule_says_how_grave_it_is_and_leads_to_its_panel_and_to_what_to_do(rule: dict[str, Any]) -> None:
    assert rule["labels"]["severity"] in ("critical", "warning")
    annotations = rule["annotations"]
    assert "$values.A.Value" in annotations["summary"]
    assert annotations["description"]
    board = next(board for board in boards().values() if board["uid"] == rule["dashboardUid"])
    assert rule["panelId"] in {panel["id"] for panel in panels(board)}
    assert annotations["__dashboardUid__"] == rule["dashboardUid"]
    assert annotations["__panelId__"] == str(rule["panelId"])
    place = re.fullmatch(r"http://localhost/docs/([\w/-]+)#([\w-]+)", annotations["runbook_url"])
    assert place is not None
    assert place[1] in names()
    assert place[2] in {anchor for anchor, _ in page(place[1]).headings}
    assert annotations["what_to_do"] == "{{ externalURL }}../docs/%s#%s" % place.groups()  # noqa: UP031


def test_every_alert_reaches_the_owner_whose_address_is_a_setting() -> None:
    provisioned = _provisioned()
    (point,) = provisioned["contactPoints"]
    (receiver,) = point["receivers"]
    assert (receiver["type"], receiver["settings"]["addresses"]) == ("email", "$DESK_ALERT_EMAIL")
    (policy,) = provisioned["policies"]
    assert {policy["receiver"], *(route["receiver"] for route in policy["routes"])} == {point["name"]}
    (critical,) = policy["routes"]
    assert critical["object_matchers"] == [["severity", "=", "critical"]]
    assert critical["group_wait"] == "0s", "what is critical waits for nothing"
    compose = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
    settings = compose["services"]["grafana"]["environment"]
    # Unset it would stop Grafana; the default goes nowhere, by RFC 2606.
    assert settings["DESK_ALERT_EMAIL"] == "${DESK_ALERT_EMAIL:-owner@example.invalid}"


def test_mail_goes_out_only_where_a_server_is_named_and_its_password_is_a_secret() -> None:
    ini = (ROOT / "grafana" / "grafana.ini").read_text()
    assert "enabled = $__env{DESK_SMTP_ENABLED}" in ini
    assert "password = $__file{/secrets/smtp-password}" in ini
    compose = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
    settings = compose["services"]["grafana"]["environment"]
    assert settings["DESK_SMTP_ENABLED"] == "${DESK_SMTP_HOST:+true}"
    assert not [name for name in settings if "PASSWORD" in name]
