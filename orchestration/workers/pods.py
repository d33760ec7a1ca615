"""Workers as Kubernetes pods, through dagster-k8s' Pipes client: a pod for a shard, watched, deleted when it is over or the run is stopped.

In: a Dagster context, settings with the YAML of the pod, and a shard. Out: how the pod ended, and whether it was lost: evicted, preempted, its node gone,
or killed for memory. Never: a secret in the pod's manifest (its YAML names Kubernetes secrets), root, a token of the cluster in the pod.
"""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from dagster_k8s import PipesK8sClient
from dagster_k8s.pipes import PipesK8sPodLogsMessageReader

from orchestration.secrets import mask
from orchestration.settings import Settings
from orchestration.workers.pod_spec import LABEL, pod_of
from orchestration.workers.pod_states import judged, waits_for
from orchestration.workers.processes import write_spec
from orchestration.workers.shard import Ended, Shard

HEARTBEAT_SECONDS = 20
POLL_SECONDS = 1.0
STOP_SECONDS = 60
GRACE_SECONDS = 5
UNREACHABLE_SECONDS = 120
LAST_WORDS_SECONDS = 15.0
TRANSIENT = 500
"""Answers of the API server from here on, and 429, are its own trouble and may be over the next time."""


class PodEnded(Exception):
    """A pod is over, and not well."""

    def __init__(self, ended: Ended) -> None:
        super().__init__(ended.problem)
        self.ended = ended


class Pods:
    """Runs shards as pods of one namespace."""

    def __init__(self, context: Any, settings: Settings) -> None:
        self._context, self._settings = context, settings
        pod_of(settings, Shard("", {}, "", ""), "check")  # what is wrong with it is said at once

    def run(self, shard: Shard, attempt: int, cancelled: threading.Event) -> Ended:
        from kubernetes.client.exceptions import ApiException
        from urllib3.exceptions import HTTPError

        if cancelled.is_set():
            return Ended("not started: the run was stopped")
        write_spec(shard)
        identity = uuid.uuid4().hex[:12]
        pod = pod_of(self._settings, shard, identity)
        watch = _Watch(self._context, self._settings.worker_stall_minutes * 60, cancelled)
        client = WatchedPod(watch)
        try:
            done = client.run(
                context=self._context.op_execution_context,
                namespace=pod["metadata"]["namespace"],
                base_pod_meta={"labels": pod["metadata"]["labels"]},
                base_pod_spec=pod["spec"],
                env={
                    "OMP_WAIT_POLICY": "PASSIVE",
                    "VOLCAST_WORKER_HEARTBEAT": str(HEARTBEAT_SECONDS),
                },
                delete_pod_on_completion=False,  # its status is read first
            )
            found = [item[shard.message] for item in done.get_custom_messages() if shard.message in item]  # fmt: skip
            return Ended(None, False, tuple(found), watch.worker)
        except PodEnded as over:
            return over.ended
        except ApiException as error:
            lost = error.status is None or error.status == 429 or error.status >= TRANSIENT
            why = mask(f"Kubernetes refused the pod: {error.status} {error.reason} {error.body or ''}")  # fmt: skip
            return Ended(why[:1000], lost, (), watch.worker)
        except (HTTPError, OSError) as error:
            return Ended(mask(f"Kubernetes does not answer: {error}"), True, (), watch.worker)
        finally:
            self._delete(pod["metadata"]["namespace"], identity)

    def _delete(self, namespace: str, identity: str) -> None:
        """Delete the pod and wait until it is gone. Says so in the run's log where that cannot be known."""
        from kubernetes.client import CoreV1Api

        api, selector = CoreV1Api(), f"{LABEL}={identity}"
        deadline, last = time.monotonic() + STOP_SECONDS, None
        asked: set[str] = set()
        while time.monotonic() < deadline:
            try:
                pods = api.list_namespaced_pod(namespace, label_selector=selector).items
                if not pods:
                    return
                for pod in pods:
                    if pod.metadata.name not in asked:
                        api.delete_namespaced_pod(
                            pod.metadata.name, namespace, grace_period_seconds=GRACE_SECONDS
                        )
                        asked.add(pod.metadata.name)
            except Exception as error:
                last = error
            time.sleep(0.5)
        self._context.log.error(
            mask(
                f"the pod of shard {identity} may still run: it was not gone after {STOP_SECONDS} s{f' ({last})' if last else ''}; "
                f"delete it with `kubectl delete pod -n {namespace} -l {selector}`"
            )
        )


