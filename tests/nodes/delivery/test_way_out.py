"""What a submitter asks of delivery, from the submission port over the queue to the next server: REQUIRETLS (RFC 8689),
DELIVERBY (RFC 2852), FUTURERELEASE (RFC 4865), MT-PRIORITY (RFC 6710); that server's LIMITS (RFC 9422), and what
becomes of mail where the DNS leads nowhere.
"""

from __future__ import annotations

import smtplib
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from actors.directory import tenant_named
from actors.queue import EVERY_QUEUE, ResumeQueue, SuspendQueue
from actors.routes import ROUTES, SetRoute
from nodes import resolver
from nodes.delivery.generated import context, submit
from nodes.delivery.local import LocalFirst
from nodes.delivery.manager import Manager
from nodes.delivery.transport import MailTransport
from tests.nodes.delivery.cell import ALICE, BOB, MESSAGE, wait_until
from tests.nodes.smtp.cell import ADMIN, Cell
from tests.peers import certificates
from tests.peers.dns_server import DnsServer
from tests.peers.smtp_peer import EXTENSIONS, SmtpPeer, Taken

ZONE = "far.test. MX 10 mx.far.test.\nmx.far.test. A 127.0.0.1"
CA = certificates.authority()
ALL = (*EXTENSIONS, "REQUIRETLS", "DELIVERBY", "MT-PRIORITY")


class World(Cell):
    """A cell that sends by DNS to `peer`, which is far.test. `sources`: its pools of addresses."""

    def __init__(
        self, folder: Path, peer: SmtpPeer, dns: DnsServer, sources: dict[str, list[str]] | None = None, **queue: Any
    ) -> None:
        trust = folder / "trust.pem"
        trust.write_bytes(CA.pem)
        super().__init__(
            folder,
            dns={"nameservers": [dns.address], "trust_ad": True, "timeout_s": 1.0},
            sections={
                "queue": {"retry_first_s": 0.2, "retry_max_s": 0.5, "lease_s": 4, "takeover_s": 0.2, **queue},
                "delivery": {"port": peer.port, "trust": str(trust), "sources": sources or {}},
            },
        )
        self.peer = peer

    def __enter__(self) -> World:
        super().__enter__()
        return self

    async def _start(self) -> None:
        await super()._start()
        self.transport = MailTransport.of(self.services)
        self.manager = Manager(self.services, LocalFirst(self.services, self.transport))
        await self.manager.start()

    async def _stop(self) -> None:
        await self.manager.stop(1.0)
        await self.transport.stop()
        await super()._stop()

    def submit(self, *options: str, to: tuple[str, ...] = (BOB,)) -> None:
        with smtplib.SMTP("127.0.0.1", self.port("submission")) as client:
            client.starttls(context=self.client_context())
            client.login(ALICE, "secret of alice")
            client.sendmail(ALICE, list(to), MESSAGE, options)

    def taken(self, count: int = 1) -> list[Taken]:
        wait_until(lambda: len(self.peer.taken) >= count)
        wait_until(lambda: not any(self.queued().values()))
        return self.peer.taken

    def returned(self) -> bytes:
        """The report that the submitter gets."""
        wait_until(lambda: self.inbox(ALICE))
        ((_, report),) = self.inbox(ALICE)
        return report


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    context = certificates.context(tmp_path, certificates.server("mx.far.test", issuer=CA))
    with SmtpPeer(tls=context, extensions=ALL) as peer, DnsServer(ZONE, secure=True) as dns:
        (tmp_path / "cell").mkdir()
        with World(tmp_path / "cell", peer, dns) as started:
            yield started


def test_a_message_that_requires_tls_goes_on_over_tls_and_requires_it_there(world: World) -> None:
    world.submit("REQUIRETLS")
    (taken,) = world.taken()
    assert (taken.tls, " REQUIRETLS" in taken.mail) == (True, True)


