"""What the log of a node is made of, and what goes between its parts: the consensus thread, the peers, who waits.

Event loop only, but for what the thread calls. What is shared with it are two dictionaries, into which it only looks.
"""

import asyncio
import contextlib
import os
import ssl
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import structlog

from eventlog import telling
from eventlog.barrier import Barrier
from eventlog.changes import Changes, Node
from eventlog.errors import LogError
from eventlog.fold import Evolve
from eventlog.log_terms import LogConfig
from eventlog.members import Members
from eventlog.proposals import Proposals
from eventlog.pump import Pump
from eventlog.raft import Message, Timing
from eventlog.store import Store
from eventlog.subscriptions import Subscriptions
from eventlog.telling import Telling
from eventlog.ticks import State, Tick
from eventlog.transport import PeerName, PeerTransport
from eventlog.writer import Writer

_log = structlog.get_logger("mailraft.log")


class Owner(NamedTuple):
    """The node that a log is opened for: how it folds, how it knows its peers, and whom it tells of the end."""

    evolve: Evolve
    server_ssl: ssl.SSLContext | None
    client_ssl: ssl.SSLContext | None
    peer_name: PeerName
    on_fatal: Callable[[BaseException], None] | None
    on_removed: Callable[[int], None] | None


class Wiring:
    """The parts of one node's log. `EventLog` is what others see of it."""

    def __init__(self, config: LogConfig, store: Store, owner: Owner) -> None:
        self.config = config
        self.store = store
        self._loop = asyncio.get_running_loop()
        self._owner = owner
        self._told_removed = False
        self._stopping = False
        self._subscriptions = Subscriptions()
        self._proposals = Proposals(config.name, self._submit, self._forward, lambda: self._pump.state)
        self._writer = self._make_writer()
        self._pump = Pump(self._writer, self._send, self._let_go)
        self._barrier = Barrier(config.name, lambda: self._pump.state, self._pump.put, self._forward)
        self._transport = self._make_transport()
        self._changes = self._make_changes()
        self.telling = Telling(self._forward, lambda: [m.name for m in self._pump.state.links if m.name != config.name])

    def _make_writer(self) -> Writer:
        config = self.config
        return Writer(
            config.name,
            config.peers,
            self.store,
            self._owner.evolve,
            timing=Timing(*config.election_timeout_s, config.heartbeat_s),
            reserve_bytes=config.reserve_bytes,
            wanted=self._proposals.wanted,
            held=self._proposals.held,
            on_tick=self._tick_from_thread,
            on_fatal=self._fatal_from_thread,
        )

    def _make_transport(self) -> PeerTransport | None:
        """None for a cell of one that has no TLS contexts. Raises LogError where peers would need them."""
        server_ssl, client_ssl = self._owner.server_ssl, self._owner.client_ssl
        links = {member.name: member.address for member in self._pump.state.links}
        if server_ssl is None or client_ssl is None:
            if links:
                raise LogError("a cell of several nodes needs TLS contexts for its peers")
            return None
        return PeerTransport(
            self.config.name,
            self.config.listen,
            links,
            server_ssl=server_ssl,
            client_ssl=client_ssl,
            peer_name=self._owner.peer_name,
            on_message=self._message,
            on_connected=lambda peer: self._pump.put(("connected", peer)),
            on_disconnected=self._disconnected,
            on_revoked=self._revoked,
        )

    def _make_changes(self) -> Changes:
        asked_of = Node(
            self.config.name,
            self._proposals,
            lambda: self._pump.state,
            self._barrier.wait,
            self._pump.put,
            self._forward,
            lambda: int(time.time() * 1000),
            lambda count: os.urandom(count),
        )
        return Changes(asked_of)

    def members(self) -> Members:
        """The configuration in force as this node knows it."""
        return self._pump.state.config.members

    def _submit(self, proposal: Any) -> None:
        self._pump.put(("proposal", proposal))

    def _forward(self, peer: str, message: dict[str, Any]) -> bool:
        return self._transport is not None and self._transport.send(peer, message)

    def _tick_from_thread(self, tick: Tick) -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed: the process is ending
            self._loop.call_soon_threadsafe(self._pump.take, tick)

    def _fatal_from_thread(self, error: BaseException) -> None:
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._fatal, error)

    def _fatal(self, error: BaseException) -> None:
        self._proposals.stop()
        self._barrier.stop()
        if self._owner.on_fatal is not None:
            self._owner.on_fatal(error)

    def _let_go(self, tick: Tick, before: State) -> None:
        """What the tick has made durable goes where it belongs: to peers, callers and subscribers."""
        self._send(tick.messages)
        leader_changed = (before.leader, before.term) != (tick.state.leader, tick.state.term)
        if leader_changed and tick.state.leader != before.leader:
            _log.info("leader", leader=tick.state.leader, term=tick.state.term, role=tick.state.role)
        if tick.state.config is not before.config:
            _log.info("members", position=tick.state.config.position, members=[m.name for m in self.members()])
        if tick.state.links != before.links and self._transport is not None:
            self._transport.connect_to({member.name: member.address for member in tick.state.links})
        if tick.state.removed_at and not before.removed_at:
            self._tell_removed(tick.state.removed_at)
        self._proposals.take(tick, leader_changed)
        for id_, reason in tick.refusals:
            self._changes.refused(id_, reason)
        for token, index in tick.reads:
            self._barrier.finish(token, index)
        self._subscriptions.tell(tick.folded)
        if tick.state.applied != before.applied:
            self._barrier.progressed()

    def _send(self, messages: list[tuple[str, Message]]) -> None:
        for peer, message in messages:
            try:
                self._forward(peer, message)
            except Exception as error:  # what belongs to others of this tick must go on
                _log.error("a message could not be sent", code="log_error", peer=peer, error=repr(error))

    def _message(self, peer: str, message: dict[str, Any]) -> None:
        match message["type"]:
            case "refused":
                self._proposals.refused(message["id"], message["reason"])
                self._changes.refused(message["id"], message["reason"])
            case "read_done":
                self._barrier.finish(message["token"], message["index"])
            case "next_node_idx":
                self._pump.put_answer(peer, message)
            case telling.TOLD:
                self.telling.told(peer, message)
            case _:
                self._pump.put(("message", peer, message))

    def _disconnected(self, peer: str) -> None:
        self._pump.put(("disconnected", peer))
        self._proposals.lost_connection(peer)

    def _warn_of_addresses(self) -> None:
        """The log says who the members are; a file that says otherwise is wrong, or of another day."""
        if self._pump.state.config.position:
            for member in self.members():
                said = self.config.peers.get(member.name, member.address)
                if said != member.address:
                    _log.warning("raft.peers is not used", member=member.name, address=member.address, configured=said)

    def _tell_removed(self, position: int) -> None:
        if self._told_removed:
            return
        self._told_removed = True
        _log.error("removed from the cell", code="removed", position=position or None)
        if self._owner.on_removed is not None:
            self._owner.on_removed(position)

    def _revoked(self) -> None:
        """A member says so in the handshake: names are not used again, so that of one of them is enough."""
        if not self._stopping:
            self._tell_removed(0)
