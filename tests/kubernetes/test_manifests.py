"""deploy/kubernetes rendered: valid to the letter, and as closed as docker-compose.yml."""

from __future__ import annotations

import copy
import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from services.setup.vault import HOLDERS
from services.shared import __version__
from services.trader.settings import TraderSettings
from tests.conftest import ROOT
from tests.kubernetes.kustomized import Resource, render

FOLDER = ROOT / "deploy" / "kubernetes"
LAYERS = ("base", "cluster")
KUBERNETES = ("1.31", "1.34")
"""The oldest and a late version whose schemas the resources must fit."""
CUSTOM = "postgresql.cnpg.io/v1"

# The fields of CloudNativePG's Cluster that are used, as its API reference (1.27) has them.
_STRICT = {"type": "object", "additionalProperties": False}
CLUSTER = {
    **_STRICT,
    "required": ["instances", "storage", "superuserSecret"],
    "properties": {
        "instances": {"type": "integer", "minimum": 1},
        "imageName": {"type": "string"},
        "enableSuperuserAccess": {"const": True},
        "superuserSecret": {**_STRICT, "properties": {"name": {"type": "string"}}, "required": ["name"]},
        "postgresql": {
            **_STRICT,
            "properties": {
                "shared_preload_libraries": {"type": "array", "items": {"type": "string"}},
                "parameters": {"type": "object", "additionalProperties": {"type": "string"}},
                "synchronous": {
                    **_STRICT,
                    "required": ["method", "number"],
                    "properties": {"method": {"enum": ["any", "first"]}, "number": {"type": "integer"}},
                },
            },
        },
        "affinity": {
            **_STRICT,
            "properties": {
                "podAntiAffinityType": {"enum": ["preferred", "required"]},
                "topologyKey": {"type": "string"},
            },
        },
        "storage": {**_STRICT, "properties": {"size": {"type": "string"}}, "required": ["size"]},
        "resources": {
            **_STRICT,
            "properties": {
                name: {"type": "object", "additionalProperties": {"type": "string"}}
                for name in ("requests", "limits")
            },
        },
    },
}


@pytest.fixture(params=LAYERS)
def layer(request: pytest.FixtureRequest) -> str:
    """A kustomization's name."""
    return str(request.param)


@pytest.fixture
def resources(layer: str) -> list[Resource]:
    """The layer's resources."""
    return render(FOLDER / layer)


def of_kind(resources: list[Resource], *kinds: str) -> dict[str, Resource]:
    """Those of these kinds, by name."""
    return {each["metadata"]["name"]: each for each in resources if each["kind"] in kinds}


def pods(resources: list[Resource]) -> dict[str, dict[str, Any]]:
    """Every pod template, by its workload's name."""
    workloads = of_kind(resources, "Deployment", "StatefulSet", "Job")
    return {name: each["spec"]["template"] for name, each in workloads.items()}


def containers(pod: dict[str, Any]) -> list[dict[str, Any]]:
    """A pod's containers, those that run before the others included."""
    return [*pod["spec"].get("initContainers", ()), *pod["spec"]["containers"]]


def validated(path: Path, version: str) -> subprocess.CompletedProcess[str]:
    """What kubernetes-validate says of a file."""
    command = [
        str(Path(sys.executable).with_name("kubernetes-validate")),
        "--strict",
        "-k",
        version,
        str(path),
    ]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("version", KUBERNETES)
def test_every_resource_fits_the_schemas_without_a_warning(
    resources: list[Resource], version: str, tmp_path: Path
) -> None:
    known = [each for each in resources if each["apiVersion"] != CUSTOM]
    (tmp_path / "all.yaml").write_text(yaml.safe_dump_all(known))
    done = validated(tmp_path / "all.yaml", version)
    said = (done.stdout + done.stderr).splitlines()
    assert done.returncode == 0, said
    assert len(said) == len(known)
    assert all(line.startswith("INFO ") and " passed " in line for line in said), said


def test_a_misspelt_field_and_an_unknown_kind_would_be_found(tmp_path: Path) -> None:
    service = of_kind(render(FOLDER / "base"), "Service")["nats"]
    changes: dict[str, dict[str, Any]] = {
        "field": {"spec": {**service["spec"], "portz": []}},
        "kind": {"kind": "Servise"},
    }
    for name, change in changes.items():
        path = tmp_path / f"{name}.yaml"
        path.write_text(yaml.safe_dump(service | change))
        done = validated(path, KUBERNETES[0])
        assert not (done.stdout + done.stderr).startswith("INFO "), name


