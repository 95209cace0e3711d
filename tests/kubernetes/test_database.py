"""The database that an operator runs: custom resources, of which kubernetes-validate knows nothing."""

from __future__ import annotations

import copy
from typing import Any

import jsonschema
import pytest
import yaml

from tests.conftest import ROOT
from tests.kubernetes.kustomized import Resource, render
from tests.kubernetes.layers import CUSTOM, FOLDER, of_kind

_STRICT = {"type": "object", "additionalProperties": False}
_QUANTITIES = {
    "type": "object",
    "additionalProperties": False,
    "required": ["cpu", "memory"],
    "properties": {name: {"type": "string", "pattern": "^[0-9]+(m|Mi|Gi)?$"} for name in ("cpu", "memory")},
}


def _all_of(**properties: Any) -> dict[str, Any]:
    """An object with just these fields."""
    return {**_STRICT, "properties": properties, "required": list(properties)}


# The fields of CloudNativePG's resources that are used, as its API reference (1.27) has them.
CLUSTER = _all_of(
    instances={"type": "integer", "minimum": 3},
    imageCatalogRef=_all_of(
        apiGroup={"const": "postgresql.cnpg.io"},
        kind={"enum": ["ImageCatalog", "ClusterImageCatalog"]},
        name={"type": "string"},
        major={"type": "integer", "minimum": 17, "maximum": 17},
    ),
    postgresUID={"type": "integer", "minimum": 1},
    postgresGID={"type": "integer", "minimum": 1},
    enableSuperuserAccess={"const": True},
    superuserSecret=_all_of(name={"type": "string"}),
    bootstrap=_all_of(initdb=_all_of(postInitTemplateSQL={"type": "array", "items": {"type": "string"}})),
    postgresql=_all_of(
        shared_preload_libraries={"type": "array", "items": {"type": "string"}},
        parameters={"type": "object", "additionalProperties": {"type": "string"}},
        synchronous=_all_of(method={"enum": ["any", "first"]}, number={"type": "integer", "minimum": 1}),
    ),
    affinity=_all_of(podAntiAffinityType={"enum": ["preferred", "required"]}, topologyKey={"type": "string"}),
    storage=_all_of(size={"type": "string", "pattern": "^[0-9]+Gi$"}),
    resources=_all_of(requests=_QUANTITIES, limits=_QUANTITIES),
)
CATALOG = _all_of(
    images={
        "type": "array",
        "minItems": 1,
        "items": _all_of(
            major={"type": "integer", "minimum": 10},
            image={"type": "string", "pattern": "^[a-z0-9./-]+:[A-Za-z0-9._-]+$"},
        ),
    }
)
SCHEMAS = {"Cluster": CLUSTER, "ImageCatalog": CATALOG}


@pytest.fixture
def clustered() -> list[Resource]:
    """The desk over several machines."""
    return render(FOLDER / "cluster")


def custom(resources: list[Resource]) -> dict[str, Resource]:
    """The operator's resources, by kind."""
    return {each["kind"]: each for each in resources if each["apiVersion"] == CUSTOM}


def test_custom_resources_have_only_fields_their_operator_knows(clustered: list[Resource]) -> None:
    assert not custom(render(FOLDER / "base"))
    found = custom(clustered)
    assert set(found) == set(SCHEMAS)
    for kind, each in found.items():
        assert set(each) == {"apiVersion", "kind", "metadata", "spec"}
        jsonschema.validate(each["spec"], SCHEMAS[kind])


@pytest.mark.parametrize(
    "change",
    [{"imageNam": "x"}, {"instances": "3"}, {"postgresUID": 0}, {"bootstrap": {"initdb": {"SQL": []}}}],
)
def test_a_field_that_is_misspelt_or_of_another_type_would_be_found(
    clustered: list[Resource], change: dict[str, Any]
) -> None:
    spec = copy.deepcopy(custom(clustered)["Cluster"]["spec"]) | change
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(spec, CLUSTER)


def test_the_desk_finds_the_cluster_and_the_cluster_its_image(clustered: list[Resource]) -> None:
    cluster, catalog = (custom(clustered)[kind] for kind in ("Cluster", "ImageCatalog"))
    name, namespace = (cluster["metadata"][key] for key in ("name", "namespace"))
    service = of_kind(clustered, "Service")["timescaledb"]["spec"]
    assert service == {"type": "ExternalName", "externalName": f"{name}-rw.{namespace}.svc.cluster.local"}
    reference = cluster["spec"]["imageCatalogRef"]
    assert (reference["kind"], reference["name"]) == (catalog["kind"], catalog["metadata"]["name"])
    assert reference["major"] in {each["major"] for each in catalog["spec"]["images"]}
    assert catalog["metadata"]["namespace"] == namespace


def test_image_user_and_settings_are_those_of_compose(clustered: list[Resource]) -> None:
    cluster, catalog = (custom(clustered)[kind] for kind in ("Cluster", "ImageCatalog"))
    composed = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]["timescaledb"]
    assert [each["image"] for each in catalog["spec"]["images"]] == [composed["image"]]
    assert composed["image"].endswith(f"-pg{catalog['spec']['images'][0]['major']}")
    spec = cluster["spec"]
    assert composed["user"] == f"{spec['postgresUID']}:{spec['postgresGID']}"
    set_there = dict(word.removeprefix("-c").split("=") for word in composed["command"] if word != "postgres")
    assert spec["postgresql"]["shared_preload_libraries"] == [set_there.pop("shared_preload_libraries")]
    parameters = dict(spec["postgresql"]["parameters"])
    # The operator's own connections come on top.
    assert int(parameters.pop("max_connections")) > int(set_there.pop("max_connections"))
    assert {name: value.lower() for name, value in parameters.items()} == {
        name: value.lower() for name, value in set_there.items()
    }
    assert any("timescaledb" in each for each in spec["bootstrap"]["initdb"]["postInitTemplateSQL"])
