"""What comes over one connection of a subscription: verified against the chain, checked, and committed in its order.

Records of the source that wait one behind the other are committed together, as one record here, in their order and each
with its step of the checkpoint: a replica that catches up needs one commit for many, and one that keeps pace waits for
no other. What was for others moves the checkpoint from time to time, so that a restart need not read all of it again.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Collection
from dataclasses import replace
from typing import Any, NamedTuple

from actors.custody import CUSTODY
from actors.errors import CommandRefused, NameTaken, Superseded, TooLarge
from actors.following import ApplyOrigin, Checkpoint, FollowEvent, MoveCheckpoint
from actors.kind import Command, UnknownEventType, decode, encode
from actors.region import Follow
from actors.runtime import NewBody
from actors.sealing import SealBroken, unseal
from actors.tenant import SEALED, sealed_place
from eventlog.errors import LogError, Rejected
from eventlog.record import Body, Event, Record, digest_of
from nodes import jobs
from nodes.follower import wire
from nodes.follower.erasures import Erasure, redaction_here
from nodes.follower.progress import Halt, Progress, Retry, context_of
from nodes.follower.scope import Scope, may_write
from nodes.services import Services

BLOCKED_PAUSE_S = 30.0
MOVE_EVERY = 5000  # positions that held nothing for us, after which the checkpoint moves all the same
MOVE_EVERY_S = 60.0
MOST_CAUSE = 400
AT_ONCE = 64  # records of the source in one of this log
AT_ONCE_BYTES = 256 * 1024  # after which no more are added; one alone may be larger
FINAL = frozenset({"forbidden", "diverged"})  # what the source says for good


class Pending(NamedTuple):
    """A record of the source that was verified and waits to be committed."""

    position: int
    steps: list[tuple[bytes, Command]]
    bodies: list[NewBody]
    size_bytes: int


class Applying:
    """What comes over one connection, verified and committed in its order."""

    def __init__(
        self, node: Services, follow: Follow, stream: bytes, progress: Progress, transfer_key: bytes, at: Checkpoint
    ) -> None:
        self._node = node
        self._follow = follow
        self._scope = Scope(follow.tenant, follow.account)
        self._stream = stream
        self._progress = progress
        self._transfer_key = transfer_key
        self._walk = wire.Walk(at.position, at.chain)
        self._committed = at.position
        self._pending: list[Pending] = []
        self._moved_s = asyncio.get_running_loop().time()

    async def run(self, content: wire.Reader) -> None:
        """Until the source closes. Raises WireError, Retry, Halt."""
        try:
            while (frame := await self._next(content)) is not None:
                await self._act_on(frame, content)
        except Exception:
            await self._flush()  # what came whole in front of what was wrong
            raise
        await self._flush()
        self._reached()

    async def _next(self, content: wire.Reader) -> wire.Frame | None:
        """The next frame. If it is still on its way, what waits is committed meanwhile."""
        if not self._pending:
            return await wire.read(content)
        reading = asyncio.ensure_future(wire.read(content))
        try:
            done, _ = await asyncio.wait({reading}, timeout=0)
            if not done:
                await self._flush()
                self._reached()
            return await reading
        finally:
            reading.cancel()

    async def _act_on(self, frame: wire.Frame, content: wire.Reader) -> None:
        match frame:
            case wire.Skipped():
                self._walk.skip(frame)
                self._reached()
                await self._move_if_due()
            case wire.Entry():
                await self._take(frame, content)
            case wire.Head():
                self._walk.check(frame)
                self._seen(frame.position, frame.at_ms)
                await self._move_if_due()
            case wire.Horizon():
                self._seen(frame.position, frame.at_ms)
            case wire.End():
                raise Halt(frame.message) if frame.category in FINAL else Retry(frame.message)
            case _:
                raise wire.WireError("bytes of a body that nothing named")

    def _reached(self) -> None:
        if not self._pending:
            self._progress.position, self._progress.at_ms = self._walk.position, self._walk.at_ms

    def _seen(self, position: int, at_ms: int) -> None:
        progress = self._progress
        progress.source_position, progress.source_at_ms, progress.heard_s = position, at_ms, time.monotonic()

    async def _move_if_due(self) -> None:
        """So that a restart need not go through again what was for others."""
        behind = self._walk.position - self._committed
        waited_s = asyncio.get_running_loop().time() - self._moved_s
        if behind >= MOVE_EVERY or (behind and waited_s >= MOVE_EVERY_S):
            await self._flush()
            walk = self._walk
            move = MoveCheckpoint(self._committed, self._follow.cell, walk.position, walk.chain, walk.at_ms)
            await self._commit([Pending(walk.position, [(self._stream, move)], [], 0)])

    async def _take(self, entry: wire.Entry, content: wire.Reader) -> None:
        if entry.erasure is not None:
            await self._flush()  # what it erases may be what waits
        place, header, events, bodies = self._walk.take(entry)
        given = [await self._body(content, body) for body, kept in zip(bodies, entry.kept, strict=True) if kept]
        apply = ApplyOrigin(
            self._pending[-1].position if self._pending else self._committed,
            self._follow.cell,
            place.position,
            self._walk.chain,
            place.at_ms,
            _author(header),
            header.cause[:MOST_CAUSE] if header is not None else "",
        )
        steps: list[tuple[bytes, Command]] = [(self._stream, apply)]
        self._check(events.values(), place.position)
        for ordinal, event in events.items():
            fields = (event.tenant, self._follow.cell, place.position, ordinal, place.at_ms)
            data = self._sealed_here(event).data
            steps.append((event.stream, FollowEvent(*fields, event.type, event.version, data)))
        steps += await self._erased(entry)
        await self._add(Pending(place.position, steps, given, _size(events.values(), given)))

    def _check(self, events: Collection[Event], position: int) -> None:
        """Raises Retry for what this cell can not read yet, Halt for what it was not granted, WireError."""
        level = self._node.log.feature_level
        try:
            for event in events:
                if level < decode(event.type, event.version, event.data).SINCE:
                    text = f"the source writes {event.type}, and this cell is at feature level {level}: upgrade it"
                    raise Retry(text, BLOCKED_PAUSE_S, "blocked")
            with self._node.log.snapshot() as snapshot:
                wrong = [event.type for event in events if not may_write(self._scope, event, snapshot)]
        except UnknownEventType as error:
            text = f"the source writes {error}, which this version does not know: upgrade this cell"
            raise Retry(text, BLOCKED_PAUSE_S, "blocked") from None
        except (TypeError, ValueError) as error:
            raise wire.WireError(f"an event at position {position} of the source can not be read: {error}") from None
        if wrong:
            raise Halt(f"position {position} of the source holds what was not granted: {', '.join(wrong)}")

    async def _erased(self, entry: wire.Entry) -> list[tuple[bytes, Command]]:
        """What the source has redacted is redacted here by the record that follows it."""
        if entry.erasure is None:
            return []
        try:
            found = await redaction_here(self._node, self._stream, Erasure(*entry.erasure))
        except jobs.JobFailed as error:
            raise Retry(f"what was redacted at the source could not be looked for: {error}") from None
        except (TypeError, ValueError) as error:
            raise wire.WireError(f"a redaction is damaged: {error}") from None
        return [] if found is None else [(CUSTODY, found)]

    async def _body(self, content: wire.Reader, body: Body) -> NewBody:
        limit = self._node.config.limits.message_bytes
        if body.size > limit:
            raise Retry(
                f"a message of {body.size} bytes is above limits.message_bytes here ({limit}): set it as at the source",
                BLOCKED_PAUSE_S,
                "blocked",
            )
        data = bytearray()
        while len(data) < body.size:
            piece = await wire.read(content)
            if not isinstance(piece, wire.Piece) or not 0 < len(piece.data) <= body.size - len(data):
                raise wire.WireError("the bytes of a body are missing")
            data += piece.data
        whole = bytes(data)
        if digest_of(whole) != body.digest:
            raise wire.WireError("the bytes of a body are not the ones that the record names")
        return NewBody(body.tenant, whole, body.digest)

    def _sealed_here(self, event: Event) -> Event:
        """An event's secret from the way, under this cell's own key."""
        if event.type not in SEALED:
            return event
        fact: Any = decode(event.type, event.version, event.data)
        place = sealed_place(event.tenant, fact)
        if place is None:
            return event
        try:
            secret = unseal(self._transfer_key, fact.sealed, place)
        except SealBroken:
            raise Halt("a password was not sealed under the key of the grant") from None
        return event._replace(data=encode(replace(fact, sealed=self._node.directory.seal(secret, place))))

    async def _add(self, one: Pending) -> None:
        """Has it committed with those in front of it, unless they are too much together."""
        self._pending.append(one)
        if len(self._pending) >= AT_ONCE or sum(each.size_bytes for each in self._pending) >= AT_ONCE_BYTES:
            await self._flush()
            self._reached()

    async def _flush(self) -> None:
        """Commits what waits. Raises Retry, Halt."""
        pending, self._pending = self._pending, []
        if pending:
            try:
                await self._commit(pending)
            except (Retry, Halt) as error:
                refused = isinstance(error, Halt) or error.state == "blocked"
                if len(pending) == 1 or not refused:
                    raise
                for one in pending:  # one of them can not be committed, or all are too much together
                    await self._commit([one])

    async def _commit(self, together: list[Pending]) -> None:
        """Raises Retry: what is not certain is read again from the checkpoint. Raises Halt."""
        steps = [step for one in together for step in one.steps]
        bodies = list({(body.tenant, body.digest): body for one in together for body in one.bodies}.values())
        position = together[-1].position
        try:
            await self._node.runtime.transact(steps, context_of(self._follow, self._node), bodies)
        except Superseded as error:
            raise Retry(f"another node has followed meanwhile: {error}") from None
        except NameTaken as error:
            raise Retry(f"{error}: delete or rename it here", BLOCKED_PAUSE_S, "blocked") from None
        except (TooLarge, CommandRefused) as error:
            raise Halt(f"position {position} of the source can not be committed here: {error}") from None
        except Rejected as error:
            if error.reason in ("too_large", "bad_record"):
                raise Halt(f"position {position} of the source can not be committed here: {error}") from None
            raise Retry(f"this cell did not commit: {error}") from None
        except LogError as error:
            raise Retry(f"this cell did not commit in time: {error}") from None
        self._committed = position
        self._moved_s = asyncio.get_running_loop().time()


def _size(events: Collection[Event], bodies: Collection[NewBody]) -> int:
    return sum(len(event.data) for event in events) + sum(len(body.data) for body in bodies)


def _author(header: Record | None) -> str:
    return "" if header is None else f"{header.by.kind} {header.by.id.hex()} {header.by.origin}"[:MOST_CAUSE]
