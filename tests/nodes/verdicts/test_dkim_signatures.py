"""DKIM: the vectors of its RFCs, signatures that dkimpy makes, and what must not count as one."""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import Callable

import dkim
import pytest
from dkim.canonicalization import Relaxed, Simple
from hypothesis import given
from hypothesis import strategies as st

from nodes.verdicts import dkim_signatures
from nodes.verdicts.dkim_signatures import Signature
from nodes.verdicts.lookups import Lookup, txt_of_each
from nodes.verdicts.signed import Canonical, Message, key_name
from tests.nodes.verdicts.letters import (
    RFC_6376,
    RFC_6376_KEYS,
    RFC_8463,
    RFC_8463_KEYS,
    key_record,
    letter,
    private_key,
    signed,
    zone_of,
)
from tests.nodes.verdicts.zone import Zone


def judged(data: bytes, zone: Lookup, *, most: int = 8, accept_length: bool = False) -> list[Signature]:
    message = Message(data)
    found = dkim_signatures.candidates(message, most)
    names = [key_name(one.tags) for one in found if one.tags is not None]
    keys = asyncio.run(txt_of_each(zone, names))
    return [dkim_signatures.judge(message, one, keys, accept_length=accept_length) for one in found]


def results(data: bytes, zone: Lookup, **options: bool) -> list[str]:
    return [one.result for one in judged(data, zone, **options)]


def test_the_ed25519_and_the_rsa_signature_of_rfc_8463_hold() -> None:
    found = judged(RFC_8463, Zone(RFC_8463_KEYS))
    assert [(one.result, one.algorithm) for one in found] == [("pass", "ed25519-sha256"), ("pass", "rsa-sha256")]


def test_the_signature_of_rfc_6376_holds_in_simple_canonical_form() -> None:
    assert results(RFC_6376, Zone(RFC_6376_KEYS)) == ["pass"]


@pytest.mark.parametrize("change", [(b"game. Are", b"game.  Are"), (b"Is dinner ready?", b"Is  dinner ready?")])
def test_one_blank_more_breaks_a_simple_signature(change: tuple[bytes, bytes]) -> None:
    assert results(RFC_6376.replace(*change), Zone(RFC_6376_KEYS)) == ["fail"]


@pytest.mark.parametrize("change", [(b"game.  Are", b"game. Are"), (b"Is dinner ready?", b"Is  dinner \t ready?  ")])
def test_blanks_do_not_break_a_relaxed_signature(change: tuple[bytes, bytes]) -> None:
    assert results(RFC_8463.replace(*change), Zone(RFC_8463_KEYS)) == ["pass", "pass"]


@pytest.mark.parametrize("canonicalize", [(a, b) for a in (b"simple", b"relaxed") for b in (b"simple", b"relaxed")])
def test_what_dkimpy_signs_holds(canonicalize: tuple[bytes, bytes]) -> None:
    data = signed(letter(body=b"One  two \t\r\n\r\nthree\r\n\r\n\r\n"), canonicalize=canonicalize)
    assert results(data, zone_of()) == ["pass"]


def test_a_second_author_breaks_the_signature() -> None:
    assert results(b"From: <mallory@evil.test>\r\n" + signed(letter()), zone_of()) == ["fail"]


@pytest.mark.parametrize(
    ("record", "result"),
    [
        ("v=DKIM1; p=", "permerror"),
        ("v=DKIM2; " + key_record(private_key(), ""), "permerror"),
        (key_record(private_key(), "v=DKIM1; h=sha1;"), "permerror"),
        (key_record(private_key(), "v=DKIM1; s=tlsrpt;"), "permerror"),
        (key_record(private_key(), "v=DKIM1; k=dsa;"), "permerror"),
        ("v=DKIM1; p=AAAA", "permerror"),
        ("nothing of the kind", "permerror"),
        (key_record(private_key(1024)), "fail"),
        (key_record(private_key(), "v=DKIM1; t=y;"), "pass"),
        (key_record(private_key(), "k=rsa;"), "pass"),
    ],
)
def test_a_key_counts_as_its_record_says(record: str, result: str) -> None:
    assert results(signed(letter()), Zone({"s._domainkey.sender.test": [("TXT", record)]})) == [result]


def test_a_key_of_fewer_than_1024_bits_proves_nothing() -> None:
    (found,) = judged(signed(letter(), bits=768), zone_of(bits=768))
    assert (found.result, found.reason) == ("policy", "a key of 768 bits")


