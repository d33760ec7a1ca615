"""The Kubernetes files: every object against the API's schema, Dagster's values against what its chart and its launcher take, and what they say together."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
import yaml
from dagster._config import process_config
from dagster_shared.yaml_utils import load_yaml_from_path

from orchestration.masking import check_storage
from orchestration.settings import PROJECT_ROOT, Settings
from tests.deploy import compose

FOLDER = PROJECT_ROOT / "deploy" / "kubernetes"
FILES = sorted(set(FOLDER.glob("*.yaml")) - {FOLDER / "values.yaml"})
VALUES = yaml.safe_load((FOLDER / "values.yaml").read_text())
CUSTOM = {"RayCluster"}
"""Kinds of an operator, whose schema the API server has and this machine has not."""

_WORKLOAD = "image env envConfigMaps envSecrets labels nodeSelector affinity tolerations podSecurityContext securityContext resources livenessProbe readinessProbe startupProbe annotations schedulerName volumeMounts volumes"  # fmt: skip
CHART = {
    "dagsterWebserver": f"{_WORKLOAD} replicaCount nameOverride pathPrefix service workspace deploymentLabels enableReadOnly dbStatementTimeout dbPoolRecycle dbPoolMaxOverflow logLevel initContainerResources",
    "dagsterDaemon": f"{_WORKLOAD} enabled runCoordinator heartbeatTolerance deploymentLabels runMonitoring runRetries sensors schedules initContainerResources",
    "dagster-user-deployments": "enabled enableSubchart imagePullSecrets deployments",
    "runLauncher": "type config",
    "postgresql": "image enabled postgresqlHost postgresqlUsername postgresqlPassword postgresqlDatabase postgresqlParams postgresqlScheme service",
    "ingress": "enabled apiVersion labels annotations ingressClassName flower dagsterWebserver readOnlyDagsterWebserver",
    "global": "postgresqlSecretName dagsterHome serviceAccountName celeryConfigSecretName dagsterInstanceConfigMap fullnameOverride nameOverride",
    "serviceAccount": "create name annotations",
    "computeLogManager": "type config",
    "pythonLogs": "pythonLogLevel managedPythonLoggers dagsterHandlerConfig",
    "retention": "enabled schedule sensor autoMaterialize",
    "telemetry": "enabled",
    "migrate": "enabled extraContainers initContainers",
}  # fmt: skip
"""Keys of the chart's values as its schema of 1.13 names them; the chart itself cannot be had here."""
DEPLOYMENT = f"{_WORKLOAD} name dagsterApiGrpcArgs codeServerArgs includeConfigInLaunchedRuns port sidecarContainers initContainers deploymentStrategy serviceAccount"  # fmt: skip
LAUNCHER = {
    "imagePullPolicy": "image_pull_policy", "jobNamespace": "job_namespace", "loadInclusterConfig": "load_incluster_config", "envVars": "env_vars",
    "volumes": "volumes", "volumeMounts": "volume_mounts", "labels": "labels", "failPodOnRunFailure": "fail_pod_on_run_failure",
    "resources": "resources", "securityContext": "security_context",
}  # fmt: skip
RUN_CONFIG = {"podSpecConfig": "pod_spec_config", "jobSpecConfig": "job_spec_config", "podTemplateSpecMetadata": "pod_template_spec_metadata", "containerConfig": "container_config", "jobMetadata": "job_metadata"}  # fmt: skip


def objects() -> list[tuple[str, dict[str, Any]]]:
    return [
        (f"{path.name}:{item['kind']}/{item['metadata'].get('name', 'example')}", item)
        for path in FILES
        for item in yaml.safe_load_all(path.read_text())
        if item
    ]


def pod_of(item: dict[str, Any]) -> list[dict[str, Any]]:
    """The pod specs within an object."""
    spec = item.get("spec", {})
    if item["kind"] == "Pod":
        return [spec]
    if item["kind"] == "RayCluster":
        return [group["template"]["spec"] for group in (spec["headGroupSpec"], *spec["workerGroupSpecs"])]  # fmt: skip
    if item["kind"] == "CronJob":
        spec = spec["jobTemplate"]["spec"]
    return [spec["template"]["spec"]] if "template" in spec else []


@pytest.mark.parametrize(("name", "item"), objects(), ids=[name for name, _ in objects()])
def test_every_object_is_one_that_the_api_takes(name: str, item: dict[str, Any]) -> None:
    validate = pytest.importorskip("kubernetes_validate").validate
    if item["kind"] not in CUSTOM:
        validate(item, "1.34", strict=True)
    else:
        assert item["apiVersion"] == "ray.io/v1"
    for spec in pod_of(item):  # also those within an operator's object
        named = [{"name": "filled-by-volcast", **container} for container in spec["containers"]]
        pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "x"}, "spec": {**spec, "containers": named}}  # fmt: skip
        validate(pod, "1.34", strict=True)


