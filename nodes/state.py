"""What a node can say of itself at any time: while it starts, serves, stops, or has quarantined itself.

Read by health checks, the admin API and metrics. It never waits and never fails.
"""

from __future__ import annotations

import os
import shutil
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from actors import queue
from nodes import health
from nodes.config.node import NodeConfig
from nodes.metrics import ROLES, Metrics

if TYPE_CHECKING:
    from eventlog.log import EventLog, LogStatus
    from nodes.cell_health import CellHealth
    from nodes.config.checking import Checking
    from nodes.config.reloading import Reloading
    from nodes.delivery.manager import Manager
    from nodes.draining import Draining
    from nodes.follower.followers import Followers
    from nodes.heads import HeadKeeper
    from nodes.logins.identities import Identities
    from nodes.reports.sender import Sender
    from nodes.services import Services
    from nodes.tls.files import TlsFiles
    from nodes.tls.mail import MailTls
    from nodes.workers.crew import Crew

Phase = Literal["joining", "starting", "serving", "stopping", "quarantined"]


@dataclass
class NodeState:
    """Changed by nodes/server.py and nodes/parts.py, and by nodes/joining.py before there is a log."""

    config: NodeConfig
    metrics: Metrics
    phase: Phase = "starting"
    quarantine_reason: str = ""
    joining: str = "no member has answered yet"  # how far the checkpoint has come
    log: EventLog | None = None
    services: Services | None = None
    followers: Followers | None = None
    heads: HeadKeeper | None = None
    identities: Identities | None = None
    checking: Checking | None = None
    draining: Draining | None = None
    reloading: Reloading | None = None
    report_sender: Sender | None = None
    mail_tls: MailTls | None = None
    tls_files: TlsFiles | None = None
    delivery: Manager | None = None
    crew: Crew | None = None  # None: front ends run in this process
    cell: CellHealth | None = None  # what the members tell each other
    endpoints: dict[str, str] = field(default_factory=dict)
    checkpoints_under_way: int = 0  # at the moment

    def unready(self) -> list[str]:
        """Why this node should get no mail or clients now; empty when it should."""
        return health.unready(self)

    def status(self) -> dict[str, Any]:
        """The node's answer to `GET /v1/status`."""
        reasons = self.unready()
        status = self.log.status() if self.log is not None else None
        return {
            "name": self.config.node.name,
            "cluster_id": self.config.node.cluster_id,
            "pid": os.getpid(),
            "clock_ms": time.time_ns() // 1_000_000,
            "connections": self.services.connections.open if self.services is not None else 0,
            "phase": self.phase,
            "ready": not reasons,
            "reasons": reasons,
            **(_of_log(status) if status is not None else _without_log(self.phase)),
            "endpoints": self.endpoints,
            "filters": self.checking.filters.status() if self.checking is not None else {},
        }

    def measure(self) -> None:
        """Brings the gauges up to date, for a scrape."""
        metrics = self.metrics
        status = self.log.status() if self.log is not None else None
        role = status.role if status else _without_log(self.phase)["role"]
        for part, found in health.examine(self):
            metrics.part_up.labels(part.name, str(part.critical).lower()).set(found.standing != "down")
        for name in ROLES:
            metrics.raft_role.labels(name).set(name == role)
        if status is None:
            metrics.accepting_mail.set(0)
            metrics.disk_free_bytes.set(shutil.disk_usage(self.config.node.data_dir.parent).free)
            return
        metrics.raft_term.set(status.term)
        metrics.raft_commit.set(status.commit)
        metrics.raft_applied.set(status.applied)
        metrics.fold_lag.set(status.commit - status.applied)
        metrics.disk_free_bytes.set(status.disk_free_bytes)
        metrics.accepting_mail.set(status.accepting_mail)
        metrics.queue_items.set(self._queued())
        metrics.archived_position.set(self._archived())

    def _archived(self) -> int:
        assert self.log is not None
        segments = self.log.archivist.segments()
        return segments[-1].last if segments else 0

    def _queued(self) -> int:
        assert self.log is not None
        with self.log.snapshot() as snapshot:
            return sum(queue.totals(snapshot.view(queue.queue_stream(one))).items for one in queue.queues(snapshot))


def _of_log(status: LogStatus) -> dict[str, Any]:
    return {
        "role": status.role,
        "leader": status.leader,
        "term": status.term,
        "commit": status.commit,
        "applied": status.applied,
        "chain": status.chain.hex(),
        "last_index": status.last_index,
        "disk_free_bytes": status.disk_free_bytes,
        "accepting_mail": status.accepting_mail,
        "stalled": status.stalled,
    }


def _without_log(phase: Phase) -> dict[str, Any]:
    unknown = ("leader", "term", "commit", "applied", "chain", "last_index", "disk_free_bytes", "stalled")
    role = {"quarantined": "quarantined", "joining": "learner"}.get(phase)
    return {"role": role, **dict.fromkeys(unknown), "accepting_mail": False}
