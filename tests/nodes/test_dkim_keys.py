"""Key pairs as DNS records, against dkimpy, which looks the record up and checks the signature."""

import base64
import datetime
import subprocess
from pathlib import Path

import dkim
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from actors.dkim import Algorithm, Key
from nodes.dkim_keys import free_selector, make, record_name, record_value, shows, tags, zone_line
from nodes.signing import MOST_FROM_BYTES, Signer, _signatures, author_domain
from nodes.verdicts.signed import Message, tags_of
from tests.acceptance.site import need

MESSAGE = b"From: Alice <alice@example.test>\r\nSubject: Hello\r\n\r\nBody\r\n"


def a_key(algorithm: Algorithm) -> tuple[Key, bytes]:
    secrets: list[bytes] = []

    def keep(secret: bytes, place: bytes) -> bytes:
        secrets.append(secret)
        return b"sealed for " + place

    made = make("example.test", "sel", algorithm, 2048, keep)
    assert made.sealed == b"sealed for dkim/example.test/sel"
    return Key(made.selector, algorithm, made.public, made.sealed, "active", 0, 0, 0), secrets[0]


@pytest.mark.parametrize("algorithm", ["rsa-sha256", "ed25519-sha256"])
def test_what_a_key_signed_is_verified_by_its_record(algorithm: Algorithm) -> None:
    key, private = a_key(algorithm)
    signature = dkim.sign(MESSAGE, b"sel", b"example.test", private, signature_algorithm=algorithm.encode())
    record = record_value(key.algorithm, key.public).encode()
    assert dkim.verify(signature + MESSAGE, dnsfunc=lambda name, timeout=5: record)
    assert not dkim.verify(signature + MESSAGE + b"more\r\n", dnsfunc=lambda name, timeout=5: record)


@pytest.mark.parametrize("algorithm", ["rsa-sha256", "ed25519-sha256"])
def test_a_record_is_known_again_however_it_is_spaced(algorithm: Algorithm) -> None:
    key, _ = a_key(algorithm)
    value = record_value(key.algorithm, key.public)
    assert shows(value.encode(), key)
    assert shows(value.replace("; ", " ;\t").encode(), key)
    assert not shows(value.replace(key.public, key.public[::-1]).encode(), key)
    assert not shows(b"v=DKIM1; p=", key)
    assert not shows(b"v=spf1 -all", key)


def test_a_tag_that_stands_twice_makes_a_record_malformed() -> None:
    assert tags(b"p=a; p=b") is None
    assert tags(b"nothing") is None
    assert tags(b"v=DKIM1; p=a b") == {"v": "DKIM1", "p": "ab"}


def test_a_line_of_a_zone_file_is_read_by_bind(tmp_path: Path) -> None:
    named = need("named-checkzone")
    key, _ = a_key("rsa-sha256")
    zone = tmp_path / "zone"
    zone.write_text(
        f"$TTL 60\n@ SOA ns root 1 60 60 60 60\n@ NS ns\nns A 192.0.2.1\n{zone_line('example.test', key)}\n"
    )
    said = subprocess.run([named, "-D", "example.test", str(zone)], capture_output=True, text=True)
    assert said.returncode == 0, said.stdout + said.stderr
    line = next(line for line in said.stdout.splitlines() if line.startswith(record_name("example.test", "sel")))
    assert "".join(line.partition("TXT")[2].split('"')[1::2]) == record_value(key.algorithm, key.public)


def test_selectors_tell_the_day_and_are_free() -> None:
    day = datetime.date(2026, 11, 21)
    assert free_selector("rsa-sha256", day, ()) == "20261121-rsa"
    assert free_selector("ed25519-sha256", day, {"20261121-ed25519"}) == "20261121-ed25519-2"


@pytest.mark.parametrize(
    ("head", "domain"),
    [
        (b"From: Alice <alice@Example.TEST>\r\n", "example.test"),
        (b"From: a@one.test, b@one.test\r\n", "one.test"),
        (b"From: a@one.test, b@two.test\r\n", None),
        (b"From: a@one.test\r\nFrom: b@one.test\r\n", None),
        (b"Subject: none\r\n", None),
        (b"From: \r\n", None),
        (b"from: a@xn--bcher-kva.test\r\n", "xn--bcher-kva.test"),
        ("From: a@bücher.test\r\n".encode(), "xn--bcher-kva.test"),
        (b"From: a@\xff\xfe\r\n", None),
    ],
)
def test_the_author_is_who_from_says(head: bytes, domain: str | None) -> None:
    assert author_domain(head + b"\r\nbody\r\n") == domain


def test_a_from_that_takes_long_to_parse_is_not_signed() -> None:
    assert author_domain(b"From: a@example.test" + b"," * MOST_FROM_BYTES + b"\r\n\r\n") is None


BODIES = [b"", b"\r\n\r\n", b"x", b"a  b\t \r\n\r\n c \r\n\r\n", b"a \nb\t\n\n", b" " * 300_000 + b"x\r\n"]


@pytest.mark.parametrize("body", BODIES, ids=range(len(BODIES)))
def test_the_signed_body_is_the_one_that_was_sent(body: bytes) -> None:
    key = rsa.generate_private_key(65537, 1024)
    private = key.private_bytes(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption())
    data = b"From: a@example.test\r\nSubject: x\r\n\r\n" + body
    (line,) = _signatures([Signer("example.test", "s", "rsa-sha256", private)], data)
    lines = body.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")  # dkimpy takes a bare LF for a line's end
    digest, _ = Message(b"\r\n" + lines).body_hash("relaxed")
    assert tags_of(line.partition(b":")[2])[b"bh"] == base64.b64encode(digest)
