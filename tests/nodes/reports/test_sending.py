"""Reports in a running node: counted from mail that was judged, sent once to those who want them, taken from others."""

from __future__ import annotations

import asyncio
import smtplib
from collections.abc import Iterator
from typing import Any

import pytest

from actors.directory import account_of
from actors.mailbox import folder_by_name, messages
from actors.reports import REPORTS, Collected, CountResults, SetReporting, collected, received, sent
from nodes.delivery.tls_results import TlsResult
from nodes.reports import outgoing, recipients
from nodes.reports.arrival import ReportArrival
from nodes.reports.incoming import understand
from nodes.reports.recipients import Recipient
from nodes.reports.sender import Sender
from nodes.smtp.checks import Check
from nodes.verdicts.check import VerdictCheck
from tests.nodes.reports import samples
from tests.nodes.smtp.cell import ADMIN, Cell
from tests.nodes.verdicts.letters import letter
from tests.nodes.verdicts.zone import Zone
from tests.peers.dns_server import DnsServer

ZONE = """
sender.test. TXT "v=spf1 -all"
_dmarc.sender.test. TXT "v=DMARC1; p=quarantine; rua=mailto:dmarc@sender.test,mailto:bob@example.test"
sender.test._report._dmarc.example.test. TXT "v=DMARC1"
quiet.test. TXT "v=spf1 -all"
_dmarc.quiet.test. TXT "v=DMARC1; p=none"
_smtp._tls.peer.test. TXT "v=TLSRPTv1; rua=https://peer.test/tls,mailto:tls@peer.test"
odd.test. TXT "v=spf1 -all"
_smtp._tls.odd.test. TXT "v=TLSRPTv1; rua=mailto:..:@odd.test"
_smtp._tls.alpha.test. TXT "v=TLSRPTv1; rua=mailto:tls@alpha.test"
silent.test. TXT "v=spf1 -all"
_dmarc.silent.test. TXT "v=DMARC1; p=none; rua=mailto:a@silent.test"
"""


def _checks(cell: Cell) -> tuple[Check, ...]:
    judging = (VerdictCheck(cell.config, cell.log, cell.resolver, cell.metrics, cell.reports),)
    return (*judging, ReportArrival(cell.config, cell.log, cell.runtime, cell.logger))


@pytest.fixture
def names() -> Iterator[DnsServer]:
    with DnsServer(ZONE) as server:
        yield server


@pytest.fixture
def cell(tmp_path: Any, names: DnsServer) -> Iterator[Cell]:
    with Cell(
        tmp_path,
        checks=_checks,
        sections={"verdicts": {"judge": "always"}},
        dns={"nameservers": [names.address], "timeout_s": 1.0},
    ) as started:
        settings = SetReporting("alice@example.test", "Example", ("alice@example.test",))
        started.call(started.runtime.ask(REPORTS, settings, ADMIN))
        yield started


def send(cell: Cell, data: bytes, sender: str, recipient: str = "alice@example.test") -> None:
    with smtplib.SMTP("127.0.0.1", cell.port("smtp"), local_hostname="mx.sender.test") as client:
        client.sendmail(sender, [recipient], data)


def send_reports(cell: Cell, *, unfinished_days: bool = True) -> dict[str, int]:
    async def work() -> dict[str, int]:
        await cell.reports.flush()
        sender = Sender(cell.services)
        try:
            return await sender.send(unfinished_days=unfinished_days)
        finally:
            await sender.stop()

    return cell.call(work())


def inbox(cell: Cell, address: str) -> list[bytes]:
    with cell.log.snapshot() as snapshot:
        target = account_of(snapshot, address)
        view = snapshot.view(target.account)
        folder = folder_by_name(view, "INBOX")
        assert folder is not None
        return [snapshot.body(target.tenant, one.digest) or b"" for one in messages(view, folder.id)]


def of(cell: Cell, read: Any) -> Any:
    with cell.log.snapshot() as snapshot:
        return list(read(snapshot.view(REPORTS)))


