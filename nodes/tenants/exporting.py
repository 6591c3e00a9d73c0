"""Reads everything of one tenant out of the log, as frames of an archive (nodes/tenants/archive.py).

It is the tenant's history as it stands in the log, for nothing less can be folded again to the same UIDs and times.
Names that it does not hold any more are left out, and what it was called before: another may be called so by now. Read
in short slices off the event loop; what is held in memory is one slice, or one record with its bodies.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Iterable, Iterator
from typing import Any, NamedTuple

from actors import certificates, queue, tenant, tenant_admin
from actors.certificates import CERTIFICATES, certificate_place
from actors.dkim import dkim_stream
from actors.errors import NotAllowed
from actors.following import EventFollowed, as_written
from actors.kind import decode, encode
from actors.names import NameClaimed, NameReleased, holder, name_stream
from actors.sealing import SealBroken, seal
from actors.standing import STANDING, TenantQuotasSet
from actors.tenant_details import TenantRenamed
from actors.verdicts import VERDICTS, TenantDmarcSet
from eventlog import levels
from eventlog.fold import Outcome
from eventlog.journal import KIND_NOOP
from eventlog.record import Event, Record
from eventlog.store import Snapshot, StoredRecord
from nodes.follower.scope import Scope, may_see_header
from nodes.resealed import Resealed
from nodes.services import Services
from nodes.tenants.archive import (
    FORMAT,
    IMPORTING,
    OF_DKIM,
    ON_TENANT,
    PIECE_BYTES,
    Certified,
    End,
    Entry,
    Manifest,
    Piece,
    Queued,
    Reached,
    has_secrets,
    pack,
    sealed_anew,
)
from nodes.tenants.archive import Event as Told

SLICE_POSITIONS = 256
SLICE_BYTES = 1024 * 1024
MOST_TEXT = 400
ARCHIVE_ID_BYTES = 16


class Slice(NamedTuple):
    """Frames, and the position up to which they go."""

    frames: list[bytes]
    reached: int


class Export:
    """Of one tenant, with secrets sealed under `key`."""

    def __init__(self, node: Services, tenant_id: bytes, key: bytes) -> None:
        self._node = node
        self._key = key
        self._scope = Scope(tenant_id, b"")
        self._resealed = Resealed(node.log, node.directory.keys)
        self._sent: set[bytes] = set()
        self._counts = End(0, 0, 0)
        with node.log.snapshot() as snapshot:
            self.manifest = _manifest(node, snapshot, tenant_id)
        self._dkim = {dkim_stream(domain) for domain in self.manifest.domains}

    async def frames(self) -> AsyncIterator[bytes]:
        """All of it, in order. Raises ArchiveError of the log's segments."""
        yield pack(self.manifest)
        position = 0
        while position < self.manifest.position:
            found = await asyncio.to_thread(self._read, position + 1)
            position = found.reached
            for frame in found.frames:
                yield frame
            yield pack(Reached(position))
        for number, shown in enumerate(await asyncio.to_thread(self._certificates)):
            yield pack(shown._replace(number=number))
        number = self._counts.certificates
        for domain in await asyncio.to_thread(self._queues):
            after: bytes | None = b""
            while after is not None:
                waiting, after = await asyncio.to_thread(self._waiting, domain, after)
                for item, content in waiting:
                    yield pack(item._replace(number=number))
                    for at in range(0, len(content), PIECE_BYTES):
                        yield pack(Piece(content[at : at + PIECE_BYTES]))
                    number += 1
        yield pack(self._counts._replace(queued=number - self._counts.certificates))

    def _certificates(self) -> list[Certified]:
        """Those of the tenant, as they are now; of one whose key can not be read, nothing."""
        found = []
        with self._node.log.snapshot() as snapshot:
            stored = certificates.all_certificates(snapshot.view(CERTIFICATES))
        for one in stored:
            place = certificate_place(one.fingerprint)
            if one.tenant != self._scope.tenant or not one.sealed:
                continue
            sealed = seal(self._key, self._node.directory.unseal(one.sealed, place), place)
            fields = (one.fingerprint, one.names, one.chain, sealed, one.not_before_ms, one.not_after_ms)
            found.append(Certified(0, *fields))
        self._counts = self._counts._replace(certificates=len(found))
        return found

    def _queues(self) -> list[str]:
        with self._node.log.snapshot() as snapshot:
            return queue.queues(snapshot)

    def _waiting(self, domain: str, after: bytes) -> tuple[list[tuple[Queued, bytes]], bytes | None]:
        """Some items of a queue that the tenant has there, with their bytes; and behind which to go on, if anywhere."""
        found: list[tuple[Queued, bytes]] = []
        size_bytes = 0
        with self._node.log.snapshot() as snapshot:
            for looked, one in enumerate(queue.items_after(snapshot.view(queue.queue_stream(domain)), after)):
                if looked >= SLICE_POSITIONS or size_bytes > SLICE_BYTES:
                    return found, after
                after = one.id
                waiting = tuple((each.address, each.options) for each in one.recipients if each.state == "waiting")
                content = snapshot.body(one.tenant, one.digest) if one.tenant == self._scope.tenant else None
                if waiting and content is not None:
                    size_bytes += len(content)
                    ahead = (0, domain, one.id, one.sender, waiting, one.digest, len(content), one.size)
                    found.append((Queued(*ahead, one.trace, one.expires_ms, one.queued_ms, one.options), content))
        return found, None

    def _read(self, first: int) -> Slice:
        frames: list[bytes] = []
        last = min(first + SLICE_POSITIONS - 1, self.manifest.position)
        size_bytes, reached = 0, first - 1
        with self._node.log.snapshot() as snapshot:
            for stored in snapshot.records(first, last):
                for frame in self._entry(snapshot, stored):
                    frames.append(frame)
                    size_bytes += len(frame)
                reached = stored.position
                if size_bytes > SLICE_BYTES:
                    return Slice(frames, reached)
        return Slice(frames, last)

    def _entry(self, snapshot: Snapshot, stored: StoredRecord) -> Iterator[bytes]:
        if stored.outcome != Outcome.COMMITTED or stored.kind == KIND_NOOP or self._scope.tenant not in stored.data:
            return
        record = stored.record
        told = list(self._told(snapshot, stored.at_ms, record.events)) if record is not None else []
        if not told or record is None:
            return
        contents = list(self._bodies(snapshot, told))
        author, cause = self._header(record, snapshot)
        bodies = tuple((digest, len(content)) for digest, content in contents)
        events = tuple(told)
        yield pack(Entry(stored.position, stored.chain or b"", stored.at_ms, author, cause, events, bodies))
        for _, content in contents:
            for at in range(0, len(content), PIECE_BYTES):
                yield pack(Piece(content[at : at + PIECE_BYTES]))
        entries, count = self._counts.entries + 1, self._counts.bodies + len(bodies)
        self._counts = self._counts._replace(entries=entries, bodies=count)

    def _told(self, snapshot: Snapshot, at_ms: int, events: Iterable[Event]) -> Iterator[Told]:
        """What is kept of a record's events; those that came from another cell as they were there."""
        for ordinal, stood in enumerate(events):
            event, taken_ms = stood, at_ms
            if stood.type == EventFollowed.TYPE:
                followed: Any = decode(stood.type, stood.version, stood.data)
                event, taken_ms = as_written(stood), followed.at_ms
            data = self._data(event) if self._takes(event, snapshot) else None
            if data is not None:
                yield Told(ordinal, taken_ms, event.stream, event.type, event.version, data)

    def _takes(self, event: Event, snapshot: Snapshot) -> bool:
        mine = self._scope.tenant
        if event.type in ON_TENANT:
            return event.stream == mine
        if event.type in OF_DKIM:
            return event.tenant == mine and event.stream in self._dkim
        if event.type in (TenantQuotasSet.TYPE, TenantDmarcSet.TYPE):
            fact: Any = decode(event.type, event.version, event.data)
            return event.stream in (STANDING, VERDICTS) and fact.tenant == mine
        if event.type == TenantRenamed.TYPE or not self._scope.takes(event):
            return False
        if event.type in (NameClaimed.TYPE, NameReleased.TYPE):
            claim: Any = decode(event.type, event.version, event.data)
            held = holder(snapshot.view(name_stream(claim.name)))
            return claim.name.startswith("address:") and held is not None and held.tenant == mine
        return True

    def _data(self, event: Event) -> bytes | None:
        """With secrets under the archive's key; None where one can not be read: nobody could log in with it either."""
        if not has_secrets(event.type):
            return event.data

        def anew(sealed: bytes, place: bytes) -> bytes:
            return seal(self._key, self._resealed.unseal(event.stream, sealed, place), place)

        try:
            fact = decode(event.type, event.version, event.data)
            return encode(sealed_anew(self._scope.tenant, event.stream, fact, anew))
        except SealBroken:
            self._counts = self._counts._replace(unreadable=self._counts.unreadable + 1)
            return None

    def _bodies(self, snapshot: Snapshot, told: list[Told]) -> Iterator[tuple[bytes, bytes]]:
        """Those that are referred to for the first time, as far as the log still has them."""
        for one in told:
            digest = getattr(decode(one.type, one.version, one.data), "digest", None)
            if digest is None or digest in self._sent:
                continue
            content = snapshot.body(self._scope.tenant, digest)
            if content is not None:
                self._sent.add(digest)
                yield digest, content

    def _header(self, record: Record, snapshot: Snapshot) -> tuple[str, str]:
        """Who, and why; nothing where it is not the tenant's alone."""
        if not may_see_header(self._scope, record, snapshot):
            return "", ""
        by = record.by
        return f"{by.kind} {by.id.hex()} {by.origin}"[:MOST_TEXT], record.cause[:MOST_TEXT]


def _manifest(node: Services, snapshot: Snapshot, tenant_id: bytes) -> Manifest:
    """Raises NoSuchTenant, NotAllowed."""
    standing = tenant_admin.standing_of(snapshot, tenant_id)
    if standing is not None and standing.reason == IMPORTING:
        raise NotAllowed("it is being imported: its import must be whole before it can be exported")
    used = tenant_admin.usage_of(snapshot, tenant_id)
    return Manifest(
        FORMAT,
        os.urandom(ARCHIVE_ID_BYTES),
        node.config.node.cluster_id,
        tenant_id,
        tenant_admin.name_of(snapshot, tenant_id),
        tuple(domain.name for domain in tenant.domains(snapshot.view(tenant_id))),
        snapshot.position,
        snapshot.at_ms,
        min(node.log.feature_level, levels.NEWEST),
        used.accounts,
        used.messages,
        None if standing is None else (standing.mail, standing.reason),
    )
