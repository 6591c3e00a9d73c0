"""The event log of one node as the rest of mailraft sees it: propose, read, follow.

Everything here runs on the event loop. What it is made of is put together in `eventlog.wiring`.
"""

import asyncio
import ssl
import time
from collections.abc import AsyncIterator, Callable, Sequence
from typing import TypeVar

from eventlog.archive import Archivist
from eventlog.erasure import Eraser
from eventlog.errors import Rejected
from eventlog.fold import Evolve
from eventlog.log_terms import LogConfig, LogStatus, MemberStatus, status_of
from eventlog.members import Member, added, removed
from eventlog.proposable import check_bodies, require_size
from eventlog.proposals import Committed
from eventlog.record import By, Record, RecordError, check, encode_whole
from eventlog.store import Snapshot, Store, StoredRecord, joined_mark
from eventlog.subscriptions import Applied
from eventlog.transport import PeerName
from eventlog.wiring import Owner, Wiring

__all__ = ["Applied", "Committed", "EventLog", "LogConfig", "LogStatus", "Member", "MemberStatus", "Snapshot",
           "StoredRecord"]  # fmt: skip

REVIEW_S = 0.1
FOLLOW_BATCH = 256
HAND_OVER_S = 0.5

T = TypeVar("T")


class EventLog(Wiring):
    """One node of a cell. Made by `open`; `start` joins the cell, `stop` leaves it cleanly."""

    def __init__(self, config: LogConfig, store: Store, owner: Owner) -> None:
        super().__init__(config, store, owner)
        self._review: asyncio.Task[None] | None = None
        self.archivist = Archivist(self)
        self.eraser = Eraser(self)

    @classmethod
    def open(
        cls,
        config: LogConfig,
        *,
        evolve: Evolve,
        server_ssl: ssl.SSLContext | None = None,
        client_ssl: ssl.SSLContext | None = None,
        peer_name: PeerName = lambda _: None,
        on_fatal: Callable[[BaseException], None] | None = None,
        on_removed: Callable[[int], None] | None = None,
    ) -> "EventLog":
        """Opens the node's database; call it on the running event loop. Raises DamagedDatabase or lmdb.Error.

        `on_fatal` is called when the log can not go on; `on_removed` with the position at which this node was removed
        from its cell, once it learns of that; 0 where all that it learns is that its certificate was revoked.
        """
        store = Store(config.data_dir, config.map_size_bytes)
        joined_mark(config.data_dir).touch()
        return cls(config, store, Owner(evolve, server_ssl, client_ssl, peer_name, on_fatal, on_removed))

    async def start(self) -> None:
        """Joins the cell. Raises OSError if the address for peers can not be bound."""
        if self._transport is not None:
            await self._transport.start()
        self._writer.start()
        self._warn_of_addresses()
        if self._pump.state.removed_at:
            self._tell_removed(self._pump.state.removed_at)
        self._review = self._loop.create_task(self._keep_reviewing())
        self.archivist.start()
        self.eraser.start()
        self._pump.begin()

    async def stop(self) -> None:
        """Leaves the cell: proposals still waiting end as unknown, the last tick is on disk when this returns."""
        self._stopping = True
        await self.eraser.stop()
        await self.archivist.stop()
        if self._review is not None:
            self._review.cancel()
        await self._hand_over()
        self._proposals.stop()
        self._barrier.stop()
        if self._transport is not None:
            await self._transport.stop()
        await self._pump.end()
        self.store.close()

    async def _hand_over(self) -> None:
        """A leader that stops passes leadership on first, so that the cell does not wait for an election."""
        deadline = time.monotonic() + HAND_OVER_S
        while self._others_vote() and self._pump.state.leader == self.config.name and time.monotonic() < deadline:
            self._pump.put(("transfer",))
            await asyncio.sleep(0.02)

    # -- writing ------------------------------------------------------------------------------------------------

    async def propose(self, record: Record, bodies: Sequence[bytes] = (), timeout_s: float = 8.0) -> Committed:
        """Has `record` committed by a majority and folded here; `bodies` are parallel to `record.bodies`.

        Raises Rejected when it certainly did not and will not take effect, OutcomeUnknown otherwise.
        """
        return await self.submit(record, bodies, timeout_s)

    def submit(self, record: Record, bodies: Sequence[bytes] = (), timeout_s: float = 8.0) -> asyncio.Future[Committed]:
        """The same for a server that keeps no task for each request: the future ends as `propose` does.

        What is refused before it is sent anywhere is raised at once.
        """
        try:
            check(record)
            check_bodies(record, bodies)
        except (RecordError, TypeError) as error:
            raise Rejected("bad_record", str(error)) from error
        encoded = encode_whole(record)
        require_size(encoded.data, bodies)
        self._require_writable()
        return self._proposals.submit_packed(record.id, encoded.data, bodies, timeout_s, encoded=encoded)

    def submit_packed(
        self, id_: bytes, data: bytes, bodies: Sequence[bytes], timeout_s: float
    ) -> asyncio.Future[Committed]:
        """The same of a record that another process of this node has checked and packed (nodes/workers)."""
        require_size(data, bodies)
        self._require_writable()
        return self._proposals.submit_packed(id_, data, bodies, timeout_s)

    def _require_writable(self) -> None:
        if self._stopping:
            raise Rejected("stopping")
        if not self._pump.state.writable:
            raise Rejected("disk_full", "this node can not write, so it would never see the outcome")

    # -- reading ------------------------------------------------------------------------------------------------

    def snapshot(self) -> Snapshot:
        """A consistent read of what is folded here. Never hold it across an await."""
        return self.store.snapshot()

    async def barrier(self, timeout_s: float = 8.0) -> int:
        """Waits until snapshots show all that was acknowledged anywhere in the cell before the call.

        Gives the position that was waited for. Raises OutcomeUnknown without a majority in time.
        """
        return await self._barrier.wait(timeout_s)

    async def applied(self, position: int) -> None:
        """Waits until this node has folded `position`."""
        await self._barrier.applied(position)

    def subscribe(self, stream: bytes | None, callback: Callable[[list[Applied]], None]) -> Callable[[], None]:
        """Calls `callback` with the events of a stream (None: all) as they are folded here, in the log's order.

        Whatever a snapshot taken after this does not show will be told; what it shows may be told again.
        """
        return self._subscriptions.add(stream, callback)

    async def follow(self, first: int = 1) -> AsyncIterator[StoredRecord]:
        """The folded entries from a position on, for ever: what a replica or an auditor reads."""
        while True:
            await self.applied(first)
            with self.snapshot() as snapshot:
                batch = list(snapshot.records(first, first + FOLLOW_BATCH - 1))
            for stored in batch:
                yield stored
            first += len(batch)

    def status(self) -> LogStatus:
        return status_of(self.config, self._pump.state)

    @property
    def tick_s(self) -> float:
        """For how long the consensus thread has been at what it does now: where its disk hangs, longer and longer."""
        return self._pump.under_way_s

    @property
    def at_ms(self) -> int:
        """The log's time at what is folded here, in milliseconds."""
        return self._pump.state.at_ms

    @property
    def feature_level(self) -> int:
        """The feature level in force, as folded here: which event types may be written."""
        return self._pump.state.level

    # -- members --------------------------------------------------------------------------------------------------

    async def add_member(self, name: str, address: str, by: By, cause: str, timeout_s: float = 8.0) -> int:
        """Adds a node as a learner; the leader gives it a vote by itself once it has caught up. Gives the position.

        The name must be one that no member ever had. Raises Rejected or OutcomeUnknown.
        """
        if self._transport is None:
            raise Rejected("no_tls", "this node was opened without certificates, so it can have no peers")
        return await self._changes.members(lambda members: added(members, name, address), by, cause, timeout_s)

    async def remove_member(self, name: str, by: By, cause: str, timeout_s: float = 8.0) -> int:
        """Removes a node, which is told and must not come back under that name. Raises Rejected or OutcomeUnknown."""
        return await self._changes.members(lambda members: removed(members, name), by, cause, timeout_s)

    async def transfer_leadership(self, name: str, timeout_s: float = 8.0) -> None:
        """Has the leader pass leadership to a member that votes, once that has everything; returns when it leads.

        Raises Rejected, or OutcomeUnknown when it does not lead in time: the old leader goes on, or another.
        """
        await self._changes.leader(name, timeout_s)

    async def raise_feature_level(self, level: int, by: By, cause: str, timeout_s: float = 8.0) -> int:
        """Lets what `level` has introduced be written, for ever. Gives the position.

        Raises Rejected, naming the members that do not know the level, or OutcomeUnknown.
        """
        return await self._changes.level(level, by, cause, timeout_s)

    def recheck_peers(self) -> None:
        """Certificates that were good may be so no more: whoever is connected with one is not any longer."""
        if self._transport is not None:
            self._transport.recheck()

    async def between_ticks(self, work: Callable[[], T]) -> T:
        """Runs `work` on the consensus thread before a tick, with no transaction open and the event loop waiting.

        For what needs the database to itself for a moment. Raises what `work` raises.
        """
        return await self._pump.between_ticks(work)

    # -- parts ------------------------------------------------------------------------------------------------------

    async def _keep_reviewing(self) -> None:
        while True:
            await asyncio.sleep(REVIEW_S)
            self._proposals.review(time.monotonic())

    def _others_vote(self) -> bool:
        return any(member.voter and member.name != self.config.name for member in self.members())
