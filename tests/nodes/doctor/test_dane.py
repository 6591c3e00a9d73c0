"""What the doctor says of TLSA records: every kind of them, against what a real server shows on STARTTLS."""

from __future__ import annotations

import asyncio
import itertools
from pathlib import Path

import pytest

from nodes.config.node import DnsSection
from nodes.doctor import Finding
from nodes.doctor.dane import dane
from nodes.doctor.hosts import Host, ports
from nodes.resolver import Resolver
from tests.peers import certificates
from tests.peers.certificates import Pair
from tests.peers.dns_server import DnsServer
from tests.peers.smtp_peer import SmtpPeer

MX = "mx.one.test"
HOST = Host(MX, 10, ("127.0.0.1",), True, MX)
CA = certificates.authority()
OWN = certificates.server(MX, issuer=CA)
SELF_SIGNED = certificates.server(MX)
OTHER = certificates.server(MX)
KINDS = list(itertools.product((2, 3), (0, 1), (0, 1, 2)))


def found(
    folder: Path,
    records: list[str],
    *shown: Pair,
    host: Host = HOST,
    secure: bool = True,
    names: tuple[str, ...] = (MX,),
) -> list[Finding]:
    """For TLSA `records` of each of `names`, where the server shows a certificate and its chain; none: no STARTTLS."""
    context = certificates.context(folder, *shown) if shown else None
    with SmtpPeer(tls=context) as peer:
        lines = [f"_{peer.port}._tcp.{name}. TLSA {one}" for name in names for one in records]

        async def ask(server: DnsServer) -> list[Finding]:
            resolver = Resolver(DnsSection(nameservers=(server.address,), trust_ad=True))
            try:
                _, chains = await ports([host], peer.port)
                return await dane(resolver, "one.test", [host], peer.port, chains)
            finally:
                resolver.close()

        with DnsServer("\n".join([f"{MX}. A 127.0.0.1", *lines]), secure=secure) as server:
            return asyncio.run(ask(server))


def statuses(findings: list[Finding]) -> list[str]:
    return [one.status for one in findings]


def test_each_kind_that_smtp_uses_is_compared_with_what_the_server_shows(tmp_path: Path) -> None:
    for usage, selector, matching in KINDS:
        right = CA if usage == 2 else OWN
        (fits,) = found(tmp_path, [right.tlsa(usage, selector, matching)], OWN, CA)
        assert (fits.area, fits.status) == ("DANE", "ok"), fits
        assert f"{usage} {selector} {matching} " in fits.text
        wrong = found(tmp_path, [OTHER.tlsa(usage, selector, matching)], OWN, CA)
        assert statuses(wrong) == ["error", "note"], wrong
        assert wrong[0].records[0].endswith("TLSA " + OWN.tlsa(3, 1, 1))


@pytest.mark.parametrize(
    ("record", "reason"),
    [
        (OWN.tlsa(0, 0, 1), "usage 0 is not for SMTP"),
        (OWN.tlsa(1, 1, 2), "usage 1 is not for SMTP"),
        ("3 2 1 " + "ab" * 32, "no selector 2"),
        ("3 1 3 " + "ab" * 32, "no matching type 3"),
    ],
    ids=["usage-0", "usage-1", "selector-2", "matching-3"],  # a digest of a fresh certificate is no name of a test
)
def test_what_can_not_be_used_is_said_with_what_to_put_there(tmp_path: Path, record: str, reason: str) -> None:
    alone = found(tmp_path, [record], OWN)
    assert statuses(alone) == ["warning", "warning"], alone
    assert reason in alone[0].text
    assert "verify nobody" in alone[1].text
    assert alone[1].records[0].endswith("TLSA " + OWN.tlsa(3, 1, 1))
    beside = found(tmp_path, [record, OWN.tlsa(3, 1, 1)], OWN)
    assert sorted(statuses(beside)) == ["ok", "warning"], beside


def test_one_record_that_fits_is_enough_and_the_other_is_one_to_come(tmp_path: Path) -> None:
    findings = found(tmp_path, [OWN.tlsa(3, 1, 1), OTHER.tlsa(3, 1, 1)], OWN)
    assert sorted(statuses(findings)) == ["note", "ok"], findings


def test_a_chain_that_does_not_lead_to_the_anchor_is_an_error(tmp_path: Path) -> None:
    anchor = CA.tlsa(2, 0, 1)
    assert statuses(found(tmp_path, [anchor], OWN))[0] == "error"  # it does not send its authority
    assert statuses(found(tmp_path, [anchor], SELF_SIGNED, CA))[0] == "error"


def test_a_server_without_starttls_is_refused_by_who_knows_its_records(tmp_path: Path) -> None:
    error, _ = found(tmp_path, [OWN.tlsa(3, 1, 1)])
    assert (error.status, "STARTTLS" in error.text) == ("error", True)


def test_records_that_dnssec_does_not_prove_count_for_nothing(tmp_path: Path) -> None:
    assert statuses(found(tmp_path, [OWN.tlsa(3, 1, 1)], OWN, secure=False)) == ["warning"]
    unproved = found(tmp_path, [OWN.tlsa(3, 1, 1)], OWN, host=HOST._replace(secure=False))
    assert statuses(unproved) == ["warning", "ok"]
    assert "no sender asks for" in unproved[0].text


def test_the_records_of_the_name_that_an_alias_leads_to_come_first(tmp_path: Path) -> None:
    alias = HOST._replace(canonical="real.one.test")
    (led,) = found(tmp_path, [OWN.tlsa(3, 1, 1)], OWN, host=alias, names=("real.one.test",))
    assert (led.status, "real.one.test" in led.text) == ("ok", True)
    assert statuses(found(tmp_path, [OWN.tlsa(3, 1, 1)], OWN, host=alias)) == ["ok"]


def test_without_records_the_one_to_publish_is_told(tmp_path: Path) -> None:
    (none,) = found(tmp_path, [], OWN)
    assert none.status == "note"
    assert none.records[0].endswith("TLSA " + OWN.tlsa(3, 1, 1))
