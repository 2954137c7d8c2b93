"""A Ray cluster of several nodes on this machine, whose raylets are there to be killed.

Usage: nodes.py [NUM [--hasty] [CLOUD …]]

There are NUM nodes besides the head, and one for each CLOUD, whose workers take it for a machine of that one.

Prints its address. Then it answers each line with the process numbers of the raylets of all nodes but the head, as one
line of JSON, after doing what it says: ``raylets`` (nothing), ``mend`` (replace every node whose raylet has ended,
with all that it left behind, by a new one), ``kill`` (end the newest node and all of its processes by SIGKILL),
``drain`` (say that the newest node is to be gone in a minute, as a launcher does of a spot machine) or ``add`` (one
more). A raylet that somebody else has killed stays a zombie until it is mended, and its workers, who
watch for it, do not notice.
"""

from __future__ import annotations

import json
import sys
import time
from typing import Any

from ray import _raylet
from ray._private.state import state
from ray.cluster_utils import Cluster
from ray.core.generated import autoscaler_pb2

from tunekit.runtime.preemption.drain import draining_nodes

DETECTION = {
    "health_check_initial_delay_ms": 500,
    "health_check_period_ms": 500,
    "health_check_timeout_ms": 20_000,
    "health_check_failure_threshold": 3,
}
"""A dead node, which refuses connections, is found within seconds instead of a quarter of a minute. One that does not
answer has a minute."""
HASTY = {**DETECTION, "health_check_timeout_ms": 1500}
"""One that does not answer is given up as soon. Being wrong costs no more than an attempt."""

NOTICE_S = 55
"""So little that no trial stays, although no other place is free."""


def main() -> None:
    num = int(sys.argv[1]) if len(sys.argv) > 1 else 2
    detection = HASTY if "--hasty" in sys.argv else DETECTION
    head = {"num_cpus": 1, "include_dashboard": False, "_system_config": detection}
    cluster: Any = Cluster(initialize_head=True, head_node_args=head)
    for _ in range(num):
        cluster.add_node(num_cpus=1)
    for cloud in set(sys.argv[2:]) - {"--hasty"}:
        cluster.add_node(num_cpus=1, env_vars={"TUNEKIT_CLOUD": cloud})
    print(cluster.address, flush=True)
    for line in sys.stdin:
        match line.strip():
            case "mend":
                mend(cluster)
            case "kill":
                cluster.remove_node(list(cluster.worker_nodes)[-1], allow_graceful=False)
            case "drain":
                drain(cluster.address, list(cluster.worker_nodes)[-1].node_id)
            case "add":
                cluster.add_node(num_cpus=1)
        print(json.dumps([raylet(node).pid for node in cluster.worker_nodes]), flush=True)
    cluster.shutdown()


def drain(address: str, node: str) -> None:
    rpc: Any = autoscaler_pb2  # Neither has stubs.
    client: Any = _raylet
    reason = rpc.DrainNodeReason.Value("DRAIN_NODE_REASON_PREEMPTION")
    deadline_ms = int((time.time() + NOTICE_S) * 1000)
    is_accepted, why = client.GcsClient(address=address).drain_node(node, reason, "spot", deadline_ms)
    assert is_accepted, why
    state._initialize_global_state(client.GcsClientOptions.create(address, None, True, False))  # noqa: FBT003 - Ray's
    while node not in (notices := draining_nodes()):
        time.sleep(0.1)
    notice = notices[node]
    assert notice.deadline is not None
    assert abs(notice.deadline - deadline_ms / 1000) < 1, f"another unit than {deadline_ms} ms: {notice}"


def mend(cluster: Cluster) -> None:
    for node in list(cluster.worker_nodes):
        if raylet(node).poll() is not None:
            cluster.remove_node(node, allow_graceful=False)
            cluster.add_node(num_cpus=1)


def raylet(node: Any) -> Any:
    (info,) = node.all_processes["raylet"]
    return info.process


if __name__ == "__main__":
    main()
