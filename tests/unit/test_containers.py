"""Tests of deploy/docker and deploy/kubernetes: their shape, and that settings, paths and times are those of taskd."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from taskd.settings import HttpSettings, WorkerSettings, load

DEPLOY = Path(__file__).parents[2] / "deploy"
COMPOSE: dict[str, Any] = yaml.safe_load((DEPLOY / "docker" / "compose.yaml").read_text())
MANIFESTS: list[dict[str, Any]] = [
    document
    for file in sorted((DEPLOY / "kubernetes").glob("*.yaml"))
    for document in yaml.safe_load_all(file.read_text())
]
DEPLOYMENTS = [m for m in MANIFESTS if m["kind"] == "Deployment"]
#: Most seconds that a role takes to stop.
GRACE = {"scheduler": HttpSettings().shutdown_grace, "worker": WorkerSettings().grace}
#: Content of the Secret that the manifests need.
SECRET = {"POSTGRES_DSN": "postgresql://db/taskd"}


def name(manifest: dict[str, Any]) -> str:
    """Return the kind and the name."""
    return f"{manifest['kind']}-{manifest['metadata']['name']}"


def role(deployment: dict[str, Any]) -> str:
    """Return scheduler or worker."""
    return str(deployment["metadata"]["labels"]["app.kubernetes.io/component"])


@pytest.mark.parametrize("manifest", MANIFESTS, ids=name)
def test_kubernetes_takes_each_manifest(manifest: dict[str, Any]) -> None:
    kubernetes_validate.validate(manifest, "1.30", strict=True)


def test_each_role_has_a_deployment_and_a_disruption_budget_for_its_pods() -> None:
    assert sorted(role(d) for d in DEPLOYMENTS) == ["scheduler", "worker"]
    budgets = {name(m): m["spec"]["selector"]["matchLabels"] for m in MANIFESTS if m["kind"] == "PodDisruptionBudget"}
    for deployment in DEPLOYMENTS:
        labels = deployment["spec"]["template"]["metadata"]["labels"]
        assert deployment["spec"]["selector"]["matchLabels"] == labels
        assert budgets[f"PodDisruptionBudget-taskd-{role(deployment)}"] == labels


@pytest.mark.parametrize("deployment", DEPLOYMENTS, ids=role)
def test_a_pod_is_not_killed_before_its_drain_is_over(deployment: dict[str, Any]) -> None:
    pod = deployment["spec"]["template"]["spec"]
    hook = pod["containers"][0].get("lifecycle", {}).get("preStop", {}).get("exec", {"command": ["sleep", "0"]})
    assert pod["terminationGracePeriodSeconds"] >= GRACE[role(deployment)] + float(hook["command"][1]) + 5


@pytest.mark.parametrize("deployment", DEPLOYMENTS, ids=role)
def test_only_a_process_that_hangs_is_restarted(deployment: dict[str, Any]) -> None:
    container = deployment["spec"]["template"]["spec"]["containers"][0]
    assert container["livenessProbe"]["httpGet"]["path"] == "/alive"
    assert container["readinessProbe"]["httpGet"]["path"] == "/health"
    assert container["ports"][0]["containerPort"] == {"scheduler": 8080, "worker": 9090}[role(deployment)]


@pytest.mark.parametrize("deployment", DEPLOYMENTS, ids=role)
def test_a_pod_has_no_rights_that_it_does_not_need(deployment: dict[str, Any]) -> None:
    pod = deployment["spec"]["template"]["spec"]
    assert pod["securityContext"]["runAsNonRoot"]
    for container in (*pod.get("initContainers", []), *pod["containers"]):
        context = container["securityContext"]
        assert not context["allowPrivilegeEscalation"]
        assert context["readOnlyRootFilesystem"]
        assert context["capabilities"] == {"drop": ["ALL"]}


@pytest.mark.parametrize("deployment", DEPLOYMENTS, ids=role)
def test_taskd_knows_every_setting_of_a_pod(deployment: dict[str, Any]) -> None:
    (config,) = [m for m in MANIFESTS if m["kind"] == "ConfigMap"]
    container = deployment["spec"]["template"]["spec"]["containers"][0]
    assert [s["configMapRef" if i == 0 else "secretRef"] for i, s in enumerate(container["envFrom"])] == [
        {"name": config["metadata"]["name"]},
        {"name": "taskd"},
    ]
    variables = {variable["name"]: "pod-1" for variable in container["env"]}
    settings = load(environ=config["data"] | SECRET | variables)
    assert "pod-1" in (settings.scheduler.instance_id, settings.worker.id)
    assert settings.redis.url != load(environ={}).redis.url
    assert settings.etcd.endpoints.count(",") == 2


def services(role: str) -> dict[str, dict[str, Any]]:
    """Return the services of a role in compose.yaml."""
    return {n: s for n, s in COMPOSE["services"].items() if s.get("command", [""])[0] == role}


def test_compose_has_two_schedulers_three_workers_and_three_etcds_and_asks_each_for_its_health() -> None:
    compose = COMPOSE["services"]
    assert len(services("scheduler")) == 2
    assert len(services("worker")) == 3
    assert {"postgres", "redis", "etcd-1", "etcd-2", "etcd-3"} <= compose.keys()
    assert all("healthcheck" in service for service in compose.values())


@pytest.mark.parametrize("kind", ["scheduler", "worker"])
def test_compose_gives_settings_that_taskd_knows_and_time_to_stop(kind: str) -> None:
    for service in services(kind).values():
        settings = load(environ=service["environment"])
        members = {f"{n}:2379" for n in COMPOSE["services"] if n.startswith("etcd-")}
        assert set(settings.etcd.endpoints.split(",")) == members
        assert float(service["stop_grace_period"].removesuffix("s")) >= GRACE[kind] + 5
        assert service["read_only"]
        assert service["cap_drop"] == ["ALL"]


def test_compose_lets_only_this_machine_in() -> None:
    ports = [port for service in COMPOSE["services"].values() for port in service.get("ports", [])]
    assert len(ports) == 2
    assert all(port.startswith("127.0.0.1:") for port in ports)


def test_the_image_runs_as_the_user_of_the_pods() -> None:
    lines = (DEPLOY / "docker" / "Dockerfile").read_text().splitlines()
    (user,) = [line.removeprefix("USER ") for line in lines if line.startswith("USER ")]
    pods = {d["spec"]["template"]["spec"]["securityContext"]["runAsUser"] for d in DEPLOYMENTS}
    assert pods == {int(user.partition(":")[0])}
    assert not any(line.startswith("RUN --mount") or "<<" in line for line in lines)  # the classic builder has neither