def test_the_custom_resource_has_only_fields_its_operator_knows() -> None:
    resources = render(FOLDER / "cluster")
    assert not [each for each in render(FOLDER / "base") if each["apiVersion"] == CUSTOM]
    custom = [each for each in resources if each["apiVersion"] == CUSTOM]
    assert [each["kind"] for each in custom] == ["Cluster"]
    jsonschema.validate(custom[0]["spec"], CLUSTER)
    name, namespace = (custom[0]["metadata"][key] for key in ("name", "namespace"))
    service = of_kind(resources, "Service")["timescaledb"]["spec"]
    assert service == {"type": "ExternalName", "externalName": f"{name}-rw.{namespace}.svc.cluster.local"}
    policy = of_kind(resources, "NetworkPolicy")["data"]["spec"]["egress"][0]["to"][0]
    assert policy == {"podSelector": {"matchLabels": {"cnpg.io/cluster": name}}}


def test_kustomize_itself_where_it_is_makes_the_same(layer: str, resources: list[Resource]) -> None:
    commands = (("kubectl", "kustomize"), ("kustomize", "build"))
    for program, verb in commands:
        if shutil.which(program):
            done = subprocess.run(
                (program, verb, str(FOLDER / layer)), capture_output=True, text=True, check=True
            )

            def order(each: Resource) -> tuple[str, str]:
                return each["kind"], each["metadata"]["name"]

            theirs = sorted(yaml.safe_load_all(done.stdout), key=order)
            assert theirs == sorted(resources, key=order)


def test_every_container_is_locked_up_and_limited(resources: list[Resource]) -> None:
    namespace = of_kind(resources, "Namespace")["tradedesk"]
    assert namespace["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"
    for name, pod in pods(resources).items():
        spec = pod["spec"]
        assert spec["automountServiceAccountToken"] is False, name
        assert spec["securityContext"]["runAsNonRoot"] is True, name
        assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}, name
        for each in containers(pod):
            locked = each["securityContext"]
            assert locked["allowPrivilegeEscalation"] is False, each["name"]
            assert locked["readOnlyRootFilesystem"] is True, each["name"]
            assert locked["capabilities"]["drop"] == ["ALL"], each["name"]
            added = locked["capabilities"].get("add", [])
            assert added == (["NET_BIND_SERVICE"] if each["name"] == "proxy" else []), each["name"]
            assert (spec["securityContext"] | locked)["runAsUser"] > 0, each["name"]
            assert {"cpu", "memory"} <= set(each["resources"]["limits"]), each["name"]
            assert {"cpu", "memory"} <= set(each["resources"]["requests"]), each["name"]
            if name != "setup":
                assert {"livenessProbe", "readinessProbe"} <= set(each), each["name"]


def test_each_container_mounts_its_own_secret_only_and_no_environment_has_one(
    resources: list[Resource],
) -> None:
    holders = {holder.name for holder in HOLDERS} | {"setup"}
    assert not of_kind(resources, "Secret")
    for pod in pods(resources).values():
        secrets = {
            volume["name"]: volume["secret"]["secretName"]
            for volume in pod["spec"]["volumes"]
            if "secret" in volume
        }
        for each in containers(pod):
            mounted = {secrets[mount["name"]] for mount in each["volumeMounts"] if mount["name"] in secrets}
            own = {"prepare": "setup"}.get(each["name"], each["name"])
            assert mounted == ({f"secrets-{own}"} if own in holders else set()), each["name"]
            assert not any("secretRef" in source for source in each.get("envFrom", ())), each["name"]
            assert not any(
                "secretKeyRef" in variable.get("valueFrom", {}) for variable in each.get("env", ())
            )


def test_the_users_are_those_of_compose(resources: list[Resource]) -> None:
    wanted = {holder.name: holder.gid for holder in HOLDERS} | {"prepare": 10000, "proxy": 10007}
    for pod in pods(resources).values():
        for each in containers(pod):
            as_whom = pod["spec"]["securityContext"] | each["securityContext"]
            assert as_whom["runAsUser"] == as_whom["runAsGroup"] == wanted[each["name"]], each["name"]


