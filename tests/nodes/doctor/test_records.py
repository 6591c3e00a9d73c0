"""What the doctor says of a domain's TXT records, asked of a name server."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from actors.dkim import Key
from nodes.config.node import DnsSection
from nodes.dkim_admin import Published
from nodes.doctor import Finding, records
from nodes.doctor.finding import worst
from nodes.resolver import Resolver
from tests.peers.dns_server import DnsServer

Ask = Callable[[Resolver], Coroutine[Any, Any, list[Finding]]]
KEY = Key("sel", "ed25519-sha256", "cHVibGlj", b"sealed", "active", 0, 0, 0)


def asked(zone: str, ask: Ask) -> list[Finding]:
    async def scenario() -> list[Finding]:
        with DnsServer(zone) as server:
            resolver = Resolver(DnsSection(nameservers=(server.address,)))
            try:
                return await ask(resolver)
            finally:
                resolver.close()

    return asyncio.run(scenario())


def spf(record: str) -> Finding:
    zone = "\n".join(f'one.test. TXT "{one}"' for one in record.split("\n") if one) or "other.test. A 192.0.2.9"
    (found,) = asked(zone, lambda resolver: records.spf(resolver, "one.test", ["192.0.2.1", "2001:db8::1"]))
    return found


@pytest.mark.parametrize(
    ("record", "status", "text"),
    [
        ("v=spf1 mx -all", "ok", "v=spf1 mx -all"),
        ("v=spf1 include:_spf.one.test ip4:192.0.2.0/24 ~all", "ok", ""),
        ("v=spf1 redirect=_spf.one.test", "ok", ""),
        ("", "error", "has no SPF record"),
        ("v=spf1 -all\nv=spf1 mx -all", "error", "2 SPF records"),
        ("v=spf1 mx +all", "error", "anybody may send"),
        ("v=spf1 mx", "warning", "says nothing of other senders"),
        ("v=spf1 mx ?all", "warning", "says nothing of other senders"),
        ("v=spf1 ipv4:192.0.2.1 -all", "error", "not a term of SPF: ipv4:192.0.2.1"),
        ("v=spf1 " + " ".join(f"include:s{n}.test" for n in range(11)) + " -all", "error", "11 terms need a look-up"),
    ],
)
def test_spf(record: str, status: str, text: str) -> None:
    found = spf(record)
    assert (found.area, found.status) == ("SPF", status)
    assert text in found.text


def test_a_missing_spf_record_is_written_out() -> None:
    assert spf("").records == ('one.test. 3600 IN TXT "v=spf1 ip4:192.0.2.1 ip6:2001:db8::1 -all"',)


@pytest.mark.parametrize(
    ("record", "found"),
    [
        ("v=spf1 ip4:192.0.2.1 ip6:2001:db8::/32 -all", [("ok", "mail from 192.0.2.1, 2001:db8::1 passes")]),
        (
            "v=spf1 a:mail.one.test -all",
            [("ok", "mail from 192.0.2.1 passes"), ("error", "2001:db8::1, which is ours, gets fail")],
        ),
        (
            "v=spf1 ip4:192.0.2.9 ~all",
            [("warning", "192.0.2.1, which is ours, gets softfail"), ("warning", "softfail")],
        ),
        ("v=spf1 ?all", [("warning", "gets neutral"), ("warning", "gets neutral")]),
        ("v=spf1 include:deep.test -all", [("error", "(permerror)")]),
        ("v=spf1 include:nothing.test -all", [("error", "(permerror)")]),
        ("", []),
    ],
)
def test_spf_is_judged_as_servers_elsewhere_do_for_each_address_that_we_send_from(
    record: str, found: list[tuple[str, str]]
) -> None:
    deep = "\n".join(f'd{n}.test. TXT "v=spf1 include:d{n + 1}.test -all"' for n in range(12))
    zone = f'mail.one.test. A 192.0.2.1\ndeep.test. TXT "v=spf1 include:d0.test -all"\n{deep}\n'
    zone += f'one.test. TXT "{record}"' if record else ""
    said = asked(zone, lambda resolver: records.spf_verdicts(resolver, "one.test", ["192.0.2.1", "2001:db8::1"]))
    assert [one.status for one in said] == [status for status, _ in found]
    assert all(text in one.text for one, (_, text) in zip(said, found, strict=True)), said


def test_reports_to_another_organisation_need_its_word() -> None:
    zone = (
        '_dmarc.one.test. TXT "v=DMARC1; p=reject; rua=mailto:a@two.test,mailto:b@sub.one.test,mailto:c@three.test"\n'
    )
    zone += 'one.test._report._dmarc.three.test. TXT "v=DMARC1"'
    _, warning = asked(zone, lambda resolver: records.dmarc(resolver, "one.test"))
    assert (warning.status, warning.records) == (
        "warning",
        ('one.test._report._dmarc.two.test. 3600 IN TXT "v=DMARC1"',),
    )


@pytest.mark.parametrize(
    ("record", "statuses"),
    [
        ("v=DMARC1; p=reject; rua=mailto:a@one.test", ["ok"]),
        ("v=DMARC1; p=none; rua=mailto:a@one.test", ["warning"]),
        ("v=DMARC1; p=quarantine", ["ok", "note"]),
        ("v=DMARC1; p=maybe", ["error"]),
        ("v=spf1 -all", ["error"]),
    ],
)
def test_dmarc(record: str, statuses: list[str]) -> None:
    found = asked(f'_dmarc.one.test. TXT "{record}"', lambda resolver: records.dmarc(resolver, "one.test"))
    assert [one.status for one in found] == statuses


def test_a_domain_without_keys_is_told_how_to_make_them() -> None:
    (found,) = records.dkim("one.test", [])
    assert (found.status, found.advice) == ("error", "mailraft dkim generate one.test")


@pytest.mark.parametrize("states", [["pending"], ["retired", "pending"], ["retired"]])
def test_a_domain_none_of_whose_keys_is_active_is_told_that_its_mail_is_not_signed(states: list[Any]) -> None:
    found = records.dkim("one.test", [Published(KEY._replace(state=state), "") for state in states])
    assert [one.status for one in found] == [*["ok"] * len(states), "error"]
    assert found[-1].advice.endswith("mailraft dkim validate one.test")


@pytest.mark.parametrize(
    ("state", "problem", "status"),
    [
        ("active", "", "ok"),
        ("active", "missing", "error"),
        ("pending", "missing", "warning"),
        ("retired", "missing", "note"),
    ],
)
def test_dkim(state: Any, problem: str, status: str) -> None:
    found = records.dkim("one.test", [Published(KEY._replace(state=state), problem)])[0]
    assert found.status == status
    assert bool(found.records) == (status in ("error", "warning"))


@pytest.mark.parametrize(
    ("zone", "status"),
    [
        ('_smtp._tls.one.test. TXT "v=TLSRPTv1; rua=mailto:a@one.test"', "ok"),
        ("other.test. A 192.0.2.9", "note"),
    ],
)
def test_tls_reports(zone: str, status: str) -> None:
    (found,) = asked(zone, lambda resolver: records.tls_reports(resolver, "one.test"))
    assert found.status == status


def test_a_name_server_that_fails_is_an_error_and_not_a_missing_record() -> None:
    async def scenario() -> list[Finding]:
        with DnsServer("one.test. A 192.0.2.1", all_fault="servfail") as server:
            resolver = Resolver(DnsSection(nameservers=(server.address,), timeout_s=1))
            found = await records.dmarc(resolver, "one.test")
            resolver.close()
            return found

    (found,) = asyncio.run(scenario())
    assert (found.status, found.records) == ("error", ())
    assert "could not be looked up" in found.text
    assert worst([found, Finding("MX", "ok", "")]) == "error"
