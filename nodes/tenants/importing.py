"""Brings a tenant back from an archive (nodes/tenants/archive.py): the same facts, in their order and at their times.

The first record claims its name and domains and keeps the tenant out of service; the last one lets it in. In between
each entry of the archive is taken once: it moves a row that says how far it was taken, guarded by where that was, so
that whoever is killed goes on by beginning again, and two at a time can not double anything.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple

from actors import following, standing, tenant
from actors.dkim import dkim_stream
from actors.errors import InvalidName, NameTaken, NotAllowed, TooLarge
from actors.following import ApplyOrigin, FollowEvent, MoveCheckpoint, following_stream
from actors.kind import Command, Fact, UnknownEventType, decode, encode
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
    FORMATS,
    IMPORTING,
    OF_DKIM,
    OF_TOKENS,
    ON_TENANT,
    ArchiveError,
    Certified,
    End,
    Entry,
    Event,
    Manifest,
    Opening,
    Piece,
    Queued,
    Reader,
    has_secrets,
    read,
    sealed_anew,
)
from nodes.tenants.copying import Renaming
from nodes.tenants.importing_rest import Behind

AT_ONCE = 64  # entries in one record
AT_ONCE_BYTES = 256 * 1024
WHOLE = 1 << 40  # behind the last position: there is room for whatever comes behind the entries
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
        self._renaming = _renaming(manifest, opening, self.name)
        self.tenant = self._renaming.tenant if self._renaming else manifest.tenant
        self.domains = self._renaming.domains if self._renaming else manifest.domains
        self._scope = Scope(self.tenant, b"")
        self._stream = following_stream(f"{manifest.cell}/{manifest.archive.hex()}", self.tenant, b"")
        self._context = context._replace(tenant=self.tenant)
        self._dkim = {dkim_stream(domain) for domain in self.domains}
        self._pending: list[Pending] = []
        is_copy = self._renaming is not None
        self._behind = Behind(node, manifest, opening.key, self._stream, self._context, is_copy=is_copy)

    @property
    def position(self) -> int:
        """How far it was taken; 0: it has not begun."""
        with self._node.log.snapshot() as snapshot:
            return following.checkpoint(snapshot.view(self._stream)).position

    @property
    def is_whole(self) -> bool:
        return self.position >= self._manifest.position + WHOLE

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
            for name in (f"tenant:{self.name}", *map(domain_name, self.domains)):
                held = holder(snapshot.view(name_stream(name)))
                if held is not None and not (begun and held.owner == self.tenant):
                    raise NameTaken(f"{name.partition(':')[2]} is taken")
                if held is None and begun and not self.is_whole:
                    raise NotAllowed(f"its import has begun under another name than {self.name}")

    def _check_unknown(self, snapshot: Snapshot) -> None:
        found = standing.standing(snapshot.view(STANDING), self.tenant)
        if found is not None and found.deleted_ms:
            raise NotAllowed(
                "this tenant was deleted here, and its ids are closed for good: import it into another cell"
            )
        known = next(iter(snapshot.stream_positions(self.tenant)), None)
        if known is not None or found is not None:
            raise NameTaken(
                "this tenant is in this cell already, or another archive of it is being imported; a copy of it, with "
                "ids of its own, needs another name and other domains (--as NAME --domain OLD=NEW)"
            )

    async def begin(self) -> None:
        """Takes the names, and keeps the tenant out of service; nothing where it has begun. Raises as `check`."""
        self.check()
        if self.position:
            return
        mine = self.tenant
        names = [(f"tenant:{self.name}", "tenant"), *((domain_name(one), "domain") for one in self.domains)]
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
                case Certified():
                    await self._flush()
                    await self._behind.certify(frame)
                case Queued():
                    await self._flush()
                    await self._behind.hold(frame, await self._body(content, frame.digest, frame.content_bytes))
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
        return NewBody(self.tenant, whole, digest)

    async def _take(self, entry: Entry, bodies: list[NewBody]) -> None:
        reached = self._pending[-1].position if self._pending else self.position
        if entry.position <= reached:
            return
        if entry.position > self._manifest.position:
            raise ArchiveError("an entry is later than the archive says that it goes")
        place = (reached, self._manifest.cell, entry.position, entry.chain, entry.at_ms)
        steps: list[tuple[bytes, Command]] = [(self._stream, ApplyOrigin(*place, entry.author, entry.cause))]
        for one in map(Event._make, entry.events):
            here = self._event_here(one, entry.position)
            if here is not None:
                origin = (self.tenant, self._manifest.cell, entry.position, one.ordinal, one.at_ms)
                steps.append((here.stream, FollowEvent(*origin, here.type, here.version, here.data)))
        size_bytes = sum(len(one[5]) for one in entry.events) + sum(len(body.data) for body in bodies)
        self._pending.append(Pending(entry.position, steps, bodies, size_bytes))
        if len(self._pending) >= AT_ONCE or sum(one.size_bytes for one in self._pending) >= AT_ONCE_BYTES:
            await self._flush()

    def _event_here(self, event: Event, position: int) -> Event | None:
        """With secrets under this cell's key, and the tenant's name to be; None for what a copy does not have.

        Raises ArchiveError.
        """
        try:
            fact: Any = decode(event.type, event.version, event.data)
        except (UnknownEventType, TypeError, ValueError) as error:
            raise ArchiveError(f"position {position}: this version can not read {event.type}: {error}") from None
        if self._renaming is not None and event.type in OF_TOKENS:
            return None  # whoever has one shows it to the tenant that it is of
        try:
            made: Any = self._opened(event, fact)
            stream = event.stream
            if self._renaming is not None:
                made = self._renaming.fact(made)
                stream = self._renaming.stream(stream, made)
            if isinstance(made, TenantRegistered | TenantCreated):
                made = replace(made, name=self.name)
            made = self._sealed(stream, made)
        except SealBroken:
            raise ArchiveError("a secret was not sealed under the key of the archive") from None
        here = event if made == fact else event._replace(version=made.VERSION, data=encode(made))
        here = here._replace(stream=stream)
        if not self._may(here, made):
            raise ArchiveError(f"position {position}: {event.type} is not one that an archive of the tenant may hold")
        return here

    def _opened(self, event: Event, fact: Any) -> Fact:
        """The fact with its secrets in clear. Raises SealBroken."""
        if not has_secrets(event.type):
            return fact  # type: ignore[no-any-return]
        clear = partial(unseal, self._key)
        return sealed_anew(self._manifest.tenant, event.stream, fact, clear)

    def _sealed(self, stream: bytes, fact: Fact) -> Fact:
        if not has_secrets(fact.TYPE):
            return fact
        return sealed_anew(self.tenant, stream, fact, self._node.directory.seal)

    def _may(self, event: Event, fact: Any) -> bool:
        """Whether it is of this tenant, on a stream that is nobody else's."""
        mine = self.tenant
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
            is_there = snapshot.view(self.tenant).peek(tenant.TENANT_KEY) is not None
        if at.position >= self._manifest.position + WHOLE:
            return
        if at.records != end.entries or not is_there:
            raise ArchiveError(f"{at.records} entries came, and the archive has {end.entries}")
        mine = self.tenant
        steps: list[tuple[bytes, Command]] = [
            (self._stream, self._move(at.position, self._manifest.position + WHOLE)),
            (usage_stream(mine), CountUsage(mine)),
            *((STANDING, command) for command in self._served()),
        ]
        await self._node.runtime.transact(steps, self._context)

    def _served(self) -> list[Command]:
        """As at home; nothing where an administrator has said otherwise meanwhile."""
        mine, kept_out = self.tenant, self._manifest.suspended
        found = self._node.runtime.standings.of(mine)
        if found is None or not found.suspended or found.reason != IMPORTING:
            return []
        if kept_out is None:
            return [ResumeTenant(mine)]
        return [SuspendTenant(mine, *kept_out)]  # type: ignore[arg-type]

    def _move(self, after: int, to: int) -> MoveCheckpoint:
        return MoveCheckpoint(after, self._manifest.cell, to, bytes(CHAIN_BYTES), self._manifest.at_ms)


def _renaming(manifest: Manifest, opening: Opening, name: str) -> Renaming | None:
    """Raises InvalidName, ArchiveError."""
    if not opening.domains:
        return None
    try:
        pairs = {str(old): str(new) for old, new in opening.domains}
    except (TypeError, ValueError):
        raise ArchiveError("the domains to be are damaged") from None
    return Renaming(manifest.archive, name, manifest.tenant, manifest.domains, pairs)


def _check(manifest: Manifest, opening: Opening) -> None:
    """Raises ArchiveError for what can not be one, InvalidName."""
    if manifest.format not in FORMATS:
        raise ArchiveError(f"an archive of format {manifest.format}; this version reads formats up to {FORMATS[-1]}")
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
