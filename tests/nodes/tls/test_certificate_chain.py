"""What is wrong with a chain or its key is said, each in its own words."""

import datetime

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, Encoding, PrivateFormat

from nodes.tls.chain import BadCertificate, Chain, Expired, read_chain
from tests.peers import certificates

ROOT = certificates.authority("Root")
MIDDLE = certificates.authority("Middle", ROOT)
LEAF = certificates.server("mail.example.test", "*.mx.example.test", issuer=MIDDLE)
CHAIN = LEAF.pem + MIDDLE.pem


def read(chain: bytes = CHAIN, key: bytes = LEAF.key_pem, names: tuple[str, ...] = ()) -> Chain:
    now = datetime.datetime.now(datetime.UTC)
    return read_chain(chain, key, now, names=names, authorities=(ROOT.certificate,))


def refused(chain: bytes = CHAIN, key: bytes = LEAF.key_pem, names: tuple[str, ...] = ()) -> str:
    with pytest.raises(BadCertificate) as found:
        read(chain, key, names)
    return str(found.value)


def test_a_good_chain_is_shown_without_its_root() -> None:
    found = read(CHAIN + ROOT.pem)
    assert found.names == ("mail.example.test", "*.mx.example.test")
    assert found.chain_pem() == CHAIN


def test_names_are_covered_by_themselves_or_by_a_wildcard_of_one_label() -> None:
    assert read(names=("mail.example.test", "a.mx.example.test"))
    assert refused(names=("a.b.mx.example.test",)).startswith("the certificate does not cover a.b.mx.example.test: ")
    assert refused(names=("mx.example.test",)).endswith("it is for mail.example.test, *.mx.example.test")


def test_what_is_no_certificate_is_called_so() -> None:
    assert refused(b"nothing") == "there is no certificate in PEM form"
    damaged = LEAF.pem.replace(b"\nMII", b"\nAAA", 1)
    assert refused(damaged) == "there is no certificate in PEM form"


def test_what_is_no_key_is_called_so() -> None:
    assert refused(key=b"nothing") == "there is no private key in PEM form"


def test_a_key_with_a_password_can_not_be_used() -> None:
    sealed = LEAF.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"password"))
    assert refused(key=sealed) == "the key has a password"


def test_the_key_of_another_certificate_is_found_out() -> None:
    assert refused(key=ROOT.key_pem) == "the key is not the one of the certificate"


def test_a_missing_intermediate_is_named() -> None:
    assert refused(LEAF.pem) == (
        "an intermediate certificate is missing: the certificate of mail.example.test was issued by CN=Middle, "
        "which is not in the chain"
    )


def test_a_chain_in_the_wrong_order_is_broken() -> None:
    assert refused(LEAF.pem + ROOT.pem + MIDDLE.pem).startswith("the chain is broken: the certificate of mail.example")


def test_a_certificate_that_has_expired_says_when() -> None:
    old = certificates.server("mail.example.test", issuer=ROOT, expired=True)
    when = old.certificate.not_valid_after_utc.strftime("%Y-%m-%dT%H:%M:%SZ")
    with pytest.raises(Expired) as found:
        read(old.pem, old.key_pem)
    assert str(found.value) == f"the certificate of mail.example.test has expired at {when}"
    assert found.value.last_valid < old.certificate.not_valid_after_utc


def test_a_certificate_of_the_future_says_from_when() -> None:
    early = LEAF.certificate.not_valid_before_utc - datetime.timedelta(days=1)
    with pytest.raises(BadCertificate, match=r"is not valid before \d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$") as found:
        read_chain(CHAIN, LEAF.key_pem, early, authorities=(ROOT.certificate,))
    assert f"this machine's clock, which says {early:%Y-%m-%dT%H:%M:%SZ}" in found.value.hint


def test_weak_keys_are_refused() -> None:
    small = certificates.server("a.test", issuer=ROOT, key=rsa.generate_private_key(65537, 1024))
    assert refused(small.pem, small.key_pem) == "the key is weak: RSA of 1024 bits"
    odd = certificates.server("a.test", issuer=ROOT, key=ec.generate_private_key(ec.SECP192R1()))
    assert refused(odd.pem, odd.key_pem) == "the key is weak: its curve is secp192r1"


def test_a_chain_has_a_greatest_length_and_size() -> None:
    assert refused(LEAF.pem + MIDDLE.pem * 10) == "a chain has at most 10 certificates"
    assert refused(CHAIN * 200).startswith("the chain is larger than")
