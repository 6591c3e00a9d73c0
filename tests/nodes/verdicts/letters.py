"""Signed messages of the RFCs, with the keys that they were signed with, and a signer for those of the tests."""

from __future__ import annotations

import base64
from functools import cache

import dkim
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey

from tests.nodes.verdicts.zone import Zone

# RFC 8463 appendix A.3: Ed25519 and RSA over one message
RFC_8463 = b"""\
DKIM-Signature: v=1; a=ed25519-sha256; c=relaxed/relaxed;
 d=football.example.com; i=@football.example.com;
 q=dns/txt; s=brisbane; t=1528637909; h=from : to :
 subject : date : message-id : from : subject : date;
 bh=2jUSOH9NhtVGCQWNr9BrIAPreKQjO6Sn7XIkfJVOzv8=;
 b=/gCrinpcQOoIfuHNQIbq4pgh9kyIK3AQUdt9OdqQehSwhEIug4D11Bus
 Fa3bT3FY5OsU7ZbnKELq+eXdp1Q1Dw==
DKIM-Signature: v=1; a=rsa-sha256; c=relaxed/relaxed;
 d=football.example.com; i=@football.example.com;
 q=dns/txt; s=test; t=1528637909; h=from : to : subject :
 date : message-id : from : subject : date;
 bh=2jUSOH9NhtVGCQWNr9BrIAPreKQjO6Sn7XIkfJVOzv8=;
 b=F45dVWDfMbQDGHJFlXUNB2HKfbCeLRyhDXgFpEL8GwpsRe0IeIixNTe3
 DhCVlUrSjV4BwcVcOF6+FF3Zo9Rpo1tFOeS9mPYQTnGdaSGsgeefOsk2Jz
 dA+L10TeYt9BgDfQNZtKdN1WO//KgIqXP7OdEFE4LjFYNcUxZQ4FADY+8=
From: Joe SixPack <joe@football.example.com>
To: Suzie Q <suzie@shopping.example.net>
Subject: Is dinner ready?
Date: Fri, 11 Jul 2003 21:00:37 -0700 (PDT)
Message-ID: <20030712040037.46341.5F8J@football.example.com>

Hi.

We lost the game.  Are you hungry yet?

Joe.
""".replace(b"\n", b"\r\n")
RFC_8463_KEYS = {
    "brisbane._domainkey.football.example.com": [
        ("TXT", "v=DKIM1; k=ed25519; p=11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=")
    ],
    "test._domainkey.football.example.com": [
        (
            "TXT",
            "v=DKIM1; k=rsa; p=MIGfMA0GCSqGSIb3DQEBAQUAA4GNADCBiQKBgQDkHlOQoBTzWRiGs5V6NpP3idY6Wk08a5qhdR6wy5bdOKb2jLQi"
            "Y/J16JYi0Qvx/byYzCNb3W91y3FutACDfzwQ/BC/e/8uBsCR+yz1Lxj+PL6lHvqMKrM3rG4hstT5QjvHO9PzoxZyVYLzBfO2EeC3Ip3G"
            "+2kryOTIKT+l/K4w3QIDAQAB",
        )
    ],
}

# RFC 6376 appendix A.2, c=simple/simple
RFC_6376 = b"""\
DKIM-Signature: v=1; a=rsa-sha256; s=brisbane; d=example.com;
      c=simple/simple; q=dns/txt; i=joe@football.example.com;
      h=Received : From : To : Subject : Date : Message-ID;
      bh=2jUSOH9NhtVGCQWNr9BrIAPreKQjO6Sn7XIkfJVOzv8=;
      b=AuUoFEfDxTDkHlLXSZEpZj79LICEps6eda7W3deTVFOk4yAUoqOB
      4nujc7YopdG5dWLSdNg6xNAZpOPr+kHxt1IrE+NahM6L/LbvaHut
      KVdkLLkpVaVVQPzeRDI009SO2Il5Lu7rDNH6mZckBdrIx0orEtZV
      4bmp/YzhwvcubU4=;
Received: from client1.football.example.com  [192.0.2.1]
      by submitserver.example.com with SUBMISSION;
      Fri, 11 Jul 2003 21:01:54 -0700 (PDT)
From: Joe SixPack <joe@football.example.com>
To: Suzie Q <suzie@shopping.example.net>
Subject: Is dinner ready?
Date: Fri, 11 Jul 2003 21:00:37 -0700 (PDT)
Message-ID: <20030712040037.46341.5F8J@football.example.com>

Hi.

We lost the game. Are you hungry yet?

Joe.
""".replace(b"\n", b"\r\n")
RFC_6376_KEYS = {
    "brisbane._domainkey.example.com": [
        (
            "TXT",
            "v=DKIM1; p=MIGfMA0GCSqGSIb3DQEBAQUAA4GNADCBiQKBgQDwIRP/UC3SBsEmGqZ9ZJW3/DkMoGeLnQg1fWn7/zYtIxN2SnFCjxOCKG9"
            "v3b4jYfcTNh5ijSsq631uBItLa7od+v/RtdC2UzJ1lWT947qR+Rcac2gbto/NMqJ0fzfVjH4OuKhitdY9tf6mcwGjaNBcWToIMmPSPDdQ"
            "PNUYckcQ2QIDAQAB",
        )
    ],
}