class _Watch:
    """What is known of a pod while it runs, and what ends it from here."""

    def __init__(self, context: Any, stall_seconds: float, cancelled: threading.Event) -> None:
        self.context, self.stall_seconds, self.cancelled = context, stall_seconds, cancelled
        self.worker = ""
        self.heard = time.monotonic()


class WatchedPod(PipesK8sClient):
    """Dagster's client waits for hours for a pod that was evicted or deleted before it was ready. This one looks at what became of it."""

    def __init__(self, watch: _Watch) -> None:
        super().__init__(message_reader=_Reader(watch), poll_interval=POLL_SECONDS)
        self._watch = watch

    @contextmanager
    def consume_pod_logs(
        self,
        context: Any,
        client: Any,
        namespace: str,
        pod_name: str,
        enable_multi_container_logs: bool = False,
        ignore_containers: set[Any] | None = None,
    ) -> Iterator[None]:
        """Follow the pod's log until it is over; ``PodEnded`` where it ended badly or was ended."""
        watch, reading = self._watch, None
        watch.worker = f"pod {pod_name}"
        ended = None
        seen_at, warned = time.monotonic(), False
        while ended is None:
            try:
                pod = self._read(client.core_api, pod_name, namespace)
                seen_at = time.monotonic()
            except Exception as error:
                if time.monotonic() - seen_at > UNREACHABLE_SECONDS:
                    ended = Ended(mask(f"Kubernetes does not answer: {error}"), True)
                time.sleep(POLL_SECONDS)
                continue
            if pod is not None and pod.spec.node_name:
                watch.worker = f"pod {pod_name} on node {pod.spec.node_name}"
            if reading is None and pod is not None and pod.status.phase in ("Running", "Succeeded", "Failed"):  # fmt: skip
                watch.heard = time.monotonic()
                reading = threading.Thread(
                    target=self._follow,
                    args=(context, client.core_api, pod_name, namespace),
                    daemon=True,
                )
                reading.start()
            ended = judged(pod_name, pod) or self._ended_here(pod_name, reading is not None)
            if reading is None and not warned and time.monotonic() - watch.heard > watch.stall_seconds:  # fmt: skip
                warned = True
                context.log.warning(f"pod {pod_name} still waits to be started: {waits_for(pod)}")
            if ended is None:
                time.sleep(POLL_SECONDS)
        if reading is not None:
            reading.join(LAST_WORDS_SECONDS)
        if ended.problem is not None:
            raise PodEnded(Ended(ended.problem, ended.lost, (), watch.worker))
        yield

    def _ended_here(self, pod_name: str, running: bool) -> Ended | None:
        watch = self._watch
        if watch.cancelled.is_set():
            return Ended(f"the run was stopped, and pod {pod_name} with it")
        if running and time.monotonic() - watch.heard > watch.stall_seconds:
            return Ended(
                f"pod {pod_name} neither computed nor reported for {watch.stall_seconds / 60:g} minutes and was deleted; if it only waits "
                "for slow storage, raise VOLCAST_WORKER_STALL_MINUTES",
                lost=True,
            )
        return None

    @staticmethod
    def _read(api: Any, name: str, namespace: str) -> Any:
        """The pod; None where it is gone."""
        from kubernetes.client.exceptions import ApiException

        try:
            return api.read_namespaced_pod(name, namespace)
        except ApiException as error:
            if error.status == 404:
                return None
            raise

    def _follow(self, context: Any, api: Any, pod_name: str, namespace: str) -> None:
        try:
            self.message_reader.consume_pod_logs(context, api, pod_name, namespace)  # type: ignore[attr-defined]
        except Exception as error:  # results are in a file: what is lost are lines of the log
            context.log.warning(mask(f"the log of pod {pod_name} cannot be read on: {error}"))


class _Reader(PipesK8sPodLogsMessageReader):
    """Dagster's reader of a pod's log, which also notes when it was last heard of."""

    def __init__(self, watch: _Watch) -> None:
        self._watch = watch

    @contextmanager
    def read_messages(self, handler: Any) -> Iterator[Any]:
        watch, handle = self._watch, handler.handle_message

        def handle_message(message: Any) -> None:
            watch.heard = time.monotonic()
            handle(message)

        handler.handle_message = handle_message
        with super().read_messages(handler) as params:
            yield params