def test_every_pod_is_confined_and_bounded() -> None:
    seen = 0
    for name, item in objects():
        assert item["metadata"].get("namespace", "volcast") == "volcast", name
        for spec in pod_of(item) if item["kind"] != "Pod" else []:  # volcast completes that one
            assert spec["securityContext"]["runAsNonRoot"] is True, name
            for container in spec["containers"]:
                seen += 1
                confined = container["securityContext"]
                assert confined["allowPrivilegeEscalation"] is False, name
                assert confined["capabilities"] == {"drop": ["ALL"]}, name
                assert set(container["resources"]) == {"requests", "limits"}, name
                image = container["image"]
                assert ":" in image, image
                assert not image.endswith(":latest"), image
    assert seen >= 5


def test_secrets_have_names_and_no_values() -> None:
    found = [item for _, item in objects() if item["kind"] == "Secret"]
    assert len(found) >= 4
    assert {value for item in found for value in item["stringData"].values()} == {""}
    made = {item["metadata"]["name"] for item in found}
    text = "".join(path.read_text() for path in (*FILES, FOLDER / "values.yaml"))
    asked = set(re.findall(r"(?:secretRef: \{name|secretName|postgresqlSecretName): ([a-z-]+)", text))  # fmt: skip
    assert asked - {"volcast-tls"} <= made
    assert VALUES["postgresql"]["postgresqlPassword"] == ""


def test_the_rights_are_those_that_dagster_k8s_uses_and_no_more() -> None:
    package = Path(pytest.importorskip("dagster_k8s").__file__).parent
    calls: set[tuple[str, str]] = set()
    for path in ("client.py", "pipes.py", "launcher.py"):
        for verb, kind in re.findall(r"_api\.(create|read|list|patch|delete|replace)_namespaced_(\w+?)\(", (package / path).read_text()):  # fmt: skip
            calls.add(("get" if verb == "read" else verb, kind))
    plural = {"pod": "pods", "job": "jobs", "event": "events", "pod_log": "pods/log", "job_status": "jobs/status", "pod_status": "pods/status"}  # fmt: skip
    role = next(item for _, item in objects() if item["kind"] == "Role")
    granted = {
        (verb, kind)
        for rule in role["rules"]
        for kind in rule["resources"]
        for verb in rule["verbs"]
    }
    needed = {(verb, plural[kind]) for verb, kind in calls}
    assert needed <= granted
    assert granted - needed <= {("watch", "pods"), ("watch", "jobs"), ("get", "jobs"), ("get", "pods/status")}  # fmt: skip
    assert not any("*" in pair for pair in granted)
    assert not any(item["kind"].startswith("Cluster") for _, item in objects())


def test_the_values_have_no_key_that_the_chart_does_not_know() -> None:
    plain = {"rbacEnabled", "generatePostgresqlPasswordSecret", "generateCeleryConfigSecret", "additionalInstanceConfig", "x-volcast"}  # fmt: skip
    assert set(VALUES) <= set(CHART) | plain
    for section, keys in CHART.items():
        assert set(VALUES[section]) <= set(keys.split()), section
    for item in VALUES["dagster-user-deployments"]["deployments"]:
        assert set(item) <= set(DEPLOYMENT.split())


def test_its_pods_are_confined_and_bounded() -> None:
    launcher = VALUES["runLauncher"]["config"]["k8sRunLauncher"]
    code = VALUES["dagster-user-deployments"]["deployments"][0]
    for part in (VALUES["dagsterWebserver"], VALUES["dagsterDaemon"], code, launcher):
        assert part["securityContext"]["readOnlyRootFilesystem"] is True
        assert part["securityContext"]["capabilities"] == {"drop": ["ALL"]}
        assert set(part["resources"]) == {"requests", "limits"}
    for part in (VALUES["dagsterWebserver"], VALUES["dagsterDaemon"], code):
        assert part["podSecurityContext"]["runAsNonRoot"] is True
        assert part["image"]["tag"] not in (None, "latest")
        assert part["labels"] == {"app.kubernetes.io/part-of": "volcast"}
        assert "livenessProbe" in part
        assert "startupProbe" in part


def launcher_config() -> dict[str, Any]:
    """The launcher's part of dagster.yaml as the chart writes it out of the values."""
    said = VALUES["runLauncher"]["config"]["k8sRunLauncher"]
    made = {LAUNCHER[key]: said[key] for key in said if key in LAUNCHER}
    left = set(said) - set(LAUNCHER)
    assert left == {"envConfigMaps", "envSecrets", "runK8sConfig"}
    made["env_config_maps"] = [item["name"] for item in said["envConfigMaps"]]
    made["env_secrets"] = [item["name"] for item in said["envSecrets"]]
    made["run_k8s_config"] = {RUN_CONFIG[key]: value for key, value in said["runK8sConfig"].items()}
    return {
        **made,
        "job_namespace": "volcast",
        "service_account_name": VALUES["global"]["serviceAccountName"],
        "dagster_home": VALUES["global"]["dagsterHome"],
        "instance_config_map": "volcast-dagster-instance",
        "postgres_password_secret": VALUES["global"]["postgresqlSecretName"],
    }


