"""Brings a tenant back from an archive (nodes/tenants/archive.py): the same facts, in their order and at their times.

The first record claims its name and domains and keeps the tenant out of service; the last one lets it in. In between
each entry of the archive is taken once: it moves a row that says how far it was taken, guarded by where that was, so
that whoever is killed goes on by beginning again, and two at a time can not double anything.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, NamedTuple

from actors import following, standing, tenant
from actors.dkim import dkim_stream
from actors.errors import InvalidName, NameTaken, NotAllowed, TooLarge
from actors.following import ApplyOrigin, FollowEvent, MoveCheckpoint, following_stream
from actors.kind import Command, UnknownEventType, decode, encode
from actors.names import ClaimName, domain_name, holder, name_stream, normalise_domain, normalise_tenant_name
from actors.region import TenantRegistered
from actors.runtime import Context, NewBody
from actors.sealing import KEY_BYTES, SealBroken, unseal
from actors.standing import STANDING, ResumeTenant, SuspendTenant, TenantQuotasSet
from actors.tenant import TenantCreated
from actors.usage import CountUsage, usage_stream
from actors.verdicts import VERDICTS, TenantDmarcSet
from eventlog.record import STREAM_ID_BYTES, digest_of
from eventlog.record import Event as Recorded
from eventlog.store import CHAIN_BYTES, Snapshot
from nodes.follower.scope import Scope, may_write
from nodes.services import Services
from nodes.tenants.archive import (
    FORMAT,
    IMPORTING,
    OF_DKIM,
    ON_TENANT,
    ArchiveError,
    End,
    Entry,
    Event,
    Manifest,
    Opening,
    Piece,
    Reader,
    has_secrets,
    read,
    sealed_anew,
)

AT_ONCE = 64  # entries in one record
AT_ONCE_BYTES = 256 * 1024
FIRST = 1  # what no tenant's record stands at: the first entry of every log is its leader's


class Pending(NamedTuple):
    """An entry that was checked and waits to be committed."""

    position: int
    steps: list[tuple[bytes, Command]]
    bodies: list[NewBody]
    size_bytes: int


class Import:
    """Of one archive. Raises ArchiveError where what is given is wrong, CommandRefused where it can not be."""

    def __init__(self, node: Services, manifest: Manifest, opening: Opening, context: Context) -> None:
        _check(manifest, opening)
        self._node = node
        self._manifest = manifest
        self._key = opening.key
        self.name = normalise_tenant_name(opening.name)
        self._scope = Scope(manifest.tenant, b"")
        self._stream = following_stream(f"{manifest.cell}/{manifest.archive.hex()}", manifest.tenant, b"")
        self._context = context._replace(tenant=manifest.tenant)
        self._dkim = {dkim_stream(domain) for domain in manifest.domains}
        self._pending: list[Pending] = []

    @property
    def position(self) -> int:
        """How far it was taken; 0: it has not begun."""
        with self._node.log.snapshot() as snapshot:
            return following.checkpoint(snapshot.view(self._stream)).position

    @property
    def is_whole(self) -> bool:
        return self.position > self._manifest.position

    def check(self) -> None:
        """Whether it can begin, or go on. Raises NameTaken, NotAllowed."""
        manifest = self._manifest
        if manifest.level > self._node.log.feature_level:
            text = (
                f"the archive needs feature level {manifest.level}, and this cell is at {self._node.log.feature_level}"
            )
            raise NotAllowed(f"{text}: mailraft cluster upgrade")
        with self._node.log.snapshot() as snapshot:
            begun = following.checkpoint(snapshot.view(self._stream)).position > 0
            if not begun:
                self._check_unknown(snapshot)
            for name in (f"tenant:{self.name}", *map(domain_name, manifest.domains)):
                held = holder(snapshot.view(name_stream(name)))
                if held is not None and not (begun and held.owner == manifest.tenant):
                    raise NameTaken(f"{name.partition(':')[2]} is taken")
                if held is None and begun and not self.is_whole:
                    raise NotAllowed(f"its import has begun under another name than {self.name}")

    def _check_unknown(self, snapshot: Snapshot) -> None:
        found = standing.standing(snapshot.view(STANDING), self._manifest.tenant)
        if found is not None and found.deleted_ms:
            raise NotAllowed(
                "this tenant was deleted here, and its ids are closed for good: import it into another cell"
            )
        known = next(iter(snapshot.stream_positions(self._manifest.tenant)), None)
        if known is not None or found is not None:
            raise NameTaken("this tenant is in this cell already, or another archive of it is being imported")

    async def begin(self) -> None:
        """Takes the names, and keeps the tenant out of service; nothing where it has begun. Raises as `check`."""
        self.check()
        if self.position:
            return
        mine = self._manifest.tenant
        names = [(f"tenant:{self.name}", "tenant"), *((domain_name(one), "domain") for one in self._manifest.domains)]
        steps: list[tuple[bytes, Command]] = [(self._stream, self._move(0, FIRST))]
        for name, purpose in names:
            steps.append((name_stream(name), ClaimName(name, mine, mine, purpose)))  # type: ignore[arg-type]
        steps.append((STANDING, SuspendTenant(mine, "defer", IMPORTING)))
        await self._node.runtime.transact(steps, self._context)

    async def take(self, content: Reader) -> None:
        """Entries; those that were taken are passed over. Raises ArchiveError, CommandRefused, LogError."""
        while (frame := await read(content)) is not None:
            match frame:
                case Entry():
                    bodies = [await self._body(content, *one) for one in frame.bodies]
                    await self._take(frame, bodies)
                case End():
                    await self._flush()
                    await self._finish(frame)
                case _:
                    raise ArchiveError("a frame is where none of its kind belongs")
        await self._flush()

    async def _body(self, content: Reader, digest: bytes, size_bytes: int) -> NewBody:
        if not 0 <= size_bytes <= self._node.config.limits.message_bytes:
            limit = self._node.config.limits.message_bytes
            raise TooLarge(f"a message of {size_bytes} bytes is above limits.message_bytes here ({limit})")
        data = bytearray()
        while len(data) < size_bytes:
            piece = await read(content)
            if not isinstance(piece, Piece) or not 0 < len(piece.data) <= size_bytes - len(data):
                raise ArchiveError("the bytes of a message are missing")
            data += piece.data
        whole = bytes(data)
        if digest_of(whole) != digest:
            raise ArchiveError("the bytes of a message are not the ones that its record names")
        return NewBody(self._manifest.tenant, whole, digest)

    async def _take(self, entry: Entry, bodies: list[NewBody]) -> None:
        reached = self._pending[-1].position if self._pending else self.position
        if entry.position <= reached:
            return
        if entry.position > self._manifest.position:
            raise ArchiveError("an entry is later than the archive says that it goes")
        place = (reached, self._manifest.cell, entry.position, entry.chain, entry.at_ms)
        steps: list[tuple[bytes, Command]] = [(self._stream, ApplyOrigin(*place, entry.author, entry.cause))]
        for one in map(Event._make, entry.events):
            data = self._data_here(one, entry.position)
            origin = (self._manifest.tenant, self._manifest.cell, entry.position, one.ordinal, one.at_ms)
            steps.append((one.stream, FollowEvent(*origin, one.type, one.version, data)))
        size_bytes = sum(len(one[5]) for one in entry.events) + sum(len(body.data) for body in bodies)
        self._pending.append(Pending(entry.position, steps, bodies, size_bytes))
        if len(self._pending) >= AT_ONCE or sum(one.size_bytes for one in self._pending) >= AT_ONCE_BYTES:
            await self._flush()

    def _data_here(self, event: Event, position: int) -> bytes:
        """With secrets under this cell's key, and the tenant's name to be. Raises ArchiveError."""
        try:
            fact: Any = decode(event.type, event.version, event.data)
        except (UnknownEventType, TypeError, ValueError) as error:
            raise ArchiveError(f"position {position}: this version can not read {event.type}: {error}") from None
        if not self._may(event, fact):
            raise ArchiveError(f"position {position}: {event.type} is not one that an archive of the tenant may hold")
        if isinstance(fact, TenantRegistered | TenantCreated):
            return encode(replace(fact, name=self.name))
        if not has_secrets(event.type):
            return event.data
        try:
            return encode(sealed_anew(self._manifest.tenant, event.stream, fact, self._seal))
        except SealBroken:
            raise ArchiveError("a secret was not sealed under the key of the archive") from None

    def _seal(self, sealed: bytes, place: bytes) -> bytes:
        return self._node.directory.seal(unseal(self._key, sealed, place), place)

    def _may(self, event: Event, fact: Any) -> bool:
        """Whether it is of this tenant, on a stream that is nobody else's."""
        mine = self._manifest.tenant
        if event.type in ON_TENANT:
            return event.stream == mine
        if event.type in OF_DKIM:
            return event.stream in self._dkim and getattr(fact, "tenant", mine) == mine
        if isinstance(fact, TenantQuotasSet):
            return event.stream == STANDING and fact.tenant == mine
        if isinstance(fact, TenantDmarcSet):
            return event.stream == VERDICTS and fact.tenant == mine
        recorded = Recorded(mine, event.stream, event.type, event.version, event.data, b"")
        if len(event.stream) != STREAM_ID_BYTES:
            return False
        with self._node.log.snapshot() as snapshot:
            return may_write(self._scope, recorded, snapshot)

    async def _flush(self) -> None:
        pending, self._pending = self._pending, []
        if not pending:
            return
        try:
            await self._commit(pending)
        except TooLarge:
            if len(pending) == 1:
                raise
            for one in pending:
                await self._commit([one])

    async def _commit(self, together: list[Pending]) -> None:
        steps = [step for one in together for step in one.steps]
        bodies = list({body.digest: body for one in together for body in one.bodies}.values())
        await self._node.runtime.transact(steps, self._context, bodies)

    async def _finish(self, end: End) -> None:
        """All came: it is let in, unless it was kept out at home."""
        with self._node.log.snapshot() as snapshot:
            at = following.checkpoint(snapshot.view(self._stream))
            is_there = snapshot.view(self._manifest.tenant).peek(tenant.TENANT_KEY) is not None
        if at.position > self._manifest.position:
            return
        if at.records != end.entries or not is_there:
            raise ArchiveError(f"{at.records} entries came, and the archive has {end.entries}")
        mine = self._manifest.tenant
        steps: list[tuple[bytes, Command]] = [
            (self._stream, self._move(at.position, self._manifest.position + 1)),
            (usage_stream(mine), CountUsage(mine)),
            *((STANDING, command) for command in self._served()),
        ]
        await self._node.runtime.transact(steps, self._context)

    def _served(self) -> list[Command]:
        """As at home; nothing where an administrator has said otherwise meanwhile."""
        mine, kept_out = self._manifest.tenant, self._manifest.suspended
        found = self._node.runtime.standings.of(mine)
        if found is None or not found.suspended or found.reason != IMPORTING:
            return []
        if kept_out is None:
            return [ResumeTenant(mine)]
        return [SuspendTenant(mine, *kept_out)]  # type: ignore[arg-type]

    def _move(self, after: int, to: int) -> MoveCheckpoint:
        return MoveCheckpoint(after, self._manifest.cell, to, bytes(CHAIN_BYTES), self._manifest.at_ms)


def _check(manifest: Manifest, opening: Opening) -> None:
    """Raises ArchiveError for what can not be one, InvalidName."""
    if manifest.format != FORMAT:
        raise ArchiveError(f"an archive of format {manifest.format}; this version reads format {FORMAT}")
    ids = type(manifest.tenant) is bytes and len(manifest.tenant) == STREAM_ID_BYTES and type(manifest.archive) is bytes
    if not ids or type(opening.key) is not bytes or len(opening.key) != KEY_BYTES:
        raise ArchiveError("the manifest of the archive is damaged")
    try:
        if not isinstance(manifest.position, int) or [normalise_domain(d) for d in manifest.domains] != [
            *manifest.domains
        ]:
            raise ArchiveError("the manifest of the archive is damaged")
    except (InvalidName, TypeError, AttributeError):
        raise ArchiveError("the manifest of the archive is damaged") from None
