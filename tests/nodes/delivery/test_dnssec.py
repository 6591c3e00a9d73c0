"""DANE over a zone that BIND signed and unbound validates, and what a forged answer does."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from nodes.config.node import DnsSection
from nodes.delivery.attempt import RecipientOutcome
from nodes.resolver import NoSuchDomain, Resolver, ResolverFailed
from tests.nodes.delivery.outbound import attempt, config, only, sent
from tests.peers import certificates, dnssec
from tests.peers.dnssec import SignedZone
from tests.peers.smtp_peer import SmtpPeer

pytestmark = pytest.mark.skipif(bool(dnssec.missing()), reason=f"{dnssec.missing()} is not installed")

OURS = certificates.server("mx.example.test")
OTHERS = certificates.server("mx.example.test")


def delivered(folder: Path, tlsa: str, forged: tuple[str, str] | None = None) -> RecipientOutcome:
    with SmtpPeer(tls=certificates.context(folder, OURS)) as peer:
        zone = f"example MX 10 mx.example\nmx.example A 127.0.0.1\n_{peer.port}._tcp.mx.example TLSA {tlsa}\n"
        with SignedZone(zone, folder, forged) as dns:
            settings = config(dns.address, dns={"trust_ad": True, "timeout_s": 5.0}, port=peer.port)
            return only(sent(attempt(), settings))


def test_a_server_that_signed_dns_names_gets_mail_and_is_told_to_be_verified(tmp_path: Path) -> None:
    outcome = delivered(tmp_path, OURS.tlsa(3, 1, 1))
    assert (outcome.status, outcome.tls[-16:]) == ("delivered", "verified by DANE"), outcome.text


def test_a_server_that_signed_dns_does_not_name_gets_none(tmp_path: Path) -> None:
    assert delivered(tmp_path, OTHERS.tlsa(3, 1, 1)).status == "deferred"


def test_an_answer_that_was_forged_stops_the_mail(tmp_path: Path) -> None:
    outcome = delivered(tmp_path, OURS.tlsa(3, 1, 1), forged=("MX\t10 mx.example.test.", "MX\t11 mx.example.test."))
    assert (outcome.status, outcome.enhanced) == ("deferred", "4.4.3")


def test_denials_are_proven_and_forgeries_are_no_answer(tmp_path: Path) -> None:
    with SignedZone("example TXT good\nother TXT good\n", tmp_path, forged=("good", "evil")) as dns:

        async def scenario() -> None:
            resolver = Resolver(DnsSection(nameservers=(dns.address,), trust_ad=True))
            with pytest.raises(NoSuchDomain) as raised:
                await resolver.txt("gone.test")
            assert raised.value.secure
            with pytest.raises(ResolverFailed):
                await resolver.txt("example.test")

        asyncio.run(scenario())
