"""deploy/kubernetes rendered: valid to the letter, and as closed as docker-compose.yml."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from services.setup.vault import HOLDERS
from services.shared import __version__
from tests.conftest import ROOT
from tests.kubernetes.kustomized import Resource, render
from tests.kubernetes.layers import CUSTOM, FOLDER, containers, of_kind, part, pods

KUBERNETES = ("1.31", "1.34")
"""The oldest and a late version whose schemas the resources must fit."""


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


def test_kustomize_itself_where_it_is_makes_the_same(layer: Path, resources: list[Resource]) -> None:
    commands = (("kubectl", "kustomize"), ("kustomize", "build"))
    for program, verb in commands:
        if shutil.which(program):
            done = subprocess.run((program, verb, str(layer)), capture_output=True, text=True, check=True)

            def order(each: Resource) -> tuple[str, str]:
                return each["kind"], each["metadata"]["name"]

            theirs = sorted(yaml.safe_load_all(done.stdout), key=order)
            assert theirs == sorted(resources, key=order)


ONCE = {"setup", "backup", "archives", "restore"}
"""What ends by itself, and is asked by nobody whether it is alive."""


def test_every_container_is_locked_up_and_limited(resources: list[Resource]) -> None:
    namespace = of_kind(resources, "Namespace")["tradedesk"]
    assert namespace["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"
    for name, pod in pods(resources).items():
        spec = pod["spec"]
        assert pod["metadata"]["labels"]["app.kubernetes.io/part-of"] == "tradedesk", name
        assert spec["automountServiceAccountToken"] is False, name
        assert spec["enableServiceLinks"] is False, name
        assert not {"hostNetwork", "hostPID", "hostIPC"} & set(spec), name
        assert spec["securityContext"]["runAsNonRoot"] is True, name
        assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}, name
        assert all(
            set(volume) & {"secret", "configMap", "emptyDir", "persistentVolumeClaim"}
            for volume in spec["volumes"]
        )
        for each in containers(pod):
            locked = each["securityContext"]
            assert locked["allowPrivilegeEscalation"] is False, each["name"]
            assert locked["readOnlyRootFilesystem"] is True, each["name"]
            assert locked["capabilities"]["drop"] == ["ALL"], each["name"]
            added = locked["capabilities"].get("add", [])
            assert added == (["NET_BIND_SERVICE"] if each["name"] == "proxy" else []), each["name"]
            assert (spec["securityContext"] | locked)["runAsUser"] > 0, each["name"]
            assert {"cpu", "memory"} == set(each["resources"]["limits"]), each["name"]
            assert {"cpu", "memory"} == set(each["resources"]["requests"]), each["name"]
            if part(pod) not in ONCE:
                assert {"livenessProbe", "readinessProbe"} <= set(each), each["name"]


def test_what_is_mounted_and_referred_to_is_there(resources: list[Resource]) -> None:
    claims = set(of_kind(resources, "PersistentVolumeClaim"))
    maps = set(of_kind(resources, "ConfigMap")) | {
        f"grafana-{what}" for what in ("settings", "datasources", "folders", "alerting", "dashboards")
    }
    services = of_kind(resources, "Service")
    for name, each in of_kind(resources, "StatefulSet").items():
        assert (
            services[each["spec"]["serviceName"]]["spec"]["selector"].items()
            <= (each["spec"]["template"]["metadata"]["labels"].items())
            or each["spec"]["serviceName"] == "nats"
        ), name
        assert each["spec"]["selector"]["matchLabels"].items() <= (
            each["spec"]["template"]["metadata"]["labels"].items()
        ), name
    templates = of_kind(resources, "StatefulSet")
    for name, pod in pods(resources).items():
        volumes = {volume["name"]: volume for volume in pod["spec"]["volumes"]}
        own = {
            claim["metadata"]["name"]
            for claim in templates.get(name, {"spec": {}})["spec"].get("volumeClaimTemplates", ())
        }
        for volume in volumes.values():
            if "persistentVolumeClaim" in volume:
                assert volume["persistentVolumeClaim"]["claimName"] in claims, name
            if "configMap" in volume:
                assert volume["configMap"]["name"] in maps, name
        mounted = {mount["name"] for each in containers(pod) for mount in each["volumeMounts"]}
        assert mounted == set(volumes) | own, name
        for each in containers(pod):
            for source in each.get("envFrom", ()):
                assert source["configMapRef"]["name"] in maps, name


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
            own = {"prepare": "setup", "restore": "setup"}.get(each["name"], each["name"])
            assert mounted == ({f"secrets-{own}"} if own in holders else set()), each["name"]
            assert not any("secretRef" in source for source in each.get("envFrom", ())), each["name"]
            assert not any(
                "secretKeyRef" in variable.get("valueFrom", {}) for variable in each.get("env", ())
            )


def test_the_users_are_those_of_compose(resources: list[Resource]) -> None:
    wanted = {holder.name: holder.gid for holder in HOLDERS}
    wanted |= {"prepare": 10000, "proxy": 10007, "archives": wanted["backup"], "restore": wanted["api"]}
    for pod in pods(resources).values():
        for each in containers(pod):
            as_whom = pod["spec"]["securityContext"] | each["securityContext"]
            assert as_whom["runAsUser"] == as_whom["runAsGroup"] == wanted[each["name"]], each["name"]


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
                # The service makes one a day, a job one at a time; and who restores comes with the archive.
                words = {"backup": [*words, "now"], "restore": ["sleep", "infinity"]}.get(each["name"], words)
                assert each.get("command", []) == words, each["name"]


def test_a_cluster_has_three_nodes_apart_and_several_recorders() -> None:
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
    assert sets["recorder"]["spec"]["replicas"] > 1
    assert "timescaledb" not in sets


def environment(pod: dict[str, Any]) -> dict[str, Any]:
    """The first container's, each as it is written."""
    return {each["name"]: each.get("value", each.get("valueFrom")) for each in containers(pod)[0]["env"]}


