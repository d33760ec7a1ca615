"""The manifest of a worker's pod.

In: settings, and the YAML that ``VOLCAST_K8S_POD`` names, for what is the cluster's own: namespace, image, nodes, tolerations, volumes, secrets by name. Out: a
Pod as a mapping, with what a worker needs and may take. Never: root, a service account's token, a restart by Kubernetes, a GPU for fits without one.
"""

from __future__ import annotations

import copy
from typing import Any

import yaml

from orchestration.settings import Settings
from orchestration.workers.shard import Shard, WorkerFailed

LABEL = "volcast.dev/shard"
GPU = "nvidia.com/gpu"
USER = 10001
"""User of the worker, where the YAML names none: the images of deploy/ have no other but root."""


def pod_of(settings: Settings, shard: Shard, identity: str) -> dict[str, Any]:
    """The pod of a shard. Raises ``WorkerFailed`` where the YAML cannot be used or there is no image."""
    pod = _template(settings)
    meta, spec = pod.setdefault("metadata", {}), pod.setdefault("spec", {})
    meta["namespace"] = settings.k8s_namespace or meta.get("namespace") or "default"
    meta["labels"] = {
        "app.kubernetes.io/name": "volcast",
        "app.kubernetes.io/component": "worker",
        **(meta.get("labels") or {}),
        LABEL: identity,
    }
    containers = spec.setdefault("containers", [{}])
    worker = containers[0]
    worker.setdefault("name", "worker")
    worker["image"] = settings.k8s_image or worker.get("image")
    if not worker["image"]:
        raise WorkerFailed(
            "VOLCAST_WORKERS=k8s: no image; name it in VOLCAST_K8S_IMAGE, or in the YAML of VOLCAST_K8S_POD"
        )
    worker["command"] = ["python", "-m", shard.module, shard.address]
    worker["resources"] = _resources(settings, shard, worker.get("resources") or {})
    worker["securityContext"] = {
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
        **(worker.get("securityContext") or {}),
    }
    spec["restartPolicy"] = "Never"  # a lost shard goes to another pod, with its own retries
    spec["automountServiceAccountToken"] = False
    spec["securityContext"] = {
        "runAsUser": USER,
        "seccompProfile": {"type": "RuntimeDefault"},
        **(spec.get("securityContext") or {}),
        "runAsNonRoot": True,
    }
    return {"apiVersion": "v1", "kind": "Pod", **pod}


def _resources(settings: Settings, shard: Shard, stated: dict[str, Any]) -> dict[str, Any]:
    """Requests and limits: memory is both, so that a worker is killed for its own; a GPU is whole, Kubernetes lends no part of one."""
    requests = {"cpu": f"{settings.worker_cpus:g}", "memory": str(settings.worker_memory_bytes)}
    limits = {"memory": requests["memory"]}
    if shard.needs_gpu and settings.device == "cuda":
        limits[GPU] = "1"
    return {
        **stated,
        "requests": {**(stated.get("requests") or {}), **requests},
        "limits": {**(stated.get("limits") or {}), **limits},
    }


def _template(settings: Settings) -> dict[str, Any]:
    if settings.k8s_pod is None:
        return {}
    try:
        found = yaml.safe_load(settings.k8s_pod.read_text())
    except (OSError, yaml.YAMLError) as error:
        raise WorkerFailed(f"VOLCAST_K8S_POD={settings.k8s_pod}: {error}") from None
    if not isinstance(found, dict) or found.get("kind") != "Pod":
        raise WorkerFailed(f"VOLCAST_K8S_POD={settings.k8s_pod}: expected one Pod (kind: Pod)")
    return copy.deepcopy(found)
