"""dkimpy's own test vectors (dkimpy/README.md), judged by us.

Where its tests expect something else, on purpose:

- test_tlsrpt.txt: dkimpy can be told that a message is a TLS report, for which a key with s=tlsrpt counts. We never
  take a key of that service for mail (RFC 8460 3): whether a report is one is not known when its signatures are judged.
- l= with text behind it: dkimpy lets it pass; here it is "policy" unless the cluster accepts partial signatures.
- example._domainkey.canonical.com has 512 bits: dkimpy is told to accept them, RFC 8301 3.2 forbids it.
"""

from __future__ import annotations

import asyncio
from itertools import product
from pathlib import Path

import dkim
import pytest

from nodes.verdicts import arc, dkim_signatures
from nodes.verdicts.dkim_signatures import Signature
from nodes.verdicts.lookups import txt_of_each
from nodes.verdicts.signed import Message, key_name
from tests.nodes.verdicts.zone import Zone

DATA = Path(__file__).parent / "dkimpy"
FORMS = list(product((b"simple", b"relaxed"), repeat=2))
GMAIL = (  # of test_dkim.py
    "k=rsa; p=MIIBIjANBgkqhkiG9w0BAQEFAAOCAQ8AMIIBCgKCAQEA1Kd87/UeJjenpabgbFwh+eBCsSTrqmwIYYvywlbhbqoo2DymndFkbjOVIPIld"
    "Ns/m40KF+yzMn1skyoxcTUGCQs8g3FgD2Ap3ZB5DekAo5wMmk4wimDO+U8QzI3SD07y2+07wlNWwIt8svnxgdxGkVbbhzY8i+RQ9DpSVpPbF7ykQxtK"
    "Xkv/ahW3KjViiAH+ghvvIhkx4xYSIc9oSwVmAl5OctMEeWUwg8Istjqz8BZeTWbf41fbNhte7Y+YqZOwq1Sd0DbvYAD9NOZK9vlfuac0598HY+vtSBcz"
    "UiKERHv1yRbcaQtZFh5wtiRrN04BLUTD21MycBX5jYchHjPY/wIDAQAB"
)
ED25519 = "v=DKIM1; k=ed25519; p=11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo="
DEFECTIVE = (  # a letter of the key is missing
    "k=rsa; p=MFwwDQYJKoZIhvNAQEBBQADSwAwSAJBANmBe10IgY+u7h3enWTukkqtUD5PR52T"
    "b/mPfjC0QJTocVBq6Za/PlzfV+Py92VaCak19F4WrbVTK5Gg5tW220MCAwEAAQ=="
)


def text(name: str) -> str:
    return (DATA / name).read_text("ascii").strip()


def message(name: str) -> bytes:
    """As it would come over SMTP."""
    return (DATA / name).read_bytes().replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")


def judged(data: bytes, keys: dict[str, str], *, accept_length: bool = False) -> list[Signature]:
    zone = Zone({name: [("TXT", record)] for name, record in keys.items()})
    letter = Message(data)
    found = dkim_signatures.candidates(letter, 8)
    known = asyncio.run(txt_of_each(zone, [key_name(one.tags) for one in found if one.tags is not None]))
    return [dkim_signatures.judge(letter, one, known, accept_length=accept_length) for one in found]


def results(data: bytes, record: str, **options: bool) -> list[str]:
    return [one.result for one in judged(data, {"test._domainkey.example.com": record}, **options)]


def signed(key: str = "test.private", data: bytes | None = None, **options: object) -> bytes:
    data = message("test.message") if data is None else data
    return bytes(dkim.sign(data, b"test", b"example.com", (DATA / key).read_bytes(), **options)) + data


SIGNED = [
    ("rfc6376.signed.msg", {"brisbane": ED25519, "test": text("test.txt")}, ["pass", "pass"]),
    ("rfc6376.signed.rsa.msg", {"test": text("test.txt")}, ["pass"]),
    ("rfc6376.signed.rsa.msg", {"test": DEFECTIVE}, ["permerror"]),
    ("rfc6376.signed.no_t.msg", {"test": text("test.txt")}, ["fail"]),
    ("rfc6376.w1258.msg", {}, []),
    ("test.message", {}, []),
]


