"""What comes over one connection of a subscription: verified against the chain, checked, and committed in its order.

Each record of the source becomes one record here together with the checkpoint; what was for others moves the checkpoint
from time to time, so that a restart need not go through all of it again.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Collection
from dataclasses import replace
from typing import Any

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
FINAL = frozenset({"revoked", "expired", "forbidden", "diverged"})  # what the source says for good


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
        self._moved_s = asyncio.get_running_loop().time()

    async def run(self, content: wire.Reader) -> None:
        """Until the source closes. Raises WireError, Retry, Halt."""
        while (frame := await wire.read(content)) is not None:
            match frame:
                case wire.Skipped():
                    self._walk.skip(frame)
                    self._reached()
                    await self._move_if_due()
                case wire.Entry():
                    await self._take(frame, content)
                    self._reached()
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
        self._progress.position, self._progress.at_ms = self._walk.position, self._walk.at_ms

    def _seen(self, position: int, at_ms: int) -> None:
        progress = self._progress
        progress.source_position, progress.source_at_ms, progress.heard_s = position, at_ms, time.monotonic()

    async def _move_if_due(self) -> None:
        """So that a restart need not go through again what was for others."""
        behind = self._walk.position - self._committed
        waited_s = asyncio.get_running_loop().time() - self._moved_s
        if behind >= MOVE_EVERY or (behind and waited_s >= MOVE_EVERY_S):
            walk = self._walk
            move = MoveCheckpoint(self._committed, self._follow.cell, walk.position, walk.chain, walk.at_ms)
            await self._commit([(self._stream, move)], [])

    async def _take(self, entry: wire.Entry, content: wire.Reader) -> None:
        place, header, events, bodies = self._walk.take(entry)
        given = [await self._body(content, body) for body, kept in zip(bodies, entry.kept, strict=True) if kept]
        apply = ApplyOrigin(
            self._committed,
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
        await self._commit(steps, given)

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

    async def _commit(self, steps: list[tuple[bytes, Command]], bodies: list[NewBody]) -> None:
        """Raises Retry: what is not certain is read again from the checkpoint. Raises Halt."""
        try:
            await self._node.runtime.transact(steps, context_of(self._follow, self._node), bodies)
        except Superseded as error:
            raise Retry(f"another node has followed meanwhile: {error}") from None
        except NameTaken as error:
            raise Retry(f"{error}: delete or rename it here", BLOCKED_PAUSE_S, "blocked") from None
        except (TooLarge, CommandRefused) as error:
            raise Halt(f"position {self._walk.position} of the source can not be committed here: {error}") from None
        except Rejected as error:
            if error.reason in ("too_large", "bad_record"):
                raise Halt(f"position {self._walk.position} of the source can not be committed here: {error}") from None
            raise Retry(f"this cell did not commit: {error}") from None
        except LogError as error:
            raise Retry(f"this cell did not commit in time: {error}") from None
        self._committed = self._walk.position
        self._moved_s = asyncio.get_running_loop().time()


def _author(header: Record | None) -> str:
    return "" if header is None else f"{header.by.kind} {header.by.id.hex()} {header.by.origin}"[:MOST_CAUSE]
