"""What the consensus engine keeps beside PySyncObj's own state: timing, what waits to be sent, how far each peer is."""

from collections import deque
from collections.abc import Iterator, Sequence
from itertools import count, repeat
from typing import Any, NamedTuple, Protocol

from pysyncobj.node import Node
from pysyncobj.transport import Transport

from eventlog.record import Encoded

Message = dict[str, Any]
TOKEN_NUMBER_BYTES = 8


class Timing(NamedTuple):
    """Seconds. Elections start between the two timeouts; a leader without a majority for `fallback_s` steps down.

    Where a record soon follows what was committed, its peers hear of both at once, or of the first after `news_s`; who
    waits for it hears at once.
    """

    election_min_s: float = 0.5
    election_max_s: float = 1.0
    heartbeat_s: float = 0.1
    news_s: float = 0.005

    @property
    def fallback_s(self) -> float:
        return self.election_max_s * 2


class Outbox(Transport):  # type: ignore[misc]
    """PySyncObj's transport: what it sends waits here until the tick is durable."""

    def __init__(self) -> None:
        super().__init__(None, None, [])
        self.messages: list[tuple[str, Message]] = []

    ready = True

    def setOnUtilityMessageCallback(self, message: str, callback: Any) -> None:
        """Takes no utility callbacks: a peer can not add, remove or transfer anything by message."""

    def send(self, node: Node, message: Message) -> bool:
        self.messages.append((node.id, message))
        return True

    def destroy(self) -> None:
        self.messages.clear()


class Progress:
    """What the leader knows of one peer beyond next and match index."""

    __slots__ = (
        "asked",
        "caught_up",
        "clock_off_ms",
        "commit_sent",
        "goal",
        "goal_set",
        "has_room",
        "in_flight",
        "in_flight_bytes",
        "level",
        "probing",
        "round",
        "waiting",
        "whole_to",
    )

    def __init__(self) -> None:
        self.in_flight: deque[tuple[int, int]] = deque()  # last index and bytes of each message on its way
        self.in_flight_bytes = 0
        self.probing = True  # one message at a time until the logs are known to match
        self.waiting = False  # a probe is on its way
        self.commit_sent = 0
        self.whole_to = 0  # entries up to here it has lost, though it forwarded them: it is sent them whole
        self.asked = 0  # the last index that it proposed: it waits to hear that this is committed
        self.round = 0
        self.clock_off_ms: int | None = None
        self.has_room = False  # until it says so: leadership is passed on only to one that can write
        self.level = 0  # the highest feature level that it knows; 0 until it says so
        self.goal = 0  # of a learner's round: the leader's last index, and the time, when the round began
        self.goal_set = 0.0
        self.caught_up = False

    def probe(self) -> None:
        self.in_flight.clear()
        self.in_flight_bytes = 0
        self.probing, self.waiting = True, False

    def acknowledged(self, index: int) -> None:
        while self.in_flight and self.in_flight[0][0] <= index:
            self.in_flight_bytes -= self.in_flight.popleft()[1]


class Held(Protocol):
    """A proposal that this node forwarded and that still waits for its outcome."""

    data: bytes
    bodies: Sequence[bytes]

    @property
    def encoded(self) -> Encoded | None:
        """What `data` was made of, where that was in this process."""


class Read(NamedTuple):
    """A linearizable read that waits for its round: who asked, with what token."""

    peer: str
    token: bytes


def token(begun: bytes, number: int) -> bytes:
    """Under what a node keeps a proposal that it forwards: which life of it that is, and the number in that life."""
    return begun + number.to_bytes(TOKEN_NUMBER_BYTES, "big")


def tokens_of(message: Message) -> Iterator[bytes]:
    """The token of each proposal in a message; b"" for ever where its sender keeps none."""
    begun, first = message.get("held", (b"", 0))
    return (token(begun, number) for number in count(first)) if begun else repeat(b"")
