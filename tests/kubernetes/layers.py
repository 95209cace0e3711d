"""What of deploy/kubernetes is looked at, and how to find one's way in what is rendered."""

from __future__ import annotations

from typing import Any

from tests.conftest import ROOT
from tests.kubernetes.kustomized import Resource

FOLDER = ROOT / "deploy" / "kubernetes"
LAYERS = ("base", "cluster", "base+archives", "base+restore", "cluster+restore")
"""Folders, with the components upon them."""
CUSTOM = "postgresql.cnpg.io/v1"

_WORKLOADS = ("Deployment", "StatefulSet", "Job", "CronJob", "Pod")


def of_kind(resources: list[Resource], *kinds: str) -> dict[str, Resource]:
    """Those of these kinds, by name. Fails where two have one name."""
    found: dict[str, Resource] = {}
    for each in resources:
        if each["kind"] in kinds:
            assert each["metadata"]["name"] not in found, each["metadata"]
            found[each["metadata"]["name"]] = each
    return found


def pods(resources: list[Resource]) -> dict[str, dict[str, Any]]:
    """Every pod, or a workload's template of one, by its name."""
    return {name: _pod(each) for name, each in of_kind(resources, *_WORKLOADS).items()}


def _pod(workload: Resource) -> dict[str, Any]:
    if workload["kind"] == "Pod":
        return workload
    spec = workload["spec"]
    if workload["kind"] == "CronJob":
        spec = spec["jobTemplate"]["spec"]
    template: dict[str, Any] = spec["template"]
    return template


def containers(pod: dict[str, Any]) -> list[dict[str, Any]]:
    """A pod's containers, those that run before the others included."""
    return [*pod["spec"].get("initContainers", ()), *pod["spec"]["containers"]]


def part(pod: dict[str, Any]) -> str:
    """Which part of the desk a pod is: `trader` for every trader."""
    return str(pod["metadata"]["labels"]["app.kubernetes.io/name"])
