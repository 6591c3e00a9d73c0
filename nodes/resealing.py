"""The cluster's keys at one node: which are held, which one is used, and secrets that are sealed anew after it changed.

The log says which key is used (actors/keyring.py); each node says there which keys it holds. After a change the leader
goes through everything that is sealed and in force, a few values at a time, and retires the key before when nothing is
left under it. A retired key stays in the file: views of the past and backups open with it, and it is the operator's to
take out. See docs/ADR/0036.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from actors import (
    acme,
    api_tokens,
    apop,
    cell_authority,
    certificates,
    credentials,
    dkim,
    keyring,
    region,
    routes,
    tenant,
)
from actors.acme import ACME
from actors.cell_authority import AUTHORITY
from actors.certificates import CERTIFICATES
from actors.errors import CommandRefused
from actors.keyring import KEYRING, HoldKey, Reseal, RetireKey
from actors.region import REGION
from actors.routes import ROUTES
from actors.runtime import Context
from actors.sealing import KEY_BYTES, KeyRing, NoSuchSealingKey, SealBroken, key_id, sealed_under
from eventlog.errors import LogError
from eventlog.record import NO_TENANT, By, stream_id
from nodes import dkim_keys
from nodes.files import write_atomically
from nodes.follower.feed import grant_place
from nodes.follower.grants import follow_place

if TYPE_CHECKING:
    from eventlog.log import EventLog
    from eventlog.store import Snapshot
    from eventlog.views import View
    from nodes.services import Services

EVERY_S = 2.0
SWEEP_EVERY = 300  # of those: whether something was sealed under an old key after all
AT_ONCE = 100
PAUSE_S = 0.02


class Sealed(NamedTuple):
    """One sealed value in force: the row that it stands in, and what it is bound to."""

    stream: bytes
    tenant: bytes
    key: bytes
    value: bytes
    place: bytes


class Resealing:
    """Begins when it is made, on the event loop; `stop` ends it."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._log = services.log
        self._ring = services.directory.keys
        self._held: set[bytes] = set()
        self._turns = 0
        self._clean = False
        self._unsubscribe = self._log.subscribe(KEYRING, lambda _: self.heed())
        self._task = asyncio.get_running_loop().create_task(self._go_on())

    async def stop(self) -> None:
        self._unsubscribe()
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    def heed(self) -> None:
        """Uses the key that the log says, from now on; what it lacks it says in the log lines."""
        with self._log.snapshot() as snapshot:
            found = keyring.in_use(snapshot.view(KEYRING))
        self._clean = False
        if found is None or found.id == self._ring.active:
            return
        try:
            self._ring.use(found.id, found.sealed_root)
        except (NoSuchSealingKey, SealBroken) as error:
            self._services.logger.error(
                "secrets are sealed under a key that this node does not hold", key_id=found.id.hex(), error=str(error)
            )
            return
        self._services.logger.info("another cluster key is used", key_id=found.id.hex())

    async def _go_on(self) -> None:
        while True:
            try:
                await self._tell_held()
                self._turns += 1
                if self._log.status().role == "leader" and not (self._clean and self._turns % SWEEP_EVERY):
                    self._clean = await self._sweep()
            except (LogError, CommandRefused) as error:
                self._services.logger.warning(
                    "secrets are not sealed anew for now", code="secret_not_opened", error=str(error)
                )
            except Exception:
                self._services.logger.exception("sealing secrets anew failed", code="secret_not_opened")
            await asyncio.sleep(EVERY_S)

    async def _tell_held(self) -> None:
        """Which keys are here, for the others; of the first key, which every node has, nothing is said."""
        for id_ in self._ring.ids[1:]:
            if id_ not in self._held:
                command = HoldKey(self._services.config.node.name, id_)
                await self._services.runtime.ask(KEYRING, command, self._context())
                self._held.add(id_)

    async def _sweep(self) -> bool:
        """Seals anew what is not under the key in use; True when there was nothing that it could not."""
        if self._ring.active is None:
            return True
        stuck = 0
        for stream, tenant_id in self._streams():
            stuck += await self._sweep_stream(stream, tenant_id)
        if stuck:
            self._services.logger.error(
                "secrets do not open with any key that is held", code="secret_not_opened", count=stuck
            )
            return False
        await self._retire()
        return True

    def _streams(self) -> list[tuple[bytes, bytes]]:
        with self._log.snapshot() as snapshot:
            return list(streams(snapshot))

    async def _sweep_stream(self, stream: bytes, tenant_id: bytes) -> int:
        """How many do not open."""
        stuck: set[bytes] = set()
        while True:
            with self._log.snapshot() as snapshot:
                old = (one for one in sealed_in(snapshot, stream, tenant_id) if not self._ring.is_current(one.value))
                batch = [one for one, _ in zip((one for one in old if one.value not in stuck), range(AT_ONCE))]
            if not batch:
                return len(stuck)
            for one in batch:
                try:
                    fresh = self._ring.seal(self._ring.unseal(one.value, one.place), one.place)
                except SealBroken:
                    stuck.add(one.value)
                    continue
                command = Reseal(one.tenant, one.key, one.value, fresh)
                await self._services.runtime.ask(one.stream, command, self._context())
            await asyncio.sleep(PAUSE_S)

    async def _retire(self) -> None:
        """Every key that came before the one in use, also one that this node was never handed."""
        with self._log.snapshot() as snapshot:
            view = snapshot.view(KEYRING)
            older = keyring.older(view) - set(keyring.retired(view))
        for id_ in sorted(older):
            await self._services.runtime.ask(KEYRING, RetireKey(id_), self._context())
            self._services.logger.info(
                "a cluster key is retired: nothing in force needs it", key_id=id_.hex() or "first"
            )

    def _context(self) -> Context:
        name = self._services.config.node.name
        by = By("node", stream_id("node", name), "cluster key")
        return Context(by, "rotation of the cluster's key", timeout_s=self._services.config.raft.propose_timeout_s)


