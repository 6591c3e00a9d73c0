"""TLS to other servers: opportunistic, DANE (RFC 7672), MTA-STS (RFC 8461), REQUIRETLS (RFC 8689)."""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import Any

import pytest

from actors.mail_options import MailOptions
from nodes.delivery.attempt import RecipientOutcome
from nodes.delivery.tls_results import TlsResult
from tests.nodes.delivery.outbound import DATA, attempt, config, only, sent
from tests.peers import certificates
from tests.peers.certificates import Pair
from tests.peers.dns_server import DnsServer
from tests.peers.https_peer import HttpsPeer
from tests.peers.smtp_peer import EXTENSIONS, SmtpPeer

HOST = "mx.example.test"
ZONE = f"example.test. MX 10 {HOST}.\n{HOST}. A 127.0.0.1\n"
POLICY = "version: STSv1\r\nmode: {mode}\r\nmx: {mx}\r\nmax_age: 86400\r\n"

CA = certificates.authority()
BETWEEN = certificates.authority("Between", CA)
GOOD = certificates.server(HOST, issuer=CA)
BELOW = certificates.server(HOST, issuer=BETWEEN)
OTHER_NAME = certificates.server("other.example.test", issuer=CA)
EXPIRED = certificates.server(HOST, issuer=CA, expired=True)
SELF_SIGNED = certificates.server(HOST)
WRONG = {"other name": OTHER_NAME, "expired": EXPIRED, "self-signed": SELF_SIGNED}


