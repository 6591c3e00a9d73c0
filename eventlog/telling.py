"""What members tell each other beside the log: small, lost without harm, kept by nobody. Rates and counts, say.

It goes over the same connections as Raft's messages, so who speaks is who its certificate says; it never waits for a
tick and is on no disk. A member that does not know a topic, as one of an earlier version, ignores it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import structlog

MOST_BYTES = 64 * 1024
TOLD = "told"  # the type of the message

Send = Callable[[str, dict[str, Any]], bool]
Hear = Callable[[str, bytes], None]  # the member that tells, and what

_log = structlog.get_logger("mailraft.log")


class Telling:
    """`send` hands a message to a peer; `peers` are the other members."""

    def __init__(self, send: Send, peers: Callable[[], Iterable[str]]) -> None:
        self._send = send
        self._peers = peers
        self._hearers: dict[str, Hear] = {}

    def tell(self, topic: str, data: bytes) -> None:
        """To all other members that are connected. Raises ValueError for more than MOST_BYTES."""
        if len(data) > MOST_BYTES:
            raise ValueError(f"{len(data)} bytes are too much to tell")
        message = {"type": TOLD, "topic": topic, "data": data}
        for peer in self._peers():
            self._send(peer, message)

    def hear(self, topic: str, hearer: Hear) -> None:
        """Has what is told of a topic given to `hearer`, on the event loop; one for each topic."""
        self._hearers[topic] = hearer

    def told(self, peer: str, message: dict[str, Any]) -> None:
        """A message has come. Whatever an authenticated peer sends must not end this node."""
        hearer, data = self._hearers.get(str(message.get("topic"))), message.get("data")
        if hearer is None or not isinstance(data, bytes) or len(data) > MOST_BYTES:
            return
        try:
            hearer(peer, data)
        except Exception as error:
            _log.warning("what a peer told is ignored", peer=peer, topic=message["topic"], error=repr(error))