@pytest.mark.parametrize(("name", "keys", "expected"), SIGNED)
def test_the_signed_messages_of_the_rfcs(name: str, keys: dict[str, str], expected: list[str]) -> None:
    known = {f"{selector}._domainkey.football.example.com": record for selector, record in keys.items()}
    assert [one.result for one in judged(message(name), known)] == expected


def test_a_signature_that_gmail_folded_oddly_holds() -> None:
    (found,) = judged(message("test2.message"), {"20120113._domainkey.gmail.com": GMAIL})
    assert (found.result, found.domain) == ("pass", "gmail.com")


def test_a_signature_that_exim_made_holds() -> None:
    (found,) = judged(message("ed25519test2.msg"), {"sed._domainkey.test.ex": text("eximtest.dns")})
    assert (found.result, found.algorithm) == ("pass", "ed25519-sha256")


def test_a_domain_with_a_parenthesis_is_none() -> None:
    (found,) = judged(
        message("test.message.baddomain"), {"test._domainkey.legitimate.com(.attacker.com": text("test.txt")}
    )
    assert found.result == "permerror"


@pytest.mark.parametrize("canonicalize", FORMS)
@pytest.mark.parametrize(
    ("record", "expected"),
    [
        ("test.txt", "pass"),
        ("test2.txt", "pass"),  # without k=
        ("badversion.txt", "permerror"),
        ("badk.txt", "permerror"),
        ("test_bad.txt", "permerror"),
        ("test_tlsrpt.txt", "permerror"),
    ],
)
def test_a_key_record_counts_or_not(record: str, expected: str, canonicalize: tuple[bytes, bytes]) -> None:
    assert results(signed(canonicalize=canonicalize), text(record)) == [expected]


@pytest.mark.parametrize("canonicalize", FORMS)
@pytest.mark.parametrize("bits", ["1024", "2048"])
@pytest.mark.parametrize("form", ["pub.txt", "pub.rsa.txt"])
def test_a_public_key_is_read_in_both_of_its_forms(bits: str, form: str, canonicalize: tuple[bytes, bytes]) -> None:
    """SubjectPublicKeyInfo, which RFC 6376 means, and the bare RSAPublicKey that it says (erratum 3017)."""
    data = signed(f"{bits}_testkey.key", canonicalize=canonicalize)
    assert results(data, text(f"{bits}_testkey_wo_markers.{form}")) == ["pass"]


@pytest.mark.parametrize("canonicalize", FORMS)
def test_an_ed25519_signature_holds(canonicalize: tuple[bytes, bytes]) -> None:
    options = {"canonicalize": canonicalize, "signature_algorithm": b"ed25519-sha256"}
    data = signed("ed25519test.key", message("ed25519test.msg"), **options)
    assert results(data, text("ed25519test.dns")) == ["pass"]


@pytest.mark.parametrize("canonicalize", FORMS)
def test_repeated_fields_are_taken_from_the_bottom(canonicalize: tuple[bytes, bytes]) -> None:
    signer = dkim.DKIM(message("message.mbox"))
    signer.should_not_sign.remove(b"received")
    key = (DATA / "test.private").read_bytes()
    names = signer.all_sign_headers()
    line = signer.sign(b"test", b"example.com", key, include_headers=names, canonicalize=canonicalize)
    assert results(line + message("message.mbox"), text("test.txt"))[0] == "pass"


@pytest.mark.parametrize("canonicalize", FORMS)
def test_what_is_added_to_the_body_is_seen(canonicalize: tuple[bytes, bytes]) -> None:
    assert results(signed(canonicalize=canonicalize) + b"foo", text("test.txt")) == ["fail"]
    partial = signed(canonicalize=canonicalize, length=True) + b"added more text\r\n"
    assert results(partial, text("test.txt")) == ["policy"]
    assert results(partial, text("test.txt"), accept_length=True) == ["pass"]


