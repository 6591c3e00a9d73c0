"""Smart hosts: mail that goes another way than its MX, with a login, as the admin API says and items say themselves."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import pytest

from actors.mail_options import MailOptions
from nodes.delivery.attempt import RecipientOutcome
from nodes.delivery.login import Login
from nodes.delivery.routes import Way
from tests.nodes.delivery.outbound import attempt, config, on_loop, only, sent
from tests.peers import certificates
from tests.peers.dns_server import DnsServer
from tests.peers.smtp_peer import SmtpPeer

CA = certificates.authority()
ZONE = "example.test. MX 10 elsewhere.test.\nsmart.test. A 127.0.0.1"
LOGIN = Login("user", "pencil")
# RFC 7677 section 3
SERVER_FIRST = b"r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096"
PROOF = b"dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ="
CLIENT_LAST = b"c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,p=" + PROOF
SERVER_LAST = b"v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4="


def encoded(data: bytes) -> str:
    return base64.b64encode(data).decode()


def through(way: Way, peer: SmtpPeer, **more: Any) -> RecipientOutcome:
    with DnsServer(ZONE) as dns:
        return only(sent(attempt(), config(dns.address, **more), find_way=lambda _: way._replace(port=peer.port)))


def test_a_route_leads_to_its_host_whatever_the_mx_says() -> None:
    with SmtpPeer() as peer:
        outcome = through(Way("smart.test"), peer)
    assert (outcome.status, outcome.host, len(peer.taken)) == ("delivered", "smart.test", 1)


@pytest.mark.parametrize("route", ["smart.test:{port}", "127.0.0.1:{port}", "[127.0.0.1]:{port}"])
def test_an_item_may_have_a_way_of_its_own(route: str) -> None:
    with DnsServer(ZONE) as dns, SmtpPeer() as peer:
        one = attempt(route=route.format(port=peer.port))
        assert only(sent(one, config(dns.address))).status == "delivered"


@pytest.mark.parametrize("route", ["smart.test:0", "smart.test:99999", "a b", "[::1", ":25"])
def test_a_way_that_is_none_delays_the_message(route: str) -> None:
    with DnsServer(ZONE) as dns:
        outcome = only(sent(attempt(route=route), config(dns.address)))
    assert (outcome.status, outcome.enhanced) == ("deferred", "4.3.5")


def test_a_smart_host_that_is_not_there_delays_and_never_fails_the_message() -> None:
    with DnsServer(ZONE) as dns:
        outcome = only(sent(attempt(route="gone.test"), config(dns.address)))
    assert (outcome.status, outcome.enhanced) == ("deferred", "4.4.4")


@pytest.mark.parametrize(("shown", "status"), [("smart.test", "delivered"), ("other.test", "deferred")])
def test_a_route_may_demand_that_the_hosts_certificate_is_right(tmp_path: Path, shown: str, status: str) -> None:
    (tmp_path / "ca.pem").write_bytes(CA.pem)
    context = certificates.context(tmp_path, certificates.server(shown, issuer=CA))
    with SmtpPeer(tls=context) as peer:
        assert through(Way("smart.test", tls="verify"), peer, trust=tmp_path / "ca.pem").status == status


def test_a_route_in_clear_does_not_even_try_tls(tmp_path: Path) -> None:
    context = certificates.context(tmp_path, certificates.server("smart.test"))
    with SmtpPeer(tls=context) as peer:
        assert through(Way("smart.test", tls="clear"), peer).status == "delivered"
        assert "STARTTLS" not in peer.lines


def test_a_message_that_requires_tls_does_not_go_by_a_route_that_verifies_nobody() -> None:
    with DnsServer(ZONE) as dns, SmtpPeer() as peer:
        one = attempt(options=MailOptions(require_tls=True))
        way = Way("smart.test", peer.port)
        outcome = only(sent(one, config(dns.address), find_way=lambda _: way))
    assert (outcome.status, outcome.enhanced, peer.sessions) == ("failed", "5.7.10", 0)


def test_plain_tells_who_we_are() -> None:
    with SmtpPeer({"AUTH": "235 2.7.0 Welcome"}, extensions=("AUTH PLAIN LOGIN",)) as peer:
        assert through(Way("smart.test", login=LOGIN), peer).status == "delivered"
        assert peer.lines[1] == "AUTH PLAIN AHVzZXIAcGVuY2ls"


def test_login_is_spoken_where_nothing_better_is() -> None:
    answers = {encoded(b"user"): "334 UGFzc3dvcmQ6", encoded(b"pencil"): "235 2.7.0 Welcome"}
    replies = {"AUTH": "334 VXNlcm5hbWU6", "*": lambda line: answers[line]}
    with SmtpPeer(replies, extensions=("AUTH=LOGIN",)) as peer:  # type: ignore[arg-type]
        assert through(Way("smart.test", login=LOGIN), peer).status == "delivered"


def scram(*, first: bytes = SERVER_FIRST, last: bytes = SERVER_LAST) -> dict[str, Any]:
    answers = {encoded(CLIENT_LAST): f"334 {encoded(last)}", "": "235 2.7.0 Welcome"}
    return {"AUTH": f"334 {encoded(first)}", "*": lambda line: answers.get(line, "535 5.7.8 No")}


@pytest.fixture
def _nonce(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nodes.delivery.login.secrets.token_urlsafe", lambda _: "rOprNGfwEbeRWgbNEkqO")


@pytest.mark.usefixtures("_nonce")
def test_scram_proves_the_password_without_telling_it() -> None:
    with SmtpPeer(scram(), extensions=("AUTH PLAIN SCRAM-SHA-256",)) as peer:
        assert through(Way("smart.test", login=LOGIN), peer).status == "delivered"
    assert not any(encoded(b"pencil") in line or "pencil" in line for line in peer.lines)


@pytest.mark.usefixtures("_nonce")
@pytest.mark.parametrize(
    "wrong",
    [
        {"last": b"v=" + b"A" * 43 + b"="},
        {"first": SERVER_FIRST.replace(b"rOpr", b"evil")},
        {"first": SERVER_FIRST.replace(b"i=4096", b"i=99999999")},
        {"first": b"nonsense"},
    ],
)
def test_a_server_that_does_not_know_the_password_itself_gets_no_mail(wrong: dict[str, bytes]) -> None:
    with SmtpPeer(scram(**wrong), extensions=("AUTH SCRAM-SHA-256",)) as peer:
        outcome = through(Way("smart.test", login=LOGIN), peer)
    assert (outcome.status, outcome.enhanced, peer.taken) == ("deferred", "4.7.8", [])


@pytest.mark.parametrize("extensions", [("AUTH PLAIN",), ("AUTH GSSAPI",), ()])
def test_a_login_that_fails_delays_the_message_and_says_why_without_the_password(extensions: tuple[str, ...]) -> None:
    with SmtpPeer({"AUTH": "535 5.7.8 Wrong"}, extensions=extensions) as peer:
        outcome = through(Way("smart.test", login=LOGIN), peer)
    assert (outcome.status, outcome.enhanced, peer.taken) == ("deferred", "4.7.8", [])
    assert "pencil" not in outcome.text
    assert "pencil" not in repr(LOGIN)


def test_connections_with_different_logins_are_never_mixed() -> None:
    ways = [Way("smart.test", login=LOGIN), Way("smart.test"), Way("smart.test", login=Login("user", "other"))]

    with DnsServer(ZONE) as dns, SmtpPeer({"AUTH": "235 Welcome"}, extensions=("AUTH PLAIN",)) as peer:

        async def scenario(transport: Any) -> None:
            for _ in range(2 * len(ways)):
                assert only(await transport.send(attempt())).status == "delivered"

        turn = iter([*ways, *ways])
        on_loop(scenario, config(dns.address), find_way=lambda _: next(turn)._replace(port=peer.port))
        assert sorted(one.session for one in peer.taken) == [1, 1, 2, 2, 3, 3]
