"""The follower's side of one subscription: asks a node of the source, verifies what comes, commits it.

Each record of the source becomes one record here together with the checkpoint; what was for others moves the
checkpoint from time to time. Only the node that leads its cell pulls, and two that believe they do can not double
anything: the record is guarded by the checkpoint's row. What can pass is tried again, with the next node of the source;
what can not is committed as the end of the subscription, with its reason.
"""

from __future__ import annotations

import asyncio
import datetime
import json
import ssl
import time
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import aiohttp

from actors import following
from actors.custody import CUSTODY
from actors.errors import CommandRefused, NameTaken, Superseded, TooLarge
from actors.following import ApplyOrigin, Checkpoint, FollowEvent, MoveCheckpoint
from actors.kind import Command, UnknownEventType, decode, encode
from actors.region import REGION, Follow, HaltFollow
from actors.runtime import Context, NewBody
from actors.sealing import SealBroken, unseal
from actors.tenant import PasswordSet
from eventlog.errors import LogError, OutcomeUnknown, Rejected
from eventlog.record import Body, By, Event, Record, digest_of, stream_id
from nodes import jobs
from nodes.follower import wire
from nodes.follower.erasures import Erasure, redaction_here
from nodes.follower.grants import follow_place, read_secret
from nodes.follower.scope import Scope, may_write
from nodes.services import Services
from nodes.tls import expired, follower_client_context, peer_node_name

CONNECT_S = 5.0
QUIET_S = 3.0  # longer than that between two words of the source is not how it should be
SILENCE_S = 6.0  # the source says something every second
FIRST_PAUSE_S = 0.25
LONGEST_PAUSE_S = 10.0
BLOCKED_PAUSE_S = 30.0
MOVE_EVERY = 5000  # positions that held nothing for us, after which the checkpoint moves all the same
MOVE_EVERY_S = 60.0
MOST_CAUSE = 400
_FINAL = frozenset({"revoked", "expired", "forbidden", "diverged"})

State = Literal["connecting", "connected", "retrying", "blocked"]


class Halt(Exception):
    """It can not go on, whatever is tried; the text says why."""


class Retry(Exception):
    """It may work later, or with another node."""

    def __init__(self, reason: str, pause_s: float = 0.0, state: State = "retrying") -> None:
        super().__init__(reason)
        self.pause_s = pause_s
        self.state = state


@dataclass
class Progress:
    """What the pulling node can say of a subscription. Positions and times are of the source's log."""

    state: State = "connecting"
    reason: str = ""
    node: str = ""
    position: int = 0
    at_ms: int = 0
    source_position: int | None = None  # None: the source was not heard of yet
    source_at_ms: int = 0
    heard_s: float = 0.0  # of the monotonic clock

    @property
    def lag_records(self) -> int | None:
        """Entries of the source that are not followed yet, as far as it was heard of."""
        return None if self.source_position is None else max(0, self.source_position - self.position)

    @property
    def lag_s(self) -> float | None:
        """How much older the replica is than the source, by the source's log time; grows while it is not heard of."""
        if self.source_position is None:
            return None
        behind_s = max(0, self.source_at_ms - self.at_ms) / 1000 if self.lag_records else 0.0
        silent_s = time.monotonic() - self.heard_s
        return behind_s + (silent_s if silent_s > QUIET_S else 0.0)


class Access(NamedTuple):
    """What a subscription is pulled with."""

    tls: ssl.SSLContext
    transfer_key: bytes