def test_a_message_that_requires_tls_comes_back_from_a_server_that_does_not(world: World) -> None:
    world.peer.extensions = (*EXTENSIONS, "STARTTLS")
    world.submit("REQUIRETLS", "RET=FULL")
    report = world.returned()
    assert b"Status: 5.7.30" in report
    assert b"Subject: out" in report
    assert b"Hello" not in report  # RFC 8689 5: whatever RET says
    assert world.peer.taken == []


@pytest.mark.parametrize("offered", [ALL, EXTENSIONS], ids=["offered", "not offered"])
def test_a_report_on_a_message_that_requires_tls_requires_it_and_is_not_lost_for_it(
    world: World, offered: tuple[str, ...]
) -> None:
    world.peer.extensions = (*offered, "STARTTLS")
    world.peer.replies["RCPT"] = lambda line: "550 5.1.1 No" if BOB in line else "250 2.1.5 Ok"
    world.call(world.directory.add_alias("team@example.test", [BOB], ADMIN))
    with smtplib.SMTP("127.0.0.1", world.port("smtp")) as client:
        client.starttls(context=world.client_context())
        client.sendmail("stranger@far.test", ["team@example.test"], MESSAGE, ["REQUIRETLS"])
    (report,) = world.taken()
    assert report.mail.startswith("MAIL FROM:<>")
    assert ("REQUIRETLS" in report.mail) == (offered is ALL)
    assert (report.tls, b"Hello" in report.data) == (True, False)


def test_the_time_that_is_left_goes_on_with_a_message(world: World) -> None:
    world.submit("BY=600;N")
    (taken,) = world.taken()
    left_s = int(taken.mail.partition(" BY=")[2].partition(";")[0])
    assert 500 < left_s <= 600


def test_what_is_not_delivered_in_the_time_it_has_comes_back_and_is_tried_no_more(world: World) -> None:
    world.peer.replies["RCPT"] = "450 4.2.0 Later"
    world.submit("BY=2;R")
    report = world.returned()
    assert b"Action: failed" in report
    assert b"Status: 5.4.7" in report
    assert not any(world.queued().values())


def test_what_was_to_be_returned_if_late_is_not_even_tried_when_it_is(world: World) -> None:
    world.call(world.runtime.ask(EVERY_QUEUE, SuspendQueue(""), ADMIN))
    world.submit("BY=1;R")
    (item,) = world.queued()["far.test"]
    wait_until(lambda: time.time() * 1000 > item.options.deliver_by_ms)
    world.call(world.runtime.ask(EVERY_QUEUE, ResumeQueue(), ADMIN))
    assert b"Status: 5.4.7" in world.returned()
    assert world.peer.sessions == 0


def test_who_asked_for_a_time_is_told_of_a_server_that_keeps_none(world: World) -> None:
    world.peer.extensions = (*EXTENSIONS, "STARTTLS")
    world.submit("BY=600;N")
    assert b"Action: relayed" in world.returned()
    assert len(world.peer.taken) == 1


def test_a_message_of_the_future_is_not_sent_before_it(world: World) -> None:
    world.submit("HOLDFOR=2")
    (item,) = world.queued()["far.test"]
    world.taken()
    assert time.time() * 1000 >= item.options.hold_until_ms
    assert item.options.hold_until_ms - item.queued_ms > 1000


def test_the_urgent_goes_first_and_says_so_to_the_next_server(tmp_path: Path) -> None:
    with SmtpPeer(extensions=ALL) as peer, DnsServer(ZONE) as dns:
        with World(tmp_path, peer, dns, domain_concurrency=1) as world:
            world.call(world.runtime.ask(EVERY_QUEUE, SuspendQueue(""), ADMIN))
            for priority in (-3, 0, 5):
                world.submit(f"MT-PRIORITY={priority}")
            world.call(world.runtime.ask(EVERY_QUEUE, ResumeQueue(), ADMIN))
            said = [one.mail.partition("MT-PRIORITY=")[2] for one in world.taken(3)]
    assert said == ["5", "", "-3"]  # 0 is what it is without