def test_a_run_is_a_job_that_the_api_takes_and_that_is_confined(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    dagster_k8s = pytest.importorskip("dagster_k8s")
    validate = pytest.importorskip("kubernetes_validate").validate
    from dagster_k8s.container_context import K8sContainerContext
    from dagster_k8s.job import construct_dagster_k8s_job
    from kubernetes.client import ApiClient

    checked = process_config(dagster_k8s.K8sRunLauncher.config_type(), launcher_config())
    assert checked.success, checked.errors
    monkeypatch.setattr("dagster_k8s.launcher.load_kubernetes_config", lambda **_: None)
    launcher = dagster_k8s.K8sRunLauncher.from_config_value(None, checked.value)
    run = dg.DagsterRun(job_name="daily", run_id="00000000-0000-0000-0000-000000000000")
    context = K8sContainerContext.create_for_run(run, launcher, include_run_tags=False)
    code = VALUES["dagster-user-deployments"]["deployments"][0]
    image = f"{code['image']['repository']}:{code['image']['tag']}"
    job = construct_dagster_k8s_job(
        job_config=context.get_k8s_job_config(image, launcher),
        args=["dagster", "api", "execute_run", "{}"],
        job_name="dagster-run-x",
        component="run_worker",
        user_defined_k8s_config=context.run_k8s_config,
    )
    found = ApiClient().sanitize_for_serialization(job)
    validate(found, "1.34", strict=True)
    pod = found["spec"]["template"]["spec"]
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert found["spec"]["backoffLimit"] == 0
    labels = found["spec"]["template"]["metadata"]["labels"]
    assert labels["app.kubernetes.io/part-of"] == "volcast"  # what network.yaml lets out
    assert labels["volcast.dev/role"] == "run"  # what disruption.yaml keeps
    assert pod["serviceAccountName"] == "volcast"
    container = pod["containers"][0]
    assert container["securityContext"]["readOnlyRootFilesystem"] is True
    assert container["resources"]["limits"]["memory"] == "12Gi"
    assert {item["mountPath"] for item in container["volumeMounts"]} >= {"/data", "/tmp"}
    # no command: the image must have no entrypoint, or it would be called with these words
    assert container["args"][:2] == ["dagster", "api"]
    assert not container.get("command")


def test_the_chart_s_dagster_yaml_stores_masked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The chart writes Dagster's own storages first, and the additional part last: of two, Dagster's loader takes the last."""
    chart = {
        kind: {"module": f"dagster_postgres.{kind}", "class": "Unmasked", "config": {"postgres_db": {}}}
        for kind in ("schedule_storage", "run_storage", "event_log_storage")
    }  # fmt: skip
    logs = {"python_logs": {"dagster_handler_config": VALUES["pythonLogs"]["dagsterHandlerConfig"]}}
    written = "".join(yaml.safe_dump(part) for part in (chart, logs, VALUES["additionalInstanceConfig"]))  # fmt: skip
    (tmp_path / "dagster.yaml").write_text(written)
    found = load_yaml_from_path(str(tmp_path / "dagster.yaml"))
    ours = yaml.safe_load((PROJECT_ROOT / "dagster.yaml").read_text())
    assert isinstance(found, dict)
    for kind in chart:
        assert found[kind] == ours[kind]
    assert found["concurrency"] == ours["concurrency"]
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path))
    with dg.DagsterInstance.from_config(str(tmp_path)) as instance:
        assert type(instance.event_log_storage).__name__ == "MaskedEventLogStorage"
    check_storage()
    assert caplog.text == ""
    (tmp_path / "dagster.yaml").write_text("".join(yaml.safe_dump(part) for part in (chart, logs)))
    check_storage()
    assert "secrets in events and errors are stored as they come" in caplog.text


def test_its_settings_are_settings_and_agree_with_the_values() -> None:
    data = next(item for _, item in objects() if item["metadata"].get("name") == "volcast-settings")["data"]  # fmt: skip
    known = {f"VOLCAST_{name.upper()}" for name in Settings.model_fields}
    assert {name for name in data if name.startswith("VOLCAST_")} <= known
    Settings.from_env({name: value for name, value in data.items() if name in known})
    assert VALUES["global"]["dagsterHome"] == f"{data['VOLCAST_HOME']}/dagster"
    cluster = next(item for _, item in objects() if item["kind"] == "RayCluster")
    assert f"//{cluster['metadata']['name']}-head-svc:8265" in data["VOLCAST_RAY_ADDRESS"]
    lock = (PROJECT_ROOT / "requirements.lock").read_text()
    assert f"\nray=={cluster['spec']['rayVersion']}\n" in lock
    chart = re.search(r"--version (\S+)", (FOLDER / "values.yaml").read_text())
    assert chart is not None
    assert f"\ndagster=={chart[1]}\n" in lock
    compose_image = compose.loaded(compose.env_lines(compose.FOLDER / ".env.example"))["services"]["postgres"]["image"]  # fmt: skip
    assert compose_image.endswith(VALUES["postgresql"]["image"]["tag"])
    arguments = VALUES["dagster-user-deployments"]["deployments"][0]["dagsterApiGrpcArgs"]
    assert arguments == ["--module-name", "orchestration.definitions", "--location-name", "volcast"]