def test_what_was_judged_is_reported_to_the_author_s_domain(cell: Cell) -> None:
    for _ in range(3):
        send(cell, letter("a@sender.test"), "a@sender.test")
    send(cell, letter("a@quiet.test"), "a@quiet.test")
    assert send_reports(cell) == {"sent": 1}
    (report,) = [understand(one) for one in inbox(cell, "bob@example.test")]
    assert (report.kind, report.organisation, report.domain) == ("dmarc", "Example", "sender.test")
    (row,) = report.content["rows"]
    assert (row["source_ip"], row["count"], row["disposition"]) == ("127.0.0.1", 3, "quarantine")
    assert (row["dkim"], row["spf"], row["spf_domain"]) == ("fail", "fail", "sender.test")
    assert [one.recipients for one in cell.queued()["sender.test"]]
    (done,) = of(cell, sent)
    assert (done.outcome, done.results, set(done.recipients)) == (
        "sent", 3, {"dmarc@sender.test", "bob@example.test"},
    )  # fmt: skip
    assert send_reports(cell) == {}


def test_only_a_day_that_is_over_is_reported_by_itself(cell: Cell) -> None:
    send(cell, letter("a@sender.test"), "a@sender.test")
    assert send_reports(cell, unfinished_days=False) == {}
    (found,) = of(cell, collected)
    yesterday = CountResults("tls", found.subject.day - 1, "peer.test", (), 1, 2, ((_success(), 4),))
    cell.call(cell.runtime.ask(REPORTS, yesterday, ADMIN))
    assert send_reports(cell, unfinished_days=False) == {"sent": 1}


def _success() -> tuple[Any, ...]:
    return tuple(_agreed_on())[1:]


def _agreed_on(domain: str = "peer.test") -> TlsResult:
    return TlsResult(
        domain, "sts", ("version: STSv1", "mode: enforce"), ("mx.peer.test",), "", "mx.peer.test", "::1", ""
    )


def test_what_the_transport_saw_of_tls_is_reported(cell: Cell) -> None:
    for result in (
        _agreed_on(),
        _agreed_on(),
        _agreed_on()._replace(failure="certificate-expired", reason="last year"),
    ):
        cell.loop.call_soon_threadsafe(cell.reports.record_tls_result, result)
    assert send_reports(cell) == {"sent": 1}
    (item,) = cell.queued()["peer.test"]
    with cell.log.snapshot() as snapshot:
        body = snapshot.body(item.tenant, item.digest)
    assert body is not None
    assert b"TLS-Report-Domain: peer.test" in body
    assert b"TLS-Required: No\r\n" in body
    report = understand(body)
    assert (report.kind, report.content["succeeded"], report.content["failed"]) == ("tls", 2, 1)
    assert report.content["rows"][0]["result"] == "certificate-expired"


def test_a_report_that_nobody_wants_ends_and_one_that_the_dns_is_silent_about_waits(
    cell: Cell, names: DnsServer
) -> None:
    cell.loop.call_soon_threadsafe(cell.reports.record_tls_result, _agreed_on("nobody.test"))
    assert send_reports(cell) == {"nobody wants it": 1}
    names.misbehave("_smtp._tls.peer.test", "servfail")
    cell.loop.call_soon_threadsafe(cell.reports.record_tls_result, _agreed_on())
    assert send_reports(cell) == {"waits for the DNS": 1}
    (waiting,) = of(cell, collected)
    assert waiting.subject.domain == "peer.test"


def test_a_domain_that_wants_its_report_at_what_is_no_address_keeps_no_other_s_back(cell: Cell) -> None:
    for domain in ("odd.test", "peer.test"):
        cell.loop.call_soon_threadsafe(cell.reports.record_tls_result, _agreed_on(domain))
    assert send_reports(cell) == {"nobody wants it": 1, "sent": 1}


def test_a_report_that_can_not_be_made_keeps_no_other_back(cell: Cell, monkeypatch: pytest.MonkeyPatch) -> None:
    make = outgoing.make

    def fragile(found: Collected, *rest: Any) -> outgoing.Report:
        if found.subject.domain == "alpha.test":
            raise IndexError("list index out of range")
        return make(found, *rest)

    monkeypatch.setattr(outgoing, "make", fragile)
    for domain in ("alpha.test", "peer.test"):
        cell.loop.call_soon_threadsafe(cell.reports.record_tls_result, _agreed_on(domain))
    assert send_reports(cell) == {"failed": 1, "sent": 1}


