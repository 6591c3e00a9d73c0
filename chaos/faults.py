"""What is done to a cluster. A fault knows processes and time, nothing of mail and nothing of what is checked."""

import os
import signal
from collections.abc import Iterator
from random import Random

from chaos.cluster import ClusterStatus, NodeStatus


def kill_schedule(seed: int, mean_interval_s: float) -> Iterator[float]:
    """Seconds to wait before each kill: around the mean, by half of it either way, the same for the same seed."""
    rng = Random(f"{seed}:kills")
    while True:
        yield mean_interval_s * rng.uniform(0.5, 1.5)


def leader_of(status: ClusterStatus) -> NodeStatus | None:
    """The node to kill: the leader, if there is one that is alive."""
    leader = None if status.leader is None else status.node(status.leader)
    return leader if leader is not None and leader.alive and leader.pid > 0 else None


def kill(node: NodeStatus) -> None:
    """SIGKILL: no handler runs, no buffer is flushed. Raises ProcessLookupError if it is gone already."""
    os.kill(node.pid, signal.SIGKILL)
