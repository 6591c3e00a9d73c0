"""Archives of a tenant between two cells of one node each, in this process: secrets, what strangers add, repeats."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from actors import mailbox
from actors import tenant as tenant_kind
from actors.certificates import CERTIFICATES, all_certificates, certificate_place
from actors.directory import account_of, tenant_named
from actors.errors import InvalidName, NameTaken, NotAllowed
from actors.kind import Fact, encode
from actors.mail_options import MailOptions, RecipientOptions
from actors.mailbox import Deliver, MailboxOpened
from actors.mailbox_acl import EVERY, SetRights
from actors.names import NameClaimed, name_stream
from actors.queue import Claim, Enqueue, Item, RecordAttempt, RemoveItem, enqueue_commands, items, queue_stream
from actors.region import REGION, GrantIssued
from actors.runtime import NewBody
from actors.standing import STANDING, FinishDeletion, ScheduleDeletion, TenantQuotasSet, TenantSuspended
from chaos.cluster import free_base_port
from cli import layout
from eventlog.record import digest_of
from eventlog.store import Snapshot
from nodes.config import sources as config_sources
from nodes.dkim_admin import DkimAdmin
from nodes.server import Node
from nodes.services import Services
from nodes.tenants.archive import ArchiveError, End, Entry, Event, Frame, Manifest, Opening, Reached, pack, unpack
from nodes.tenants.exporting import Export
from nodes.tenants.importing import Import
from nodes.tls.certificates import CertificateAdmin
from tests.actors.cell import ADMIN, a_mail
from tests.peers import certificates

Run = Callable[[Coroutine[Any, Any, Any]], Any]
ALICE, EVE = "alice@example.test", "eve@other.test"
KEY = bytes(32)


@asynccontextmanager
async def cell(folder: Path) -> AsyncIterator[Services]:
    cluster = layout.create(folder, 1, free_base_port(1))
    async with Node(config_sources.load(cluster.nodes[0].config, {}, ())).running() as state:
        async with asyncio.timeout(30):
            while state.unready() or state.services is None:
                await asyncio.sleep(0.02)
        yield state.services


@asynccontextmanager
async def two(folder: Path) -> AsyncIterator[tuple[Services, Services]]:
    """One with a tenant, its account and key; one with another tenant."""
    async with cell(folder / "source") as source, cell(folder / "target") as target:
        await source.directory.add_tenant("example", ["example.test"], ADMIN)
        await source.directory.add_account(ALICE, "secret of alice", None, ADMIN)
        await DkimAdmin(source).generate("example.test", ADMIN, algorithms=("rsa-sha256",), active=True)
        await target.directory.add_tenant("other", ["other.test"], ADMIN)
        await target.directory.add_account(EVE, "secret of eve", None, ADMIN)
        yield source, target


async def exported(node: Services, name: str = "example") -> list[Frame]:
    with node.log.snapshot() as snapshot:
        made = Export(node, tenant_named(snapshot, name), KEY)
    found = [unpack(frame[4:]) async for frame in made.frames()]
    return [frame for frame in found if not isinstance(frame, Reached)]


async def imported(
    node: Services, frames: list[Frame], name: str = "example", domains: tuple[tuple[str, str], ...] = ()
) -> Import:
    assert isinstance(frames[0], Manifest)
    taking = Import(node, frames[0], Opening(name, KEY, domains), ADMIN)
    await taking.begin()
    content = asyncio.StreamReader()
    content.feed_data(b"".join(map(pack, frames[1:])))
    content.feed_eof()
    await taking.take(content)
    return taking


def told(frames: list[Frame]) -> list[tuple[Any, ...]]:
    """What an archive says, but for what is sealed anew each time."""
    events = [Event(*one) for frame in frames if isinstance(frame, Entry) for one in frame.events]
    return [(one.at_ms, one.stream, one.type, one.version, len(one.data)) for one in events]


def test_a_domain_signs_with_the_same_key_in_the_new_cell_and_passwords_open(run: Run, tmp_path: Path) -> None:
    async def main() -> None:
        async with two(tmp_path) as (source, target):
            frames = await exported(source)
            assert (await imported(target, frames)).is_whole
            tenant = frames[0].tenant  # type: ignore[union-attr]
            keys = [node.signing.sealing_key(tenant, "example.test") for node in (source, target)]
            assert keys[0] is not None
            assert keys[1] is not None
            assert keys[0].private.private_numbers() == keys[1].private.private_numbers()
            found = [
                await target.directory.logins.password(ALICE, word, "imap") for word in ("secret of alice", "other")
            ]
            assert found[0] is not None
            assert found[1] is None

    run(main())


def test_a_tenant_that_was_imported_is_exported_again_as_it_was(run: Run, tmp_path: Path) -> None:
    async def main() -> None:
        async with two(tmp_path) as (source, target):
            frames = await exported(source)
            await imported(target, frames)
            assert told(await exported(target)) == told(frames)

    run(main())


def test_what_is_not_of_the_archives_tenant_is_refused_and_the_tenant_stays_suspended(run: Run, tmp_path: Path) -> None:
    async def main() -> None:
        async with two(tmp_path) as (source, target):
            frames = await exported(source)
            with target.log.snapshot() as snapshot:
                theirs, eve = tenant_named(snapshot, "other"), account_of(snapshot, EVE).account
            mine = frames[0].tenant  # type: ignore[union-attr]
            for stream, fact in (
                (eve, MailboxOpened(mine, ALICE, (), None)),
                (STANDING, TenantSuspended(theirs, "refuse", "")),
                (STANDING, TenantQuotasSet(theirs, (("messages", 0),), (), None)),
                (REGION, GrantIssued("x", theirs, b"", b"", 2**60, b"")),
                (name_stream("domain:other.test"), NameClaimed("domain:elsewhere.test", mine, mine, "domain")),
            ):
                with pytest.raises(ArchiveError, match="not one that an archive of the tenant may hold"):
                    await imported(target, [frames[0], entry(stream, fact), *frames[1:]])
            found = target.runtime.standings.of(mine)
            assert found is not None
            assert found.suspended
            assert target.runtime.standings.of(theirs) is None
            assert (await imported(target, frames)).is_whole
            assert target.runtime.standings.of(mine) is None

    run(main())


def entry(stream: bytes, fact: Fact) -> Entry:
    """In front of all others."""
    return Entry(2, b"", 1, "", "", ((0, 1, stream, fact.TYPE, fact.VERSION, encode(fact)),), ())


def test_an_archive_without_some_of_its_entries_does_not_become_whole(run: Run, tmp_path: Path) -> None:
    async def main() -> None:
        async with two(tmp_path) as (source, target):
            frames = await exported(source)
            last = max(number for number, frame in enumerate(frames) if isinstance(frame, Entry))
            assert isinstance(frames[-1], End)
            with pytest.raises(ArchiveError, match="entries came"):
                await imported(target, [*frames[:last], frames[-1]])
            with pytest.raises(NotAllowed, match="must be whole"):
                await exported(target)
            with pytest.raises(NotAllowed, match="under another name"):
                await imported(target, frames, "someone")
            other = await exported(source)
            with pytest.raises(NameTaken, match="another archive of it"):
                await imported(target, other)
            assert (await imported(target, frames)).is_whole

    run(main())


def test_a_tenant_is_not_brought_back_where_it_was_deleted(run: Run, tmp_path: Path) -> None:
    async def main() -> None:
        async with two(tmp_path) as (source, target):
            frames = await exported(source)
            mine = frames[0].tenant  # type: ignore[union-attr]
            for command in (ScheduleDeletion(mine, 1, "", 1), FinishDeletion(mine)):
                await target.runtime.ask(STANDING, command, ADMIN)
            with pytest.raises(NotAllowed, match="closed for good"):
                await imported(target, frames)

    run(main())


def test_a_tenant_that_was_imported_is_erased_from_the_log_when_it_is_deleted(run: Run, tmp_path: Path) -> None:
    async def main() -> None:
        async with two(tmp_path) as (source, target):
            with source.log.snapshot() as snapshot:
                alice = account_of(snapshot, ALICE)
            mail = a_mail(b"a-word-of-hers")
            await source.runtime.ask(
                alice.account, Deliver(mail.message), ADMIN, [NewBody(alice.tenant, b"a-word-of-hers")]
            )
            await imported(target, await exported(source))
            assert in_log(target, b"alice@")
            await target.directory.tenants.delete("example", 0, "", ADMIN)
            async with asyncio.timeout(30):
                while (found := target.runtime.standings.of(alice.tenant)) is None or not found.erased_at:
                    await asyncio.sleep(0.05)
            assert not in_log(target, b"alice@")
            with target.log.snapshot() as snapshot:
                assert snapshot.body(alice.tenant, digest_of(b"a-word-of-hers")) is None

    run(main())


def in_log(node: Services, word: bytes) -> bool:
    with node.log.snapshot() as snapshot:
        return any(word in stored.data for stored in snapshot.records())


def test_a_tenant_that_is_suspended_at_home_is_so_in_the_new_cell(run: Run, tmp_path: Path) -> None:
    async def main() -> None:
        async with two(tmp_path) as (source, target):
            await source.directory.tenants.suspend("example", "refuse", "it moves", ADMIN)
            frames = await exported(source)
            await imported(target, frames)
            found = target.runtime.standings.of(frames[0].tenant)  # type: ignore[union-attr]
            assert found is not None
            assert (found.suspended, found.mail, found.reason) == (True, "refuse", "it moves")

    run(main())


async def let_wait(node: Services, sender: str = ALICE) -> Enqueue:
    """A message of the tenant's that is to be sent to two, one of whom has it."""
    with node.log.snapshot() as snapshot:
        mine = account_of(snapshot, ALICE).tenant
    content, now_ms = b"Subject: later\r\n\r\nlater\r\n", time.time_ns() // 1_000_000
    recipients = ("bob@remote.test", "carol@remote.test")
    asked = (RecipientOptions(("NEVER",)), RecipientOptions(("FAILURE",), "rfc822;c@remote.test"))
    options = MailOptions(envid="abc", hold_until_ms=now_ms + 3_600_000)
    ahead = ("remote.test", b"i" * 16, mine, sender, recipients, digest_of(content), 99, b"Received: x\r\n")
    queued = Enqueue(*ahead, now_ms + 86_400_000, now_ms, options, asked)
    with node.log.snapshot() as snapshot:
        steps = enqueue_commands(snapshot, queued)
    await node.runtime.transact(steps, ADMIN, [NewBody(mine, content)])
    stream, claim = queue_stream("remote.test"), Claim(queued.item_id, "n1", now_ms + 60_000, now_ms)
    await node.runtime.ask(stream, claim, ADMIN)
    await node.runtime.ask(stream, RecordAttempt(queued.item_id, "n1", delivered=recipients[:1]), ADMIN)
    return queued