def test_after_days_of_silence_a_report_ends(cell: Cell, names: DnsServer) -> None:
    names.misbehave("_smtp._tls.peer.test", "servfail")
    cell.loop.call_soon_threadsafe(cell.reports.record_tls_result, _agreed_on())
    cell.call(cell.reports.flush())
    (today,) = of(cell, collected)
    long_ago = CountResults("tls", today.subject.day - 5, "peer.test", (), 1, 2, ((_success(), 4),))
    cell.call(cell.runtime.ask(REPORTS, long_ago, ADMIN))
    assert send_reports(cell, unfinished_days=False) == {"the DNS did not say who wants it": 1}


def test_nothing_is_collected_before_somebody_is_named_who_reports(cell: Cell) -> None:
    cell.call(cell.runtime.ask(REPORTS, SetReporting("", "", ()), ADMIN))
    send(cell, letter("a@sender.test"), "a@sender.test")
    assert send_reports(cell) == {}
    assert of(cell, collected) == []


def test_what_was_collected_is_there_after_a_restart_and_goes_out_then(tmp_path: Any, names: DnsServer) -> None:
    dns = {"nameservers": [names.address], "timeout_s": 1.0}
    with Cell(tmp_path, dns=dns) as first:
        first.call(first.runtime.ask(REPORTS, SetReporting("alice@example.test", "Example", ()), ADMIN))
        first.loop.call_soon_threadsafe(first.reports.record_tls_result, _agreed_on())
    with Cell(tmp_path, dns=dns) as again:
        assert send_reports(again) == {"sent": 1}


def test_two_nodes_that_send_at_once_send_once(cell: Cell) -> None:
    cell.loop.call_soon_threadsafe(cell.reports.record_tls_result, _agreed_on())

    async def both() -> None:
        await cell.reports.flush()
        one, other = Sender(cell.services), Sender(cell.services)
        await asyncio.gather(one.send(unfinished_days=True), other.send(unfinished_days=True))
        await one.stop()
        await other.stop()

    cell.call(both())
    assert len(cell.queued()["peer.test"]) == 1
    assert len(of(cell, sent)) == 1


@pytest.mark.parametrize(
    ("message", "kind", "domain"),
    [
        (samples.aggregate(), "dmarc", "example.test"),
        (samples.tls(), "tls", "example.test"),
        (samples.ARF, "arf", "example.test"),
    ],
)
def test_a_report_that_arrives_is_taken_once_and_delivered_each_time(
    cell: Cell, message: bytes, kind: str, domain: str
) -> None:
    send(cell, message, "x@nowhere.test")
    send(cell, message, "x@nowhere.test")
    (found,) = of(cell, received)
    assert (found.kind, found.domain, found.address) == (kind, domain, "alice@example.test")
    assert len(inbox(cell, "alice@example.test")) == 2


def test_a_report_to_another_address_and_one_that_is_none_are_mail_like_any_other(cell: Cell) -> None:
    send(cell, samples.aggregate(), "x@nowhere.test", "bob@example.test")
    send(cell, samples.mailed(b"\x1f\x8bnot gzip"), "x@nowhere.test")
    assert of(cell, received) == []
    assert (len(inbox(cell, "alice@example.test")), len(inbox(cell, "bob@example.test"))) == (1, 1)


@pytest.mark.parametrize(
    ("rua", "found"),
    [
        ("mailto:a@sender.test", [Recipient("a@sender.test")]),
        ("mailto:a@mail.sender.test!10m", [Recipient("a@mail.sender.test", 10 * 1024 * 1024)]),
        ("mailto:a%2Bb@sender.test", [Recipient("a+b@sender.test")]),
        ("https://sender.test/, ftp:x, mailto:, mailto:nobody", []),
        ("mailto:a@agreed.test", [Recipient("a@agreed.test")]),
        ("mailto:a@instead.test", [Recipient("b@instead.test")]),
        ("mailto:victim@never.asked.test", []),
    ],
)
def test_a_report_goes_to_another_organisation_only_where_that_agrees(rua: str, found: list[Recipient]) -> None:
    zone = Zone(
        {
            "_dmarc.sender.test": [("TXT", f"v=DMARC1; p=none; rua={rua}")],
            "sender.test._report._dmarc.agreed.test": [("TXT", "v=DMARC1;")],
            "sender.test._report._dmarc.instead.test": [
                ("TXT", "v=DMARC1; rua=mailto:b@instead.test,mailto:c@elsewhere.test")
            ],
        }
    )
    assert asyncio.run(recipients.for_dmarc(zone, "sender.test")) == found
