"""What a pod's status says of its worker.

In: a pod as the Kubernetes API gives it. Out: how it ended, None while it goes on. Never: a call to the API.
"""

from __future__ import annotations

from typing import Any

from orchestration.workers.shard import Ended

HOPELESS = ("ErrImagePull", "ImagePullBackOff", "InvalidImageName", "CreateContainerError", "RunContainerError")  # fmt: skip
"""Reasons of a waiting container that no waiting and no other node changes."""
SIGNALS = 128


def judged(name: str, pod: Any) -> Ended | None:
    """How a pod ended; None while it goes on. A pod that is gone (None) was deleted by someone else."""
    if pod is None:
        return Ended(f"pod {name} is gone: deleted, or its node with it", lost=True)
    status = pod.status
    if status.phase == "Succeeded":
        return Ended()
    if status.phase == "Unknown":
        return Ended(f"pod {name}: its node does not answer", lost=True)
    container = (status.container_statuses or [None])[0]
    if status.phase == "Failed":
        return _failed(name, pod, container)
    waiting = container.state.waiting if container is not None and container.state else None
    if waiting is not None and waiting.reason in HOPELESS:
        return Ended(f"pod {name} cannot start: {waiting.reason}: {waiting.message or ''}")
    return None


def _failed(name: str, pod: Any, container: Any) -> Ended:
    """Evicted, preempted and killed pods are lost; one whose worker ended by itself is not."""
    said = pod.status.message or ""
    for condition in pod.status.conditions or []:
        if condition.type == "DisruptionTarget" and condition.status == "True":
            return Ended(f"pod {name} was evicted ({condition.reason}): {condition.message or said}", lost=True)  # fmt: skip
    terminated = container.state.terminated if container is not None and container.state else None
    if pod.status.reason or terminated is None:
        return Ended(f"pod {name} was lost ({pod.status.reason or 'it never ran'}): {said}", lost=True)  # fmt: skip
    code = terminated.exit_code
    if code > SIGNALS or terminated.reason == "OOMKilled":
        return Ended(
            f"pod {name} was ended by signal {code - SIGNALS} ({terminated.reason}): where it is OOMKilled, raise VOLCAST_WORKER_MEMORY",
            lost=True,
        )
    return Ended(f"the worker ended with code {code}")


def waits_for(pod: Any) -> str:
    """Why a pod has not started yet, as Kubernetes says it."""
    for condition in (pod.status.conditions if pod is not None else None) or []:
        if condition.type == "PodScheduled" and condition.status != "True":
            return f"{condition.reason}: {condition.message}"
    return "its containers are being made"
