"""An API server of Kubernetes on loopback, as far as pods go, that runs a pod's command as a process: create, read, list, log, delete.

In: nothing. Out: a kubeconfig for it, and ways to evict a pod or take its node away. Never: a container; what a kubelet would do is done by threads here.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import yaml

_PODS = re.compile(r"/api/v1/namespaces/([^/]+)/pods(?:/([^/]+))?(/log)?$")


@dataclass
class Running:
    """A pod, the process of its worker, and its log so far."""

    body: dict[str, Any]
    process: subprocess.Popen[bytes] | None = None
    log: list[bytes] = field(default_factory=list)
    ended: threading.Event = field(default_factory=threading.Event)


@dataclass
class Api:
    """The state of the cluster."""

    address: str = ""
    kubeconfig: Path = Path()
    pods: dict[str, Running] = field(default_factory=dict)
    calls: list[tuple[str, str]] = field(default_factory=list)
    manifests: list[dict[str, Any]] = field(default_factory=list)
    refuse: tuple[int, str] | None = None
    """What the next pod is answered with, such as (403, 'exceeded quota')."""
    environment: dict[str, str] = field(default_factory=dict)
    schedules: bool = True
    """Whether a new pod finds a node."""

    def create(self, namespace: str, body: dict[str, Any]) -> dict[str, Any]:
        self.manifests.append(json.loads(json.dumps(body)))
        body["metadata"]["namespace"] = namespace
        body["status"] = {"phase": "Pending"}
        pod = Running(body)
        self.pods[body["metadata"]["name"]] = pod
        if self.schedules:
            body["spec"]["nodeName"] = f"node-{len(self.manifests)}"
            threading.Thread(target=self._work, args=(pod,), daemon=True).start()
        else:
            unscheduled = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable"}
            body["status"]["conditions"] = [{**unscheduled, "message": "no node has a GPU"}]
        return body

    def _work(self, pod: Running) -> None:
        container = pod.body["spec"]["containers"][0]
        stated = {item["name"]: item["value"] for item in container.get("env", [])}
        command = [sys.executable, *container["command"][1:]]
        pod.process = subprocess.Popen(
            command,
            env={**os.environ, **self.environment, **stated},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        self._state(pod, "Running", {"running": {"startedAt": "2026-01-01T00:00:00Z"}})
        assert pod.process.stdout is not None
        for line in pod.process.stdout:
            stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime())
            pod.log.append(f"{stamp}.{time.time_ns() % 10**9:09d}Z ".encode() + line)
        code = pod.process.wait()
        if "reason" not in pod.body["status"]:
            code = 128 - code if code < 0 else code
            reason = {0: "Completed", 137: "OOMKilled"}.get(code, "Error")
            terminated = {"exitCode": code, "reason": reason}
            self._state(pod, "Failed" if code else "Succeeded", {"terminated": terminated})
        pod.ended.set()

    @staticmethod
    def _state(pod: Running, phase: str, state: dict[str, Any]) -> None:
        container = pod.body["spec"]["containers"][0]
        pod.body["status"] |= {
            "phase": phase,
            "containerStatuses": [
                {
                    "name": container["name"],
                    "image": container["image"],
                    "imageID": "",
                    "ready": "running" in state,
                    "restartCount": 0,
                    "state": state,
                }
            ],
        }

    def evict(self, name: str) -> None:
        """Evict a pod: its process is killed, its status says so, and it stays until somebody deletes it."""
        pod = self.pods[name]
        pod.body["status"] |= {
            "reason": "Evicted",
            "message": "The node was low on resource: memory.",
        }
        assert pod.process is not None
        pod.process.kill()
        pod.ended.wait(10)
        pod.body["status"]["phase"] = "Failed"

    def lose_node(self, name: str) -> None:
        """The node of a pod goes, and the pod with it."""
        self.delete(name)

    def delete(self, name: str) -> bool:
        pod = self.pods.get(name)
        if pod is None:
            return False
        if pod.process is not None and pod.process.poll() is None:
            pod.process.send_signal(signal.SIGKILL)
            pod.ended.wait(10)
        self.pods.pop(name, None)
        return True


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    api: Api

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def _answer(self, status: int, body: dict[str, Any]) -> None:
        text = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def _fail(self, status: int, reason: str) -> None:
        self._answer(status, {"kind": "Status", "apiVersion": "v1", "status": "Failure", "message": reason, "reason": reason, "code": status})  # fmt: skip

    def _called(self) -> tuple[str, str | None, bool, dict[str, str]] | None:
        parts = urlsplit(self.path)
        found = _PODS.match(parts.path)
        self.api.calls.append((self.command, parts.path))
        if not found:
            self._fail(404, f"no such path here: {parts.path}")
            return None
        query = {name: values[0] for name, values in parse_qs(parts.query).items()}
        return found[1], found[2], bool(found[3]), query

    def do_POST(self) -> None:
        called = self._called()
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if called is None:
            return
        if self.api.refuse is not None:
            status, reason = self.api.refuse
            self.api.refuse = None
            self._fail(status, reason)
            return
        self._answer(201, self.api.create(called[0], body))

    def do_GET(self) -> None:
        called = self._called()
        if called is None:
            return
        _, name, log, query = called
        if name is None:
            self._answer(200, {"kind": "PodList", "apiVersion": "v1", "metadata": {}, "items": self._selected(query)})  # fmt: skip
        elif name not in self.api.pods:
            self._fail(404, f'pods "{name}" not found')
        elif log:
            self._stream(self.api.pods[name], follow=query.get("follow") in ("true", "True"))
        else:
            self._answer(200, self.api.pods[name].body)

    def _selected(self, query: dict[str, str]) -> list[dict[str, Any]]:
        pods = [pod.body for pod in list(self.api.pods.values())]
        if field_selector := query.get("fieldSelector"):
            pods = [pod for pod in pods if pod["metadata"]["name"] == field_selector.partition("=")[2]]  # fmt: skip
        if label := query.get("labelSelector"):
            key, _, value = label.partition("=")
            pods = [pod for pod in pods if pod["metadata"]["labels"].get(key) == value]
        return pods

    def _stream(self, pod: Running, follow: bool) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/plain")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        sent = 0
        while True:
            over = pod.ended.is_set() or not follow
            for line in pod.log[sent:]:
                sent += 1
                self.wfile.write(f"{len(line):x}\r\n".encode() + line + b"\r\n")
            self.wfile.flush()
            if over and sent == len(pod.log):
                break
            time.sleep(0.05)
        self.wfile.write(b"0\r\n\r\n")

    def do_DELETE(self) -> None:
        called = self._called()
        if called is None:
            return
        name = str(called[1])
        length = int(self.headers.get("Content-Length") or 0)
        self.rfile.read(length)
        if self.api.delete(name):
            self._answer(200, {"kind": "Status", "apiVersion": "v1", "status": "Success"})
        else:
            self._fail(404, f'pods "{name}" not found')


@contextmanager
def running(folder: Path) -> Iterator[Api]:
    api = Api()
    handler = type("Handler", (_Handler,), {"api": api})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    api.address = f"http://127.0.0.1:{server.server_address[1]}"
    api.kubeconfig = folder / "kubeconfig"
    cluster = {"clusters": [{"name": "fake", "cluster": {"server": api.address}}]}
    context = {"contexts": [{"name": "fake", "context": {"cluster": "fake", "user": "fake"}}]}
    user = {"users": [{"name": "fake", "user": {"token": "t0ken-of-the-fake-cluster"}}]}
    api.kubeconfig.write_text(
        yaml.safe_dump({"apiVersion": "v1", "kind": "Config", "current-context": "fake", **cluster, **context, **user})
    )  # fmt: skip
    try:
        yield api
    finally:
        for name in list(api.pods):
            api.delete(name)
        server.shutdown()
        server.server_close()
