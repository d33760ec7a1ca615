"""A Ray cluster on this machine: a head that runs no job, and nodes that do, each with processes of its own.

In: folders of Python modules that jobs may name, and how many nodes. Out: the address of the job server, and a way to kill a node; gone when the tests end. Its job server wants a token.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest import mock

os.environ.setdefault(
    "RAY_NUM_REDIS_GET_RETRIES", "180"
)  # read when ray is imported: a busy machine starts slowly
os.environ.setdefault("RAY_raylet_start_wait_time_s", "180")
TOKEN = "a-token-of-the-ray-tests-8f2c"
STORE_BYTES = 80 * 2**20


@dataclass
class RayCluster:
    """A running cluster."""

    address: str
    cluster: Any
    nodes: dict[str, Any] = field(default_factory=dict)

    def add_node(self) -> str:
        node = self.cluster.add_node(
            num_cpus=1,
            object_store_memory=STORE_BYTES,
            resources={"trainer": 1},
        )
        self.nodes[node.node_id] = node
        return str(node.node_id)

    def kill_node(self, node_id: str) -> None:
        """Kill a node as a machine that loses its power: nothing of it says goodbye."""
        self.cluster.remove_node(self.nodes.pop(node_id), allow_graceful=False)


@contextmanager
def running(*python_path: Path, nodes: int = 2) -> Iterator[RayCluster]:
    environment = {
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": TOKEN,
        "RAY_DISABLE_IMPORT_WARNING": "1",
        "RAY_health_check_period_ms": "500",
        "RAY_health_check_failure_threshold": "4",
        "PATH": os.pathsep.join((str(Path(sys.executable).parent), os.environ["PATH"])),
        "PYTHONPATH": os.pathsep.join(map(str, (Path(__file__).parents[2], *python_path))),
    }
    with mock.patch.dict(os.environ, environment):
        from ray.cluster_utils import Cluster

        cluster = Cluster(
            initialize_head=True,
            head_node_args={
                "num_cpus": 0,
                "object_store_memory": STORE_BYTES,
                "include_dashboard": True,
                "dashboard_host": "127.0.0.1",
                "dashboard_port": 0,
            },
        )
        try:
            found = RayCluster(f"http://{cluster.head_node.webui_url}", cluster)
            for _ in range(nodes):
                found.add_node()
            _wait_for(found, nodes)
            yield found
        finally:
            cluster.shutdown()


def _wait_for(found: RayCluster, nodes: int) -> None:
    deadline = time.monotonic() + 60
    while len(found.cluster.list_all_nodes()) < nodes + 1:
        assert time.monotonic() < deadline, "the nodes of Ray did not come up"
        time.sleep(0.2)
