"""How a node without a database gets one: from a checkpoint of a member, before its log is opened.

The cell has added it as a learner before, so the checkpoint says that it is a member. Fetching happens in a process of
its own (nodes/jobs.py); when it fails the next member is asked, and nothing is left of the attempt.
"""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import itertools
import json
import socket
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple, Self

from eventlog.checkpoint import CheckpointError, CheckpointHead, Progress, load_checkpoint
from eventlog.store import joined_mark
from nodes import jobs
from nodes.config.node import MIB, NodeConfig, split_address
from nodes.http.errors import read_problem
from nodes.services import Logger
from nodes.state import NodeState
from nodes.tls import contexts as tls

ANSWER_TIMEOUT_S = 30.0
RETRY_FIRST_S = 0.5
RETRY_MOST_S = 10.0
LOG_EVERY_S = 5.0
MOST_ERROR_BYTES = 64 * 1024


class Source(NamedTuple):
    """Where a checkpoint comes from, and for whom (no name: for an administrator). Fit for a command line."""

    address: str
    cell_id: str
    name: str
    ca: Path
    certificate: Path
    key: Path
    map_size_bytes: int

    @classmethod
    def of(cls, config: NodeConfig, address: str) -> Self:
        node, files = config.node, config.tls
        size = config.storage.map_size_bytes
        return cls(address, node.cluster_id, node.name, files.ca, files.certificate, files.key, size)

    @classmethod
    def from_arguments(cls, arguments: Sequence[str]) -> Self:
        """The reverse of `[str(field) for field in source]`."""
        address, cell_id, name, ca, certificate, key, size = arguments
        return cls(address, cell_id, name, Path(ca), Path(certificate), Path(key), int(size))


def is_due(config: NodeConfig) -> bool:
    """Whether this node has no database, never had one, and is told where to get it."""
    data_dir = config.node.data_dir
    return bool(config.raft.join) and not (data_dir / "data.mdb").exists() and not joined_mark(data_dir).exists()


async def join(state: NodeState, logger: Logger) -> None:
    """Returns when there is a database; asks one member after the other until then."""
    config, wait_s = state.config, RETRY_FIRST_S
    state.phase = "joining"
    for address in itertools.cycle(config.raft.join):
        logger.info("asking for a checkpoint", member=address)
        result = await _attempt(state, logger, address)
        if "error" not in result:
            logger.info("joined from a checkpoint", member=address, **result)
            break
        state.joining = f"{address}: {result['error']}"
        logger.warning("no checkpoint", member=address, reason=result["error"], next_try_s=wait_s)
        await asyncio.sleep(wait_s)
        wait_s = min(2 * wait_s, RETRY_MOST_S)
    state.phase = "starting"


async def _attempt(state: NodeState, logger: Logger, address: str) -> dict[str, Any]:
    """What the job said in the end: the head of the checkpoint, or an error."""
    arguments = map(str, Source.of(state.config, address))
    said_s = time.monotonic()
    async with contextlib.aclosing(jobs.run("join", state.config.node.data_dir, *arguments)) as lines:
        async for line in lines:
            said = json.loads(line)
            if "progress" not in said:
                return said if "error" in said else dict(said["result"])
            done, total = said["progress"]
            state.joining = f"{done // MIB} of about {total // MIB} MiB from {address}"
            if time.monotonic() - said_s > LOG_EVERY_S:
                said_s = time.monotonic()
                logger.info("joining", mib=done // MIB, of_about=total // MIB)
    raise AssertionError("a job ends with a result or an error")


# -- in the process that fetches -----------------------------------------------------------------------------------


def fetch(path: Path, source: Source, progress: Progress) -> CheckpointHead:
    """Makes the database in `path`. Blocking. Raises OSError, CheckpointError or http.client.HTTPException."""
    with contextlib.closing(connect(source)) as connection:
        connection.request("GET", "/v1/checkpoint")
        response = connection.getresponse()
        if response.status != http.client.OK:
            raise CheckpointError(_refusal(response))
        return load_checkpoint(
            response.read,
            path,
            progress,
            cell_id=source.cell_id,
            member=source.name or None,
            map_size_bytes=source.map_size_bytes,
        )


def connect(source: Source) -> http.client.HTTPConnection:
    """A connection to a node of the cell, as the node that joins. Raises OSError."""
    context = tls.admin_client_context(source.ca, source.certificate, source.key)
    plain = socket.create_connection(split_address(source.address), timeout=ANSWER_TIMEOUT_S)
    try:
        secure = context.wrap_socket(plain)
    except BaseException:
        plain.close()
        raise
    if tls.peer_node_name(secure, source.cell_id) is None:
        secure.close()
        raise ConnectionRefusedError("what answers there is no node of this cell")
    connection = http.client.HTTPConnection(source.address)
    connection.sock = secure
    connection.auto_open = 0  # never a second connection behind our back, and never one in clear
    return connection


def _refusal(response: http.client.HTTPResponse) -> str:
    try:
        return read_problem(response.read(MOST_ERROR_BYTES))[1]
    except ValueError:
        return f"the node answered {response.status} {response.reason}"
