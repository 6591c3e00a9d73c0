"""What members tell each other beside the log: small, lost without harm, kept by nobody. Rates and counts, say.

It goes over the same connections as Raft's messages, so who speaks is who its certificate says; it never waits for a
tick and is on no disk. A member that does not know a topic, as one of an earlier version, ignores it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import structlog

MOST_BYTES = 64 * 1024
MOST_PART = 64  # characters of the name of a part
TOLD = "told"  # the type of the message

Send = Callable[[str, dict[str, Any]], bool]
Hear = Callable[[str, bytes], None]  # the member that tells, and what
Overhear = Callable[[str, str, bytes], None]  # the member that tells, or "" for this one; the topic; what

_log = structlog.get_logger("mailraft.log")


class Telling:
    """`send` hands a message to a peer; `peers` are the other members."""

    def __init__(self, send: Send, peers: Callable[[], Iterable[str]]) -> None:
        self._send = send
        self._peers = peers
        self._hearers: dict[str, Hear] = {}
        self._overhear: Overhear | None = None

    def tell(self, topic: str, data: bytes) -> None:
        """To all other members that are connected. Raises ValueError for more than MOST_BYTES."""
        if len(data) > MOST_BYTES:
            raise ValueError(f"{len(data)} bytes are too much to tell")
        self._tell_peers({"type": TOLD, "topic": topic, "data": data})
        if self._overhear is not None:
            self._overhear("", topic, data)

    def pass_on(self, part: str, topic: str, data: bytes) -> None:
        """What a process of this node tells: its own hearers hear it, and the other members, as of that part.

        A member of an earlier version takes it for this node's own. Raises ValueError as `tell`.
        """
        if len(data) > MOST_BYTES:
            raise ValueError(f"{len(data)} bytes are too much to tell")
        self._hear(part, topic, data)
        self._tell_peers({"type": TOLD, "topic": topic, "data": data, "part": part})

    def overhear(self, overhear: Overhear | None) -> None:
        """Has all that this node tells and hears given to `overhear` too, but for what was passed on."""
        self._overhear = overhear

    def tell_one(self, peer: str, topic: str, data: bytes) -> bool:
        """To one member; False where it is not connected. Raises ValueError for more than MOST_BYTES."""
        if len(data) > MOST_BYTES:
            raise ValueError(f"{len(data)} bytes are too much to tell")
        return self._send(peer, {"type": TOLD, "topic": topic, "data": data})

    @property
    def peers(self) -> tuple[str, ...]:
        """The other members."""
        return tuple(self._peers())

    def hear(self, topic: str, hearer: Hear) -> None:
        """Has what is told of a topic given to `hearer`, on the event loop; one for each topic."""
        self._hearers[topic] = hearer

    def told(self, peer: str, message: dict[str, Any]) -> None:
        """A message has come. Whatever an authenticated peer sends must not end this node."""
        topic, data, part = str(message.get("topic")), message.get("data"), message.get("part")
        if not isinstance(data, bytes) or len(data) > MOST_BYTES:
            return
        teller = f"{peer} {part}" if isinstance(part, str) and len(part) <= MOST_PART else peer
        self._hear(teller, topic, data)
        if self._overhear is not None:
            self._overhear(teller, topic, data)

    # -- parts

    def _tell_peers(self, message: dict[str, Any]) -> None:
        for peer in self._peers():
            self._send(peer, message)

    def _hear(self, teller: str, topic: str, data: bytes) -> None:
        hearer = self._hearers.get(topic)
        if hearer is None:
            return
        try:
            hearer(teller, data)
        except Exception as error:
            _log.warning("what a peer told is ignored", peer=teller, topic=topic, error=repr(error))
