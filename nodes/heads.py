"""The heads of the log that this node signs from time to time and keeps, for who collects them elsewhere.

A chain that its only keeper can rewrite proves nothing (nodes/anchors.py); a head that nobody signed before it was
needed can not be asked for afterwards. So each node signs its head every so often, and when it stops, into a folder of
its data that holds a bounded number of them; the admin API gives them out. A head says what this node has folded, which
is committed.
"""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import json
import re
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nodes.anchors import Anchor, sign
from nodes.files import write_atomically
from nodes.record_json import utc
from nodes.services import Logger

if TYPE_CHECKING:
    from eventlog.log import EventLog
    from nodes.config.node import NodeConfig
    from nodes.metrics import Metrics

FOLDER = "heads"  # in node.data_dir
_NAME = re.compile(r"head-(\d{12,19})\.json")


def signed_head(config: NodeConfig, position: int, at_ms: int, chain: bytes) -> dict[str, Any]:
    """The chain at a position, signed with the key of this node's certificate. Raises OSError, ValueError."""
    signed = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    head = Anchor(config.node.cluster_id, config.node.name, position, utc(at_ms), chain.hex(), signed)
    return sign(head, config.tls.certificate, config.tls.key)


class HeadKeeper:
    """Signs and keeps the heads of one node. Event loop only."""

    def __init__(self, config: NodeConfig, log: EventLog, metrics: Metrics, logger: Logger) -> None:
        self._config = config
        self._log = log
        self._metrics = metrics
        self._logger = logger
        self._task: asyncio.Task[None] | None = None
        self._last = max(self.positions(), default=0)
        metrics.signed_position.set(self._last)

    @property
    def folder(self) -> Path:
        return self._config.node.data_dir / FOLDER

    def reload(self, config: NodeConfig) -> None:
        """From now on by this, from the next signature on."""
        self._config = config

    def start(self) -> None:
        self._task = asyncio.get_running_loop().create_task(self._run())

    async def stop(self) -> None:
        """Signs the head that the node stops with."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._sign()

    def positions(self) -> list[int]:
        """Of the heads that are kept, in order."""
        with contextlib.suppress(FileNotFoundError):
            return sorted(int(found[1]) for path in self.folder.iterdir() if (found := _NAME.fullmatch(path.name)))
        return []

    def kept(self, position: int) -> dict[str, Any] | None:
        """One of them; None where it is not there (any more)."""
        try:
            document: dict[str, Any] = json.loads(self._path(position).read_text())
        except (OSError, ValueError):
            return None
        return document

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(self._config.heads.every_s)
            self._sign()

    def _sign(self) -> None:
        """Signs what is folded here and drops the oldest; that it can not be done stops nothing else."""
        status = self._log.status()
        if status.applied <= self._last:
            return
        try:
            document = signed_head(self._config, status.applied, status.at_ms, status.chain)
            self.folder.mkdir(mode=0o700, exist_ok=True)
            write_atomically(self._path(status.applied), json.dumps(document, indent=2).encode() + b"\n")
            for position in self.positions()[: -self._config.heads.keep]:
                self._path(position).unlink(missing_ok=True)
        except (OSError, ValueError) as error:
            self._logger.error("the head of the log was not signed", code="head_not_signed", error=str(error))
            return
        self._last = status.applied
        self._metrics.signed_position.set(status.applied)
        self._metrics.signed_at_seconds.set(time.time())

    def _path(self, position: int) -> Path:
        return self.folder / f"head-{position:012}.json"