def test_a_server_gets_no_more_recipients_and_messages_at_once_than_it_says(world: World) -> None:
    world.peer.extensions = (*EXTENSIONS, "LIMITS RCPTMAX=2 MAILMAX=1")
    world.submit(to=tuple(f"user{number}@far.test" for number in range(5)))
    found = world.taken(3)
    assert sorted(len(one.rcpts) for one in found) == [1, 2, 2]
    assert len({one.session for one in found}) == 3


@pytest.mark.parametrize(
    ("zone", "status"),
    [
        ("nowhere.test. A 192.0.2.1", b"5.1.2"),  # NXDOMAIN
        ("far.test. MX 0 .", b"5.1.10"),
        ("far.test. MX 10 mx.example.test.\nmx.example.test. A 127.0.0.1", b"5.4.6"),  # ourselves
        ("far.test. MX 10 host.far.test.\nother.far.test. A 192.0.2.1", b"5.4.4"),
    ],
)
def test_mail_for_a_domain_that_takes_none_comes_back_at_once_and_says_why(
    tmp_path: Path, zone: str, status: bytes
) -> None:
    with SmtpPeer() as peer, DnsServer(zone) as dns, World(tmp_path, peer, dns) as world:
        world.submit()
        assert b"Status: " + status + b"\r\n" in world.returned()
        assert b"Diagnostic-Code: X-mailraft; " in world.returned()  # no server said it
        assert not any(world.queued().values())
        assert peer.sessions == 0


def test_mail_waits_for_a_name_server_that_does_not_answer_and_goes_when_it_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resolver, "FAILURE_S", 0.1)
    with SmtpPeer() as peer, DnsServer(ZONE) as dns, World(tmp_path, peer, dns) as world:
        dns.misbehave("far.test", "silent")
        world.submit()
        wait_until(lambda: any(one.attempts for one in world.queued()["far.test"]))
        (item,) = world.queued()["far.test"]
        assert "no answer" in item.recipients[0].reason
        dns.misbehave("far.test", None)
        assert len(world.taken()) == 1


def test_mail_goes_over_ipv6_where_there_is_nothing_else(tmp_path: Path) -> None:
    zone = "far.test. MX 10 mx.far.test.\nmx.far.test. AAAA ::1"
    with SmtpPeer(host="::1") as peer, DnsServer(zone) as dns, World(tmp_path, peer, dns) as world:
        world.submit()
        assert len(world.taken()) == 1
        assert peer.clients == ["::1"]


def test_a_tenants_smart_host_that_is_dead_keeps_no_mail_of_others_waiting(world: World) -> None:
    other = world.call(world.directory.add_tenant("other", ["other.test"], ADMIN))
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        route = SetRoute(f"tenant:{other.hex()}", "127.0.0.1", unused.getsockname()[1], "may", "", "", b"")
        world.call(world.runtime.ask(ROUTES, route, ADMIN))
        who = context(world.services, other, "a test")
        world.call(submit(world.services, "", ["eve@far.test"], MESSAGE, who))
        wait_until(lambda: any(one.attempts for one in world.queued()["far.test"]))
        world.submit()
        wait_until(lambda: world.peer.taken)
    assert [one.recipients[0].address for one in world.queued()["far.test"]] == ["eve@far.test"]


def test_a_tenants_mail_leaves_from_the_pool_that_its_route_names(tmp_path: Path) -> None:
    sources = {"default": ["127.0.0.8"], "bulk": ["127.0.0.9/bulk.example.test"]}
    with SmtpPeer() as peer, DnsServer(ZONE) as dns, World(tmp_path, peer, dns, sources) as world:
        world.submit()
        world.taken()
        with world.log.snapshot() as snapshot:
            tenant = tenant_named(snapshot, "example")
        route = SetRoute(f"tenant:{tenant.hex()}", "", 0, "", "bulk", "", b"")
        world.call(world.runtime.ask(ROUTES, route, ADMIN))
        world.submit()
        world.taken(2)
        assert peer.clients == ["127.0.0.8", "127.0.0.9"]
        assert "EHLO bulk.example.test" in peer.lines