def use_what_the_log_says(ring: KeyRing, log: EventLog) -> str | None:
    """Why this node can not go on with the keys that it holds, or None."""
    with log.snapshot() as snapshot:
        found = keyring.in_use(snapshot.view(KEYRING))
    if found is None:
        return None
    try:
        ring.use(found.id, found.sealed_root)
    except NoSuchSealingKey:
        return f"lacks the key {found.id.hex()}, under which the secrets of this cell are sealed"
    except SealBroken:
        return f"holds another key {found.id.hex()} than the one under which the secrets of this cell are sealed"
    return None


def add_key(path: Path, ring: KeyRing, key: bytes) -> bytes:
    """Puts a new key behind those in the file, and into the ring; gives its id. Raises ValueError, OSError."""
    if len(key) != KEY_BYTES:
        raise ValueError(f"a cluster key has {KEY_BYTES} bytes")
    id_ = key_id(key)
    if id_ not in ring.ids:
        write_atomically(path, f"{path.read_text().rstrip()}\n{key.hex()}\n".encode(), 0o600)
        ring.add(key)
    return id_


def counts(snapshot: Snapshot) -> dict[bytes | None, int]:
    """How many values in force are sealed under each key; None: the first."""
    found: dict[bytes | None, int] = {}
    for stream, tenant_id in streams(snapshot):
        for one in sealed_in(snapshot, stream, tenant_id):
            found[sealed_under(one.value)] = found.get(sealed_under(one.value), 0) + 1
    return found


def streams(snapshot: Snapshot) -> Iterator[tuple[bytes, bytes]]:
    """Every stream that may hold sealed values, and whose it is."""
    for entry in tenant.tenants(snapshot):
        yield entry.id, entry.id
        for domain in tenant.domains(snapshot.view(entry.id)):
            yield dkim.dkim_stream(domain.name), entry.id
    for stream in (REGION, ROUTES, CERTIFICATES, ACME, AUTHORITY):
        yield stream, NO_TENANT


def sealed_in(snapshot: Snapshot, stream: bytes, tenant_id: bytes) -> Iterator[Sealed]:
    """The sealed values of one stream."""
    view = snapshot.view(stream)
    if stream in (CERTIFICATES, ACME):
        yield from (one for one in _of_tenants(view) if one.value)
        return
    if stream == REGION:
        found = _of_region(view)
    elif stream == ROUTES:
        found = ((b"r" + one.match.encode(), one.sealed, routes.place(one.match)) for one in routes.routes(view))
    elif stream == AUTHORITY:
        found = _of_authority(view)
    elif stream == tenant_id:
        found = _of_tenant(view, tenant_id)
    else:
        found = _of_domain(view)
    yield from (Sealed(stream, tenant_id, *one) for one in found if one[1])


def _of_region(view: View) -> Iterator[tuple[bytes, bytes, bytes]]:
    for grant in region.grants(view):
        yield b"g" + grant.name.encode(), grant.sealed, grant_place(grant.name)
    yield from _of_tokens(view)
    for follow in region.follows(view):
        place = follow_place(follow.cell, follow.tenant, follow.account)
        yield b"f" + follow.name.encode(), follow.sealed, place


def _of_tenants(view: View) -> Iterator[Sealed]:
    """Streams of the whole cell whose values are of tenants: an end of one finds them by whose they are."""
    if view.stream == CERTIFICATES:
        for one in certificates.all_certificates(view):
            place = certificates.certificate_place(one.fingerprint)
            yield Sealed(CERTIFICATES, one.tenant, certificates.row_key(one.fingerprint), one.sealed, place)
        return
    account = acme.account(view)
    if account is not None:
        yield Sealed(ACME, NO_TENANT, acme.ACCOUNT_KEY, account.sealed, acme.account_place(account.directory))
    for order in acme.managed(view):
        yield Sealed(ACME, order.tenant, b"m" + order.id, order.sealed, acme.order_place(order.id))


def _of_authority(view: View) -> Iterator[tuple[bytes, bytes, bytes]]:
    for row in (cell_authority.AUTHORITY_KEY, cell_authority.SUCCESSOR_KEY):
        for key, (certificate, sealed) in view.range(row):
            yield key, sealed, cell_authority.authority_place(certificate)


def _of_tenant(view: View, tenant_id: bytes) -> Iterator[tuple[bytes, bytes, bytes]]:
    for key, sealed in view.range(b"c"):
        yield key, sealed, tenant.password_place(tenant_id, key[1:])
    for key, row in view.range(b"k"):
        yield key, row[4], credentials.app_password_place(tenant_id, key[1:17], key[17:])
    for key, row in view.range(b"o"):
        yield key, row[0], credentials.one_time_place(tenant_id, key[1:])
    for key, row in view.range(b"A"):
        yield key, row[0], apop.place(tenant_id, key[1:])
    yield from _of_tokens(view)


def _of_tokens(view: View) -> Iterator[tuple[bytes, bytes, bytes]]:
    for key, row in view.range(b"K"):
        yield key, row[6], api_tokens.place(view.stream, key[1:])


def _of_domain(view: View) -> Iterator[tuple[bytes, bytes, bytes]]:
    found = dkim.owner(view)
    for one in dkim.all_keys(view) if found is not None else ():
        assert found is not None
        yield dkim.row_key(one.selector), one.sealed, dkim_keys.place(found[0], one.selector)
