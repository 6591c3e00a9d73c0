"""Proposals of this node that wait for their outcome: sent to the leader, sent again when it changes, answered by id.

A proposal ends as committed, rejected or unknown. It is answered from the fold, whoever led; a refusal ends it only
when no earlier attempt may still be on its way, and losing the leader is unknown, never a refusal. Event loop only.
"""

import asyncio
import os
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from eventlog.errors import OutcomeUnknown, Rejected
from eventlog.fold import Outcome
from eventlog.journal import KIND_RECORD
from eventlog.peers import token
from eventlog.record import Encoded
from eventlog.ticks import Answer, Proposal, State, Tick

_tuple = tuple.__new__  # of a NamedTuple: as its own constructor, at half the cost

RESEND_S = 2.0  # an attempt that says nothing for so long may have been lost with its leader
MAX_UNKNOWN = 10_000
FORWARD_BYTES = 1024 * 1024  # proposals that go to the leader in one message
_REASONS = {Outcome.EXPIRED: "expired", Outcome.GUARD: "guard", Outcome.CHUNK_GONE: "chunk_gone",
            Outcome.BAD_RECORD: "bad_record", Outcome.TOO_LARGE: "too_large",
            Outcome.QUARANTINED: "quarantined", Outcome.MISPLACED: "misplaced"}  # fmt: skip


class Committed(NamedTuple):
    """The record took effect: its position, the log's time in ms, and what `evolve` gave for each event."""

    position: int
    at_ms: int
    results: tuple[Any, ...]


class _Pending:
    __slots__ = (
        "attempts",
        "began_unknown",
        "bodies",
        "callers",
        "data",
        "deadline",
        "encoded",
        "id",
        "kind",
        "sent_at",
        "sent_to",
        "tokens",
    )

    def __init__(
        self,
        id_: bytes,
        data: bytes,
        encoded: Encoded | None,
        bodies: Sequence[bytes],
        deadline: float,
        unknown: int,
        kind: int,
    ) -> None:
        self.id = id_
        self.data = data
        self.kind = kind
        self.encoded = encoded  # None: made by another process of this node
        self.bodies = bodies
        self.deadline = deadline
        self.callers: list[asyncio.Future[Committed]] = []  # each its own, so that one may give up alone
        self.attempts = unknown  # sent and not refused: each may take effect
        self.began_unknown = unknown > 0
        self.sent_to: tuple[int, str] | None = None  # term and leader
        self.sent_at = 0.0
        self.tokens: list[bytes] = []  # one for each time that it was forwarded


