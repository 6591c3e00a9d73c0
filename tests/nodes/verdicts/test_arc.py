"""ARC: chains that dkimpy and we make are judged alike by both; broken ones are broken."""

from __future__ import annotations

import asyncio

import dkim
import pytest

from nodes.verdicts import arc
from nodes.verdicts.arc import SealingKey
from nodes.verdicts.lookups import Lookup, txt_of_each
from nodes.verdicts.signed import Message
from tests.nodes.verdicts.letters import key_record, letter, pem, private_key, zone_of
from tests.nodes.verdicts.zone import Zone

KEY = SealingKey("sender.test", "s", private_key())
RESULTS = b"mx.sender.test; dkim=pass header.d=author.test; dmarc=pass header.from=author.test"
NOW_S = 1_790_000_000


def judged(data: bytes, zone: Lookup) -> arc.Chain:
    message = Message(data)
    return arc.judge(message, asyncio.run(txt_of_each(zone, arc.key_names(message))))


def seal(data: bytes, key: SealingKey = KEY) -> bytes:
    zone = Zone({f"s._domainkey.{one}": [("TXT", key_record(private_key()))] for one in ("sender.test", "list.test")})
    return b"".join(arc.seal(data, judged(data, zone), RESULTS, key, NOW_S)) + data


def by_dkimpy(data: bytes) -> bytes:
    record = key_record(private_key()).encode()
    result, _, reason = dkim.arc_verify(data, dnsfunc=lambda name, timeout: record)
    return bytes(result or b"ended") if result != b"fail" else b"fail: " + str(reason).encode()


def test_a_message_without_a_chain_has_none() -> None:
    assert judged(letter(), zone_of()) == arc.NO_CHAIN


def test_what_we_seal_holds_here_and_for_dkimpy() -> None:
    data = seal(letter(body=b"Hello  there \r\n\r\n"))
    found = judged(data, zone_of())
    assert (found.result, [one.domain for one in found.seals]) == ("pass", ["sender.test"])
    assert found.seals[0].results == RESULTS
    assert by_dkimpy(data) == b"pass"


def test_what_dkimpy_seals_holds_here() -> None:
    came = b"Authentication-Results: mx.sender.test; dmarc=pass header.from=author.test\r\n" + letter()
    lines = dkim.arc_sign(came, b"s", b"sender.test", pem(private_key()), b"mx.sender.test")
    assert len(lines) == 3
    found = judged(b"".join(lines) + came, zone_of())
    assert (found.result, [one.domain for one in found.seals]) == ("pass", ["sender.test"])


def test_each_forwarder_adds_its_set() -> None:
    data = seal(seal(seal(letter())), SealingKey("list.test", "s", private_key()))
    zone = Zone({f"s._domainkey.{one}": [("TXT", key_record(private_key()))] for one in ("sender.test", "list.test")})
    found = judged(data, zone)
    assert [(one.instance, one.domain) for one in found.seals] == [
        (1, "sender.test"),
        (2, "sender.test"),
        (3, "list.test"),
    ]
    assert (found.result, by_dkimpy(data)) == ("pass", b"pass")


def test_a_chain_that_stands_in_another_order_still_holds() -> None:
    lines = arc.seal(letter(), arc.NO_CHAIN, RESULTS, KEY, NOW_S)
    assert judged(b"".join(reversed(lines)) + letter(), zone_of()).result == "pass"


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b"Hello.", b"Hullo."),
        (b"Subject: A", b"Subject: B"),
        (b"dmarc=pass", b"dmarc=fail"),
        (b"cv=none", b"cv=pass"),
        (b"ARC-Seal: i=1", b"ARC-Seal: i=2"),
        (b"ARC-Authentication-Results", b"X-Authentication-Results"),
    ],
)
def test_what_is_changed_breaks_the_chain(old: bytes, new: bytes) -> None:
    data = seal(letter())
    assert old in data
    assert judged(data.replace(old, new), zone_of()).result == "fail"


def test_a_changed_body_is_forgiven_once_somebody_has_sealed_it_anew() -> None:
    changed = seal(letter()).replace(b"Hello.", b"Hello.\r\n-- \r\nThe list")
    assert arc.seal(changed, judged(changed, zone_of()), RESULTS, KEY, NOW_S)
    again = b"".join(arc.seal(changed, arc.Chain("pass"), RESULTS, KEY, NOW_S)) + changed
    assert judged(again, zone_of()).result == "pass"


def test_a_chain_that_has_failed_is_sealed_once_as_failed_and_then_no_more() -> None:
    broken = seal(letter()).replace(b"cv=none", b"cv=pass")
    once = b"".join(arc.seal(broken, judged(broken, zone_of()), RESULTS, KEY, NOW_S)) + broken
    assert b"cv=fail" in once
    found = judged(once, zone_of())
    assert found.result == "fail"
    assert arc.seal(once, found, RESULTS, KEY, NOW_S) == []


def test_a_missing_or_silent_key_fails_the_chain() -> None:
    data = seal(letter())
    assert judged(data, Zone({})).result == "fail"
    assert judged(data, Zone({"s._domainkey.sender.test": [("TIMEOUT", "")]})).result == "fail"


@pytest.mark.parametrize(
    "fields",
    [
        b"ARC-Seal: i=1\r\n",
        b"ARC-Seal: \r\n",
        b"ARC-Message-Signature:i=1; a=rsa-sha256\r\nARC-Seal:i=1\r\nARC-Authentication-Results:i=1\r\n",
        b"ARC-Seal: i=99999999999999999999; a=rsa-sha256; cv=none; d=x; s=y; b=AAAA\r\n",
        b"ARC-Seal: " + b"x" * 20_000 + b"\r\n",
        b"ARC-Seal: i=1\r\n" * 200,
        b"ARC-Seal: i=\xff\r\n",
    ],
)
def test_a_malformed_chain_fails_and_asks_the_dns_nothing(fields: bytes) -> None:
    zone = Zone({})
    assert judged(fields + letter(), zone).result == "fail"
    assert zone.asked == []
