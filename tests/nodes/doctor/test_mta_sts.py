"""What the doctor says of MTA-STS: the record, the policy that a web server gives, and the hosts that it names."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from nodes.config.node import DnsSection
from nodes.delivery.opening import verifying_context
from nodes.delivery.policy_host import PATH, PolicyHost
from nodes.doctor import Finding
from nodes.doctor.hosts import Host
from nodes.doctor.mta_sts import mta_sts
from nodes.resolver import Resolver
from tests.peers import certificates
from tests.peers.certificates import Pair
from tests.peers.dns_server import DnsServer
from tests.peers.https_peer import HttpsPeer
from tests.peers.smtp_peer import SmtpPeer

CA = certificates.authority()
SITE = certificates.server("mta-sts.one.test", issuer=CA)
MX = certificates.server("mx.one.test", issuer=CA)
HOST = Host("mx.one.test", 10, ("127.0.0.1",), False)
RECORD = '_mta-sts.one.test. TXT "v=STSv1; id=20261121000000Z"'
POLICY = "version: STSv1\r\nmode: enforce\r\nmx: mx.one.test\r\nmax_age: 1209600\r\n"


def found(
    folder: Path,
    policy: str = POLICY,
    *,
    record: str = RECORD,
    site: Pair = SITE,
    shown: Pair | None = MX,
    hosts: tuple[Host, ...] = (HOST,),
    status: int = 200,
    content_type: str = "text/plain",
    modified: str = "",
) -> list[Finding]:
    (folder / "ca.pem").write_bytes(CA.pem)
    trust = verifying_context(folder / "ca.pem")
    texts = {PATH: policy} if policy else {}
    with (
        SmtpPeer(tls=certificates.context(folder, shown) if shown else None) as peer,
        HttpsPeer(texts, certificates.context(folder, site)) as web,
        DnsServer(f"mta-sts.one.test. A 127.0.0.1\n{record}") as dns,
    ):
        web.status, web.content_type, web.modified = status, content_type, modified

        async def ask() -> list[Finding]:
            resolver = Resolver(DnsSection(nameservers=(dns.address,)))
            policies = PolicyHost(resolver, trust, web.port)
            try:
                return await mta_sts(resolver, policies, "one.test", list(hosts), peer.port, trust)
            finally:
                await policies.close()
                resolver.close()

        return asyncio.run(ask())


def wrong(findings: list[Finding]) -> list[tuple[str, str]]:
    return [(one.status, one.text) for one in findings if one.status != "ok"]


def test_a_record_its_policy_and_hosts_that_fit_are_in_order(tmp_path: Path) -> None:
    assert wrong(found(tmp_path)) == []
    assert wrong(found(tmp_path, POLICY.replace("mx.one.test", "*.one.test"))) == []


def test_a_domain_without_it_is_told_what_to_put_where(tmp_path: Path) -> None:
    (note,) = found(tmp_path, "", record="other.test. A 192.0.2.1")
    assert note.status == "note"
    assert note.records[0].startswith('_mta-sts.one.test. 3600 IN TXT "v=STSv1; id=20')
    (file,) = note.files
    assert file.where == "https://mta-sts.one.test/.well-known/mta-sts.txt"
    assert wrong(found(tmp_path, file.text)) == [
        ("warning", "the policy is in testing: mail goes wherever it is led, kept for 1209600 seconds, for mx.one.test")
    ]


@pytest.mark.parametrize(
    ("record", "status", "text"),
    [
        ("other.test. A 192.0.2.1", "warning", "nobody looks for the policy"),
        ('_mta-sts.one.test. TXT "v=STSv1; id=not-an-id"', "error", "not one sound record"),
        (RECORD + '\n_mta-sts.one.test. TXT "v=STSv1; id=2"', "error", "not one sound record"),
    ],
)
def test_a_policy_without_a_sound_record_is_not_looked_for(tmp_path: Path, record: str, status: str, text: str) -> None:
    ((how, said),) = wrong(found(tmp_path, record=record))
    assert (how, text in said) == (status, True), said


@pytest.mark.parametrize(
    ("site", "status", "content_type", "reason"),
    [
        (certificates.server("mta-sts.one.test"), 200, "text/plain", "self-signed"),
        (certificates.server("one.test", issuer=CA), 200, "text/plain", "not valid for"),
        (certificates.server("mta-sts.one.test", issuer=CA, expired=True), 200, "text/plain", "expired"),
        (SITE, 301, "text/plain", "301"),
        (SITE, 404, "text/plain", "404"),
        (SITE, 200, "text/html", "text/html"),
    ],
)
def test_a_policy_that_can_not_be_had_says_why(
    tmp_path: Path, site: Pair, status: int, content_type: str, reason: str
) -> None:
    findings = found(tmp_path, site=site, status=status, content_type=content_type)
    ((how, said),) = wrong(findings)
    assert (how, reason in said) == ("error", True), said
    assert findings[-1].files


@pytest.mark.parametrize(
    ("old", "new", "status", "text"),
    [
        ("STSv1", "STSv2", "error", "says version: STSv2"),
        ("version: STSv1\r\n", "", "error", "says version: nothing"),
        ("enforce", "enforced", "error", "says mode: enforced"),
        ("1209600", "two weeks", "error", "says max_age: two weeks"),
        ("1209600", "3600", "warning", "kept for 3600 seconds"),
        ("1209600", "99999999", "note", "at most 31557600"),
        ("mx: mx.one.test\r\n", "", "error", "names no host"),
        ("mx: mx.one.test", "mx: mx.one.test\r\nmx: https://mx", "error", "https://mx, which is no name"),
        ("mx: mx.one.test", "mx: *.mx.one.test", "error", "does not name mx.one.test"),
        ("mx: mx.one.test", "mx: mx.one.test\r\nmx: old.one.test", "note", "old.one.test, and no MX"),
        ("enforce", "none", "note", "says that there is none"),
    ],
)
def test_each_line_that_is_wrong_is_named(tmp_path: Path, old: str, new: str, status: str, text: str) -> None:
    said = wrong(found(tmp_path, POLICY.replace(old, new)))
    assert any(how == status and text in one for how, one in said), said


@pytest.mark.parametrize(("mode", "status"), [("enforce", "error"), ("testing", "warning")])
def test_a_host_that_senders_do_not_trust_is_told(tmp_path: Path, mode: str, status: str) -> None:
    policy = POLICY.replace("enforce", mode)
    shows = {
        "self-signed certificate": certificates.server("mx.one.test"),
        "Hostname mismatch": certificates.server("other.one.test", issuer=CA),
        "no STARTTLS": None,
    }
    for reason, shown in shows.items():
        said = wrong(found(tmp_path, policy, shown=shown))
        assert any(how == status and "mx.one.test [127.0.0.1] fails" in one and reason in one for how, one in said), (
            said
        )


def test_a_host_that_does_not_answer_is_not_said_to_fail_the_policy(tmp_path: Path) -> None:
    assert wrong(found(tmp_path, hosts=(HOST._replace(addresses=("127.0.0.77",)),))) == []


def test_a_policy_that_changed_since_its_id_was_given_needs_a_new_one(tmp_path: Path) -> None:
    ((how, said),) = wrong(found(tmp_path, modified="Mon, 23 Nov 2026 10:00:00 GMT"))
    assert (how, "has changed since its id" in said) == ("warning", True)
    assert wrong(found(tmp_path, modified="Fri, 20 Nov 2026 10:00:00 GMT")) == []
    assert (
        wrong(found(tmp_path, record=RECORD.replace("20261121000000Z", "7"), modified="Mon, 23 Nov 2026 10:00:00 GMT"))
        == []
    )


def test_a_name_server_that_fails_is_an_error_and_not_a_missing_record(tmp_path: Path) -> None:
    async def ask() -> list[Finding]:
        with DnsServer("one.test. A 192.0.2.1", all_fault="servfail") as server:
            resolver = Resolver(DnsSection(nameservers=(server.address,), timeout_s=1))
            (tmp_path / "ca.pem").write_bytes(CA.pem)
            trust = verifying_context(tmp_path / "ca.pem")
            found = await mta_sts(resolver, PolicyHost(resolver, trust, 1), "one.test", [], 25, trust)
            resolver.close()
            return found

    (error,) = asyncio.run(ask())
    assert (error.status, error.files, "could not be looked up" in error.text) == ("error", (), True)