def test_a_key_that_is_for_the_domain_itself_signs_for_no_subdomain() -> None:
    data = signed(letter(), identity=b"@sub.sender.test")
    assert results(data, zone_of()) == ["pass"]
    strict = Zone({"s._domainkey.sender.test": [("TXT", key_record(private_key(), "v=DKIM1; t=s;"))]})
    assert results(data, strict) == ["permerror"]


def test_sha1_is_not_accepted() -> None:
    assert results(signed(letter(), signature_algorithm=b"rsa-sha1"), zone_of()) == ["policy"]


def test_a_key_that_is_not_there_is_an_error_and_one_that_nobody_tells_is_none_for_now() -> None:
    assert results(signed(letter()), Zone({})) == ["permerror"]
    assert results(signed(letter()), Zone({"s._domainkey.sender.test": [("TIMEOUT", "")]})) == ["temperror"]


def test_text_that_was_added_behind_the_signed_part_is_seen() -> None:
    data = signed(letter(), length=True) + b"Buy this.\r\n"
    assert results(data, zone_of()) == ["policy"]
    assert results(data, zone_of(), accept_length=True) == ["pass"]
    assert results(signed(letter(), length=True), zone_of()) == ["pass"]


def test_only_so_many_signatures_are_looked_at_the_topmost_first() -> None:
    data = signed(signed(letter()), "other.test")
    found = judged(data, zone_of(), most=1)
    assert [(one.domain, one.result) for one in found] == [("other.test", "permerror")]


@pytest.mark.parametrize(
    "field",
    [
        b"v=1",
        b"v=1; a=rsa-sha256; b=!; bh=AAAA; d=x.test; h=from; s=s",
        b"; ; ;",
        b"",
        b"v=1; a=rsa-sha256; b=AAAA; bh=AAAA; d=x.test; h=from; s=\xff",
        b"v=1; a=rsa-sha256; b=AAAA; bh=AAAA; d=x.test; h=from; s=s; l=" + b"9" * 70,
        b"v=1; a=rsa-sha256; b=AAAA; bh=AAAA; d=x.test; h=from; s=s; c=what",
        b"v=1; a=rsa-sha256; b=AAAA; bh=AAAA; d=x.test; h=to; s=s",
        b"v=1; a=rsa-sha256; b=" + b"A" * 20_000,
        b"v=1; a=rsa-sha256; b=" + b" \t" * 7_000 + b"!; bh=AAAA; d=x.test; h=from; s=s",
    ],
)
def test_a_field_that_is_no_signature_is_an_error_of_its_own(field: bytes) -> None:
    data = b"DKIM-Signature: " + field + b"\r\n" + signed(letter())
    assert results(data, zone_of()) == ["permerror", "pass"]


def test_every_kind_of_body_has_the_canonical_form_that_dkimpy_gives_it() -> None:
    for body in (b"", b"\r\n", b"\r\n\r\n", b"a", b"a\r\n", b"a \r\n\r\n", b" \r\n", b"\ta  b\r\n\r\n c", b"a\r\r\n"):
        _same_as_dkimpy(body)


@given(st.lists(st.sampled_from([b"\r\n", b" ", b"\t", b"a", b"bc", b"."]), max_size=30).map(b"".join))
def test_any_body_has_the_canonical_form_that_dkimpy_gives_it(body: bytes) -> None:
    _same_as_dkimpy(body if not body.endswith((b" ", b"\t")) else body + b"\r\n")


def _same_as_dkimpy(body: bytes) -> None:
    message = Message(b"From: a\r\n\r\n" + body)
    forms: dict[Canonical, Callable[[bytes], bytes]] = {
        "simple": Simple.canonicalize_body,
        "relaxed": Relaxed.canonicalize_body,
    }
    for name, canonical in forms.items():
        assert message.body_hash(name)[0] == hashlib.sha256(canonical(body)).digest(), (name, body)


def test_runs_of_blanks_and_of_empty_lines_cost_no_more_than_their_length() -> None:
    body = b" " * 2_000_000 + b"x" + b"\r\n" * 500_000 + b"\n" + b"\r\n" * 500_000
    started_s = time.process_time()
    Message(b"From: a\r\n\r\n" + body).body_hash("relaxed")
    assert time.process_time() - started_s < 10  # quadratic it would be hours


def test_a_large_body_is_canonical_piece_by_piece_as_it_is_whole() -> None:
    body = (b"line  of text \t\r\n" * 40_000) + b"\r\n" * 300_000 + b"end\r\n\r\n"
    data = signed(letter(body=body), canonicalize=(b"relaxed", b"relaxed"))
    assert results(data, zone_of()) == ["pass"]
    assert dkim.verify(data, dnsfunc=lambda name, timeout: key_record(private_key()).encode())