# Made for these tests: shorter than the libraries would make one.
WEAK_KEY = b"""\
-----BEGIN RSA PRIVATE KEY-----
MIIBywIBAAJhAKbXa0tgAqF+06tdeiGruQOXWDP0+1KtGKl+EbT6SKHx6WCDwdGJ
Hu413P6si5tbqaQwtmyHiFh6eXzz/6F9PahE6nEx5XRinnrELVQ+lCHuZpmrBFhj
Zn6YlFVVSqcjeQIDAQABAmBiXEvwMxk59ph5xfFT2naH7HjeoMZuVohcnGt6A7hA
aWtKMENa8fkfPPgd2MGxhNbJKtNx/yCWPf75nrL3tIB0L6OHysbR/9iL3757S7Z8
R77+YPZxue+cbZ1yLhI2BwECMQDdP+ku5PHecdMTB++AMc6g+pDB06JcWLifDHdF
UZieK84FliH20i5nYt+rYHWdASECMQDBC9gU6nruT+9wXwQq+MhivtA8tQko3RxU
otS8QTDdjsYmUb5CbHGerckSmAJW31kCMCCUz88DEgcy9eVgjslvDEGyhGy2sLsu
qYlqeYnwuSvZwY4bDMdfLkw1SEDhhJBpYQIxAKSmjnlgeNM0GHvWfr6MDJW0O/Xb
TuGsnVJOw3WBgMUn1jeutsD+r3XwsbQLNMuVmQIxAKmDFterCr8VKAmOXBKqgYVN
Gc/ei7f0+PYtLjBBCbVrtFXrNx+n9kGTcsa04t5xBA==
-----END RSA PRIVATE KEY-----
"""


def private_key(bits: int = 2048) -> RSAPrivateKey:
    """The same one each time."""
    return _private_key(bits)


@cache
def _private_key(bits: int) -> RSAPrivateKey:
    if bits == 768:
        weak = serialization.load_pem_private_key(WEAK_KEY, None)
        assert isinstance(weak, RSAPrivateKey)
        return weak
    return rsa.generate_private_key(public_exponent=65537, key_size=bits)


def key_record(key: RSAPrivateKey, tags: str = "v=DKIM1; k=rsa;") -> str:
    public = key.public_key().public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    return f"{tags} p={base64.b64encode(public).decode()}"


def pem(key: RSAPrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.TraditionalOpenSSL, serialization.NoEncryption()
    )


def letter(author: str = "alice@sender.test", body: bytes = b"Hello.\r\n", extra: bytes = b"") -> bytes:
    head = f"From: <{author}>\r\nTo: bob@example.test\r\nSubject: A letter\r\nMessage-ID: <1@sender.test>\r\n"
    return extra + head.encode() + b"Date: Sat, 21 Nov 2026 12:00:00 +0000\r\n\r\n" + body


def signed(data: bytes, domain: str = "sender.test", *, bits: int = 2048, **options: object) -> bytes:
    """With dkimpy's signature on top; its key is `private_key(bits)`, its selector "s"."""
    line = dkim.sign(data, b"s", domain.encode(), pem(private_key(bits)), **options)
    return bytes(line) + data


def zone_of(domain: str = "sender.test", *, bits: int = 2048, **records: str) -> Zone:
    """A domain with the key of `signed`, and more TXT records by the label in front of it ("_" stands for none)."""
    found = {f"s._domainkey.{domain}": [("TXT", key_record(private_key(bits)))]}
    for label, text in records.items():
        found[domain if label == "_" else f"{label}.{domain}"] = [("TXT", text)]
    return Zone(found)
