"""The event log as a node opens it: by its configuration, over its certificates, the time of each write counted."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack

import lmdb

from actors.registry import fold_event
from eventlog.errors import DamagedDatabase, Rejected
from eventlog.log import Committed, EventLog, LogConfig
from eventlog.members import MEMBERS, removed_names
from eventlog.record import Record
from nodes.config.node import NodeConfig
from nodes.metrics import Metrics
from nodes.starting import StartError, can_not_listen
from nodes.tls import contexts as tls
from nodes.tls.files import TlsFiles

TELL_REMOVED_S = 5.0


class MeasuredLog(EventLog):
    """The event log, with the time that each write took."""

    metrics: Metrics

    async def propose(self, record: Record, bodies: Sequence[bytes] = (), timeout_s: float = 8.0) -> Committed:
        started_s = time.perf_counter()
        outcome = "unknown"
        try:
            committed = await self.submit(record, bodies, timeout_s)
            outcome = "committed"
            return committed
        except Rejected:
            outcome = "rejected"
            raise
        finally:
            self.metrics.proposed(outcome, time.perf_counter() - started_s)


async def open_log(
    config: NodeConfig,
    tls_files: TlsFiles,
    metrics: Metrics,
    stack: AsyncExitStack,
    on_fatal: Callable[[BaseException], None],
    on_removed: Callable[[int], None],
) -> EventLog:
    """Opened and started; `stack` stops it. Raises StartError."""
    contexts = tls.raft_contexts(config, tls_files.admission)
    for context in contexts:
        tls_files.keep(context)
    try:
        log = MeasuredLog.open(
            log_config(config),
            evolve=fold_event,
            server_ssl=contexts[0],
            client_ssl=contexts[1],
            peer_name=tls_files.admission.node_name,
            on_fatal=on_fatal,
            on_removed=on_removed,
        )
    except DamagedDatabase as error:
        raise StartError(str(error), "another node.data_dir: the other nodes bring it up to date") from None
    except lmdb.Error as error:
        raise StartError(f"node.data_dir = {config.node.data_dir}: can not be opened: {error}") from None
    assert isinstance(log, MeasuredLog)
    log.metrics = metrics
    stack.push_async_callback(log.stop)
    _refuse_removed(log, tls_files)
    log.subscribe(MEMBERS, lambda _: _refuse_removed(log, tls_files))
    try:
        await log.start()
    except OSError as error:
        raise can_not_listen("raft.listen", config.raft.listen, error) from None
    return log


def _refuse_removed(log: EventLog, tls_files: TlsFiles) -> None:
    """From the next handshake on; a connection that is open lasts until the other side was told, but not longer."""
    with log.snapshot() as snapshot:
        tls_files.admission.remove(removed_names(snapshot.view(MEMBERS)))
    asyncio.get_running_loop().call_later(TELL_REMOVED_S, log.recheck_peers)


def log_config(config: NodeConfig) -> LogConfig:
    """What the event log needs of the configuration."""
    shortest_ms, longest_ms = config.raft.election_timeout_ms
    return LogConfig(
        name=config.node.name,
        data_dir=config.node.data_dir,
        # one that joins is a member when the log says so, and never because its own file does
        peers={name: at for name, at in config.raft.peers.items() if name != config.node.name or not config.raft.join},
        listen=config.raft.listen,
        election_timeout_s=(shortest_ms / 1000, longest_ms / 1000),
        heartbeat_s=config.raft.heartbeat_ms / 1000,
        map_size_bytes=config.storage.map_size_bytes,
        reserve_bytes=config.storage.reserve_bytes,
        cell_id=config.node.cluster_id,
    )
