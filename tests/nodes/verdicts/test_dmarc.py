"""DMARC: records, which of them holds for a domain, alignment, what is asked for, ARC's word against it."""

from __future__ import annotations

import asyncio
import threading

import pytest

from actors.verdicts import VerdictPolicy
from nodes.verdicts import arc, dmarc, organisation
from nodes.verdicts.arc import SealingKey
from nodes.verdicts.authors import MOST_FROM_BYTES, Authors
from nodes.verdicts.dmarc import Policy
from nodes.verdicts.judge import Arrival, Judgement, Limits, judge
from nodes.verdicts.organisation import is_aligned, organisational_domain
from tests.nodes.verdicts.letters import key_record, letter, private_key, signed
from tests.nodes.verdicts.zone import Zone

SPF = ("TXT", "v=spf1 ip4:192.0.2.0/24 -all")
KEY = ("TXT", key_record(private_key()))
DEFAULT = VerdictPolicy()


@pytest.mark.parametrize(
    ("domain", "organisation"),
    [
        ("example.com", "example.com"),
        ("a.b.example.com", "example.com"),
        ("mail.example.co.uk", "example.co.uk"),
        ("co.uk", "co.uk"),
        ("user.github.io", "user.github.io"),
        ("mail.sender.test", "sender.test"),
        ("localhost", "localhost"),
        ("shop.xn--85x722f.xn--55qx5d.cn", "xn--85x722f.xn--55qx5d.cn"),
    ],
)
def test_the_organisational_domain_is_one_label_below_a_public_suffix(domain: str, organisation: str) -> None:
    assert organisational_domain(domain) == organisation


def test_the_list_of_public_suffixes_is_read_beside_the_event_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    read_by = []
    monkeypatch.setattr(organisation, "PublicSuffixList", lambda: read_by.append(threading.current_thread()))
    organisation._list.cache_clear()
    organisational_domain.cache_clear()
    try:
        asyncio.run(organisation.read_list())
        asyncio.run(organisation.read_list())
    finally:
        organisation._list.cache_clear()
    assert len(read_by) == 1
    assert read_by != [threading.main_thread()]


def test_alignment_is_of_the_organisation_unless_it_is_strict() -> None:
    assert is_aligned("mail.example.com", "news.example.com", "r")
    assert not is_aligned("mail.example.com", "example.com", "s")
    assert not is_aligned("a.co.uk", "b.co.uk", "r")
    assert not is_aligned("", "", "r")


@pytest.mark.parametrize(
    ("records", "found"),
    [
        ([b"v=DMARC1; p=reject"], Policy("x", "reject")),
        ([b" v = DMARC1 ;p=Quarantine; sp=none;np=reject; adkim=s;aspf=s; pct=20;"],
         Policy("x", "quarantine", "none", "reject", "s", "s", 20)),
        ([b"v=DMARC1; p=none; rua=mailto:a@x.test!10m , mailto:b@y.test"],
         Policy("x", rua=("mailto:a@x.test!10m", "mailto:b@y.test"))),
        ([b"v=DMARC1; p=nonsense; rua=mailto:a@x.test"], Policy("x", rua=("mailto:a@x.test",))),
        ([b"v=DMARC1; p=reject; pct=all"], Policy("x", "reject")),
        ([b"v=DMARC1; p=nonsense"], None),
        ([b"v=DMARC1; p=reject", b"v=DMARC1; p=none"], None),
        ([b"p=reject; v=DMARC1"], None),
        ([b"v=DMARC10; p=reject"], None),
        ([b"v=spf1 -all"], None),
        ([], None),
    ],
)  # fmt: skip
def test_a_record_is_read_as_rfc_7489_says(records: list[bytes], found: Policy | None) -> None:
    assert dmarc.parse("x", records) == found


def judged(
    zone: dict[str, list[tuple[str, str]]],
    data: bytes,
    *,
    sender: str = "bounce@sender.test",
    client: str = "192.0.2.1",
    policy: VerdictPolicy = DEFAULT,
    sample: int = 0,
) -> Judgement:
    arrival = Arrival(client, "mx.sender.test", sender, data)
    return asyncio.run(judge(Zone(zone), arrival, policy, Limits(8, 5.0), sample))


def asking(record: str, **more: tuple[str, str]) -> dict[str, list[tuple[str, str]]]:
    zone = {"_dmarc.sender.test": [("TXT", f"v=DMARC1; {record}")], "s._domainkey.sender.test": [KEY]}
    return {**zone, "sender.test": [SPF], "mail.sender.test": [SPF, ("A", "192.0.2.1")], "elsewhere.test": [SPF]}


def told(found: Judgement) -> tuple[str, str]:
    assert found.dmarc is not None
    return found.dmarc.result, found.disposition


def test_an_aligned_sender_that_passes_spf_is_enough() -> None:
    assert told(judged(asking("p=reject"), letter())) == ("pass", "none")


def test_an_aligned_signature_is_enough_though_the_sender_is_elsewhere() -> None:
    assert told(judged(asking("p=reject"), signed(letter()), sender="x@elsewhere.test")) == ("pass", "none")


def test_a_sender_that_passes_for_another_domain_is_not() -> None:
    assert told(judged(asking("p=reject"), letter(), sender="x@elsewhere.test")) == ("fail", "reject")


def test_a_subdomain_is_not_aligned_where_the_record_is_strict() -> None:
    zone = asking("p=quarantine; aspf=s")
    assert told(judged(zone, letter(), sender="x@mail.sender.test")) == ("fail", "quarantine")
    assert told(judged(asking("p=quarantine"), letter(), sender="x@mail.sender.test")) == ("pass", "none")