@pytest.mark.parametrize("name", ["base", "cluster"])
def test_every_trader_has_a_guard_of_its_own_and_in_a_cluster_a_standby(name: str) -> None:
    resources = render(FOLDER / name)
    sets = of_kind(resources, "StatefulSet")
    budgets = of_kind(resources, "PodDisruptionBudget")
    ids: dict[str, list[str]] = {"trader": [], "risk": []}
    for each in sets.values():
        pod = each["spec"]["template"]
        if part(pod) not in ids:
            continue
        labels = pod["metadata"]["labels"]
        ids[part(pod)].append(labels["tradedesk/trader"])
        which = {"app.kubernetes.io/name": part(pod), "tradedesk/trader": labels["tradedesk/trader"]}
        assert each["spec"]["selector"]["matchLabels"] == which
        told = environment(pod)
        assert told["DESK_TRADER"] == {"fieldRef": {"fieldPath": "metadata.labels['tradedesk/trader']"}}
        if part(pod) == "risk":
            # Its memory is one: a second guard of a trader would be one too many.
            assert each["spec"]["replicas"] == 1
            continue
        spec = pod["spec"]
        assert told["DESK_INSTANCE"] == {"fieldRef": {"fieldPath": "metadata.name"}}
        stands_by = name == "cluster"
        assert (each["spec"]["replicas"], told["DESK_STANDBY"]) == (
            (2, "true") if stands_by else (1, "false")
        )
        (apart,) = spec["affinity"]["podAntiAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]
        assert apart == {"topologyKey": "kubernetes.io/hostname", "labelSelector": {"matchLabels": which}}
        assert ("podAffinity" in spec["affinity"]) is not stands_by
        budget = budgets[each["metadata"]["name"]]["spec"]
        assert budget == {"maxUnavailable": 1, "selector": {"matchLabels": which}}
        assert [claim["metadata"]["name"] for claim in each["spec"]["volumeClaimTemplates"]] == ["data"]
        assert spec["terminationGracePeriodSeconds"] >= 10
    assert sorted(ids["trader"]) == sorted(ids["risk"]) == sorted(set(ids["risk"]))
    assert len(ids["trader"]) == {"base": 1, "cluster": 2}[name]
    assert environment(pods(resources)["api"])["DESK_TRADER"] in ids["trader"]


def test_a_further_trader_is_made_as_the_docs_say(tmp_path: Path) -> None:
    text = (ROOT / "docs" / "kubernetes.md").read_text()
    third = text.partition("# my-desk/third/kustomization.yaml\n")[2].partition("```")[0]
    (tmp_path / "tradedesk").symlink_to(ROOT)
    folder = tmp_path / "my-desk" / "third"
    folder.mkdir(parents=True)
    (folder / "kustomization.yaml").write_text(third)
    desk = {"resources": ["../tradedesk/deploy/kubernetes/cluster", "third"]}
    (folder.parent / "kustomization.yaml").write_text(yaml.safe_dump(desk))
    sets = of_kind(render(folder.parent), "StatefulSet")
    first, further = (sets[name]["spec"] for name in ("trader", "trader-third"))
    assert json.dumps(further) == (
        json.dumps(first)
        .replace('"tradedesk/trader": "main"', '"tradedesk/trader": "third"')
        .replace('"serviceName": "trader"', '"serviceName": "trader-third"')
        .replace(
            '{"metadata": {"name": "data"}',
            '{"metadata": {"name": "data", "labels": {"tradedesk/trader": "third"}}',
        )
    )
    assert sets["risk-third"]["spec"]["replicas"] == 1


def test_what_several_machines_read_several_machines_may_mount() -> None:
    claims = of_kind(render(FOLDER / "cluster"), "PersistentVolumeClaim")
    for name in ("strategies", "rates"):
        assert claims[name]["spec"]["accessModes"] == ["ReadWriteMany"]


def test_a_backup_is_made_once_a_day_and_never_two_at_a_time(resources: list[Resource]) -> None:
    backup = of_kind(resources, "CronJob")["backup"]["spec"]
    assert (backup["schedule"], backup["timeZone"]) == ("0 3 * * *", "Etc/UTC")
    assert backup["concurrencyPolicy"] == "Forbid"
    # Without a deadline a controller that was away for a hundred starts begins none any more.
    assert 0 < backup["startingDeadlineSeconds"] < 86_400
    assert backup["jobTemplate"]["spec"]["activeDeadlineSeconds"] < 86_400
    mounts = {mount["mountPath"]: mount for mount in containers(pods(resources)["backup"])[0]["volumeMounts"]}
    assert not mounts["/backups"].get("readOnly")
    assert all(mounts[f"/data/{name}"]["readOnly"] for name in ("strategies", "rates", "secrets"))


def test_archives_can_be_listed_with_what_their_pod_is_told(tmp_path: Path) -> None:
    told = environment(pods(render(FOLDER / "archives"))["archives"])
    command = [sys.executable, "-m", "services.backup", "list"]
    done = subprocess.run(
        command, cwd=ROOT, env=told | {"DESK_BACKUP_DIR": str(tmp_path)}, capture_output=True, check=True
    )
    assert done.stdout == b"no backup yet\n"


@pytest.mark.parametrize("name", ["base", "cluster"])
def test_nothing_of_a_desk_that_is_restored_runs_but_what_holds_it(name: str) -> None:
    awake = render(FOLDER / name)
    asleep = render(FOLDER / "restore", awake)
    for each in of_kind(asleep, "StatefulSet", "Deployment").values():
        runs = part(each["spec"]["template"]) in {"nats", "timescaledb", "grafana"}
        assert (each["spec"]["replicas"] > 0) is runs, each["metadata"]["name"]
    assert of_kind(asleep, "CronJob")["backup"]["spec"]["suspend"] is True


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
