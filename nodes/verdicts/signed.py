"""What DKIM and ARC share (RFC 6376 3.4, 3.7, RFC 8463): a message's fields, their canonical form, hashes, keys.

dkimpy reads tags and knows which are legal. The loops over what a stranger sent are ours: dkimpy's patterns take
quadratic time on long runs of blanks, and its RSA and ASN.1 are Python where `cryptography` is at hand.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from functools import lru_cache
from typing import Any, Literal, NamedTuple

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ed25519, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import load_der_public_key
from dkim.util import InvalidTagValueList, parse_tag_value

from nodes.mime.header import fields, header_end

SMALLEST_RSA_BITS = 1024  # RFC 8301 3.2
LARGEST_RSA_BITS = 8192  # what verifying may cost
CHUNK_BYTES = 256 * 1024  # one pattern over more than that keeps every other thread waiting
MOST_SIGNATURE_BYTES = 16 * 1024  # of one signature field

Canonical = Literal["simple", "relaxed"]
Tags = dict[bytes, bytes]

_BLANKS = re.compile(rb"[ \t]+")
_LONG_BLANKS = re.compile(rb"[ \t]{2,}|\t")
_ALL_BLANKS = re.compile(rb"[ \t\r\n]+")


class Unacceptable(Exception):
    """A signature that does not count. `result` as RFC 8601 2.7.1 calls it."""

    def __init__(self, result: Literal["fail", "policy", "neutral", "temperror", "permerror"], reason: str) -> None:
        super().__init__(reason)
        self.result = result
        self.reason = reason


class Field(NamedTuple):
    """One header field as it came: `value` begins after the colon and ends with CRLF."""

    name: bytes  # in lower case
    spelled: bytes
    value: bytes


class Message:
    """A message's fields in order, and its body, whose hash is computed once for each way of asking."""

    def __init__(self, data: bytes) -> None:
        end = header_end(data, 0, len(data))
        self.fields = [
            Field(one.name, data[one.start : one.value - 1], data[one.value : one.end]) for one in fields(data, 0, end)
        ]
        self._data = data
        self._body_at = end
        self._body_hashes: dict[tuple[Canonical, int | None], bytes] = {}

    def named(self, name: bytes) -> list[Field]:
        """Every field of that name, the topmost first."""
        return [one for one in self.fields if one.name == name]

    def body_hash(self, canonical: Canonical, length: int | None = None) -> tuple[bytes, int]:
        """SHA-256 of the body's canonical form, of its first `length` octets, and how many octets that form has."""
        found = self._body_hashes.get((canonical, length))
        if found is None:
            found = self._body_hashes[canonical, length] = _hash_body(self._data, self._body_at, canonical, length)
        return found[:32], int.from_bytes(found[32:], "big")


def _hash_body(data: bytes, start: int, canonical: Canonical, length: int | None) -> bytes:
    hasher, size = hashlib.sha256(), 0

    def take(piece: bytes) -> None:
        nonlocal size
        left = len(piece) if length is None else max(0, length - size)
        hasher.update(piece[:left])
        size += len(piece)

    for piece in canonical_body(data, start, canonical):
        take(piece)
    return hasher.digest() + size.to_bytes(8, "big")


def canonical_body(data: bytes, start: int, canonical: Canonical) -> Iterator[bytes]:
    """RFC 6376 3.4.3, 3.4.4. Empty lines wait until something comes after them."""
    waiting = 0
    is_empty = True
    for piece in _pieces(data, start):
        if canonical == "relaxed":
            if b"  " in piece or b"\t" in piece:  # at memory speed, and most text has neither
                piece = _LONG_BLANKS.sub(b" ", piece)
            piece = piece.replace(b" \r\n", b"\r\n")
        end = _end_of_text(piece)
        if end:
            yield b"\r\n" * waiting
            yield piece[:end]
            waiting, is_empty = 0, False
        waiting += (len(piece) - end) // 2
    if canonical == "simple" or not is_empty:
        yield b"\r\n"


def _pieces(data: bytes, start: int) -> Iterator[bytes]:
    """The body in pieces of whole lines."""
    while start < len(data):
        end = start + CHUNK_BYTES
        if end < len(data):
            newline = data.rfind(b"\n", start, end)
            newline = newline if newline >= 0 else data.find(b"\n", end)
            end = newline + 1 if newline >= 0 else len(data)
        yield data[start:end]
        start = end


def _end_of_text(piece: bytes) -> int:
    """Where the line ends at its end begin; a CR or LF of its own is text."""
    end = len(piece)
    while piece.endswith(b"\r\n", 0, end):
        end -= 2
    return end


def canonical_field(name: bytes, value: bytes, canonical: Canonical) -> bytes:
    """RFC 6376 3.4.1, 3.4.2."""
    if canonical == "simple":
        return name + b":" + value
    unfolded = value.replace(b"\r\n", b"").replace(b"\n", b"")
    if b"  " in unfolded or b"\t" in unfolded:  # most fields have neither
        unfolded = _BLANKS.sub(b" ", unfolded)
    return name.strip().lower() + b":" + unfolded.strip(b" \t\r") + b"\r\n"


def select(message: Message, names: Iterable[bytes]) -> list[Field]:
    """The fields that `names` stands for, each occurrence of a name taking the next from the bottom (5.4.2)."""
    left: defaultdict[bytes, list[Field]] = defaultdict(list)
    for one in message.fields:
        left[one.name].append(one)
    return [left[name].pop() for name in names if left.get(name)]