def waiting(node: Services, tenant: bytes) -> list[Item]:
    with node.log.snapshot() as snapshot:
        return [one for one in items(snapshot.view(queue_stream("remote.test"))) if one.tenant == tenant]


def shown(node: Services, tenant: bytes) -> list[tuple[Any, bytes]]:
    """The tenant's certificates, and their keys."""
    with node.log.snapshot() as snapshot:
        found = [one for one in all_certificates(snapshot.view(CERTIFICATES)) if one.tenant == tenant]
    return [(one[:3], node.directory.unseal(one.sealed, certificate_place(one.fingerprint))) for one in found]


def test_certificates_come_along_and_what_waits_to_be_sent_is_held_and_taken_once(run: Run, tmp_path: Path) -> None:
    """However often its import is given again, also when it was sent and gone meanwhile."""

    async def main() -> None:
        async with two(tmp_path) as (source, target):
            root = certificates.authority()
            pair = certificates.server("mail.example.test", issuer=root)
            await CertificateAdmin(source).add(pair.pem + root.pem, pair.key_pem, ADMIN)
            queued = await let_wait(source)
            frames = await exported(source)
            assert isinstance(frames[-1], End)
            assert (frames[-1].certificates, frames[-1].queued) == (1, 1)
            assert (await imported(target, frames)).is_whole
            (one,) = waiting(target, queued.tenant)
            assert one.held
            (carol,) = one.recipients
            assert (carol.address, carol.options) == (queued.recipients[1], queued.recipient_options[1])
            assert (one.sender, one.trace, one.options) == (queued.sender, queued.trace, queued.options)
            assert (one.size, one.expires_ms) == (queued.size, queued.expires_ms)
            with target.log.snapshot() as snapshot:
                assert snapshot.body(one.tenant, one.digest) == b"Subject: later\r\n\r\nlater\r\n"
            assert shown(target, queued.tenant) == shown(source, queued.tenant) != []
            await target.runtime.ask(queue_stream("remote.test"), RemoveItem(one.id, force=True), ADMIN)
            assert (await imported(target, frames)).is_whole
            assert waiting(target, queued.tenant) == []

    run(main())


