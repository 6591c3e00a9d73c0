"""What stands behind the entries of an archive, as it was when the export ended: certificates, and mail to be sent.

Each is taken once, by its number behind the last position: the row that says how far the import is moves with it.
"""

from __future__ import annotations

import hashlib

from actors import following
from actors.certificates import CERTIFICATES, AddCertificate, certificate_place
from actors.errors import NameTaken, NotAllowed
from actors.following import MoveCheckpoint
from actors.kind import Command
from actors.mail_options import MailOptions, RecipientOptions
from actors.names import normalise_domain
from actors.queue import Enqueue, HoldItems, enqueue_commands, queue_stream
from actors.runtime import Context, NewBody
from actors.sealing import SealBroken, unseal
from eventlog.record import STREAM_ID_BYTES
from eventlog.store import CHAIN_BYTES
from nodes.services import Services
from nodes.tenants.archive import ArchiveError, Certified, Manifest, Queued


class Behind:
    """stream: of the import's checkpoint; a copy, which is its own tenant, takes none of it."""

    def __init__(
        self, node: Services, manifest: Manifest, key: bytes, stream: bytes, context: Context, *, is_copy: bool
    ) -> None:
        self._node = node
        self._manifest = manifest
        self._key = key
        self._stream = stream
        self._context = context
        self._tenant = context.tenant
        self._is_copy = is_copy

    async def certify(self, one: Certified) -> None:
        """A certificate that was in force; a copy has other names. Raises ArchiveError."""
        place = certificate_place(one.fingerprint)
        try:
            sealed = self._node.directory.seal(unseal(self._key, one.sealed, place), place)
        except SealBroken:
            raise ArchiveError("a secret was not sealed under the key of the archive") from None
        times = (one.not_before_ms, one.not_after_ms)
        add = AddCertificate(self._tenant, one.fingerprint, one.names, one.chain, sealed, "given", *times)
        try:
            await self._behind(one.number, [] if self._is_copy else [(CERTIFICATES, add)], [])
        except (NameTaken, NotAllowed) as error:
            self._node.logger.warning("a certificate was not imported", names=one.names, reason=str(error))
            await self._behind(one.number, [], [])

    async def hold(self, one: Queued, body: NewBody) -> None:
        """What waited to be sent waits here, held: where it comes from sends it too, until it is told otherwise. Of a
        copy nothing: it is the other tenant's to send."""
        if self._is_copy:
            await self._behind(one.number, [], [])
            return
        if normalise_domain(one.domain) != one.domain or not one.recipients:
            raise ArchiveError("a message that waits to be sent is damaged")
        item_id = hashlib.sha256(self._manifest.archive + one.item_id).digest()[:STREAM_ID_BYTES]
        command = Enqueue(
            one.domain,
            item_id,
            self._tenant,
            one.sender,
            tuple(address for address, _ in one.recipients),
            one.digest,
            one.size,
            one.trace,
            one.expires_ms,
            one.queued_ms,
            MailOptions(*one.options),
            tuple(RecipientOptions(*options) for _, options in one.recipients),
        )
        with self._node.log.snapshot() as snapshot:
            steps = enqueue_commands(snapshot, command)
        await self._behind(one.number, [*steps, (queue_stream(one.domain), HoldItems((item_id,)))], [body])

    async def _behind(self, number: int, steps: list[tuple[bytes, Command]], bodies: list[NewBody]) -> None:
        """What comes behind the entries is taken once, as they are."""
        manifest, at = self._manifest, self._manifest.position + 1 + number
        with self._node.log.snapshot() as snapshot:
            reached = following.checkpoint(snapshot.view(self._stream)).position
        if reached < at:
            move = MoveCheckpoint(reached, manifest.cell, at, bytes(CHAIN_BYTES), manifest.at_ms)
            await self._node.runtime.transact([(self._stream, move), *steps], self._context, bodies)
