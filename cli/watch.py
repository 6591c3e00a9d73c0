"""What a cluster is doing now: processes by pid, the rest by asking every node at once. Changes nothing."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

from cli.client import AdminClient, Unreachable
from cli.layout import ENDPOINTS, Cluster, Node
from cli.supervisor import last_words
from nodes.process import read_pid, runs_node

CRASH_LOOP_S = 10.0  # by then a node that can start has started


class Seen(NamedTuple):
    """One node, as far as one can see it. `answer` is what it says of itself, None if it does not answer."""

    node: Node
    pid: int | None
    answer: dict[str, Any] | None
    problem: str

    @property
    def ready(self) -> bool:
        return self.answer is not None and self.answer["ready"]

    @property
    def why(self) -> str:
        """Why it is not ready."""
        if self.answer is not None:
            return "; ".join(self.answer["reasons"])
        return self.problem if self.pid is not None else "not running"


def running_pid(node: Node) -> int | None:
    """The process id of the node if it runs on this machine."""
    if not node.is_here:
        return None
    pid = read_pid(node.pid_file)
    return pid if pid is not None and runs_node(pid, node.config) else None


def look(cluster: Cluster, client: AdminClient) -> list[Seen]:
    """Every node, asked at the same time."""

    def look_at(node: Node) -> Seen:
        pid = running_pid(node)
        try:
            answer = client.status(node)
        except Unreachable as failure:
            return Seen(node, pid, None, str(failure))
        return Seen(node, pid or answer["pid"], answer, "")

    with ThreadPoolExecutor(len(cluster.nodes)) as threads:
        return list(threads.map(look_at, cluster.nodes))


def leader_of(seen: list[Seen]) -> str | None:
    """The leader of the latest term that a majority of the cell can have agreed on, None if there is none."""
    leaders = [(one.answer["term"], one.node.name) for one in seen if one.answer and one.answer["role"] == "leader"]
    return max(leaders)[1] if leaders else None


def status_json(seen: list[Seen]) -> dict[str, Any]:
    """The answer of `cluster status --json`."""
    return {"leader": leader_of(seen), "nodes": [_node_json(one) for one in seen]}


def _node_json(one: Seen) -> dict[str, Any]:
    answer = one.answer or {}
    return {
        "name": one.node.name,
        "alive": one.pid is not None,
        "pid": one.pid,
        **{key: answer.get(key) for key in ("role", "term", "commit", "applied", "chain")},
        "endpoints": {use: one.node.addresses[use] for use in ENDPOINTS if use in one.node.addresses},
    }


def wait_ready(
    cluster: Cluster,
    client: AdminClient,
    timeout_s: float,
    *,
    alive: Callable[[], bool],
    progress: Callable[[list[Seen]], None],
) -> list[Seen] | None:
    """Looks until there is a leader and every node is ready; None if that does not happen in `timeout_s`.

    Gives up early when `alive` says that nothing is starting any more, when all that is missing is quarantined, or
    when a node keeps ending before it is ready.
    """
    started, started_at = time.monotonic(), time.time()
    while alive():
        seen = look(cluster, client)
        progress(seen)
        waiting = [one for one in seen if not one.ready]
        if not waiting and leader_of(seen):
            return seen
        if waiting and all(one.answer and one.answer["role"] == "quarantined" for one in waiting):
            return None
        waited_s = time.monotonic() - started
        if waited_s > timeout_s or (waited_s > CRASH_LOOP_S and any(_has_ended(one, started_at) for one in waiting)):
            return None
        time.sleep(0.2)
    return None


def _has_ended(one: Seen, since: float) -> bool:
    """Whether it has written something since then, and does not run: on a busy machine it may not have begun yet.

    The supervisor makes the file before the node begins, which is no word of the node's.
    """
    if one.pid is not None:
        return False
    try:
        log = one.node.log_file.stat()
    except FileNotFoundError:
        return False
    return log.st_size > 0 and log.st_mtime >= since


def problems(seen: list[Seen]) -> list[str]:
    """One line for each node that is not ready, with the last words of its log if it does not run."""
    lines = []
    for one in seen:
        if one.ready:
            continue
        words = last_words(one.node.log_file) if one.pid is None else ""
        lines.append(f"{one.node.name}: {one.why}" + (f" ({words})" if words else ""))
    return lines
