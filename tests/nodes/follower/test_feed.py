"""What leaves a cell for a follower: what was granted in full, of all else commitments, and the chain fits."""

from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

from actors.kind import decode
from actors.mailbox import MailboxOpened, MessageDelivered
from actors.passwords import read_verifiers
from actors.sealing import unseal
from actors.tenant import PasswordSet
from eventlog.record import Event
from nodes.follower import wire
from tests.actors.cell import ADMIN
from tests.eventlog.test_archive import archive
from tests.nodes.follower.conftest import FOREIGN, OURS, TRANSFER_KEY

Run = Callable[[Coroutine[Any, Any, Any]], Any]


def types(events: list[Event]) -> list[str]:
    return [event.type for event in events]


def test_a_tenant_is_sent_whole_and_of_another_nothing_but_hashes(run: Run, source: Any, tmp_path: Path) -> None:
    async def story() -> None:
        async with source(tmp_path) as at:
            await at.deliver("alice@example.test", data=OURS)
            await at.deliver("eve@other.test", data=FOREIGN)
            found = at.sent(at.scope())
            assert found.bodies == [OURS]
            assert types(found.events).count("MailboxOpened") == 3
            foreign = [
                b"eve",
                b"other.test",
                FOREIGN,
                at.cell.tenant("eve@other.test"),
                at.cell.account("eve@other.test"),
            ]
            assert [one for one in foreign if one in found.raw] == []
            assert found.walk.position == at.cell.position

    run(story())


def test_a_record_of_two_tenants_is_taken_apart(run: Run, source: Any, tmp_path: Path) -> None:
    async def story() -> None:
        async with source(tmp_path) as at:
            await at.deliver("alice@example.test", "eve@other.test", data=OURS)
            found = at.sent(at.scope())
            entry = found.entries[-1]
            assert [type(part) for part in entry.events] == [tuple, bytes]
            assert [type(part) for part in entry.bodies] == [tuple, bytes]
            assert not entry.whole_header  # its guards name the other mailbox
            assert at.cell.account("eve@other.test") not in found.raw
            assert found.walk.position == at.cell.position

    run(story())


def test_an_account_is_sent_without_its_neighbours(run: Run, source: Any, tmp_path: Path) -> None:
    async def story() -> None:
        async with source(tmp_path) as at:
            await at.deliver("alice@example.test", data=OURS)
            await at.deliver("bob@example.test", data=b"for bob")
            await at.deliver("alice@example.test", "bob@example.test", data=b"for both")
            found = at.sent(at.scope("alice@example.test"))
            assert found.bodies == [OURS, b"for both"]
            opened = [decode(e.type, e.version, e.data) for e in found.events if e.type == MailboxOpened.TYPE]
            assert [one.address for one in opened] == ["alice@example.test"]  # type: ignore[attr-defined]
            assert types(found.events).count(MessageDelivered.TYPE) == 2
            assert b"bob@example.test" not in found.raw
            assert at.cell.account("bob@example.test") not in found.raw

    run(story())


def test_what_was_archived_is_sent_as_before(run: Run, source: Any, tmp_path: Path) -> None:
    async def story() -> None:
        async with source(tmp_path) as at:
            await at.deliver("alice@example.test", data=OURS)
            await at.deliver("eve@other.test", data=FOREIGN)
            before = at.sent(at.scope())
            await archive(at.cell.log, (1, 3), (4, before.walk.position))
            after = at.sent(at.scope())
            assert after.bodies == [OURS]
            assert after.events == before.events
            assert after.walk.position == before.walk.position + 1

    run(story())


def test_a_large_body_goes_in_pieces(run: Run, source: Any, tmp_path: Path) -> None:
    async def story() -> None:
        async with source(tmp_path) as at:
            data = OURS * (3 * wire.PIECE_BYTES // len(OURS))
            await at.deliver("alice@example.test", data=data)
            assert at.sent(at.scope()).bodies == [data]

    run(story())


def test_a_password_is_sealed_anew_and_its_commitment_still_fits(run: Run, source: Any, tmp_path: Path) -> None:
    async def story() -> None:
        async with source(tmp_path) as at:
            await at.cell.directory.set_password("alice@example.test", "correct horse", ADMIN)
            found = at.sent(at.scope())
            (event,) = [event for event in found.events if event.type == PasswordSet.TYPE]
            fact: Any = decode(event.type, event.version, event.data)
            verifiers = read_verifiers(unseal(TRANSFER_KEY, fact.sealed, event.tenant + fact.account))
            assert verifiers.argon2id.startswith("$argon2id$")

    run(story())


def test_it_goes_on_from_where_a_follower_is(run: Run, source: Any, tmp_path: Path) -> None:
    async def story() -> None:
        async with source(tmp_path) as at:
            before = at.sent(at.scope())
            await at.deliver("alice@example.test", data=OURS)
            after = at.sent(at.scope(), before.walk.position, before.walk.chain)
            assert (types(after.events), after.bodies) == ([MessageDelivered.TYPE], [OURS])

    run(story())


@pytest.mark.parametrize("part", ["data", "time", "left out", "chain"])
def test_a_record_that_was_altered_on_the_way_does_not_verify(run: Run, source: Any, tmp_path: Path, part: str) -> None:
    async def story() -> None:
        async with source(tmp_path) as at:
            before = at.sent(at.scope())
            await at.deliver("alice@example.test", "eve@other.test", data=OURS)
            (entry,) = at.sent(at.scope(), before.walk.position, before.walk.chain).entries
            with pytest.raises(wire.WireError, match="does not verify"):
                wire.Walk(before.walk.position, before.walk.chain).take(altered(entry, part))

    run(story())


def altered(entry: wire.Entry, part: str) -> wire.Entry:
    event = Event(*entry.events[0])
    match part:
        case "data":
            return entry._replace(events=(tuple(event._replace(data=event.data[:-1] + b"\x01")), entry.events[1]))
        case "time":
            return entry._replace(place=(*entry.place[:3], entry.place[3] + 1, entry.place[4]))
        case "left out":
            return entry._replace(events=(entry.events[0], bytes(32)))
        case _:
            return entry._replace(chain=bytes(32))


def test_an_entry_that_is_left_out_is_missed(run: Run, source: Any, tmp_path: Path) -> None:
    async def story() -> None:
        async with source(tmp_path) as at:
            before: Any = at.sent(at.scope())
            await at.deliver("alice@example.test", data=b"1")
            await at.deliver("alice@example.test", data=b"2")
            _, second = at.sent(at.scope(), before.walk.position, before.walk.chain).entries
            with pytest.raises(wire.WireError, match="is next"):
                wire.Walk(before.walk.position, before.walk.chain).take(second)

    run(story())
