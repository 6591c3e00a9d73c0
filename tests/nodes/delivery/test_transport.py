"""Mail to other servers over real connections: where it goes, what is tried, and what becomes of each recipient."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

from nodes.config.node import ListenSection
from nodes.delivery.transport import MailTransport
from nodes.metrics import Metrics
from tests.nodes.delivery.outbound import DATA, attempt, config, on_loop, only, sent
from tests.peers.dns_server import DnsServer, Fault
from tests.peers.smtp_peer import CLOSE, STALL, SmtpPeer

ZONE = "example.test. MX 10 mx.example.test.\nmx.example.test. A 127.0.0.1"


def test_a_message_arrives_byte_for_byte_at_the_domains_mx() -> None:
    with DnsServer(ZONE) as dns, SmtpPeer() as peer:
        outcome = only(sent(attempt(), config(dns.address, port=peer.port)))
    assert (outcome.status, outcome.code, outcome.enhanced, outcome.host) == (
        "delivered",
        250,
        "2.0.0",
        "mx.example.test",
    )
    assert [one.data for one in peer.taken] == [DATA]
    assert peer.lines[:3] == [
        "EHLO mx.sender.test",
        f"MAIL FROM:<a@sender.test> SIZE={len(DATA)}",
        "RCPT TO:<bob@example.test>",
    ]


def test_equal_hosts_come_in_random_order_and_worse_ones_later(monkeypatch: pytest.MonkeyPatch) -> None:
    zone = """
        example.test. MX 10 a.example.test.
        example.test. MX 10 b.example.test.
        example.test. MX 20 last.example.test.
        a.example.test. A 127.0.0.1
        b.example.test. A 127.0.0.1
        last.example.test. A 127.0.0.1
    """
    with DnsServer(zone) as dns, SmtpPeer() as peer:
        hosts = {only(sent(attempt(), config(dns.address, port=peer.port))).host for _ in range(20)}
    assert hosts == {"a.example.test", "b.example.test"}


def test_the_next_host_is_tried_where_the_first_can_not_be_reached() -> None:
    zone = "example.test. MX 10 dead.example.test.\nexample.test. MX 20 mx.example.test.\n"
    zone += "dead.example.test. A 127.0.0.2\nmx.example.test. A 127.0.0.1"
    with DnsServer(zone) as dns, SmtpPeer() as peer:
        assert only(sent(attempt(), config(dns.address, port=peer.port))).host == "mx.example.test"


@pytest.mark.parametrize("greeting", ["421 4.3.2 Busy", "554 5.3.2 No mail here", "not SMTP at all", "\0close"])
def test_a_host_that_does_not_greet_is_passed_over_for_the_next_address(greeting: str) -> None:
    zone = "example.test. MX 10 mx.example.test.\nmx.example.test. A 127.0.0.1\nmx.example.test. AAAA ::1"
    with SmtpPeer({"connect": greeting}, host="::1") as first, DnsServer(zone) as dns:
        with SmtpPeer(port=first.port) as second:
            assert only(sent(attempt(), config(dns.address, port=first.port))).status == "delivered"
            assert (first.sessions, len(second.taken)) == (1, 1)


def test_a_host_with_one_dead_family_is_reached_over_the_other() -> None:
    zone = "example.test. AAAA 2001:db8::1\nexample.test. A 127.0.0.1"
    with DnsServer(zone) as dns, SmtpPeer() as peer:
        assert only(sent(attempt(), config(dns.address, port=peer.port))).status == "delivered"


@pytest.mark.parametrize(
    ("zone", "status", "code", "enhanced"),
    [
        ("other.test. A 127.0.0.1", "failed", 550, "5.1.2"),  # NXDOMAIN
        ("example.test. MX 0 .", "failed", 556, "5.1.10"),
        ("example.test. TXT no-mail-host", "failed", 550, "5.1.2"),
        ("example.test. MX 10 gone.example.test.", "failed", 550, "5.4.4"),
        ("example.test. MX 10 MX.Sender.test.\nmx.sender.test. A 127.0.0.1", "failed", 554, "5.4.6"),
        ("example.test. MX 10 ours.example.test.\nours.example.test. A 192.0.2.25", "failed", 554, "5.4.6"),
        (
            "example.test. MX 10 mx.sender.test.\nexample.test. MX 20 worse.test.\n"
            "mx.sender.test. A 127.0.0.1\nworse.test. A 127.0.0.1",
            "failed",
            554,
            "5.4.6",
        ),
    ],
)
def test_a_domain_that_can_not_be_sent_to_fails_at_once(zone: str, status: str, code: int, enhanced: str) -> None:
    with DnsServer(zone) as dns, SmtpPeer() as peer:
        settings = config(dns.address, port=peer.port, own_addresses=["192.0.2.25"])
        outcome = only(sent(attempt(), settings))
    assert (outcome.status, outcome.code, outcome.enhanced) == (status, code, enhanced)
    assert peer.sessions == 0


@pytest.mark.parametrize("listen", ["127.0.0.1:{port}", "0.0.0.0:{port}", "[::]:{port}"])
def test_an_address_that_we_listen_on_is_ourselves_whatever_its_name(listen: str) -> None:
    with DnsServer(ZONE) as dns, SmtpPeer() as peer:
        settings = config(dns.address, port=peer.port)
        ours = settings.model_copy(update={"listen": ListenSection(smtp=listen.format(port=peer.port))})
        outcome = only(sent(attempt(), ours))
        assert (outcome.status, outcome.enhanced, peer.sessions) == ("failed", "5.4.6", 0)
        elsewhere = settings.model_copy(update={"listen": ListenSection(smtp=listen.format(port=peer.port - 1))})
        assert only(sent(attempt(), elsewhere)).status == "delivered"


def test_a_better_host_than_ourselves_is_used_and_ourselves_never() -> None:
    zone = "example.test. MX 10 mx.example.test.\nexample.test. MX 20 mx.sender.test.\n"
    zone += "mx.example.test. A 127.0.0.1\nmx.sender.test. A 127.0.0.1"
    with DnsServer(zone) as dns, SmtpPeer({"connect": "421 4.3.2 Busy"}) as peer:
        outcome = only(sent(attempt(), config(dns.address, port=peer.port)))
    assert (outcome.status, outcome.host, peer.sessions) == ("deferred", "mx.example.test", 1)


@pytest.mark.parametrize("fault", ["silent", "servfail"])
def test_a_name_server_that_fails_delays_the_message(fault: Fault) -> None:
    with DnsServer(ZONE, all_fault=fault) as dns:
        outcome = only(sent(attempt(), config(dns.address, port=9, dns={"timeout_s": 0.3})))
    assert (outcome.status, outcome.enhanced) == ("deferred", "4.4.3")


def test_an_address_literal_needs_no_name_server() -> None:
    with DnsServer(all_fault="silent") as dns, SmtpPeer() as peer, SmtpPeer(host="::1") as six:
        assert only(sent(attempt(domain="[127.0.0.1]"), config(dns.address, port=peer.port))).status == "delivered"
        assert only(sent(attempt(domain="[IPv6:::1]"), config(dns.address, port=six.port))).status == "delivered"
        assert only(sent(attempt(domain="[::1]"), config(dns.address, port=six.port))).status == "failed"


def test_every_host_down_is_a_delay_that_names_the_last() -> None:
    with SmtpPeer() as peer:
        port = peer.port
    with DnsServer(ZONE) as dns:
        outcome = only(sent(attempt(), config(dns.address, port=port)))
    assert (outcome.status, outcome.host) == ("deferred", "mx.example.test")
    assert outcome.text == f"no connection to 127.0.0.1 port {port}: Connection refused"


def test_every_host_refusing_us_for_good_fails() -> None:
    with DnsServer(ZONE) as dns, SmtpPeer({"connect": "521 5.3.2 This host takes no mail"}) as peer:
        outcome = only(sent(attempt(), config(dns.address, port=peer.port)))
    assert (outcome.status, outcome.code, outcome.enhanced) == ("failed", 521, "5.3.2")


def test_each_recipient_has_the_outcome_that_the_server_gave_it() -> None:
    def rcpt(line: str) -> str:
        who = line.split("<")[1].partition("@")[0]
        return {"no": "550 5.1.1 No such user", "later": "450 4.2.1 Later"}.get(who, "250 Ok")

    with DnsServer(ZONE) as dns, SmtpPeer({"RCPT": rcpt}) as peer:
        people = ("yes@example.test", "no@example.test", "later@example.test")
        outcomes = sent(attempt(*people), config(dns.address, port=peer.port)).outcomes
    assert [(one.address, one.status, one.code) for one in outcomes] == [
        ("yes@example.test", "delivered", 250),
        ("no@example.test", "failed", 550),
        ("later@example.test", "deferred", 450),
    ]
    assert outcomes[1].text == "550 5.1.1 No such user (in reply to RCPT)"


def test_recipients_beyond_what_the_server_takes_go_in_another_transaction() -> None:
    people = [f"u{number}@example.test" for number in range(25)]
    taken = [0]

    def rcpt(_: str) -> str:
        taken[0] += 1
        return "250 Ok" if taken[0] % 11 else "452 4.5.3 Too many recipients"

    with DnsServer(ZONE) as dns, SmtpPeer({"RCPT": rcpt}) as peer:
        outcomes = sent(attempt(*people), config(dns.address, port=peer.port, recipients=20)).outcomes
    assert {one.status for one in outcomes} == {"delivered"}
    assert sorted(line for one in peer.taken for line in one.rcpts) == sorted(f"RCPT TO:<{one}>" for one in people)
    assert peer.sessions == 1


def test_the_servers_own_limit_of_recipients_is_kept_to() -> None:
    people = [f"u{number}@example.test" for number in range(7)]
    extensions = ("PIPELINING", "LIMITS RCPTMAX=3 MAILMAX=2")
    with DnsServer(ZONE) as dns, SmtpPeer(extensions=extensions) as peer:
        outcomes = sent(attempt(*people), config(dns.address, port=peer.port)).outcomes
    assert {one.status for one in outcomes} == {"delivered"}
    assert [(len(one.rcpts), one.session) for one in peer.taken] == [(3, 1), (3, 1), (1, 2)]


def test_messages_for_one_host_follow_each_other_over_one_connection() -> None:
    async def scenario(transport: MailTransport) -> None:
        for number in range(5):
            result = await transport.send(attempt(data=DATA + b"%d\r\n" % number))
            assert only(result).status == "delivered"

    with DnsServer(ZONE) as dns, SmtpPeer() as peer:
        on_loop(scenario, config(dns.address, port=peer.port, messages_per_connection=3))
        assert [one.session for one in peer.taken] == [1, 1, 1, 2, 2]
        assert peer.lines.count("QUIT") == 2


def test_a_connection_that_the_server_closed_meanwhile_is_no_reason_to_delay_a_message() -> None:
    async def scenario(transport: MailTransport) -> None:
        for _ in range(3):
            assert only(await transport.send(attempt())).status == "delivered"

    second: list[int] = []

    def mail(_: str) -> str:
        second.append(0)
        return "250 Ok" if len(second) % 2 else CLOSE

    with DnsServer(ZONE) as dns, SmtpPeer({"MAIL": mail}, extensions=()) as peer:
        on_loop(scenario, config(dns.address, port=peer.port))
        assert len(peer.taken) == 3


def test_an_idle_connection_is_closed_with_a_goodbye() -> None:
    async def scenario(transport: MailTransport) -> None:
        await transport.send(attempt())
        while not peer.closed_sessions:
            await asyncio.sleep(0.01)

    with DnsServer(ZONE) as dns, SmtpPeer() as peer:
        on_loop(scenario, config(dns.address, port=peer.port, idle_s=0.05))
        assert peer.lines[-1] == "QUIT"


def test_no_more_connections_than_allowed_go_to_one_host() -> None:
    async def scenario(transport: MailTransport) -> None:
        results = await asyncio.gather(*(transport.send(attempt()) for _ in range(20)))
        assert {only(one).status for one in results} == {"delivered"}

    with DnsServer(ZONE) as dns, SmtpPeer() as peer:
        on_loop(scenario, config(dns.address, port=peer.port, connections_per_host=2, messages_per_connection=100))
        assert 0 < peer.sessions <= 2


def test_a_message_is_sent_from_the_pools_address_with_its_name() -> None:
    with DnsServer(ZONE) as dns, SmtpPeer() as peer:
        sources = {"default": ["127.0.0.9/out9.sender.test"]}
        assert only(sent(attempt(), config(dns.address, port=peer.port, sources=sources))).status == "delivered"
        assert peer.lines[0] == "EHLO out9.sender.test"
        assert peer.clients == ["127.0.0.9"]


def test_a_pool_without_an_address_of_the_family_does_not_send_from_another() -> None:
    with DnsServer(ZONE) as dns, SmtpPeer() as peer:
        outcome = only(sent(attempt(), config(dns.address, port=peer.port, sources={"default": ["::1"]})))
    assert (outcome.status, peer.sessions) == ("deferred", 0)


def test_an_attempt_has_an_end_however_slow_the_server() -> None:
    with DnsServer(ZONE) as dns, SmtpPeer({"MAIL": STALL}) as peer:
        outcome = only(sent(attempt(), config(dns.address, port=peer.port, attempt_timeout_s=0.3)))
    assert (outcome.status, outcome.enhanced) == ("deferred", "4.4.7")


def test_an_attempt_that_ends_behind_the_end_of_the_message_has_an_unknown_outcome() -> None:
    with DnsServer(ZONE) as dns, SmtpPeer({"end": STALL}) as peer:
        assert only(sent(attempt(), config(dns.address, port=peer.port, attempt_timeout_s=0.3))).status == "unknown"


def test_what_a_server_wants_of_us_reaches_the_queue_and_what_was_done_the_metrics() -> None:
    metrics = Metrics("n1")
    with DnsServer(ZONE) as dns, SmtpPeer({"MAIL": "421 4.7.0 Too many connections, retry in 2 min"}) as peer:
        assert sent(attempt(), config(dns.address, port=peer.port), metrics=metrics).throttle_ms == 120_000
    with DnsServer(ZONE) as dns, SmtpPeer() as peer:
        assert sent(attempt(), config(dns.address, port=peer.port), metrics=metrics).throttle_ms == 0
    text = metrics.exposition().decode()
    assert 'mailraft_delivery_sessions_total{tls="clear"} 2.0' in text
    assert "mailraft_delivery_seconds_count 2.0" in text


def test_a_fault_of_ours_in_one_transaction_keeps_what_the_one_before_it_brought() -> None:
    whole, times = attempt("one@example.test", "two@example.test"), 0

    async def read_once() -> AsyncIterator[bytes]:
        nonlocal times
        times += 1
        if times > 1:
            raise ValueError("a fault that nobody thought of")
        async for part in whole.read():
            yield part

    with DnsServer(ZONE) as dns, SmtpPeer() as peer:
        result = sent(replace(whole, read=read_once), config(dns.address, port=peer.port, recipients=1))
    assert [one.status for one in result.outcomes] == ["delivered", "deferred"]
    assert "ValueError" in result.outcomes[1].text
    assert len(peer.taken) == 1


def test_a_host_that_hangs_up_in_the_middle_of_a_message_was_reached() -> None:
    with DnsServer(ZONE) as dns, SmtpPeer({"MAIL": "250 Ok", "RCPT": CLOSE}) as peer:
        outcome = only(sent(attempt(), config(dns.address, port=peer.port)))
    assert (outcome.status, outcome.code, outcome.reached) == ("deferred", 0, True)
    with DnsServer(ZONE) as dns, SmtpPeer({"connect": CLOSE}) as peer:
        assert not only(sent(attempt(), config(dns.address, port=peer.port))).reached
