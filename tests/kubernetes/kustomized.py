"""What `kubectl kustomize` makes of a folder, for machines without it: the part of kustomize that is used here.

`resources`, `namespace`, `nameSuffix` with the names of services that stateful sets give, and `patches` that are a
target with JSON operations (RFC 6902) or a deletion. Anything else is refused, so nothing is rendered otherwise than by
the real one; where that is there, a test compares.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

Resource = dict[str, Any]

_UNDERSTOOD = {"apiVersion", "kind", "namespace", "nameSuffix", "resources", "patches"}
_FIRST = "name before"
"""Where a renamed resource keeps the name by which patches find it as well."""

_WITHOUT_NAMESPACE = {"Namespace"}


def render(folder: Path) -> list[Resource]:
    """Every resource of the folder's kustomization. Raises ValueError for what is not understood."""
    resources = _rendered(folder)
    for resource in resources:
        resource["metadata"].pop(_FIRST, None)
    return resources


def _rendered(folder: Path) -> list[Resource]:
    told = yaml.safe_load((folder / "kustomization.yaml").read_text())
    if unknown := set(told) - _UNDERSTOOD:
        raise ValueError(f"{folder}: {sorted(unknown)} not understood")
    resources: list[Resource] = []
    for name in told["resources"]:
        path = folder / name
        resources += _rendered(path.resolve()) if path.is_dir() else _read(path)
    for patch in told.get("patches", ()):
        resources = list(_patched(resources, patch))
    _rename(resources, told.get("nameSuffix", ""))
    for resource in resources:
        if resource["kind"] not in _WITHOUT_NAMESPACE:
            resource["metadata"]["namespace"] = told["namespace"]
    return resources


def _rename(resources: list[Resource], suffix: str) -> None:
    services = {each["metadata"]["name"] for each in resources if each["kind"] == "Service"}
    for resource in resources if suffix else ():
        if resource["kind"] not in ("Service", "StatefulSet"):
            raise ValueError(f"what refers to a {resource['kind']} is not renamed with it")
        resource["metadata"][_FIRST] = resource["metadata"]["name"]
        resource["metadata"]["name"] += suffix
        if resource["kind"] == "StatefulSet" and resource["spec"]["serviceName"] in services:
            resource["spec"]["serviceName"] += suffix


def _read(path: Path) -> list[Resource]:
    # Through a copy without anchors: what is patched in one place must not change in another.
    return [copy_of for each in yaml.safe_load_all(path.read_text()) if (copy_of := _unshared(each))]


def _unshared(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _unshared(each) for key, each in value.items()}
    return [_unshared(each) for each in value] if isinstance(value, list) else value


def _patched(resources: list[Resource], patch: dict[str, Any]) -> Iterator[Resource]:
    if set(patch) != {"target", "patch"} or set(patch["target"]) != {"kind", "name"}:
        raise ValueError(f"expected a patch with a target by kind and name, was {patch}")
    target = patch["target"]["kind"], patch["target"]["name"]
    found = False
    for resource in resources:
        metadata = resource["metadata"]
        if target not in {(resource["kind"], name) for name in (metadata["name"], metadata.get(_FIRST))}:
            yield resource
            continue
        found = True
        change = yaml.safe_load(patch["patch"])
        if isinstance(change, list):
            for operation in change:
                _operate(resource, operation)
            yield resource
        elif change.get("$patch") != "delete":
            raise ValueError(f"expected operations or a deletion, was {change}")
    if not found:
        raise ValueError(f"no {target} to be patched")


def _operate(resource: Resource, operation: dict[str, Any]) -> None:
    *way, last = (part.replace("~1", "/").replace("~0", "~") for part in operation["path"].split("/")[1:])
    at: Any = resource
    for part in way:
        at = at[int(part)] if isinstance(at, list) else at[part]
    key: Any = int(last) if isinstance(at, list) else last
    value = copy.deepcopy(operation.get("value"))
    match operation["op"]:
        case "add" if isinstance(at, list):
            at.insert(key, value)
        case "add":
            at[key] = value
        case "replace":
            at[key]  # what is replaced must be there
            at[key] = value
        case "remove":
            del at[key]
        case other:
            raise ValueError(f"operation {other} not understood")
