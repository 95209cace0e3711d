"""What `kubectl kustomize` makes of a folder, for machines without it: the part of kustomize that is used here.

`resources`, `components`, `namespace`, `nameSuffix`, `labels` of selectors, and `patches` that are a target with
JSON operations (RFC 6902) or a deletion. Anything else is refused, so nothing is rendered otherwise than by the real
one; where that is there, a test compares.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import yaml

Resource = dict[str, Any]

_UNDERSTOOD = {
    "apiVersion",
    "kind",
    "namespace",
    "resources",
    "components",
    "patches",
    "nameSuffix",
    "labels",
}
_WITHOUT_NAMESPACE = {"Namespace"}


def render(folder: Path, before: Sequence[Resource] = ()) -> list[Resource]:
    """Every resource of the folder's kustomization; `before` is what a component is applied to.

    Raises ValueError for what is not understood.
    """
    told = yaml.safe_load((folder / "kustomization.yaml").read_text())
    if unknown := set(told) - _UNDERSTOOD:
        raise ValueError(f"{folder}: {sorted(unknown)} not understood")
    resources = [copy.deepcopy(each) for each in before]
    for name in told.get("resources", ()):
        path = folder / name
        resources += render(path.resolve()) if path.is_dir() else _read(path)
    for name in told.get("components", ()):
        resources = render((folder / name).resolve(), resources)
    for patch in told.get("patches", ()):
        resources = list(_patched(resources, patch))
    for resource in resources:
        if "namespace" in told and resource["kind"] not in _WITHOUT_NAMESPACE:
            resource["metadata"]["namespace"] = told["namespace"]
    _suffix(resources, told.get("nameSuffix", ""))
    for label in told.get("labels", ()):
        if label.keys() != {"pairs", "includeSelectors"} or not label["includeSelectors"]:
            raise ValueError(f"{folder}: expected labels of selectors, was {label}")
        for resource in resources:
            _label(resource, label["pairs"])
    return resources


def _suffix(resources: list[Resource], suffix: str) -> None:
    """Lengthen every name, and what a stateful set calls its service by."""
    services = {each["metadata"]["name"] for each in resources if each["kind"] == "Service"}
    for resource in resources:
        resource["metadata"]["name"] += suffix
        if resource["kind"] == "StatefulSet" and resource["spec"]["serviceName"] in services:
            resource["spec"]["serviceName"] += suffix


def _label(resource: Resource, pairs: dict[str, str]) -> None:
    resource["metadata"].setdefault("labels", {}).update(pairs)
    spec = resource["spec"]
    if resource["kind"] == "Service":
        spec["selector"].update(pairs)
    elif resource["kind"] == "PodDisruptionBudget":
        spec["selector"]["matchLabels"].update(pairs)
    elif resource["kind"] == "StatefulSet":
        pod = spec["template"]
        pod["metadata"]["labels"].update(pairs)
        for claim in spec.get("volumeClaimTemplates", ()):
            claim["metadata"].setdefault("labels", {}).update(pairs)
        _select(spec, pairs)
    else:
        raise ValueError(f"labels of a {resource['kind']} not understood")


def _select(value: Any, pairs: dict[str, str]) -> None:
    """Give every selector of pods the pairs: the set's own and those of affinity."""
    if isinstance(value, dict):
        value.get("matchLabels", {}).update(pairs)
        for each in value.values():
            _select(each, pairs)
    elif isinstance(value, list):
        for each in value:
            _select(each, pairs)


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
        name = resource["metadata"]["name"]
        if resource["kind"] != target[0] or not re.fullmatch(target[1], name):
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
        case "test":
            if at[key] != value:
                raise ValueError(f"{operation['path']}: expected {value}, was {at[key]}")
        case other:
            raise ValueError(f"operation {other} not understood")
