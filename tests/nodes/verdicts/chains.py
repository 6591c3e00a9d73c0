"""Chains as the published ARC test suite has them (ValiMail, arc_test_suite): its messages, its key, its way to seal.

RSA signatures of PKCS #1 v1.5 are the same each time. So its cases are made here by what is done to a chain before it
is signed and after, where the suite has each of them written out. The key is published: dkimpy has it as test.private.
"""

from __future__ import annotations

import base64
import hashlib
import re
from functools import cache
from pathlib import Path
from typing import NamedTuple

from cryptography.hazmat.primitives.asymmetric import padding
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.hashes import SHA1, SHA256
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from dkim.canonicalization import Relaxed, Simple

Head = list[tuple[bytes, bytes]]
Change = tuple[bytes, bytes]

DATA = Path(__file__).parent / "dkimpy"
KEY_NAME = "dummy._domainkey.example.org"
KEY_RECORD = (DATA / "test.txt").read_text("ascii").strip().replace(" g=*;", "")

RESULTS = (
    b"lists.example.org;\r\n    spf=pass smtp.mfrom=jqd@d1.example;\r\n"
    b"    dkim=pass (1024-bit key) header.i=@d1.example;\r\n    dmarc=pass"
)
MIME_VERSION = (b"MIME-Version", b" 1.0\r\n")
LETTER: Head = [
    (b"Received", b" by 10.157.14.6 with HTTP; Tue, 3 Jan 2017 12:22:54 -0800 (PST)\r\n"),
    (b"Message-ID", b" <54B84785.1060301@d1.example.org>\r\n"),
    (b"Date", b" Thu, 14 Jan 2015 15:00:01 -0800\r\n"),
    (b"From", b" John Q Doe <jqd@d1.example.org>\r\n"),
    (b"To", b" arc@dmarc.org\r\n"),
    (b"Subject", b" Example 1\r\n"),
]
BODY = b"Hey gang,\r\nThis is a test message.\r\n--J.\r\n"
_FORMS = {b"relaxed": Relaxed, b"simple": Simple}


class Tags(NamedTuple):
    """The signature fields of a set, in the suite's order of tags; `b=` and `bh=` are filled in when it is sealed."""

    message: bytes
    seal: bytes


def tags_of(instance: int, cv: bytes) -> Tags:
    names = b"from:to:date:subject:mime-version:arc-authentication-results"
    whose = b"d=example.org; h=%s; i=%d; s=dummy; t=%d" % (names, instance, 12344 + instance)
    seal = b"a=rsa-sha256; b=; cv=%s; d=example.org; i=%d; s=dummy; t=%d" % (cv, instance, 12344 + instance)
    return Tags(b"a=rsa-sha256; b=; bh=; c=relaxed/relaxed; " + whose, seal)


def changed(text: bytes, changes: tuple[Change, ...]) -> bytes:
    for old, new in changes:
        assert old in text, (old, text)
        text = text.replace(old, new, 1)
    return text


def sealed(head: Head, body: bytes, instance: int, tags: Tags, aar: bytes | None = None) -> Head:
    """With a set on top, signed honestly over whatever it says."""
    results = b" i=%d; " % instance + RESULTS if aar is None else aar
    head = [(b"ARC-Authentication-Results", results + b"\r\n"), *head]
    form, of_body = _forms(tags.message)
    digest = base64.b64encode(hashlib.sha256(_FORMS[of_body].canonicalize_body(body)).digest())
    unsigned = re.sub(rb"\bbh=(?=;)", b"bh=" + digest, tags.message)
    own = (b"ARC-Message-Signature", b" " + unsigned + b"\r\n")
    listed = re.search(rb"\bh=([^;]*)", unsigned)
    chosen = _select(head, listed[1] if listed else b"")
    head = [(own[0], b" " + _signed(unsigned, _hashed([*chosen, own], form)) + b"\r\n"), *head]
    covered = [(name, value) for name, value in _in_order(head) if name.lower().startswith(b"arc-")]
    own = (b"ARC-Seal", b" " + tags.seal + b"\r\n")
    return [(own[0], b" " + _signed(tags.seal, _hashed([*covered, own], b"relaxed")) + b"\r\n"), *head]


def chain(length: int, body: bytes = BODY, letter: Head | None = None) -> Head:
    """A chain that holds."""
    head = LETTER if letter is None else letter
    for instance in range(1, length + 1):
        head = sealed([MIME_VERSION, *head], body, instance, tags_of(instance, b"none" if instance == 1 else b"pass"))
        head.remove(MIME_VERSION)
    return head


def written(head: Head, body: bytes = BODY) -> bytes:
    return b"".join(name + b":" + value for name, value in [MIME_VERSION, *head]) + b"\r\n" + body


def _forms(tags: bytes) -> tuple[bytes, bytes]:
    """What c= says, as RFC 6376 3.5 reads it; what it can not mean is signed as relaxed."""
    found = re.search(rb"\bc=([a-z]+)/?([a-z]*)", tags)
    if found is None:
        return b"relaxed", b"relaxed"
    header, body = found[1], found[2] or b"simple"
    return (header if header in _FORMS else b"relaxed"), (body if body in _FORMS else b"relaxed")


def _select(head: Head, names: bytes) -> Head:
    left: dict[bytes, Head] = {}
    for name, value in head:
        left.setdefault(name.lower().strip(), []).append((name, value))
    wanted = (name.strip().lower() for name in names.split(b":"))
    return [left[name].pop() for name in wanted if left.get(name)]


def _in_order(head: Head) -> Head:
    """RFC 8617 5.1.1."""
    kinds = [b"arc-authentication-results", b"arc-message-signature", b"arc-seal"]
    sets = [(name, value) for name, value in head if name.lower() in kinds]
    return sorted(sets, key=lambda one: (_instance(one[1]), kinds.index(one[0].lower())))


def _instance(value: bytes) -> int:
    found = re.search(rb"\bi\s*=\s*(\d+)", value)
    return int(found[1]) if found else 0


def _hashed(fields: Head, form: bytes) -> bytes:
    canonical = b"".join(name + b":" + value for name, value in _FORMS[form].canonicalize_headers(fields))
    return canonical.removesuffix(b"\r\n")


def _signed(tags: bytes, covered: bytes) -> bytes:
    digest = SHA1() if b"a=rsa-sha1" in tags else SHA256()
    signature = base64.b64encode(_key().sign(covered, padding.PKCS1v15(), digest))
    lines = [signature[:70], *(signature[at : at + 72] for at in range(70, len(signature), 72))]  # as the suite's
    return re.sub(rb"\bb=(?=;)", b"b=" + b"\r\n    ".join(lines), tags)


@cache
def _key() -> RSAPrivateKey:
    key = load_pem_private_key((DATA / "test.private").read_bytes(), None)
    assert isinstance(key, RSAPrivateKey)
    return key
