"""Stock PySyncObj, driven by hand: its own class, journal and rules; the clock and the post belong to the test."""

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import pysyncobj.syncobj
import pytest
from pysyncobj import SyncObj, SyncObjConf
from pysyncobj.node import Node
from pysyncobj.syncobj import _COMMAND_TYPE, _RAFT_STATE
from pysyncobj.transport import Transport

Message = dict[str, Any]
ROLE_NAMES = {_RAFT_STATE.FOLLOWER: "follower", _RAFT_STATE.CANDIDATE: "candidate", _RAFT_STATE.LEADER: "leader"}
PATIENCE_S = 10_000.0  # nobody times out but the one that a test says
BEAT_S = 0.11  # a little more than the library's heartbeat


class Letter(NamedTuple):
    source: str
    target: str
    message: Message


class Post(Transport):  # type: ignore[misc]
    """What a node sends waits until the test carries it."""

    def __init__(self, name: str, mail: list[Letter]) -> None:
        super().__init__(None, None, [])
        self._name = name
        self._mail = mail

    def send(self, node: Node, message: Message) -> bool:
        self._mail.append(Letter(self._name, node.id, message))
        return True


class StockCell:
    """Nodes of the library as it is. Nothing moves unless a method here says so."""

    def __init__(
        self, monkeypatch: pytest.MonkeyPatch, names: Iterable[str] = ("n1", "n2", "n3"), **options: Any
    ) -> None:
        self.now = 1000.0
        monkeypatch.setattr(pysyncobj.syncobj, "monotonicTime", lambda: self.now)
        self.mail: list[Letter] = []
        self.nodes: dict[str, SyncObj] = {}
        names = list(names)
        for name in names:
            self.add(name, names, **options)

    def add(self, name: str, names: Iterable[str], **options: Any) -> None:
        """A node that knows these members and is connected to whoever it is told of."""
        conf = SyncObjConf(
            autoTick=False,
            pollerType="poll",
            raftMinTimeout=PATIENCE_S,
            raftMaxTimeout=PATIENCE_S + 1,
            connectionTimeout=2 * PATIENCE_S,
            **options,
        )
        post = Post(name, self.mail)
        node = self.nodes[name] = SyncObj(
            Node(name), [Node(peer) for peer in names if peer != name], conf, transport=post
        )
        for peer in names:
            if peer != name:
                self.connect(node, peer)

    def connect(self, node: SyncObj, peer: str) -> None:
        node._SyncObj__onNodeConnected(Node(peer))

    def __getitem__(self, name: str) -> SyncObj:
        return self.nodes[name]

    # -- what a node does ---------------------------------------------------------------------------------------------

    def beat(self, *names: str) -> None:
        """A heartbeat's time passes, and these nodes tick."""
        self.now += BEAT_S
        for name in names:
            self[name].doTick()

    def time_out(self, name: str) -> None:
        self[name]._SyncObj__raftElectionDeadline = self.now - 1
        self[name].doTick()

    def propose(self, name: str, *texts: str) -> None:
        """Appends at a leader; its next heartbeat sends them."""
        for text in texts:
            self[name]._applyCommand(text.encode(), None, _COMMAND_TYPE.NO_OP)
        self[name]._checkCommandsToApply()

    def deliver(self, letter: Letter) -> None:
        self[letter.target]._SyncObj__onMessageReceived(Node(letter.source), letter.message)

    def carry(self, wanted: Callable[[Letter], bool] = lambda _: True) -> None:
        """Delivers the waiting letters that are wanted; the others are lost."""
        mail = list(self.mail)
        self.mail.clear()
        for letter in mail:
            if wanted(letter):
                self.deliver(letter)

    def settle(self, *among: str, rounds: int = 6) -> None:
        for _ in range(rounds):
            self.beat(*among)
            self.carry(lambda letter: letter.source in among and letter.target in among)
            self.carry(lambda letter: letter.source in among and letter.target in among)

    def elect(self, name: str, *among: str) -> None:
        self.time_out(name)
        self.settle(*among)
        assert self.role(name) == "leader"

    # -- what can be seen of it ---------------------------------------------------------------------------------------

    def role(self, name: str) -> str:
        return ROLE_NAMES[self[name]._SyncObj__raftState]

    def term(self, name: str) -> int:
        return int(self[name].raftCurrentTerm)

    def commit(self, name: str) -> int:
        return int(self[name].raftCommitIndex)

    def log(self, name: str) -> list[str]:
        """Index, term and text of each entry, as `2/1 a`."""
        entries = self[name]._SyncObj__raftLog[:]
        return [f"{index}/{term} {command[1:].decode(errors='replace')}".strip() for command, index, term in entries]

    def next_index(self, leader: str, peer: str) -> int:
        return int(self[leader]._SyncObj__raftNextIndex[Node(peer)])

    def match_index(self, leader: str, peer: str) -> int:
        return int(self[leader]._SyncObj__raftMatchIndex[Node(peer)])

    def waiting(self, source: str, target: str) -> list[Letter]:
        return [letter for letter in self.mail if (letter.source, letter.target) == (source, target)]
