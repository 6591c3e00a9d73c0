"""Submitted mail is signed by the keys of its author's domain, and by nobody else's."""

import smtplib
from collections.abc import Iterator
from email import message_from_bytes
from pathlib import Path

import dkim
import pytest

from actors.dkim import all_keys, dkim_stream
from nodes.dkim_admin import DkimAdmin, DkimRotation
from nodes.dkim_keys import record_name, record_value, zone_line
from tests.nodes.smtp.cell import ADMIN, Cell
from tests.peers.dns_server import DnsServer

ALICE, PASSWORD, DOMAIN = "alice@example.test", "secret of alice", "example.test"
DAY_MS = 86_400_000


@pytest.fixture
def names() -> Iterator[DnsServer]:
    with DnsServer("nothing.test. A 192.0.2.1", negative_ttl_s=0) as server:
        yield server


@pytest.fixture
def cell(tmp_path: Path, names: DnsServer) -> Iterator[Cell]:
    with Cell(tmp_path, dns={"nameservers": [names.address]}) as running:
        yield running


def submit(cell: Cell, author: str, recipient: str = "far@away.test") -> None:
    with smtplib.SMTP("127.0.0.1", cell.port("submission")) as client:
        client.login(ALICE, PASSWORD)
        client.sendmail(ALICE, [recipient], f"From: {author}\r\nSubject: x\r\n\r\nbody\r\n".encode())


def queued_lines(cell: Cell) -> bytes:
    (item,) = cell.queued()["away.test"]
    return item.trace


def signatures(lines: bytes) -> list[str]:
    return message_from_bytes(lines + b"\r\n").get_all("DKIM-Signature", [])


def records(cell: Cell) -> dict[bytes, bytes]:
    keys = DkimAdmin(cell.services).keys(DOMAIN)
    return {
        record_name(DOMAIN, key.selector).encode(): record_value(key.algorithm, key.public).encode() for key in keys
    }


def test_mail_is_signed_by_both_keys_and_verifies(cell: Cell) -> None:
    cell.call(DkimAdmin(cell.services).generate(DOMAIN, ADMIN, active=True))
    submit(cell, ALICE)
    lines, known = queued_lines(cell), records(cell)
    assert len(signatures(lines)) == 2
    whole = lines + f"From: {ALICE}\r\nSubject: x\r\n\r\nbody\r\n".encode()
    verifier = dkim.DKIM(whole)
    assert [verifier.verify(at, dnsfunc=lambda name, timeout=5: known[name]) for at in (0, 1)] == [True, True]


def test_mail_of_another_author_is_not_signed(cell: Cell) -> None:
    cell.call(DkimAdmin(cell.services).generate(DOMAIN, ADMIN, active=True))
    submit(cell, "somebody@else.test")
    assert signatures(queued_lines(cell)) == []


def test_a_key_that_nobody_can_look_up_does_not_sign(cell: Cell) -> None:
    cell.call(DkimAdmin(cell.services).generate(DOMAIN, ADMIN))
    submit(cell, ALICE)
    assert signatures(queued_lines(cell)) == []


def test_keys_take_over_when_their_records_are_in_dns(cell: Cell, names: DnsServer) -> None:
    admin = DkimAdmin(cell.services)
    cell.call(admin.generate(DOMAIN, ADMIN))
    found = cell.call(admin.validate(DOMAIN, ADMIN))
    assert ["has no TXT record" in one.problem for one in found] == [True, True]
    assert {key.state for key in admin.keys(DOMAIN)} == {"pending"}
    for key in admin.keys(DOMAIN):
        names.add(zone_line(DOMAIN, key).replace(" IN ", " "))
    found = cell.call(admin.validate(DOMAIN, ADMIN))
    assert [(one.problem, one.key.state) for one in found] == [("", "active")] * 2


def test_a_schedule_makes_lets_take_over_and_deletes(cell: Cell, names: DnsServer) -> None:
    admin = DkimAdmin(cell.services)
    (first,) = cell.call(admin.generate(DOMAIN, ADMIN, algorithms=["ed25519-sha256"], active=True))
    cell.call(admin.set_schedule(DOMAIN, 90 * DAY_MS, 7 * DAY_MS, ADMIN))
    rotation = cell.call(started(cell))
    now_ms = admin.keys(DOMAIN)[0].activated_ms
    cell.call(rotation.look(now_ms + 89 * DAY_MS))
    assert len(admin.keys(DOMAIN)) == 1
    cell.call(rotation.look(now_ms + 90 * DAY_MS))
    second = admin.keys(DOMAIN)[1]
    assert second.state == "pending"
    names.add(zone_line(DOMAIN, second).replace(" IN ", " "))
    cell.call(rotation.look(now_ms + 90 * DAY_MS))
    assert {key.selector: key.state for key in admin.keys(DOMAIN)} == {first: "retired", second.selector: "active"}
    cell.call(rotation.look(now_ms + 6 * DAY_MS))
    assert len(admin.keys(DOMAIN)) == 2
    cell.call(rotation.look(now_ms + 8 * DAY_MS))
    assert [key.selector for key in admin.keys(DOMAIN)] == [second.selector]
    cell.call(rotation.stop())


async def started(cell: Cell) -> DkimRotation:
    return DkimRotation(cell.services)


def test_a_private_key_stands_sealed_on_the_log(cell: Cell) -> None:
    cell.call(DkimAdmin(cell.services).generate(DOMAIN, ADMIN, active=True))
    with cell.log.snapshot() as snapshot:
        sealed = [key.sealed for key in all_keys(snapshot.view(dkim_stream(DOMAIN)))]
        events = b"".join(
            event.data for stored in snapshot.records() if stored.record is not None for event in stored.record.events
        )
    assert all(one in events for one in sealed)
    assert b"PRIVATE KEY" not in events