class Pull:
    """One subscription. `run` until it is cancelled, or halted for good."""

    def __init__(self, node: Services, follow: Follow) -> None:
        self._node = node
        self.follow = follow
        self._scope = Scope(follow.tenant, follow.account)
        self._stream = following.following_stream(follow.cell, follow.tenant, follow.account)
        self._logger = node.logger.bind(following=follow.name, cell=follow.cell)
        self.progress = Progress()

    async def run(self) -> None:
        try:
            access = self._access()
            await self._keep_trying(access)
        except Halt as halt:
            self._logger.error("following has ended", reason=str(halt))
            await self._halt(str(halt))

    async def _keep_trying(self, access: Access) -> None:
        pause_s = FIRST_PAUSE_S
        for name, address in self._turns():
            started_at = self._checkpoint().position
            try:
                await self._pull(access, name, address)
            except Retry as retry:
                self.progress.state, self.progress.reason = retry.state, str(retry)
                self._logger.warning("following again soon", node=name, reason=str(retry))
                moved = self._checkpoint().position > started_at
                pause_s = FIRST_PAUSE_S if moved else min(LONGEST_PAUSE_S, pause_s * 2)
                await asyncio.sleep(max(pause_s, retry.pause_s))
            except (Halt, asyncio.CancelledError):
                raise
            except Exception as error:  # a fault of ours, or of the disk: shown, and not tried in a hurry
                self._logger.exception("following failed", node=name)
                self.progress.state, self.progress.reason = "retrying", f"{type(error).__name__}: {error}"
                await asyncio.sleep(LONGEST_PAUSE_S)

    def _turns(self) -> Iterator[tuple[str, str]]:
        """The source's nodes, one after the other, for ever."""
        while True:
            yield from self.follow.endpoints

    def _access(self) -> Access:
        follow = self.follow
        if (ended := expired(follow.certificate, datetime.datetime.now(datetime.UTC))) is not None:
            raise Halt(f"the grant has expired on {ended}")
        try:
            place = follow_place(follow.cell, follow.tenant, follow.account)
            key, transfer_key = read_secret(self._node.directory.unseal(follow.sealed, place))
            return Access(follower_client_context(follow.authority, follow.certificate, key), transfer_key)
        except SealBroken:
            raise Halt("its keys were sealed under another cluster key: follow again with the grant") from None
        except (ssl.SSLError, OSError, ValueError) as error:
            raise Halt(f"the grant's certificate can not be used: {error}") from None

    def _checkpoint(self) -> Checkpoint:
        with self._node.log.snapshot() as snapshot:
            return following.checkpoint(snapshot.view(self._stream))

    # -- one connection -------------------------------------------------------------------------------------------

    async def _pull(self, access: Access, name: str, address: str) -> None:
        """Follows one node of the source until something fails. Raises Retry, Halt."""
        try:
            await self._node.log.barrier()
        except OutcomeUnknown as error:
            raise Retry(f"this cell can not commit: {error}") from None
        at = self._checkpoint()
        self.progress.position, self.progress.at_ms = at.position, at.at_ms
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_S, sock_read=SILENCE_S)
        url = f"https://{address}/v1/follow?after={at.position}&chain={at.chain.hex()}"
        connector = aiohttp.TCPConnector(ssl=access.tls)
        try:
            async with (
                aiohttp.ClientSession(connector=connector, timeout=timeout) as session,
                session.get(url) as answer,
            ):
                await self._check_answer(answer, name)
                self.progress.state, self.progress.reason, self.progress.node = "connected", "", name
                self._logger.info("following", node=name, after=at.position)
                await _Taking(self._node, self.follow, self._stream, self.progress, access, at).run(answer.content)
        except (aiohttp.ClientError, OSError, asyncio.IncompleteReadError, TimeoutError) as error:
            raise Retry(_network_reason(error)) from None
        except wire.WireError as error:
            raise Halt(str(error)) from None
        raise Retry("the source has closed the connection")

    async def _check_answer(self, answer: aiohttp.ClientResponse, name: str) -> None:
        if answer.status != 200:
            category, message = _error_of(await answer.content.read(64 * 1024))
            raise Halt(message) if category in _FINAL else Retry(message or f"{name} answered {answer.status}")
        transport = answer.connection.transport if answer.connection is not None else None
        peer = transport.get_extra_info("ssl_object") if transport is not None else None
        if peer_node_name(peer, self.follow.cell) != name:
            raise Retry(f"what answered there is not {name} of the cell {self.follow.cell}")

    async def _halt(self, reason: str) -> None:
        """Commits that it has ended; a node that leads later finds it so."""
        while True:
            try:
                await self._node.runtime.ask(
                    REGION, HaltFollow(self.follow.name, reason[:MOST_CAUSE]), _context(self.follow, self._node)
                )
            except (LogError, CommandRefused) as error:
                self.progress.state, self.progress.reason = "retrying", f"{reason} (not committed yet: {error})"
                await asyncio.sleep(1.0)
            else:
                return


class _Taking:
    """What comes over one connection, verified and committed in its order."""

    def __init__(
        self, node: Services, follow: Follow, stream: bytes, progress: Progress, access: Access, at: Checkpoint
    ) -> None:
        self._node = node
        self._follow = follow
        self._scope = Scope(follow.tenant, follow.account)
        self._stream = stream
        self._progress = progress
        self._transfer_key = access.transfer_key
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
                    raise Halt(frame.message) if frame.category in _FINAL else Retry(frame.message)
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
        """A password's verifiers from the way, under this cell's own key."""
        if event.type != PasswordSet.TYPE:
            return event
        fact: Any = decode(event.type, event.version, event.data)
        place = event.tenant + fact.account
        try:
            secret = unseal(self._transfer_key, fact.sealed, place)
        except SealBroken:
            raise Halt("a password was not sealed under the key of the grant") from None
        return event._replace(data=encode(PasswordSet(fact.account, self._node.directory.seal(secret, place))))

    async def _commit(self, steps: list[tuple[bytes, Command]], bodies: list[NewBody]) -> None:
        """Raises Retry: what is not certain is read again from the checkpoint. Raises Halt."""
        try:
            await self._node.runtime.transact(steps, _context(self._follow, self._node), bodies)
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


def _context(follow: Follow, node: Services) -> Context:
    by = By("node", stream_id("node", node.config.node.name), f"follower of {follow.cell}")
    return Context(by, f"following {follow.name}", follow.tenant, node.config.raft.propose_timeout_s)


def _author(header: Record | None) -> str:
    return "" if header is None else f"{header.by.kind} {header.by.id.hex()} {header.by.origin}"[:MOST_CAUSE]


def _error_of(body: bytes) -> tuple[str, str]:
    try:
        error = json.loads(body)["error"]
        return str(error["category"]), str(error["message"])
    except (ValueError, KeyError, TypeError):
        return "", ""


def _network_reason(error: Exception) -> str:
    match error:
        case aiohttp.ClientConnectorCertificateError() | aiohttp.ClientConnectorSSLError():
            return f"TLS failed: {error}"
        case TimeoutError():
            return "the source does not answer"
        case asyncio.IncompleteReadError():
            return "the connection was lost"
        case _:
            return str(error) or type(error).__name__