class Internet:
    """A domain with its name server, mail server and, if it has a policy, web server."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.results: list[TlsResult] = []
        self.web_asked = 0
        self.asked_for: list[str] = []  # by SNI
        (folder / "ca.pem").write_bytes(CA.pem)

    def send(
        self,
        shown: Pair | None,
        *chain: Pair,
        zone: str = "",
        secure: bool | list[str] = False,
        policy: str = "",
        web: Pair | None = None,
        options: MailOptions = MailOptions(),  # noqa: B008
        extensions: tuple[str, ...] = EXTENSIONS,
        tlsa: str = "",
        broken_tlsa: bool = False,
        data: bytes = DATA,
    ) -> tuple[RecipientOutcome, SmtpPeer]:
        context = certificates.context(self._folder, shown, *chain) if shown else None
        if context is not None:
            context.sni_callback = lambda _, name, __: self.asked_for.append(name)
        web_context = certificates.context(self._folder, web or certificates.server("mta-sts.example.test", issuer=CA))
        zone = (zone or ZONE) + "mta-sts.example.test. A 127.0.0.1\n"
        if policy:
            zone += '_mta-sts.example.test. TXT "v=STSv1; id=1;"\n'
        with (
            SmtpPeer(tls=context, extensions=extensions) as peer,
            HttpsPeer({"/.well-known/mta-sts.txt": policy}, web_context) as site,
            DnsServer(zone, secure=secure) as dns,
        ):
            if tlsa:
                dns.add(f"_{peer.port}._tcp.{HOST}. TLSA {tlsa}")
            if broken_tlsa:
                dns.misbehave(f"_{peer.port}._tcp.{HOST}", "servfail")
            settings = config(
                dns.address,
                dns={"trust_ad": True},
                port=peer.port,
                trust=self._folder / "ca.pem",
                mta_sts_port=site.port,
            )
            outcome = only(sent(attempt(options=options, data=data), settings, record=self.results.append))
            self.web_asked = len(site.asked)
        return outcome, peer

    def reported(self) -> list[tuple[str, str]]:
        return [(one.policy_type, one.failure) for one in self.results]


@pytest.fixture
def internet(tmp_path: Path) -> Internet:
    return Internet(tmp_path)


# Opportunistic


@pytest.mark.parametrize("shown", [GOOD, *WRONG.values()])
def test_without_a_policy_tls_is_used_whatever_the_certificate(internet: Internet, shown: Pair) -> None:
    outcome, peer = internet.send(shown)
    assert (outcome.status, peer.taken[0].tls) == ("delivered", True)
    assert outcome.tls.startswith("TLSv1.3 TLS_AES_256_GCM_SHA384, not verified")
    assert internet.reported() == [("no-policy-found", "")]


def test_a_server_without_tls_gets_the_mail_in_clear(internet: Internet) -> None:
    outcome, peer = internet.send(None)
    assert (outcome.status, outcome.tls, peer.taken[0].tls) == ("delivered", "", False)
    assert internet.reported() == [("no-policy-found", "starttls-not-supported")]


def test_a_server_whose_tls_is_broken_gets_the_mail_in_clear_over_another_connection(internet: Internet) -> None:
    old = certificates.context(internet._folder, GOOD)
    old.maximum_version = ssl.TLSVersion.TLSv1_2
    old.set_ciphers("AES128-SHA256")  # which nobody offers any more
    with DnsServer(ZONE) as dns, SmtpPeer(tls=old) as peer:
        settings = config(dns.address, port=peer.port)
        outcome = only(sent(attempt(), settings, record=internet.results.append))
    assert (outcome.status, outcome.tls, peer.sessions) == ("delivered", "", 2)
    assert internet.reported()[0] == ("no-policy-found", "validation-failure")


def test_a_server_that_refuses_starttls_gets_the_mail_in_the_same_session(internet: Internet) -> None:
    with DnsServer(ZONE) as dns, SmtpPeer({"STARTTLS": "454 4.7.0 Not now"}, extensions=("STARTTLS",)) as peer:
        outcome = only(sent(attempt(), config(dns.address, port=peer.port)))
    assert (outcome.status, outcome.tls, peer.sessions) == ("delivered", "", 1)


def test_what_a_server_sends_in_clear_behind_starttls_is_never_taken_for_its_word(internet: Internet) -> None:
    injected = b"220 Go ahead\r\n250-evil.test\r\n250 AUTH PLAIN\r\n"
    context = certificates.context(internet._folder, GOOD)
    with DnsServer(ZONE) as dns, SmtpPeer({"STARTTLS": injected}, tls=context) as peer:
        outcome = only(sent(attempt(), config(dns.address, port=peer.port), record=internet.results.append))
    assert (outcome.status, outcome.tls) == ("delivered", "")  # in clear, over another connection
    assert "in clear behind" in internet.results[0].reason


# DANE


@pytest.mark.parametrize("matching", [0, 1, 2])
@pytest.mark.parametrize("selector", [0, 1])
@pytest.mark.parametrize("shown", [GOOD, *WRONG.values()])
def test_dane_takes_the_servers_own_certificate_whatever_stands_in_it(
    internet: Internet, shown: Pair, selector: int, matching: int
) -> None:
    outcome, peer = internet.send(shown, secure=True, tlsa=shown.tlsa(3, selector, matching))
    assert (outcome.status, peer.taken[0].tls) == ("delivered", True)
    assert outcome.tls.endswith("verified by DANE")
    assert internet.reported() == [("tlsa", "")]


@pytest.mark.parametrize("matching", [0, 1, 2])
@pytest.mark.parametrize("selector", [0, 1])
@pytest.mark.parametrize("anchor", [CA, BETWEEN])
def test_dane_takes_a_certificate_below_the_anchor_that_it_names(
    internet: Internet, anchor: Pair, selector: int, matching: int
) -> None:
    outcome, _ = internet.send(BELOW, BETWEEN, CA, secure=True, tlsa=anchor.tlsa(2, selector, matching))
    assert (outcome.status, outcome.tls[-16:]) == ("delivered", "verified by DANE")


def test_an_anchor_that_the_record_holds_whole_need_not_be_sent(internet: Internet) -> None:
    assert internet.send(GOOD, secure=True, tlsa=CA.tlsa(2, 0, 0))[0].status == "delivered"


@pytest.mark.parametrize("shown", [OTHER_NAME, EXPIRED, SELF_SIGNED])
def test_below_an_anchor_names_dates_and_signatures_count(internet: Internet, shown: Pair) -> None:
    outcome, peer = internet.send(shown, CA, secure=True, tlsa=CA.tlsa(2, 0, 1))
    assert (outcome.status, outcome.enhanced, peer.taken) == ("deferred", "4.7.5", [])
    assert internet.reported() == [("tlsa", "validation-failure")]


def test_a_certificate_that_dane_does_not_name_gets_no_mail(internet: Internet) -> None:
    outcome, peer = internet.send(GOOD, secure=True, tlsa=SELF_SIGNED.tlsa(3, 1, 1))
    assert (outcome.status, peer.taken) == ("deferred", [])
    assert "no TLSA record fits" in outcome.text


def test_a_host_with_dane_and_without_tls_gets_no_mail(internet: Internet) -> None:
    outcome, peer = internet.send(None, secure=True, tlsa=GOOD.tlsa(3, 1, 1))
    assert (outcome.status, outcome.enhanced, peer.taken) == ("deferred", "4.7.5", [])
    assert internet.reported() == [("tlsa", "starttls-not-supported")]


@pytest.mark.parametrize("usage", [0, 1])
def test_records_that_can_not_be_used_demand_tls_and_no_more(internet: Internet, usage: int) -> None:
    tlsa = GOOD.tlsa(usage, 1, 1)
    assert internet.send(SELF_SIGNED, secure=True, tlsa=tlsa)[0].status == "delivered"
    assert internet.send(None, secure=True, tlsa=tlsa)[0].status == "deferred"


def test_a_question_for_tlsa_that_fails_is_no_leave_to_go_without(internet: Internet) -> None:
    outcome, peer = internet.send(GOOD, secure=True, broken_tlsa=True)
    assert (outcome.status, peer.sessions) == ("deferred", 0)
    assert internet.reported() == [("tlsa", "dnssec-invalid")]


@pytest.mark.parametrize("host", ["mx.example.test", "mx.elsewhere.test"])
@pytest.mark.parametrize("secure", [[], ["elsewhere.test"], ["example.test"]])
def test_dane_counts_only_where_every_step_to_the_host_is_secure(
    internet: Internet, secure: list[str], host: str
) -> None:
    zone = f"example.test. MX 10 {host}.\n{host}. A 127.0.0.1\n"
    outcome, _ = internet.send(GOOD, zone=zone, secure=secure, tlsa=SELF_SIGNED.tlsa(3, 1, 1))
    every_step = secure == ["example.test"] and host == HOST
    assert outcome.status == ("deferred" if every_step else "delivered")


def test_behind_an_alias_the_server_is_asked_for_the_name_whose_records_count(internet: Internet) -> None:
    zone = f"example.test. MX 10 alias.example.test.\nalias.example.test. CNAME {HOST}.\n{HOST}. A 127.0.0.1\n"
    outcome, _ = internet.send(SELF_SIGNED, zone=zone, secure=True, tlsa=SELF_SIGNED.tlsa(3, 1, 1))
    assert (outcome.status, outcome.tls[-16:]) == ("delivered", "verified by DANE")
    assert internet.asked_for == [HOST]
    internet.send(GOOD, zone=zone)
    assert internet.asked_for[1:] == ["alias.example.test"]  # RFC 8461 4.1, RFC 7435: as the MX has it


# MTA-STS


def test_a_host_that_an_enforced_policy_names_is_verified(internet: Internet) -> None:
    outcome, peer = internet.send(GOOD, policy=POLICY.format(mode="enforce", mx="*.example.test"))
    assert (outcome.status, peer.taken[0].tls) == ("delivered", True)
    assert outcome.tls.endswith("verified by PKIX")
    assert [(one.policy_type, one.failure, one.mx_patterns) for one in internet.results] == [
        ("sts", "", ("*.example.test",))
    ]


@pytest.mark.parametrize(
    ("shown", "failure"),
    [
        (OTHER_NAME, "certificate-host-mismatch"),
        (EXPIRED, "certificate-expired"),
        (SELF_SIGNED, "certificate-not-trusted"),
        (None, "starttls-not-supported"),
    ],
)
@pytest.mark.parametrize("mode", ["enforce", "testing"])
def test_a_wrong_certificate_stops_the_mail_where_the_policy_is_enforced_and_is_reported_anyway(
    internet: Internet, shown: Pair | None, failure: str, mode: str
) -> None:
    outcome, peer = internet.send(shown, policy=POLICY.format(mode=mode, mx=HOST))
    assert outcome.status == ("deferred" if mode == "enforce" else "delivered")
    assert len(peer.taken) == (mode == "testing")
    assert internet.reported()[0] == ("sts", failure)


@pytest.mark.parametrize(("mode", "status"), [("enforce", "deferred"), ("testing", "delivered"), ("none", "delivered")])
def test_a_host_that_the_policy_does_not_name_gets_no_mail_where_it_is_enforced(
    internet: Internet, mode: str, status: str
) -> None:
    outcome, _ = internet.send(GOOD, policy=POLICY.format(mode=mode, mx="*.mx.example.test"))
    assert outcome.status == status


@pytest.mark.parametrize(
    ("policy", "web"),
    [
        ("version: STSv2\r\nmode: enforce\r\nmx: x.test\r\nmax_age: 86400\r\n", None),
        ("x" * 70_000, None),
        (POLICY.format(mode="enforce", mx="x.test"), certificates.server("mta-sts.example.test")),
        (POLICY.format(mode="enforce", mx="x.test"), certificates.server("other.test", issuer=CA)),
    ],
)
def test_a_policy_that_can_not_be_had_is_reported_and_is_none(
    internet: Internet, policy: str, web: Pair | None
) -> None:
    outcome, _ = internet.send(GOOD, policy=policy, web=web)
    assert outcome.status == "delivered"
    assert internet.results[0].failure in ("sts-policy-invalid", "sts-webpki-invalid")
    assert internet.web_asked == (web is None)


def test_dane_comes_before_a_policy(internet: Internet) -> None:
    policy = POLICY.format(mode="enforce", mx="x.test")
    outcome, _ = internet.send(SELF_SIGNED, secure=True, tlsa=SELF_SIGNED.tlsa(3, 1, 1), policy=policy)
    assert (outcome.status, outcome.tls[-16:]) == ("delivered", "verified by DANE")
    outcome, _ = internet.send(
        GOOD, secure=True, tlsa=SELF_SIGNED.tlsa(3, 1, 1), policy=POLICY.format(mode="enforce", mx=HOST)
    )
    assert outcome.status == "deferred"


# REQUIRETLS

REQUIRED = MailOptions(require_tls=True)
OFFERED = (*EXTENSIONS, "REQUIRETLS")


@pytest.mark.parametrize(
    "proof",
    [
        {"secure": True},
        {"policy": POLICY.format(mode="enforce", mx=HOST)},
        {"secure": True, "tlsa": GOOD.tlsa(3, 1, 1)},
    ],
)
def test_a_message_that_requires_tls_goes_to_a_proven_server_that_requires_it_too(
    internet: Internet, proof: dict[str, Any]
) -> None:
    outcome, peer = internet.send(GOOD, options=REQUIRED, extensions=OFFERED, **proof)
    assert (outcome.status, peer.taken[0].tls) == ("delivered", True)
    assert "verified by" in outcome.tls
    assert peer.taken[0].mail.endswith(" REQUIRETLS")


@pytest.mark.parametrize(
    ("shown", "extensions", "secure", "status", "enhanced"),
    [
        (GOOD, EXTENSIONS, True, "failed", "5.7.30"),  # it does not go on requiring it
        (GOOD, OFFERED, False, "failed", "5.7.10"),  # nothing proves that it is the domain's
        (SELF_SIGNED, OFFERED, True, "deferred", "4.7.5"),
        (None, OFFERED, True, "deferred", "4.7.5"),
    ],
)
def test_a_message_that_requires_tls_goes_nowhere_else(
    internet: Internet, shown: Pair | None, extensions: tuple[str, ...], secure: bool, status: str, enhanced: str
) -> None:
    outcome, peer = internet.send(shown, options=REQUIRED, extensions=extensions, secure=secure)
    assert (outcome.status, outcome.enhanced, peer.taken) == (status, enhanced, [])


# TLS-Required: No

WAIVING = b"Subject: your TLS\r\nTLS-Required: no\r\n\r\nx\r\n"


@pytest.mark.parametrize(
    "policy",
    [
        {"secure": True, "tlsa": SELF_SIGNED.tlsa(3, 1, 1)},
        {"secure": True, "broken_tlsa": True},
        {"policy": POLICY.format(mode="enforce", mx="other.test")},
        {"policy": POLICY.format(mode="enforce", mx=HOST)},
    ],
    ids=["wrong TLSA", "no answer", "not named", "wrong certificate"],
)
def test_a_message_for_which_arriving_counts_more_goes_whatever_a_policy_says(
    internet: Internet, policy: dict[str, Any]
) -> None:
    wrong = certificates.server(HOST)
    assert internet.send(wrong, **policy)[0].status == "deferred"
    internet.results.clear()
    outcome, peer = internet.send(wrong, data=WAIVING, **policy)
    assert (outcome.status, peer.taken[0].tls, peer.taken[0].data) == ("delivered", True, WAIVING)
    assert "" not in [one.failure for one in internet.results]  # this session is in no report
    assert internet.send(wrong, data=WAIVING.replace(b"no", b"yes"), **policy)[0].status == "deferred"
    assert internet.send(wrong, data=b"Subject: x\r\n\r\n" + WAIVING, **policy)[0].status == "deferred"


def test_who_requires_tls_in_the_envelope_does_not_waive_it_in_the_header(internet: Internet) -> None:
    outcome, _ = internet.send(SELF_SIGNED, secure=True, data=WAIVING, options=REQUIRED, extensions=OFFERED)
    assert outcome.status == "deferred"