def test_nobody_reaches_anybody_but_whom_compose_lets_him_reach(resources: list[Resource]) -> None:
    policies = of_kind(resources, "NetworkPolicy")
    assert policies["nobody"]["spec"] == {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}
    composed = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]
    found = pods(resources)
    for network in ("bus", "data", "outside"):
        labelled = {
            {"trader-standby": "trader"}.get(name, name)
            for name, pod in found.items()
            if f"tradedesk/{network}" in pod["metadata"]["labels"]
        } - {"grafana"}
        on_it = {
            {"prepare": "setup", "migrate": "setup"}.get(name, name)
            for name, service in composed.items()
            if network in service.get("networks", ())
        }
        assert labelled == on_it & (set(found) - {"nats", "timescaledb", "grafana"}), network
    grafana = policies["grafana"]["spec"]["ingress"]
    assert grafana == [
        {
            "from": [{"podSelector": {"matchLabels": {"app.kubernetes.io/name": "api"}}}],
            "ports": [{"port": 3000}],
        }
    ]
    assert {each["spec"].get("type", "ClusterIP") for each in of_kind(resources, "Service").values()} <= {
        "ClusterIP",
        "ExternalName",
    }


def test_limits_images_and_the_databases_settings_are_those_of_compose(resources: list[Resource]) -> None:
    composed = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]
    units = {"Mi": "m", "Gi": "g"}
    for pod in pods(resources).values():
        for each in containers(pod):
            service = composed.get(each["name"])
            assert each["image"].rpartition(":")[2] != "latest"
            if each["image"].startswith("tradedesk-"):
                assert each["image"].endswith(f":{__version__}"), each["name"]
            if service is None:
                continue
            memory = each["resources"]["limits"]["memory"]
            assert service.get("mem_limit") == memory[:-2] + units[memory[-2:]], each["name"]
            if each["name"] == "timescaledb":
                assert (each["args"], each["image"]) == (service["command"], service["image"])
                told = {variable["name"]: variable["value"] for variable in each["env"]}
                assert service["environment"].items() <= told.items()
            elif each["name"] == "grafana":
                assert each["image"] == service["image"]
                names = {variable["name"] for variable in each["env"]} | {"DESK_URL"}
                assert names == set(service["environment"])
                mounted = {mount["mountPath"] for mount in each["volumeMounts"]}
                for volume in service["volumes"]:
                    target = volume.split(":")[1]
                    assert any(path == target or path.startswith(f"{target}/") for path in mounted), target
            elif each["image"].startswith("tradedesk-"):
                words = [*service.get("entrypoint", ()), *service.get("command", ())]
                assert each.get("command", []) == words, each["name"]


def test_a_cluster_has_three_nodes_apart_and_a_guard_for_each_trader() -> None:
    resources = render(FOLDER / "cluster")
    sets = of_kind(resources, "StatefulSet")
    services = of_kind(resources, "Service")
    assert sets["nats"]["spec"]["replicas"] == 3
    settings = of_kind(resources, "ConfigMap")["settings"]["data"]
    assert settings["DESK_NATS_NODES"] == "3"
    for number in (1, 2, 3):
        selector = services[f"nats-{number}"]["spec"]["selector"]
        assert selector == {"statefulset.kubernetes.io/pod-name": f"nats-{number}"}
        assert f"nats://nats-{number}:4222" in settings["DESK_NATS_URL"].split(",")
    apart = sets["nats"]["spec"]["template"]["spec"]["affinity"]["podAntiAffinity"]
    assert "requiredDuringSchedulingIgnoredDuringExecution" in apart
    assert of_kind(resources, "PodDisruptionBudget")["nats"]["spec"]["maxUnavailable"] == 1
    assert sets["trader"]["spec"]["replicas"] == sets["risk"]["spec"]["replicas"] > 1
    for name in ("trader", "risk"):
        environment = sets[name]["spec"]["template"]["spec"]["containers"][0]["env"]
        names = [variable["name"] for variable in environment]
        assert environment[names.index("DESK_TRADER")]["value"] == "trader-$(DESK_NUMBER)"
        # What a value refers to must stand before it.
        assert names.index("DESK_NUMBER") < names.index("DESK_TRADER")
    assert sets["recorder"]["spec"]["replicas"] > 1
    assert "timescaledb" not in sets