def held(snapshot: Snapshot, account: bytes) -> list[Any]:
    """Folders with their UIDVALIDITY, and of each message UID, flags, dates and octets."""
    view = snapshot.view(account)
    return [(folder, list(mailbox.messages(view, folder.id))) for folder in mailbox.folders(view)]


def test_a_copy_stands_beside_the_tenant_itself_under_other_domains(run: Run, tmp_path: Path) -> None:
    async def main() -> None:
        async with two(tmp_path) as (source, _):
            directory = source.directory
            await directory.add_account("bob@example.test", "secret of bob", None, ADMIN)
            await directory.add_alias("info@example.test", [ALICE, "away@remote.test"], ADMIN)
            await let_wait(source)
            with source.log.snapshot() as snapshot:
                alice, bob = account_of(snapshot, ALICE), account_of(snapshot, "bob@example.test")
            content = b"From: bob@example.test\r\nTo: alice@example.test\r\nSubject: s\r\n\r\nkept as it is\r\n"
            await source.runtime.ask(
                alice.account,
                Deliver(a_mail(content).message, envelope_to=ALICE),
                ADMIN,
                [NewBody(alice.tenant, content)],
            )
            grant = SetRights(EVERY, bob.account, False, "lr")
            await source.runtime.ask(alice.account, grant, ADMIN)
            frames = await exported(source)
            with pytest.raises(NameTaken, match="in this cell already"):
                await imported(source, frames, "second")
            with pytest.raises(InvalidName, match="no domain of the tenant"):
                await imported(source, frames, "second", (("elsewhere.test", "copy.test"),))
            copy = await imported(source, frames, "second", (("example.test", "copy.test"),))
            assert copy.is_whole
            assert (await imported(source, frames, "second", (("example.test", "copy.test"),))).is_whole
            with source.log.snapshot() as snapshot:
                theirs = account_of(snapshot, "alice@copy.test")
                assert theirs.tenant == copy.tenant != alice.tenant
                assert theirs.account != alice.account
                assert held(snapshot, theirs.account) == held(snapshot, alice.account)
                assert snapshot.body(copy.tenant, digest_of(content)) == content
                rights = [key[18:] for key, _ in snapshot.view(theirs.account).range(b"R") if len(key) > 18]
                assert rights == [account_of(snapshot, "bob@copy.test").account]
                (alias,) = tenant_kind.aliases(snapshot.view(copy.tenant))
            assert (alias.address, set(alias.targets)) == ("info@copy.test", {"alice@copy.test", "away@remote.test"})
            for address in (ALICE, "alice@copy.test"):
                assert await directory.logins.password(address, "secret of alice", "imap") is not None
            assert waiting(source, copy.tenant) == []
            assert len(waiting(source, alice.tenant)) == 1
            keys = [
                source.signing.sealing_key(one.tenant, name)
                for one, name in ((alice, "example.test"), (theirs, "copy.test"))
            ]
            assert keys[0] is not None
            assert keys[1] is not None
            assert keys[0].private.private_numbers() == keys[1].private.private_numbers()
            again = await exported(source, "second")
            assert isinstance(again[0], Manifest)
            assert again[0].domains == ("copy.test",)

    run(main())