@pytest.mark.parametrize("canonicalize", FORMS)
def test_a_second_author_is_seen_wherever_it_stands(canonicalize: tuple[bytes, bytes]) -> None:
    data, author = signed(canonicalize=canonicalize), b'From: "Resident Evil" <sales@spammer.com>\r\n'
    head, body = data.split(b"\r\n\r\n", 1)
    assert results(head + b"\r\nX-Foo: bar\r\n\r\n" + body, text("test.txt")) == ["pass"]
    assert results(head + b"\r\n" + author + b"\r\n" + body, text("test.txt")) == ["fail"]
    assert results(author + data, text("test.txt")) == ["fail"]


def test_a_domain_that_is_not_ascii_is_an_error() -> None:
    line = dkim.sign(message("test.message"), b"test", b"example.com\xe9", (DATA / "test.private").read_bytes())
    assert results(line + message("test.message"), text("test.txt")) == ["permerror"]


# of test_arc.py, made from test.message with test.private
SEAL = b"""\
ARC-Seal: i=1; cv=none; a=rsa-sha256; d=example.com; s=test; t=12345;
 b=iSKjTQ93xUC6gt4yutHrOf0F/qb4E5voEeuucd66VhM4n/7ifBMMHqYwncgz9sefduM6C
 UthuUSzqE2YamkGXQgKPIG9t4ZCOrx1OXGE34WF9ZeI/E0csrN+wK7sq/RjgN3z4qxLPMsp
 lW+BUUHCNuCIvxcZ55Ky6evIb/Saj2o=
"""
SEAL_WITH_FIELDS = b"""\
ARC-Seal: i=1; cv=none; a=rsa-sha256; d=example.com; s=test; t=12345;
 h=message-id : date : from : to : subject : from;
 b=mIurIuLl0/wAxWhA4DBS1wsUE15IBnmJ7o3sH15hIuesdD4smz1cCLXVhRtxQE
 rVtVLv4OgNCgdFsB5zbSOUao2bSSYP6y0BGyCWvr+hU4tai5axIc1Kfwbtv/0Mqg
 waiGJPreOAAeZOJ4vPfdaAbSXlN5MI4PHW89U82FSIBKI=
"""
REST_OF_THE_SET = b"""\
ARC-Message-Signature: i=1; a=rsa-sha256; c=relaxed/relaxed;
 d=example.com; s=test; t=12345; h=message-id : date : from : to :
 subject : from; bh=wE7NXSkgnx9PGiavN4OZhJztvkqPDlemV3OGuEnLwNo=;
 b=a0f6qc3k9eECTSR155A0TQS+LjqPFWfI/brQBA83EUz00SNxj1wmWykvs1hhBVeM0r1kE
 Qc6CKbzRYaBNSiFj4q8JBpRIujLz1qLyGmPuAI6ddu/Z/1hQxgpVcp/odmI1UMV2R+d+yQ7
 tUp3EQxF/GYNt22rV4rNmDmANZVqJ90=
ARC-Authentication-Results: i=1; lists.example.org;
 arc=none;
 spf=pass smtp.mfrom=jqd@d1.example;
 dkim=pass header.i=@d1.example;
 dmarc=pass
"""


@pytest.mark.parametrize(("seal", "result"), [(SEAL, "pass"), (SEAL_WITH_FIELDS, "fail")])
def test_the_chain_that_dkimpy_sealed(seal: bytes, result: str) -> None:
    data = (seal + REST_OF_THE_SET).replace(b"\n", b"\r\n") + message("test.message")
    letter = Message(data)
    zone = Zone({"test._domainkey.example.com": [("TXT", text("test.txt"))]})
    assert arc.judge(letter, asyncio.run(txt_of_each(zone, arc.key_names(letter)))).result == result