def test_what_is_asked_for_subdomains_and_for_names_that_do_not_exist_is_done_with_theirs() -> None:
    zone = asking("p=none; sp=quarantine; np=reject")
    outside = "203.0.113.9"
    assert told(judged(zone, letter(), client=outside)) == ("fail", "none")
    assert told(judged(zone, letter("a@mail.sender.test"), client=outside)) == ("fail", "quarantine")
    assert told(judged(zone, letter("a@nowhere.sender.test"), client=outside)) == ("fail", "reject")


@pytest.mark.parametrize(
    ("sample", "disposition"), [(0, "reject"), (29, "reject"), (30, "quarantine"), (99, "quarantine")]
)
def test_what_pct_leaves_out_is_treated_one_step_milder(sample: int, disposition: str) -> None:
    found = judged(asking("p=reject; pct=30"), letter(), client="203.0.113.9", sample=sample)
    assert told(found) == ("fail", disposition)


def test_a_domain_without_a_record_asks_for_nothing() -> None:
    assert told(judged({}, letter())) == ("none", "none")


def test_dns_that_does_not_answer_is_a_temporary_error_and_asks_for_nothing_yet() -> None:
    silent = [("TIMEOUT", "")]
    zone = asking("p=reject")
    assert told(judged({**zone, "_dmarc.sender.test": silent}, letter())) == ("temperror", "none")
    assert told(judged({**zone, "sender.test": silent}, letter())) == ("temperror", "none")
    unsigned_for = judged({**zone, "s._domainkey.sender.test": silent}, signed(letter()), client="203.0.113.9")
    assert told(unsigned_for) == ("temperror", "none")


def test_the_strictest_policy_of_several_authors_holds() -> None:
    data = letter().replace(b"From: ", b"From: <x@elsewhere.test>, ")
    found = judged(asking("p=reject"), data, client="203.0.113.9")
    assert found.authors.domains == ("elsewhere.test", "sender.test")
    assert not found.authors.is_ambiguous
    assert told(found) == ("fail", "reject")


def test_several_from_fields_and_none_are_told_apart() -> None:
    assert judged(asking("p=reject"), b"From: <x@elsewhere.test>\r\n" + letter()).authors.is_ambiguous
    nobody = judged(asking("p=reject"), b"Subject: no author\r\n\r\n")
    assert (nobody.authors.domains, nobody.dmarc) == ((), None)


def forwarded(results: bytes) -> bytes:
    """By a list that broke the signature, and says what it saw before."""
    data = signed(letter()).replace(b"Hello.", b"Hello.\r\n-- \r\nThe list")
    return b"".join(arc.seal(data, arc.NO_CHAIN, results, SealingKey("list.test", "s", private_key()), 1)) + data


SAW_PASS = b"lists.list.test; dmarc=pass (p=reject) header.from=sender.test"


@pytest.mark.parametrize(
    ("results", "sealers", "disposition"),
    [
        (SAW_PASS, ("list.test",), "none"),
        (SAW_PASS, (), "reject"),
        (SAW_PASS, ("other.test",), "reject"),
        (SAW_PASS.replace(b"dmarc=pass", b"dmarc=fail"), ("list.test",), "reject"),
        (SAW_PASS.replace(b"sender.test", b"other.test"), ("list.test",), "reject"),
        (b"lists.list.test; spf=pass (; dmarc=pass header.from=sender.test)", ("list.test",), "reject"),
    ],
)
def test_a_trusted_sealer_that_saw_it_pass_outweighs_the_failure(
    results: bytes, sealers: tuple[str, ...], disposition: str
) -> None:
    zone = {**asking("p=reject"), "s._domainkey.list.test": [KEY]}
    policy = VerdictPolicy(sealers=sealers)
    found = judged(zone, forwarded(results), sender="list@list.test", client="198.51.100.7", policy=policy)
    assert found.chain.result == "pass"
    assert told(found) == ("fail", disposition)


def test_a_large_message_is_judged_as_a_small_one_is() -> None:
    data = signed(letter(body=b"A line of text.\r\n" * 40_000))
    assert told(judged(asking("p=reject"), data, sender="x@elsewhere.test")) == ("pass", "none")


class Slow:
    """DNS that takes its time for every answer."""

    def __init__(self, zone: Zone) -> None:
        self._zone = zone

    def known(self, name: str, kind: str) -> None:
        """Nothing is kept."""

    async def lookup(self, name: str, kind: str) -> object:
        await asyncio.sleep(0.15)
        return await self._zone.lookup(name, kind)


def test_dns_that_is_too_slow_gives_temporary_errors() -> None:
    arrival = Arrival("192.0.2.1", "mx.sender.test", "bounce@sender.test", signed(letter()))

    slow = Slow(Zone(asking("p=reject")))
    found = asyncio.run(judge(slow, arrival, DEFAULT, Limits(8, 0.1), 0))
    assert (found.spf.result, [one.result for one in found.signatures]) == ("temperror", ["temperror"])
    assert told(found) == ("temperror", "none")


def test_an_author_behind_more_than_is_read_of_from_is_ambiguous() -> None:
    padded = b"From: (" + b"x" * MOST_FROM_BYTES + b") <x@elsewhere.test>\r\n\r\nHello\r\n"
    assert judged(asking("p=reject"), padded).authors == Authors((), True)


def test_many_from_fields_are_read_no_further_than_one() -> None:
    field = b"From: " + b"a:b;" * (MOST_FROM_BYTES // 16) + b"<x@%b.test>\r\n"
    fields = [field % name for name in (b"one", b"two", b"three", b"four", b"five", b"six")]
    found = judged(asking("p=reject"), b"".join(fields) + b"\r\nx\r\n").authors
    assert found == Authors(("one.test", "two.test", "three.test"), True)