class Proposals:
    """The pending proposals of one node. The consensus thread looks into `wanted` too, and only asks what is in it."""

    def __init__(
        self,
        name: str,
        submit: Callable[[Proposal], None],
        forward: Callable[[str, dict[str, Any]], bool],
        state: Callable[[], State],
    ) -> None:
        self._name = name
        self._submit = submit
        self._forward = forward
        self._state = state
        self.wanted: dict[bytes, _Pending] = {}
        self._unknown: dict[bytes, int] = {}  # ids whose outcome was not learnt: how many attempts may take effect
        self._to_forward: dict[str, list[_Pending]] = {}
        self._flush_due = False
        self.held: dict[bytes, _Pending] = {}  # what was forwarded and comes back as its token alone
        self._begun = os.urandom(8)  # tells this life of the node from others
        self._forwarded = 0

    async def propose(
        self, encoded: Encoded, bodies: Sequence[bytes], timeout_s: float, kind: int = KIND_RECORD
    ) -> Committed:
        """Raises Rejected or OutcomeUnknown. A second call under an id that waits gets the first one's outcome.

        A caller that is cancelled learns nothing; the proposal goes on.
        """
        return await self.submit(encoded, bodies, timeout_s, kind)

    def submit(
        self, encoded: Encoded, bodies: Sequence[bytes], timeout_s: float, kind: int = KIND_RECORD
    ) -> asyncio.Future[Committed]:
        """The same with its outcome in a future."""
        return self.submit_packed(encoded.record.id, encoded.data, bodies, timeout_s, kind, encoded)

    def submit_packed(
        self,
        id_: bytes,
        data: bytes,
        bodies: Sequence[bytes],
        timeout_s: float,
        kind: int = KIND_RECORD,
        encoded: Encoded | None = None,
    ) -> asyncio.Future[Committed]:
        """The same of a record that another process has packed: nobody takes it apart before the leader does."""
        caller: asyncio.Future[Committed] = asyncio.get_running_loop().create_future()
        pending = self.wanted.get(id_)
        if pending is None:
            deadline, unknown = time.monotonic() + timeout_s, self._unknown.pop(id_, 0)
            pending = self.wanted[id_] = _Pending(id_, data, encoded, bodies, deadline, unknown, kind)
            self._send(pending)
        pending.callers.append(caller)
        return caller

    def _end(self, pending: _Pending, outcome: Committed | Rejected | OutcomeUnknown) -> None:
        del self.wanted[pending.id]
        for known_as in pending.tokens:
            del self.held[known_as]
        if isinstance(outcome, OutcomeUnknown):
            # a refusal of a later call under this id must not hide that an earlier attempt may take effect
            self._unknown[pending.id] = pending.attempts
            if len(self._unknown) > MAX_UNKNOWN:
                self._unknown.pop(next(iter(self._unknown)))
        for caller in pending.callers:
            if caller.done():
                continue
            if isinstance(outcome, Committed):
                caller.set_result(outcome)
            else:
                caller.set_exception(outcome)

    def take(self, tick: Tick, leader_changed: bool) -> None:
        """Answers from a tick of the consensus thread."""
        for answer in tick.answers:
            self._answer(answer)
        for id_, reason in tick.refusals:
            self.refused(id_, reason)
        if leader_changed:
            self.review(time.monotonic())

    def refused(self, id_: bytes, reason: str) -> None:
        """The leader, or one that was, did not append an attempt."""
        pending = self.wanted.get(id_)
        if pending is None:
            return
        pending.attempts = max(0, pending.attempts - 1)
        if reason == "not_leader":
            pending.sent_to = None  # sent again as soon as there is a leader
        elif pending.attempts == 0:
            code, _, detail = reason.partition(": ")
            self._end(pending, Rejected(code, detail))

    def lost_connection(self, peer: str) -> None:
        """What was on its way to a peer may be lost: it is sent again, under the same id."""
        for pending in list(self.wanted.values()):
            if pending.sent_to is not None and pending.sent_to[1] == peer:
                pending.sent_to = None

    def review(self, now: float) -> None:
        """Sends again what a new leader has not got, and ends what has waited too long."""
        for pending in list(self.wanted.values()):
            if now >= pending.deadline:
                self._give_up(pending)
            elif self._needs_sending(pending, now):
                self._send(pending)

    def stop(self) -> None:
        for pending in list(self.wanted.values()):
            self._give_up(pending, "stopping")

    def _answer(self, answer: Answer) -> None:
        pending = self.wanted.get(answer.id)
        if pending is None:
            return
        if answer.outcome is Outcome.COMMITTED:
            self._end(pending, _tuple(Committed, (answer.position, answer.at_ms, answer.results)))
        elif answer.outcome is Outcome.EXPIRED and pending.began_unknown:
            self._end(pending, OutcomeUnknown("it has expired; an earlier attempt may have taken effect"))
        else:
            self._end(pending, Rejected(_REASONS[answer.outcome]))

    def _give_up(self, pending: _Pending, reason: str = "no_leader") -> None:
        if pending.attempts == 0:
            self._end(pending, Rejected(reason, "it was never handed to a leader"))
        else:
            self._end(pending, OutcomeUnknown("no answer in time: it may have taken effect, or may yet"))

    def _needs_sending(self, pending: _Pending, now: float) -> bool:
        state = self._state()
        if state.leader is None:
            return False
        return pending.sent_to != (state.term, state.leader) or now - pending.sent_at > RESEND_S

    def _send(self, pending: _Pending) -> None:
        state = self._state()
        if state.leader is None:
            return
        pending.sent_to, pending.sent_at = (state.term, state.leader), time.monotonic()
        if state.leader == self._name:
            pending.attempts += 1
            clock_ms, encoded = _now_ms(), pending.encoded
            self._submit(Proposal(pending.id, pending.data, pending.bodies, clock_ms, None, encoded, pending.kind))
            return
        self._to_forward.setdefault(state.leader, []).append(pending)
        if not self._flush_due:
            self._flush_due = True
            asyncio.get_running_loop().call_soon(self._flush)

    def _flush(self) -> None:
        """Forwards what this turn of the event loop has brought, in few messages."""
        self._flush_due = False
        batches, self._to_forward = self._to_forward, {}
        for leader, waiting in batches.items():
            batch: list[_Pending] = []
            size = 0
            for pending in waiting:
                batch.append(pending)
                size += len(pending.data) + sum(map(len, pending.bodies))
                if size >= FORWARD_BYTES:
                    self._forward_batch(leader, batch)
                    batch, size = [], 0
            self._forward_batch(leader, batch)

    def _forward_batch(self, leader: str, batch: list[_Pending]) -> None:
        if not batch:
            return
        clock_ms = _now_ms()
        rows = [(p.id, p.data, p.bodies, clock_ms, *((p.kind,) if p.kind else ())) for p in batch]
        first = self._forwarded
        self._forwarded += len(batch)
        if self._forward(leader, {"type": "propose", "proposals": rows, "held": (self._begun, first)}):
            for number, pending in enumerate(batch, first):
                pending.attempts += 1
                known_as = token(self._begun, number)
                self.held[known_as] = pending
                pending.tokens.append(known_as)
        else:
            for pending in batch:
                pending.sent_to = None


def _now_ms() -> int:
    return int(time.time() * 1000)
