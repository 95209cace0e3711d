"""Who reaches whom, worked out from the policies as a network plugin that enforces them would."""

from __future__ import annotations

from typing import Any

import yaml

from tests.conftest import ROOT
from tests.kubernetes.kustomized import Resource, render
from tests.kubernetes.layers import FOLDER, of_kind, part, pods

HERE = "tradedesk"
STRANGER = "somewhere-else"
OPERATOR = "cnpg-system"
DATABASE = {"cnpg.io/cluster": "desk"}
BUS, DATA = ("nats", 4222), ("database", 5432)

WAYS = {
    "setup": {BUS, DATA},
    "trader": {BUS},
    "risk": {BUS},
    "recorder": {BUS, DATA},
    "api": {BUS, DATA, ("grafana", 3000)},
    "backup": {BUS, DATA},
    "restore": {BUS, DATA},
    "archives": set(),
    "grafana": {DATA},
    "nats": {("nats", 6222)},
    "database": {DATA, ("database", 8000)},
}
"""From each part of the desk, where it comes to besides the door."""
DOOR = {("api", 80), ("api", 443)}
PORTS = (80, 443, 2080, 3000, 4222, 5432, 6222, 8000, 8222, 9100)


class Network:
    """The policies of one namespace."""

    def __init__(self, resources: list[Resource]) -> None:
        self._policies = [each["spec"] for each in of_kind(resources, "NetworkPolicy").values()]

    def open(self, start: dict[str, str], where: str, end: dict[str, str], port: int) -> bool:
        """Whether a pod with these labels in the namespace `where` comes to one of ours on that port."""
        leaves = where != HERE or self._allowed("Egress", "to", start, end, HERE, port)
        return leaves and self._allowed("Ingress", "from", end, start, where, port)

    def _allowed(
        self, direction: str, ends: str, pod: dict[str, str], peer: dict[str, str], peer_in: str, port: int
    ) -> bool:
        policies = [
            each
            for each in self._policies
            if direction in each["policyTypes"] and _selected(each["podSelector"], pod)
        ]
        if not policies:
            return True
        return any(
            (not rule.get("ports") or port in {each["port"] for each in rule["ports"]})
            and (not rule.get(ends) or any(_is(each, peer, peer_in) for each in rule[ends]))
            for policy in policies
            for rule in policy.get(direction.lower(), ())
        )


def _selected(selector: dict[str, Any], labels: dict[str, str]) -> bool:
    assert set(selector) <= {"matchLabels"}, selector
    wanted: dict[str, str] = selector.get("matchLabels", {})
    return wanted.items() <= labels.items()


def _is(peer: dict[str, Any], labels: dict[str, str], namespace: str) -> bool:
    if "ipBlock" in peer:
        return False  # the world; the networks that clusters use are excepted, which a test says
    if "namespaceSelector" in peer:
        in_it = _selected(peer["namespaceSelector"], {"kubernetes.io/metadata.name": namespace})
    else:
        in_it = namespace == HERE
    return in_it and _selected(peer.get("podSelector", {}), labels)


def labelled(resources: list[Resource]) -> dict[str, dict[str, str]]:
    """The labels of every pod, by its part; the database is one, whoever runs it."""
    found = {part(pod): pod["metadata"]["labels"] for pod in pods(resources).values()}
    found["database"] = found.pop("timescaledb", DATABASE)
    return found


def test_everybody_comes_to_whom_he_needs_and_to_nobody_else(resources: list[Resource]) -> None:
    network, there = Network(resources), labelled(resources)
    operated = "timescaledb" not in of_kind(resources, "StatefulSet")
    for start, labels in there.items():
        reached = {
            (end, port)
            for end, others in there.items()
            for port in PORTS
            if network.open(labels, HERE, others, port)
        }
        # Who may call the API of the cluster calls on 443, which here the door answers.
        wanted = WAYS[start] if operated or start != "database" else set()
        assert reached - DOOR == wanted, start


def test_a_stranger_comes_to_the_door_alone_and_so_to_grafana_never(resources: list[Resource]) -> None:
    network, there = Network(resources), labelled(resources)
    # Called and labelled as whoever he likes, in a namespace of his own.
    for labels in ({}, *there.values()):
        reached = {
            (end, port)
            for end, others in there.items()
            for port in PORTS
            if network.open(labels, STRANGER, others, port)
        }
        assert reached == DOOR


def test_grafana_hears_the_proxy_alone(resources: list[Resource]) -> None:
    network, there = Network(resources), labelled(resources)
    heard = {name for name, labels in there.items() if network.open(labels, HERE, there["grafana"], 3000)}
    assert heard == {"api"}
    assert of_kind(resources, "Deployment")["api"]["spec"]["template"]["metadata"]["labels"] == there["api"]


def test_the_operator_comes_to_its_database_alone() -> None:
    resources = render(FOLDER / "cluster")
    network, there = Network(resources), labelled(resources)
    reached = {
        (end, port)
        for end, others in there.items()
        for port in PORTS
        if network.open({}, OPERATOR, others, port)
    }
    assert reached == DOOR | {("database", 8000)}


def test_pods_are_on_the_networks_of_compose(resources: list[Resource]) -> None:
    composed = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]
    found = {part(pod): pod["metadata"]["labels"] for pod in pods(resources).values()}
    for network in ("bus", "data", "outside"):
        labelled_so = {name for name, labels in found.items() if f"tradedesk/{network}" in labels}
        on_it = {
            {"prepare": "setup", "migrate": "setup"}.get(name, name)
            for name, service in composed.items()
            if network in service.get("networks", ())
        }
        # Grafana's way out, for its mails, is in compose the network it shares with the proxy.
        assert labelled_so - {"grafana"} == on_it & (set(found) - {"nats", "timescaledb", "grafana"}), network


def test_the_way_out_leads_to_no_network_that_clusters_use(resources: list[Resource]) -> None:
    blocks = [
        peer["ipBlock"]
        for policy in of_kind(resources, "NetworkPolicy").values()
        for rule in policy["spec"].get("egress", ())
        for peer in rule.get("to", ())
        if "ipBlock" in peer
    ]
    assert len(blocks) == 1
    private = {"10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10", "169.254.0.0/16"}
    assert set(blocks[0]["except"]) >= private


def test_nothing_is_offered_to_the_world_before_its_owner_says_so(resources: list[Resource]) -> None:
    policies = of_kind(resources, "NetworkPolicy")
    assert policies["nobody"]["spec"] == {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}
    services = of_kind(resources, "Service").values()
    assert {each["spec"].get("type", "ClusterIP") for each in services} <= {"ClusterIP", "ExternalName"}
    assert not of_kind(resources, "Ingress")


def test_a_policy_that_is_missing_would_be_found() -> None:
    resources = render(FOLDER / "base")
    policies, labels = of_kind(resources, "NetworkPolicy"), labelled(resources)

    def without(name: str) -> Network:
        return Network([each for each in resources if each is not policies[name]])

    assert without("nobody").open({}, STRANGER, labels["trader"], 9100)
    assert not without("grafana").open(labels["api"], HERE, labels["grafana"], 3000)