def test_a_traders_standby_is_its_equal_on_another_machine() -> None:
    resources = render(FOLDER / "cluster")
    sets = of_kind(resources, "StatefulSet")
    services = of_kind(resources, "Service")
    first, second = (copy.deepcopy(sets[name]["spec"]) for name in ("trader", "trader-standby"))
    for name, spec in (("trader", first), ("trader-standby", second)):
        label = {"app.kubernetes.io/name": name}
        assert spec["selector"].pop("matchLabels") == label
        assert services[spec.pop("serviceName")]["spec"]["selector"] == label
        assert spec["template"]["metadata"]["labels"].pop("app.kubernetes.io/name") == name
    assert first == second
    spec = first["template"]["spec"]
    environment = {variable["name"]: variable for variable in spec["containers"][0]["env"]}
    # A pod of a stateful set keeps its name: whoever is started again is the same instance.
    assert environment["DESK_INSTANCE"]["valueFrom"] == {"fieldRef": {"fieldPath": "metadata.name"}}
    assert environment["DESK_STANDBY"]["value"] == "true"
    told = {"DESK_TRADER": "trader-0", "DESK_INSTANCE": "trader-standby-0", "DESK_STANDBY": "true"}
    settings = TraderSettings.model_validate(
        {name.removeprefix("DESK_").lower(): value for name, value in told.items()}
        | {"nats_password_file": "unused"}
    )
    assert (settings.instance, settings.standby) == ("trader-standby-0", True)
    [apart] = spec["affinity"]["podAntiAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]
    assert apart["matchLabelKeys"] == ["apps.kubernetes.io/pod-index"]
    both = apart["labelSelector"]["matchLabels"].items()
    assert both <= first["template"]["metadata"]["labels"].items()
    budget = of_kind(resources, "PodDisruptionBudget")["trader"]["spec"]
    assert (budget["maxUnavailable"], budget["selector"]["matchLabels"].items()) == (1, both)
    # Base has one of each: nobody is to give up where nobody stands by.
    alone = of_kind(render(FOLDER / "base"), "StatefulSet")["trader"]["spec"]["template"]["spec"]
    names = {variable["name"] for variable in alone["containers"][0]["env"]}
    assert not names & {"DESK_INSTANCE", "DESK_STANDBY"}


def test_a_restore_is_composes_and_reads_what_is_put_in(tmp_path: Path) -> None:
    [job] = render(FOLDER / "restore")
    (tmp_path / "restore.yaml").write_text(yaml.safe_dump(job))
    for version in KUBERNETES:
        done = validated(tmp_path / "restore.yaml", version)
        assert done.returncode == 0
        assert (done.stdout + done.stderr).startswith("INFO "), done
    composed = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]["restore"]
    template = job["spec"]["template"]
    [container] = containers(template)
    assert container["command"] == [*composed["entrypoint"], "-"]
    assert (container["stdin"], container["stdinOnce"]) == (True, True)
    environment = {variable["name"]: variable["value"] for variable in container["env"]}
    assert environment.items() <= composed["environment"].items()
    assert template["spec"]["securityContext"]["runAsUser"] == composed["build"]["args"]["ID"]
    assert container["securityContext"]["readOnlyRootFilesystem"] is True
    for network in composed["networks"]:
        assert template["metadata"]["labels"][f"tradedesk/{network}"] == "yes"
    [secret] = [volume["secret"] for volume in template["spec"]["volumes"] if "secret" in volume]
    assert secret["secretName"] == "secrets-setup"
    # What it may write is what the desk reads.
    claims = {
        volume["persistentVolumeClaim"]["claimName"]
        for volume in template["spec"]["volumes"]
        if "persistentVolumeClaim" in volume
    }
    assert claims <= set(of_kind(render(FOLDER / "base"), "PersistentVolumeClaim"))


def test_the_secrets_are_made_for_every_holder_as_kubernetes_takes_them(tmp_path: Path) -> None:
    folder = tmp_path / "secrets"
    command = [sys.executable, "-m", "services.setup", "kubernetes"]
    environment = {"DESK_SECRETS_DIR": str(folder), "DESK_NATS_NODES": "3", "PATH": "/usr/bin:/bin"}

    def made() -> dict[str, Any]:
        done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=True)
        found: dict[str, Any] = json.loads(done.stdout)
        return found

    first = made()
    assert made() == first
    assert {each["metadata"]["name"] for each in first["items"]} == {
        "secrets-setup",
        *(f"secrets-{holder.name}" for holder in HOLDERS),
    }
    for holder in HOLDERS:
        secret = next(each for each in first["items"] if each["metadata"]["name"] == f"secrets-{holder.name}")
        assert set(secret["data"]) == set(holder.secrets)
    path = tmp_path / "secrets.yaml"
    path.write_text(yaml.safe_dump_all(first["items"]))
    said = validated(path, KUBERNETES[0])
    assert said.returncode == 0
    assert all(line.startswith("INFO ") for line in (said.stdout + said.stderr).splitlines()), said
    assert folder.stat().st_mode & 0o077 == 0