def without_signature(value: bytes) -> bytes:
    """The field's value with that of its b= deleted (RFC 6376 3.7)."""
    parts = value.split(b";")
    for at, part in enumerate(parts):
        name, equals, _ = part.partition(b"=")
        if equals and name.strip() == b"b":
            parts[at] = name.rstrip() + equals
    return b";".join(parts)


def header_hash(chosen: Iterable[Field], own: Field, canonical: Canonical) -> bytes:
    """SHA-256 over the fields and the signature's own one, which goes last and without its end."""
    hasher = hashlib.sha256()
    for one in chosen:
        hasher.update(canonical_field(one.spelled, one.value, canonical))
    last = canonical_field(own.spelled, without_signature(own.value), canonical)
    hasher.update(last.removesuffix(b"\r\n"))
    return hasher.digest()


def tags_of(value: bytes) -> Tags:
    """The tags of a signature field, unfolded, those in base64 without blanks. Raises Unacceptable."""
    if len(value) > MOST_SIGNATURE_BYTES:
        raise Unacceptable("permerror", "signature field too long")
    try:
        tags: Tags = parse_tag_value(_ALL_BLANKS.sub(b" ", value))
    except InvalidTagValueList:
        raise Unacceptable("permerror", "not a list of tags") from None
    for name in (b"b", b"bh"):
        if name in tags:
            tags[name] = tags[name].replace(b" ", b"")
    return tags


def names_of(tags: Tags) -> list[bytes]:
    """The field names of h=, in lower case."""
    return [name.strip().lower() for name in tags.get(b"h", b"").split(b":")]


def key_name(tags: Tags) -> str:
    """Where a signature's key stands in the DNS (RFC 6376 3.6.2.1). Raises Unacceptable."""
    try:
        return f"{tags[b's'].decode('ascii')}._domainkey.{tags[b'd'].decode('ascii')}".lower()
    except (KeyError, UnicodeDecodeError):
        raise Unacceptable("permerror", "no selector or domain in ASCII") from None


class Key(NamedTuple):
    """A public key out of the DNS (RFC 6376 3.6.1)."""

    public: rsa.RSAPublicKey | ed25519.Ed25519PublicKey
    bits: int
    is_testing: bool
    is_strict: bool  # t=s: i= must be of the domain itself


@lru_cache(1024)
def parse_key(record: bytes) -> Key:
    """Raises Unacceptable."""
    tags = _key_tags(record)
    if tags.get(b"v", b"DKIM1") != b"DKIM1":
        raise Unacceptable("permerror", "the key is of another version")
    hashes, services, flags = (_listed(tags, name) for name in (b"h", b"s", b"t"))
    if hashes and b"sha256" not in hashes:
        raise Unacceptable("permerror", "the key is not for sha256")
    if services and not {b"*", b"email"} & services:
        raise Unacceptable("permerror", "the key is not for mail")
    encoded = tags.get(b"p")
    if not encoded:
        raise Unacceptable("permerror", "the key is revoked" if encoded == b"" else "the record has no key")
    public = _public_key(tags.get(b"k", b"rsa"), encoded)
    bits = public.key_size if isinstance(public, rsa.RSAPublicKey) else 256
    return Key(public, bits, b"y" in flags, b"s" in flags)


def _key_tags(record: bytes) -> Tags:
    try:
        found: Tags = parse_tag_value(record)
    except InvalidTagValueList:
        raise Unacceptable("permerror", "the key is not a list of tags") from None
    return found


def _listed(tags: Tags, name: bytes) -> set[bytes]:
    return {one.strip() for one in tags[name].split(b":")} if name in tags else set()


def _public_key(kind: bytes, encoded: bytes) -> rsa.RSAPublicKey | ed25519.Ed25519PublicKey:
    try:
        raw = base64.b64decode(_ALL_BLANKS.sub(b"", encoded), validate=True)
        if kind == b"ed25519":
            return ed25519.Ed25519PublicKey.from_public_bytes(raw)
        found = load_der_public_key(raw) if kind == b"rsa" else None
    except (ValueError, TypeError, UnsupportedAlgorithm, binascii.Error):
        raise Unacceptable("permerror", "the key can not be read") from None
    if not isinstance(found, rsa.RSAPublicKey):
        raise Unacceptable("permerror", "the key is of an unknown kind")
    return found


def check_signature(key: Key, algorithm: bytes, signature: bytes, digest: bytes) -> None:
    """Raises Unacceptable where `signature` is not that key's over `digest`."""
    wanted = rsa.RSAPublicKey if algorithm == b"rsa-sha256" else ed25519.Ed25519PublicKey
    if not isinstance(key.public, wanted):
        raise Unacceptable("permerror", "the key is of another kind than the signature")
    if isinstance(key.public, rsa.RSAPublicKey) and not SMALLEST_RSA_BITS <= key.bits <= LARGEST_RSA_BITS:
        raise Unacceptable("policy", f"a key of {key.bits} bits")
    try:
        raw = base64.b64decode(signature, validate=True)
        if isinstance(key.public, rsa.RSAPublicKey):
            key.public.verify(raw, digest, padding.PKCS1v15(), Prehashed(SHA256()))
        else:
            key.public.verify(raw, digest)
    except (InvalidSignature, binascii.Error):
        raise Unacceptable("fail", "the signature is wrong") from None


def validated(validate: Callable[..., Any], *arguments: Any) -> None:
    """Calls one of dkimpy's checks of what tags may hold. Raises Unacceptable."""
    try:
        validate(*arguments)
    except Exception as error:  # dkimpy's own errors, and what malformed tags make it stumble over
        raise Unacceptable("permerror", str(error)[:100]) from None
